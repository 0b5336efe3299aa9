//! Experiment 4: how fast a value comes, with internet-like delays and many dead contacts.
//!
//! Values are put into a healthy network. Then a share of all nodes dies without a word, so that the tables of the
//! others hold as many dead contacts, and the values are read by nodes that do not hold them. Once with connections to
//! everybody (*warm links*), which is what the published figures speak of, and once with the pool of a real node (*cold
//! links*).

use std::sync::Arc;

use kad_core::{Command, Config, Duration, Effort, Key, Kind, Outcome, Read};

use super::{Experiment, Setup, node_bytes};
use crate::load::{drive, put_anywhere};
use crate::report::{Chart, Curve, Report, Row, Samples, Target};
use crate::{Growth, Links, Site, World};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "sub-second",
    number: 4,
    question: "How long does a value take to come, with internet-like delays and 15 % of dead contacts?",
    source: "Jimenez et al. 2011 (Mainline): under a second; Trautwein et al. 2022 (IPFS): walks of 619 ms on average",
    nodes: 10_000,
    small: 500,
    memory: |nodes| nodes as u64 * (3 * node_bytes(nodes, 20) + 4_096),
    run,
};

/// The share of nodes that die.
const DEAD: f64 = 0.15;
/// The share of packets that are lost.
const LOSS: f64 = 0.01;
/// Connections of a node with cold links: those of the QUIC transport.
const CONNECTIONS: usize = 128;
/// Contacts in the first buckets of a node that has wide ones.
const WIDE: [u16; 5] = [160, 120, 80, 60, 40];
/// Warm links, and nodes with these buckets.
const WARM_AND_WIDE: &str = "warm, wide buckets";
/// Operations of each kind; with fewer, a 99th percentile is the one slowest.
const FEWEST: usize = 400;
const MOST: usize = 2_000;
/// Operations begun in a second, all over the network.
const PER_SECOND: f64 = 50.0;

fn run(setup: &Setup<'_>) -> Report {
    let mut report = Report::default();
    let mut chart = Chart {
        title: "Time to the first value, 15 % of contacts dead".into(),
        x: "ms".into(),
        y: "% of reads".into(),
        log_x: true,
        curves: Vec::new(),
    };
    for (links, connections) in [("warm", None), ("cold", Some(CONNECTIONS))] {
        let mut world = joined(setup, links, connections, Config::default());
        let each = operations(setup.nodes);
        setup.progress.stage(&format!("reading, {links} links"), 4);
        let keys = put(&mut world, each);
        setup.progress.done(1);
        let mut healthy = look_up(&mut world, each);
        setup.progress.done(2);
        kill(&mut world, setup.nodes);
        let mut reads = read(&mut world, &keys);
        setup.progress.done(3);
        let mut dead = look_up(&mut world, each);
        chart.curves.push(Curve {
            name: format!("{links} links"),
            points: reads.took.distribution(),
        });
        of_reads(&mut report, &mut reads, links, setup.nodes == EXPERIMENT.nodes);
        of_lookups(&mut report, &mut healthy, &mut dead, links);
        report.close(&world);
    }
    let mut wide = Config::default();
    wide.table = wide.table.with_wide(&WIDE);
    let mut world = joined(setup, WARM_AND_WIDE, None, wide);
    let each = operations(setup.nodes);
    setup
        .progress
        .stage(&format!("reading, {WARM_AND_WIDE} links"), 2);
    let keys = put(&mut world, each);
    kill(&mut world, setup.nodes);
    setup.progress.done(1);
    let mut reads = read(&mut world, &keys);
    chart.curves.push(Curve {
        name: format!("{WARM_AND_WIDE} links"),
        points: reads.took.distribution(),
    });
    of_reads(&mut report, &mut reads, WARM_AND_WIDE, false);
    report.notes.push(format!(
        "Wide: the first buckets hold {WIDE:?} contacts, which is for nodes that read much; the targets are those of the \
         defaults."
    ));
    report.close(&world);
    report.charts.push(chart);
    report
}

/// A network that has joined and settled.
fn joined(setup: &Setup<'_>, links: &str, connections: Option<usize>, config: Config) -> World {
    let links_of = Links {
        loss: LOSS,
        connections,
        ..Links::default()
    };
    let mut world = World::new(setup.seed, links_of);
    setup
        .progress
        .stage(&format!("joining, {links} links"), setup.nodes as u64);
    world.grow_watched(
        setup.nodes,
        Site::Private,
        &Arc::new(config),
        Growth::default(),
        |n| setup.progress.done(n as u64),
    );
    world.run_for(Duration::from_secs(900));
    world
}

