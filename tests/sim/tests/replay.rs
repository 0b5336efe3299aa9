//! A check that fails says how to repeat it with the seed that it failed with.

use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use kad_sim::{SEED_VARIABLE, check};

/// In the environment of a child that has to fail.
const PLANTED: &str = "KAD_SIM_PLANTED";

/// Passes, unless a fault is planted: then its third seed fails.
#[test]
fn planted() {
    let planted = env::var_os(PLANTED).is_some();
    check(1..=5, |seed| assert!(!planted || seed != 3, "the planted fault"));
}

/// Runs the test above in a process of its own: whether it passed, and what it printed.
fn child(seed: Option<&str>) -> (bool, String) {
    let mut command = Command::new(env::current_exe().expect("a test knows where it is"));
    command
        .args(["--exact", "planted", "--nocapture"])
        .env(PLANTED, "1")
        .env_remove(SEED_VARIABLE);
    command.env("CARGO_PKG_NAME", "kad-sim");
    if let Some(seed) = seed {
        command.env(SEED_VARIABLE, seed);
    }
    let output = command.output().expect("it can be started");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn a_failing_check_prints_the_command_that_repeats_it() {
    let (passed, text) = child(None);
    assert!(!passed && text.contains("the planted fault"), "{text}");
    assert!(
        text.contains("replay: KAD_SIM_SEED=3 cargo test -p kad-sim planted"),
        "{text}"
    );
}

#[test]
fn with_a_seed_in_the_environment_only_that_one_is_run() {
    assert!(!child(Some("3")).0 && child(Some("4")).0);
}

#[test]
fn every_seed_is_run() {
    if env::var_os(SEED_VARIABLE).is_some() {
        return; // Then it is one.
    }
    let sum = AtomicU64::new(0);
    check(1..=5, |seed| {
        sum.fetch_add(seed, Ordering::Relaxed);
    });
    assert_eq!(sum.into_inner(), 15);
}
