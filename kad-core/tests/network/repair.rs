//! Records stay with those that are responsible for them, and move no more often than they have to.

use std::sync::Arc;

use kad_core::{Command, Config, Duration, Outcome, Record, Source, Stats, StoreEntry, StoreOp};

use crate::records::{DAY, holds, immutable, put, version};
use crate::simulation::Simulation;

const HOUR: Duration = Duration::from_secs(3600);

/// Values that lie with the 20 nearest to each.
fn filled(seed: u64, nodes: usize, values: usize) -> (Simulation, Vec<Record>) {
    let mut world = Simulation::joined(seed, nodes, &Config::default());
    world.run_for(Duration::from_secs(60));
    let records: Vec<_> = (0..values)
        .map(|n| immutable(format!("value {n}").as_bytes(), world.unix(), 2 * DAY))
        .collect();
    for (n, record) in records.iter().enumerate() {
        put(&mut world, (n % nodes) as u32, record, false);
    }
    (world, records)
}

fn stats(world: &Simulation, node: u32) -> Stats {
    world.nodes[node as usize].machine.machine().stats()
}

fn sum(world: &Simulation, of: impl Fn(Stats) -> u64) -> u64 {
    (0..world.nodes.len() as u32)
        .map(|node| of(stats(world, node)))
        .sum()
}

/// How many of the 20 nearest hold a record.
fn holders(world: &Simulation, record: &Record) -> usize {
    let nearest = world.nearest(record.key()).into_iter().take(20);
    nearest.filter(|&node| holds(world, node, record)).count()
}

/// Puts a record into one store, past everybody.
pub(crate) fn smuggle(world: &mut Simulation, node: u32, record: &Record) {
    let entry = StoreEntry {
        record: Ok(record.clone()),
        expected: None,
    };
    let now = world.unix();
    let op = StoreOp::Put {
        entries: vec![entry],
        due: now + HOUR,
        own: false,
        source: Source::UNKNOWN,
        sender: None,
    };
    world.nodes[node as usize].shelf.carry_out(op, now);
}

#[test]
fn where_nothing_changes_no_record_moves_and_an_hour_costs_a_few_questions() {
    let (mut world, _) = filled(501, 60, 80);
    world.run_for(HOUR);
    let before = sum(&world, |stats| stats.records_drawn + stats.records_handed);
    let requests = sum(&world, |stats| stats.requests_sent);
    world.run_for(6 * HOUR);
    let after = sum(&world, |stats| stats.records_drawn + stats.records_handed);
    assert_eq!(before, after);
    let requests = sum(&world, |stats| stats.requests_sent) - requests;
    // Refreshes included; each of 80 values handed on by one holder of twenty would be twice as many.
    assert!(
        requests / 6 / 60 < 250,
        "{requests} requests of 60 nodes in 6 hours"
    );
}

#[test]
fn a_newcomer_fetches_what_it_is_responsible_for_and_nobody_hands_it_anything() {
    let (mut world, records) = filled(502, 60, 200);
    let id = world.dice.key().to_node_id();
    let newcomer = world.add(id, &Arc::new(Config::default()));
    let contacts = vec![world.contact(0)];
    world.ask(newcomer, Command::Bootstrap { contacts });
    world.run_for(Duration::from_secs(700));
    let expected = records
        .iter()
        .filter(|record| world.nearest(record.key())[..20].contains(&newcomer));
    let (expected, stats) = (expected.count(), stats(&world, newcomer));
    assert!(expected > 30, "{expected}");
    let found = records
        .iter()
        .filter(|record| holds(&world, newcomer, record))
        .count();
    assert_eq!((found, stats.records_drawn), (expected, expected as u64));
    assert_eq!(stats.records_stored, 0);
}

