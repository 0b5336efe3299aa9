//! Nodes that store nothing for others among those that do.

use std::sync::Arc;

use kad_core::{Command, Duration, Key, Outcome, Record, Request, Response, Verdict};

use crate::records::holds;
use crate::refusals::{K, any_record, few_holders};
use crate::simulation::Simulation;

/// A network in which every third node but the first stores nothing for others.
fn with_idlers(seed: u64, nodes: usize) -> (Simulation, impl Fn(u32) -> bool) {
    let is_idler = |node: u32| node % 3 == 1;
    let mut world = Simulation::new(seed);
    let storing = Arc::new(few_holders());
    let mut idle = few_holders();
    idle.stores = false;
    let idle = Arc::new(idle);
    for node in 0..nodes as u32 {
        let id = world.dice.key().to_node_id();
        world.add(id, if is_idler(node) { &idle } else { &storing });
    }
    world.join_all();
    (world, is_idler)
}

/// The nodes nearest to a key that should hold its records.
fn holders(world: &Simulation, key: Key, is_idler: impl Fn(u32) -> bool) -> Vec<u32> {
    let nearest = world.nearest(key).into_iter();
    nearest.filter(|&node| !is_idler(node)).take(K).collect()
}

#[test]
fn those_that_store_nothing_for_others_are_passed_over_by_writers_and_asked_by_lookups() {
    let (mut world, is_idler) = with_idlers(608, 90);
    let mut found_holders = 0;
    for _ in 0..60 {
        let record = any_record(&mut world);
        let node = world.dice.below(90) as u32;
        let command = Command::Store {
            record: record.clone(),
            expected: None,
            keep: false,
            enough: usize::MAX,
        };
        let Outcome::Stored { refused, .. } = world.ask(node, command).0 else {
            panic!("it was not stored")
        };
        assert!(
            refused
                .iter()
                .all(|(who, why)| is_idler(who.address) && *why == Verdict::StoresNothing)
        );
        let copies = (0..90).filter(|&node| holds(&world, node, &record)).count();
        assert!(copies >= K, "{copies} copies");
        let holders = holders(&world, record.key(), &is_idler);
        found_holders += holders
            .iter()
            .filter(|&&holder| holds(&world, holder, &record))
            .count();
        let Outcome::Closest(closest) = world.ask(node, Command::FindNode { target: record.key() }).0 else {
            panic!("nobody was found")
        };
        let found: Vec<u32> = closest.iter().map(|contact| contact.address).collect();
        let nearest = world
            .nearest(record.key())
            .into_iter()
            .filter(|&other| other != node);
        assert_eq!(found, nearest.take(K).collect::<Vec<_>>());
    }
    // Where most of the nearest store nothing, the k and a quarter that are named may not reach as far as the fifth
    // that does.
    assert!(
        found_holders >= 60 * K * 95 / 100,
        "{found_holders} of {}",
        60 * K
    );
    world.run_for(Duration::from_secs(2 * 3600));
    for node in (0..90).filter(|&node| is_idler(node)) {
        let stats = world.nodes[node as usize].machine.machine().stats();
        assert_eq!((world.nodes[node as usize].shelf.len(), stats.repairs), (0, 0));
    }
}

#[test]
fn a_sweep_gives_to_the_next_nearest_what_those_that_store_nothing_do_not_take() {
    let (mut world, is_idler) = with_idlers(609, 90);
    let records: Vec<Record> = (0..30).map(|_| any_record(&mut world)).collect();
    for record in &records {
        let command = Command::Store {
            record: record.clone(),
            expected: None,
            keep: true,
            enough: usize::MAX,
        };
        world.ask(0, command);
    }
    // Everybody but the publisher forgets everything.
    for node in 1..90 {
        world.nodes[node].shelf = crate::shelf::Shelf::default();
    }
    world.run_for(Duration::from_secs(13 * 3600));
    assert!(world.nodes[0].machine.machine().stats().sweeps > 0);
    let mut copies = 0;
    for record in &records {
        let holders = holders(&world, record.key(), &is_idler);
        copies += holders
            .iter()
            .filter(|&&holder| holds(&world, holder, record))
            .count();
    }
    // A region's nodes are the 2 k nearest to one point of it, of which a third takes nothing.
    assert!(
        copies >= records.len() * K * 9 / 10,
        "{copies} of {}",
        records.len() * K
    );
}

#[test]
fn a_node_that_stores_nothing_says_so_to_those_who_compare() {
    let (mut world, _) = with_idlers(610, 2);
    let parts = vec![(kad_core::Prefix::ALL, kad_core::Fingerprint::default())];
    let fetch = Request::Fetch {
        prefix: kad_core::Prefix::ALL,
        marks: vec![1],
    };
    for request in [Request::Compare { parts }, fetch] {
        let rejected = Response::Rejected(kad_core::Rejection::StoresNothing);
        assert_eq!(world.serve(1, request), rejected);
    }
}
