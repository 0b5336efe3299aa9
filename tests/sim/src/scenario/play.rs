//! A scenario from beginning to end.

use kad_core::{Command, Duration, NodeId, Outcome, Record};

use super::load::Driver;
use super::{Group, Kind, Life, Load, Members, Near, Partition, Scenario, tables};
use crate::adversary::{Adversary, Flooding, Lying, Silent};
use crate::experiments::{Progress, Setup};
use crate::report::{Report, Row};
use crate::{Happening, Site, World};

/// Steps of the load that the progress shows, and points of its curves.
const STEPS: u32 = 200;

/// Between two sybils that join.
const SYBIL_PAUSE: Duration = Duration::from_millis(100);

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
    turn(&mut world, scenario, &driver);
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
        "answers are compared with those who were up when they came; a node that goes down takes its queries with it".to_owned(),
    );
    report.close(&world);
    report
}

/// The nodes join, then the sybils as if they were any nodes.
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

/// Nodes turn into adversaries: some that are there, some that join for it.
fn turn(world: &mut World, scenario: &Scenario, driver: &Driver) {
    let honest: Vec<usize> = (0..world.len())
        .filter(|&node| world.machine(node).is_some())
        .collect();
    let mut shuffled = honest.clone();
    world.dice().shuffle(&mut shuffled);
    let mut groups: Vec<(&Group, Vec<usize>)> = Vec::new();
    for group in &scenario.adversaries {
        let members = match group.members {
            Members::Share(share) => {
                let turned = (share * honest.len() as f64).round() as usize;
                // Somebody is left to ask.
                let turned = turned.min(shuffled.len().saturating_sub(1));
                shuffled.split_off(shuffled.len() - turned)
            }
            Members::Sybils { count, near, sites } => sybils(world, scenario, driver, (count, near, sites)),
        };
        groups.push((group, members));
    }
    let has_sybils = |group: &Group| matches!(group.members, Members::Sybils { .. });
    if scenario.adversaries.iter().any(has_sybils) {
        world.run_for(scenario.settle);
    }
    for (group, members) in groups {
        let adversary = adversary(world, group, &members, &shuffled);
        world.corrupt(&members, adversary);
    }
}

/// Nodes that join to turn: all over the place, or nearer to a key than anybody honest.
fn sybils(
    world: &mut World,
    scenario: &Scenario,
    driver: &Driver,
    (count, near, sites): (usize, Near, u8),
) -> Vec<usize> {
    let key = match near {
        Near::Anywhere => None,
        Near::Key(key) => Some(key),
        Near::FirstValue => driver.first_key(),
    };
    let nearest = key.and_then(|key| {
        let nearest = world.serving().closest(key, 1);
        nearest
            .first()
            .map(|nearest| nearest.id.distance(key).leading_zeros())
    });
    let mut members = Vec::new();
    for nth in 0..count {
        let id = match (key, nearest) {
            // The first bit that the nearest honest node does not share with the key, and those before it, are the key's.
            (Some(key), Some(shared)) => beside(world, key, shared + 1),
            _ => world.dice().key().to_node_id(),
        };
        let site = match sites {
            0 => scenario.site,
            sites => Site::Shared((nth % usize::from(sites)) as u8),
        };
        let number = world.add(id, site, &scenario.config);
        world.join(number);
        world.run_for(SYBIL_PAUSE);
        members.push(number);
    }
    members
}

/// A random id that shares so many leading bits with a key.
fn beside(world: &mut World, key: kad_core::Key, shared: u32) -> NodeId {
    let (mut limbs, random) = (key.to_limbs(), world.dice().key().to_limbs());
    for (place, (limb, random)) in limbs.iter_mut().zip(random).enumerate() {
        let kept = shared.saturating_sub(64 * place as u32).min(64);
        let free = u64::MAX.checked_shr(kept).unwrap_or(0);
        *limb = *limb & !free | random & free;
    }
    NodeId::from_limbs(limbs)
}

fn adversary(world: &mut World, group: &Group, members: &[usize], honest: &[usize]) -> Box<dyn Adversary> {
    match group.kind {
        Kind::Silent => Box::new(Silent),
        Kind::Lying => Box::new(Lying { told: group.told }),
        Kind::Flooding => {
            let mut victims = honest.to_vec();
            world.dice().shuffle(&mut victims);
            victims.truncate(group.victims);
            let contacts = |numbers: &[usize]| numbers.iter().map(|&number| world.contact(number)).collect();
            Box::new(Flooding::new(contacts(&victims), contacts(members), group.rate))
        }
    }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::experiments::Unwatched;

    #[test]
    fn sybils_are_nearer_to_the_first_value_than_anybody_honest() {
        let text = "[network]\nnodes = 100\nsettle = \"1m\"\n[[adversaries]]\nkind = \"silent\"\ncount = 30\nnear = \
                    \"first-value\"\n[load]\nvalues = 1\ngets = 0.01\nduration = \"2m\"\n";
        let scenario = Scenario::parse(Path::new("x.toml"), text).expect("it is a scenario");
        let setup = Setup {
            nodes: 100,
            seed: 1,
            progress: &Unwatched,
        };
        let mut world = World::new(setup.seed, scenario.links);
        let driver = Driver::new(&mut world, &scenario);
        join(&mut world, &scenario, &setup);
        turn(&mut world, &scenario, &driver);
        let key = driver.first_key().expect("there is a value");
        assert_eq!((world.serving().len(), world.colluders().len()), (100, 30));
        let nearest = world.serving().closest(key, 1)[0].id.distance(key);
        assert!(
            world
                .colluders()
                .iter()
                .all(|sybil| sybil.id.distance(key) < nearest)
        );
        // They joined as anybody does, so others know them.
        let known = |node: usize| {
            let table = world.machine(node).expect("nobody goes").table();
            table
                .contacts()
                .filter(|entry| world.colluders().contains(entry.contact.id))
                .count()
        };
        assert!((0..100).map(known).sum::<usize>() > 100);
    }

    #[test]
    fn ids_beside_a_key_share_what_they_should() {
        let mut world = World::new(7, crate::Links::quick());
        for shared in [0, 1, 13, 63, 64, 65, 128, 255] {
            let key = world.dice().key();
            let ids: Vec<_> = (0..200).map(|_| beside(&mut world, key, shared)).collect();
            let zeros = ids.iter().map(|id| id.distance(key).leading_zeros());
            // Of 200 none that shares no more than it must would be a wonder.
            assert_eq!(zeros.min(), Some(shared));
        }
    }
}
