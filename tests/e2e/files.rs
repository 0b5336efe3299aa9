//! Files that only their key's secret opens, and files that survive the loss of nodes.

use std::fs;
use std::path::Path;

use kad_core::record::{Content, immutable_key};
use kad_core::{Key, Kind, NodeId, Slot};
use kad_store::{RecordStore as _, RedbConfig, RedbStore};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::process::{Daemon, finish, kad_node, noise, path, run, run_with_input, text};

#[test]
fn an_encrypted_file_is_read_by_its_whole_key_alone_and_is_in_no_store_and_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let (data, input, output) = (
        dir.path().join("data"),
        dir.path().join("in"),
        dir.path().join("out"),
    );
    let sentence = b"nobody else shall read this sentence; ";
    let bytes = sentence.repeat(4000);
    fs::write(&input, &bytes).unwrap();
    let daemon = Daemon::with_data(&data, None);
    let at = format!("--bootstrap={}", daemon.address);

    let put =
        finish(
            kad_node()
                .env("RUST_LOG", "trace")
                .args(["put", "--json", "--encrypt", &at, path(&input)]),
        );
    assert_eq!(put.status.code(), Some(0), "{put:?}");
    let told: Value = serde_json::from_slice(&put.stdout).unwrap();
    assert_eq!(
        (told["bytes"].as_u64(), told["chunks"].as_u64()),
        (Some(152_000), Some(3))
    );
    assert_eq!(told["encrypted"], true);
    let reference = text(&told["reference"]);
    let (key, secret) = reference.split_once('#').unwrap();
    assert_eq!((key, secret.len()), (told["key"].as_str().unwrap(), 64));
    assert!(
        put.stderr.contains("TRACE") && !put.stderr.contains(secret),
        "{}",
        put.stderr
    );

    let get = ["get", "--json", &at, "-o", path(&output)];
    let got = finish(kad_node().env("RUST_LOG", "trace").args(get).arg(&reference));
    assert!(got.status.success() && !got.stderr.contains(secret), "{got:?}");
    assert!(!String::from_utf8(got.stdout).unwrap().contains(secret));
    assert!(fs::read(&output).unwrap() == bytes);
    let piped = run_with_input(&["get", &at, "-"], format!("{reference}\n").as_bytes());
    assert!(piped.status.success() && piped.stdout == bytes);

    fs::write(&output, "what was there before").unwrap();
    let other = "5e".repeat(32);
    let plain = text(&run(&["put", "--json", &at, path(&input)]).json()["key"]);
    for (name, says) in [
        (key.to_owned(), "sealed; give its whole name, KEY#SECRET"),
        (format!("{key}#{other}"), "not that of this file"),
        (format!("{plain}#{other}"), "not sealed; give its key alone"),
        (format!("{key}#{}", &secret[1..]), "behind the #"),
    ] {
        let refused = run(&[get.as_slice(), &[name.as_str()]].concat()).failure(2);
        assert!(
            refused.contains(says) && !refused.contains(&secret[1..]),
            "{refused}"
        );
    }
    assert_eq!(fs::read(&output).unwrap(), b"what was there before");
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(names.len(), 3, "nothing else is left: {names:?}");
}

#[test]
fn what_is_piped_in_can_be_encrypted_and_the_holder_has_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::with_data(dir.path(), None);
    let at = format!("--bootstrap={}", daemon.address);
    let whispered = b"a word that is nowhere else";
    let told = run_with_input(&["put", &at, "--encrypt", "-"], whispered).text();
    let key = told
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("key     "))
        .unwrap();
    assert_eq!(run(&["get", &at, key]).text().as_bytes(), whispered);
    assert!(told.contains("bytes   27\nchunks  1\n"), "{told}");
    daemon.stop(Signal::SIGTERM);
    let (_, secret) = key.split_once('#').unwrap();
    let secret: Vec<u8> = secret.parse::<Key>().unwrap().to_bytes().into();
    let store = fs::read(dir.path().join("records.redb")).unwrap();
    for hidden in [&whispered[..], &secret] {
        assert!(!store.windows(hidden.len()).any(|held| held == hidden));
    }
}

