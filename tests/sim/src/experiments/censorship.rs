//! Experiment 9: whether a key can be censored, and whether a table can be captured.
//!
//! An attacker has sybils ground next to a key, nearer than every honest node, and makes them known to the honest nodes
//! around. Then somebody who has never looked for the key puts its value, and others who have not either read it. A key
//! counts as found for each of its readers. The attacker has enough addresses to stay below every limit on address
//! groups.

mod flood;
mod sybils;

use std::sync::Arc;

use kad_core::{Command, Config, Contact, Duration, Key, Kind, Outcome, Read, Record};

use self::sybils::{Behaviour, PAUSE, Sybils, ground};
use super::{Experiment, Setup, node_bytes};
use crate::load::drive;
use crate::report::{Chart, Curve, Report, Row, Samples, Target};
use crate::{Growth, Links, Place, Site, World};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "censorship",
    number: 9,
    question: "Can sybils next to a key hide its value, and can a flood from few subnets capture a table?",
    source: "Sridhar et al. 2024 (NDSS): 45 sybils hide 99.2 % of keys; Marcus et al. 2018: 272 nodes fill 95 % of a table",
    nodes: 15_000,
    small: 600,
    memory: |nodes| nodes as u64 * (node_bytes(nodes, 20) + 1_024),
    run,
};

/// Sybils around a key.
const SYBILS: [usize; 3] = [15, 30, 45];
/// Keys for each number of sybils and behaviour; fewer in networks of fewer nodes.
const KEYS: usize = 100;
/// So many nodes for each key.
const NODES_PER_KEY: usize = 50;
/// The most keys that are attacked at the same time.
const BATCH: usize = 10;
/// Of so many nodes one key is attacked at a time: with 45 sybils each, 3 % of all nodes are sybils.
const NODES_PER_ATTACK: usize = 1_500;
/// Who reads each value.
const READERS: usize = 5;
/// Honest nodes around a key on which the sybils call.
const NEIGHBOURS: usize = 40;
/// How often they do; most neighbours know all whom they have room for after two.
const CALLS: usize = 5;
/// Writers and readers are not among so many that are nearest to the key.
const NEAR: usize = 60;
/// Reads of values that nobody has put, to count false alarms.
const ALARMS: usize = 3_000;
/// From the last join to the first attack: the refreshes of young nodes are over.
const SETTLING: Duration = Duration::from_secs(900);

fn run(setup: &Setup<'_>) -> Report {
    let mut report = Report::default();
    let mut world = joined(setup);
    let plan = Plan::of(setup.nodes);
    setup.progress.stage("attacks", 2 + 3 * SYBILS.len() as u64);
    let quiet = attack(&mut world, plan, 0, Behaviour::Silent, Habit::Default);
    of_quiet(
        &mut report,
        &quiet,
        false_alarms(&mut world, ALARMS.min(setup.nodes)),
    );
    let mut chart = Chart {
        title: "Values found although sybils sit next to their keys".into(),
        x: "sybils".into(),
        y: "% of reads".into(),
        ..Chart::default()
    };
    let mut step = 2;
    for (behaviour, habit) in [
        (Behaviour::Silent, Habit::Default),
        (Behaviour::Lying, Habit::Default),
        (Behaviour::Lying, Habit::NearestOnly),
    ] {
        let mut points = vec![(0.0, quiet.found.mean())];
        for sybils in SYBILS {
            setup.progress.done(step);
            step += 1;
            let round = attack(&mut world, plan, sybils, behaviour, habit);
            points.push((sybils as f64, round.found.mean()));
            of_attack(&mut report, &round, sybils, behaviour, habit, &quiet);
        }
        chart.curves.push(Curve {
            name: format!("{}{}", behaviour.name(), habit.name()),
            points,
        });
    }
    report.charts.push(chart);
    report.close(&world);
    flood::flood(setup, &mut report);
    report.notes.push(
        "The sybils come first, then the value is put, then read by others: the hardest order. All of them are at sites of \
         their own, so no limit on address groups stops one. Undefended are writers and readers that look at the k nearest \
         only (Config::widen is off); one node in eight is."
            .into(),
    );
    report
}

/// Which keys are attacked in each round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    batches: usize,
    /// Keys that are attacked at the same time.
    batch: usize,
}

