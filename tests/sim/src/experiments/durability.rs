//! Experiment 7: do records survive three days of nodes that come and go?
//!
//! Values are put once into a network whose nodes have the sessions that IPFS measured. Holders that come back still
//! have their records. Once nobody hands records on (what IPFS has between two publications), once holders do so every
//! hour.

use std::collections::BTreeSet;
use std::sync::Arc;

use kad_core::{Command, Config, Duration, Record, Slot};

use super::{Experiment, Setup, node_bytes};
use crate::report::{Chart, Curve, Report, Row, Target};
use crate::{Growth, Happening, Links, Sessions, Site, World};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "durability",
    number: 7,
    question: "How many values are lost in three days of churn, and what does repair cost?",
    source: "Trautwein et al. 2022 (IPFS): without repair 13 to 16 of 20 holders are up after 36 h, nothing lost in 24 h",
    nodes: 1_000,
    small: 200,
    // Some 200 values lie with each node, and others with those that are down.
    memory: |nodes| nodes as u64 * (node_bytes(nodes, 20) + 1_000_000),
    run,
};

/// Of so many values the holders of one are counted every hour, and of all in the end.
const LOOKED_AT: usize = 10;
const HOUR: Duration = Duration::from_secs(3_600);

/// What became of the values of one network.
struct Fate {
    /// Holders that are up, of the values, by hour.
    alive: Vec<(f64, f64)>,
    lost: usize,
    /// Values that were fetched or given.
    moved: u64,
    /// Bytes of all that has to do with it.
    repair_bytes: u64,
    /// Who would hold each value if an oracle saw to it, up or not, and what it would have sent.
    oracle: Vec<BTreeSet<usize>>,
    oracle_bytes: u64,
    oracle_moved: u64,
}

fn run(setup: &Setup<'_>) -> Report {
    let mut report = Report::default();
    let full = setup.nodes >= EXPERIMENT.nodes;
    // The small run is for the machinery: a third of the time.
    let hours = if full { 72 } else { 12 };
    let keys = 10 * setup.nodes;
    let mut chart = Chart {
        title: "Holders that are up, of 20".into(),
        x: "hours".into(),
        y: "holders".into(),
        log_x: false,
        curves: Vec::new(),
    };
    for (name, repair) in [("without repair", false), ("with repair", true)] {
        setup.progress.stage(name, hours);
        let fate = live(setup, &mut report, keys, hours, repair);
        let key_days = keys as f64 * hours as f64 / 24.0;
        let at = |hour: usize| fate.alive.get(hour).map_or(f64::NAN, |&(_, holders)| holders);
        if !repair && full {
            let row = Row::new(format!("{name}: holders up after 36 h"), "of 20", at(36));
            report.push(row.reference(14.5));
        }
        report.push(Row::new(
            format!("{name}: holders up at the end"),
            "",
            at(hours as usize),
        ));
        let row = Row::new(format!("{name}: values lost"), "values", fate.lost as f64);
        report.push(if repair {
            row.target(Target::AtMost(0.0))
        } else {
            row
        });
        if repair {
            let bytes = fate.repair_bytes as f64 / key_days;
            report.push(Row::new("repair: bytes per value and day", "bytes", bytes));
            let ratio = fate.repair_bytes as f64 / fate.oracle_bytes as f64;
            report
                .push(Row::new("repair: bytes, to an oracle's", "times", ratio).target(Target::AtMost(1.3)));
            let ratio = fate.moved as f64 / fate.oracle_moved as f64;
            report.push(Row::new("repair: values moved, to an oracle's", "times", ratio));
        }
        chart.curves.push(Curve {
            name: name.into(),
            points: fate.alive,
        });
    }
    report.charts.push(chart);
    report.notes.push(format!(
        "{keys} values of 1 KiB among {} nodes that are up most of the time, {hours} h. The oracle sends a value once to \
         each node that is among the 20 nearest at an hour's end and does not have it. Bytes of repair are those of COMPARE, FETCH and \
         STORE with their answers.",
        setup.nodes,
    ));
    report
}

fn live(setup: &Setup<'_>, report: &mut Report, keys: usize, hours: u64, repair: bool) -> Fate {
    let mut config = Config::default();
    if !repair {
        config.repair = Duration::from_secs(30 * 86_400);
        config.first_repair = config.repair;
        config.look_after = config.repair;
    }
    let mut world = World::new(setup.seed, Links::quick());
    world.grow(setup.nodes, Site::Private, &Arc::new(config), Growth::default());
    world.run_for(Duration::from_secs(300));
    let expiry = world.now().unix + Duration::from_secs(6 * 86_400);
    let mut slots = Vec::new();
    for _ in 0..keys {
        let mut value = vec![0; 1024];
        value[..32].copy_from_slice(&world.dice().key().to_bytes());
        let record =
            Record::immutable(&value, expiry, world.rules(), world.now().unix).expect("a small value");
        slots.push(record.slot());
        let writer = world.anyone();
        let command = Command::Store {
            record,
            expected: None,
            keep: false,
            enough: usize::MAX,
        };
        world.ask(writer, command);
    }
    let before = world.traffic();
    world.churn(Sessions::ipfs());
    let mut fate = Fate {
        alive: Vec::new(),
        lost: 0,
        moved: 0,
        repair_bytes: 0,
        oracle: vec![BTreeSet::new(); keys],
        oracle_bytes: 0,
        oracle_moved: 0,
    };
    fate.look(&world, &slots, 0, LOOKED_AT);
    for hour in 1..=hours {
        let until = world.now().monotonic + HOUR;
        while let Some(happening) = world.next(until) {
            debug_assert!(!matches!(happening, Happening::Woke { .. }));
        }
        fate.look(&world, &slots, hour, if hour == hours { 1 } else { LOOKED_AT });
        setup.progress.done(hour);
    }
    let traffic = world.traffic() - before;
    fate.moved = traffic.fetched + traffic.records;
    fate.repair_bytes = traffic.repair_bytes + traffic.store_bytes;
    report.close(&world);
    fate
}

impl Fate {
    /// Counts the holders of one in `step` values, and what an oracle sees to.
    fn look(&mut self, world: &World, slots: &[Slot], hour: u64, step: usize) {
        let (mut holders, mut looked_at) = (0, 0);
        self.lost = 0;
        for slot in slots.iter().step_by(step) {
            looked_at += 1;
            let up = world
                .serving()
                .iter()
                .filter(|contact| world.holds(contact.address.number(), slot))
                .count();
            // A holder that is down may come back with it.
            let anywhere = up > 0 || (0..world.len()).any(|node| world.holds(node, slot));
            self.lost += usize::from(!anywhere);
            holders += up;
        }
        self.alive
            .push((hour as f64, holders as f64 / f64::from(looked_at)));
        for (slot, has) in slots.iter().zip(&mut self.oracle) {
            for contact in world.serving().closest(slot.key, 20) {
                // The copies of the beginning are the publisher's.
                if has.insert(contact.address.number()) && hour > 0 {
                    self.oracle_bytes += COPY_BYTES;
                    self.oracle_moved += 1;
                }
            }
        }
    }
}

/// A STORE of a value of 1 KiB and its answer without contacts.
const COPY_BYTES: u64 = 1024 + 3 + 5 + 3 + 4 + 2 + 4 + 3 + 1;
