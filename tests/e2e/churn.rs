#![allow(clippy::print_stdout, reason = "the report is told with --nocapture")]
//! A network of thirty daemons that are killed and started anew for as long as one likes, and what is left of what was
//! stored: all of it.
//!
//! Time is compressed: an hour of a daemon's intervals is two seconds, so ten minutes are 300 hours of repair, and a
//! day between republications is a minute. Half of all sessions end sooner than that. `KAD_CHURN` is for how many
//! seconds nodes come and go, 60 unless given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::join_all;
use kad_core::{Key, Keypair, Parameters};
use kad_net::quic::QuicAddress;
use kad_node::file::{FetchOptions, FileOptions};
use kad_node::{Node, Peer};
use serde_json::{Value, json};

use crate::check::{History, Promise, check, tally};
use crate::client::Client;
use crate::process::{DEADLINE, Daemon};

const DAEMONS: usize = 30;
/// Files that are there before the first node is killed; one in ten has several chunks.
const FILES: u64 = 300;
const K: u16 = 8;
/// Copies of which somebody must have said that they are on the disk: three quarters of the holders.
const QUORUM: usize = 6;
/// Records that are written again and again while nodes come and go.
const OWNERS: u8 = 5;
/// Seconds between two republications, and the median of the sessions.
const REPUBLISH: f64 = 60.0;
/// Seconds for which a node that was killed stays away.
const AWAY: std::ops::Range<f64> = 3.0..15.0;

const CONFIG: &str = "\
[parameters]
k = 8
[intervals]
refresh = \"1s\"
repair = \"2s\"
first_repair = \"1s\"
look_after = \"8s\"
republish = \"60s\"
";

/// SplitMix64: the same deaths in every run.
struct Dice(u64);

impl Dice {
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A session: exponential, half of them shorter than a republication.
    fn session(&mut self) -> Duration {
        Duration::from_secs_f64(-(1.0 - self.share()).log2() * REPUBLISH)
    }

    fn absence(&mut self) -> Duration {
        Duration::from_secs_f64(AWAY.start + self.share() * (AWAY.end - AWAY.start))
    }
}

/// One place for a daemon, with its disk.
struct Place {
    disk: PathBuf,
    daemon: Option<Daemon>,
    /// When it is killed, or started.
    next: Instant,
    /// What it last told of repair in this life.
    told: u64,
}

/// All daemons.
struct Network {
    config: PathBuf,
    places: Vec<Place>,
    dice: Dice,
    kills: usize,
    short: usize,
    /// Bytes of repair that daemons have told of before they were killed.
    repaired: u64,
}

impl Network {
    fn new(directory: &Path) -> Self {
        let config = directory.join("kad-node.toml");
        std::fs::write(&config, CONFIG).unwrap();
        let mut network = Self {
            config,
            places: Vec::new(),
            dice: Dice(7),
            kills: 0,
            short: 0,
            repaired: 0,
        };
        for number in 0..DAEMONS {
            let disk = directory.join(number.to_string());
            let mut daemon = network.start(&disk);
            if number > 0 {
                daemon.logs("joined the network");
            }
            network.places.push(Place {
                disk,
                daemon: Some(daemon),
                next: Instant::now(),
                told: 0,
            });
        }
        network
    }

    fn start(&self, disk: &Path) -> Daemon {
        let mut arguments = vec![
            format!("--config={}", self.config.display()),
            format!("--data={}", disk.display()),
            "--report=1s".to_owned(),
        ];
        arguments.extend(
            self.doors()
                .take(3)
                .map(|address| format!("--bootstrap={address}")),
        );
        Daemon::start(&arguments)
    }

