//! Experiment 1: how many hops a lookup takes.
//!
//! With k contacts in each bucket a greedy hop brings 1 + m_k bits, where m_k is the mean of the leading zeros that the
//! best of k random ids adds (Cai and Devroye 2013; Stutzbach and Rejaie 2006). Tables here are built by the join
//! protocol.
//!
//! A *hop* is a step from one node to the next: a walk that starts at the node nearest to the target takes none.
//! Targets are random points, and a walk ends where nobody nearer is known.

use std::sync::Arc;

use kad_core::table::ClosestScratch;
use kad_core::{Command, Config, Duration, Key, Parameters};

use super::{Experiment, Setup, node_bytes};
use crate::load::{drive, look_up_anywhere};
use crate::report::{Chart, Curve, Report, Row, Samples, Target};
use crate::{Growth, Links, Site, World};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "hop-law",
    number: 1,
    question: "How many hops does a lookup take, and how many bits does each bring?",
    source: "Cai and Devroye 2013, Stutzbach and Rejaie 2006; Monte Carlo with perfect tables",
    nodes: 100_000,
    small: 400,
    memory: |nodes| nodes as u64 * (node_bytes(nodes, if nodes > LARGE { 8 } else { 20 }) + 700),
    run,
};

/// In larger networks k = 20 is left out: they would not fit into the memory of a desk.
const LARGE: usize = 300_000;
/// Walks and lookups for each size and k.
const WALKS: usize = 20_000;
/// Lookups in a second.
const PER_SECOND: f64 = 200.0;
/// In smaller networks wide buckets have nobody to fill them.
const WORTH_WIDENING: usize = 2_000;

/// What theory says of a bucket size: bits of a hop, and the mean and the p99 of hops in networks of 10^3, 10^4, 10^5,
/// 10^6.
struct Law {
    k: u16,
    bits: f64,
    computed: &'static [(usize, f64, f64)],
}

const LAWS: [Law; 3] = [
    Law {
        k: 20,
        bits: 5.690,
        computed: &[
            (1_000, 1.93, 3.0),
            (10_000, 2.52, 4.0),
            (100_000, 3.11, 4.0),
            (1_000_000, 3.69, 5.0),
        ],
    },
    Law {
        k: 8,
        bits: 4.421,
        computed: &[
            (1_000, 2.37, 4.0),
            (10_000, 3.13, 5.0),
            (100_000, 3.88, 6.0),
            (1_000_000, 4.62, 7.0),
        ],
    },
    Law {
        k: 1,
        bits: 2.000,
        computed: &[],
    },
];

fn run(setup: &Setup<'_>) -> Report {
    let mut report = Report::default();
    let mut chart = Chart {
        title: "Hops of a greedy walk".into(),
        x: "nodes".into(),
        y: "mean hops".into(),
        log_x: true,
        curves: Vec::new(),
    };
    let walks = WALKS.min(20 * setup.nodes);
    for law in LAWS.iter().filter(|law| law.k < 20 || setup.nodes <= LARGE) {
        let mut points = Vec::new();
        for nodes in sizes(setup.nodes) {
            let config = Config::for_network(&Parameters {
                k: law.k,
                ..Parameters::default()
            });
            let mut world = join(setup, nodes, config);
            let mut greedy = greedy(&mut world, walks);
            let mut lookups = lookups(&mut world, walks.min(4 * nodes));
            let mean = greedy.mean();
            points.push((nodes as f64, mean));
            let named = |what: &str| format!("k = {}, {nodes} nodes: {what}", law.k);
            let computed = law.computed.iter().find(|&&(size, ..)| size == nodes);
            let mut row = Row::new(named("mean hops"), "hops", mean);
            if let Some(&(_, computed, _)) = computed {
                row = row.reference(computed).target(Target::AtMost(computed + 0.1));
            }
            report.push(row);
            let mut row = Row::new(named("p99 of hops"), "hops", greedy.quantile(0.99));
            row.reference = computed.map(|&(.., p99)| p99);
            report.push(row);
            report.push(Row::new(named("mean hops of lookups"), "hops", lookups.mean()));
            report.push(Row::new(
                named("p99 of hops of lookups"),
                "hops",
                lookups.quantile(0.99),
            ));
            report.close(&world);
        }
        if let (Some(&(few, first)), Some(&(many, last))) = (points.first(), points.last())
            && many > few
        {
            let bits = (many / few).log2() / (last - first);
            let row = Row::new(format!("k = {}: bits of a hop", law.k), "bits", bits).reference(law.bits);
            // Over less than two decades the noise of the walks is more than a hundredth.
            let row = match many / few >= 99.0 {
                true => row.target(Target::near(law.bits, 0.01 * law.bits)),
                false => row,
            };
            report.push(row);
            let theory = points
                .iter()
                .map(|&(nodes, _)| (nodes, first + (nodes / few).log2() / law.bits));
            chart.curves.push(Curve {
                name: format!("theory, k = {}", law.k),
                points: theory.collect(),
            });
        }
        chart.curves.push(Curve {
            name: format!("k = {}", law.k),
            points,
        });
    }
    if setup.nodes >= WORTH_WIDENING {
        wide(setup, &mut report);
    }
    report.charts.push(chart);
    report
}

