//! A machine whose contacts answer after five milliseconds, or after longer, or not at all.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::*;
use crate::{
    Command, Config, Duration, Effort, Event, Input, Instant, Key, Keypair, MutableVersion, NetworkId,
    Outcome, Parameters, QueryId, Record, Request, Response, Rules, StoreReply, UnixTime, Verdict,
};

const CONTACTS: u64 = 40;
/// Results of a lookup here: with few it is plain who the holders are.
const K: usize = 8;
const ROUND_TRIP: Duration = Duration::from_millis(5);
const START: UnixTime = UnixTime::from_secs(1_000_000);

/// The machine and what surrounds it.
struct Bench {
    machine: Kademlia<u32>,
    now: Now,
    out: Outbox<u32>,
    /// Answers under way, by the time at which they come.
    coming: BTreeMap<(Instant, u64), Input<u32>>,
    /// Whose answers never come, and whose STOREs take so long.
    dead: BTreeSet<NodeId>,
    disks: BTreeMap<NodeId, Duration>,
    pings: Vec<NodeId>,
    ended: BTreeMap<QueryId, (Outcome<u32>, Effort)>,
    asked: u64,
}

impl Bench {
    /// Knows everybody, and everybody's round trip.
    fn new() -> Self {
        let config = Config {
            k: K,
            ..Config::default()
        };
        let now = Now {
            monotonic: Instant::ZERO,
            unix: START,
        };
        let mut bench = Self {
            machine: Kademlia::new(NodeId::default(), Arc::new(config), 1, now),
            now,
            out: Outbox::new(),
            coming: BTreeMap::new(),
            dead: BTreeSet::new(),
            disks: BTreeMap::new(),
            pings: Vec::new(),
            ended: BTreeMap::new(),
            asked: 0,
        };
        for _ in 0..10 {
            for n in 1..=CONTACTS {
                bench.run(Command::Ping { contact: contact(n) });
            }
        }
        assert_eq!(bench.machine.table().len() as u64, CONTACTS);
        bench.pings.clear();
        bench
    }

    /// What came of a command.
    fn run(&mut self, command: Command<u32>) -> (Outcome<u32>, Effort) {
        self.asked += 1;
        let query = QueryId(self.asked);
        self.feed(Input::Command { query, command });
        loop {
            if let Some(ended) = self.ended.remove(&query) {
                return ended;
            }
            let timer = self.machine.poll_timeout().expect("there is always upkeep");
            match self.coming.first_key_value() {
                Some((&(at, _), _)) if at <= timer => {
                    let (_, input) = self.coming.pop_first().expect("it was there");
                    self.now.monotonic = at.max(self.now.monotonic);
                    self.feed(input);
                }
                _ => {
                    self.now.monotonic = timer;
                    self.feed(Input::Timeout);
                }
            }
        }
    }

    fn feed(&mut self, input: Input<u32>) {
        self.machine.handle(self.now, input, &mut self.out);
        while let Some(output) = self.out.pop() {
            match output {
                Output::Request { id, to, request } => {
                    if request == Request::Ping {
                        self.pings.push(to.id);
                    }
                    if self.dead.contains(&to.id) {
                        continue;
                    }
                    let disk = self.disks.get(&to.id).copied().unwrap_or_default();
                    let (took, response) = match request {
                        Request::Ping => (
                            ROUND_TRIP,
                            Response::Pong {
                                unix: self.now.unix,
                                observed: 0,
                            },
                        ),
                        Request::Store { .. } => (
                            ROUND_TRIP + disk,
                            Response::Stored {
                                verdicts: [Verdict::Stored].into(),
                                closer: Vec::new(),
                            },
                        ),
                        _ => (
                            ROUND_TRIP,
                            Response::Nodes {
                                closer: Vec::new(),
                                card: None,
                            },
                        ),
                    };
                    let rtt = Some(ROUND_TRIP);
                    let input = Input::Response { id, response, rtt };
                    self.coming.insert((self.now.monotonic + took, id.0), input);
                }
                Output::Event(Event::QueryFinished {
                    query,
                    outcome,
                    effort,
                }) => {
                    self.ended.insert(query, (outcome, effort));
                }
                Output::Store { id, .. } => {
                    let reply = StoreReply::Failed;
                    self.coming
                        .insert((self.now.monotonic, id.0), Input::Store { id, reply });
                }
                _ => {}
            }
        }
    }

    /// Stores a value at all of the nearest; who holds it, and how long that took.
    fn put(&mut self, value: &[u8]) -> (Vec<NodeId>, Duration) {
        self.store(record(value), usize::MAX)
    }

    /// The same with any record, until so many of the nearest hold it.
    fn store(&mut self, record: Record, enough: usize) -> (Vec<NodeId>, Duration) {
        let (outcome, effort) = self.run(Command::Store {
            record,
            expected: None,
            keep: false,
            enough,
        });
        let Outcome::Stored { holders, .. } = outcome else {
            panic!("{outcome:?}")
        };
        (holders.iter().map(|holder| holder.id).collect(), effort.took)
    }
}

fn contact(n: u64) -> Contact<u32> {
    Contact::new(NodeId::from_limbs([n << 58, 0, 0, 1]), n as u32)
}

fn rules() -> Rules {
    let parameters = Parameters::default();
    Rules::new(NetworkId::new("test", &parameters), &parameters)
}

const EXPIRY: UnixTime = UnixTime::from_secs(1_086_400);

fn record(value: &[u8]) -> Record {
    Record::immutable(value, EXPIRY, &rules(), START).expect("a small value")
}