    /// Where daemons that run can be reached.
    fn doors(&self) -> impl Iterator<Item = String> + '_ {
        let running = self.places.iter().filter_map(|place| place.daemon.as_ref());
        running.map(|daemon| daemon.address.clone())
    }

    fn schedule(&mut self) {
        let now = Instant::now();
        for place in &mut self.places {
            place.next = now + self.dice.session();
        }
    }

    /// Kills and starts whoever is due.
    fn turn(&mut self) {
        for number in 0..self.places.len() {
            if self.places[number].next > Instant::now() {
                continue;
            }
            if self.places[number].daemon.is_some() {
                self.note_repair(number);
                let place = &mut self.places[number];
                place.daemon.take().unwrap().kill();
                place.next = Instant::now() + self.dice.absence();
                self.repaired += std::mem::take(&mut place.told);
                self.kills += 1;
            } else {
                let daemon = self.start(&self.places[number].disk);
                let session = self.dice.session();
                self.short += usize::from(session.as_secs_f64() < REPUBLISH);
                let place = &mut self.places[number];
                place.daemon = Some(daemon);
                place.next = Instant::now() + session;
            }
        }
    }

    fn note_repair(&mut self, number: usize) {
        let place = &mut self.places[number];
        if let Some(report) = place.daemon.as_mut().and_then(Daemon::last_report) {
            place.told = report["repair_bytes"].as_u64().unwrap();
        }
    }

    /// Bytes of repair that all have told of.
    fn repair_bytes(&mut self) -> u64 {
        (0..self.places.len()).for_each(|number| self.note_repair(number));
        self.repaired + self.places.iter().map(|place| place.told).sum::<u64>()
    }

    /// Bytes of records that lie on the disks of those that run, as their next reports tell.
    fn stored_bytes(&mut self) -> u64 {
        let running = self.places.iter_mut().filter_map(|place| place.daemon.as_mut());
        let bytes = running.map(|daemon| daemon.next_report()["record_bytes"].as_u64().unwrap());
        bytes.sum()
    }
}

async fn client(doors: Vec<String>) -> Node {
    let parameters = Parameters {
        k: K,
        ..Parameters::default()
    };
    let mut builder = Node::builder().parameters(parameters).read_only(true);
    for door in doors {
        builder = builder.bootstrap(door.parse::<Peer>().unwrap());
    }
    let node = builder.spawn().await.unwrap();
    tokio::time::timeout(DEADLINE, node.joined())
        .await
        .unwrap()
        .unwrap();
    node
}

