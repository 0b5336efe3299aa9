//! Writes and reads of a key, among nodes that crowd around it and lie, and among honest ones.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::lookup::{LookupConfig, Seed};
use crate::rng::Rng;
use crate::{
    Distance, Found, Key, Kind, NetworkId, Parameters, Population, Read, Record, Rules, Verdict, Want,
};

const K: usize = 20;
const NODES: u64 = 1_000;
const LOCAL: NodeId = NodeId::from_limbs([u64::MAX; 4]);

/// Everybody around a key. The honest know all but what is made up, the sybils only each other and what is made up.
struct World {
    rng: Rng,
    record: Record,
    honest: Vec<NodeId>,
    sybils: Vec<NodeId>,
    made_up: Vec<NodeId>,
    holders: BTreeSet<NodeId>,
}

/// What a query did.
#[derive(Default)]
struct Deeds {
    stores: Vec<NodeId>,
    requests: usize,
    parts: usize,
}

impl World {
    fn new(seed: u64, sybils: usize) -> Self {
        let mut rng = Rng::new(seed);
        let parameters = Parameters::default();
        let rules = Rules::new(NetworkId::new("test", &parameters), &parameters);
        let (now, end) = (UnixTime::from_secs(100), UnixTime::from_secs(200));
        let record = Record::immutable(&seed.to_be_bytes(), end, &rules, now).expect("a small value");
        let key = record.key();
        let honest: Vec<_> = (1..NODES)
            .map(|_| NodeId::from_limbs([(); 4].map(|()| rng.next_u64())))
            .collect();
        let nearest = honest.iter().map(|id| id.distance(key)).min().expect("somebody");
        // Nearer than every honest node, those that are made up nearest of all.
        let mut ground = |count: usize, bits: u32| -> Vec<NodeId> {
            let bucket = nearest.leading_zeros() + bits;
            (0..count)
                .map(|_| key.at(rng.distance_in_bucket(bucket)).to_node_id())
                .collect()
        };
        let (sybils, made_up) = (ground(sybils, 1), ground(sybils, 2));
        let holders = BTreeSet::new();
        Self {
            rng,
            record,
            honest,
            sybils,
            made_up,
            holders,
        }
    }

    fn key(&self) -> Key {
        self.record.key()
    }

    fn population() -> Population {
        let mut population = Population::guess(1, Distance::from_limbs([u64::MAX; 4]));
        (population.nodes, population.low, population.high) = (NODES, NODES * 9 / 10, NODES * 11 / 10);
        population
    }

    /// The nearest to a point that somebody tells.
    fn told_by(&self, teller: NodeId, target: Key) -> Vec<Contact<u32>> {
        let mut known = self.sybils.clone();
        known.extend(if self.sybils.contains(&teller) {
            &self.made_up
        } else {
            &self.honest
        });
        known.retain(|&id| id != teller);
        known.sort_unstable_by_key(|id| id.distance(target));
        known.truncate(K);
        known.into_iter().map(|id| Contact::new(id, 0)).collect()
    }

    fn lookup(&mut self, target: Key) -> Lookup<u32> {
        let mut config = LookupConfig::new(K, 3, 1);
        config.radius = Self::population().radius(K as u64);
        config.near = K;
        let first = (self.rng.next_u64() % (NODES / 2)) as usize;
        let seeds = self.honest[first..first + K].iter();
        let seeds = seeds.map(|&id| Seed::from(Contact::new(id, 0)));
        Lookup::new(LOCAL, target, config, seeds)
    }

    fn run(&mut self, task: Task<u32>) -> (Deeds, Outcome<u32>) {
        let mut query = Query {
            id: Some(QueryId(1)),
            released: false,
            started: Instant::ZERO,
            effort: Effort::default(),
            flights: Vec::new(),
            lookup: Some(self.lookup(self.key())),
            task,
        };
        let (mut deeds, mut under_way) = (Deeds::default(), VecDeque::new());
        loop {
            match query.next() {
                Todo::Ask(contact, request) => {
                    deeds.requests += 1;
                    let flight = Handle::from_u64(deeds.requests as u64);
                    query.flights.push(flight);
                    under_way.push_back((flight, contact, request));
                }
                Todo::Get(_) => query.on_store(StoreReply::Found {
                    found: Vec::new(),
                    next: None,
                }),
                Todo::LookInto { bucket } => {
                    deeds.parts += 1;
                    let radius = query.region().expect("it is for a key").radius();
                    let mut distance = self.rng.distance_in_bucket(bucket);
                    while distance > radius {
                        distance = self.rng.distance_in_bucket(bucket);
                    }
                    query.lookup = Some(self.lookup(self.key().at(distance)));
                }
                Todo::Wait => {
                    let (flight, contact, request) = under_way.pop_front().expect("something to wait for");
                    query.flights.retain(|&other| other != flight);
                    if let Request::Store { .. } = request {
                        deeds.stores.push(contact.id);
                    }
                    match self.answer(contact.id, request) {
                        Some(response) => query
                            .on_response(&contact, response, Duration::ZERO, |_| true)
                            .expect("it fits"),
                        None => query.on_failure(contact.id),
                    }
                }
                Todo::Finish => return (deeds, query.outcome(K, Instant::ZERO)),
                Todo::Put(..)
                | Todo::Keep(..)
                | Todo::Note { .. }
                | Todo::Store(_)
                | Todo::NextBucket
                | Todo::WalkTo(_) => {
                    unreachable!("neither joins nor keeps nor compares nor stores many")
                }
            }
        }
    }

