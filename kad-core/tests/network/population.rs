//! What the nodes of a network think of its size.

use std::sync::Arc;

use kad_core::{Command, Config, Duration, Parameters, Population};

use crate::simulation::Simulation;

fn config_of(k: u16) -> Config {
    Config::for_network(&Parameters {
        k,
        ..Parameters::default()
    })
}

fn population(world: &Simulation, node: u32) -> Population {
    let stats = world.nodes[node as usize].machine.machine().stats();
    stats.population.expect("it has joined")
}

#[test]
fn every_node_knows_how_many_there_are_soon_after_it_joined() {
    for (seed, nodes, k) in [(501, 300, 8), (502, 200, 20)] {
        let mut world = Simulation::joined(seed, nodes, &config_of(k));
        // While the others were joining there were fewer.
        for (minutes, samples, off) in [(30, 4, nodes / 5), (150, 10, nodes / 12)] {
            world.run_for(Duration::from_secs(60 * minutes));
            let mut all: Vec<Population> = (0..nodes as u32).map(|node| population(&world, node)).collect();
            let held = all.iter().filter(|p| (p.low..=p.high).contains(&(nodes as u64)));
            let held = held.count();
            all.sort_by_key(|population| population.nodes);
            let [least, middle, most] =
                [nodes / 20, nodes / 2, nodes - nodes / 20 - 1].map(|rank| all[rank].nodes);
            eprintln!(
                "{nodes} nodes: {held} intervals hold that, estimates from {least} to {most}, half below {middle}"
            );
            assert!(held * 10 >= nodes * 9, "{held} of {nodes}");
            assert!(
                middle.abs_diff(nodes as u64) <= off as u64,
                "half of the estimates are below {middle}"
            );
            let fewest = all.iter().map(|population| population.samples).min();
            assert!(fewest >= Some(samples), "{fewest:?} samples");
        }
    }
}

#[test]
fn a_small_network_is_counted_exactly() {
    for nodes in [2, 3, 10, 20] {
        let mut world = Simulation::joined(510 + nodes as u64, nodes, &Config::default());
        world.run_for(Duration::from_secs(600));
        for node in 0..nodes as u32 {
            assert_eq!(
                population(&world, node).nodes,
                nodes as u64,
                "node {node} of {nodes}"
            );
        }
    }
}

#[test]
fn a_network_that_shrinks_to_a_half_is_noticed() {
    let mut world = Simulation::joined(520, 160, &config_of(8));
    world.run_for(Duration::from_secs(3600));
    (0..80).for_each(|node| world.kill(node));
    world.run_for(Duration::from_secs(24 * 3600));
    let mut all: Vec<u64> = world
        .living()
        .map(|node| population(&world, node).nodes)
        .collect();
    all.sort_unstable();
    assert!(
        (64..=96).contains(&all[40]),
        "half of the estimates are below {}",
        all[40]
    );
}

#[test]
fn a_node_that_looks_up_what_others_want_all_day_goes_on_taking_samples() {
    let mut world = Simulation::joined(530, 100, &config_of(8));
    world.run_for(Duration::from_secs(3600));
    let before = population(&world, 7).samples;
    for _ in 0..6 * 12 {
        for _ in 0..4 {
            let target = world.dice.key();
            world.ask(7, Command::FindNode { target });
        }
        world.run_for(Duration::from_secs(300));
    }
    let after = population(&world, 7).samples;
    assert!(after >= before + 4, "{before} samples, six hours later {after}");
}

#[test]
fn who_knows_k_contacts_and_has_looked_up_nothing_makes_a_guess() {
    let mut world = Simulation::joined(540, 200, &config_of(8));
    let config: Arc<Config> = world.nodes[0].config.clone();
    let id = world.dice.key().to_node_id();
    let newcomer = world.add(id, &config);
    let stats = |world: &Simulation| world.nodes[newcomer as usize].machine.machine().stats();
    let nearest: Vec<u32> = world.nearest(id.to_key()).into_iter().skip(1).take(8).collect();
    for node in nearest {
        assert_eq!(stats(&world).population, None);
        let contact = world.contact(node);
        world.ask(newcomer, Command::Ping { contact });
    }
    let guess = stats(&world).population.expect("it knows k contacts");
    assert_eq!(guess.samples, 0);
    assert!(guess.low <= 201 && guess.high >= 201, "{guess:?}");
}
