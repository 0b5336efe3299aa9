//! Whether nodes find out what they are.

use kad_core::Instant;
use kad_net::nat::model::Kind;
use kad_net::nat::observation::NatClass;

use super::at_scale;
use crate::World;
use crate::nat::{Front, Role};
use crate::report::{Report, Row, Samples, Target};

/// The share of servers that lose what made them reachable.
const LOST: f64 = 0.05;

/// As the laboratory calls it.
pub(super) const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Full => "full",
        Kind::Addr => "addr",
        Kind::Cone => "cone",
        Kind::Leaky => "leaky",
        Kind::Sym => "sym",
        Kind::Fw => "fw",
        Kind::Open => "open",
        Kind::Block => "block",
    }
}

pub(super) fn tell(report: &mut Report, world: &World) {
    let mut lie = 0;
    let (mut times, mut classed) = (Samples::default(), Samples::default());
    for node in 0..world.len() {
        let (front, served) = (world.front(node), world.served(node));
        let server = world.role(node) == Role::Server;
        if front.admits_strangers() {
            if let Some(since) = served.server {
                times.push(since.since(served.up).as_secs_f64());
            }
        } else if server {
            lie += 1;
        }
        if front.kind != Kind::Block {
            let expected = front.kind.class();
            let class = world.class_of(node);
            classed.push(if class == expected { 100.0 } else { 0.0 });
            debug_assert!(
                class == expected || class == NatClass::Unknown,
                "{front:?}: {class:?}"
            );
        }
    }
    let row = |what: &str, unit, result| Row::new(format!("roles: {what}"), unit, result);
    let serve = row("reachable nodes that serve", "%", serving(world).mean());
    report.push(at_scale(world, serve, Target::AtLeast(99.0)));
    report.push(row("other nodes that serve", "nodes", f64::from(lie)).target(Target::AtMost(0.0)));
    for (what, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        let result = times.quantile(share);
        let row = row(&format!("{what} of the time to serve"), "s", result);
        report.push(if share == 0.5 {
            at_scale(world, row, Target::AtMost(180.0))
        } else {
            row
        });
    }
    report.push(row("nodes that know the class of their NAT", "%", classed.mean()));
}

/// For each node that strangers reach, whether it serves: 100 or 0.
pub(super) fn serving(world: &World) -> Samples {
    let mut serve = Samples::default();
    for node in (0..world.len()).filter(|&node| world.front(node).admits_strangers()) {
        serve.push(if world.role(node) == Role::Server {
            100.0
        } else {
            0.0
        });
    }
    serve
}

/// Servers that are reached no more.
pub(super) struct Lost {
    nodes: Vec<(usize, bool)>,
    at: Instant,
}

/// Some servers get a router that lets nobody in; half of them notice a new network.
pub(super) fn lose(world: &mut World) -> Lost {
    let fixed = super::operated(world.len());
    let mut servers: Vec<_> = (fixed..world.len())
        .filter(|&node| world.role(node) == Role::Server)
        .collect();
    world.dice().shuffle(&mut servers);
    servers.truncate(((servers.len() as f64 * LOST) as usize).max(2));
    let front = Front {
        kind: Kind::Cone,
        forwarded: false,
    };
    let nodes: Vec<_> = servers
        .into_iter()
        .enumerate()
        .map(|(n, node)| (node, n % 2 == 0))
        .collect();
    for &(node, told) in &nodes {
        world.move_behind(node, front, told);
    }
    let at = world.now().monotonic;
    Lost { nodes, at }
}

pub(super) fn tell_lost(report: &mut Report, world: &World, lost: &Lost) {
    for (name, told) in [("noticed", true), ("unnoticed", false)] {
        let nodes = lost.nodes.iter().filter(|(_, of)| *of == told);
        let (mut asks, mut times) = (Samples::default(), Samples::default());
        for &(node, _) in nodes {
            asks.push(if world.role(node) == Role::Client {
                100.0
            } else {
                0.0
            });
            if let Some(at) = world.served(node).client.filter(|at| *at >= lost.at) {
                times.push(at.since(lost.at).as_secs_f64() / 60.0);
            }
        }
        let row = |what: &str, unit, result| Row::new(format!("lost, {name}: {what}"), unit, result);
        let asks = row("nodes that only ask in the end", "%", asks.mean());
        let target = Target::AtLeast(100.0);
        report.push(if told {
            asks.target(target)
        } else {
            at_scale(world, asks, target)
        });
        report.push(row("p50 of the time until then", "min", times.quantile(0.5)));
        report.push(row("p99 of the time until then", "min", times.quantile(0.99)));
    }
    report.push(Row::new(
        "roles: reachable nodes that serve in the end",
        "%",
        serving(world).mean(),
    ));
}
