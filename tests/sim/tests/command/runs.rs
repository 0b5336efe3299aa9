//! Experiments and scenarios, and what is printed of them.

use std::fs;

use serde_json::Value;

use crate::process::{EXPERIMENT, NODES, checkout, kad_sim, run_in};

#[test]
fn the_list_names_every_experiment_for_people_and_programs() {
    let names = kad_sim(&["list", "--names"]).done().out();
    assert!(names.lines().any(|name| name == EXPERIMENT), "{names}");
    let table = kad_sim(&["list"]).done().out();
    let object = kad_sim(&["list", "--json"]).done().json();
    for (name, listed) in names
        .lines()
        .zip(object["experiments"].as_array().expect("a list"))
    {
        assert_eq!(listed["name"], name);
        assert!(
            table.contains(name) && listed["nodes"].is_u64() && listed["small"].is_u64(),
            "{listed}"
        );
    }
}

#[test]
fn the_last_line_is_an_object_with_everything() {
    let object = kad_sim(&["run", EXPERIMENT, "--nodes", NODES, "--seed", "7", "--json"])
        .done()
        .json();
    assert_eq!(
        (&object["experiment"], &object["seed"]),
        (&EXPERIMENT.into(), &7.into())
    );
    assert_eq!(
        (&object["nodes"], &object["seeds"]),
        (&NODES.parse().unwrap_or(0).into(), &1.into())
    );
    let hash = object["trace_hash"].as_str().expect("a string");
    assert!(
        hash.len() == 16 && u64::from_str_radix(hash, 16).is_ok(),
        "{hash}"
    );
    for number in ["wall_s", "peak_rss_mib", "events", "events_per_s"] {
        assert!(
            object[number].as_f64().is_some_and(|number| number > 0.0),
            "{number} in {object}"
        );
    }
    let rows = object["rows"].as_array().expect("a list");
    assert!(!rows.is_empty() && object["notes"].is_array());
    for row in rows {
        for field in ["metric", "unit", "reference", "target", "result", "met"] {
            assert!(row.get(field).is_some(), "{field} in {row}");
        }
        assert_eq!(row["met"].is_null(), row["target"].is_null(), "{row}");
    }
    assert!(object.get("per_seed").is_none(), "there is one seed");
}

#[test]
fn people_get_a_table_and_what_it_took() {
    let out = kad_sim(&["run", EXPERIMENT, "--nodes", NODES]).done().out();
    for words in [
        "metric",
        "reference",
        "target",
        "result",
        "met",
        "200 nodes, seed 1, trace ",
        "events/s",
        "at the peak",
    ] {
        assert!(out.contains(words), "{words} is missing:\n{out}");
    }
}

/// A scenario that is over at once.
const QUICK: &str = "[network]\nnodes = 30\nsettle = \"1m\"\n[load]\nlookups = 0.05\nduration = \"1m\"\n";

fn quick(arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder for files");
    fs::write(folder.path().join("quick.toml"), QUICK).expect("it can be written");
    let arguments = [&["run", "quick.toml", "--json"], arguments].concat();
    run_in(folder.path(), &arguments).done().json()
}

#[test]
fn the_same_seed_gives_the_same_hash_and_another_seed_another() {
    let [first, again, other] = ["5", "5", "6"].map(|seed| quick(&["--seed", seed]));
    assert_eq!(first["trace_hash"], again["trace_hash"]);
    assert_eq!(first["rows"], again["rows"]);
    assert_ne!(first["trace_hash"], other["trace_hash"]);
}

#[test]
fn nothing_depends_on_how_many_seeds_run_at_a_time() {
    let [one, three] =
        ["1", "3"].map(|threads| quick(&["--seeds", "5", "--seed", "2", "--threads", threads]));
    assert_eq!(one["trace_hash"], three["trace_hash"]);
    assert_eq!(one["rows"], three["rows"]);
    let seeds = three["per_seed"].as_array().expect("a list");
    assert_eq!(
        seeds.iter().map(|seed| seed["seed"].clone()).collect::<Vec<_>>(),
        [2, 3, 4, 5, 6]
    );
    assert_eq!(seeds[3]["trace_hash"], quick(&["--seed", "5"])["trace_hash"]);
    let mut mean = 0.0;
    for seed in seeds {
        mean += seed["results"][0]["result"].as_f64().expect("a number") / 5.0;
    }
    let row = &three["rows"][0];
    let number = |field: &str| row[field].as_f64().expect("a number");
    assert!((number("result") - mean).abs() < 1e-6, "{row}");
    assert!(number("low") <= number("result") && number("result") <= number("high"));
}

#[test]
fn the_scenarios_that_come_with_it_run() {
    for name in ["cut", "evening", "sybils"] {
        let file = checkout("tests/sim/scenarios").join(name).with_extension("toml");
        let file = file.to_str().expect("its path is text");
        let object = kad_sim(&["run", file, "--nodes", "120", "--json"]).done().json();
        assert_eq!(
            (&object["experiment"], &object["nodes"]),
            (&name.into(), &120.into())
        );
        let rows = object["rows"].as_array().expect("a list");
        let asked = rows
            .iter()
            .find(|row| row["metric"] == "lookups, ended")
            .expect("lookups are counted");
        assert!(
            asked["result"].as_f64().is_some_and(|ended| ended > 10.0),
            "{name}: {asked}"
        );
    }
}

#[test]
fn a_plot_shows_the_charts_of_the_first_seed() {
    let folder = tempfile::tempdir().expect("a folder for files");
    fs::write(folder.path().join("quick.toml"), QUICK).expect("it can be written");
    let run = [
        "run",
        "quick.toml",
        "--plot",
        "p.svg",
        "--seeds",
        "2",
        "--seed",
        "4",
    ];
    let out = run_in(folder.path(), &run).done().out();
    assert!(out.contains("plot: p.svg"), "{out}");
    let svg = fs::read_to_string(folder.path().join("p.svg")).expect("it was written");
    for words in [
        "<svg",
        "</svg>",
        "quick",
        "30 nodes, seed 4, the first of 2",
        "lookups",
    ] {
        assert!(svg.contains(words), "{words} is missing");
    }
    let files = fs::read_dir(folder.path()).expect("it can be listed").count();
    assert_eq!(files, 2, "only the scenario and the plot are there");
}
