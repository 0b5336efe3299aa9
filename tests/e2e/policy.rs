//! What a daemon does not want: the operator's list, and a node that stores nothing for others.

use std::fs;

use nix::sys::signal::Signal;

use crate::process::{Daemon, run, run_with_input};

/// Puts a value through a daemon and says under which key.
fn put(daemon: &Daemon, value: &[u8]) -> String {
    let put = run_with_input(&["put", "--bootstrap", &daemon.address, "--json", "-"], value).json();
    put["key"].as_str().unwrap().to_owned()
}

fn is_served(daemon: &Daemon, key: &str) -> bool {
    let found = run(&[
        "get",
        key,
        "--bootstrap",
        &daemon.address,
        "--json",
        "-o",
        "/dev/null",
    ]);
    found.status.success()
}

#[test]
fn what_the_list_denies_is_removed_refused_and_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let (list, data) = (dir.path().join("denied"), dir.path().join("data"));
    let owner = dir.path().join("owner");
    let shown = run(&["key", "new", "--out", owner.to_str().unwrap(), "--json"]).json();
    let publisher = shown["public_key"].as_str().unwrap();
    fs::write(&list, "# nobody yet\n").unwrap();
    let arguments = |list: &std::path::Path| {
        vec![
            format!("--data={}", data.display()),
            format!("--deny={}", list.display()),
        ]
    };
    let mut daemon = Daemon::start(&arguments(&list));
    let (unwanted, wanted) = (put(&daemon, b"unwanted"), put(&daemon, b"wanted"));
    let bootstrap = daemon.address.clone();
    let write = |value: &[u8], bootstrap: &str| {
        let key = owner.to_str().unwrap();
        let arguments = [
            "put-mutable",
            "-",
            "--key",
            key,
            "--salt",
            "s",
            "--bootstrap",
            bootstrap,
            "--json",
        ];
        run_with_input(&arguments, value)
    };
    let read = |bootstrap: &str| {
        let arguments = [
            "get-mutable",
            publisher,
            "--salt",
            "s",
            "--bootstrap",
            bootstrap,
            "--json",
        ];
        run(&[&arguments[..], &["-o", "/dev/null"]].concat())
            .status
            .success()
    };
    assert_eq!(write(b"hello", &bootstrap).json()["copies"], 1);
    assert!(is_served(&daemon, &unwanted) && is_served(&daemon, &wanted) && read(&bootstrap));

    // A list that cannot be used changes nothing.
    fs::write(&list, format!("{unwanted}\nsomebody {publisher}\n")).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.logs("line 2 begins with 'somebody'");
    daemon.logs("the list from before stays");
    assert!(is_served(&daemon, &unwanted));

    fs::write(&list, format!("{unwanted} # by order\npublisher {publisher}\n")).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.logs("the deny-list was read again entries=2 removed=2");
    assert!(!is_served(&daemon, &unwanted) && !read(&bootstrap) && is_served(&daemon, &wanted));
    let refused = run_with_input(&["put", "--bootstrap", &bootstrap, "--json", "-"], b"unwanted");
    assert!(refused.failure(1).contains("acknowledged"));
    assert!(
        write(b"hello again", &bootstrap)
            .failure(1)
            .contains("acknowledged")
    );
    let (code, last) = daemon.stop(Signal::SIGTERM);
    assert_eq!((code, last["records"].as_u64()), (Some(0), Some(1)));
    // A put is tried several times.
    assert!(last["refused"]["denied"].as_u64() >= Some(2), "{last}");

    // Without the list both may come back; with it they are removed before anybody is served.
    let nothing = dir.path().join("nothing");
    fs::write(&nothing, "").unwrap();
    let daemon = Daemon::start(&arguments(&nothing));
    assert_eq!(put(&daemon, b"unwanted"), unwanted);
    assert!(is_served(&daemon, &unwanted));
    assert_eq!(daemon.stop(Signal::SIGTERM).1["records"], 2);
    let daemon = Daemon::start(&arguments(&list));
    assert!(!is_served(&daemon, &unwanted) && is_served(&daemon, &wanted));
    assert_eq!(daemon.stop(Signal::SIGTERM).1["records"], 1);
}

#[test]
fn a_daemon_that_stores_nothing_for_others_routes_to_those_that_do() {
    let mut storing = Daemon::start::<&str>(&[]);
    let mut idle = Daemon::start(&["--store-nothing", "--bootstrap", &storing.address]);
    idle.logs("joined the network");
    storing.knows(&idle.id);
    let put = run_with_input(&["put", "--bootstrap", &idle.address, "--json", "-"], b"x").json();
    assert_eq!(put["copies"], 1, "{put}");
    assert_eq!(put["stored_at"][0]["id"], storing.id.as_str());
    let key = put["key"].as_str().unwrap();
    assert!(is_served(&idle, key), "it leads to whoever has it");
    let last = idle.stop(Signal::SIGTERM).1;
    assert_eq!(last["records"], 0);
    assert!(last["refused"]["stores_nothing"].as_u64() > Some(0), "{last}");
}
