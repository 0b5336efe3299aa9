//! Mistakes cost nothing and are told in one sentence that says what to do.

use std::fs;
use std::path::Path;

use crate::process::{EXPERIMENT, NODES, Outcome, kad_sim, run_in};

/// One sentence with these words, for people and in JSON.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], words: &[&str]) {
    let outcome = run_in(folder, arguments);
    is_refused(&outcome, words);
    let json = run_in(folder, &[arguments, &["--json"]].concat());
    assert_eq!(json.code(), 2, "{json:?}");
    let error = json.json()["error"].as_str().map(str::to_owned);
    let error = error.unwrap_or_else(|| panic!("{json:?}"));
    for word in words {
        assert!(error.contains(word), "{word} is missing: {error}");
    }
}

#[track_caller]
fn is_refused(outcome: &Outcome, words: &[&str]) {
    assert_eq!((outcome.code(), outcome.out()), (2, String::new()), "{outcome:?}");
    let err = outcome.err();
    assert!(err.starts_with("error: "), "{err}");
    for word in words {
        assert!(err.contains(word), "{word} is missing: {err}");
    }
}

#[test]
fn an_unknown_experiment_is_answered_with_those_that_there_are() {
    let folder = tempfile::tempdir().expect("a folder for files");
    refused(
        folder.path(),
        &["run", "hop-low"],
        &["no experiment 'hop-low'", EXPERIMENT, ".toml"],
    );
}

#[test]
fn numbers_of_nodes_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().expect("a folder for files");
    let run = |nodes| ["run", EXPERIMENT, "--nodes", nodes];
    refused(folder.path(), &run("0"), &["too few", "200", "--nodes"]);
    refused(folder.path(), &run("199"), &["too few", "200", "--nodes"]);
    refused(folder.path(), &run("16777216"), &["too many", "16,000,000"]);
    refused(folder.path(), &run("18446744073709551615"), &["too many"]);
    refused(folder.path(), &run("-1"), &["-1"]);
    refused(folder.path(), &run("many"), &["many", "--nodes"]);
    refused(
        folder.path(),
        &["run", EXPERIMENT, "--small", "--nodes", "300"],
        &["--nodes", "--small"],
    );
}

#[test]
fn what_this_machine_cannot_hold_is_refused_with_both_figures() {
    // Sixteen million nodes with k = 20 take half a terabyte.
    let outcome = kad_sim(&["run", EXPERIMENT, "--nodes", "16000000"]);
    is_refused(
        &outcome,
        &["a run needs about", "GiB of memory", "available", "--nodes"],
    );
}

#[test]
fn seeds_and_threads_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().expect("a folder for files");
    let run = |flag, value| ["run", EXPERIMENT, "--nodes", NODES, flag, value];
    refused(folder.path(), &run("--seeds", "0"), &["--seeds"]);
    refused(folder.path(), &run("--threads", "0"), &["--threads"]);
    refused(folder.path(), &run("--seed", "x"), &["--seed"]);
    let last = [
        "run",
        EXPERIMENT,
        "--nodes",
        NODES,
        "--seed",
        "18446744073709551615",
        "--seeds",
        "2",
    ];
    refused(folder.path(), &last, &["no 2 seeds"]);
}

#[test]
fn an_unwritable_plot_is_refused_before_the_run_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder for files");
    fs::create_dir(folder.path().join("folder")).expect("it can be made");
    for plot in ["no/such/folder/plot.svg", "folder", "/dev/null", "/proc/plot.svg"] {
        // A million nodes: it would take minutes if it were not refused at once.
        let run = ["run", EXPERIMENT, "--nodes", "200000", "--plot", plot];
        refused(folder.path(), &run, &[plot, "cannot be written", "--plot"]);
    }
    let left: Vec<_> = fs::read_dir(folder.path()).expect("it can be listed").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn scenario_files_that_cannot_be_used_are_told_with_file_line_and_field() {
    let folder = tempfile::tempdir().expect("a folder for files");
    let load = "[load]\nlookups = 0.01\nduration = \"1m\"\n";
    for (text, words) in [
        (
            format!("[network]\nnodes = 30\nsize = 4\n{load}"),
            ["line 3", "network.size", "unknown field"],
        ),
        (
            format!("[network]\nnodes = 30\n[links]\nloss = 7\n{load}"),
            ["line 4", "links.loss", "0 to 0.9"],
        ),
        (
            format!("[network]\nnodes = \"many\"\n{load}"),
            ["line 2", "network.nodes", "string"],
        ),
        (
            "[network]\nnodes = 30\n".to_owned(),
            ["missing", "load", "s.toml"],
        ),
        (
            format!("[network]\nnodes = 0\n{load}"),
            ["line 2", "network.nodes", "from 2"],
        ),
    ] {
        fs::write(folder.path().join("s.toml"), text).expect("it can be written");
        refused(
            folder.path(),
            &["run", "s.toml"],
            &[&words[..], &["s.toml"]].concat(),
        );
    }
    refused(
        folder.path(),
        &["run", "gone.toml"],
        &["gone.toml", "cannot be read"],
    );
    fs::write(
        folder.path().join("s.toml"),
        format!("[network]\nnodes = 30\n{load}"),
    )
    .expect("it can be written");
    refused(folder.path(), &["run", "s.toml", "--save"], &["--save"]);
    refused(
        folder.path(),
        &["run", "s.toml", "--nodes", "1"],
        &["too few", "--nodes"],
    );
    fs::write(folder.path().join("s.toml"), [0xff, 0xfe]).expect("it can be written");
    refused(folder.path(), &["run", "s.toml"], &["s.toml", "cannot be used"]);
}

#[test]
fn a_file_of_met_targets_that_cannot_be_read_is_refused() {
    let folder = tempfile::tempdir().expect("a folder for files");
    fs::write(folder.path().join("met.toml"), "[hop-law.200]\nx = 1\n").expect("it can be written");
    let run = |met| ["run", EXPERIMENT, "--nodes", NODES, "--met", met];
    refused(folder.path(), &run("met.toml"), &["met.toml", "line 2"]);
    refused(folder.path(), &run("gone.toml"), &["gone.toml", "--record"]);
}

#[test]
fn a_command_that_there_is_not_is_refused() {
    let folder = tempfile::tempdir().expect("a folder for files");
    refused(folder.path(), &["simulate"], &["simulate"]);
    refused(folder.path(), &["run"], &["EXPERIMENT"]);
}