/// Makes the store of a daemon that does not run forget these values, as a disk that went bad would.
fn forget(data: &Path, keys: &[Key]) {
    let mut store = RedbStore::open(data.join("records.redb"), &RedbConfig::default()).unwrap();
    for key in keys {
        let slot = Slot {
            kind: Kind::Immutable,
            key: *key,
            provider: NodeId::default(),
        };
        assert!(store.remove(&slot).unwrap(), "{key} was there");
    }
    store.flush().unwrap();
}

#[test]
fn a_coded_file_outlives_some_of_its_chunks_and_is_whole_again_after_a_repair() {
    /// Bytes of a chunk.
    const CHUNK: usize = 60 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let (data, input, output) = (
        dir.path().join("data"),
        dir.path().join("in"),
        dir.path().join("out"),
    );
    let bytes = noise(1, 4 * CHUNK);
    let chunks: Vec<Key> = bytes
        .chunks(CHUNK)
        .map(|chunk| immutable_key(Content::Plain, chunk))
        .collect();
    fs::write(&input, &bytes).unwrap();
    let without = |daemon: Daemon, lost: &[Key]| {
        assert_eq!(daemon.stop(Signal::SIGTERM).0, Some(0));
        forget(&data, lost);
        let daemon = Daemon::with_data(&data, None);
        let at = format!("--bootstrap={}", daemon.address);
        (daemon, at)
    };

    let daemon = Daemon::with_data(&data, None);
    let at = format!("--bootstrap={}", daemon.address);
    let put = run(&["put", "--json", "--code", "4+2", &at, path(&input)]).json();
    assert_eq!(
        (put["chunks"].as_u64(), put["parity"].as_u64()),
        (Some(4), Some(2))
    );
    assert_eq!(put["reference"], put["key"]);
    let key = text(&put["key"]);

    let (daemon, at) = without(daemon, &chunks[1..3]);
    let get = |at: &str, more: &[&str]| {
        let arguments = ["get", &key, at, "-o", path(&output), "--json"];
        run(&[arguments.as_slice(), more].concat())
    };
    assert_eq!(get(&at, &[]).json()["restored"], 2);
    assert!(fs::read(&output).unwrap() == bytes);
    let mended = get(&at, &["--repair"]).json();
    assert_eq!(mended["restored"], 2);
    assert_eq!(
        mended["repair"],
        json!({ "checked": 7, "stored": 2, "failed": 0 })
    );
    assert_eq!(get(&at, &[]).json()["restored"], 0, "the chunks are there again");

    fs::write(&output, "what was there before").unwrap();
    let (_daemon, at) = without(daemon, &chunks[..3]);
    let sentence = get(&at, &[]).failure(1);
    assert!(
        sentence.contains("of stripe 0 (at byte 0) only 3 of the 4 chunks"),
        "{sentence}"
    );
    assert_eq!(fs::read(&output).unwrap(), b"what was there before");
}

#[test]
fn a_repair_stores_again_what_few_nodes_hold_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let first = Daemon::start::<&str>(&[]);
    let at = format!("--bootstrap={}", first.address);
    let bytes = noise(1, 100_000);
    let put = run_with_input(&["put", "--json", &at, "-"], &bytes).json();
    assert_eq!(
        (put["copies"].as_u64(), put["chunks"].as_u64()),
        (Some(1), Some(2))
    );
    let mut second = Daemon::start(&[&at]);
    second.logs("joined the network");

    let key = text(&put["key"]);
    let get = ["get", &key, &at, "-o", path(&output), "--repair"];
    let whole = run(&[get.as_slice(), &["--copies", "1", "--json"]].concat()).json();
    assert_eq!(whole["repair"], json!({ "checked": 3, "stored": 0, "failed": 0 }));
    let told = run(&get).text();
    assert!(
        told.ends_with("3 of 3 records had too few copies and were stored again\n"),
        "{told}"
    );
    let told = run(&get).text();
    assert!(
        told.contains("\n0 of 3 records"),
        "more copies than nodes are not wanted: {told}"
    );
    assert!(fs::read(&output).unwrap() == bytes);
    let sentence = run(&["get", &key, &at, "--copies", "3"]);
    assert_eq!(sentence.status.code(), Some(2), "{sentence:?}");
}
