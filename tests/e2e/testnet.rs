//! `testnet`, small: the whole story, its report, and what it leaves behind.

use std::io::{BufRead as _, BufReader};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{finish, kad_node, run};

#[test]
fn a_small_network_holds_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![7; 200_000]).unwrap();
    let mut command = kad_node();
    command.env("TMPDIR", temporary.path()).args([
        "testnet",
        "--nodes",
        "8",
        "--lookups",
        "40",
        "--values",
        "20",
    ]);
    command.args(["--seed", "5", "--json", "--file"]).arg(file.path());
    let report = finish(&mut command).json();

    assert_eq!(report["ok"], true, "{report}");
    assert_eq!((&report["nodes"], &report["killed"]), (&8.into(), &2.into()));
    for number in ["join_ms", "cpu_ms_per_rpc", "rss_mib_per_node", "connections"] {
        assert!(
            report[number].as_f64().is_some_and(|value| value > 0.0),
            "{number}: {report}"
        );
    }
    for lookups in ["lookups", "lookups_after_kill"] {
        for number in [
            "count",
            "concurrency",
            "per_second",
            "p50_ms",
            "p90_ms",
            "p99_ms",
            "rpcs_mean",
        ] {
            assert!(
                report[lookups][number].as_f64().is_some_and(|value| value > 0.0),
                "{lookups} {number}"
            );
        }
    }
    assert_eq!(report["lookups"]["exact_share"], 1.0);
    for values in ["values", "values_after_kill"] {
        let rates = [
            "puts_per_second",
            "gets_per_second",
            "put_p50_ms",
            "put_p99_ms",
            "get_p50_ms",
            "get_p99_ms",
        ];
        for number in rates {
            assert!(
                report[values][number].as_f64().is_some_and(|value| value > 0.0),
                "{values} {number}"
            );
        }
    }
    let file = &report["file"];
    assert_eq!(
        (&file["bytes"], &file["chunks"], &file["identical"]),
        (&200_000.into(), &4.into(), &true.into())
    );
    // Fewer nodes than k: all of them are holders, and two of them died.
    assert_eq!(
        (&file["copies_mean"], &file["copies_mean_after_kill"]),
        (&8.0.into(), &6.0.into())
    );
    assert_eq!(
        std::fs::read_dir(temporary.path()).unwrap().count(),
        0,
        "the directories of the nodes are left"
    );
}

#[test]
fn a_kept_network_can_be_used_by_others() {
    let mut command = kad_node();
    command.args([
        "testnet",
        "--nodes",
        "5",
        "--store",
        "memory",
        "--lookups",
        "5",
        "--values",
        "5",
        "--keep",
    ]);
    let mut child = command.spawn().unwrap();
    let _report = child.stdout.take();
    let mut invitation = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let get = invitation.find(|line| line.contains("kad-node get")).unwrap();
    let words: Vec<&str> = get.split_whitespace().collect();
    let after = |word: &str| words[words.iter().position(|&it| it == word).unwrap() + 1];
    let found = run(&[
        "get",
        after("get"),
        "--network",
        after("--network"),
        "--bootstrap",
        after("--bootstrap"),
    ]);
    assert_eq!(found.status.code(), Some(0), "{}", found.stderr);
    assert_eq!(
        found.stdout,
        std::fs::read(env!("CARGO_BIN_EXE_kad-node")).unwrap()
    );
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let unreadable = run(&["testnet", "--file", "/nowhere/at/all"]).failure(2);
    assert!(
        unreadable.contains("/nowhere/at/all cannot be read"),
        "{unreadable}"
    );
    for arguments in [["--kill", "0.95"], ["--nodes", "3"], ["--lookups", "0"]] {
        let refused = run(&[&["testnet"][..], &arguments].concat());
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(refused.stderr.contains(arguments[0]), "{}", refused.stderr);
    }
}
