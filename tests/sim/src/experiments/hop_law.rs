//! Experiment 1: how many hops a lookup takes.
//!
//! With k contacts in each bucket a greedy hop brings 1 + m_k bits, where m_k is the mean of the leading zeros that the best
//! of k random ids adds (Cai and Devroye 2013; Stutzbach and Rejaie 2006). Tables here are built by the join protocol.

use std::sync::Arc;

use kad_core::{Config, Key, Parameters, table::ClosestScratch};

use super::{Experiment, Setup, node_bytes};
use crate::report::{Report, Row, Samples, Target};
use crate::{Growth, Links, Site, World};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "hop-law",
    number: 1,
    question: "How many hops does a lookup take, and how many bits does each bring?",
    source: "Cai and Devroye 2013, Stutzbach and Rejaie 2006; Monte Carlo with perfect tables",
    nodes: 100_000,
    small: 1_000,
    memory: |nodes| nodes as u64 * node_bytes(nodes, 20),
    run,
};

fn run(setup: &Setup<'_>) -> Report {
    let mut report = Report::default();
    let config = Arc::new(Config::for_network(&Parameters::default()));
    let mut world = World::new(setup.seed, Links::quick());
    setup.progress.stage("joining", setup.nodes as u64);
    world.grow_watched(setup.nodes, Site::Private, &config, Growth::default(), |n| {
        setup.progress.done(n as u64);
    });
    world.run_for(kad_core::Duration::from_secs(600));
    let mut hops = Samples::default();
    let mut scratch = ClosestScratch::default();
    for _ in 0..20_000 {
        let (from, target) = (world.anyone(), world.dice().key());
        hops.push(walk(&world, from, target, &mut scratch) as f64);
    }
    report.push(
        Row::new("mean hops, k = 20", "hops", hops.mean())
            .reference(1.93)
            .target(Target::AtMost(2.03)),
    );
    report.close(&world);
    report
}

/// Hops of a walk that goes to the nearest known contact until nobody nearer is known.
fn walk(world: &World, from: usize, target: Key, scratch: &mut ClosestScratch) -> usize {
    let (mut at, mut hops) = (from, 0);
    while let Some(table) = world.machine(at).map(kad_core::Kademlia::table) {
        let Some(next) = table
            .closest(target, 1, scratch)
            .next()
            .map(|entry| *entry.contact)
        else {
            break;
        };
        if next.id.distance(target) >= world.contact(at).id.distance(target) {
            break;
        }
        at = next.address.number();
        hops += 1;
    }
    hops
}
