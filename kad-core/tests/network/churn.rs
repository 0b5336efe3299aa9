//! Nodes that die without a word.

use kad_core::{Command, Config, Duration, Event, Outcome};

use crate::simulation::Simulation;

#[test]
fn lookups_survive_the_sudden_death_of_a_quarter() {
    let mut world = Simulation::joined(101, 120, &Config::default());
    let dead: Vec<u32> = (0..120).filter(|node| node % 4 == 3).collect();
    dead.iter().for_each(|&node| world.kill(node));
    for asker in (0..120).step_by(4) {
        let target = world.dice.key();
        let truth: Vec<u32> = world
            .nearest(target)
            .into_iter()
            .filter(|&node| node != asker)
            .take(20)
            .collect();
        let (outcome, effort) = world.ask(asker, Command::FindNode { target });
        let Outcome::Closest(closest) = outcome else {
            panic!("{outcome:?}");
        };
        let found: Vec<u32> = closest.iter().map(|contact| contact.address).collect();
        assert_eq!(found, truth);
        assert!(effort.took < Duration::from_secs(20), "{effort:?}");
    }
}

#[test]
fn tables_lose_the_dead() {
    let mut world = Simulation::joined(102, 80, &Config::default());
    (0..20).for_each(|node| world.kill(node));
    let held = |world: &Simulation| -> usize {
        let tables = world
            .living()
            .map(|node| world.nodes[node as usize].machine.machine().table());
        tables
            .flat_map(|table| table.contacts())
            .filter(|entry| entry.contact.address < 20)
            .count()
    };
    assert!(held(&world) > 0);
    // Refreshes ask the k nearest to random points, so each dead contact is met within a few of them.
    world.run_for(Duration::from_secs(12 * 3600));
    assert_eq!(held(&world), 0);
}

#[test]
fn the_last_survivor_is_told_that_it_is_alone() {
    let mut world = Simulation::joined(103, 12, &Config::default());
    (1..12).for_each(|node| world.kill(node));
    world.run_for(Duration::from_secs(3 * 3600));
    let survivor = &world.nodes[0];
    let isolated = survivor.events.iter().filter(|event| **event == Event::Isolated);
    assert_eq!(isolated.count(), 1);
    assert!(survivor.machine.machine().table().is_empty());
    assert!(survivor.machine.machine().stats().isolated);
}

#[test]
fn refresh_fills_the_buckets_of_those_who_came_first() {
    let mut world = Simulation::joined(104, 150, &Config::default());
    world.run_for(Duration::from_secs(2 * 3600));
    for node in world.living() {
        let table = world.nodes[node as usize].machine.machine().table();
        let own = world.id(node).to_key();
        for bucket in 0..12 {
            let there = world
                .living()
                .filter(|&other| world.id(other).distance(own).leading_zeros() == bucket);
            let full = there.count().min(table.bucket_capacity(bucket));
            let holds = table.bucket_len(bucket);
            // Where more candidates than places exist the bucket is full; a small one holds nearly everybody.
            assert!(
                holds + full / 8 >= full,
                "node {node}, bucket {bucket}: {holds} of {full}"
            );
        }
    }
}

#[test]
fn half_of_a_network_may_come_and_go() {
    let mut world = Simulation::joined(105, 60, &Config::default());
    let config = world.nodes[0].config.clone();
    for round in 0..6 {
        for _ in 0..5 {
            let victim = world.dice.below(world.nodes.len() as u64) as u32;
            world.kill(victim);
            let id = world.dice.key().to_node_id();
            let newcomer = world.add(id, &config);
            let through = world.living().nth(3).expect("most live");
            let contacts = vec![world.contact(through)];
            world.ask(newcomer, Command::Bootstrap { contacts });
        }
        world.run_for(Duration::from_secs(1800));
        let target = world.dice.key();
        let asker = world.living().nth(round).expect("most live");
        let truth: Vec<u32> = world
            .nearest(target)
            .into_iter()
            .filter(|&node| node != asker)
            .take(20)
            .collect();
        let (outcome, _) = world.ask(asker, Command::FindNode { target });
        let Outcome::Closest(closest) = outcome else {
            panic!("{outcome:?}");
        };
        let found: Vec<u32> = closest.iter().map(|contact| contact.address).collect();
        assert_eq!(found, truth, "round {round}");
    }
}