/// The bytes of a file: a few hundred to a few thousand, of every tenth several chunks of 64 KiB.
fn content(number: u64) -> Vec<u8> {
    let length = match number % 10 {
        0 => 70_000 + 900 * number as usize,
        n => 100 + 700 * n as usize + number as usize,
    };
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&number.to_be_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Puts a file; its key if enough have acknowledged all of it.
async fn put(node: &Node, number: u64) -> Option<Key> {
    let options = FileOptions::default().quorum(QUORUM);
    let stored = node.put_file(&content(number)[..], options, |_| ()).await;
    stored.ok().map(|stored| stored.key)
}

async fn reads_back(node: &Node, number: u64, key: Key) -> bool {
    let mut bytes = Vec::new();
    let got = node
        .get_file(key, &mut bytes, FetchOptions::default(), |_| ())
        .await;
    got.is_ok() && bytes == content(number)
}

/// A record that one writer writes and others read.
struct Story {
    owner: Keypair,
    history: Arc<History>,
}

impl Story {
    fn new(number: u8) -> Self {
        Self {
            owner: Keypair::from_secret(&[number; 32]),
            history: Arc::default(),
        }
    }

    fn client(&self, number: usize, node: &Node) -> Client<QuicAddress> {
        Client::new(number, node, &self.owner, &self.history)
    }

    /// Reads by everybody until all find the same, and what cannot be.
    async fn ending(&self, nodes: &[Node]) {
        let clients: Vec<_> = (10..)
            .zip(nodes)
            .map(|(number, node)| self.client(number, node))
            .collect();
        let deadline = Instant::now() + DEADLINE;
        let rest = loop {
            let rest = self.history.now();
            let found = join_all(clients.iter().map(Client::read)).await;
            let found: Result<Vec<_>, _> = found.into_iter().collect();
            match found {
                Ok(found) if found.iter().all(|one| *one == found[0]) => break rest,
                found => assert!(Instant::now() < deadline, "readers do not agree: {found:?}"),
            }
        };
        let operations = self.history.operations();
        assert_eq!(
            check(&operations, Promise::Always, rest),
            [],
            "{:?}",
            tally(&operations)
        );
        assert!(
            tally(&operations).contains_key("acknowledged"),
            "nothing was written"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "thirty daemons want the machine for themselves: cargo test -p kad-node --test e2e churn -- --ignored"]
async fn what_was_acknowledged_outlives_daemons_that_are_killed_and_started_anew() {
    let seconds =
        std::env::var("KAD_CHURN").map_or(60, |seconds| seconds.parse().expect("KAD_CHURN is in seconds"));
    let directory = tempfile::tempdir().unwrap();
    let mut network = Network::new(directory.path());
    let (writer, reader) = (
        client(network.doors().collect()).await,
        client(network.doors().collect()).await,
    );
    let mut files = BTreeMap::new();
    for number in 0..FILES {
        files.insert(number, put(&writer, number).await.expect("nobody was killed yet"));
    }
    let before = network.repair_bytes();
    let stored = network.stored_bytes();

    network.schedule();
    let over = Arc::new(AtomicBool::new(false));
    let churning = thread::spawn({
        let over = over.clone();
        move || {
            while !over.load(Ordering::Relaxed) {
                network.turn();
                // The pace of the deaths, not a wait for anything.
                thread::sleep(Duration::from_millis(50));
            }
            network
        }
    });
    let stories: Vec<Story> = (1..=OWNERS).map(Story::new).collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut round, mut tried) = (0, FILES);
    while Instant::now() < end {
        round += 1;
        // Every tenth version deletes.
        let write = async |story: &Story| match round % 10 {
            0 => story.client(0, &writer).delete(round).await,
            _ => {
                story
                    .client(0, &writer)
                    .write(round, &format!("version {round}"))
                    .await
            }
        };
        let writes = stories.iter().map(write);
        let reads = stories
            .iter()
            .map(async |story| story.client(1, &reader).read().await);
        let (_, _, key) = futures::join!(join_all(writes), join_all(reads), put(&writer, tried));
        files.extend(key.map(|key| (tried, key)));
        tried += 1;
        // Writers that go faster than one version a second are refused.
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    over.store(true, Ordering::Relaxed);
    let mut network = tokio::task::spawn_blocking(move || churning.join().unwrap())
        .await
        .unwrap();

    // Those that are down stay down. Newcomers read everything.
    let doors = |network: &Network| network.doors().collect::<Vec<_>>();
    let nodes = [
        client(doors(&network)).await,
        client(doors(&network)).await,
        client(doors(&network)).await,
    ];
    let (mut missing, deadline) = (files.clone(), Instant::now() + DEADLINE);
    let mut late = 0;
    while !missing.is_empty() {
        let mut still = BTreeMap::new();
        for (&number, &key) in &missing {
            if !reads_back(&nodes[0], number, key).await {
                still.insert(number, key);
            }
        }
        late = late.max(still.len());
        assert!(
            still.is_empty() || Instant::now() < deadline,
            "{} files are lost: {still:?}",
            still.len()
        );
        missing = still;
    }
    for story in &stories {
        story.ending(&nodes).await;
    }
    let repaired = network.repair_bytes() - before;
    let told: BTreeMap<_, _> = stories
        .iter()
        .map(|story| tally(&story.history.operations()))
        .fold(BTreeMap::new(), |mut all, one| {
            one.into_iter()
                .for_each(|(what, count)| *all.entry(what).or_insert(0) += count);
            all
        });
    let report: Value = json!({
        "seconds": seconds,
        "kills": network.kills,
        "sessions_shorter_than_republish": network.short,
        "files": files.len(),
        "files_not_acknowledged": tried as usize - files.len(),
        "files_read_late": late,
        "mutable": told,
        "stored_bytes": stored,
        "repair_bytes": repaired,
        "repair_bytes_per_stored_byte": repaired as f64 / stored as f64,
    });
    println!("{report}");
    assert!(network.kills > 0, "nobody was killed in {seconds} seconds");
}
