//! The end of a daemon, and its return.

use std::net::UdpSocket;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::process::{Daemon, kad_node, outcome, run, run_with_input};

#[test]
fn a_daemon_that_was_told_to_stop_returns_with_identity_records_and_contacts() {
    let dir = tempfile::tempdir().unwrap();
    let mut neighbour = Daemon::start::<&str>(&[]);
    let mut daemon = Daemon::with_data(dir.path(), Some(&neighbour));
    daemon.logs("joined the network");
    neighbour.knows(&daemon.id);
    let id = daemon.id.clone();
    let put = [
        "put",
        "--json",
        "--quorum",
        "2",
        "--bootstrap",
        &daemon.address,
        "-",
    ];
    let key = run_with_input(&put, b"kept").json()["key"]
        .as_str()
        .unwrap()
        .to_owned();

    let (code, last) = daemon.stop(Signal::SIGTERM);
    assert_eq!(code, Some(0));
    assert_eq!(last["stopped"], true);
    assert_eq!(
        (last["records"].as_u64(), last["contacts"].as_u64()),
        (Some(1), Some(1))
    );

    // Nobody tells it whom to begin with.
    let mut daemon = Daemon::with_data(dir.path(), None);
    assert_eq!(daemon.id, id);
    daemon.logs("joined the network");
    let at = format!("--bootstrap={}", daemon.address);
    let found = run(&["find-node", &neighbour.id, &at, "--json"]).json();
    assert_eq!(found["addresses"][0], neighbour.address.as_str());

    // With the neighbour gone, only the disk can know.
    neighbour.kill();
    assert_eq!(run(&["get", &key, &at]).text(), "kept");
    assert_eq!(daemon.stop(Signal::SIGINT).0, Some(0));
}

#[test]
fn without_a_data_directory_nothing_is_kept_and_that_is_said_once() {
    let mut daemon = Daemon::start::<&str>(&[]);
    daemon.logs("not kept");
    let (code, last) = daemon.stop(Signal::SIGTERM);
    assert_eq!((code, last["stopped"].as_bool()), (Some(0), Some(true)));
}

#[test]
fn a_daemon_goes_on_trying_until_its_bootstrap_node_is_there() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut daemon = Daemon::start(&["--bootstrap", &address]);
    daemon.logs("could not join");
    drop(silent);
    let mut late = Daemon::start_at::<&str>(&address, &[]);
    daemon.logs("joined the network");
    late.knows(&daemon.id);
}

#[test]
fn logs_are_json_on_demand_and_standard_output_stays_clean() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = kad_node()
        .args(["run", "--listen", "127.0.0.1:0", "--log-format", "json", "--data"])
        .arg(dir.path())
        .spawn()
        .unwrap();
    let mut lines = Vec::new();
    let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
    for _ in 0..3 {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
        lines.push(line);
    }
    child.stdout = Some(reader.into_inner());
    assert!(
        lines[0].starts_with("node id  ") && lines[1].starts_with("address  127.0.0.1:"),
        "{lines:?}"
    );
    assert!(lines[2].starts_with("network  "), "{lines:?}");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    let ended = outcome(child);
    assert_eq!(ended.status.code(), Some(0));
    let told = String::from_utf8(ended.stdout).unwrap();
    assert!(told.contains("0 records are saved in"), "{told}");
    assert!(!ended.stderr.is_empty());
    for line in ended.stderr.lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(entry["level"].is_string() && entry["fields"]["message"].is_string());
    }
}
