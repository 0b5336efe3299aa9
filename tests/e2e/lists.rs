//! Many keys by one command: several names, or a list of them.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::process::{Daemon, kad_node, outcome, path, run, run_with_input, until};

/// The objects of a command that succeeded: one for each key, and the last.
fn objects(text: &str) -> (Vec<Value>, Value) {
    let mut all: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = all.pop().unwrap();
    (all, last)
}

/// Files of these sizes, each of bytes of its own.
fn files(dir: &Path, sizes: &[usize]) -> Vec<String> {
    let write = |(n, size): (usize, &usize)| {
        let file = dir.join(format!("file {n}"));
        let mut bytes = vec![n as u8; *size];
        bytes
            .iter_mut()
            .zip(0_u32..)
            .for_each(|(byte, at)| *byte ^= (at >> 8) as u8);
        fs::write(&file, bytes).unwrap();
        path(&file).to_owned()
    };
    sizes.iter().enumerate().map(write).collect()
}

#[test]
fn what_put_prints_of_many_files_is_the_list_that_get_and_provide_read() {
    let dir = tempfile::tempdir().unwrap();
    let daemons = Daemon::network(3);
    let at = format!("--bootstrap={}", daemons[0].address);
    let names = files(dir.path(), &[0, 1, 5000, 61_440, 61_441, 200_000]);
    let arguments: Vec<&str> = ["put", &at, "--quorum", "3"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    let printed = run(&arguments).text();
    let mut stored: Vec<&str> = printed
        .lines()
        .map(|line| line.split_once("  ").unwrap().1)
        .collect();
    stored.sort_unstable();
    assert_eq!(stored, names);

    let out = dir.path().join("out");
    let get = ["get", &at, "--list", "-", "-o", path(&out)];
    let got = run_with_input(&get, printed.as_bytes()).text();
    assert_eq!(got.lines().count(), 6);
    for name in &names {
        let copy = out.join(Path::new(name).strip_prefix("/").unwrap());
        assert!(fs::read(&copy).unwrap() == fs::read(name).unwrap(), "{name}");
    }

    let key = dir.path().join("key");
    run(&["key", "new", "--out", path(&key)]).text();
    let provide = ["provide", &at, "--key", path(&key), "--list", "-"];
    let told = run_with_input(&provide, printed.as_bytes()).text();
    let first = printed.lines().next().unwrap().split_once("  ").unwrap().0;
    assert!(told.lines().count() == 6 && told.lines().any(|line| line == first));
    run(&["providers", first, &at]).text();
    let withdrawn = run_with_input(
        &[&provide[..], &["--withdraw", "--json"]].concat(),
        printed.as_bytes(),
    );
    let (each, last) = objects(&withdrawn.text());
    assert_eq!(
        (each.len(), &last["keys"], &last["withdrawn"]),
        (6, &6.into(), &true.into())
    );
    run(&["providers", first, &at]).failure(1);
}

#[test]
fn encrypted_files_of_a_list_come_back_by_the_list_and_programs_get_an_object_for_each() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start::<&str>(&[]);
    let at = format!("--bootstrap={}", daemon.address);
    let names = files(dir.path(), &[10, 100_000]);
    let list = dir.path().join("list");
    fs::write(&list, names.join("\n")).unwrap();
    let put = [
        "put",
        &at,
        "--encrypt",
        "--code",
        "2+1",
        "--json",
        "--list",
        path(&list),
    ];
    let (each, last) = objects(&run(&put).text());
    assert_eq!(last["files"], 2);
    let mut lines = String::new();
    for (object, name) in each.iter().zip(&names) {
        assert_eq!(
            (object["file"].as_str(), &object["copies"]),
            (Some(name.as_str()), &1.into())
        );
        let reference = object["reference"].as_str().unwrap();
        assert_eq!(
            reference.split_once('#').map(|(key, _)| key),
            object["key"].as_str()
        );
        lines += &format!("{reference}\n");
    }
    let out = dir.path().join("out");
    let get = ["get", &at, "--json", "--list", "-", "-o", path(&out)];
    let (got, _) = objects(&run_with_input(&get, lines.as_bytes()).text());
    for object in got {
        let place = each
            .iter()
            .position(|stored| stored["key"] == object["key"])
            .unwrap();
        let output = object["output"].as_str().unwrap();
        assert_eq!(Path::new(output), out.join(object["key"].as_str().unwrap()));
        assert!(fs::read(output).unwrap() == fs::read(&names[place]).unwrap());
    }
}

