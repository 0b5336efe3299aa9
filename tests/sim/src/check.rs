//! Checks of one's own for several seeds, which say how to repeat what failed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::{env, thread};

/// The environment variable that names the one seed to run.
pub const SEED_VARIABLE: &str = "KAD_SIM_SEED";

/// Runs a check once for each seed. If one panics, the command that repeats this seed alone is printed, and the panic
/// goes on. With `KAD_SIM_SEED` in the environment only that seed is run.
///
/// ```
/// kad_sim::check(1..=3, |seed| {
///     let mut dice = kad_sim::Dice::new(seed);
///     assert!(dice.below(6) < 6);
/// });
/// ```
///
/// # Panics
/// If the check does, or if `KAD_SIM_SEED` is no number.
pub fn check(seeds: impl IntoIterator<Item = u64>, check: impl Fn(u64)) {
    let run = |seed| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(seed))) {
            // The test harness calls a test's thread by the name of the test.
            let test = thread::current().name().unwrap_or_default().to_owned();
            eprintln!("replay: {}", replay(&test, seed));
            resume_unwind(panic);
        }
    };
    match env::var(SEED_VARIABLE) {
        Ok(seed) => run(seed
            .parse()
            .expect("KAD_SIM_SEED is a whole number, as a failing check prints it")),
        Err(_) => seeds.into_iter().for_each(run),
    }
}

/// The command that repeats a test with one seed.
fn replay(test: &str, seed: u64) -> String {
    let package = env::var("CARGO_PKG_NAME").map_or_else(|_| String::new(), |name| format!(" -p {name}"));
    match test {
        "" | "main" => format!("{SEED_VARIABLE}={seed} cargo test{package}"),
        test => format!("{SEED_VARIABLE}={seed} cargo test{package} {test}"),
    }
}
