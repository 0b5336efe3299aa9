//! Joining and looking up, in networks where nobody dies.

use std::sync::Arc;

use kad_core::{Command, Config, Duration, Event, Input, Key, NodeId, Outcome, Parameters, QueryError};

use crate::simulation::Simulation;

fn config_of(k: u16) -> Config {
    Config::for_network(&Parameters {
        k,
        ..Parameters::default()
    })
}

/// Looks up random points and ids from random nodes, and compares each answer with that of somebody who knows everyone.
fn all_lookups_are_exact(world: &mut Simulation, lookups: usize) {
    for _ in 0..lookups {
        let asker = world.dice.below(world.nodes.len() as u64) as u32;
        let target = match world.dice.below(2) {
            0 => world.dice.key(),
            _ => {
                let node = world.dice.below(world.nodes.len() as u64) as u32;
                world.id(node).to_key()
            }
        };
        a_lookup_is_exact(world, asker, target);
    }
}

fn a_lookup_is_exact(world: &mut Simulation, asker: u32, target: Key) {
    let k = world.nodes[asker as usize].config.k;
    let truth: Vec<u32> = world
        .nearest(target)
        .into_iter()
        .filter(|&node| node != asker)
        .take(k)
        .collect();
    let (outcome, effort) = world.ask(asker, Command::FindNode { target });
    let Outcome::Closest(closest) = outcome else {
        panic!("{outcome:?}");
    };
    let found: Vec<u32> = closest.iter().map(|contact| contact.address).collect();
    assert_eq!(found, truth, "node {asker} looks for {target:?}");
    assert!(!effort.timed_out);
}

#[test]
fn every_lookup_finds_the_true_k_closest() {
    for (seed, nodes, lookups) in [(1, 2, 5), (2, 10, 30), (3, 40, 60), (4, 120, 100), (5, 300, 200)] {
        let mut world = Simulation::joined(seed, nodes, &Config::default());
        all_lookups_are_exact(&mut world, lookups);
    }
}

#[test]
fn every_lookup_is_exact_with_small_buckets() {
    for (seed, k) in [(11, 2), (12, 3), (13, 8)] {
        let mut world = Simulation::joined(seed, 100, &config_of(k));
        // Few places and many nodes: the first refreshes find those that joined later.
        world.run_for(Duration::from_secs(1200));
        all_lookups_are_exact(&mut world, 100);
    }
}

#[test]
fn every_lookup_is_exact_in_a_small_keyspace() {
    let mut world = Simulation::new(21);
    let config = Arc::new(config_of(3));
    // Ids that differ in their last six bits only: every bucket that can exist does, and all distances are small.
    for number in [
        0, 1, 2, 3, 7, 8, 12, 17, 21, 30, 31, 32, 33, 40, 47, 51, 55, 60, 62, 63,
    ] {
        world.add(NodeId::from_limbs([0, 0, 0, number]), &config);
    }
    world.join_all();
    for target in 0..64 {
        let asker = (target % 20) as u32;
        a_lookup_is_exact(&mut world, asker, Key::from_limbs([0, 0, 0, target]));
    }
}

#[test]
fn disjoint_paths_find_the_same_nodes() {
    let mut config = Config::default();
    config.paths = 4;
    let mut world = Simulation::joined(31, 100, &config);
    all_lookups_are_exact(&mut world, 60);
}

#[test]
fn one_contact_is_enough_to_join() {
    let mut world = Simulation::joined(41, 60, &Config::default());
    let id = world.dice.key().to_node_id();
    let newcomer = world.add(id, &Arc::new(Config::default()));
    let contacts = vec![world.contact(37)];
    let (outcome, _) = world.ask(newcomer, Command::Bootstrap { contacts });
    let node = &world.nodes[newcomer as usize];
    assert_eq!(
        outcome,
        Outcome::Bootstrapped {
            contacts: node.machine.machine().table().len()
        }
    );
    let joined = node
        .events
        .iter()
        .filter(|event| matches!(event, Event::Joined { .. }));
    assert_eq!(joined.count(), 1);
    // The others know it too, once their probes are answered.
    world.run_for(Duration::from_secs(2));
    for asker in [3, 17, 59] {
        a_lookup_is_exact(&mut world, asker, id.to_key());
    }
}

#[test]
fn a_node_that_knows_nobody_says_so() {
    let mut world = Simulation::new(51);
    let id = world.dice.key().to_node_id();
    let alone = world.add(id, &Arc::new(Config::default()));
    let target = world.dice.key();
    for command in [
        Command::FindNode { target },
        Command::Bootstrap { contacts: Vec::new() },
    ] {
        let (outcome, effort) = world.ask(alone, command);
        assert_eq!(outcome, Outcome::Failed(QueryError::NoContacts));
        assert_eq!(effort.requests, 0);
    }
}

