//! Kept results, and the document that shows them.

use std::fs;

use crate::process::{EXPERIMENT, NODES, run_in};

const DOCUMENT: &str =
    "before\n<!-- figures: 'kad-sim docs' writes from here -->\nold\n<!-- figures: to here -->\nafter\n";

#[test]
fn kept_figures_are_shown_in_the_document_until_they_change() {
    let folder = tempfile::tempdir().expect("a folder for files");
    let document = folder.path().join("simulation.md");
    fs::write(&document, DOCUMENT).expect("it can be written");
    fs::create_dir(folder.path().join("kept")).expect("it can be made");
    let save = [
        "run",
        EXPERIMENT,
        "--nodes",
        NODES,
        "--save",
        "--results",
        "kept",
        "--json",
    ];
    let object = run_in(folder.path(), &save).done().json();
    let kept = folder.path().join(format!("kept/{EXPERIMENT}-{NODES}.json"));
    let saved: serde_json::Value =
        serde_json::from_slice(&fs::read(&kept).expect("it was kept")).expect("it is JSON");
    assert_eq!(saved["trace_hash"], object["trace_hash"]);

    let docs = |flags: &[&str]| {
        let docs = ["docs", "--results", "kept", "--document", "simulation.md"];
        run_in(folder.path(), &[&docs[..], flags].concat())
    };
    let late = docs(&["--check"]);
    assert_eq!(late.code(), 1, "{late:?}");
    assert!(late.err().contains("run 'kad-sim docs'"), "{late:?}");
    assert_eq!(
        fs::read_to_string(&document).expect("it is there"),
        DOCUMENT,
        "a check writes nothing"
    );

    docs(&[]).done();
    let text = fs::read_to_string(&document).expect("it is there");
    assert!(
        text.starts_with("before\n<!--") && text.ends_with("-->\nafter\n") && !text.contains("old"),
        "{text}"
    );
    let metric = object["rows"][0]["metric"].as_str().expect("a name");
    for words in [
        metric,
        EXPERIMENT,
        "| metric | reference | target | result | met |",
        "200",
    ] {
        assert!(text.contains(words), "{words} is missing:\n{text}");
    }
    docs(&["--check"]).done();
    docs(&[]).done();
    assert_eq!(
        fs::read_to_string(&document).expect("it is there"),
        text,
        "the same figures, the same text"
    );

    let other = fs::read_to_string(&kept)
        .expect("it was kept")
        .replace(metric, "another metric");
    fs::write(&kept, other).expect("it can be written");
    assert_eq!(docs(&["--check"]).code(), 1);
}

#[test]
fn documents_and_results_that_cannot_be_used_are_refused() {
    let folder = tempfile::tempdir().expect("a folder for files");
    let docs = || {
        run_in(
            folder.path(),
            &["docs", "--results", "kept", "--document", "d.md"],
        )
    };
    let refused = |words: &str| {
        let outcome = docs();
        assert_eq!(outcome.code(), 2, "{outcome:?}");
        assert!(outcome.err().contains(words), "{outcome:?}");
    };
    refused("kept");
    fs::create_dir(folder.path().join("kept")).expect("it can be made");
    refused("d.md");
    fs::write(folder.path().join("d.md"), "no marks\n").expect("it can be written");
    refused("it has no '<!-- figures");
    fs::write(folder.path().join("d.md"), DOCUMENT).expect("it can be written");
    docs().done();
    fs::write(folder.path().join("kept/x.json"), "{}").expect("it can be written");
    refused("x.json");
}
