//! Every command does what it says, for people and for programs.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::process::{Daemon, finish, kad_node, outcome, run, run_with_input};

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A new key file, and its public key.
fn new_key(file: &Path) -> (String, String) {
    let made = run(&["key", "new", "--json", "--out", path(file)]).json();
    (text(&made["id"]), text(&made["public_key"]))
}

#[test]
fn a_key_is_made_once_shown_often_and_its_secret_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("my.key");
    let made = run(&["key", "new", "--json", "--puzzle-bits", "4", "--out", path(&file)]).json();
    assert!(made["puzzle_bits"].as_u64().unwrap() >= 4);
    assert_eq!(made["file"], path(&file));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(&file).unwrap();

    assert_eq!(run(&["key", "show", "--json", path(&file)]).json(), made);
    let shown = run(&["key", "show", path(&file)]).text();
    assert!(shown.contains(&text(&made["id"])) && shown.contains(&text(&made["public_key"])));
    assert!(!shown.contains(secret.trim()));

    let sentence = run(&["key", "new", "--json", "--out", path(&file)]).failure(2);
    assert!(sentence.contains("never overwritten"), "{sentence}");
    assert_eq!(fs::read_to_string(&file).unwrap(), secret);
}

#[test]
fn without_a_name_a_key_file_is_named_kad_key() {
    let dir = tempfile::tempdir().unwrap();
    let made = finish(kad_node().current_dir(dir.path()).args(["key", "new", "--json"])).json();
    assert_eq!(made["file"], "kad.key");
    let shown = finish(kad_node().current_dir(dir.path()).args(["key", "show", "--json"])).json();
    assert_eq!(shown, made);
}

#[test]
fn what_is_put_comes_back_by_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in"), dir.path().join("out"));
    let bytes: Vec<u8> = (0..60_000u32).map(|n| n as u8).collect();
    fs::write(&input, &bytes).unwrap();
    fs::write(&output, "what was there before").unwrap();
    let daemons = Daemon::network(3);
    let at = daemons[0].address.as_str();

    let put = run(&[
        "put",
        "--json",
        "--bootstrap",
        at,
        "--ttl",
        "2h",
        "--quorum",
        "3",
        path(&input),
    ])
    .json();
    assert_eq!(put["bytes"], 60_000);
    assert_eq!(put["copies"], 3);
    assert_eq!(put["refused"], 0);
    let mut ids: Vec<String> = put["stored_at"]
        .as_array()
        .unwrap()
        .iter()
        .map(|at| text(&at["id"]))
        .collect();
    let mut wanted: Vec<String> = daemons.iter().map(|daemon| daemon.id.clone()).collect();
    ids.sort();
    wanted.sort();
    assert_eq!(ids, wanted);
    assert!(put["stored_at"][0]["addresses"][0].is_string());
    assert!(text(&put["expires"]).ends_with('Z') && put["expires_unix"].is_u64());
    let key = text(&put["key"]);
    assert_eq!(key.len(), 64);

    let from = daemons[2].address.as_str();
    let got = run(&["get", &key, "--json", "--bootstrap", from, "-o", path(&output)]).json();
    assert_eq!(got["bytes"], 60_000);
    assert_eq!(got["key"], key.as_str());
    assert_eq!(got["output"], path(&output));
    assert_eq!(got["expires_unix"], put["expires_unix"]);
    assert_eq!(fs::read(&output).unwrap(), bytes);

    let piped = run(&["get", &key, "--bootstrap", from]);
    assert_eq!((piped.status.code(), piped.stdout == bytes), (Some(0), true));
}

#[test]
fn standard_input_can_be_put_and_people_are_told_where_it_is() {
    let daemon = Daemon::start::<&str>(&[]);
    let told = run_with_input(&["put", "--bootstrap", &daemon.address, "-"], b"from a pipe").text();
    for part in [
        "key",
        "bytes   11",
        "until",
        "UTC (in ",
        "copies  1",
        &daemon.id,
        &daemon.address,
    ] {
        assert!(told.contains(part), "{part} is missing in {told}");
    }
    assert!(!told.contains('\u{1b}'), "colours without a terminal: {told}");
}