fn version(value: &[u8]) -> Record {
    let version = MutableVersion {
        salt: b"",
        seq: 1,
        issued: START,
        expiry: EXPIRY,
        value: Some(value),
    };
    let owner = Keypair::from_secret(&[7; 32]);
    Record::mutable(&owner, &version, &rules(), START).expect("a small value")
}

/// The contacts nearest to a point.
fn nearest(key: Key) -> Vec<NodeId> {
    let mut ids: Vec<_> = (1..=CONTACTS).map(|n| contact(n).id).collect();
    ids.sort_by_key(|id| id.distance(key));
    ids
}

/// A little more than a contact with a known round trip has until it is late.
fn late() -> Duration {
    ROUND_TRIP + Config::default().patience.hedge_floor + Duration::from_millis(1)
}

#[test]
fn a_put_next_to_the_dead_waits_until_a_store_and_a_ping_are_late() {
    let mut bench = Bench::new();
    let ids = nearest(record(b"value").key());
    bench.dead.extend([ids[0], ids[5]]);
    let (mut holders, took) = bench.put(b"value");
    holders.sort_by_key(|id| id.distance(record(b"value").key()));
    let living: Vec<_> = ids
        .iter()
        .copied()
        .filter(|id| !bench.dead.contains(id))
        .collect();
    assert_eq!(holders[..K], living[..K]);
    assert!(took <= 2 * late() + 4 * ROUND_TRIP, "{took:?}");
    // It is not found dead yet: whoever is slow has half a second to answer a PING.
    for id in &ids[..K] {
        let entry = bench
            .machine
            .table()
            .get(*id)
            .expect("nobody is thrown out so soon");
        assert_eq!(entry.failures, 0);
    }
}

/// Stores at three quarters of the nearest, three of which are dead; how long that took.
fn early_end(record: Record) -> Duration {
    let mut bench = Bench::new();
    let ids = nearest(record.key());
    bench.dead.extend(&ids[4..7]);
    let (holders, took) = bench.store(record, 3 * K / 4);
    let told = holders.iter().filter(|id| ids[..K + 3].contains(id)).count();
    assert!(told >= 3 * K / 4, "{holders:?}");
    took
}

#[test]
fn an_early_end_of_a_put_waits_for_the_dead_until_they_are_late() {
    let took = early_end(record(b"value"));
    assert!(took <= late() + 5 * ROUND_TRIP, "{took:?}");
}

#[test]
fn an_early_end_of_a_versioned_put_waits_until_they_are_suspected() {
    let took = early_end(version(b"value"));
    let pinged = ROUND_TRIP + Config::default().patience.hedge_floor / 2;
    assert!(took > late() + pinged - ROUND_TRIP, "{took:?}");
    assert!(took <= late() + pinged + 5 * ROUND_TRIP, "{took:?}");
}

#[test]
fn who_was_late_once_is_not_waited_for_by_the_next_put() {
    let mut bench = Bench::new();
    let ids = nearest(record(b"value").key());
    bench.dead.extend([ids[1], ids[2], ids[3]]);
    let (_, first) = bench.put(b"value");
    let (holders, second) = bench.put(b"value");
    assert_eq!(holders.len(), K);
    assert!(
        second <= late() + ROUND_TRIP && second < first,
        "{second:?} {first:?}"
    );
}

#[test]
fn a_suspect_that_lives_is_a_holder_like_any_other() {
    let mut bench = Bench::new();
    let ids = nearest(record(b"value").key());
    bench.dead.insert(ids[1]);
    bench.put(b"value");
    assert!(bench.machine.suspects.contains(
        &bench.machine.table().get(ids[1]).expect("kept").contact.clone(),
        bench.now.monotonic
    ));
    bench.dead.clear();
    let (mut holders, took) = bench.put(b"value");
    holders.sort_by_key(|id| id.distance(record(b"value").key()));
    assert_eq!(holders[..K], ids[..K]);
    assert!(took <= 2 * ROUND_TRIP, "{took:?}");
    assert_eq!(bench.machine.suspects.count(|_| true, bench.now.monotonic), 0);
}

#[test]
fn a_slow_disk_is_no_death_and_somebody_else_is_told_as_well() {
    let mut bench = Bench::new();
    let ids = nearest(record(b"value").key());
    bench.disks.insert(ids[2], Duration::from_millis(900));
    bench.disks.insert(ids[3], Duration::from_millis(900));
    let (mut holders, took) = bench.put(b"value");
    holders.sort_by_key(|id| id.distance(record(b"value").key()));
    assert_eq!(holders[..K], ids[..K], "they are waited for");
    assert!(holders.contains(&ids[K]), "as if one of two were dead");
    assert!(took > Duration::from_millis(900), "{took:?}");
    assert_eq!(bench.machine.stats().failures, 0);
}

#[test]
fn while_all_disks_are_slow_nobody_is_suspected() {
    let mut bench = Bench::new();
    let ids = nearest(record(b"value").key());
    for id in &ids {
        bench.disks.insert(*id, Duration::from_millis(150));
    }
    let (holders, _) = bench.put(b"value");
    assert_eq!(holders.len(), K);
    assert_eq!(bench.pings, []);
    assert_eq!(bench.machine.stats().hedges, 0);
}

#[test]
fn one_question_to_a_suspect_waits_as_long_as_ever() {
    let mut bench = Bench::new();
    let key = record(b"value").key();
    let ids = nearest(key);
    bench.dead.insert(ids[0]);
    bench.put(b"value");
    let contact = *bench.machine.table().get(ids[0]).expect("kept").contact;
    let (outcome, effort) = bench.run(Command::Ask { contact, target: key });
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    assert!(effort.took > 2 * late(), "{effort:?}");
}
