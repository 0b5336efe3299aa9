//! A scenario from beginning to end.

use kad_core::{Command, Duration, Outcome, Record};

use super::load::Driver;
use super::{Life, Load, Partition, Scenario, enemies, tables};
use crate::experiments::{Progress, Setup};
use crate::report::{Report, Row};
use crate::{Happening, World};

/// Steps of the load that the progress shows, and points of its curves.
const STEPS: u32 = 200;

/// What the world is asked to wake the scenario for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
enum Wake {
    Lookup,
    Put,
    Get,
    Cut,
    Heal,
    Step,
}

impl Wake {
    const ALL: [Self; 6] = [
        Self::Lookup,
        Self::Put,
        Self::Get,
        Self::Cut,
        Self::Heal,
        Self::Step,
    ];

    fn of(token: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|wake| *wake as u64 == token)
    }
}

pub(super) fn play(scenario: &Scenario, setup: &Setup<'_>) -> Report {
    let mut report = Report::default();
    let mut world = World::new(setup.seed, scenario.links);
    let mut driver = Driver::new(&mut world, scenario);
    join(&mut world, scenario, setup);
    enemies::turn(&mut world, scenario, driver.first_key());
    store_values(&mut world, &mut driver, setup.progress);
    bury(&mut world, scenario.dead);
    match &scenario.life {
        Life::Still => {}
        Life::Sessions(sessions) => world.churn(sessions.clone()),
        Life::Trace(trace) => follow(&mut world, trace, scenario),
    }
    let up = under_load(&mut world, scenario, &mut driver, setup);
    driver.report(&mut report, up.mean);
    tables::report(&world, scenario.config.k, &mut report);
    if !matches!(scenario.life, Life::Still) {
        report.charts.push(up.chart);
    }
    report.notes.push(
        "answers are compared with those who were up when they came; queries end with whoever asked"
            .to_owned(),
    );
    report.close(&world);
    report
}

/// The nodes join, one after the other.
fn join(world: &mut World, scenario: &Scenario, setup: &Setup<'_>) {
    setup.progress.stage("joining", setup.nodes as u64);
    world.grow_watched(
        setup.nodes,
        scenario.site,
        &scenario.config,
        scenario.growth,
        |done| {
            setup.progress.done(done as u64);
        },
    );
    setup.progress.stage("settling", 1);
    world.run_for(scenario.settle);
}

/// Values that are there before the load begins, one after the other.
fn store_values(world: &mut World, driver: &mut Driver, progress: &dyn Progress) {
    let records = driver.values(world);
    progress.stage("storing", records.len() as u64);
    for (done, record) in records.into_iter().enumerate() {
        let (node, key) = (world.anyone(), record.key());
        let store = Command::Store {
            record,
            expected: None,
            keep: false,
            enough: usize::MAX,
        };
        let (outcome, _) = world.ask(node, store);
        if let Outcome::Stored { holders, .. } = outcome
            && !holders.is_empty()
        {
            driver.is_stored(key, world.now().monotonic);
        }
        progress.done(done as u64 + 1);
    }
}

/// A share of the nodes dies without a word.
fn bury(world: &mut World, share: f64) {
    let mut honest: Vec<usize> = (0..world.len())
        .filter(|&node| world.machine(node).is_some())
        .collect();
    world.dice().shuffle(&mut honest);
    let dead = (share * honest.len() as f64).round() as usize;
    honest.iter().take(dead).for_each(|&node| world.kill(node));
}

/// Who is not up at the beginning of a trace goes down; from then on the trace has the say.
fn follow(world: &mut World, trace: &crate::SessionTrace, scenario: &Scenario) {
    let mut up = vec![false; trace.nodes()];
    for &(node, from, _) in &trace.sessions {
        if from == kad_core::Instant::ZERO {
            up[node as usize] = true;
        }
    }
    let absent = |node: &usize| !up[*node];
    (0..up.len().min(world.len()))
        .filter(absent)
        .for_each(|node| world.kill(node));
    world.follow(trace, scenario.site, &scenario.config);
}

/// How many nodes were up.
struct Up {
    mean: f64,
    chart: crate::report::Chart,
}

