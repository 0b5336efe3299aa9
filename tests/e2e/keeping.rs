//! Nodes that keep the files of others alive, and what they tell of it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::process::{Daemon, noise, path, run, run_with_input, text, until};

/// Stores something, and gives its key and its whole name.
fn put(at: &str, bytes: &[u8], more: &[&str]) -> (String, String) {
    let put = [&["put", "--json", at][..], more, &["-"]].concat();
    let told = run_with_input(&put, bytes).json();
    (text(&told["key"]), text(&told["reference"]))
}

fn keeper(keys: &[&str], data: &Path, bootstrap: &str) -> Daemon {
    let arguments = [keys, &["--data", path(data), bootstrap]].concat();
    Daemon::command("keep", "127.0.0.1:0", &arguments)
}

#[test]
fn a_keeper_without_the_secret_keeps_a_file_whose_holders_are_gone_and_so_does_any_node_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = Daemon::start::<&str>(&[]);
    let at = format!("--bootstrap={}", holder.address);
    let files: Vec<_> = [
        &[][..],
        &["--encrypt"],
        &["--code", "3+2"],
        &["--encrypt", "--code", "3+2"],
    ]
    .iter()
    .zip(1..)
    .map(|(more, seed)| {
        let bytes = noise(seed, 250_000);
        let (key, reference) = put(&at, &bytes, more);
        (bytes, key, reference)
    })
    .collect();
    let keys: Vec<&str> = files.iter().map(|(_, key, _)| key.as_str()).collect();
    let keeper = keeper(&keys, dir.path(), &at);
    let told: Vec<Value> = keys.iter().map(|_| keeper.says()).collect();
    for key in &keys {
        let told = told.iter().find(|told| told["kept"] == *key).unwrap();
        assert!(
            told["records"].as_u64() > Some(4) && told["bytes"].as_u64() >= Some(250_000),
            "{told}"
        );
    }
    holder.kill();
    let whole = |daemon: &Daemon| {
        let at = format!("--bootstrap={}", daemon.address);
        for (bytes, _, reference) in &files {
            let got = run_with_input(&["get", &at, "-"], reference.as_bytes());
            assert!(got.status.success() && got.stdout == *bytes, "{}", got.stderr);
        }
    };
    whole(&keeper);
    assert_eq!(keeper.stop(Signal::SIGTERM).0, Some(0));
    let again = Daemon::with_data(dir.path(), None);
    whole(&again);
}

#[test]
fn what_a_keeper_took_on_is_stored_again_before_the_copies_of_others_end() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("node.toml");
    // What is due is looked for every second.
    fs::write(&config, "[intervals]\nlook_after = \"4s\"\n").unwrap();
    let holder = Daemon::start::<&str>(&[]);
    let at = format!("--bootstrap={}", holder.address);
    let put = run_with_input(&["put", "--json", &at, "--ttl", "10s", "-"], b"brief").json();
    let (key, ends) = (text(&put["key"]), put["expires_unix"].as_u64().unwrap());
    let data = dir.path().join("data");
    // It stores nothing for others, so there are as many copies as there can be.
    let mut keeper = keeper(&[&key, "--read-only", "--config", path(&config)], &data, &at);
    let told = keeper.says();
    assert_eq!((&told["fetched"], &told["stored"]), (&json!(1), &json!(0)));
    until("its first life is over", || {
        std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() > ends
    });
    until("others have it again", || {
        let listed = run(&["list", "--json", "--data", path(&data), &at]).json();
        listed["kept"][0]["copies"]["min"] == 1
    });
    keeper.kill();
    assert_eq!(run(&["get", &at, &key]).text(), "brief");
}

#[test]
fn who_was_killed_before_it_found_a_file_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (data, other) = (dir.path().join("data"), dir.path().join("other"));
    let bytes = noise(7, 200_000);
    // The key is known from another network.
    let elsewhere = Daemon::start::<&str>(&[]);
    let (key, _) = put(&format!("--bootstrap={}", elsewhere.address), &bytes, &[]);
    drop(elsewhere);

    let holder = Daemon::with_data(&other, None);
    let at = format!("--bootstrap={}", holder.address);
    let mut first = keeper(&[&key], &data, &at);
    first.logs("a file could not be kept");
    first.kill();
    let listed = run(&["list", "--json", "--data", path(&data)]).json();
    assert_eq!(listed["kept"][0]["what"], "wanted");
    assert_eq!(put(&at, &bytes, &[]).0, key);
    let second = Daemon::with_data(&data, Some(&holder));
    assert_eq!(second.says()["kept"], key.as_str());
}

