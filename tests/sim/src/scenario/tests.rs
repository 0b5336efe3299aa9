//! What scenario files may say, and how mistakes in them are told.

use super::*;
use crate::experiments::Unwatched;

fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse(Path::new("folder/some.toml"), text)
}

/// A whole scenario but for what the text adds to it.
fn with(text: &str) -> Result<Scenario, ScenarioError> {
    parse(&format!(
        "{text}\n[network]\nnodes = 40\n[load]\nlookups = 0.01\nduration = \"1m\"\n"
    ))
}

fn run(scenario: &Scenario, seed: u64) -> Report {
    scenario.run(&Setup {
        nodes: scenario.nodes(),
        seed,
        progress: &Unwatched,
    })
}

fn figure(report: &Report, metric: &str) -> f64 {
    let row = report.rows.iter().find(|row| row.metric == metric);
    row.unwrap_or_else(|| panic!("no {metric} in {:?}", report.rows))
        .result
}

#[test]
fn a_network_without_trouble_answers_everything() {
    let scenario = parse(
        "[network]\nnodes = 60\n[links]\ndelay = { even = { shortest = \"1ms\", longest = \"5ms\" } }\n\
         [load]\nvalues = 5\nlookups = 0.02\nputs = 0.01\ngets = 0.02\nduration = \"5m\"\n",
    )
    .expect("it is a scenario");
    assert_eq!((scenario.name(), scenario.title()), ("some", "some"));
    let report = run(&scenario, 3);
    for metric in [
        "lookups, succeeded",
        "lookups, exactly the k closest",
        "puts, succeeded",
        "gets, succeeded",
    ] {
        assert_eq!(figure(&report, metric), 100.0, "{metric}");
    }
    assert!(figure(&report, "tables, of the k closest") > 98.0);
    assert_eq!(figure(&report, "tables, dead"), 0.0);
    assert_eq!(figure(&report, "nodes up, mean"), 60.0);
    let asked = figure(&report, "lookups, ended");
    // 60 nodes for 300 s at 0.02 a second: 360, give or take five standard deviations.
    assert!((265.0..455.0).contains(&asked), "{asked}");
    assert!(figure(&report, "traffic, QUIC") > figure(&report, "traffic, frames"));
    assert_eq!(report.charts.len(), 2);
}

#[test]
fn the_same_seed_gives_the_same_hash_and_another_seed_another() {
    let scenario =
        with("[sessions]\nup = { exponential = { mean = \"2m\" } }\ndown = { fixed = { span = \"10s\" } }");
    let scenario = scenario.expect("it is a scenario");
    let first = run(&scenario, 1);
    assert_eq!(first, run(&scenario, 1));
    assert_ne!(first.trace, run(&scenario, 2).trace);
}

#[test]
fn a_cut_network_answers_less_than_a_whole_one() {
    let cut = "[partition]\nat = \"0\"\nlasts = \"1h\"\nshare = 0.5";
    let whole = run(&with("").expect("it is a scenario"), 5);
    let halves = run(&with(cut).expect("it is a scenario"), 5);
    let exact = "lookups, exactly the k closest";
    assert!(figure(&halves, exact) < figure(&whole, exact), "{halves:?}");
}

#[test]
fn nobody_is_asked_while_nobody_is_up() {
    // Two nodes that are mostly down: no panic, whatever happens.
    let text = "[network]\nnodes = 2\n[sessions]\nup = { fixed = { span = \"5s\" } }\ndown = { fixed = { span = \
                \"60s\" } }\n[load]\nlookups = 1\nputs = 1\ngets = 1\nduration = \"10m\"\n";
    let report = run(&parse(text).expect("it is a scenario"), 1);
    assert!(figure(&report, "nodes up, mean") < 1.0);
}

#[test]
fn flooding_adversaries_knock() {
    let flood = "[[adversaries]]\nkind = \"flooding\"\ncount = 20\nsites = 2\nvictims = 3\nrate = 5\n\
                 [[adversaries]]\nkind = \"lying\"\nshare = 0.1";
    let report = run(&with(flood).expect("it is a scenario"), 1);
    let quiet = run(&with("").expect("it is a scenario"), 1);
    let requests = "traffic, requests";
    assert!(
        figure(&report, requests) > figure(&quiet, requests) + 0.1,
        "{report:?}"
    );
}