#[test]
fn what_nobody_has_is_not_found_and_what_was_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    fs::write(&output, "old").unwrap();
    let daemon = Daemon::start::<&str>(&[]);
    let key = "ab".repeat(32);
    let arguments = [
        "get",
        &key,
        "--bootstrap",
        &daemon.address,
        "-o",
        path(&output),
        "--json",
    ];
    let sentence = run(&arguments).failure(1);
    assert!(sentence.contains(&key), "{sentence}");
    assert_eq!(fs::read_to_string(&output).unwrap(), "old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn too_few_copies_are_told_with_exit_status_1() {
    let daemon = Daemon::start::<&str>(&[]);
    let arguments = [
        "put",
        "--json",
        "--quorum",
        "2",
        "--bootstrap",
        &daemon.address,
        "-",
    ];
    let sentence = run_with_input(&arguments, b"x").failure(1);
    assert!(
        sentence.contains("1 of the 2") && sentence.contains("--quorum"),
        "{sentence}"
    );
}

#[test]
fn a_mutable_record_is_written_read_guarded_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("owner.key");
    let (_, owner) = new_key(&key_file);
    let daemons = Daemon::network(2);
    let at = format!("--bootstrap={}", daemons[1].address);
    let sign = ["--key", path(&key_file), "--salt", "card", &at, "--json"];
    let put = |more: &[&str], value: &[u8]| {
        run_with_input(&[&["put-mutable"], sign.as_slice(), more, &["-"]].concat(), value)
    };

    let first = put(&[], b"one").json();
    assert_eq!(
        (first["seq"].as_u64(), first["copies"].as_u64()),
        (Some(1), Some(2))
    );
    assert_eq!(first["owner"], owner.as_str());
    assert_eq!(first["salt"], "card");
    assert_eq!(put(&["--expected", "1"], b"two").json()["seq"], 2);
    let sentence = put(&["--expected", "1", "--seq", "3"], b"rival").failure(1);
    assert!(sentence.contains("version 2"), "{sentence}");
    assert!(put(&["--seq", "1"], b"late").failure(1).contains("version 2"));

    let read = ["get-mutable", &owner, "--salt", "card", &at];
    assert_eq!(run(&read).text(), "two");
    let output = dir.path().join("out");
    let got = run(&[read.as_slice(), &["--json", "-o", path(&output)]].concat()).json();
    assert_eq!((got["seq"].as_u64(), got["bytes"].as_u64()), (Some(2), Some(3)));
    assert_eq!(fs::read(&output).unwrap(), b"two");

    let deleted = run(&[&["delete-mutable"], sign.as_slice()].concat()).json();
    assert_eq!(deleted["seq"], 3);
    assert!(run(&read).failure(1).contains("no record"));
    assert_eq!(put(&[], b"again").json()["seq"], 4);
    assert_eq!(run(&read).text(), "again");
}

#[test]
fn providers_come_and_go_and_their_words_reach_no_terminal_raw() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("mine.key");
    let (id, public_key) = new_key(&key_file);
    let daemons = Daemon::network(2);
    let at = format!("--bootstrap={}", daemons[0].address);
    let what = "cd".repeat(32);
    let provide = ["provide", &what, "--key", path(&key_file), &at, "--json"];

    assert!(run(&["providers", &what, &at]).failure(1).contains("nobody"));
    let payload = "here \u{1b}[31m";
    let provided = run(&[provide.as_slice(), &["--payload", payload]].concat()).json();
    assert_eq!(provided["provider"], id.as_str());
    assert_eq!(provided["copies"], 2);
    assert_eq!(provided["withdrawn"], false);

    let list = run(&["providers", &what, &at, "--json", "--count", "5"]).json();
    let found = list["providers"].as_array().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["id"], id.as_str());
    assert_eq!(found[0]["public_key"], public_key.as_str());
    assert_eq!(found[0]["payload"], payload);
    let table = run(&["providers", &what, &at]).text();
    assert!(table.contains(&id) && !table.contains('\u{1b}'), "{table}");

    // An announcement of the same second would not be older than its withdrawal; the withdrawal wins.
    assert_eq!(
        run(&[provide.as_slice(), &["--withdraw"]].concat()).json()["withdrawn"],
        true
    );
    run(&["providers", &what, &at, "--json"]).failure(1);
}