#[test]
fn bootstrap_from_the_dead_ends_unanswered() {
    let mut world = Simulation::joined(52, 3, &Config::default());
    let (id, dead) = (
        world.dice.key().to_node_id(),
        vec![world.contact(1), world.contact(2)],
    );
    world.kill(1);
    world.kill(2);
    let newcomer = world.add(id, &Arc::new(Config::default()));
    let (outcome, _) = world.ask(newcomer, Command::Bootstrap { contacts: dead });
    assert_eq!(outcome, Outcome::Failed(QueryError::Unanswered));
}

#[test]
fn nobody_ever_knows_a_read_only_node() {
    let mut world = Simulation::joined(61, 40, &Config::default());
    let mut config = Config::default();
    config.read_only = true;
    let config = Arc::new(config);
    let first = world.contact(0);
    for _ in 0..5 {
        let id = world.dice.key().to_node_id();
        let reader = world.add(id, &config);
        world.ask(
            reader,
            Command::Bootstrap {
                contacts: vec![first],
            },
        );
        a_lookup_is_exact(&mut world, reader, id.to_key());
    }
    all_lookups_are_exact(&mut world, 40);
    world.run_for(Duration::from_secs(4000));
    for node in &world.nodes {
        for entry in node.machine.machine().table().contacts() {
            assert!(
                entry.contact.address < 40,
                "somebody routes through a read-only node"
            );
        }
    }
}

#[test]
fn a_contact_that_turns_read_only_is_dropped_at_once() {
    let mut world = Simulation::joined(62, 5, &Config::default());
    let knows = |world: &Simulation, id| world.nodes[0].machine.machine().table().get(id).is_some();
    let id = world.id(3);
    assert!(knows(&world, id));
    world.feed(3, Input::Role { read_only: true });
    let contact = world.contact(0);
    world.ask(3, Command::Ping { contact });
    assert!(!knows(&world, id));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = Simulation::joined(seed, 50, &Config::default());
        world.kill(7);
        all_lookups(&mut world);
        world.run_for(Duration::from_secs(3600));
        world.trace()
    };
    assert_eq!(run(71), run(71));
    assert_ne!(run(71), run(72));
}

fn all_lookups(world: &mut Simulation) {
    for asker in 0..5 {
        let target = world.dice.key();
        world.ask(asker, Command::FindNode { target });
    }
}

#[test]
fn idle_nodes_stay_quiet() {
    let mut world = Simulation::joined(81, 30, &Config::default());
    world.run_for(Duration::from_secs(2 * 3600));
    let sent = |world: &Simulation| -> u64 {
        let stats = world
            .nodes
            .iter()
            .map(|node| node.machine.machine().stats().requests_sent);
        stats.sum()
    };
    let before = sent(&world);
    world.run_for(Duration::from_secs(3600));
    let each = (sent(&world) - before) / 30;
    // At most a lookup of k for each of the handful of buckets that a network of thirty has.
    assert!(each < 10 * 25, "{each} requests an hour");
}

#[test]
fn a_lookup_tells_when_the_nearest_had_answered() {
    let mut world = Simulation::joined(21, 60, &config_of(8));
    let (late, mut waited) = (Duration::from_millis(120), 0);
    for round in 0..40 {
        let target = world.dice.key();
        let nearest = world.nearest(target);
        let asker = nearest[30];
        // In every second round the nearest is slow, in the others all who must answer besides it.
        let slow = if round % 2 == 0 {
            &nearest[..1]
        } else {
            &nearest[1..10]
        };
        for &node in slow {
            world.nodes[node as usize].remote = late;
        }
        let (outcome, effort) = world.ask(asker, Command::FindNode { target });
        let Outcome::Closest(closest) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(!effort.nearest_after.is_zero() && effort.nearest_after <= effort.took);
        // Or it was given up.
        let reached = closest[0].address == nearest[0];
        if round % 2 == 0 && reached {
            waited += 1;
            assert!(effort.nearest_after >= late, "{effort:?}");
        } else if round % 2 == 1 {
            assert!(reached && effort.nearest_after < effort.took, "{effort:?}");
        }
        for &node in slow {
            world.nodes[node as usize].remote = Duration::ZERO;
        }
    }
    assert!(waited >= 10, "the nearest was waited for in {waited} rounds");
    let contact = world.contact(0);
    let (_, effort) = world.ask(1, Command::Ping { contact });
    assert!(effort.nearest_after.is_zero(), "nothing was looked up");
}