/// Otherwise a neighbour could have this node fetch what it would not be allowed to send.
#[test]
fn what_a_node_fetches_counts_for_the_neighbour_that_gave_it() {
    let (mut world, records) = filled(506, 60, 100);
    let id = world.dice.key().to_node_id();
    let newcomer = world.add(id, &Arc::new(Config::default()));
    let contacts = vec![world.contact(0)];
    world.ask(newcomer, Command::Bootstrap { contacts });
    world.run_for(Duration::from_secs(700));
    let of = |node: u32| Source::of(&world.contact(node));
    let giver = |id| (0..newcomer).find(|&node| world.contact(node).id == id).map(of);
    let shelf = &world.nodes[newcomer as usize].shelf;
    assert!(shelf.len() > 10, "{}", shelf.len());
    for held in shelf.all() {
        assert_eq!(
            held.sender.and_then(giver),
            Some(held.source),
            "{:?}",
            held.record
        );
    }
    // As what was sent to the others does, but for the copies of those that have put it.
    let others = world.nodes[..newcomer as usize].iter();
    let mut sent = 0;
    for held in others
        .flat_map(|node| node.shelf.all())
        .filter(|held| held.sender.is_some())
    {
        assert_eq!(
            held.sender.and_then(giver),
            Some(held.source),
            "{:?}",
            held.record
        );
        sent += 1;
    }
    assert!(sent > records.len(), "{sent}");
}

#[test]
fn when_most_holders_die_the_region_is_filled_again_and_each_value_moves_once() {
    let (mut world, records) = filled(503, 80, 40);
    (1..40).for_each(|node| world.kill(node));
    world.run_for(4 * HOUR);
    for record in &records {
        assert_eq!(holders(&world, record), 20, "{record:?}");
    }
    let living: Vec<u32> = world.living().collect();
    let moved: u64 = living.iter().map(|&node| stats(&world, node).records_drawn).sum();
    let held: usize = living
        .iter()
        .map(|&node| world.nodes[node as usize].shelf.len())
        .sum();
    assert!(moved <= held as u64, "{moved} were fetched, {held} are held");
}

#[test]
fn a_node_that_leaves_gives_its_records_to_those_that_move_up() {
    let (mut world, records) = filled(504, 60, 100);
    let leaving = world.nearest(records[0].key())[3];
    let its: Vec<_> = records
        .iter()
        .filter(|record| holds(&world, leaving, record))
        .collect();
    // Of the 20 nearest that will be left, one lacks it.
    let lacking = |world: &Simulation| {
        let lacks = |record: &&&Record| {
            let left = world
                .nearest(record.key())
                .into_iter()
                .filter(|&node| node != leaving);
            left.take(20).any(|node| !holds(world, node, record))
        };
        its.iter().filter(lacks).count()
    };
    let before = lacking(&world);
    let Outcome::HandedOver { records: given } = world.ask(leaving, Command::HandOver).0 else {
        panic!("it handed nothing over");
    };
    // Who moves up is told by the own table, and part by part.
    let after = lacking(&world);
    assert!(
        before > 10 && after * 5 <= before,
        "{before} before, {after} after"
    );
    assert!(
        (before - after..=2 * its.len()).contains(&(given as usize)),
        "{given}"
    );
}

#[test]
fn of_versions_the_newest_spreads_to_all_holders_and_so_does_a_deletion() {
    let mut world = Simulation::joined(505, 50, &Config::default());
    let now = world.unix();
    let (first, second) = (version(1, 1, b"first", now), version(1, 2, b"second", now));
    put(&mut world, 5, &first, false);
    let nearest = world.nearest(first.key());
    smuggle(&mut world, nearest[7], &second);
    // Whoever asks one of those that have it gets it, and the next one of twice as many.
    world.run_for(4 * HOUR);
    let newest = nearest[..20].iter().filter(|&&node| {
        let held = world.nodes[node as usize].shelf.get(&first.slot());
        held.is_some_and(|held| held.record == second)
    });
    assert_eq!(newest.count(), 20);
}

#[test]
fn a_record_that_only_a_stranger_holds_comes_to_where_it_belongs() {
    let mut world = Simulation::joined(506, 60, &Config::default());
    let record = immutable(b"astray", world.unix(), 2 * DAY);
    let stranger = *world.nearest(record.key()).last().expect("sixty nodes");
    smuggle(&mut world, stranger, &record);
    assert_eq!(holders(&world, &record), 0);
    // One of the nearest gets it after an hour, and whoever asks one of those that have it.
    world.run_for(16 * HOUR);
    assert_eq!(holders(&world, &record), 20);
    // Its holder has seen that it is well kept, and gives it to nobody else.
    let before = stats(&world, stranger).records_handed;
    world.run_for(12 * HOUR);
    assert_eq!((before, stats(&world, stranger).records_handed), (1, 1));
}
