//! Nobody stays in a table without being heard of. An oracle looks at every contact of every table, once a minute and
//! whatever happens: nodes come, go without a word, cease to serve, and look things up.

use std::sync::Arc;

use kad_core::{Command, Config, Duration, Input};

use crate::simulation::Simulation;

const MINUTE: Duration = Duration::from_secs(60);

/// The longest that a contact of somebody who lives was not heard of.
fn longest_silence(world: &Simulation) -> Duration {
    let tables = world
        .living()
        .map(|node| world.nodes[node as usize].machine.machine().table());
    let now = world.monotonic();
    let silences = tables.flat_map(|table| table.contacts().map(|entry| now.since(entry.last_seen)));
    silences.max().unwrap_or_default()
}

/// Somebody comes in through somebody who lives and serves.
fn come(world: &mut Simulation, config: &Arc<Config>) {
    let id = world.dice.key().to_node_id();
    let newcomer = world.add(id, config);
    let serving = world
        .living()
        .find(|&node| node != newcomer && !world.nodes[node as usize].machine.machine().is_read_only());
    let contacts = serving.map(|node| world.contact(node)).into_iter().collect();
    world.command(newcomer, Command::Bootstrap { contacts });
}

fn anybody(world: &mut Simulation) -> u32 {
    let living: Vec<u32> = world.living().collect();
    living[world.dice.below(living.len() as u64) as usize]
}

/// A network of so many nodes for three hours. Of `restless` hundredths one comes or goes each minute, and as many look
/// something up.
fn live(seed: u64, nodes: usize, restless: u64) {
    let config = Config::default();
    let mut world = Simulation::joined(seed, nodes, &config);
    let shared = Arc::new(config.clone());
    for minute in 0..180 {
        if world.dice.below(100) < restless {
            match world.dice.below(4) {
                0 | 1 => come(&mut world, &shared),
                2 => {
                    let node = anybody(&mut world);
                    world.kill(node);
                }
                _ => {
                    let (node, read_only) = (anybody(&mut world), world.dice.below(2) == 0);
                    world.feed(node, Input::Role { read_only });
                }
            }
        }
        if world.dice.below(100) < restless {
            let (node, target) = (anybody(&mut world), world.dice.key());
            world.command(node, Command::FindNode { target });
        }
        if minute == 60 {
            // A sixth dies at once, and those that are left have nothing to ask of them.
            for _ in 0..nodes / 6 {
                let node = anybody(&mut world);
                world.kill(node);
            }
        }
        world.run_for(MINUTE);
        let longest = longest_silence(&world);
        assert!(
            longest < config.refresh,
            "seed {seed}, {nodes} nodes, minute {minute}: {longest:?}"
        );
    }
}

#[test]
fn no_contact_of_any_table_is_unheard_of_for_a_refresh_in_quiet_networks() {
    for (seed, nodes) in [(801, 2), (802, 25), (803, 70), (804, 160)] {
        live(seed, nodes, 0);
    }
}

#[test]
fn no_contact_of_any_table_is_unheard_of_for_a_refresh_while_nodes_come_and_go() {
    for (seed, nodes, restless) in [(811, 10, 100), (812, 60, 30), (813, 60, 100), (814, 130, 60)] {
        live(seed, nodes, restless);
    }
}

#[test]
fn those_that_died_are_in_no_table_any_more_after_a_refresh() {
    for (seed, nodes) in [(821, 40), (822, 120)] {
        let config = Config::default();
        let mut world = Simulation::joined(seed, nodes, &config);
        world.run_for(Duration::from_secs(2000));
        let dead: Vec<u32> = (0..nodes as u32).filter(|node| node % 5 == 1).collect();
        dead.iter().for_each(|&node| world.kill(node));
        world.run_for(config.refresh);
        for node in world.living() {
            let table = world.nodes[node as usize].machine.machine().table();
            let held = table
                .contacts()
                .filter(|entry| dead.contains(&entry.contact.address));
            assert_eq!(held.count(), 0, "seed {seed}, node {node}");
        }
    }
}
