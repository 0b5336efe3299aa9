//! Experiment 12: how much do the holders of popular values have to do?
//!
//! Some values are asked for much more often than others: the n-th most popular one n times more seldom than the first
//! (Zipf's law, which web caches and DHTs have been measured to follow). All walks to a value end at its holders. Once
//! they alone answer, once the nodes on the way keep copies of what is popular.

use std::sync::Arc;

use kad_core::{Command, Config, Duration, Kind, Outcome, Read, Stats};

use super::{Experiment, Setup, node_bytes};
use crate::load::{drive, publish};
use crate::report::{Report, Row, Target};
use crate::{Growth, Links, Site, World};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "hot-keys",
    number: 12,
    question: "How often does the busiest node give values when some are very popular, with and without a cache?",
    source: "the paper, section 2.3: caching along the way of a lookup spreads the load of popular keys",
    nodes: 4_000,
    small: 300,
    memory: |nodes| nodes as u64 * (node_bytes(nodes, 20) + 100_000),
    run,
};

/// Values, for each node one.
const KEYS_PER_NODE: usize = 1;
/// Reads, for each node so many.
const READS_PER_NODE: usize = 50;
/// Reads in a second, for each thousand nodes.
const PER_SECOND: f64 = 50.0;
/// The node through which all others join is in nearly all tables and gets a tenth of all requests, whatever they are
/// for; it is left out.
const ENTRANCES: usize = 1;
/// Room of a cache: more than any node fills here.
const CACHE: usize = 1 << 20;

/// What the reads were for the nodes.
struct Load {
    /// Values that each node gave, fewest first.
    given: Vec<u64>,
    /// Requests that each node got, fewest first.
    requests: Vec<u64>,
    /// Of all reads, those that brought the value.
    found: usize,
    /// Of the values that were given, those from caches.
    hits: f64,
    /// Copies that lie in caches in the end.
    copies: usize,
}

fn busiest(sorted: &[u64]) -> f64 {
    sorted.last().map_or(0.0, |&most| most as f64)
}

fn mean(all: &[u64]) -> f64 {
    all.iter().sum::<u64>() as f64 / all.len() as f64
}

fn run(setup: &Setup<'_>) -> Report {
    let mut report = Report::default();
    let reads = READS_PER_NODE * setup.nodes;
    let without = load(setup, &mut report, 0);
    let with = load(setup, &mut report, CACHE);
    for (name, load) in [("without a cache", &without), ("with a cache", &with)] {
        let mut figure = |metric: &str, unit: &'static str, result: f64| {
            report.push(Row::new(format!("{name}: {metric}"), unit, result));
        };
        figure("values given by the busiest node", "", busiest(&load.given));
        figure("by the mean node", "", mean(&load.given));
        figure("busiest to mean", "", busiest(&load.given) / mean(&load.given));
        figure("requests at the busiest node", "RPCs", busiest(&load.requests));
        figure(
            "requests of a read",
            "RPCs",
            load.requests.iter().sum::<u64>() as f64 / reads as f64,
        );
        let found = 100.0 * load.found as f64 / reads as f64;
        report.push(Row::new(format!("{name}: values found"), "%", found).target(Target::AtLeast(99.9)));
    }
    let share = busiest(&with.given) / busiest(&without.given);
    let row = Row::new("the busiest node, with a cache to without", "", share);
    // In a small network everybody knows holders, and there is no way to them on which copies could lie.
    report.push(match setup.nodes >= EXPERIMENT.nodes {
        true => row.target(Target::AtMost(0.5)),
        false => row,
    });
    report.push(Row::new("values that came from caches", "%", 100.0 * with.hits));
    let copies = with.copies as f64 / keys(setup) as f64;
    report.push(Row::new(
        "copies in caches in the end, for each value",
        "",
        copies,
    ));
    report
}

const fn keys(setup: &Setup<'_>) -> usize {
    KEYS_PER_NODE * setup.nodes
}

fn load(setup: &Setup<'_>, report: &mut Report, cache_bytes: usize) -> Load {
    let mut config = Config::default();
    config.cache_bytes = cache_bytes;
    // What is counted is reading.
    let never = Duration::from_secs(30 * 86_400);
    (config.repair, config.first_repair, config.look_after) = (never, never, never);
    let mut world = World::new(setup.seed, Links::quick());
    setup.progress.stage("joining", setup.nodes as u64);
    world.grow_watched(
        setup.nodes,
        Site::Private,
        &Arc::new(config),
        Growth::default(),
        |n| {
            setup.progress.done(n as u64);
        },
    );
    let keys = keys(setup);
    let rate = PER_SECOND * setup.nodes as f64 / 1_000.0;
    setup.progress.stage("publishing", keys as u64);
    let slots = publish(&mut world, keys, rate, false, World::anyone, |put| {
        setup.progress.done(put);
    });

    let reads = READS_PER_NODE * setup.nodes;
    setup.progress.stage("reading", reads as u64);
    // How often one of the first n is asked for, for each n.
    let ranks: Vec<f64> = (1..=keys)
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / rank as f64;
            Some(*sum)
        })
        .collect();
    let all = ranks[keys - 1];
    let counted = |world: &World| -> Vec<Stats> {
        let machines = (0..world.len()).filter_map(|node| world.machine(node));
        machines.map(kad_core::Kademlia::stats).collect()
    };
    let before = counted(&world);
    let (mut found, mut done) = (0, 0);
    drive(
        &mut world,
        reads,
        rate,
        |world| {
            let share = all * world.dice().share();
            let rank = ranks.partition_point(|&sum| sum < share).min(keys - 1);
            let (key, kind, read) = (slots[rank].key, Kind::Immutable, Read::First);
            (world.anyone(), Command::FindValue { key, kind, read }, ())
        },
        |_, done_one| {
            found += usize::from(
                matches!(&done_one.outcome, Some(Outcome::Found { records, .. }) if records.len() == 1),
            );
            done += 1;
            setup.progress.done(done);
        },
    );
    let after = counted(&world);
    let of_each = |count: fn(&Stats) -> u64| {
        let since = after
            .iter()
            .zip(&before)
            .map(|(after, before)| count(after) - count(before));
        let mut sorted: Vec<u64> = since.skip(ENTRANCES).collect();
        sorted.sort_unstable();
        sorted
    };
    let (given, hits) = (
        of_each(|stats| stats.records_told),
        of_each(|stats| stats.cache_hits),
    );
    let load = Load {
        hits: mean(&hits) / mean(&given),
        given,
        requests: of_each(|stats| stats.requests_received),
        found,
        copies: after.iter().map(|stats| stats.cached).sum(),
    };
    report.close(&world);
    load
}