/// Warm-up, the time that is measured, and then until the last query that it began has ended.
fn under_load(world: &mut World, scenario: &Scenario, driver: &mut Driver, setup: &Setup<'_>) -> Up {
    let Load {
        warm_up, duration, ..
    } = scenario.load;
    setup.progress.stage("load", u64::from(STEPS));
    for wake in [Wake::Lookup, Wake::Put, Wake::Get] {
        plan(world, scenario, wake, setup.nodes);
    }
    let begins = world.now().monotonic + warm_up;
    while let Some(happening) = world.next(begins) {
        on(world, scenario, driver, setup, happening);
    }
    driver.begin(world);
    if let Some(partition) = scenario.partition {
        world.wake(partition.at, Wake::Cut as u64);
    }
    let step = duration / STEPS;
    world.wake(step, Wake::Step as u64);
    let mut counts = Vec::new();
    while let Some(happening) = world.next(begins + duration) {
        if let Happening::Woke { token } = happening
            && Wake::of(token) == Some(Wake::Step)
        {
            counts.push(world.serving().len() as f64);
            setup.progress.done(counts.len() as u64);
            world.wake(step, token);
            continue;
        }
        on(world, scenario, driver, setup, happening);
    }
    driver.end(world);
    // No more is asked; what was asked has its time to end.
    let last = world.now().monotonic + 2 * scenario.config.query_timeout;
    while driver.waits() {
        match world.next(last) {
            Some(Happening::Woke { .. } | Happening::Up { .. }) => {}
            Some(happening) => driver.on(world, happening),
            None => break,
        }
    }
    let minutes = |nth: usize| (nth + 1) as f64 * step.as_secs_f64() / 60.0;
    Up {
        mean: counts.iter().sum::<f64>() / counts.len() as f64,
        chart: crate::report::Chart {
            title: "Nodes that are up and honest".to_owned(),
            x: "minutes of load".to_owned(),
            y: "nodes".to_owned(),
            log_x: false,
            curves: vec![crate::report::Curve {
                name: "up".to_owned(),
                points: counts
                    .iter()
                    .enumerate()
                    .map(|(nth, &count)| (minutes(nth), count))
                    .collect(),
            }],
        },
    }
}

fn on(world: &mut World, scenario: &Scenario, driver: &mut Driver, setup: &Setup<'_>, happening: Happening) {
    let Happening::Woke { token } = happening else {
        return driver.on(world, happening);
    };
    match Wake::of(token) {
        Some(wake @ Wake::Lookup) => {
            driver.lookup(world);
            plan(world, scenario, wake, setup.nodes);
        }
        Some(wake @ Wake::Put) => {
            driver.put(world);
            plan(world, scenario, wake, setup.nodes);
        }
        Some(wake @ Wake::Get) => {
            driver.get(world);
            plan(world, scenario, wake, setup.nodes);
        }
        Some(Wake::Cut) => {
            if let Some(Partition { share, lasts, .. }) = scenario.partition {
                let sides: Vec<u8> = (0..world.len())
                    .map(|_| world.dice().chance(share).into())
                    .collect();
                world.partition(|node| sides[node]);
                world.wake(lasts, Wake::Heal as u64);
            }
        }
        Some(Wake::Heal) => world.heal(),
        Some(Wake::Step) | None => {}
    }
}

/// The next one of its kind; they come without memory, so many a second in the whole network.
fn plan(world: &mut World, scenario: &Scenario, wake: Wake, nodes: usize) {
    let rate = match wake {
        Wake::Lookup => scenario.load.lookups,
        Wake::Put => scenario.load.puts,
        Wake::Get => scenario.load.gets,
        Wake::Cut | Wake::Heal | Wake::Step => return,
    } * nodes as f64;
    if rate > 0.0 {
        let wait: f64 = world.dice().draw(&rand_distr::Exp1);
        world.wake(Duration::from_secs_f64(wait / rate), wake as u64);
    }
}

impl Driver {
    /// The figures of the load and of what it cost.
    fn report(&mut self, report: &mut Report, up: f64) {
        self.queries(report);
        let (traffic, seconds) = self.traffic();
        let each = |bytes: u64| bytes as f64 / (seconds * up);
        report.push(Row::new("nodes up, mean", "", up));
        report.push(Row::new("traffic, frames", "B/node/s", each(traffic.frame_bytes)));
        report.push(Row::new("traffic, QUIC", "B/node/s", each(traffic.quic_bytes())));
        report.push(Row::new("traffic, requests", "/node/s", each(traffic.requests)));
    }

    /// The values that are stored first, as records of this moment.
    fn values(&self, world: &World) -> Vec<Record> {
        self.first_values()
            .iter()
            .filter_map(|value| super::load::record(world, value))
            .collect()
    }
}
