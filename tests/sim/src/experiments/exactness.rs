//! Experiment 2: whether lookups find those who are nearest, and whether nodes know their own neighbours.
//!
//! A network joins through one node. First nothing but the join protocol and the young nodes' refreshes have happened
//! (*static*). Then nodes come and go as IPFS measured it in 2022 (*churn*), with no other load than the lookups that
//! measure, so that the tables live from maintenance alone. A node counts as there from the moment at which it comes
//! up, before it has joined, to the moment at which it goes down.

use std::sync::Arc;

use kad_core::{Command, Config, Contact, Duration, Key, Outcome};

use super::{Experiment, Setup, node_bytes};
use crate::load::drive;
use crate::report::{Chart, Curve, Report, Row, Samples, Target};
use crate::{Growth, Links, Place, Sessions, Site, World};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "exactness",
    number: 2,
    question: "Do lookups find exactly the nearest, and do nodes know their own neighbours, with and without churn?",
    source: "Trautwein et al. 2022 (IPFS): 61.1 % of nodes know all 20 nearest to them, 95.2 % know 18, buckets are 98 % full",
    nodes: 10_000,
    small: 500,
    memory: |nodes| nodes as u64 * (node_bytes(nodes, 20) + POOL_BYTES),
    run,
};

/// Connections of a node: those of the QUIC transport.
const CONNECTIONS: usize = 128;
/// Bytes of the simulator for each node's connections.
const POOL_BYTES: u64 = 16 * CONNECTIONS as u64;
/// From the last join to the static figures: the refreshes of young nodes are over.
const SETTLING: Duration = Duration::from_secs(900);
/// Looks at the network under churn, evenly over the measured time.
const LOOKS: u32 = 4;
/// Lookups of the static network, and of all looks together; fewer in networks of fewer nodes.
const LOOKUPS: usize = 4_000;
/// Nodes whose tables a look reads.
const TABLES: usize = 5_000;
/// From here on a network is so large that hours of churn take too long to simulate.
const LARGE: usize = 20_000;

fn run(setup: &Setup<'_>) -> Report {
    let mut report = Report::default();
    let config = Arc::new(Config::default());
    let links = Links {
        connections: Some(CONNECTIONS),
        ..Links::default()
    };
    let mut world = World::new(setup.seed, links);
    setup.progress.stage("joining", setup.nodes as u64);
    world.grow_watched(setup.nodes, Site::Private, &config, Growth::default(), |n| {
        setup.progress.done(n as u64);
    });
    world.run_for(SETTLING);

    setup.progress.stage("static", 1);
    let mut still = Look::default();
    still.look_up(&mut world, lookups(setup.nodes), config.k);
    still.read_tables(&mut world, config.k);
    of_static(&mut report, &still);

    let (warm, measured) = churn_times(setup.nodes);
    setup.progress.stage("churn", u64::from(LOOKS) + 1);
    world.churn(Sessions::ipfs());
    world.run_for(warm);
    setup.progress.done(1);
    let mut churned = Look::default();
    let mut spent = Spending::default();
    for look in 0..LOOKS {
        spent.watch(&mut world, measured / LOOKS);
        churned.look_up(&mut world, lookups(setup.nodes) / LOOKS as usize, config.k);
        churned.read_tables(&mut world, config.k);
        setup.progress.done(u64::from(look) + 2);
    }
    of_churn(&mut report, &churned, &spent);
    report.charts.push(churned.dead_by_bucket());
    report.notes.push(format!(
        "Churn: half of all sessions end within 2 h, 80 % within 8 h, an hour away on average. Measured over {} h after {} h \
         of it; no load but the lookups that measure, whose bytes are not counted.",
        measured.as_secs_f64() / 3600.0,
        warm.as_secs_f64() / 3600.0
    ));
    report.close(&world);
    report
}

fn lookups(nodes: usize) -> usize {
    LOOKUPS.min(nodes)
}

/// Hours of churn before the figures are taken, and while they are.
const fn churn_times(nodes: usize) -> (Duration, Duration) {
    match nodes {
        LARGE.. => (Duration::from_secs(1800), Duration::from_secs(1800)),
        _ => (Duration::from_secs(7200), Duration::from_secs(7200)),
    }
}

