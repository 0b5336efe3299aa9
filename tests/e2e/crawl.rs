//! `crawl`: who is there, who is dead, and the picture.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::Child;

use kad_core::{Contact, Key, Request, Response};
use kad_net::quic::{QuicAddress, QuicTransport};
use kad_net::{Reply as _, Transport as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::hostile::attackers::{LOOPBACK, codec, fair_answer, key, member, now};
use crate::process::{Daemon, kad_node, outcome, run};

/// Victims that are tried: the others may forget one while a busy machine is slow to ask about it.
const VICTIMS: usize = 4;

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn the_living_are_found_and_the_dead_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut living = Daemon::network(5);
    for attempt in 1..=VICTIMS {
        let door = living[0].address.clone();
        let mut victim = Daemon::start(&["--bootstrap", door.as_str()]);
        victim.logs("joined the network");
        living.iter_mut().for_each(|daemon| daemon.knows(&victim.id));
        victim.kill();
        let picture = dir.path().join("network.svg");
        let crawl = run(&[
            "crawl",
            "--json",
            &format!("--bootstrap={door}"),
            &format!("--plot={}", picture.display()),
        ])
        .json();

        assert_eq!(number(&crawl["reachable"]), 5, "{crawl}");
        // The command serves nobody, so it is no member.
        assert_eq!(number(&crawl["size"]), 5, "{crawl}");
        if crawl["dead"] == 0 && attempt < VICTIMS {
            continue;
        }
        assert_eq!(
            (number(&crawl["dead"]), number(&crawl["heard"])),
            (1, 6),
            "{crawl}"
        );
        assert_eq!((number(&crawl["unknown"]), number(&crawl["left_out"])), (0, 0));
        assert_eq!(
            (&crawl["complete"], &crawl["stopped"]),
            (&true.into(), &false.into())
        );
        check_figures(&crawl);
        let picture = fs::read_to_string(&picture).unwrap();
        assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
        assert!(picture.contains("5 nodes, 6 heard of, 1 dead"), "{picture}");
        assert!(picture.contains("round trips") && picture.contains("dead contacts by bucket"));
        break;
    }

    let table = run(&["crawl", "--bootstrap", &living[1].address]).text();
    assert!(
        table.contains("size of the network") && table.contains("round trips"),
        "{table}"
    );
    assert!(!table.contains('\u{1b}'), "{table}");

    let few = run(&[
        "crawl",
        "--json",
        "--max-nodes=2",
        "--bootstrap",
        &living[1].address,
    ])
    .json();
    assert_eq!(
        (number(&few["heard"]), &few["complete"]),
        (2, &false.into()),
        "{few}"
    );
    assert!(number(&few["left_out"]) > 0, "{few}");
}

