//! Whether far buckets come to hold who answers fast, and what that is worth.

use std::sync::Arc;

use kad_core::{Command, Config, Duration, Outcome, Parameters};

use crate::simulation::Simulation;

/// A network of 200 in which every other node answers 150 ms later than the rest, after 20 lookups by each. How many of
/// a hundred contacts of far buckets are fast, how long a lookup took in all, and how many swaps there were.
fn with_a_share_of(share: u8) -> (usize, Duration, u64) {
    let mut config = Config::for_network(&Parameters {
        k: 8,
        ..Parameters::default()
    });
    config.table.proximity_share = share;
    config.table.spread = false; // Which shares the places, and keeps whoever stands alone.
    let config = Arc::new(config);
    let mut world = Simulation::new(301);
    for node in 0..200 {
        let id = world.dice.key().to_node_id();
        world.add(id, &config);
        world.nodes[node].remote = Duration::from_millis(150 * (node as u64 % 2));
    }
    world.join_all();
    for round in 0..20 * 200 {
        let target = world.dice.key();
        world.ask(round % 200, Command::FindNode { target });
    }
    let (mut fast, mut all, mut swaps) = (0, 0, 0);
    for node in &world.nodes {
        let machine = node.machine.machine();
        swaps += machine.stats().proximity_swaps;
        let own = machine.local_id().to_key();
        let far = machine.table().contacts();
        for entry in far.filter(|entry| entry.contact.id.distance(own).leading_zeros() < 2) {
            all += 1;
            fast += usize::from(entry.contact.address % 2 == 0);
        }
    }
    let mut took = Duration::ZERO;
    for asker in 0..200 {
        let target = world.dice.key();
        let (outcome, effort) = world.ask(asker, Command::FindNode { target });
        assert!(matches!(outcome, Outcome::Closest(closest) if closest.len() == 8));
        took += effort.took;
    }
    eprintln!(
        "share {share}: {fast} of {all} far contacts are fast, {swaps} swaps, 200 lookups took {took:?}"
    );
    (100 * fast / all, took, swaps)
}

#[test]
fn far_buckets_come_to_hold_who_answers_fast() {
    let (without, slowly, none) = with_a_share_of(0);
    let (with, quickly, swaps) = with_a_share_of(50);
    assert!(none == 0 && swaps > 200, "{none} and {swaps} swaps");
    assert!(
        with >= 90 && without <= 75,
        "{with} of 100 far contacts are fast, {without} without proximity"
    );
    assert!(
        quickly < slowly,
        "lookups took {quickly:?}, {slowly:?} without proximity"
    );
}
