//! Every command does what it says, for people and for programs.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::process::{Daemon, finish, kad_node, path, run, run_with_input, text};

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
    assert_eq!(put["chunks"], 1);
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
fn a_file_larger_than_a_record_is_put_and_comes_back_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in"), dir.path().join("out"));
    let bytes: Vec<u8> = (0..1_500_000u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    fs::write(&input, &bytes).unwrap();
    let daemons = Daemon::network(3);
    let put = run(&["put", path(&input), "--bootstrap", &daemons[0].address, "--json"]).json();
    assert_eq!(
        (put["bytes"].as_u64(), put["copies"].as_u64()),
        (Some(1_500_000), Some(3))
    );
    assert!(
        put["chunks"].as_u64() > Some(1) && put["indexes"].as_u64() >= Some(1),
        "{put}"
    );
    let key = text(&put["key"]);
    let from = daemons[1].address.as_str();
    let got = run(&["get", &key, "--bootstrap", from, "-o", path(&output), "--json"]).json();
    assert_eq!(
        (got["bytes"].as_u64(), &got["chunks"]),
        (Some(1_500_000), &put["chunks"])
    );
    assert!(fs::read(&output).unwrap() == bytes);
    let piped = run(&["get", &key, "--bootstrap", from]);
    assert!(piped.status.success() && piped.stdout == bytes);
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
fn a_watch_tells_of_each_version_until_it_was_told_of_enough() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("owner.key");
    let (_, owner) = new_key(&key_file);
    let daemons = Daemon::network(2);
    let at = format!("--bootstrap={}", daemons[1].address);
    let sign = ["--key", path(&key_file), "--salt", "news", &at, "--json"];
    let put = |value: &[u8]| {
        run_with_input(&[&["put-mutable"], sign.as_slice(), &["-"]].concat(), value).json();
    };
    put(b"one\x1b[31m");
    let mut watch = kad_node()
        .args([
            "watch", &owner, "--salt", "news", "--count", "3", "--every", "1s", "--json", &at,
        ])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let first = next();
    assert_eq!(
        (&first["seq"], &first["value"]),
        (&json!(1), &json!("one\x1b[31m"))
    );
    put(b"\xff\x00");
    let second = next();
    assert_eq!(
        (&second["seq"], &second["value_hex"]),
        (&json!(2), &json!("ff00"))
    );
    run(&[&["delete-mutable"], sign.as_slice()].concat()).json();
    assert_eq!(next(), json!({ "seq": 3, "deleted": true }));
    assert_eq!(next(), json!({ "changes": 3 }));
    assert_eq!(watch.wait().unwrap().code(), Some(0));

    put(b"four\x1b[31m");
    let words = run(&[
        "watch", &owner, "--salt", "news", "--after", "3", "--count", "1", &at,
    ])
    .text();
    assert!(
        words.starts_with("version 4 \"four\\u{1b}[31m\", 9 bytes, until 2"),
        "{words:?}"
    );
    assert_eq!(words.lines().count(), 1);
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
    assert_eq!(
        found[0]["addresses"],
        serde_json::json!([]),
        "a key that is no node"
    );
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
    assert_eq!(found["role"], "server");
    let text = run(&["find-node", &daemons[2].id, &at]).text();
    assert!(
        text.contains("server") && text.contains(&daemons[2].address),
        "{text}"
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

#[test]
fn a_daemon_with_a_full_table_walks_over_its_network() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("node.toml");
    fs::write(&config, "table = \"full\"\n[limits]\ntable_contacts = 64\n").unwrap();
    let daemons = Daemon::network(3);
    for arguments in [["--table", "full"], ["--config", path(&config)]] {
        let door = ["--bootstrap", daemons[0].address.as_str()];
        let mut full = Daemon::start(&[arguments, door].concat());
        full.logs("walked over the network");
    }
    let sentence = run(&["run", "--table", "everybody"]);
    assert_eq!(sentence.status.code(), Some(2), "{sentence:?}");
    assert!(
        sentence.stderr.contains("kademlia") && sentence.stderr.contains("full"),
        "{sentence:?}"
    );
}