#[test]
fn what_is_kept_is_listed_by_kind_with_its_copies_and_forgotten_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut holders = Daemon::network(2);
    let at = format!("--bootstrap={}", holders[0].address);
    let shared = noise(1, 61_440);
    let (small, _) = put(&at, b"small", &[]);
    let (large, _) = put(&at, &[&shared[..], &noise(2, 100_000)].concat(), &[]);
    let (coded, reference) = put(&at, &noise(3, 100_000), &["--encrypt", "--code", "2+1"]);
    let (beside, _) = put(&at, &[&shared[..], &noise(4, 10)].concat(), &[]);
    let keys = [large.as_str(), &small, &coded, &beside];
    // The secret is taken and not kept.
    let mut list = keys.map(|key| format!("{key}  name")).to_vec();
    list[2] = format!("{reference}  name");
    let names = dir.path().join("names");
    fs::write(&names, list.join("\n")).unwrap();
    let keeper = Daemon::command(
        "keep",
        "127.0.0.1:0",
        &["--list", path(&names), "--data", path(&data), &at],
    );
    keys.iter().for_each(|_| drop(keeper.says()));
    holders[0].knows(&keeper.id);

    let list = ["list", "--data", path(&data)];
    let running = run(&[&list[..], &["--json"]].concat()).json();
    let sentence = run(&["forget", &large, "--data", path(&data)]).failure(2);
    assert!(sentence.contains("a node runs with"), "{sentence}");
    assert_eq!(keeper.stop(Signal::SIGTERM).0, Some(0));
    let secret = reference.split_once('#').unwrap().1;
    assert!(
        !fs::read_to_string(data.join("kept.json"))
            .unwrap()
            .contains(secret)
    );

    let rows = |more: &[&str]| {
        let listed = run(&[&list[..], &["--json"], more].concat()).json();
        assert_eq!((&listed["more"], &listed["damaged"]), (&json!(0), &json!(0)));
        listed["kept"].as_array().unwrap().clone()
    };
    let offline = rows(&[]);
    let row = |rows: &[Value], key: &str| rows.iter().find(|row| row["key"] == key).cloned();
    let of = |key: &str| row(&offline, key).unwrap();
    assert_eq!(offline.len(), 4, "{offline:?}");
    assert_eq!(running["kept"], json!(offline), "a node that runs tells the same");
    assert_eq!(
        (&of(&small)["what"], &of(&small)["bytes"]),
        (&json!("value"), &json!(5))
    );
    assert_eq!(
        (&of(&large)["records"], &of(&large)["missing"]),
        (&json!(4), &json!(0))
    );
    let sealed = of(&coded);
    assert_eq!(
        (&sealed["what"], &sealed["encrypted"], &sealed["code"]),
        (&json!("file"), &json!(true), &json!("2+1"))
    );
    assert!(sealed["copies"].is_null() && sealed["expires_unix"].is_u64());

    let online = rows(&[&at]);
    let copies = &row(&online, &large).unwrap()["copies"];
    // Both holders are found; the keeper is down.
    let counted = json!({ "wanted": 2, "min": 2, "median": 2, "max": 2, "records_counted": 4 });
    assert_eq!(*copies, counted);
    let table = run(&[&list[..], &[&at]].concat()).text();
    assert!(
        table.contains("copies of 2") && table.contains("file, encrypted, coded 2+1"),
        "{table}"
    );

    let forget = |key: &str| run(&["forget", key, "--data", path(&data), "--json"]);
    let told = forget(&large).json();
    assert_eq!((&told["records"], &told["shared"]), (&json!(3), &json!(1)));
    forget(&large).failure(1);
    forget(&small).json();
    let left = rows(&[]);
    assert_eq!(left.len(), 2);
    assert_eq!(row(&left, &beside).unwrap()["missing"], 0, "what is shared stays");
    drop(holders);
    let again = Daemon::with_data(&data, None);
    let at = format!("--bootstrap={}", again.address);
    run(&["get", &at, &large]).failure(1);
    assert!(
        run_with_input(&["get", &at, "-"], reference.as_bytes())
            .status
            .success()
    );
}

#[test]
fn a_file_that_there_is_no_room_for_is_said_to_be_too_much_and_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("node.toml");
    fs::write(&config, "[limits]\nown_bytes = 100000\n").unwrap();
    let holder = Daemon::start::<&str>(&[]);
    let at = format!("--bootstrap={}", holder.address);
    let (large, _) = put(&at, &noise(8, 400_000), &[]);
    let (small, _) = put(&at, &noise(9, 50_000), &[]);
    let data = dir.path().join("data");
    let mut keeper = keeper(&[&large, &small, "--config", path(&config)], &data, &at);
    assert_eq!(keeper.says()["kept"], small.as_str());
    keeper.logs("there is no room for a file that is to be kept");
    let listed = run(&["list", "--data", path(&data), "--json"]).json();
    let kept: Vec<_> = listed["kept"].as_array().unwrap().iter().collect();
    assert_eq!(kept.len(), 2);
    for one in kept {
        let missing = u64::from(one["key"] == large.as_str());
        assert_eq!(one["missing"], missing, "nothing of it was fetched: {one}");
    }
}

