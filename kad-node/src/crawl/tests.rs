//! Walks over made-up networks, against somebody who knows everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kad_core::table::{ClosestScratch, RoutingTable, TableConfig};
use kad_core::{Contact, Instant, NodeId, QueryError};
use proptest::prelude::*;

use super::interview::MAX_QUESTIONS;
use super::walk::{Question, State, Walk};

/// SplitMix64, so that a run depends on nothing but its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    fn id(&mut self) -> NodeId {
        NodeId::from_limbs([self.roll(), self.roll(), self.roll(), self.roll()])
    }
}

/// Members whose addresses are their places. The first is the one that walks.
struct World {
    k: usize,
    tables: Vec<RoutingTable<u32>>,
    dead: BTreeSet<u32>,
    dice: Dice,
}

impl World {
    /// Everybody has met everybody in an order of their own; then some died.
    fn new(seed: u64, members: usize, k: usize, dead: usize) -> Self {
        let mut dice = Dice(seed);
        let ids: Vec<NodeId> = (0..members).map(|_| dice.id()).collect();
        let mut tables = Vec::new();
        for &id in &ids {
            let mut table = RoutingTable::new(id, TableConfig::new(k, 0));
            let first = dice.below(members);
            for step in 0..members {
                let place = (first + 7 * step) % members;
                let _ = table.answered(Instant::ZERO, &Contact::new(ids[place], place as u32), None);
            }
            tables.push(table);
        }
        let dead = (0..dead).map(|_| 1 + dice.below(members - 1) as u32).collect();
        Self {
            k,
            tables,
            dead,
            dice,
        }
    }

    fn walk(&self, max_nodes: usize) -> Walk<u32> {
        let contacts = self.tables[0].contacts().map(|entry| *entry.contact);
        Walk::new(self.tables[0].local(), max_nodes, contacts)
    }

    /// What a member would say: it leaves out the one who asks.
    fn closer(&self, question: &Question<u32>) -> Vec<Contact<u32>> {
        let mut scratch = ClosestScratch::default();
        let table = &self.tables[question.0.contact.address as usize];
        let closest = table.closest(question.0.target(), self.k + 1, &mut scratch);
        let others = closest.filter(|entry| entry.contact.address != 0);
        others.take(self.k).map(|entry| *entry.contact).collect()
    }

    /// Lets a walk go on to its end; questions are answered in an order of the world's own.
    fn run(&mut self, walk: &mut Walk<u32>, parallel: usize) {
        let mut flying = Vec::new();
        loop {
            while flying.len() < parallel
                && let Some(question) = walk.next()
            {
                flying.push(question);
            }
            if flying.is_empty() {
                return;
            }
            let question: Question<u32> = flying.swap_remove(self.dice.below(flying.len()));
            match self.dead.contains(&question.0.contact.address) {
                true => walk.on_failed(question, QueryError::Unanswered),
                false => {
                    let closer = self.closer(&question);
                    walk.on_told(question, closer, Duration::from_millis(3));
                }
            }
        }
    }

