//! A target that was met once must not be lost unnoticed.

use std::fs;

use serde_json::Value;

use crate::process::{EXPERIMENT, NODES, run_in};

/// The name and the result of a row of the experiment.
fn figure() -> (String, f64) {
    let folder = tempfile::tempdir().expect("a folder for files");
    let object = run_in(folder.path(), &["run", EXPERIMENT, "--nodes", NODES, "--json"])
        .done()
        .json();
    let measured = |row: &&Value| row["result"].is_f64();
    let rows = object["rows"].as_array().expect("a list");
    let row = rows.iter().find(measured).expect("something was measured");
    let metric = row["metric"].as_str().expect("a name").to_owned();
    (metric, row["result"].as_f64().expect("a number"))
}

#[test]
fn a_planted_loss_is_found_and_named_and_can_be_replayed() {
    let (metric, result) = figure();
    let folder = tempfile::tempdir().expect("a folder for files");
    let met = folder.path().join("met.toml");
    let line = |bound: f64, nodes: &str, seed: u64| {
        format!(
            "[{EXPERIMENT}.{nodes}]\n{metric:?} = {{ at_least = {bound:?}, seed = {seed}, seeds = 1, result = 9.5 }}\n"
        )
    };
    let run = |json: &[&str]| {
        let run = ["run", EXPERIMENT, "--nodes", NODES, "--met", "met.toml"];
        run_in(folder.path(), &[&run[..], json].concat())
    };

    fs::write(&met, line(result, NODES, 1)).expect("it can be written");
    let held = run(&[]).done().out();
    assert!(held.contains("1 of 1 targets that were once met"), "{held}");

    fs::write(&met, line(result + 1.0, NODES, 1)).expect("it can be written");
    let lost = run(&[]);
    assert_eq!(lost.code(), 1, "{lost:?}");
    let sentence = lost.err();
    let replay = format!("replay: kad-sim run {EXPERIMENT} --nodes {NODES} --seed 1");
    for words in [EXPERIMENT, &metric, "lost a target", "it was 9.5", &replay] {
        assert!(sentence.contains(words), "{words} is missing: {sentence}");
    }
    let json = run(&["--json"]);
    assert_eq!(json.code(), 1);
    assert!(
        json.json()["lost"][0]
            .as_str()
            .is_some_and(|lost| lost.contains(&metric)),
        "{json:?}"
    );

    // Other nodes and other seeds are not compared.
    for other in [line(result + 1.0, "201", 1), line(result + 1.0, NODES, 2)] {
        fs::write(&met, other).expect("it can be written");
        run(&[]).done();
    }
}

#[test]
fn targets_are_recorded_once_and_the_file_stays_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder for files");
    let met = folder.path().join("met.toml");
    let run = [
        "run", EXPERIMENT, "--nodes", NODES, "--seeds", "2", "--met", "met.toml", "--record", "--json",
    ];
    let object = run_in(folder.path(), &run).done().json();
    let rows = object["rows"].as_array().expect("a list").iter();
    let kept: Vec<_> = rows.filter(|row| row["met"] == true).collect();
    if kept.is_empty() {
        assert!(!met.exists(), "there was nothing to record");
        return;
    }
    let text = fs::read_to_string(&met).expect("it was written");
    for row in kept {
        assert!(text.contains(row["metric"].as_str().expect("a name")), "{text}");
    }
    assert!(text.contains("seed = 1, seeds = 2"), "{text}");
    run_in(folder.path(), &run).done();
    assert_eq!(fs::read_to_string(&met).expect("it is still there"), text);
}