    fn answer(&mut self, id: NodeId, request: Request) -> Option<Response<u32>> {
        if self.made_up.contains(&id) {
            return None;
        }
        let key = self.key();
        Some(match request {
            Request::Ping | Request::Compare { .. } | Request::Fetch { .. } => {
                unreachable!("no query here pings or compares")
            }
            Request::FindNode { target, .. } => Response::Nodes {
                closer: self.told_by(id, target),
                card: None,
            },
            Request::FindValue(_) => Response::Values {
                found: match self.holders.contains(&id) {
                    true => vec![Found::Record(self.record.clone())],
                    false => Vec::new(),
                },
                next: None,
                closer: self.told_by(id, key),
            },
            Request::Store { .. } => {
                if !self.sybils.contains(&id) {
                    self.holders.insert(id);
                }
                Response::Stored {
                    verdicts: vec![Verdict::Stored],
                    closer: self.told_by(id, key),
                }
            }
        })
    }

    fn put(&mut self, population: Option<Population>) -> Deeds {
        let entry = StoreEntry {
            record: Ok(self.record.clone()),
            expected: None,
        };
        let region = Region::new(self.key(), K, population);
        let role = Role::Publish { keep: false };
        let task = StoreTask::new(entry, role, None, K, usize::MAX, region);
        self.run(Task::Store(task)).0
    }

    fn get(&mut self, read: Read, population: Option<Population>) -> (Deeds, usize) {
        let ask = FindValue {
            key: self.key(),
            kind: Kind::Immutable,
            min_seq: 0,
            after: None,
            want: Want::Record,
        };
        let region = Region::new(self.key(), K, population);
        let task = FindValueTask::new(ask, read, region);
        match self.run(Task::FindValue(task)) {
            (deeds, Outcome::Found { records, .. }) => (deeds, records.len()),
            (deeds, _) => (deeds, 0),
        }
    }

    /// The honest nodes nearest to the key that hold the record, of so many.
    fn honest_holders(&self, nearest: usize) -> usize {
        let mut honest = self.honest.clone();
        honest.sort_unstable_by_key(|id| id.distance(self.key()));
        honest.truncate(nearest);
        honest.iter().filter(|id| self.holders.contains(id)).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_record_gets_past_a_crowd_and_is_found_behind_it(seed: u64, sybils in K..=3 * K) {
        let mut world = World::new(seed, sybils);
        let put = world.put(Some(World::population()));
        prop_assert!((1..=4).contains(&put.parts), "{} parts", put.parts);
        prop_assert!(put.stores.iter().all(|id| !world.made_up.contains(id)), "a made-up contact was sent it");
        prop_assert!(put.stores.len() <= K * 5 / 2, "{} stores", put.stores.len());
        let radius = World::population().radius(K as u64);
        let region = world.honest.iter().filter(|id| id.distance(world.key()) <= radius).count();
        prop_assert!(world.holders.len() * 2 >= region, "{} honest holders of {region}", world.holders.len());
        let (read, found) = world.get(Read::First, Some(World::population()));
        prop_assert_eq!(found, 1);
        prop_assert!(read.requests <= 12 * K, "{} requests", read.requests);
    }

    #[test]
    fn where_the_size_of_the_network_is_not_known_nothing_is_a_crowd(seed: u64, sybils in K..=3 * K) {
        let mut world = World::new(seed, sybils);
        prop_assert_eq!(world.put(None).parts, 0);
        prop_assert_eq!(world.get(Read::Quorum(K), None).0.parts, 0);
    }

    #[test]
    fn among_honest_nodes_a_record_goes_to_the_nearest_and_to_hardly_anybody_else(seed: u64) {
        let mut world = World::new(seed, 0);
        let put = world.put(Some(World::population()));
        prop_assert_eq!(world.honest_holders(K), K);
        // A few in a hundred thousand keys lie in the middle of a crowd by chance.
        prop_assume!(put.parts == 0);
        prop_assert!(put.stores.len() <= 2 * K, "{} stores", put.stores.len());
        let (read, found) = world.get(Read::First, Some(World::population()));
        prop_assert_eq!((found, read.parts), (1, 0));
    }

    #[test]
    fn who_finds_nothing_behind_a_crowd_comes_to_an_end(seed: u64, sybils in K..=3 * K) {
        let mut world = World::new(seed, sybils);
        let (read, found) = world.get(Read::First, Some(World::population()));
        prop_assert_eq!((found, read.parts), (0, 4));
        prop_assert!(read.requests <= 16 * K, "{} requests", read.requests);
        let (census, _) = world.get(Read::Census, Some(World::population()));
        prop_assert_eq!(census.parts, 0, "a census asks the nearest and nobody else");
    }
}
