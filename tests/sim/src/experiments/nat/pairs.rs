//! Pairs of nodes that connect.

use std::collections::BTreeMap;

use kad_core::Duration;
use kad_net::nat::model::Kind;

use super::roles::name;
use crate::World;
use crate::nat::{Front, Meeting, meets_directly};
use crate::report::{Report, Row, Samples, Target};

/// Pairs that connect; fewer in networks of fewer nodes.
const PAIRS: usize = 5_000;
/// Over so long they begin.
const OVER: Duration = Duration::from_secs(600);
/// So much longer the last ones are given.
const PATIENCE: Duration = Duration::from_secs(180);

pub(super) fn connect(world: &mut World, report: &mut Report) {
    let pairs = PAIRS.min(world.len());
    let pause = OVER / pairs as u32;
    let heard: Vec<_> = (0..world.len())
        .filter(|&node| world.front(node).kind != Kind::Block)
        .collect();
    for _ in 0..pairs {
        let from = heard[world.dice().below(heard.len())];
        let to = heard[world.dice().below(heard.len())];
        if from != to {
            world.connect(from, to);
        }
        world.run_for(pause);
    }
    world.run_for(PATIENCE);
    tell(world, report);
}

fn tell(world: &World, report: &mut Report) {
    let front = |node: usize| world.front(node);
    let percent = |whether: bool| if whether { 100.0 } else { 0.0 };
    let mut all = Totals::default();
    let mut cells: BTreeMap<(Kind, Kind), Totals> = BTreeMap::new();
    let (mut first, mut trips, mut direct) = (Samples::default(), Samples::default(), Samples::default());
    let (mut punched, mut at_once, mut odd) = (Samples::default(), Samples::default(), 0);
    for meeting in world.meetings() {
        let (one, other) = (front(meeting.from), front(meeting.to));
        all.count(meeting);
        let key = (as_seen(one), as_seen(other));
        cells
            .entry((key.0.min(key.1), key.0.max(key.1)))
            .or_default()
            .count(meeting);
        let since = |at: kad_core::Instant| at.since(meeting.began).as_secs_f64();
        if let (Some(at), true) = (meeting.first_byte, meeting.relayed) {
            first.push(1000.0 * since(at));
            trips.push(since(at) / meeting.round_trip.as_secs_f64());
            if let Some(at) = meeting.direct {
                direct.push(1000.0 * since(at));
            }
        }
        let is_hidden = |front: Front| !front.admits_strangers();
        if is_hidden(one) && is_hidden(other) {
            punched.push(percent(meeting.direct.is_some()));
            if meeting.direct.is_some() {
                at_once.push(percent(meeting.missed == 0));
            }
        }
        odd += usize::from(meeting.direct.is_some() != meets_directly(one, other));
    }
    let row = |what: &str, unit, result| Row::new(format!("pairs: {what}"), unit, result);
    report.push(row("connected", "%", all.share(all.connected)).target(Target::AtLeast(99.9)));
    report.push(row("direct", "%", all.share(all.direct)));
    report.push(row("only relayed", "%", all.share(all.connected - all.direct)));
    let odd = all.share(odd);
    report.push(row("other than in the laboratory", "%", odd).target(Target::AtMost(1.0)));
    report.push(row("neither reachable: direct", "%", punched.mean()).reference(70.0));
    report.push(
        row(
            "neither reachable: of these at the first try",
            "%",
            at_once.mean(),
        )
        .reference(97.6),
    );
    for (what, share) in [("p50", 0.5), ("p99", 0.99)] {
        let trips = row(
            &format!("{what} of the time to a byte through a relay"),
            "RTT",
            trips.quantile(share),
        );
        report.push(if share == 0.5 {
            trips.target(Target::AtMost(4.0))
        } else {
            trips
        });
        report.push(row(&format!("{what} of that time"), "ms", first.quantile(share)));
        let direct = row(
            &format!("{what} of the time to a direct path by punching"),
            "ms",
            direct.quantile(share),
        );
        report.push(direct);
    }
    for ((one, other), cell) in cells {
        let what = format!("{} with {}: direct", name(one), name(other));
        // Of a handful a share says nothing, and not every network has them.
        if cell.all >= 20 && world.len() >= super::EXPERIMENT.nodes {
            report.push(row(&what, "%", cell.share(cell.direct)));
        }
    }
}

/// Those that strangers reach count as open.
const fn as_seen(front: Front) -> Kind {
    if front.admits_strangers() {
        Kind::Open
    } else {
        front.kind
    }
}

#[derive(Default)]
struct Totals {
    all: usize,
    connected: usize,
    direct: usize,
}

impl Totals {
    const fn count(&mut self, meeting: &Meeting) {
        self.all += 1;
        self.connected += meeting.first_byte.is_some() as usize;
        self.direct += meeting.direct.is_some() as usize;
    }

    fn share(&self, of: usize) -> f64 {
        100.0 * of as f64 / self.all as f64
    }
}
