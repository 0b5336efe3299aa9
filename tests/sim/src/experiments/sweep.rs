//! Experiment 8: what it costs one node to keep many keys alive.
//!
//! One node owns all the keys and republishes each of them once. What go-libp2p's sweep shows is that the lookups of a cycle
//! need not grow with the number of keys; here each key still has a lookup of its own.

use std::sync::Arc;

use kad_core::{Config, Duration, Record};

use super::{Experiment, Setup, node_bytes};
use crate::report::{Report, Row, Target};
use crate::{Growth, Links, Site, World};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "sweep",
    number: 8,
    question: "What does it cost one node to republish all of its keys once?",
    source: "go-libp2p-kad-dht's reprovide sweep: some 3,000 lookups a cycle, whatever the number of keys",
    nodes: 10_000,
    small: 400,
    memory: |nodes| nodes as u64 * (node_bytes(nodes, 20) + 30_000),
    run,
};

/// Keys that one node has in the experiment that is repeated.
const KEYS: f64 = 100_000.0;
/// Keys that are really put and republished; the cost of each is the same.
const REAL: usize = 2_000;

fn run(setup: &Setup<'_>) -> Report {
    let mut report = Report::default();
    let mut config = Config::default();
    // Nobody else hands records on meanwhile, so all that is sent is the owner's.
    config.replicate = Duration::from_secs(7 * 86_400);
    let mut owner = Config::default();
    owner.replicate = Duration::from_secs(3_600);
    let mut world = World::new(setup.seed, Links::quick());
    setup.progress.stage("joining", setup.nodes as u64);
    world.grow_watched(
        setup.nodes - 1,
        Site::Private,
        &Arc::new(config),
        Growth::default(),
        |n| {
            setup.progress.done(n as u64);
        },
    );
    let id = world.dice().key().to_node_id();
    let owner = world.add(id, Site::Private, &Arc::new(owner));
    world.join(owner);
    world.run_for(Duration::from_secs(300));

    let keys = REAL.min(setup.nodes);
    setup.progress.stage("publishing", keys as u64);
    let expiry = world.now().unix + Duration::from_secs(6 * 86_400);
    for n in 0..keys {
        let value = world.dice().key().to_bytes();
        let record =
            Record::immutable(&value, expiry, world.rules(), world.now().unix).expect("a small value");
        let command = kad_core::Command::Store {
            record,
            expected: None,
            keep: true,
            enough: usize::MAX,
        };
        world.ask(owner, command);
        setup.progress.done(n as u64);
    }
    let machine = |world: &World| {
        world
            .machine(owner)
            .map(kad_core::Kademlia::stats)
            .unwrap_or_default()
    };
    let quiet = idle_requests(&mut world, owner);
    let (before, traffic) = (machine(&world), world.traffic());
    // All become due within the hour.
    world.run_for(Duration::from_secs(3_600));
    let (after, sent) = (machine(&world), world.traffic() - traffic);
    let lookups = (after.replications - before.replications) as f64;
    let requests = (after.requests_sent - before.requests_sent) as f64 - quiet;

    let per_key = lookups / keys as f64;
    report.push(
        Row::new("lookups of a cycle, 100,000 keys", "", per_key * KEYS)
            .reference(3_000.0)
            .target(Target::AtMost(0.25 * EXPERIMENT.nodes as f64)),
    );
    report.push(Row::new("lookups for each key", "", per_key));
    report.push(Row::new("requests for each key", "RPCs", requests / keys as f64));
    report.push(Row::new(
        "bytes for each key",
        "bytes",
        sent.store_bytes as f64 / keys as f64,
    ));
    report.push(Row::new(
        "keys republished within the hour",
        "%",
        100.0 * (per_key).min(1.0),
    ));
    report.notes.push(format!(
        "Measured with {keys} keys; each has a lookup of its own, so the cost is linear in their number. Republishing \
         region by region is not there yet.",
    ));
    report.close(&world);
    report
}

/// Requests that the owner sends in an hour for its table alone, measured just before.
fn idle_requests(world: &mut World, owner: usize) -> f64 {
    let sent = |world: &World| {
        world
            .machine(owner)
            .map_or(0, |machine| machine.stats().requests_sent)
    };
    let before = sent(world);
    world.run_for(Duration::from_secs(300));
    (sent(world) - before) as f64 * 12.0
}