#[test]
fn a_node_that_runs_is_told_to_keep_more_and_answers_nobody_who_makes_no_sense() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let holder = Daemon::start::<&str>(&[]);
    let at = format!("--bootstrap={}", holder.address);
    let (key, _) = put(&at, b"to be kept", &[]);
    let daemon = Daemon::with_data(&data, Some(&holder));
    let socket = data.join("control");
    until("it listens", || socket.exists());
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    for nonsense in [
        &b"nonsense\n"[..],
        b"",
        b"\n",
        b"{\"keep\":[7]}\n",
        b"{\"keep\":\"all\"}\n",
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(nonsense).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        assert!(text(&told["error"]).contains("another version"), "{told}");
    }

    let keep = ["keep", &key, "--data", path(&data), "--json"];
    assert_eq!(run(&keep).json(), json!({ "running": true, "added": 1 }));
    assert_eq!(daemon.says()["kept"], key.as_str());
    assert_eq!(run(&keep).json()["added"], 0);
    let listed = run(&["list", "--data", path(&data), "--json", &at]).json();
    assert_eq!(
        (&listed["kept"][0]["key"], &listed["kept"][0]["what"]),
        (&json!(key), &json!("value"))
    );
    assert_eq!(listed["kept"][0]["copies"]["min"], 2);
    assert_eq!(daemon.stop(Signal::SIGTERM).0, Some(0));
    assert_eq!(
        run(&["list", "--data", path(&data), "--json"]).json()["kept"][0]["key"],
        key.as_str()
    );
}

#[test]
fn a_sealed_file_is_repaired_by_its_key_alone() {
    let first = Daemon::start::<&str>(&[]);
    let at = format!("--bootstrap={}", first.address);
    let (key, reference) = put(&at, &noise(1, 100_000), &["--encrypt", "--code", "2+1"]);
    let mut second = Daemon::start(&[&at]);
    second.logs("joined the network");
    let told = run(&["repair", &key, &at, "--json"]).json();
    assert_eq!(told["repair"], json!({ "checked": 4, "stored": 4, "failed": 0 }));
    let told = run(&["repair", &reference, &at]).text();
    assert!(told.starts_with("0 of 4 records"), "{told}");
    run(&["repair", &"ab".repeat(32), &at]).failure(1);
}

#[test]
fn mistakes_of_keepers_are_told_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let key = "ab".repeat(32);
    let at = "--listen=127.0.0.1:0";
    let keep = run(&["keep", &key, at]);
    assert!(
        keep.stderr.contains("--data") && keep.status.code() == Some(2),
        "{keep:?}"
    );
    assert_eq!(run(&["keep", at]).status.code(), Some(2));
    assert_eq!(
        run(&["keep", "nonsense", at, "--data", path(dir.path())])
            .status
            .code(),
        Some(2)
    );
    for command in [&["list"][..], &["forget", &key]] {
        let sentence = run(command).failure(2);
        assert!(sentence.contains("--data"), "{sentence}");
        let sentence = run(&[command, &["--data", path(dir.path())]].concat()).failure(2);
        assert!(sentence.contains("no data directory of a node"), "{sentence}");
    }
    let lists = tempfile::tempdir().unwrap();
    let list = lists.path().join("list");
    let keys: String = (0..5000).map(|number| format!("{number:064x}\n")).collect();
    fs::write(&list, keys).unwrap();
    let sentence = run(&["keep", "--list", path(&list), at, "--data", path(dir.path())]).failure(2);
    assert!(
        sentence.contains("4096 files are the most") && sentence.contains("none of them"),
        "{sentence}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");

    let daemon = Daemon::with_data(dir.path(), None);
    assert_eq!(daemon.stop(Signal::SIGTERM).0, Some(0));
    let told = run(&["list", "--data", path(dir.path())]).text();
    assert!(told.contains("keeps nothing"), "{told}");
    let other = run(&["list", "--data", path(dir.path()), "--network", "other", "--json"]).json();
    assert_eq!(other["kept"], json!([]));
    fs::write(dir.path().join("kept.json"), "{}").unwrap();
    let broken = run(&["keep", &key, at, "--data", path(dir.path())]);
    assert!(broken.stderr.contains("no list of kept files") && broken.status.code() == Some(2));
    let mut daemon = Daemon::with_data(dir.path(), None);
    daemon.logs("not looked after");
}
