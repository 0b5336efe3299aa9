//! Experiment 13: a network most of whose nodes are behind NATs.
//!
//! All but a few entrances begin read-only and with no idea of where they are. They join through servers, hear from
//! each where they are seen, have their addresses checked by dial-back, and serve once strangers have reached them for
//! a minute; the others take places at relays. Every decision is that of the machines of `kad_net::nat`, which the
//! daemon drives; in front of each node stands one of the laboratory's NATs.
//!
//! Then read-only nodes look up and read, pairs of nodes connect, and at last some servers lose what made them
//! reachable, half of them without noticing. From the end of the joining on all tables are looked through once a minute
//! for contacts that nobody reaches.

mod pairs;
mod relays;
mod roles;
mod tables;

use std::sync::Arc;

use kad_core::{Command, Config, Duration, Kind as RecordKind, Outcome, Read};
use kad_net::nat::model::Kind;

use self::tables::Watch;
use super::{Experiment, Setup, node_bytes};
use crate::load::{drive, put_anywhere};
use crate::nat::{Front, Mix, Role, RoleChoice};
use crate::report::{Report, Row, Samples, Target};
use crate::{Links, Site, World};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "nat",
    number: 13,
    question: "Do nodes behind NATs find out what they are, find others and reach each other, and what do relays bear?",
    source: "Trautwein et al. 2025 (arXiv 2510.27500): 70 % of punches succeed in IPFS, 97.6 % of these at the first try",
    nodes: 10_000,
    small: 300,
    memory: |nodes| nodes as u64 * (node_bytes(nodes, 20) + HOME_BYTES),
    run,
};

/// Nodes that serve from the beginning, because their operators say so, are a twentieth of all, but at least so many
/// where there are as many: who joins a network of few servers knows all of them, and then nobody is a stranger who
/// could prove anything.
const FEWEST: usize = 250;
/// From here on a network is so large that most servers are strangers.
const LARGE: usize = 1_000;
/// Connections of a node: those of the QUIC transport.
const CONNECTIONS: usize = 128;
/// Bytes of the simulator for what stands in front of a node, its machines and its connections.
const HOME_BYTES: u64 = 60_000;
/// Nodes that join in a second, as a share of the servers: so many that those can check them all.
const JOINS: f64 = 0.03;
/// From the last join to the first look at roles: those who are reached have been for a minute.
const SETTLING: Duration = Duration::from_secs(600);
/// Lookups, and values that are read, by read-only nodes; fewer in networks of fewer nodes.
const LOOKUPS: usize = 5_000;
const PER_SECOND: f64 = 50.0;
/// Nodes of the network that loses servers, at most: it is watched for much longer than anything else takes.
const WATCHED_NODES: usize = 2_000;
/// From the loss of servers to the end: longer than a refresh.
const WATCHED: Duration = Duration::from_secs(85 * 60);

fn run(setup: &Setup<'_>) -> Report {
    let mut report = Report::default();
    let mut config = Config::default();
    config.read_only = true;
    let config = Arc::new(config);
    let mut world = join(setup, setup.nodes, operated(setup.nodes), None, &config);
    let mut watch = Watch::default();
    watch.run(&mut world, SETTLING);
    roles::tell(&mut report, &world);

    setup.progress.stage("lookups", 2);
    look_up(setup, &mut world, &mut report, config.k);
    setup.progress.done(1);
    read(setup, &mut world, &mut report);
    setup.progress.done(2);
    watch.look(&world);

    setup.progress.stage("connecting", 1);
    pairs::connect(&mut world, &mut report);
    relays::tell(&mut report, &world);
    watch.look(&world);
    let bad = Row::new("tables: contacts that nobody reaches", "%", watch.share());
    report.push(bad.target(Target::AtMost(0.0)));

    if setup.nodes > WATCHED_NODES {
        report.close(&world);
        drop(world);
        world = join(setup, WATCHED_NODES, operated(WATCHED_NODES), None, &config);
        world.run_for(SETTLING);
        watch = Watch::default();
    }
    setup.progress.stage("losing servers", 1);
    let lost = roles::lose(&mut world);
    watch.run(&mut world, WATCHED);
    roles::tell_lost(&mut report, &world, &lost);
    watch.tell(&mut report, &world, config.refresh);
    report.notes.push(format!(
        "{:.0} % of all nodes are behind something: {}; of these {:.0} % have a port forwarded. What is known of another \
         is taken from it, not read from its card in the network.",
        100.0 * Mix::default().behind,
        shares(&Mix::default()),
        100.0 * Mix::default().forwarded,
    ));
    report.close(&world);
    drop(world);
    if setup.nodes >= EXPERIMENT.nodes {
        few_servers(setup, &mut report, &config);
    }
    report
}

