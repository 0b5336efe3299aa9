//! A node that knows everybody: its lookups are over in one hop, and survive that many of those it knows are dead.

use std::sync::Arc;

use kad_core::table::DEFAULT_FULL_CONTACTS;
use kad_core::{Command, Config, Duration, Effort, Outcome};

use crate::simulation::Simulation;

const MEMBERS: u32 = 300;

/// A network, and two nodes that joined it last: one with a full table, which has asked everybody once, and an ordinary
/// one.
fn world(seed: u64) -> (Simulation, u32, u32) {
    let ordinary = Config::default();
    let mut world = Simulation::joined(seed, MEMBERS as usize, &ordinary);
    let mut config = ordinary.clone();
    config.table = config.table.full(DEFAULT_FULL_CONTACTS);
    let mut nodes = Vec::new();
    for config in [config, ordinary] {
        let id = world.dice.key().to_node_id();
        let node = world.add(id, &Arc::new(config));
        let contacts = vec![world.contact(0)];
        world.ask(node, Command::Bootstrap { contacts });
        nodes.push(node);
    }
    let &[full, ordinary] = nodes.as_slice() else {
        unreachable!("two were added")
    };
    for member in (0..MEMBERS).chain([ordinary]) {
        let (contact, target) = (world.contact(member), world.dice.key());
        let (outcome, _) = world.ask(full, Command::Ask { contact, target });
        assert!(matches!(outcome, Outcome::Told { .. }), "{outcome:?}");
    }
    (world, full, ordinary)
}

/// A lookup of a random point: what it took, how many of the true k nearest it found, and how many of what it found was
/// in the table before, so that no other node had to tell of it.
fn lookup(world: &mut Simulation, node: u32) -> (Effort, usize, usize) {
    let target = world.dice.key();
    let nearest = world.nearest(target).into_iter().filter(|&other| other != node);
    let truth: Vec<u32> = nearest.take(20).collect();
    let table = world.nodes[node as usize].machine.machine().table();
    let known: Vec<u32> = table.contacts().map(|entry| entry.contact.address).collect();
    let (outcome, effort) = world.ask(node, Command::FindNode { target });
    let Outcome::Closest(closest) = outcome else {
        panic!("{outcome:?}")
    };
    let found: Vec<u32> = closest.iter().map(|contact| contact.address).collect();
    let right = truth.iter().filter(|place| found.contains(place)).count();
    let one_hop = found.iter().filter(|place| known.contains(place)).count();
    (effort, right, one_hop)
}

#[test]
fn a_full_table_holds_everybody_and_an_ordinary_one_does_not() {
    let (world, full, ordinary) = world(301);
    let len = |node: u32| world.nodes[node as usize].machine.machine().table().len();
    assert_eq!(len(full), MEMBERS as usize + 1);
    assert!(len(ordinary) < 150, "{}", len(ordinary));
}

#[test]
fn lookups_of_a_full_table_take_one_hop_and_k_requests() {
    let (mut world, full, ordinary) = world(302);
    let (mut requests, mut elsewhere) = (0, 0);
    for _ in 0..100 {
        let (effort, right, one_hop) = lookup(&mut world, full);
        assert_eq!((right, one_hop), (20, 20));
        // Slow ones are hedged, so somebody else may be asked in their place.
        assert!((20..=24).contains(&effort.requests), "{effort:?}");
        assert!(effort.took <= Duration::from_millis(240), "{effort:?}");
        requests += effort.requests;
        elsewhere += 20 - lookup(&mut world, ordinary).2;
    }
    eprintln!("{requests} requests of 100 lookups; an ordinary node was told of {elsewhere} of 2000 results");
    assert!(requests <= 2100, "{requests}");
    assert!(elsewhere > 500, "{elsewhere}");
}

#[test]
fn lookups_of_a_full_table_survive_the_death_of_a_third() {
    let (mut world, full, _) = world(303);
    let dead: Vec<u32> = (0..MEMBERS).filter(|node| node % 3 == 0).collect();
    dead.iter().for_each(|&node| world.kill(node));
    let (mut right, mut requests) = (0, 0);
    for _ in 0..60 {
        let (effort, found, one_hop) = lookup(&mut world, full);
        assert_eq!(one_hop, 20, "all that live were known");
        assert!(
            found >= 15 && effort.took < Duration::from_secs(10),
            "{found} {effort:?}"
        );
        (right, requests) = (right + found, requests + effort.requests);
    }
    eprintln!("{right} of 1200 found with {requests} requests after the death of a third");
    assert!(right >= 1188, "{right}");
    // Those who are alive are asked as before, and one more where some are slow; of the dead each is asked once or
    // twice until it leaves the table.
    assert!(requests <= 60 * 22 + 2 * dead.len() as u32, "{requests}");
}
