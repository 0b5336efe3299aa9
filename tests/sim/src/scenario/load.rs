//! What the network is asked, and what came of it.

use std::collections::BTreeMap;

use kad_core::record::{Content, immutable_key};
use kad_core::{Command, Duration, Effort, Instant, Key, Kind, Outcome, QueryId, Read, Record};

use super::Scenario;
use crate::report::{Chart, Curve, Report, Row, Samples};
use crate::{Happening, Traffic, World};

/// How long values live: the longest that a network with default parameters allows.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Asks, and counts what comes of it.
pub(super) struct Driver {
    k: usize,
    write_quorum: usize,
    value_bytes: usize,
    first_values: Vec<Vec<u8>>,
    /// What can be read, and since when it is there, oldest first.
    stored: Vec<(Key, Instant)>,
    /// Whose end is waited for; bounded by the rate of the load and the life of a query.
    asked: BTreeMap<QueryId, Asked>,
    measuring: bool,
    lookups: Tally,
    exact: u64,
    overlap: Samples,
    puts: Tally,
    holders: Samples,
    gets: Tally,
    began: (Instant, Traffic),
    spent: (Duration, Traffic),
}

struct Asked {
    node: usize,
    what: What,
    measured: bool,
}

enum What {
    Lookup(Key),
    Put(Key),
    Get,
}

/// How queries of one kind ended.
#[derive(Default)]
struct Tally {
    ended: u64,
    succeeded: u64,
    /// Whoever asked went down first.
    abandoned: u64,
    milliseconds: Samples,
    hops: Samples,
    requests: Samples,
    failures: Samples,
}

impl Tally {
    fn end(&mut self, succeeded: bool, effort: &Effort) {
        self.ended += 1;
        self.succeeded += u64::from(succeeded);
        self.hops.push(effort.hops.into());
        self.requests.push(effort.requests.into());
        self.failures.push(effort.failures.into());
        if succeeded {
            self.milliseconds.push(effort.took.as_secs_f64() * 1000.0);
        }
    }

    fn report(&mut self, name: &str, report: &mut Report) {
        if self.ended + self.abandoned == 0 {
            return;
        }
        let mut row =
            |what: &str, unit, result| report.push(Row::new(format!("{name}, {what}"), unit, result));
        row("ended", "", self.ended as f64);
        row("asker went down", "", self.abandoned as f64);
        row(
            "succeeded",
            "%",
            100.0 * self.succeeded as f64 / self.ended as f64,
        );
        row("p50", "ms", self.milliseconds.quantile(0.5));
        row("p90", "ms", self.milliseconds.quantile(0.9));
        row("p99", "ms", self.milliseconds.quantile(0.99));
        row("hops", "", self.hops.mean());
        row("RPCs", "", self.requests.mean());
        row("RPCs that failed", "", self.failures.mean());
    }
}

impl Driver {
    pub(super) fn new(world: &mut World, scenario: &Scenario) -> Self {
        let value_bytes = scenario.load.value_bytes;
        Self {
            k: scenario.config.k,
            write_quorum: scenario.config.write_quorum,
            value_bytes,
            first_values: (0..scenario.load.values)
                .map(|_| value(world, value_bytes))
                .collect(),
            stored: Vec::new(),
            asked: BTreeMap::new(),
            measuring: false,
            lookups: Tally::default(),
            exact: 0,
            overlap: Samples::default(),
            puts: Tally::default(),
            holders: Samples::default(),
            gets: Tally::default(),
            began: (Instant::ZERO, Traffic::default()),
            spent: (Duration::ZERO, Traffic::default()),
        }
    }

    /// Where the first of the values belongs that are stored before the load begins.
    pub(super) fn first_key(&self) -> Option<Key> {
        let value = self.first_values.first()?;
        Some(immutable_key(Content::Plain, value))
    }

    pub(super) fn first_values(&self) -> &[Vec<u8>] {
        &self.first_values
    }

    pub(super) fn is_stored(&mut self, key: Key, now: Instant) {
        self.stored.push((key, now));
    }

    /// What is asked from now on counts.
    pub(super) fn begin(&mut self, world: &World) {
        self.measuring = true;
        self.began = (world.now().monotonic, world.traffic());
    }

    /// What is asked from now on does not count any more.
    pub(super) fn end(&mut self, world: &World) {
        self.measuring = false;
        let (at, traffic) = self.began;
        self.spent = (world.now().monotonic.since(at), world.traffic() - traffic);
    }

    /// Whether a query that counts has not ended yet.
    pub(super) fn waits(&self) -> bool {
        self.asked.values().any(|asked| asked.measured)
    }

    /// What was sent in the seconds that were measured.
    pub(super) const fn traffic(&self) -> (Traffic, f64) {
        (self.spent.1, self.spent.0.as_secs_f64())
    }

    pub(super) fn lookup(&mut self, world: &mut World) {
        let target = world.dice().key();
        self.ask(world, What::Lookup(target), Command::FindNode { target });
    }

    pub(super) fn put(&mut self, world: &mut World) {
        let value = value(world, self.value_bytes);
        let Some(record) = record(world, &value) else {
            return;
        };
        let what = What::Put(record.key());
        let store = Command::Store {
            record,
            expected: None,
            keep: false,
            enough: self.write_quorum,
        };
        self.ask(world, what, store);
    }