/// A network that begins with a dozen servers: what becomes of those who could serve, if they join at once, and if they
/// have their address checked before.
fn few_servers(setup: &Setup<'_>, report: &mut Report, config: &Arc<Config>) {
    for (name, first) in [
        ("at once", None),
        ("after a minute of checks", Some((4, Duration::from_secs(60)))),
    ] {
        let mut world = join(setup, 300, 12, first, config);
        world.run_for(SETTLING);
        let name = format!("300 nodes and 12 servers, joining {name}: reachable nodes that serve");
        report.push(Row::new(name, "%", roles::serving(&world).mean()));
        report.close(&world);
    }
}

/// How many are servers because their operators say so.
fn operated(nodes: usize) -> usize {
    (nodes / 20).max(FEWEST.min(nodes / 4))
}

fn shares(mix: &Mix) -> String {
    let share = |(kind, share): &(Kind, f64)| format!("{} {:.0} %", roles::name(*kind), 100.0 * share);
    mix.kinds.iter().map(share).collect::<Vec<_>>().join(", ")
}

/// A network that has joined. `first`: how many servers are asked for help before a node joins, and how long before.
fn join(
    setup: &Setup<'_>,
    nodes: usize,
    operated: usize,
    first: Option<(usize, Duration)>,
    config: &Arc<Config>,
) -> World {
    let links = Links {
        connections: Some(CONNECTIONS),
        ..Links::default()
    };
    let mut world = World::new(setup.seed, links);
    let mix = Mix::default();
    setup.progress.stage("joining", nodes as u64);
    for added in 0..nodes {
        let is_entrance = added < operated;
        let (front, choice) = match is_entrance {
            true => (Front::OPEN, RoleChoice::Server),
            false => (mix.draw(world.dice()), RoleChoice::Auto),
        };
        let id = world.dice().key().to_node_id();
        let number = world.add(id, Site::Scattered, config);
        world.settle(number, front, choice);
        if is_entrance {
            world.enter_through(number);
        }
        match first {
            Some((asked, span)) if !is_entrance => world.join_after(number, asked, span),
            _ => world.join(number),
        }
        let rate = (world.serving().len() as f64 * JOINS).clamp(1.0, 100.0);
        world.run_for(Duration::from_secs_f64(1.0 / rate));
        if added % 64 == 0 {
            setup.progress.done(added as u64);
        }
    }
    world
}

/// A target of networks in which most servers are strangers. In others those who join know everybody, and nobody is
/// left who could prove anything to them: they serve late, and notice late that they are reached no more.
fn at_scale(world: &World, row: Row, target: Target) -> Row {
    if world.len() >= LARGE {
        row.target(target)
    } else {
        row
    }
}

/// A random node that only asks, and is heard.
fn asker(world: &mut World) -> usize {
    loop {
        let nodes = world.len();
        let number = world.dice().below(nodes);
        if world.role(number) == Role::Client && world.front(number).kind != Kind::Block {
            return number;
        }
    }
}

fn lookups(nodes: usize) -> usize {
    LOOKUPS.min(2 * nodes)
}

fn look_up(setup: &Setup<'_>, world: &mut World, report: &mut Report, k: usize) {
    let (mut exact, mut requests) = (Samples::default(), Samples::default());
    let begin = |world: &mut World| {
        let (node, target) = (asker(world), world.dice().key());
        (node, Command::FindNode { target }, target)
    };
    drive(world, lookups(setup.nodes), PER_SECOND, begin, |world, done| {
        let truth = world.closest_to_others(done.node, done.note, k);
        let right = matches!(&done.outcome, Some(Outcome::Closest(closest)) if *closest == truth);
        exact.push(if right { 100.0 } else { 0.0 });
        requests.push(f64::from(done.effort.requests));
    });
    let row = |what: &str, unit, result| Row::new(format!("read-only nodes: {what}"), unit, result);
    let exact = row("exact lookups", "%", exact.mean());
    report.push(at_scale(world, exact, Target::AtLeast(99.9)));
    report.push(row("requests of a lookup", "RPCs", requests.mean()));
}

/// Read-only nodes put values, and others read them.
fn read(setup: &Setup<'_>, world: &mut World, report: &mut Report) {
    let count = lookups(setup.nodes) / 5;
    let expiry = world.now().unix + Duration::from_secs(86_400);
    let mut slots = Vec::new();
    let put = |world: &mut World| {
        let (_, command, slot) = put_anywhere(world, expiry, usize::MAX);
        (asker(world), command, slot)
    };
    drive(world, count, PER_SECOND, put, |_, done| slots.push(done.note));
    let (mut found, mut next) = (Samples::default(), 0);
    let get = |world: &mut World| {
        let slot = slots[next % slots.len()];
        next += 1;
        let (key, kind, read) = (slot.key, RecordKind::Immutable, Read::First);
        (asker(world), Command::FindValue { key, kind, read }, ())
    };
    drive(world, count, PER_SECOND, get, |_, done| {
        let is_there = matches!(done.outcome, Some(Outcome::Found { records, .. }) if !records.is_empty());
        found.push(if is_there { 100.0 } else { 0.0 });
    });
    report.push(Row::new("read-only nodes: values found", "%", found.mean()).target(Target::AtLeast(99.9)));
}
