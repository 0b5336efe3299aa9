//! `docs/simulation.md` says what the code does.

use std::fs;
use std::path::{Path, PathBuf};

use kad_sim::Scenario;

fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(checkout(path)).expect(path)
}

/// The blocks of code with this mark.
fn blocks(text: &str, mark: &str) -> Vec<String> {
    let begin = format!("\n```{mark}\n");
    let after = text.split(&begin).skip(1);
    after
        .filter_map(|rest| Some(rest.split_once("\n```")?.0.to_owned()))
        .collect()
}

#[test]
fn the_example_is_the_one_that_the_library_proves() {
    let library = read("tests/sim/src/lib.rs");
    let lines = library.lines().filter_map(|line| line.strip_prefix("//!"));
    let text: Vec<_> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    let proven = text.join("\n");
    let (_, rest) = proven.split_once("\n```\n").expect("the library has an example");
    let (example, _) = rest.split_once("\n```").expect("it ends");
    assert_eq!(blocks(&read("docs/simulation.md"), "rust"), [example.to_owned()]);
    let lines = example.lines().count();
    assert!(lines <= 42, "about thirty lines were promised, not {lines}");
}

#[test]
fn the_scenario_with_every_field_is_one_and_has_every_field() {
    let document = read("docs/simulation.md");
    let [scenario] = blocks(&document, "toml").try_into().expect("one block of TOML");
    Scenario::parse(Path::new("docs/simulation.md"), &scenario).expect("it can be used");
    // Fields that exclude those of the example stand in its comments.
    let source = read("tests/sim/src/scenario/file.rs");
    let mut fields = 0;
    for line in source.lines() {
        let line = line.trim_start_matches("    ").trim_start_matches("pub(super) ");
        let Some((field, _)) = line.split_once(": ") else {
            continue;
        };
        if field.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
            let told = [
                format!("{field} = "),
                format!("[{field}]"),
                format!(".{field}]"),
                format!("[[{field}]]"),
            ];
            assert!(
                told.iter().any(|told| scenario.contains(told)),
                "{field} is missing"
            );
            fields += 1;
        }
    }
    assert!(fields > 50, "the fields could not be read");
}

#[test]
fn every_knob_of_the_core_can_be_turned_in_a_scenario() {
    /// Who only asks makes no network, who stores nothing makes one that holds nothing; ids of a simulation are not
    /// ground; limits are all there or all not.
    const OTHERS: [&str; 7] = [
        "read_only",
        "stores",
        "puzzle_bits",
        "narrow_per_bucket",
        "narrow_per_table",
        "wide_per_bucket",
        "wide_per_table",
    ];
    let [scenario] = blocks(&read("docs/simulation.md"), "toml")
        .try_into()
        .expect("one block of TOML");
    let config = format!("{:#?}", kad_core::Config::default());
    let knobs = config
        .lines()
        .filter_map(|line| Some(line.trim().split_once(": ")?.0));
    for knob in knobs.filter(|knob| !OTHERS.contains(knob)) {
        let is_told =
            |line: &str| line.starts_with(&format!("{knob} = ")) || line == format!("[config.{knob}]");
        assert!(
            scenario.lines().any(is_told),
            "scenarios lack the knob {knob}: add it to scenario/file.rs, scenario/reading.rs and docs/simulation.md"
        );
    }
}

#[test]
fn every_scenario_that_comes_with_it_can_be_used_and_says_what_it_is() {
    let mut found = 0;
    for entry in fs::read_dir(checkout("tests/sim/scenarios")).expect("they are there") {
        let path = entry.expect("they can be listed").path();
        let scenario = Scenario::read(&path).expect("it can be used");
        assert!(scenario.title().len() > 20, "{}", path.display());
        found += 1;
    }
    assert!(found >= 3, "three were promised");
}
