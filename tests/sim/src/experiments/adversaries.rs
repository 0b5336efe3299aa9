//! Experiment 3: whether lookups come through where a share of all nodes are adversaries (S/Kademlia, figures 4 and 5).
//!
//! First the paper's own model, greedy walkers that share no node, over the tables that the join protocol built. Then
//! the production lookup, with one path, four, eight, and as many as it has by default, among adversaries that answer
//! every question at once and only with each other (*lying*), and among those that never answer (*silent*). All of them
//! joined as honest nodes and have their places in the others' tables when they turn. A lookup is for the id of a
//! random honest node and succeeds if that node is in the answer.

mod walkers;

use std::sync::Arc;

use kad_core::table::ClosestScratch;
use kad_core::{Command, Config, Duration, Key, Outcome, Parameters};

use self::walkers::{Perfect, Tables, arrive};
use super::{Experiment, Setup, node_bytes};
use crate::adversary::{Adversary, Lying, Silent};
use crate::load::drive;
use crate::report::{Chart, Curve, Report, Row, Samples, Target};
use crate::{Dice, Growth, Links, Site, World};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "adversaries",
    number: 3,
    question: "Do lookups come through where many nodes lie or say nothing, and what does it cost?",
    source: "Baumgart and Mies 2007 (S/Kademlia), figures 4 and 5, computed with perfect tables",
    nodes: 10_000,
    small: 500,
    memory: |nodes| nodes as u64 * node_bytes(nodes, K),
    run,
};

/// The paper's k.
const K: usize = 16;
/// Shares of adversaries; the first is none.
const SHARES: [f64; 7] = [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5];
/// Walkers, and what was computed for them at 10, 20, 30, 40 and 50 % of adversaries.
const PUBLISHED: [(usize, Option<[f64; 5]>); 4] = [
    (1, Some([84.6, 70.2, 58.6, 45.0, 33.0])),
    (2, None),
    (4, Some([99.86, 98.5, 94.4, 85.5, 71.8])),
    (8, Some([100.0, 99.94, 99.5, 96.4, 88.3])),
];
/// Walks for each number of walkers and share, each twentieth of them among other adversaries.
const WALKS: usize = 10_000;
/// Lookups for each share with the default number of paths; a quarter of it with others. Fewer in networks of fewer
/// nodes.
const LOOKUPS: usize = 5_000;
/// From the last join to the first lookup: the refreshes of young nodes are over.
const SETTLING: Duration = Duration::from_secs(900);

fn run(setup: &Setup<'_>) -> Report {
    let mut report = Report::default();
    let mut chart = Chart {
        title: "Production lookups that find their target, among adversaries".into(),
        x: "% of adversaries".into(),
        y: "% of lookups".into(),
        ..Chart::default()
    };
    for behaviour in [Behaviour::Lying, Behaviour::Silent] {
        let mut world = joined(setup, behaviour.name());
        if behaviour == Behaviour::Lying {
            walk(setup, &mut world, &mut report);
        }
        setup
            .progress
            .stage(&format!("lookups, {}", behaviour.name()), SHARES.len() as u64);
        let mut rounds = Vec::new();
        for (step, share) in SHARES.into_iter().enumerate() {
            turn(&mut world, share, setup.nodes, behaviour);
            for paths in Paths::ALL {
                rounds.push(look_up(&mut world, paths, share, setup.nodes));
            }
            setup.progress.done(step as u64 + 1);
        }
        of_lookups(&mut report, behaviour, &rounds);
        for paths in Paths::ALL {
            // The silent ones hinder hardly anybody: one curve of theirs is enough.
            if behaviour == Behaviour::Lying || paths == Paths::Default {
                chart.curves.push(curve(behaviour, paths, &rounds));
            }
        }
        report.close(&world);
    }
    report.charts.push(chart);
    report.notes.push(
        "A walker steps to the contact nearest to the target at which no walker has been; all walkers start at the same \
         node and take turns. On perfect tables this gives the published figures (see the plot), so what is missing on the \
         tables of the join protocol is these tables' doing."
            .into(),
    );
    report
}

/// What adversaries do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Lying,
    Silent,
}

impl Behaviour {
    const fn name(self) -> &'static str {
        match self {
            Self::Lying => "lying",
            Self::Silent => "silent",
        }
    }

    fn mind(self) -> Box<dyn Adversary> {
        match self {
            Self::Lying => Box::new(Lying { told: K }),
            Self::Silent => Box::new(Silent),
        }
    }
}

/// Paths of the lookups that a node makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paths {
    One,
    Four,
    Eight,
    Default,
}

