//! Experiment 6: how long it takes to publish, how many of the right nodes hold the record in the end, and what it
//! costs.
//!
//! Nodes have the connection pool of a real node, so most holders have to be dialled. Records are put when a share of
//! all contacts has just died, and read back by others.

use std::sync::Arc;

use kad_core::{Command, Config, Duration, Key, Kind, Outcome, Read, Slot};

use super::{Experiment, Setup, node_bytes};
use crate::load::{drive, look_up_anywhere, put_anywhere};
use crate::report::{Chart, Curve, Report, Row, Samples, Target};
use crate::{Growth, Links, Site, World};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "publish",
    number: 6,
    question: "How long does publishing take, and do the right nodes hold the record in the end?",
    source: "Trautwein et al. 2022 (IPFS), ProbeLab (Optimistic Provide, which returns after 15 of 20)",
    nodes: 15_000,
    small: 500,
    memory: |nodes| nodes as u64 * (node_bytes(nodes, 20) + 8_192),
    run,
};

/// The share of nodes that die before the first record is put.
const DEAD: f64 = 0.10;
/// Connections of a node: those of the QUIC transport.
const CONNECTIONS: usize = 128;
/// Records put in a second, all over the network. Few, or every node would soon have cleaned its table.
const PER_SECOND: f64 = 50.0;
/// Acknowledgements after which a put may be told to be done.
const FEW: usize = 10;
const ENOUGH: usize = 15;

fn run(setup: &Setup<'_>) -> Report {
    let mut report = Report::default();
    let links = Links {
        connections: Some(CONNECTIONS),
        ..Links::default()
    };
    let mut world = World::new(setup.seed, links);
    setup.progress.stage("joining", setup.nodes as u64);
    let config = Arc::new(Config::default());
    world.grow_watched(setup.nodes, Site::Private, &config, Growth::default(), |n| {
        setup.progress.done(n as u64);
    });
    world.run_for(Duration::from_secs(900));
    for _ in 0..(setup.nodes as f64 * DEAD) as usize {
        let victim = world.anyone();
        world.kill(victim);
    }
    let each = (setup.nodes / 3).clamp(50, 5_000);
    setup.progress.stage("publishing", 4);
    let mut few = publish(&mut world, each, FEW);
    setup.progress.done(1);
    let mut enough = publish(&mut world, each, ENOUGH);
    setup.progress.done(2);
    let classic = classic_cost(&mut world, each / 10);
    setup.progress.done(3);
    let mut reads = retrieve(&mut world, &enough.slots);
    let full = setup.nodes == EXPERIMENT.nodes;
    let at = |row: Row, target| {
        if full {
            row.target(Target::AtMost(target))
        } else {
            row
        }
    };
    for (name, round, p50, p95) in [
        ("10 acknowledgements", &mut few, Some(500.0), None),
        ("15 acknowledgements", &mut enough, Some(900.0), Some(1500.0)),
    ] {
        let mut quantile = |share, name: &str, what: &str, target: Option<f64>, reference: Option<f64>| {
            let mut row = Row::new(format!("{name}: {what}"), "ms", round.took.quantile(share));
            row.reference = reference;
            report.push(match target {
                Some(target) => at(row, target),
                None => row,
            });
        };
        let ipfs = name.starts_with("15");
        quantile(0.5, name, "p50", p50, ipfs.then_some(870.0));
        quantile(0.9, name, "p90", None, ipfs.then_some(1850.0));
        quantile(0.95, name, "p95", p95, None);
    }
    let holders = Row::new("correct holders in the end", "of 20", enough.holders.mean());
    report.push(holders.reference(18.0).target(Target::AtLeast(19.0)));
    report.push(Row::new(
        "acknowledged but not one of the 20 nearest",
        "holders",
        enough.astray.mean(),
    ));
    report.push(Row::new("requests of a put, all in all", "RPCs", enough.requests).reference(classic));
    report.push(
        Row::new("requests, to the classic way", "share", enough.requests / classic)
            .target(Target::AtMost(0.5)),
    );
    report.push(
        Row::new("puts that were told to be done", "%", enough.done.mean()).target(Target::AtLeast(99.9)),
    );
    report.push(Row::new("retrieve, p50", "ms", reads.took.quantile(0.5)));
    report.push(Row::new("retrieve, p95", "ms", reads.took.quantile(0.95)));
    report.push(Row::new("retrieved", "%", reads.done.mean()).target(Target::AtLeast(99.9)));
    report.charts.push(Chart {
        title: "Publishing: time until so many of the nearest hold the record".into(),
        x: "ms".into(),
        y: "% of puts".into(),
        log_x: true,
        curves: [
            ("10 acknowledgements", &mut few),
            ("15 acknowledgements", &mut enough),
        ]
        .into_iter()
        .map(|(name, round)| Curve {
            name: name.into(),
            points: round.took.distribution(),
        })
        .collect(),
    });
    report.notes.push(
        "The classic way, the reference of the requests: a whole lookup with FIND_NODE and then a STORE to each of the 20; \
         measured in the same network."
            .into(),
    );
    report.close(&world);
    report
}

