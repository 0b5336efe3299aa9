//! Bad input: one sentence, the right exit status, nothing overwritten.

use std::fs;
use std::net::UdpSocket;

use nix::sys::signal::Signal;

use crate::process::{Daemon, path, run, run_with_input};

const KEY: &str = "abababababababababababababababababababababababababababababababab";

/// Checks the exit status, that the sentence is in JSON too, and what it says.
#[track_caller]
fn refused(arguments: &[&str], says: &[&str]) {
    let outcome = run(&[arguments, &["--json"]].concat());
    assert!(!outcome.stdout.is_empty(), "no JSON: {outcome:?}");
    let sentence = outcome.failure(2);
    for part in says {
        assert!(sentence.contains(part), "{part:?} is missing in {sentence:?}");
    }
}

#[test]
fn files_that_cannot_be_read_or_written() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    refused(
        &["put", path(&none), "--bootstrap", "127.0.0.1:9"],
        &[path(&none), "cannot be read"],
    );
    refused(
        &["put", path(dir.path()), "--bootstrap", "127.0.0.1:9"],
        &["is a directory"],
    );
    refused(
        &["get", KEY, "-o", path(dir.path()), "--bootstrap", "127.0.0.1:9"],
        &["is a directory", "-o"],
    );
    let beyond = dir.path().join("none/out");
    refused(
        &["get", KEY, "-o", path(&beyond), "--bootstrap", "127.0.0.1:9"],
        &["cannot be written"],
    );
    refused(&["get", KEY, "--bootstrap", "127.0.0.1:9"], &["-o FILE"]);
    refused(
        &["get-mutable", KEY, "--salt", "a", "--bootstrap", "127.0.0.1:9"],
        &["-o FILE"],
    );
    refused(&["key", "show", path(&none)], &[path(&none), "key new"]);
    refused(&["key", "new", "--out", path(&beyond)], &["cannot be written"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn words_that_are_none_of_ours() {
    refused(&["get", "xyz", "-o", "out"], &["64 hexadecimal digits"]);
    refused(&["get", &KEY[1..], "-o", "out"], &["64 hexadecimal digits"]);
    refused(
        &["get", &format!("{KEY}#{}", &KEY[1..]), "-o", "out"],
        &["behind the #", "64 hexadecimal digits"],
    );
    refused(&["put", "-", "--code", "10"], &["DATA+PARITY", "10+6"]);
    refused(&["put", "-", "--code", "10+129"], &["1 to 128 parity chunks"]);
    refused(&["closest", "no"], &["64 hexadecimal digits"]);
    refused(&["find-node", "no"], &["64 hexadecimal digits"]);
    refused(&["get-mutable", "no", "--salt", "a"], &["64 hexadecimal digits"]);
    refused(&["get", KEY, "--bootstrap", "host"], &["port is missing"]);
    refused(&["ping", "::1:9"], &["brackets"]);
    refused(&["put", "-", "--ttl", "soon"], &["24h"]);
    refused(&["put", "-", "--ttl", "0s"], &["second"]);
    refused(&["put", "-", "--quorum", "0"], &["1..=32"]);
    refused(
        &["put-mutable", "-", "--salt", &"s".repeat(65)],
        &["64 are the most"],
    );
    refused(
        &["provide", KEY, "--payload", &"p".repeat(1025)],
        &["1024 are the most"],
    );
    refused(
        &["put-mutable", "-", "--salt", "a"],
        &["must be signed", "key new"],
    );
    refused(&["delete-mutable", "--salt", "a"], &["must be signed"]);
    refused(&["provide", KEY], &["must be signed"]);
    refused(&["run", "--listen", "localhost"], &["socket address"]);
    refused(&["dance"], &["dance"]);
}

#[test]
fn nobody_to_begin_with() {
    refused(
        &["put", "-"],
        &["no bootstrap node is known", "--bootstrap", "KAD_BOOTSTRAP"],
    );
    refused(
        &["closest", KEY, "--bootstrap", "nowhere.invalid:1"],
        &["nowhere.invalid", "resolved"],
    );
}

#[test]
fn a_bootstrap_node_that_does_not_answer() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap().to_string();
    refused(
        &["closest", KEY, "--bootstrap", &at],
        &[&at, "nobody answered", "check that it runs"],
    );
}

#[test]
fn a_node_that_does_not_answer_a_ping_is_told_with_exit_status_1() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap().to_string();
    let sentence = run(&["ping", &at, "--json"]).failure(1);
    assert!(
        sentence.contains(&at) && sentence.contains("nobody answered"),
        "{sentence}"
    );
}

#[test]
fn another_network_and_another_node() {
    let daemon = Daemon::start::<&str>(&[]);
    let at = daemon.address.as_str();
    refused(
        &["closest", KEY, "--bootstrap", at, "--network", "other"],
        &[at, "another network"],
    );
    let wrong = format!("{KEY}@{at}");
    refused(
        &["closest", KEY, "--bootstrap", &wrong],
        &["another node", &daemon.id],
    );
}

#[test]
fn values_and_lives_that_the_network_does_not_allow() {
    let daemon = Daemon::start::<&str>(&[]);
    let at = format!("--bootstrap={}", daemon.address);
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("k");
    run(&["key", "new", "--out", path(&key)]).text();
    let long = run_with_input(&["put", "-", "--ttl", "8d", &at, "--json"], b"x").failure(2);
    assert!(long.contains("--ttl"), "{long}");
    let large = vec![0; 65_537];
    let own = [
        "put-mutable",
        "-",
        "--key",
        path(&key),
        "--salt",
        "a",
        &at,
        "--json",
    ];
    let sentence = run_with_input(&own, &large).failure(2);
    assert!(sentence.contains("65536"), "{sentence}");
}