#[test]
fn nodes_are_found_listed_and_pinged() {
    let daemons = Daemon::network(3);
    let at = format!("--bootstrap={}", daemons[0].address);

    let found = run(&["find-node", &daemons[2].id, &at, "--json"]).json();
    assert_eq!(found["id"], daemons[2].id.as_str());
    assert_eq!(found["addresses"][0], daemons[2].address.as_str());
    assert_eq!(
        run(&["find-node", &daemons[2].id, &at]).text().trim(),
        daemons[2].address
    );
    run(&["find-node", &"00".repeat(32), &at, "--json"]).failure(1);

    let list = run(&["closest", &daemons[1].id, &at, "--json"]).json();
    let closest = list["closest"].as_array().unwrap();
    assert_eq!(closest.len(), 3);
    assert_eq!(
        (closest[0]["id"].as_str(), closest[0]["prefix_bits"].as_u64()),
        (Some(daemons[1].id.as_str()), Some(256))
    );
    let bits: Vec<u64> = closest
        .iter()
        .map(|node| node["prefix_bits"].as_u64().unwrap())
        .collect();
    assert!(bits.is_sorted_by(|near, far| near >= far), "{bits:?}");
    let table = run(&["closest", &daemons[1].id, &at]).text();
    assert!(
        daemons
            .iter()
            .all(|daemon| table.contains(&daemon.id) && table.contains(&daemon.address))
    );

    let pong = run(&[
        "ping",
        &format!("{}@{}", daemons[1].id, daemons[1].address),
        "--json",
    ])
    .json();
    assert_eq!(pong["id"], daemons[1].id.as_str());
    assert!(text(&pong["observed"][0]).starts_with("127.0.0.1:"));
    assert!(pong["round_trip_ms"].as_f64().unwrap() > 0.0);
    assert!(pong["clock_difference_s"].as_i64().unwrap().abs() <= 1);
    assert!(run(&["ping", &daemons[1].address]).text().contains("round trip"));
    let sentence = run(&["ping", &format!("{}@{}", daemons[0].id, daemons[1].address)]).failure(1);
    assert!(sentence.contains(&daemons[1].id), "{sentence}");
}

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
    let key = text(&put["key"]);
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
        "data = {data:?}\nnetwork = \"small\"\nlog = \"warn\"\n[parameters]\nk = 4\nmax_value = 10\n[limits]\nrecords = 5\n\
         [intervals]\nrefresh = \"10m\"\n"
    );
    fs::write(&config, text).unwrap();
    let daemon = Daemon::start(&["--config", path(&config)]);
    assert!(data.join("records.redb").is_file());
    let client = [
        "put",
        "--config",
        path(&config),
        "--bootstrap",
        &daemon.address,
        "--json",
        "-",
    ];
    assert_eq!(run_with_input(&client, b"0123456789").json()["copies"], 1);
    run_with_input(&client, b"0123456789a").failure(2);
    assert!(daemon.network.len() == 16);
}

#[test]
fn ctrl_c_ends_a_command_quietly() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_read_timeout(Some(crate::process::DEADLINE)).unwrap();
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

#[test]
fn help_and_completions_are_printed() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            run(&["completions", shell]).text().contains("put-mutable"),
            "{shell}"
        );
    }
    assert_eq!(run(&["completions", "bash", "--json"]).json()["shell"], "bash");
    assert!(run(&["--help"]).text().contains("Exit status"));
    assert!(run(&["put", "--help"]).text().contains("Example"));
    assert!(run(&["--version"]).text().starts_with("kad-node "));
}