/// What must hold of the other fields.
fn check_figures(crawl: &Value) {
    assert!(number(&crawl["requests"]) >= 6 && crawl["took_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(
        number(&crawl["unanswered"]),
        2,
        "the dead one was asked twice: {crawl}"
    );
    let latency = &crawl["latency_ms"];
    assert_eq!(number(&latency["nodes"]), 5);
    let quantiles = ["p10", "p50", "p90", "p99"].map(|name| latency[name].as_f64().unwrap());
    assert!(quantiles[0] > 0.0 && quantiles.is_sorted(), "{latency}");
    let histogram = crawl["latency_histogram"].as_array().unwrap();
    assert_eq!(histogram.iter().map(|bar| number(&bar["nodes"])).sum::<u64>(), 5);
    assert_eq!(number(&crawl["groups"]["private"]), 5);
    assert_eq!(number(&crawl["groups"]["wide"]["distinct"]), 0);

    // Each of the five may know the four others and the dead one.
    let buckets = crawl["buckets"].as_array().unwrap();
    let sum = |name: &str| buckets.iter().map(|bucket| number(&bucket[name])).sum::<u64>();
    let (known, dead) = (sum("known"), sum("dead"));
    assert!((1..=5).contains(&dead) && (dead..=25).contains(&known), "{crawl}");
    for bucket in buckets {
        let share = number(&bucket["dead"]) as f64 / number(&bucket["known"]) as f64;
        assert!(
            (bucket["dead_share"].as_f64().unwrap() - share).abs() < 1e-3,
            "{bucket}"
        );
    }
    let contacts: f64 = buckets
        .iter()
        .map(|bucket| bucket["contacts_mean"].as_f64().unwrap())
        .sum();
    assert!((contacts - known as f64 / 5.0).abs() < 0.01, "{crawl}");
}

#[test]
fn a_picture_that_cannot_be_drawn_is_refused_before_anybody_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody is at the bootstrap address, and that is not what is told.
    let refused = |path: &str, says: &str| {
        let sentence = run(&["crawl", "--json", "--bootstrap=127.0.0.1:9", "--plot", path]).failure(2);
        assert!(
            sentence.contains(says) && sentence.contains("--plot"),
            "{sentence}"
        );
    };
    refused(dir.path().to_str().unwrap(), "is a directory");
    refused(
        dir.path().join("none/network.svg").to_str().unwrap(),
        "cannot be written",
    );
    let sentence = run(&["crawl", "--parallel", "129", "--json"]).failure(2);
    assert!(sentence.contains("128 are the most"), "{sentence}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// A member that says to know nobody until somebody crawls; then it tells of nodes that are not there.
async fn tell_of_nobody(
    liar: &QuicTransport,
    silent: SocketAddr,
    told: tokio::sync::oneshot::Sender<()>,
) -> Option<()> {
    let asks = |bit: u32| {
        let mut limbs = liar.local().id.to_limbs();
        limbs[0] ^= 1 << (63 - bit);
        Request::FindNode {
            target: Key::from_limbs(limbs),
            card: false,
        }
    };
    let made_up = |n: u64| Contact::new(key(n).node_id(), QuicAddress::from(silent));
    let lies = Response::Nodes {
        closer: (500..520).map(made_up).collect(),
        card: None,
    };
    let mut told = Some(told);
    loop {
        let inbound = liar.accept().await?;
        let asked = codec()
            .decode_request(now(), inbound.frame.clone())
            .unwrap()
            .request;
        let answer = match asked == asks(0) {
            true => codec().encode_response(now(), &lies).unwrap(),
            false => fair_answer(&inbound.frame),
        };
        inbound.reply.send(answer).await;
        // The second question of a crawl shows that it has heard the answer to the first.
        if asked == asks(1) {
            told.take()?.send(()).ok()?;
        }
    }
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
}

#[tokio::test]
async fn what_was_found_until_an_interrupt_is_told() {
    let (liar, silent) = (member(41), UdpSocket::bind(LOOPBACK).unwrap());
    let door = format!("--bootstrap={}", liar.local().address);
    let (told, heard) = tokio::sync::oneshot::channel();
    // One at a time and each asked twice, the twenty that are not there keep it busy for many seconds.
    let child = kad_node()
        .args(["crawl", "--json", "--parallel=1", &door])
        .spawn()
        .unwrap();
    let ended = tokio::select! {
        _ = tell_of_nobody(&liar, silent.local_addr().unwrap(), told) => panic!("the liar stopped"),
        _ = heard => {
            interrupt(&child);
            tokio::task::spawn_blocking(move || outcome(child)).await.unwrap()
        }
    };
    assert_eq!(
        (ended.status.code(), ended.stderr.as_str()),
        (Some(130), ""),
        "{ended:?}"
    );
    let crawl: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(
        (&crawl["stopped"], &crawl["complete"]),
        (&true.into(), &false.into())
    );
    assert_eq!(
        (number(&crawl["heard"]), number(&crawl["reachable"])),
        (21, 1),
        "{crawl}"
    );
    assert!(number(&crawl["unknown"]) > 0, "{crawl}");
}

#[test]
fn an_interrupt_before_anybody_was_met_leaves_nothing_to_tell() {
    let silent = UdpSocket::bind(LOOPBACK).unwrap();
    let door = format!("--bootstrap={}", silent.local_addr().unwrap());
    let child = kad_node().args(["crawl", "--json", &door]).spawn().unwrap();
    // Its first datagram shows that it waits for signals.
    silent.recv_from(&mut [0; 2048]).unwrap();
    interrupt(&child);
    let ended = outcome(child);
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    assert!(ended.stdout.is_empty() && ended.stderr.is_empty(), "{ended:?}");
}