/// Powers of ten from a thousand on; of a small network a quarter and the whole.
fn sizes(nodes: usize) -> Vec<usize> {
    if nodes < 10_000 {
        return vec![nodes / 4, nodes];
    }
    let mut sizes: Vec<_> = [1_000, 10_000, 100_000, 1_000_000]
        .into_iter()
        .filter(|&size| size < nodes)
        .collect();
    sizes.push(nodes);
    sizes
}

fn join(setup: &Setup<'_>, nodes: usize, config: Config) -> World {
    let mut world = World::new(setup.seed, Links::quick());
    setup
        .progress
        .stage(&format!("joining {nodes} nodes, k = {}", config.k), nodes as u64);
    world.grow_watched(nodes, Site::Private, &Arc::new(config), Growth::default(), |n| {
        setup.progress.done(n as u64);
    });
    world.run_for(Duration::from_secs(600));
    world
}

fn greedy(world: &mut World, walks: usize) -> Samples {
    let (mut hops, mut scratch) = (Samples::default(), ClosestScratch::default());
    for _ in 0..walks {
        let (from, target) = (world.anyone(), world.dice().key());
        hops.push(walk(world, from, target, &mut scratch) as f64);
    }
    hops
}

/// Hops of a walk that goes to the nearest known contact until nobody nearer is known.
fn walk(world: &World, from: usize, target: Key, scratch: &mut ClosestScratch) -> usize {
    let (mut at, mut hops) = (from, 0);
    while let Some(machine) = world.machine(at) {
        let nearest = machine.table().closest(target, 1, scratch).next();
        let next = nearest.map(|entry| *entry.contact).filter(|next| {
            let here = world.contact(at).id;
            next.id.distance(target) < here.distance(target)
        });
        let Some(next) = next else { break };
        at = next.address.number();
        hops += 1;
    }
    hops
}

/// Hops to the nearest node that production lookups found.
fn lookups(world: &mut World, count: usize) -> Samples {
    let mut hops = Samples::default();
    drive(world, count, PER_SECOND, look_up_anywhere, |_, done| {
        hops.push(f64::from(done.effort.hops));
    });
    hops
}

/// What wider far buckets buy, and what they cost.
fn wide(setup: &Setup<'_>, report: &mut Report) {
    let nodes = setup.nodes.min(10_000);
    for (name, sizes) in [
        ("none", &[][..]),
        ("40 x 3", &[40; 3]),
        ("80 x 4", &[80; 4]),
        ("160 x 5", &[160; 5]),
    ] {
        let mut config = Config::default();
        config.table = config.table.with_wide(sizes);
        let mut world = join(setup, nodes, config);
        let mut requests = Samples::default();
        drive(
            &mut world,
            (nodes / 4).min(2_000),
            PER_SECOND,
            |world| {
                (
                    world.anyone(),
                    Command::FindNode {
                        target: world.dice().key(),
                    },
                    (),
                )
            },
            |_, done| requests.push(f64::from(done.effort.requests)),
        );
        let contacts = (0..nodes)
            .filter_map(|node| world.machine(node))
            .map(|machine| machine.table().len());
        let contacts = contacts.sum::<usize>() as f64 / nodes as f64;
        let named = |what: &str| format!("wide buckets, {name}: {what}");
        report.push(Row::new(
            named("mean hops"),
            "hops",
            greedy(&mut world, WALKS.min(4 * nodes)).mean(),
        ));
        report.push(Row::new(named("requests of a lookup"), "RPCs", requests.mean()));
        report.push(Row::new(named("contacts of a node"), "", contacts));
        report.push(Row::new(named("bytes of the contacts"), "bytes", 56.0 * contacts));
        report.close(&world);
    }
}