#[derive(Default)]
struct Round {
    took: Samples,
    done: Samples,
    holders: Samples,
    astray: Samples,
    /// Of one operation, with what is done in the background.
    requests: f64,
    slots: Vec<Slot>,
}

fn publish(world: &mut World, count: usize, enough: usize) -> Round {
    let (mut round, before) = (Round::default(), world.traffic());
    let expiry = world.now().unix + Duration::from_secs(86_400);
    let mut slots = Vec::new();
    drive(
        world,
        count,
        PER_SECOND,
        |world| {
            let (node, command, slot) = put_anywhere(world, expiry, enough);
            slots.push(slot);
            (node, command, ())
        },
        |_, done| {
            let told =
                matches!(&done.outcome, Some(Outcome::Stored { holders, .. }) if holders.len() >= enough);
            round.done.push(if told { 100.0 } else { 0.0 });
            round.took.push(done.effort.took.as_secs_f64() * 1000.0);
        },
    );
    // What goes on in the background has come to its end.
    world.run_for(Duration::from_secs(30));
    let sent = world.traffic() - before;
    round.requests = (sent.requests - sent.pings) as f64 / count as f64;
    for slot in &slots {
        let nearest = world.serving().closest(slot.key, 60);
        let holds = |contact: &&kad_core::Contact<crate::Place>| world.holds(contact.address.number(), slot);
        round
            .holders
            .push(nearest.iter().take(20).filter(holds).count() as f64);
        round
            .astray
            .push(nearest.iter().skip(20).filter(holds).count() as f64);
    }
    round.slots = slots;
    round
}

/// Requests of a lookup and of a STORE to each of the results.
fn classic_cost(world: &mut World, count: usize) -> f64 {
    let mut requests = Samples::default();
    drive(world, count, PER_SECOND, look_up_anywhere, |_, done| {
        if let Some(Outcome::Closest(closest)) = &done.outcome {
            requests.push(f64::from(done.effort.requests) + closest.len() as f64);
        }
    });
    requests.mean()
}

fn retrieve(world: &mut World, slots: &[Slot]) -> Round {
    let (mut round, mut next) = (Round::default(), slots.iter());
    drive(
        world,
        slots.len(),
        PER_SECOND,
        |world| {
            let key: Key = next.next().expect("one for each").key;
            let (kind, read) = (Kind::Immutable, Read::First);
            (world.anyone(), Command::FindValue { key, kind, read }, ())
        },
        |_, done| {
            let found = matches!(&done.outcome, Some(Outcome::Found { records, .. }) if !records.is_empty());
            round.done.push(if found { 100.0 } else { 0.0 });
            round.took.push(done.effort.took.as_secs_f64() * 1000.0);
        },
    );
    round
}