    /// Everybody whom the walker can hear of.
    fn heard(&self) -> BTreeSet<u32> {
        let mut heard = BTreeSet::new();
        let mut todo = vec![0];
        while let Some(place) = todo.pop() {
            if self.dead.contains(&place) {
                continue;
            }
            let told = self.tables[place as usize].contacts();
            todo.extend(
                told.map(|entry| entry.contact.address)
                    .filter(|&told| heard.insert(told)),
            );
        }
        heard.remove(&0);
        heard
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_walk_finds_everybody_and_counts_every_table(
        seed in any::<u64>(),
        members in 2..120usize,
        k in 2..24usize,
        dead in 0..40usize,
        parallel in 1..40usize,
    ) {
        let mut world = World::new(seed, members, k, dead);
        let mut walk = world.walk(usize::MAX);
        world.run(&mut walk, parallel);
        let heard = world.heard();
        let state = |state| -> BTreeSet<u32> {
            walk.nodes.values().filter(|node| node.state == state).map(|node| node.address).collect()
        };
        prop_assert_eq!(state(State::Answered), heard.difference(&world.dead).copied().collect::<BTreeSet<_>>());
        prop_assert_eq!(state(State::Dead), heard.intersection(&world.dead).copied().collect::<BTreeSet<_>>());
        prop_assert_eq!(walk.nodes.len(), heard.len());

        let mut tables: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for teller in heard.difference(&world.dead) {
            let table = &world.tables[*teller as usize];
            for entry in table.contacts().filter(|entry| entry.contact.address != 0) {
                let bucket = entry.contact.id.distance(table.local().to_key()).leading_zeros();
                let counted = tables.entry(bucket).or_default();
                match world.dead.contains(&entry.contact.address) {
                    true => counted.1 += 1,
                    false => counted.0 += 1,
                }
            }
        }
        let counted: BTreeMap<u32, (u64, u64)> =
            walk.tally.buckets().map(|(bucket, counted)| (bucket, (counted.alive, counted.dead))).collect();
        prop_assert!(walk.tally.buckets().all(|(_, counted)| counted.told == counted.alive + counted.dead));
        prop_assert_eq!(counted, tables);
        prop_assert_eq!(walk.unanswered, 2 * heard.intersection(&world.dead).count() as u64);
    }
}

#[test]
fn a_node_is_asked_about_as_often_as_its_table_has_buckets() {
    let mut world = World::new(1, 1000, 20, 0);
    let mut walk = world.walk(usize::MAX);
    world.run(&mut walk, 32);
    assert_eq!(walk.nodes.len(), 999);
    // log2(1000 / 20) and 2, 7.6 in all.
    let each = walk.requests as f64 / 999.0;
    assert!((5.0..8.0).contains(&each), "{each}");
}

#[test]
fn a_full_walk_follows_nobody_else_and_says_so() {
    let mut world = World::new(2, 100, 8, 0);
    let mut walk = world.walk(30);
    world.run(&mut walk, 8);
    assert_eq!(walk.nodes.len(), 30);
    assert!(walk.left_out > 0);
    assert!(walk.nodes.values().all(|node| node.state == State::Answered));
}

/// A walker that knows these contacts.
fn walker(contacts: impl IntoIterator<Item = Contact<u32>>) -> Walk<u32> {
    Walk::new(NodeId::default(), usize::MAX, contacts)
}

fn contact(n: u64, address: u32) -> Contact<u32> {
    Contact::new(NodeId::from_limbs([n, 0, 0, 1]), address)
}

fn state(walk: &Walk<u32>, n: u64) -> State {
    walk.nodes[&contact(n, 0).id].state
}

#[test]
fn one_lost_question_is_no_death_and_who_refuses_is_there() {
    let mut walk = walker([contact(1, 1), contact(2, 2)]);
    let (one, two) = (walk.next().unwrap(), walk.next().unwrap());
    walk.on_failed(one, QueryError::Unanswered);
    assert_eq!(state(&walk, 1), State::Unknown);
    walk.on_failed(two, QueryError::Refused);
    assert_eq!(state(&walk, 2), State::Refused);
    let again = walk.next().unwrap();
    assert_eq!(again.0.contact, contact(1, 1));
    walk.on_told(again, Vec::new(), Duration::from_millis(1));
    assert_eq!(state(&walk, 1), State::Answered);
    assert!(walk.next().is_none());
}

#[test]
fn who_falls_silent_in_the_middle_is_alive_all_the_same() {
    let mut walk = walker([contact(1, 1)]);
    let question = walk.next().unwrap();
    walk.on_told(question, vec![contact(1 << 63, 1)], Duration::from_millis(1));
    let (next, new) = (walk.next().unwrap(), walk.next().unwrap());
    assert_eq!(
        (next.0.contact.address, new.0.contact.id),
        (1, contact(1 << 63, 1).id)
    );
    walk.on_told(new, Vec::new(), Duration::from_millis(1));
    walk.on_failed(next, QueryError::Unanswered);
    let again = walk.next().unwrap();
    walk.on_failed(again, QueryError::Unanswered);
    assert!(walk.next().is_none());
    assert_eq!(state(&walk, 1), State::Answered);
}

#[test]
fn a_node_that_has_moved_is_found_where_others_saw_it_and_few_places_are_tried() {
    let mut walk = walker([contact(1, 1), contact(2, 20)]);
    let (teller, moved) = (walk.next().unwrap(), walk.next().unwrap());
    let places = (20..30).map(|place| contact(2, place));
    // A teller is believed once, so ten of them tell.
    walk.on_told(teller, Vec::new(), Duration::from_millis(1));
    let mut tellers: Vec<_> = (0..10).map(|n| contact(10 + n, 10 + n as u32)).collect();
    let mut tell = |walk: &mut Walk<u32>, places: Vec<Contact<u32>>| {
        for place in places {
            let teller = tellers.pop().expect("one for each place");
            let question = Question(super::interview::Interview::new(teller));
            walk.on_told(question, vec![place], Duration::from_millis(1));
        }
    };
    let mut places: Vec<_> = places.collect();
    tell(&mut walk, places.split_off(1));
    walk.on_failed(moved, QueryError::Unanswered);
    let mut tried = BTreeSet::new();
    while let Some(question) = walk.next() {
        let address = question.0.contact.address;
        if question.0.contact.id == contact(2, 0).id {
            tried.insert(address);
        }
        walk.on_failed(question, QueryError::Unanswered);
    }
    assert_eq!(tried, BTreeSet::from([20, 21, 22]));
    assert_eq!(state(&walk, 2), State::Dead);

    let mut walk = walker([contact(1, 1), contact(2, 20)]);
    let (teller, moved) = (walk.next().unwrap(), walk.next().unwrap());
    walk.on_failed(moved, QueryError::Unanswered);
    let again = walk.next().unwrap();
    walk.on_failed(again, QueryError::Unanswered);
    assert_eq!(state(&walk, 2), State::Dead);
    walk.on_told(teller, vec![contact(2, 21)], Duration::from_millis(1));
    while let Some(question) = walk.next() {
        walk.on_told(question, Vec::new(), Duration::from_millis(1));
    }
    assert_eq!(state(&walk, 2), State::Answered);
    assert_eq!(walk.nodes[&contact(2, 0).id].address, 21);
}

#[test]
fn rations_make_a_walk_slow_and_not_wrong() {
    // A host takes two questions at a time, and there are three hosts.
    let mut world = World::new(3, 150, 8, 0);
    let mut walk = world.walk(usize::MAX);
    let host = |question: &Question<u32>| question.0.contact.address % 3;
    let (mut flying, mut refused) = (Vec::new(), 0);
    loop {
        while flying.len() < 16
            && let Some(question) = walk.next()
        {
            let here = flying.iter().filter(|other| host(other) == host(&question));
            if here.count() < 2 {
                flying.push(question);
            } else {
                refused += 1;
                walk.on_failed(question, QueryError::NotAsked);
            }
            assert!(refused < 100_000, "it asks again and again");
        }
        if flying.is_empty() {
            break;
        }
        let question: Question<u32> = flying.swap_remove(world.dice.below(flying.len()));
        let closer = world.closer(&question);
        walk.on_told(question, closer, Duration::from_millis(3));
    }
    assert!(refused > 0);
    assert_eq!(walk.nodes.len(), 149);
    assert!(walk.nodes.values().all(|node| node.state == State::Answered));
}

#[test]
fn nodes_that_may_never_be_asked_stay_unknown_and_the_walk_ends() {
    let mut walk = walker((1..=20).map(|n| contact(n, n as u32)));
    // Six die at one host; then nobody there is dialled any more.
    let (mut dead, mut steps) = (0, 0);
    while let Some(question) = walk.next() {
        steps += 1;
        assert!(steps < 200, "it does not end");
        if dead < 6 {
            dead += 1;
            walk.on_failed(question, QueryError::Unanswered);
        } else {
            walk.on_failed(question, QueryError::NotAsked);
        }
    }
    let count = |state| walk.nodes.values().filter(|node| node.state == state).count();
    assert_eq!((count(State::Dead), count(State::Unknown)), (6, 14));
}

#[test]
fn liars_who_make_nodes_up_cost_a_bounded_number_of_questions() {
    let mut walk = Walk::new(NodeId::default(), 500, [contact(1, 1)]);
    let mut dice = Dice(4);
    let mut questions = 0;
    while let Some(question) = walk.next() {
        questions += 1;
        let near = question.0.contact.id.to_limbs();
        // Always as near as can be, so that no interview ends before its bound.
        let lie = |dice: &mut Dice| {
            let id = NodeId::from_limbs([near[0], near[1], dice.roll(), dice.roll()]);
            Contact::new(id, dice.roll() as u32)
        };
        let lies = (0..kad_core::MAX_CLOSER).map(|_| lie(&mut dice)).collect();
        walk.on_told(question, lies, Duration::ZERO);
    }
    assert_eq!(walk.nodes.len(), 500);
    assert_eq!(questions, 500 * MAX_QUESTIONS);
}

#[test]
fn a_node_that_was_heard_of_costs_little_memory() {
    let entry = size_of::<(NodeId, super::walk::Heard<kad_net::quic::QuicAddress>)>();
    assert!(entry <= 64, "{entry} bytes");
}