#[test]
fn one_that_fails_stops_no_other_and_is_told_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start::<&str>(&[]);
    let at = format!("--bootstrap={}", daemon.address);
    let names = files(dir.path(), &[10, 20]);
    let printed = run(&["put", &at, &names[0], &names[1]]).text();
    let missing = "ab".repeat(32);
    let out = dir.path().join("out");
    let list = format!("{missing} gone\n{printed}");
    for json in [false, true] {
        let mut get = vec!["get", &at, "--list", "-", "-o", path(&out)];
        get.extend(json.then_some("--json"));
        let got = run_with_input(&get, list.as_bytes());
        let (stdout, stderr) = (String::from_utf8(got.stdout.clone()).unwrap(), got.stderr.clone());
        assert_eq!(got.status.code(), Some(1));
        assert!(
            stderr.contains("error: 1 of 3 files could not be fetched"),
            "{stderr}"
        );
        if json {
            let (each, last) = objects(&stdout);
            let failed: Vec<_> = each.iter().filter(|one| !one["error"].is_null()).collect();
            assert!(failed.len() == 1 && failed[0]["key"] == missing.as_str() && each.len() == 3);
            assert!(last["error"].is_string());
        } else {
            assert!(
                stderr
                    .lines()
                    .any(|line| line.starts_with(&missing) && line.contains("nobody has"))
            );
            assert_eq!(stdout.lines().count(), 2);
        }
    }
    assert!(!out.join("gone").exists());
    let too_few = run(&["put", &at, "--quorum", "2", &names[0], &names[1]]);
    assert!(too_few.stderr.contains("1 of the 2 nodes") && too_few.stderr.contains("2 of 2 files"));
    assert_eq!((too_few.status.code(), too_few.stdout.len()), (Some(1), 0));
}

#[test]
fn a_mistake_in_a_list_is_told_with_its_line_and_nothing_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let at = "--bootstrap=127.0.0.1:9";
    let key_file = dir.path().join("key");
    run(&["key", "new", "--out", path(&key_file)]).text();
    let names = files(dir.path(), &[10]);
    let key = "ab".repeat(32);
    let out = dir.path().join("out");
    let get = ["get", at, "--list", "-", "-o", path(&out)];
    let provide = ["provide", at, "--key", path(&key_file), "--list", "-"];
    for (arguments, list, says) in [
        (
            &["put", at, "--list", "-"][..],
            format!("{}\n\nnowhere\n", names[0]),
            "line 3",
        ),
        (&get, format!("{key}\nnonsense\n"), "line 2"),
        (&get, format!("{key} ../up\n"), "without .."),
        (&get, format!("{key} a\n{key} a\n"), "same place as line 1"),
        (&provide, format!("{key}\n\n{key}0\n"), "line 3"),
        (&provide, "\n".to_owned(), "no line"),
    ] {
        let sentence = run_with_input(arguments, list.as_bytes()).failure(2);
        assert!(sentence.contains(says), "{sentence}");
    }
    assert!(!out.exists());
    let sentence = run(&["put", at, &names[0], "-"]).failure(2);
    assert!(sentence.contains("alone"), "{sentence}");
    for usage in [&["put", at][..], &["get", at, "--list", "-"], &["provide", at]] {
        assert_eq!(run(usage).status.code(), Some(2));
    }
}

#[test]
fn who_stays_announces_again_before_the_end_and_withdraws_when_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start::<&str>(&[]);
    let at = format!("--bootstrap={}", daemon.address);
    let key_file = dir.path().join("key");
    run(&["key", "new", "--out", path(&key_file)]).text();
    let keys = ["ab".repeat(32), "cd".repeat(32)];
    let providers = |key: &str| run(&["providers", key, &at, "--json"]);
    let ends = |key: &str| {
        let found = providers(key);
        let is_there = found.status.success();
        is_there.then(|| found.json()["providers"][0]["expires_unix"].as_u64().unwrap())
    };
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let stay = [
            "provide",
            &keys[0],
            &keys[1],
            &at,
            "--key",
            path(&key_file),
            "--ttl",
            "6s",
            "--stay",
            "--json",
        ];
        let child = kad_node().args(stay).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        until("it is announced", || ends(&keys[0]).is_some());
        let first = ends(&keys[0]);
        until("it is announced again", || ends(&keys[0]) > first);
        kill(pid, signal).unwrap();
        let ended = outcome(child);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let (each, last) = objects(&ended.text());
        assert_eq!(
            (each.len(), &last["keys"], &last["withdrawn"]),
            (2, &2.into(), &true.into())
        );
        for key in &keys {
            providers(key).failure(1);
        }
    }
}
