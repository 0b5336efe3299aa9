//! Experiment 5: how fast lookups are for so many bytes, while nodes come and go (Li et al. 2005).
//!
//! Nodes stay for an hour on average, and a stranger takes the place of each that leaves. Every node looks up a random
//! key every ten minutes. A lookup is good if within four seconds it has an answer from the node that really is nearest
//! to the key; it took as long as that answer did. Everything that is sent counts: joins, refreshes, PINGs, lookups.
//!
//! The network is run once with each of some settings of the core. Those that nobody beats in both bytes and latency
//! (or failures) are the lower envelope, and what it has at 10 and at 40 bytes for each node and second is the result.

mod envelope;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use kad_core::{Command, Duration, Effort, Instant, Key, NodeId, Outcome, QueryId};
use rand_distr::Exp1;

use self::settings::{SETTINGS, Setting};
use super::{Experiment, Setup, node_bytes};
use crate::links::Delay;
use crate::report::{Report, Row, Samples};
use crate::{Growth, Happening, Links, Sessions, Site, Traffic, World};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "bandwidth",
    number: 5,
    question: "How fast are lookups for so many bytes, and how many fail, when nodes stay for an hour?",
    source: "Li et al. 2005, figures 3 and 4: at 10 B/node/s Kademlia takes 450 ms and OneHop 160 ms",
    nodes: 1_024,
    small: 200,
    memory: |nodes| nodes as u64 * (node_bytes(nodes, 20) + 4_096),
    run,
};

/// The mean session.
const SESSION: Duration = Duration::from_secs(3600);
/// The mean time between two lookups of a node.
const LOOKUP_EVERY: f64 = 600.0;
/// A lookup that takes longer has failed.
const BUDGET: Duration = Duration::from_secs(4);
/// Times the delays of [`Delay::Internet`]: round trips then have a median of 156 ms.
const SCALE: f64 = 156.0 / 140.0;
/// Connections of a node with cold links: those of the QUIC transport.
const CONNECTIONS: usize = 128;
/// From here on a run is as long as theirs.
const LARGE: usize = 1_000;

fn run(setup: &Setup<'_>) -> Report {
    let mut report = Report::default();
    let links = Links {
        delay: Delay::Internet { scale: SCALE },
        ..Links::default()
    };
    setup.progress.stage("settings", SETTINGS.len() as u64 + 1);
    let mut points = Vec::new();
    for (done, setting) in SETTINGS.iter().enumerate() {
        points.push(measure(setup, setting, links, &mut report));
        setup.progress.done(done as u64 + 1);
    }
    envelope::rows(&mut report, &points, setup.nodes >= LARGE);
    if let Some(cheap) = envelope::cheap(&points) {
        envelope::parts(&mut report, "at 10 B/s", cheap);
        let links = Links {
            connections: Some(CONNECTIONS),
            ..links
        };
        let cold = measure(setup, cheap.setting, links, &mut report);
        let row = |what: &str, unit, result| Row::new(format!("at 10 B/s, cold links: {what}"), unit, result);
        report.push(row("median latency", "ms", cold.median));
        report.push(row("failures", "%", cold.failures));
        report.push(row("QUIC bytes", "B/s", cold.quic));
    }
    if let Some(default) = points.last() {
        let row = |what: &str, unit, result| Row::new(format!("defaults: {what}"), unit, result);
        report.push(row("median latency", "ms", default.median));
        report.push(row("failures", "%", default.failures));
        envelope::parts(&mut report, "defaults", default);
    }
    setup.progress.done(SETTINGS.len() as u64 + 1);
    report.charts.extend(envelope::charts(&points));
    envelope::notes(&mut report, &points);
    report.notes.push(format!(
        "OneHop took 160 ms at 10 B/s. Bytes are those of the cost model of Li et al., 20 for a message and 4 for each node or \
         key in it, except where QUIC is named. Links stand, as in that paper; cold links are the {CONNECTIONS} connections of a \
         real node, whose handshakes cost a round trip and bytes. Latency is the time until the nearest node has answered."
    ));
    report
}

/// What one setting costs and gives.
struct Point {
    setting: &'static Setting,
    /// Bytes for each node and second, in the cost model of Li et al.
    bytes: f64,
    /// The same as frames over QUIC.
    quic: f64,
    /// Of the bytes, those of PINGs, of joins, of lookups and of everything else, which is refreshes.
    parts: [f64; 4],
    /// Milliseconds until the nearest had answered, of the good lookups.
    median: f64,
    p90: f64,
    /// The median of the milliseconds until it was known to be the nearest.
    end: f64,
    /// Percent.
    failures: f64,
    /// Of a lookup.
    requests: f64,
    lookups: usize,
}