#[test]
fn a_port_in_use() {
    let daemon = Daemon::start::<&str>(&[]);
    refused(
        &["run", "--listen", &daemon.address],
        &[&daemon.address, "in use", "--listen"],
    );
}

#[test]
fn a_data_directory_that_is_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    refused(
        &["run", "--listen", "127.0.0.1:0", "--data", path(&file)],
        &[path(&file), "--data"],
    );
    let beneath = file.join("data");
    refused(
        &["run", "--listen", "127.0.0.1:0", "--data", path(&beneath)],
        &[path(&beneath), "--data"],
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn a_data_directory_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::with_data(dir.path(), None);
    refused(
        &["run", "--listen", "127.0.0.1:0", "--data", path(dir.path())],
        &[path(dir.path()), "in use by another node"],
    );
    assert_eq!(daemon.stop(Signal::SIGTERM).0, Some(0));
}

#[test]
fn two_roles_at_once() {
    refused(&["run", "--role", "server", "--read-only"], &["--read-only"]);
}

#[test]
fn a_config_file_with_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("node.toml");
    for (text, says) in [
        ("read_only = true\nport = 4000\n", ["line 2", "listen"]),
        ("[intervals]\nrefresh = \"soon\"\n", ["line 2", "24h"]),
        ("[parameters]\nk = 0\n", ["parameters.k", "1 to 32"]),
        (
            "role = \"king\"\n",
            ["line 1", "\"auto\", \"server\" or \"client\""],
        ),
        (
            "role = \"server\"\nread_only = true\n",
            ["read_only = true is role = \"client\"", "only one"],
        ),
        ("table = \"one-hop\"\n", ["line 1", "\"kademlia\" or \"full\""]),
        (
            "[limits]\ntable_contacts = 0\n",
            ["limits.table_contacts", "1 to 49152"],
        ),
        ("listen = [\n", ["line", "node.toml"]),
    ] {
        fs::write(&config, text).unwrap();
        refused(&["run", "--config", path(&config)], &says);
        refused(&["closest", KEY, "--config", path(&config)], &says);
        assert_eq!(fs::read_to_string(&config).unwrap(), text);
    }
    refused(
        &["run", "--config", path(&dir.path().join("none"))],
        &["none", "cannot be used"],
    );
    fs::write(&config, "log = \"a=b=c\"\n").unwrap();
    refused(
        &["run", "--listen", "127.0.0.1:0", "--config", path(&config)],
        &["log"],
    );
}

#[test]
fn a_deny_list_with_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("denied");
    let run = ["run", "--listen", "127.0.0.1:0", "--deny", path(&list)];
    refused(&run, &[path(&list), "cannot be used"]);
    for (text, says) in [
        (
            format!(
                "{KEY}
# fine
{}
",
                &KEY[1..]
            ),
            "line 3 is no key",
        ),
        (format!("owner {KEY}\n"), "line 1 begins with 'owner'"),
        ("1".repeat((16 << 20) + 1), "fewer than 16777216"),
    ] {
        fs::write(&list, &text).unwrap();
        refused(&run, &[path(&list), says]);
        assert_eq!(fs::read_to_string(&list).unwrap(), text);
    }
    let config = dir.path().join("node.toml");
    fs::write(
        &config,
        format!(
            "deny = {:?}
",
            path(&list)
        ),
    )
    .unwrap();
    refused(
        &["run", "--listen", "127.0.0.1:0", "--config", path(&config)],
        &[path(&list)],
    );
}

#[test]
fn damaged_keys_are_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::with_data(dir.path(), None);
    assert_eq!(daemon.stop(Signal::SIGTERM).0, Some(0));
    let key = dir.path().join("key");
    for damage in [&b"not a key"[..], &[0xff; 65], b""] {
        fs::write(&key, damage).unwrap();
        refused(
            &["run", "--listen", "127.0.0.1:0", "--data", path(dir.path())],
            &[path(&key), "not a key file"],
        );
        refused(
            &["run", "--listen", "127.0.0.1:0", "--key", path(&key)],
            &[path(&key), "not a key file"],
        );
        refused(&["key", "show", path(&key)], &["not a key file"]);
        let own = [
            "delete-mutable",
            "--key",
            path(&key),
            "--salt",
            "a",
            "--bootstrap",
            "127.0.0.1:9",
        ];
        refused(&own, &["not a key file"]);
        assert_eq!(fs::read(&key).unwrap(), damage);
    }
}

#[test]
fn a_damaged_store_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::with_data(dir.path(), None);
    assert_eq!(daemon.stop(Signal::SIGTERM).0, Some(0));
    let store = dir.path().join("records.redb");
    let whole = fs::read(&store).unwrap();
    let other = b"somebody else's file, ".repeat(1000);
    for damage in [other.as_slice(), &whole[..whole.len() / 2], &[0; 100_000]] {
        fs::write(&store, damage).unwrap();
        let arguments = ["run", "--listen", "127.0.0.1:0", "--data", path(dir.path())];
        refused(&arguments, &["store", "--data"]);
        assert_eq!(fs::read(&store).unwrap(), damage, "it was changed");
    }
}