#[test]
fn a_session_trace_lies_beside_the_scenario() {
    let folder = tempfile::tempdir().expect("a folder for files");
    let (file, trace) = (folder.path().join("s.toml"), folder.path().join("up.txt"));
    let text = "[sessions]\ntrace = \"up.txt\"\n[load]\nlookups = 0.1\nduration = \"1m\"\n";
    let missing = Scenario::parse(&file, text).expect_err("there is no trace");
    assert_eq!(
        (missing.line, missing.field.as_deref()),
        (Some(2), Some("sessions.trace"))
    );
    fs::write(&trace, "0 0 30\n1 0 1000\n2 0 1000\n3 45 1000\n4 x 5\n").expect("it can be written");
    let wrong = Scenario::parse(&file, text)
        .expect_err("line 5 of the trace is wrong")
        .to_string();
    assert!(wrong.contains("up.txt") && wrong.contains("line 5"), "{wrong}");
    fs::write(&trace, "0 0 30\n1 0 1000\n2 0 1000\n3 45 1000\n").expect("it can be written");
    let scenario = Scenario::parse(&file, text).expect("it is one");
    assert_eq!(scenario.nodes(), 4);
    let up = figure(&run(&scenario, 1), "nodes up, mean");
    // Three for half a minute, two for a quarter, three again.
    assert!((2.6..2.9).contains(&up), "{up}");
}

#[test]
fn mistakes_are_told_with_file_line_and_field() {
    for (text, line, field, words) in [
        ("[links]\nlost = 0.1", 2, "links.lost", "unknown field"),
        ("[links]\nloss = 1.5", 2, "links.loss", "from 0 to 0.9"),
        ("[links]\nloss = \"much\"", 2, "links.loss", "string"),
        (
            "[links]\ndelay = { even = { shortest = \"1ms\" } }",
            2,
            "links.delay",
            "longest",
        ),
        ("[links]\ndelay = { far = 1 }", 2, "links.delay", "internet"),
        ("[config]\nk = 33", 2, "config.k", "from 1 to 32"),
        (
            "[config.table]\nwide = [40, 0]",
            2,
            "config.table.wide",
            "from 1 to 1024",
        ),
        ("[config]\nrefresh = \"soon\"", 2, "config.refresh", "10m"),
        ("[config]\nrefresh = 5", 2, "config.refresh", "string"),
        (
            "[sessions]\nlike = \"ipfs\"\ntrace = \"x\"",
            1,
            "sessions",
            "one of three ways",
        ),
        ("[sessions]\nlike = \"bittorrent\"", 2, "sessions.like", "ipfs"),
        (
            "[[adversaries]]\nkind = \"rude\"",
            2,
            "adversaries.kind",
            "silent",
        ),
        ("[[adversaries]]\nkind = \"silent\"", 1, "adversaries", "share"),
        (
            "[[adversaries]]\nkind = \"silent\"\nshare = 0.1\nnear = \"first-value\"",
            1,
            "adversaries",
            "count",
        ),
        (
            "[[adversaries]]\nkind = \"silent\"\ncount = 5\nnear = \"here\"",
            4,
            "adversaries.near",
            "64",
        ),
        (
            "[[adversaries]]\nkind = \"silent\"\ncount = 5\nnear = \"first-value\"",
            1,
            "adversaries",
            "values",
        ),
        (
            "[[adversaries]]\nkind = \"silent\"\nshare = 0.1\nrate = 5",
            1,
            "adversaries",
            "flooding",
        ),
        (
            "[[adversaries]]\nkind = \"lying\"\nshare = 0.9\n[[adversaries]]\nkind = \"lying\"\nshare = 0.9",
            1,
            "adversaries",
            "sum",
        ),
        ("titel = \"x\"", 1, "titel", "unknown field"),
    ] {
        let error = with(text).expect_err(text);
        assert_eq!(
            (error.line, error.field.as_deref()),
            (Some(line), Some(field)),
            "{error}"
        );
        let told = error.to_string();
        assert!(
            told.contains("folder/some.toml") && told.contains(words),
            "{told}"
        );
        assert!(!told.contains('\n'), "{told}");
    }
    for (text, words) in [
        ("[network]\nnodes = 5", "load"),
        ("[load]\nduration = \"1m\"", "network.nodes is missing"),
        ("[network]\nnodes = 1\n[load]\nduration = \"1m\"", "from 2 to"),
        ("[network]\nnodes = 5\n[load]\nduration = \"0\"", "a second"),
        (
            "[network]\nnodes = 5\n[load]\nduration = \"1m\"\ngets = 1",
            "something to read",
        ),
        ("[network\n", "line 1"),
        ("", "load"),
    ] {
        let told = parse(text).expect_err(text).to_string();
        assert!(told.contains(words) && !told.contains('\n'), "{told}");
    }
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let told = Scenario::read(Path::new("nowhere/x.toml"))
        .expect_err("it is not there")
        .to_string();
    assert!(
        told.contains("nowhere/x.toml") && told.contains("cannot be read"),
        "{told}"
    );
}

#[test]
fn more_takes_more_memory() {
    let memory = |text: &str, nodes| with(text).expect("it is a scenario").memory(nodes);
    let plain = memory("", 1000);
    assert!(plain > 1_000_000 && plain < 100_000_000, "{plain}");
    assert!(memory("", 2000) > 2 * plain - 1000);
    assert!(memory("[config.table]\nwide = [1000]", 1000) > plain + 60_000_000);
    assert!(memory("[links]\nconnections = 1000", 1000) > plain + 15_000_000);
}