/// Runs a network with a setting.
fn measure(setup: &Setup<'_>, setting: &'static Setting, links: Links, report: &mut Report) -> Point {
    let config = Arc::new(setting.config());
    let mut world = World::new(setup.seed, links);
    world.grow(setup.nodes, Site::Private, &config, Growth::default());
    world.churn(Sessions::strangers(SESSION));
    let (warm, measured) = times(setup.nodes);
    let mut load = Load::default();
    load.run(&mut world, warm);
    let before = world.traffic();
    let mut load = Load::default();
    load.run(&mut world, measured);
    let spent = world.traffic() - before;
    report.close(&world);
    load.into_point(setting, &spent, setup.nodes as f64 * measured.as_secs_f64())
}

/// How long nodes come and go before the figures are taken, and while they are.
const fn times(nodes: usize) -> (Duration, Duration) {
    match nodes {
        LARGE.. => (SESSION, Duration::from_secs(6 * 3600)),
        _ => (Duration::from_secs(600), Duration::from_secs(1200)),
    }
}

/// Lookups at random times from random nodes, and what came of them.
#[derive(Default)]
struct Load {
    under_way: BTreeMap<QueryId, (usize, Key)>,
    nearest: Samples,
    end: Samples,
    failed: usize,
    /// Of all lookups, their own node's end apart.
    requests: u64,
}

impl Load {
    /// Begins lookups for so long. Those that have not ended by then do not count.
    fn run(&mut self, world: &mut World, span: Duration) {
        let until = world.now().monotonic + span;
        let mut next = later(world);
        while next < until {
            self.watch(world, next);
            let (node, target) = (world.anyone(), world.dice().key());
            let query = world.command(node, Command::FindNode { target });
            self.under_way.insert(query, (node, target));
            next = later(world);
        }
        self.watch(world, until);
    }

    fn watch(&mut self, world: &mut World, until: Instant) {
        while let Some(happening) = world.next(until) {
            match happening {
                Happening::Finished {
                    query,
                    outcome,
                    effort,
                    ..
                } => {
                    if let Some((node, target)) = self.under_way.remove(&query) {
                        let found = match outcome {
                            Outcome::Closest(closest) => closest.first().map(|contact| contact.id),
                            _ => None,
                        };
                        let truth = nearest_other(world, node, target);
                        self.note(found.is_some() && found == truth, &effort);
                    }
                }
                // Nobody waits for the answer any more.
                Happening::Down { node: down } => self.under_way.retain(|_, (node, _)| *node != down),
                Happening::Up { .. } | Happening::Woke { .. } => {}
            }
        }
    }

    fn note(&mut self, right: bool, effort: &Effort) {
        self.requests += u64::from(effort.requests);
        if right && effort.nearest_after <= BUDGET {
            self.nearest.push(1000.0 * effort.nearest_after.as_secs_f64());
            self.end.push(1000.0 * effort.took.as_secs_f64());
        } else {
            self.failed += 1;
        }
    }

    fn into_point(mut self, setting: &'static Setting, spent: &Traffic, node_seconds: f64) -> Point {
        let lookups = self.nearest.len() + self.failed;
        let pings = 20.0 * (spent.pings + spent.pongs) as f64;
        // All others are FIND_NODE; the shares of their bytes are those of the requests.
        let others = (spent.requests - spent.pings) as f64;
        let each = (spent.li_bytes as f64 - pings) / others;
        let (joins, looking) = (spent.joining as f64, self.requests as f64);
        let parts = [
            pings,
            joins * each,
            looking * each,
            (others - joins - looking) * each,
        ];
        Point {
            setting,
            bytes: spent.li_bytes as f64 / node_seconds,
            quic: spent.quic_bytes() as f64 / node_seconds,
            parts: parts.map(|bytes| bytes / node_seconds),
            failures: 100.0 * self.failed as f64 / lookups as f64,
            requests: looking / lookups as f64,
            median: self.nearest.quantile(0.5),
            p90: self.nearest.quantile(0.9),
            end: self.end.quantile(0.5),
            lookups,
        }
    }
}

/// When the next lookup of all nodes together begins: without memory.
fn later(world: &mut World) -> Instant {
    let mean = LOOKUP_EVERY / world.serving().len().max(1) as f64;
    let gap: f64 = world.dice().draw(&Exp1);
    world.now().monotonic + Duration::from_secs_f64(gap * mean)
}

/// The nearest to a point that is up, other than the node that asks.
fn nearest_other(world: &World, node: usize, target: Key) -> Option<NodeId> {
    let me = world.contact(node).id;
    let mut nearest = world
        .serving()
        .closest(target, 2)
        .into_iter()
        .map(|contact| contact.id);
    nearest.find(|&id| id != me)
}