/// Of so many nodes in a row, three have a number of paths of their own.
const CLASSES: usize = 16;

impl Paths {
    const ALL: [Self; 4] = [Self::One, Self::Four, Self::Eight, Self::Default];

    /// How a node is configured: a few differ from the rest, so that askers of all kinds are everywhere.
    const fn of(node: usize) -> Self {
        match node % CLASSES {
            1 => Self::One,
            6 => Self::Four,
            11 => Self::Eight,
            _ => Self::Default,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::One => "1 path",
            Self::Four => "4 paths",
            Self::Eight => "8 paths",
            Self::Default => "default",
        }
    }

    fn config(self) -> Arc<Config> {
        let parameters = Parameters {
            k: K as u16,
            ..Parameters::default()
        };
        let mut config = Config::for_network(&parameters);
        let fixed = match self {
            Self::One => Some(1),
            Self::Four => Some(4),
            Self::Eight => Some(8),
            Self::Default => None,
        };
        if let Some(paths) = fixed {
            (config.paths, config.max_paths) = (paths, paths);
        }
        Arc::new(config)
    }
}

/// A network in which everybody is honest yet.
fn joined(setup: &Setup<'_>, stage: &str) -> World {
    let mut world = World::new(setup.seed, Links::quick());
    setup
        .progress
        .stage(&format!("joining, {stage}"), setup.nodes as u64);
    let configs = Paths::ALL.map(|paths| (paths, paths.config()));
    for node in 0..setup.nodes {
        for (paths, config) in &configs {
            if *paths == Paths::of(node) {
                world.grow(1, Site::Private, config, Growth::default());
            }
        }
        if node % 256 == 0 {
            setup.progress.done(node as u64);
        }
    }
    world.run_for(SETTLING);
    world
}

/// Turns as many more honest nodes as it takes for adversaries to have their share.
fn turn(world: &mut World, share: f64, nodes: usize, behaviour: Behaviour) {
    let wanted = (nodes as f64 * share) as usize;
    let mut honest: Vec<_> = world
        .serving()
        .iter()
        .map(|contact| contact.address.number())
        .collect();
    world.dice().shuffle(&mut honest);
    honest.truncate(wanted.saturating_sub(world.colluders().len()));
    world.corrupt(&honest, behaviour.mind());
}

/// Lookups with one number of paths among one share of adversaries.
struct Round {
    paths: Paths,
    share: f64,
    /// Whether the target was found: 100 or 0.
    found: Samples,
    requests: Samples,
}

fn look_up(world: &mut World, paths: Paths, share: f64, nodes: usize) -> Round {
    let count = match paths {
        Paths::Default => LOOKUPS.min(nodes),
        Paths::One | Paths::Four | Paths::Eight => LOOKUPS.min(nodes) / 4,
    };
    let mut round = Round {
        paths,
        share,
        found: Samples::default(),
        requests: Samples::default(),
    };
    let begin = |world: &mut World| {
        let target = world.anyone();
        let asker = loop {
            let node = world.anyone();
            if Paths::of(node) == paths && node != target {
                break node;
            }
        };
        let target = world.contact(target).id;
        let command = Command::FindNode {
            target: target.to_key(),
        };
        (asker, command, target)
    };
    drive(world, count, 500.0, begin, |_, done| {
        let found = match &done.outcome {
            Some(Outcome::Closest(closest)) => closest.iter().any(|contact| contact.id == done.note),
            _ => false,
        };
        round.found.push(if found { 100.0 } else { 0.0 });
        round.requests.push(f64::from(done.effort.requests));
    });
    round
}

fn of_lookups(report: &mut Report, behaviour: Behaviour, rounds: &[Round]) {
    let of = |paths, share| {
        rounds
            .iter()
            .find(|round| round.paths == paths && round.share == share)
    };
    let name = behaviour.name();
    if behaviour == Behaviour::Lying {
        for paths in Paths::ALL {
            let Some(round) = of(paths, 0.0) else { continue };
            report.push(Row::new(
                format!("all honest, {}: requests", paths.name()),
                "RPCs",
                round.requests.mean(),
            ));
        }
    }
    for share in [0.2, 0.3, 0.5] {
        let percent = 100.0 * share;
        for paths in Paths::ALL {
            let Some(round) = of(paths, share).filter(|_| share < 0.5 || paths == Paths::Default) else {
                continue;
            };
            let mut row = Row::new(
                format!("{name} {percent:.0} %, {}: targets found", paths.name()),
                "%",
                round.found.mean(),
            );
            if paths == Paths::Default {
                row.target = match share {
                    0.2 => Some(Target::AtLeast(99.9)),
                    0.3 => Some(Target::AtLeast(99.0)),
                    _ => None,
                };
            }
            report.push(row);
            report.push(Row::new(
                format!("{name} {percent:.0} %, {}: requests", paths.name()),
                "RPCs",
                round.requests.mean(),
            ));
        }
        if let (Some(ours), Some(eight)) = (of(Paths::Default, share), of(Paths::Eight, share)) {
            let row = Row::new(
                format!("{name} {percent:.0} %: requests, default to 8 paths"),
                "times",
                ours.requests.mean() / eight.requests.mean(),
            );
            report.push(if share <= 0.3 {
                row.target(Target::AtMost(0.6))
            } else {
                row
            });
        }
    }
}

