//! Experiment 8: what it costs one node to keep many keys alive.
//!
//! One node owns all the keys. All others lose what they hold, so that only the owner can bring it back, and then the
//! owner has the time of one cycle. What go-libp2p's sweep shows is that the lookups of a cycle need not grow with the
//! number of keys.

use std::sync::Arc;

use kad_core::{Config, Duration, Slot, Stats};

use super::{Experiment, Setup, node_bytes};
use crate::load::publish;
use crate::report::{Report, Row, Target};
use crate::{Growth, Links, Site, World};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "sweep",
    number: 8,
    question: "What does it cost one node to republish all of its keys once?",
    source: "go-libp2p-kad-dht's reprovide sweep: some 3,000 lookups a cycle, whatever the number of keys",
    nodes: 10_000,
    small: 400,
    // Twenty copies of ten small values for each node.
    memory: |nodes| nodes as u64 * (node_bytes(nodes, 20) + 200_000),
    run,
};

/// Keys for each node of the network: with 10,000 nodes 100,000 as in the experiment that is repeated.
const KEYS_PER_NODE: usize = 10;
/// The same network with a tenth of the keys shows what does not depend on their number.
const FEWER: usize = 10;
/// Puts in a second, while the keys are published for the first time.
const PER_SECOND: f64 = 200.0;
/// The interval in which the owner stores everything again.
const CYCLE: Duration = Duration::from_secs(3 * 3_600);

/// What one cycle took.
struct Cycle {
    keys: usize,
    stats: Stats,
    stores: u64,
    store_bytes: u64,
    requests: f64,
    /// Of the 20 nearest to a key, how many hold it in the end.
    holders: f64,
}

fn run(setup: &Setup<'_>) -> Report {
    let mut report = Report::default();
    let keys = KEYS_PER_NODE * setup.nodes;
    let few = cycle(setup, &mut report, keys / FEWER);
    let many = cycle(setup, &mut report, keys);
    let (lookups, fewer) = (many.stats.sweeps as f64, few.stats.sweeps as f64);
    report.push(
        Row::new(format!("lookups of a cycle, {} keys", many.keys), "", lookups)
            .reference(3_000.0)
            .target(Target::AtMost(0.25 * setup.nodes as f64)),
    );
    report.push(Row::new(
        format!("lookups of a cycle, {} keys", few.keys),
        "",
        fewer,
    ));
    report.push(
        Row::new("holders in the end, of the 20 nearest", "", many.holders).target(Target::AtLeast(19.0)),
    );
    let per_key = |total: f64| total / many.keys as f64;
    report.push(Row::new("keys for each lookup", "", many.keys as f64 / lookups));
    report.push(Row::new("requests for each key", "RPCs", per_key(many.requests)));
    report.push(Row::new(
        "STOREs for each key",
        "RPCs",
        per_key(many.stores as f64),
    ));
    report.push(Row::new(
        "bytes of STOREs for each key",
        "bytes",
        per_key(many.store_bytes as f64),
    ));
    let swept = 100.0 * per_key(many.stats.records_swept as f64);
    report.push(Row::new("keys stored again in the cycle", "%", swept));
    report.push(Row::new(
        "the last region was late by",
        "s",
        many.stats.late_by.as_secs_f64(),
    ));
    report.notes.push(format!(
        "In memory the owner has a page of at most 64 records for each of {} regions at once. Put one by one, each key takes a lookup of \
         some 27 requests.",
        Config::default().max_replications,
    ));
    report
}

fn cycle(setup: &Setup<'_>, report: &mut Report, keys: usize) -> Cycle {
    let mut config = Config::default();
    // Nobody else moves records meanwhile, so all that is sent is the owner's.
    let never = Duration::from_secs(30 * 86_400);
    (config.repair, config.first_repair, config.look_after) = (never, never, never);
    let mut owner = config.clone();
    owner.republish = CYCLE;
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

    setup.progress.stage("publishing", keys as u64);
    let slots = publish(
        &mut world,
        keys,
        PER_SECOND,
        true,
        |_| owner,
        |put| {
            setup.progress.done(put);
        },
    );
    (0..world.len())
        .filter(|&node| node != owner)
        .for_each(|node| world.burn(node));
    let quiet = idle_requests(&mut world, owner);
    let (before, traffic) = (stats(&world, owner), world.traffic());
    world.run_for(CYCLE);
    let (mut after, sent) = (stats(&world, owner), world.traffic() - traffic);
    after.sweeps -= before.sweeps;
    after.records_swept -= before.records_swept;
    let holders = |slot: &Slot| {
        let nearest = world.serving().closest(slot.key, 20).into_iter();
        nearest
            .filter(|contact| world.holds(contact.address.number(), slot))
            .count()
    };
    let held: usize = slots.iter().step_by(FEWER).map(holders).sum();
    let cycle = Cycle {
        keys,
        stores: sent.stores,
        store_bytes: sent.store_bytes,
        requests: (after.requests_sent - before.requests_sent) as f64 - quiet,
        holders: held as f64 / slots.len().div_ceil(FEWER) as f64,
        stats: after,
    };
    report.close(&world);
    cycle
}

fn stats(world: &World, node: usize) -> Stats {
    world
        .machine(node)
        .map(kad_core::Kademlia::stats)
        .unwrap_or_default()
}

/// Requests that the owner sends in a cycle for its table alone, measured just before.
fn idle_requests(world: &mut World, owner: usize) -> f64 {
    const PART: u32 = 36;
    let before = stats(world, owner).requests_sent;
    world.run_for(CYCLE / PART);
    f64::from(PART) * (stats(world, owner).requests_sent - before) as f64
}