/// What one look at a network, or several, found.
#[derive(Default)]
struct Look {
    /// For each lookup, the share of the k nearest that its answer has, in percent.
    overlap: Samples,
    /// Whether the answer is exactly these, in order: 100 or 0.
    exact: Samples,
    requests: Samples,
    /// For each table, how many of the k nearest to its owner it misses.
    missed: Samples,
    /// Places of buckets that could be full, and how many of these are taken.
    places: usize,
    taken: usize,
    /// Contacts, and how many of these are down, by bucket.
    contacts: Vec<(u32, u32)>,
    /// As above, of the k nearest that each table has.
    nearest: (u32, u32),
}

impl Look {
    fn look_up(&mut self, world: &mut World, count: usize, k: usize) {
        let begin = |world: &mut World| {
            let (node, target) = (world.anyone(), world.dice().key());
            (node, Command::FindNode { target }, target)
        };
        drive(world, count, 100.0, begin, |world, done| {
            let truth = nearest_others(world, world.contact(done.node), done.note, k);
            match done.outcome {
                Some(Outcome::Closest(found)) => {
                    let right = found.iter().filter(|contact| truth.contains(contact)).count();
                    self.overlap.push(100.0 * right as f64 / truth.len() as f64);
                    self.exact.push(percent(found == truth));
                }
                Some(_) => {
                    self.overlap.push(0.0);
                    self.exact.push(0.0);
                }
                // Its node went down.
                None => return,
            }
            self.requests.push(f64::from(done.effort.requests));
        });
    }

    fn read_tables(&mut self, world: &mut World, k: usize) {
        // Sorted, so that the nodes of a bucket are a range.
        let ids: Vec<u64> = world
            .serving()
            .iter()
            .map(|contact| prefix(contact.id.to_key()))
            .collect();
        let mut nodes: Vec<_> = world
            .serving()
            .iter()
            .map(|contact| contact.address.number())
            .collect();
        world.dice().shuffle(&mut nodes);
        for &node in nodes.iter().take(TABLES) {
            let Some(table) = world.machine(node).map(kad_core::Kademlia::table) else {
                continue;
            };
            let me = world.contact(node);
            let truth = nearest_others(world, me, me.id.to_key(), k);
            let missed = truth
                .iter()
                .filter(|contact| table.get(contact.id).is_none())
                .count();
            self.missed.push(missed as f64);
            for bucket in 0..ids.len().ilog2() + 1 {
                let room = table.bucket_capacity(bucket);
                if population(&ids, prefix(me.id.to_key()), bucket) >= room {
                    self.places += room;
                    self.taken += table.bucket_len(bucket).min(room);
                }
            }
            let mut known: Vec<_> = table
                .contacts()
                .map(|entry| {
                    let distance = me.id.distance(entry.contact.id.to_key());
                    (distance, !world.serving().contains(entry.contact.id))
                })
                .collect();
            known.sort_unstable();
            for (place, (distance, down)) in known.into_iter().enumerate() {
                let bucket = distance.leading_zeros() as usize;
                if self.contacts.len() <= bucket {
                    self.contacts.resize(bucket + 1, (0, 0));
                }
                count(&mut self.contacts[bucket], down);
                if place < k {
                    count(&mut self.nearest, down);
                }
            }
        }
    }

    /// The share of nodes that know all of their k nearest but so many, in percent.
    fn know_all_but(&self, missed: f64) -> f64 {
        100.0 * (1.0 - self.missed.share_from(missed + 1.0))
    }

    fn dead(&self) -> f64 {
        let sum = self
            .contacts
            .iter()
            .fold((0, 0), |sum, bucket| (sum.0 + bucket.0, sum.1 + bucket.1));
        share(sum)
    }

    fn dead_by_bucket(&self) -> Chart {
        let points = self.contacts.iter().enumerate();
        Chart {
            title: "Contacts that are down, by bucket, under churn".into(),
            x: "bucket, 0 is the far half of all nodes".into(),
            y: "% of contacts".into(),
            log_x: false,
            curves: vec![Curve {
                name: "down".into(),
                // Of a handful of contacts a share says nothing.
                points: points
                    .filter(|(_, bucket)| bucket.0 >= 100)
                    .map(|(index, &bucket)| (index as f64, share(bucket)))
                    .collect(),
            }],
        }
    }
}

/// What the network spent while nobody measured.
#[derive(Default)]
struct Spending {
    traffic: crate::Traffic,
    /// Seconds, each as often as there were nodes up.
    node_seconds: f64,
}