fn curve(behaviour: Behaviour, paths: Paths, rounds: &[Round]) -> Curve {
    let of_these = rounds.iter().filter(|round| round.paths == paths);
    Curve {
        name: format!("{}, {}", behaviour.name(), paths.name()),
        points: of_these
            .map(|round| (100.0 * round.share, round.found.mean()))
            .collect(),
    }
}

/// The paper's model over the tables of the world, and over perfect ones.
fn walk(setup: &Setup<'_>, world: &mut World, report: &mut Report) {
    let mut chart = Chart {
        title: "Lookups of greedy walkers that share no node, among adversaries".into(),
        x: "% of adversaries".into(),
        y: "% of lookups".into(),
        ..Chart::default()
    };
    let mut dice = world.dice().fork();
    let keys: Vec<Key> = (0..setup.nodes)
        .map(|node| world.contact(node).id.to_key())
        .collect();
    let mut perfect = Perfect::new(&keys, K, &mut dice);
    let mut built = Built {
        world,
        scratch: ClosestScratch::default(),
    };
    setup.progress.stage("walking", PUBLISHED.len() as u64);
    for (step, (walkers, published)) in PUBLISHED.into_iter().enumerate() {
        let mut curves = [Vec::new(), Vec::new()];
        for (place, share) in SHARES.into_iter().enumerate() {
            let percent = 100.0 * share;
            let arrived = arrivals(&mut built, &keys, walkers, share, &mut dice);
            curves[0].push((percent, arrived));
            curves[1].push((percent, arrivals(&mut perfect, &keys, walkers, share, &mut dice)));
            let row = Row::new(
                format!("{walkers} walkers, {percent:.0} %: targets reached"),
                "%",
                arrived,
            );
            // The published figures begin with 10 %, and hold for this many nodes.
            let Some(place) = place.checked_sub(2) else {
                continue;
            };
            report.push(match published {
                Some(published) if setup.nodes == EXPERIMENT.nodes => {
                    let computed = published[place];
                    row.reference(computed).target(Target::near(computed, 1.0))
                }
                _ => row,
            });
        }
        for (tables, points) in ["", ", perfect tables"].into_iter().zip(curves) {
            let name = format!("{walkers} walkers{tables}");
            chart.curves.push(Curve { name, points });
        }
        setup.progress.done(step as u64 + 1);
    }
    report.charts.push(chart);
}

/// The share of walks that arrive, in percent.
fn arrivals(tables: &mut impl Tables, keys: &[Key], walkers: usize, share: f64, dice: &mut Dice) -> f64 {
    let mut order: Vec<_> = (0..keys.len()).collect();
    let mut lost = vec![false; keys.len()];
    let adversaries = (keys.len() as f64 * share) as usize;
    let (walks, draws) = (WALKS.min(10 * keys.len()), 20);
    let mut arrived = 0;
    for walk in 0..walks {
        if walk % (walks / draws) == 0 {
            dice.shuffle(&mut order);
            for (place, &node) in order.iter().enumerate() {
                lost[node] = place < adversaries;
            }
        }
        let honest = &order[adversaries..];
        let start = honest[dice.below(honest.len())];
        let goal = loop {
            let goal = honest[dice.below(honest.len())];
            if goal != start {
                break goal;
            }
        };
        arrived += u32::from(arrive(
            tables,
            |node| lost[node],
            start,
            goal,
            keys[goal],
            walkers,
        ));
    }
    100.0 * f64::from(arrived) / walks as f64
}

/// The tables that the join protocol built.
struct Built<'w> {
    world: &'w World,
    scratch: ClosestScratch,
}

impl Tables for Built<'_> {
    fn nearest(&mut self, node: usize, target: Key, most: usize) -> Vec<usize> {
        let Some(machine) = self.world.machine(node) else {
            return Vec::new();
        };
        let nearest = machine.table().closest(target, most, &mut self.scratch);
        nearest.map(|entry| entry.contact.address.number()).collect()
    }
}