    /// Reads one of the values that are there, if there is one.
    pub(super) fn get(&mut self, world: &mut World) {
        // Those that are near their end are not read any more; the oldest come first.
        let now = world.now().monotonic;
        let old = |&(_, stored): &(Key, Instant)| now.since(stored) + Duration::from_secs(3600) > LIFETIME;
        let first = self.stored.partition_point(old);
        if first == self.stored.len() {
            return;
        }
        let (key, _) = self.stored[first + world.dice().below(self.stored.len() - first)];
        let find = Command::FindValue {
            key,
            kind: Kind::Immutable,
            read: Read::First,
        };
        self.ask(world, What::Get, find);
    }

    fn ask(&mut self, world: &mut World, what: What, command: Command<crate::Place>) {
        if world.serving().is_empty() {
            return; // Nobody is up to ask.
        }
        let node = world.anyone();
        let query = world.command(node, command);
        let measured = self.measuring;
        self.asked.insert(query, Asked { node, what, measured });
    }

    pub(super) fn on(&mut self, world: &World, happening: Happening) {
        match happening {
            Happening::Finished {
                query,
                outcome,
                effort,
                ..
            } => {
                if let Some(asked) = self.asked.remove(&query) {
                    self.finished(world, &asked, &outcome, &effort);
                }
            }
            Happening::Down { node } => {
                let gone = self.asked.extract_if(.., |_, asked| asked.node == node);
                for (_, asked) in gone.filter(|(_, asked)| asked.measured) {
                    match asked.what {
                        What::Lookup(_) => self.lookups.abandoned += 1,
                        What::Put(_) => self.puts.abandoned += 1,
                        What::Get => self.gets.abandoned += 1,
                    }
                }
            }
            Happening::Up { .. } | Happening::Woke { .. } => {}
        }
    }

    fn finished(&mut self, world: &World, asked: &Asked, outcome: &Outcome<crate::Place>, effort: &Effort) {
        match asked.what {
            What::Lookup(target) if asked.measured => {
                let Outcome::Closest(found) = outcome else {
                    return self.lookups.end(false, effort);
                };
                self.lookups.end(!found.is_empty(), effort);
                let me = world.contact(asked.node).id;
                let mut truth = world.serving().closest(target, self.k + 1);
                truth.retain(|contact| contact.id != me);
                truth.truncate(self.k);
                self.exact += u64::from(*found == truth);
                let hits = truth.iter().filter(|contact| found.contains(contact)).count();
                self.overlap.push(hits as f64 / truth.len().max(1) as f64);
            }
            What::Lookup(_) => {}
            What::Put(key) => {
                let holders = match outcome {
                    Outcome::Stored { holders, .. } => holders.len(),
                    _ => 0,
                };
                if holders > 0 {
                    self.is_stored(key, world.now().monotonic);
                }
                if asked.measured {
                    self.puts.end(holders > 0, effort);
                    self.holders.push(holders as f64);
                }
            }
            What::Get if asked.measured => {
                let found = matches!(outcome, Outcome::Found { records, .. } if !records.is_empty());
                self.gets.end(found, effort);
            }
            What::Get => {}
        }
    }

    /// The rows and the curves of what was asked.
    pub(super) fn queries(&mut self, report: &mut Report) {
        self.lookups.report("lookups", report);
        if self.lookups.ended > 0 {
            let exact = 100.0 * self.exact as f64 / self.lookups.ended as f64;
            report.push(Row::new("lookups, exactly the k closest", "%", exact));
            report.push(Row::new(
                "lookups, of the k closest",
                "%",
                100.0 * self.overlap.mean(),
            ));
        }
        self.puts.report("puts", report);
        if self.puts.ended > 0 {
            report.push(Row::new(
                "puts, acknowledgements when told to be done",
                "",
                self.holders.mean(),
            ));
        }
        self.gets.report("gets", report);
        let curves = [
            ("lookups", &mut self.lookups),
            ("puts", &mut self.puts),
            ("gets", &mut self.gets),
        ]
        .into_iter()
        .filter(|(_, tally)| !tally.milliseconds.is_empty())
        .map(|(name, tally)| Curve {
            name: name.to_owned(),
            points: tally.milliseconds.distribution(),
        });
        let chart = Chart {
            title: "How long queries that succeed take".to_owned(),
            x: "ms".to_owned(),
            y: "% that take so long at most".to_owned(),
            log_x: true,
            curves: curves.collect(),
        };
        if !chart.curves.is_empty() {
            report.charts.push(chart);
        }
    }
}

/// A value that nobody has stored yet.
fn value(world: &mut World, bytes: usize) -> Vec<u8> {
    let mut value = world.dice().roll().to_be_bytes().to_vec();
    value.resize(bytes, 0);
    value
}

/// The record of a value, with the longest life from now on. `None` only if the rules of the world forbade it.
pub(super) fn record(world: &World, value: &[u8]) -> Option<Record> {
    let now = world.now().unix;
    Record::immutable(value, now + LIFETIME, world.rules(), now).ok()
}