/// How many of each kind.
fn operations(nodes: usize) -> usize {
    (nodes / 4).clamp(FEWEST, MOST)
}

/// A share of the nodes dies without a word.
fn kill(world: &mut World, nodes: usize) {
    for _ in 0..(nodes as f64 * DEAD) as usize {
        let victim = world.anyone();
        world.kill(victim);
    }
}

/// What the operations of one kind took.
#[derive(Default)]
struct Round {
    took: Samples,
    requests: Samples,
    good: Samples,
}

impl Round {
    fn add(&mut self, good: bool, effort: &Effort) {
        self.good.push(if good { 100.0 } else { 0.0 });
        self.took.push(effort.took.as_secs_f64() * 1000.0);
        self.requests.push(f64::from(effort.requests));
    }
}

/// Puts so many values.
fn put(world: &mut World, count: usize) -> Vec<Key> {
    let mut keys = Vec::new();
    let expiry = world.now().unix + Duration::from_secs(86_400);
    drive(
        world,
        count,
        PER_SECOND,
        |world| {
            let (node, command, slot) = put_anywhere(world, expiry, usize::MAX);
            keys.push(slot.key);
            (node, command, ())
        },
        |_, _| {},
    );
    world.run_for(Duration::from_secs(10));
    keys
}

/// Reads each value from a node that is far from it.
fn read(world: &mut World, keys: &[Key]) -> Round {
    let (mut round, mut next) = (Round::default(), keys.iter());
    drive(
        world,
        keys.len(),
        PER_SECOND,
        |world| {
            let key = *next.next().expect("one for each");
            let near = world.serving().closest(key, 40);
            let reader = loop {
                let node = world.anyone();
                if !near.contains(&world.contact(node)) {
                    break node;
                }
            };
            let (kind, read) = (Kind::Immutable, Read::First);
            (reader, Command::FindValue { key, kind, read }, ())
        },
        |_, done| {
            let found = matches!(&done.outcome, Some(Outcome::Found { records, .. }) if !records.is_empty());
            round.add(found, &done.effort);
        },
    );
    round
}

/// Looks up random points and compares the answers with the truth.
fn look_up(world: &mut World, count: usize) -> Round {
    let mut round = Round::default();
    drive(
        world,
        count,
        PER_SECOND,
        |world| {
            let (node, target) = (world.anyone(), world.dice().key());
            let truth = world.closest_to_others(node, target, 20);
            (node, Command::FindNode { target }, truth)
        },
        |_, done| {
            let exact = matches!(done.outcome, Some(Outcome::Closest(closest)) if closest == done.note);
            round.add(exact, &done.effort);
        },
    );
    round
}

fn of_reads(report: &mut Report, round: &mut Round, links: &str, full: bool) {
    let warm = links == "warm";
    for (share, name, reference, target) in [
        (0.5, "p50", 180.0, Some(60.0)),
        (0.9, "p90", 409.0, None),
        (0.99, "p99", 687.0, Some(500.0)),
    ] {
        let mut row = Row::new(
            format!("{links}: time to value, {name}"),
            "ms",
            round.took.quantile(share),
        );
        if warm {
            row = row.reference(reference);
        }
        report.push(match target.filter(|_| warm && full) {
            Some(target) => row.target(Target::AtMost(target)),
            None => row,
        });
    }
    report.push(
        Row::new(
            format!("{links}: requests of a read"),
            "RPCs",
            round.requests.mean(),
        )
        .target(Target::AtMost(8.0)),
    );
    report.push(
        Row::new(format!("{links}: values found"), "%", round.good.mean()).target(Target::AtLeast(99.9)),
    );
}

fn of_lookups(report: &mut Report, healthy: &mut Round, dead: &mut Round, links: &str) {
    for (state, round) in [("healthy", &mut *healthy), ("15 % dead", &mut *dead)] {
        let name = |what: &str| format!("{links}, {state}: lookup, {what}");
        report.push(Row::new(name("p50"), "ms", round.took.quantile(0.5)));
        report.push(Row::new(name("p99"), "ms", round.took.quantile(0.99)));
        report.push(Row::new(name("requests"), "RPCs", round.requests.mean()));
        report.push(Row::new(name("exact"), "%", round.good.mean()));
    }
    let ratio = dead.took.quantile(0.99) / healthy.took.quantile(0.99);
    let row = Row::new(
        format!("{links}: lookup p99, 15 % dead to healthy"),
        "times",
        ratio,
    );
    report.push(if links == "warm" {
        row.target(Target::AtMost(2.0))
    } else {
        row
    });
}
