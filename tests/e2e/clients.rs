//! How clients find their way in, where their settings come from, and how they are interrupted.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{DEADLINE, Daemon, finish, kad_node, outcome, path, run, run_with_input};

#[test]
fn one_bootstrap_node_that_works_is_enough() {
    let daemon = Daemon::start::<&str>(&[]);
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap();
    let both = format!("--bootstrap={},{}", dead.local_addr().unwrap(), daemon.address);
    assert_eq!(
        run_with_input(&["put", &both, "--json", "-"], b"x").json()["copies"],
        1
    );
}

#[test]
fn a_client_reaches_a_daemon_over_ipv6() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return; // This machine has no IPv6, and nothing can be said about it.
    }
    let daemon = Daemon::start_at::<&str>("[::1]:0", &[]);
    let put = run_with_input(&["put", "--bootstrap", &daemon.address, "--json", "-"], b"six").json();
    assert_eq!(put["stored_at"][0]["addresses"][0], daemon.address.as_str());
    let key = put["key"].as_str().unwrap().to_owned();
    assert_eq!(run(&["get", &key, "--bootstrap", &daemon.address]).text(), "six");
}

#[test]
fn flags_count_more_than_the_environment_and_that_more_than_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good.toml"), dir.path().join("bad.toml"));
    let daemon = Daemon::start(&["--network", "mine"]);
    let closest = ["closest", &"00".repeat(32), "--json"].map(ToOwned::to_owned);
    fs::write(
        &good,
        format!("network = \"mine\"\nbootstrap = [\"{}\"]\n", daemon.address),
    )
    .unwrap();
    fs::write(&bad, "network = \"mine\"\nbootstrap = [\"nowhere.invalid:1\"]\n").unwrap();
    let ask = |config: &Path, environment: &str, flags: &[&str]| {
        let mut command = kad_node();
        command.args(&closest).arg("--config").arg(config).args(flags);
        finish(command.env("KAD_BOOTSTRAP", environment))
    };
    assert_eq!(ask(&good, "", &[]).json()["closest"][0]["id"], daemon.id.as_str());
    assert_eq!(
        ask(&bad, &daemon.address, &[]).json()["closest"][0]["id"],
        daemon.id.as_str()
    );
    let flag = ["--bootstrap", &daemon.address];
    assert_eq!(
        ask(&bad, "nonsense", &flag).json()["closest"][0]["id"],
        daemon.id.as_str()
    );
    assert!(
        ask(&good, "nonsense", &[])
            .failure(2)
            .starts_with("KAD_BOOTSTRAP: ")
    );
    assert!(ask(&bad, "", &[]).failure(2).contains("nowhere.invalid"));
    assert!(
        ask(&good, "", &["--network", "other"])
            .failure(2)
            .contains("another network")
    );
}

#[test]
fn a_daemon_reads_its_config_file() {
    let dir = tempfile::tempdir().unwrap();
    let (config, data) = (dir.path().join("node.toml"), dir.path().join("data"));
    let text = format!(
        "data = {data:?}\nnetwork = \"small\"\nlog = \"warn\"\n[parameters]\nk = 4\nmax_value = 1000\n[limits]\nrecords = 5\n\
         [intervals]\nrefresh = \"10m\"\n"
    );
    fs::write(&config, text).unwrap();
    let daemon = Daemon::start(&["--config", path(&config)]);
    assert!(data.join("records.redb").is_file());
    assert_eq!(daemon.network, "small");
    let client = [
        "--config",
        path(&config),
        "--bootstrap",
        &daemon.address,
        "--json",
        "-",
    ];
    let put = run_with_input(&[&["put"], client.as_slice()].concat(), b"0123456789").json();
    assert_eq!(put["copies"], 1);
    let key = dir.path().join("key");
    run(&["key", "new", "--out", path(&key)]).text();
    let mutable = ["put-mutable", "--key", path(&key), "--salt", "a"];
    let sentence = run_with_input(&[mutable.as_slice(), &client].concat(), &[0; 1001]).failure(2);
    assert!(sentence.contains("1000 bytes"), "{sentence}");
}

#[test]
fn ctrl_c_ends_a_command_quietly() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    let at = silent.local_addr().unwrap().to_string();
    let child = kad_node()
        .args(["get", &"00".repeat(32), "--bootstrap", &at])
        .spawn()
        .unwrap();
    // Once it dials, it is ready for signals.
    silent.recv_from(&mut [0; 2048]).unwrap();
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let ended = outcome(child);
    assert_eq!(
        (ended.status.code(), ended.stdout.len(), ended.stderr.as_str()),
        (Some(130), 0, "")
    );
}
