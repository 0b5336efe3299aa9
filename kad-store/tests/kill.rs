//! `kill -9` at any moment: what was acknowledged is there, and nothing is there by half.
//!
//! The test starts itself as a child that writes, flushes and reports, kills it after a number of reports that differs
//! from round to round, and looks at what it left. The child is never waited for at a certain place, so the kill meets
//! it wherever it happens to be: in a put, in a commit, between two.
#![cfg(all(unix, feature = "redb"))]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kad_core::{Duration, NetworkId, Parameters, Record, Rules, Source, UnixTime};
use kad_store::{Limits, Put, RecordReader as _, RecordStore as _, RedbConfig, RedbStore, Scan};

const FOLDER: &str = "KAD_STORE_KILL_FOLDER";
const NAME: &str = "what_was_acknowledged_survives_kill_nine";
const ROUNDS: u64 = 12;
const BATCH: u64 = 5;
/// The child ends by itself after so many batches, should nobody kill it.
const MOST_BATCHES: u64 = 100_000;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn open(folder: &Path) -> RedbStore {
    let config = RedbConfig {
        limits: Limits::default(),
        cache_bytes: 1 << 20,
        ..RedbConfig::default()
    };
    RedbStore::open(folder.join("records.redb"), &config).unwrap()
}

/// The `i`th record of a batch; their sizes go from none to many pages.
fn record(batch: u64, i: u64) -> Record {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("kill", &parameters), &parameters);
    let mut value = vec![0; (batch % 7 * i * 1000) as usize];
    value.extend(batch.to_be_bytes());
    value.extend(i.to_be_bytes());
    Record::immutable(&value, NOW + Duration::from_secs(3600), &rules, NOW).unwrap()
}

fn batch_of(value: &[u8]) -> u64 {
    u64::from_be_bytes(value[value.len() - 16..value.len() - 8].try_into().unwrap())
}

/// Batches that are whole in the store; panics if one is there by half.
fn whole_batches(store: &RedbStore) -> Vec<u64> {
    let (reader, mut scan) = (store.reader(), Scan::all(100));
    let mut found: BTreeMap<u64, u64> = BTreeMap::new();
    loop {
        let page = reader.scan(&scan).unwrap();
        for stored in &page.records {
            *found.entry(batch_of(stored.raw.value())).or_default() += 1;
        }
        match page.next {
            Some(next) => scan = scan.after(next),
            None => break,
        }
    }
    assert!(
        found.values().all(|&records| records == BATCH),
        "a batch is there by half: {found:?}"
    );
    assert_eq!(
        store.usage().records,
        BATCH * found.len() as u64,
        "usage counts what is there"
    );
    found.into_keys().collect()
}

fn write_until_killed(folder: &Path) {
    let mut store = open(folder);
    let first = whole_batches(&store).last().map_or(0, |last| last + 1);
    for batch in first..first + MOST_BATCHES {
        for i in 0..BATCH {
            let record = record(batch, i);
            store
                .put(Put {
                    record: &record,
                    expected: None,
                    due: NOW,
                    own: false,
                    source: Source::UNKNOWN,
                    sender: None,
                })
                .unwrap();
        }
        store.flush().unwrap();
        // Written to the pipe in one piece; when the parent is gone this fails and so ends the child.
        std::io::stdout()
            .write_all(format!("flushed {batch}\n").as_bytes())
            .unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_kill_nine() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return write_until_killed(&PathBuf::from(folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut heard = 0;
        // The harness prints lines of its own, also in front of ours.
        let mut hear = |line: String| {
            let (_, batch) = line.split_once("flushed ")?;
            acknowledged.push(batch.trim().parse::<u64>().unwrap());
            Some(())
        };
        let enough = round * 5 % 23;
        while heard < enough {
            let line = lines.next().expect("the child ended by itself").unwrap();
            heard += u64::from(hear(line).is_some());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts as well.
        lines
            .map_while(Result::ok)
            .filter(|line| line.ends_with(|c: char| c.is_ascii_digit()))
            .for_each(|line| {
                hear(line);
            });
        let there = whole_batches(&open(folder.path()));
        let lost: Vec<_> = acknowledged
            .iter()
            .filter(|batch| there.binary_search(batch).is_err())
            .collect();
        assert!(lost.is_empty(), "round {round}: acknowledged and lost: {lost:?}");
        let surplus = there.len() - acknowledged.len();
        // A kill between commit and report leaves one batch more, in each round.
        assert!(
            surplus <= round as usize + 1,
            "round {round}: {surplus} batches came from nowhere"
        );
    }
    assert!(
        acknowledged.len() > 100,
        "{} batches were acknowledged",
        acknowledged.len()
    );
}