impl Spending {
    fn watch(&mut self, world: &mut World, span: Duration) {
        let (before, up) = (world.traffic(), world.serving().len());
        world.run_for(span);
        self.traffic += world.traffic() - before;
        let mean = (up + world.serving().len()) as f64 / 2.0;
        self.node_seconds += mean * span.as_secs_f64();
    }

    fn per_node_second(&self, of: u64) -> f64 {
        of as f64 / self.node_seconds
    }
}

fn of_static(report: &mut Report, still: &Look) {
    let row = |what: &str, unit, result| Row::new(format!("static: {what}"), unit, result);
    report.push(row("exact answers", "%", still.exact.mean()).target(Target::AtLeast(99.9)));
    report.push(row("overlap of answers", "%", still.overlap.mean()));
    report.push(row("requests of a lookup", "RPCs", still.requests.mean()));
    report.push(row("nodes that know all 20", "%", still.know_all_but(0.0)).reference(61.1));
    report.push(row("nodes that know 18 of 20", "%", still.know_all_but(2.0)).reference(95.2));
    let fill = 100.0 * still.taken as f64 / still.places as f64;
    report.push(row("bucket fill", "%", fill).reference(98.0));
}

fn of_churn(report: &mut Report, churned: &Look, spent: &Spending) {
    let row = |what: &str, unit, result| Row::new(format!("churn: {what}"), unit, result);
    report.push(row("exact answers", "%", churned.exact.mean()));
    report.push(row("overlap of answers", "%", churned.overlap.mean()));
    report.push(row("requests of a lookup", "RPCs", churned.requests.mean()));
    report.push(row("nodes that know all 20", "%", churned.know_all_but(0.0)).reference(61.1));
    report.push(
        row("nodes that know 18 of 20", "%", churned.know_all_but(2.0))
            .reference(95.2)
            .target(Target::AtLeast(99.0)),
    );
    let fill = 100.0 * churned.taken as f64 / churned.places as f64;
    report.push(row("bucket fill", "%", fill).reference(98.0));
    report.push(row("dead contacts", "%", churned.dead()));
    report.push(row(
        "dead contacts in bucket 0",
        "%",
        share(churned.contacts.first().copied().unwrap_or_default()),
    ));
    report.push(row("dead among the nearest 20", "%", share(churned.nearest)));
    let traffic = &spent.traffic;
    report.push(row(
        "requests of a node",
        "RPCs/min",
        60.0 * spent.per_node_second(traffic.requests),
    ));
    report.push(row(
        "frame bytes of a node",
        "B/s",
        spent.per_node_second(traffic.frame_bytes),
    ));
    report.push(row(
        "QUIC bytes of a node",
        "B/s",
        spent.per_node_second(traffic.quic_bytes()),
    ));
}

/// Nodes of the sorted ids that share exactly `bucket` leading bits with `id`.
fn population(ids: &[u64], id: u64, bucket: u32) -> usize {
    let flipped = id ^ (1 << (63 - bucket));
    let low = flipped >> (63 - bucket) << (63 - bucket);
    let high = low | ((1 << (63 - bucket)) - 1);
    ids.partition_point(|&other| other <= high) - ids.partition_point(|&other| other < low)
}

/// The first 64 bits, which no two nodes of a simulation share.
const fn prefix(key: Key) -> u64 {
    key.to_limbs()[0]
}

/// The k nearest to a point that are up, without one of them.
fn nearest_others(world: &World, me: Contact<Place>, target: Key, k: usize) -> Vec<Contact<Place>> {
    let mut nearest = world.serving().closest(target, k + 1);
    nearest.retain(|contact| contact.id != me.id);
    nearest.truncate(k);
    nearest
}

const fn count(into: &mut (u32, u32), down: bool) {
    into.0 += 1;
    into.1 += down as u32;
}

fn share((all, some): (u32, u32)) -> f64 {
    100.0 * f64::from(some) / f64::from(all)
}

const fn percent(whether: bool) -> f64 {
    if whether { 100.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_population_of_a_bucket_is_those_that_share_as_many_bits() {
        let mut dice = crate::Dice::new(9);
        let mut ids: Vec<u64> = (0..1000).map(|_| dice.roll()).collect();
        ids.sort_unstable();
        for &id in ids.iter().step_by(97) {
            for bucket in 0..20 {
                let counted = ids
                    .iter()
                    .filter(|&&other| (id ^ other).leading_zeros() == bucket)
                    .count();
                assert_eq!(population(&ids, id, bucket), counted, "bucket {bucket}");
            }
        }
    }
}