impl Plan {
    fn of(nodes: usize) -> Self {
        let batch = (nodes / NODES_PER_ATTACK).clamp(1, BATCH);
        let batches = (nodes / NODES_PER_KEY).clamp(1, KEYS).div_ceil(batch);
        Self { batches, batch }
    }
}

/// What writers and readers do where the nearest are a crowd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// What they do by default.
    Default,
    /// They look at nobody else.
    NearestOnly,
}

impl Habit {
    const ALL: [Self; 2] = [Self::Default, Self::NearestOnly];

    /// Of each eight nodes one has the other habit, so that there are both kinds everywhere.
    const fn of(node: usize) -> Self {
        if node % 8 == 3 {
            Self::NearestOnly
        } else {
            Self::Default
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::NearestOnly => ", undefended",
        }
    }

    fn config(self) -> Arc<Config> {
        let mut config = Config::default();
        config.widen &= self == Self::Default;
        // Holders that hand a record on would be counted as stores of the put, and would add holders after it.
        config.look_after = Duration::from_secs(7 * 86_400);
        (config.repair, config.first_repair) = (config.look_after, config.look_after);
        Arc::new(config)
    }
}

fn joined(setup: &Setup<'_>) -> World {
    let mut world = World::new(setup.seed, Links::quick());
    setup.progress.stage("joining", setup.nodes as u64);
    let configs = Habit::ALL.map(|habit| (habit, habit.config()));
    for node in 0..setup.nodes {
        for (_, config) in configs.iter().filter(|(habit, _)| *habit == Habit::of(node)) {
            world.grow(1, Site::Scattered, config, Growth::default());
        }
        if node % 256 == 0 {
            setup.progress.done(node as u64);
        }
    }
    world.run_for(SETTLING);
    world
}

/// The share of reads of values that nobody has put, in percent, in which the nearest are taken for a crowd though all
/// are honest.
fn false_alarms(world: &mut World, reads: usize) -> f64 {
    let alarms = |world: &World| -> u64 {
        let honest = world.serving().iter().map(|contact| contact.address.number());
        honest
            .filter_map(|node| world.machine(node))
            .map(|machine| machine.stats().widened)
            .sum()
    };
    let before = alarms(world);
    let begin = |world: &mut World| {
        let key = world.dice().key();
        let (kind, read) = (Kind::Immutable, Read::First);
        (
            stranger(world, key, Habit::Default),
            Command::FindValue { key, kind, read },
            (),
        )
    };
    drive(world, reads, 100.0, begin, |_, _| {});
    100.0 * (alarms(world) - before) as f64 / reads as f64
}

/// What came of the values of some keys.
#[derive(Default)]
struct Round {
    /// For each read whether it found the value: 100 or 0.
    found: Samples,
    /// For each batch of puts, the STOREs of one.
    stores: Samples,
    /// For each batch of puts, the honest nodes that hold a value afterwards.
    holders: Samples,
    /// For each read.
    requests: Samples,
}

/// Attacks keys with so many sybils each, a few keys at a time.
fn attack(world: &mut World, plan: Plan, sybils: usize, behaviour: Behaviour, habit: Habit) -> Round {
    let mut round = Round::default();
    for _ in 0..plan.batches {
        let records: Vec<_> = (0..plan.batch).map(|_| value(world)).collect();
        let mut attackers = Vec::new();
        for record in &records {
            attackers.extend(surround(world, record.key(), sybils, behaviour));
        }
        world.run_for((CALLS as u32 + 1) * PAUSE);
        put_and_read(world, &records, habit, &mut round);
        world.retire(&attackers);
        // Whoever knew them notices, so that the next keys are attacked in a network without them.
        world.run_for(Duration::from_secs(10));
    }
    round
}

fn value(world: &mut World) -> Record {
    let now = world.now().unix;
    let bytes = world.dice().key().to_bytes();
    Record::immutable(&bytes, now + Duration::from_secs(86_400), world.rules(), now).expect("a small value")
}

