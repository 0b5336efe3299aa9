//! Whether nodes know the k nearest to themselves.

use kad_core::{Command, Config, Duration, Parameters};

use crate::simulation::Simulation;

fn config_of(k: u16) -> Config {
    Config::for_network(&Parameters {
        k,
        ..Parameters::default()
    })
}

/// How many of the k living nodes that are nearest to it each living node knows.
fn known_of_nearest(world: &Simulation, k: usize) -> Vec<usize> {
    let known = |node: u32| {
        let (table, own) = (
            world.nodes[node as usize].machine.machine().table(),
            world.id(node),
        );
        let nearest = world
            .nearest(own.to_key())
            .into_iter()
            .filter(|&other| other != node);
        nearest
            .take(k)
            .filter(|&other| table.get(world.id(other)).is_some())
            .count()
    };
    world.living().map(known).collect()
}

/// Nodes that know at least so many.
fn at_least(known: &[usize], least: usize) -> usize {
    known.iter().filter(|&&known| known >= least).count()
}

#[test]
fn every_node_knows_all_of_its_k_nearest_soon_after_it_joined() {
    for (seed, k) in [(201, 4), (202, 8), (203, 20)] {
        let mut config = config_of(k);
        let whole = |config: &Config| {
            let mut world = Simulation::joined(seed, 250, config);
            world.run_for(Duration::from_secs(60));
            at_least(&known_of_nearest(&world, k.into()), k.into())
        };
        let with = whole(&config);
        config.table.neighbourhood = 0;
        let without = whole(&config);
        eprintln!("k = {k}: {with} of 250 nodes know all of their nearest, {without} without the rule");
        assert_eq!(with, 250);
        assert!(without < 250, "this network is too small to need the rule");
    }
}

/// Replaces one node a minute, a hundred in all, and looks each minute at what the others know. How many
/// of a hundred know all of their k nearest, and how many lack at most one.
fn under_churn(config: &Config) -> (usize, usize) {
    let (mut nodes, mut all, mut nearly) = (0, 0, 0);
    let mut world = Simulation::joined(211, 200, config);
    world.run_for(Duration::from_secs(60));
    let config = world.nodes[0].config.clone();
    for _ in 0..100 {
        let pick = world.dice.below(200) as usize;
        let victim = world.living().nth(pick).expect("as many live");
        world.kill(victim);
        let id = world.dice.key().to_node_id();
        let newcomer = world.add(id, &config);
        let through = world.living().next().expect("as many live");
        let contacts = vec![world.contact(through)];
        world.ask(newcomer, Command::Bootstrap { contacts });
        world.run_for(Duration::from_secs(60));
        let known = known_of_nearest(&world, config.k);
        nodes += known.len();
        all += at_least(&known, config.k);
        nearly += at_least(&known, config.k - 1);
    }
    eprintln!("{all} of {nodes} know all of their nearest, {nearly} all but one");
    (all * 100 / nodes, nearly * 100 / nodes)
}

#[test]
fn neighbourhoods_stay_whole_while_half_of_a_network_comes_and_goes() {
    let mut config = config_of(8);
    config.table.neighbourhood = 0;
    let (without, _) = under_churn(&config);
    config.table.neighbourhood = config.k;
    let (all, nearly) = under_churn(&config);
    assert!(
        all >= 90 && all > without,
        "{all} of 100 know all of their nearest"
    );
    assert!(nearly >= 98, "{nearly} of 100 know all but one");
    // Half as many again, and who moves up when a neighbour dies is known already.
    config.table.neighbourhood = config.k + config.k / 2;
    let (all, _) = under_churn(&config);
    assert!(all >= 98, "{all} of 100 know all of their nearest");
}
