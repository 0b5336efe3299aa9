//! Experiment 10: whole networks in one process, and the same run twice.
//!
//! Every node is a whole state machine that joins through one other node and fills its own table. With more than
//! [`LARGE`] nodes buckets hold 8 contacts instead of 20, so that a million nodes fit into the memory of a desk.

use std::sync::Arc;
use std::time::Instant as Wall;

use kad_core::{Command, Config, Duration, Outcome, Parameters};

use super::{Experiment, Setup, node_bytes};
use crate::load::drive;
use crate::report::{Report, Row, Samples, Target};
use crate::{Growth, Links, Site, World, memory};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "scale",
    number: 10,
    question: "What does a node cost, how fast is the simulator, and is the same seed the same run?",
    source: "iroh 2025: 100,000 nodes in one process, some 200 kB each",
    nodes: 100_000,
    small: 1_000,
    memory: |nodes| nodes as u64 * (node_bytes(nodes, k_of(nodes)) + 700) + (64 << 20),
    run,
};

/// With more nodes, k is 8.
const LARGE: usize = 300_000;
/// Nodes of the network that is made twice.
const TWICE: usize = 1_000;
/// Fewer nodes cannot be told from the rest of the process.
const WORTH_WEIGHING: usize = 10_000;
/// From the last join to the measurements.
const SETTLE: Duration = Duration::from_secs(120);

const fn k_of(nodes: usize) -> usize {
    if nodes > LARGE { 8 } else { 20 }
}

fn run(setup: &Setup<'_>) -> Report {
    let mut report = Report::default();
    let (nodes, k) = (setup.nodes, k_of(setup.nodes));
    let first = build(setup, nodes.min(TWICE), setup.seed);
    let again = build(setup, nodes.min(TWICE), setup.seed);
    let same = first.trace().hash() == again.trace().hash();
    drop((first, again));

    let before = memory::resident();
    let wall = Wall::now();
    let mut world = build(setup, nodes, setup.seed);
    let joined = wall.elapsed();
    let grown = memory::resident()
        .zip(before)
        .map(|(now, before)| now.saturating_sub(before));
    let simulated = Duration::from_micros(world.now().monotonic.as_micros());
    let (events, traffic) = (world.events(), world.traffic());
    let contacts = (0..nodes)
        .filter_map(|node| world.machine(node))
        .map(|machine| machine.table().len());
    let contacts = contacts.sum::<usize>() as f64 / nodes as f64;

    let (mut exact, mut requests) = (Samples::default(), Samples::default());
    drive(
        &mut world,
        (nodes / 2).clamp(50, 1_000),
        50.0,
        |world| {
            let (node, target) = (world.anyone(), world.dice().key());
            let truth = world.closest_to_others(node, target, k);
            (node, Command::FindNode { target }, truth)
        },
        |_, done| {
            let found = matches!(done.outcome, Some(Outcome::Closest(closest)) if closest == done.note);
            exact.push(if found { 100.0 } else { 0.0 });
            requests.push(f64::from(done.effort.requests));
        },
    );

    let full = nodes == EXPERIMENT.nodes;
    let wants = |row: Row, target| if full { row.target(target) } else { row };
    // A small network fits into what the process had already.
    if let Some(grown) = grown.filter(|_| nodes >= WORTH_WEIGHING) {
        let each = grown as f64 / nodes as f64;
        let row = Row::new(format!("memory of a node, k = {k}"), "bytes", each).reference(200_000.0);
        report.push(wants(row, Target::AtMost(25_000.0)));
        let row = Row::new("memory of the network", "MB", grown as f64 / 1e6);
        report.push(wants(row, Target::AtMost(2_500.0)));
    }
    report.push(Row::new("contacts of a node", "", contacts));
    let row = Row::new(
        "events a second, joining",
        "",
        events as f64 / joined.as_secs_f64(),
    );
    report.push(wants(row, Target::AtLeast(300_000.0)));
    report.push(Row::new("wall time of the join", "s", joined.as_secs_f64()));
    report.push(Row::new(
        "simulated time of the join",
        "s",
        simulated.as_secs_f64(),
    ));
    report.push(Row::new(
        "simulated to real time",
        "times",
        simulated.as_secs_f64() / joined.as_secs_f64(),
    ));
    report.push(Row::new(
        "requests of a join",
        "RPCs",
        traffic.requests as f64 / nodes as f64,
    ));
    report.push(Row::new("exact lookups afterwards", "%", exact.mean()).target(Target::AtLeast(99.0)));
    report.push(Row::new("requests of a lookup", "RPCs", requests.mean()));
    let same = if same { 1.0 } else { 0.0 };
    report.push(Row::new("same seed, same hash (1 is yes)", "", same).target(Target::AtLeast(1.0)));
    report.notes.push(format!(
        "Memory is what the process holds after the join and not before; the hash is that of {} nodes, made twice.",
        nodes.min(TWICE)
    ));
    report.close(&world);
    report
}

fn build(setup: &Setup<'_>, nodes: usize, seed: u64) -> World {
    let k = u16::try_from(k_of(setup.nodes)).unwrap_or(20);
    let mut config = Config::for_network(&Parameters {
        k,
        ..Parameters::default()
    });
    if setup.nodes > LARGE {
        // Each that waits for a place would be a tenth of such a table.
        config.table.replacements = 0;
    }
    let mut world = World::new(seed, Links::quick());
    setup
        .progress
        .stage(&format!("joining {nodes} nodes"), nodes as u64);
    let growth = Growth {
        most: 2_000.0,
        ..Growth::default()
    };
    world.grow_watched(nodes, Site::Private, &Arc::new(config), growth, |n| {
        setup.progress.done(n as u64);
    });
    world.run_for(SETTLE);
    world
}