/// Lets sybils loose around a key.
fn surround(world: &mut World, key: Key, sybils: usize, behaviour: Behaviour) -> Vec<usize> {
    let neighbours = world.serving().closest(key, NEIGHBOURS);
    let Some(nearest) = neighbours.first().filter(|_| sybils > 0) else {
        return Vec::new();
    };
    let nearest = nearest.id.distance(key);
    let members: Vec<_> = (0..sybils)
        .map(|_| (ground(key, nearest, world.dice()), Site::Scattered))
        .collect();
    let first = world.len() as u32;
    let crowd = members
        .iter()
        .zip(first..)
        .map(|(&(id, site), number)| Contact::new(id, Place::new(number, site)))
        .collect();
    let sybils = Sybils {
        behaviour,
        crowd,
        neighbours,
        calls: CALLS,
    };
    world.add_adversary(&members, Box::new(sybils))
}

fn put_and_read(world: &mut World, records: &[Record], habit: Habit, round: &mut Round) {
    let mut next = records.iter();
    let put = |world: &mut World| {
        let record = next.next().expect("one for each put").clone();
        let writer = stranger(world, record.key(), habit);
        let command = Command::Store {
            record,
            expected: None,
            keep: false,
            enough: usize::MAX,
        };
        (writer, command, ())
    };
    let (held_before, before) = (held(world), world.traffic().stores);
    drive(world, records.len(), 5.0, put, |_, _| {});
    world.run_for(Duration::from_secs(10));
    let each = |all: u64| all as f64 / records.len() as f64;
    round.stores.push(each(world.traffic().stores - before));
    round.holders.push(each(held(world) - held_before));
    let mut next = 0;
    let read = |world: &mut World| {
        let key = records[next / READERS].key();
        next += 1;
        let (kind, read) = (Kind::Immutable, Read::First);
        (
            stranger(world, key, habit),
            Command::FindValue { key, kind, read },
            (),
        )
    };
    drive(world, READERS * records.len(), 50.0, read, |_, done| {
        let found = matches!(&done.outcome, Some(Outcome::Found { records, .. }) if !records.is_empty());
        round.found.push(if found { 100.0 } else { 0.0 });
        round.requests.push(f64::from(done.effort.requests));
    });
}

/// Somebody honest of this habit who is not near to a key and so has never heard of it.
fn stranger(world: &mut World, key: Key, habit: Habit) -> usize {
    let near = world.serving().closest(key, NEAR);
    loop {
        let node = world.anyone();
        if Habit::of(node) == habit && !near.contains(&world.contact(node)) {
            return node;
        }
    }
}

/// Records that honest nodes hold, all together.
fn held(world: &World) -> u64 {
    let honest = world.serving().iter().map(|contact| contact.address.number());
    honest.map(|node| world.records_at(node)).sum()
}

fn of_quiet(report: &mut Report, quiet: &Round, false_alarms: f64) {
    let row = |what: &str, unit, result| Row::new(format!("undisturbed: {what}"), unit, result);
    report.push(row("values found", "%", quiet.found.mean()).target(Target::AtLeast(99.9)));
    report.push(row("stores of a put", "stores", quiet.stores.mean()));
    report.push(row("requests of a read", "RPCs", quiet.requests.mean()));
    report.push(row("false alarms", "%", false_alarms).target(Target::AtMost(1.0)));
}

fn of_attack(
    report: &mut Report,
    round: &Round,
    sybils: usize,
    behaviour: Behaviour,
    habit: Habit,
    quiet: &Round,
) {
    let name = |what: &str| format!("{sybils} {} sybils{}: {what}", behaviour.name(), habit.name());
    let found = Row::new(name("values found"), "%", round.found.mean());
    report.push(match (behaviour, habit) {
        (Behaviour::Silent, Habit::Default) => found.target(Target::AtLeast(99.0)),
        (Behaviour::Lying, Habit::Default) => found.target(Target::AtLeast(95.0)),
        (_, Habit::NearestOnly) if sybils == 45 => found.reference(0.8),
        (_, Habit::NearestOnly) => found,
    });
    report.push(Row::new(name("honest holders"), "nodes", round.holders.mean()));
    if habit == Habit::Default {
        let times = round.stores.mean() / quiet.stores.mean();
        report.push(Row::new(name("stores to undisturbed"), "times", times).target(Target::AtMost(2.5)));
        report.push(Row::new(
            name("requests of a read"),
            "RPCs",
            round.requests.mean(),
        ));
    }
}
