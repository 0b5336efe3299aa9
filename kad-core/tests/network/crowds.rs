//! Who takes the nodes nearest to a key for a crowd that hides it.

use kad_core::{Command, Config, Duration, Kind, Read};

use crate::simulation::Simulation;

/// Reads of random keys by the first so many nodes in turns, and how many of them went beyond the k nearest though all
/// are honest.
fn false_alarms(world: &mut Simulation, nodes: u32, reads: u32) -> u64 {
    for read in 0..reads {
        let (key, kind) = (world.dice.key(), Kind::Immutable);
        let command = Command::FindValue {
            key,
            kind,
            read: Read::First,
        };
        world.ask(read % nodes, command);
    }
    let machines = world.nodes.iter().map(|node| node.machine.machine());
    machines.map(|machine| machine.stats().widened).sum()
}

#[test]
fn in_a_network_that_has_just_grown_honest_nodes_are_no_crowd() {
    for (seed, nodes) in [(551, 10), (552, 30), (553, 100), (554, 300)] {
        let mut world = Simulation::joined(seed, nodes, &Config::default());
        let alarms = false_alarms(&mut world, nodes as u32, 600);
        eprintln!("{alarms} of 600 reads among {nodes} nodes");
        assert!(alarms <= 6, "{alarms} of 600 reads among {nodes} nodes");
    }
}

#[test]
fn in_a_network_that_is_settled_honest_nodes_are_no_crowd() {
    let mut world = Simulation::joined(555, 200, &Config::default());
    world.run_for(Duration::from_secs(3 * 3600));
    let alarms = false_alarms(&mut world, 200, 1_000);
    assert!(alarms <= 5, "{alarms} of 1,000 reads");
}

#[test]
fn nodes_that_know_a_network_of_a_tenth_take_hardly_anybody_for_a_crowd() {
    let mut world = Simulation::joined(556, 40, &Config::default());
    world.run_for(Duration::from_secs(24 * 3600));
    let (config, first) = (world.nodes[0].config.clone(), world.contact(0));
    for _ in 0..360 {
        let id = world.dice.key().to_node_id();
        let node = world.add(id, &config);
        let contacts = vec![first];
        world.ask(node, Command::Bootstrap { contacts });
    }
    let alarms = false_alarms(&mut world, 40, 800);
    eprintln!("{alarms} of 800 reads");
    assert!(alarms <= 24, "{alarms} of 800 reads");
}
