//! Tables with wide far buckets.

use std::sync::Arc;

use kad_core::{Command, Config, Duration, Parameters};

use crate::simulation::Simulation;

const SIZES: [u16; 3] = [64, 32, 16];

fn wide() -> Config {
    let mut config = Config::for_network(&Parameters {
        k: 8,
        ..Parameters::default()
    });
    config.table = config.table.with_wide(&SIZES);
    config
}

/// How many contacts each wide bucket of a node has.
fn lens(world: &Simulation, node: u32) -> [usize; 3] {
    let table = world.nodes[node as usize].machine.machine().table();
    [0, 1, 2].map(|bucket| table.bucket_len(bucket))
}

#[test]
fn a_node_that_joins_fills_its_wide_buckets_at_once() {
    // Points fall near to each other by chance, so that a newcomer may stop a little early: it has seven of eight, and
    // most have all. Where three barren lookups in a row were the end instead of four, three of ten had room left.
    let mut full = 0;
    for seed in 401..411 {
        let mut world = Simulation::joined(seed, 400, &wide());
        let id = world.dice.key().to_node_id();
        let newcomer = world.add(id, &Arc::new(wide()));
        let contacts = vec![world.contact(7)];
        let (_, effort) = world.ask(newcomer, Command::Bootstrap { contacts });
        for (held, size) in lens(&world, newcomer).into_iter().zip(SIZES) {
            assert!(held >= usize::from(size) * 7 / 8, "seed {seed}: {held} of {size}");
        }
        full += usize::from(lens(&world, newcomer) == SIZES.map(usize::from));
        // Each of some 25 lookups asks eight.
        assert!(effort.requests < 400, "{} requests", effort.requests);
    }
    assert!(full >= 8, "{full} of 10 are full");
}

#[test]
fn buckets_wider_than_the_network_cost_a_few_lookups_more() {
    let mut world = Simulation::joined(403, 30, &wide());
    let id = world.dice.key().to_node_id();
    let newcomer = world.add(id, &Arc::new(wide()));
    let contacts = vec![world.contact(7)];
    let (_, effort) = world.ask(newcomer, Command::Bootstrap { contacts });
    // It stops a little early: three lookups in a row found no more than two who were not known.
    let known = world.nodes[newcomer as usize].machine.machine().table().len();
    assert!(known >= 20, "{known} of 30");
    assert!(effort.requests < 200, "{} requests", effort.requests);
}

#[test]
fn tables_with_wide_buckets_lose_the_dead_and_fill_again() {
    let mut world = Simulation::joined(402, 300, &wide());
    (0..100).for_each(|node| world.kill(node));
    world.run_for(Duration::from_secs(6 * 3600));
    for node in world.living() {
        let table = world.nodes[node as usize].machine.machine().table();
        let dead = table.contacts().filter(|entry| entry.contact.address < 100);
        assert_eq!(dead.count(), 0, "node {node}");
        for (held, size) in lens(&world, node).into_iter().zip(SIZES) {
            assert!(held >= usize::from(size) * 3 / 4, "node {node}: {held} of {size}");
        }
    }
}
