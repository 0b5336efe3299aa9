//! Targets that were met once. `kad-sim run` fails where one of them is missed again.
//!
//! The file `tests/sim/met.toml` has a table for each experiment and number of nodes, and in it a line for each metric:
//! the bound, and the seeds over which the mean was within it. A run is compared with a line if it has the same number
//! of nodes and its seeds include those of the line: these very runs then met the target once, and more seeds only make
//! the mean steadier. Runs with other seeds are not compared, because chance alone could make them miss what is met by
//! a hair.
//!
//! The bound stands in the file, so that a target that is loosened in the code does not hide a loss. `--record` adds
//! lines and makes bounds stricter; nothing but an editor removes or loosens one.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde::Deserialize;

use super::figures::{Bound, Figures};
use super::replace;
use super::reply::Failure;

/// By experiment, number of nodes, and metric.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Met(BTreeMap<String, BTreeMap<usize, BTreeMap<String, Entry>>>);

/// A target that was met.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    at_least: Option<f64>,
    at_most: Option<f64>,
    seed: u64,
    seeds: usize,
    /// What it was when it was recorded, for people.
    result: f64,
}

/// How a run stands to the targets that were met once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// A sentence for each one that is lost.
    pub(crate) lost: Vec<String>,
    /// How many were compared.
    pub(crate) compared: usize,
    /// How many were not, because the run has not their seeds.
    pub(crate) skipped: usize,
}

impl Comparison {
    /// What was compared, for people; nothing if there was nothing to compare.
    pub(crate) fn told(&self) -> Vec<String> {
        let mut told = Vec::new();
        if self.compared > 0 {
            let held = self.compared - self.lost.len();
            told.push(format!(
                "{held} of {} targets that were once met are met",
                self.compared
            ));
        }
        if self.skipped > 0 {
            told.push(format!(
                "{} targets were once met with seeds that this run has not",
                self.skipped
            ));
        }
        told
    }
}

const HEAD: &str = "\
# Targets that were met once: kad-sim run fails where one of them is missed with the same nodes and seeds.
# kad-sim run EXPERIMENT --record adds lines. Remove one by hand, and say why, if a target is given up.
";

impl Entry {
    const fn bound(self) -> Bound {
        Bound {
            at_least: self.at_least,
            at_most: self.at_most,
        }
    }
}

impl Met {
    /// Reads the file; one that is not there has no targets.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |why: String| {
            Failure::usage(format!(
                "the file of met targets {} cannot be used: {why}; mend it, or name another one with --met",
                path.display()
            ))
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(wrong(error.to_string())),
        };
        Self::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        type File = BTreeMap<String, BTreeMap<String, BTreeMap<String, Entry>>>;
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().and_then(|span| text.get(..span.start));
            let line = line.map_or(0, |before| before.matches('\n').count()) + 1;
            format!("line {line}: {}", error.message())
        })?;
        let mut met = Self::default();
        for (experiment, sizes) in file {
            for (nodes, entries) in sizes {
                let nodes = nodes
                    .parse()
                    .map_err(|_| format!("{experiment}.{nodes} should name a number of nodes"))?;
                met.0
                    .entry(experiment.clone())
                    .or_default()
                    .insert(nodes, entries);
            }
        }
        Ok(met)
    }

    /// Compares a run with what was met.
    pub(crate) fn compare(&self, run: &Figures) -> Comparison {
        let mut comparison = Comparison::default();
        let entries = self
            .0
            .get(&run.experiment)
            .and_then(|sizes| sizes.get(&run.nodes));
        for (metric, entry) in entries.into_iter().flatten() {
            if !run.covers(entry.seed, entry.seeds) {
                comparison.skipped += 1;
                continue;
            }
            comparison.compared += 1;
            let row = run.row(metric);
            if !row.is_some_and(|row| entry.bound().is_met_by(row.result)) {
                let now = row.map_or_else(
                    || "not measured any more".to_owned(),
                    super::figures::RowFigures::shown,
                );
                comparison.lost.push(format!(
                    "{} with {} nodes lost a target that it once met: {metric} is {now} and should be {} (it was {})",
                    run.experiment,
                    run.nodes,
                    entry.bound(),
                    kad_sim::report::short(entry.result),
                ));
            }
        }
        comparison
    }

    /// Adds the targets that a run meets, and says how many there were to add. One that is there stays, unless the run
    /// meets a stricter one.
    pub(crate) fn record(&mut self, run: &Figures) -> usize {
        let mut added = 0;
        for row in run.rows.iter().filter(|row| row.met == Some(true)) {
            let (Some(bound), Some(result)) = (row.target, row.result) else {
                continue;
            };
            let sizes = self.0.entry(run.experiment.clone()).or_default();
            let entries = sizes.entry(run.nodes).or_default();
            let stays = |entry: &Entry| entry.bound() == bound || !bound.is_within(entry.bound());
            if entries.get(&row.metric).is_some_and(stays) {
                continue;
            }
            let entry = Entry {
                at_least: bound.at_least,
                at_most: bound.at_most,
                seed: run.seed,
                seeds: run.seeds,
                result: (result * 1e6).round() / 1e6,
            };
            entries.insert(row.metric.clone(), entry);
            added += 1;
        }
        added
    }

    /// Writes the file, in one step.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        replace::write(path, self.text().as_bytes())
    }

    /// The same targets give the same text.
    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        for (experiment, sizes) in &self.0 {
            for (nodes, entries) in sizes {
                text.push_str(&format!("\n[{}.{nodes}]\n", quoted(experiment)));
                for (metric, entry) in entries {
                    let bound = |name: &str, bound: Option<f64>| {
                        bound.map_or_else(String::new, |bound| format!("{name} = {}, ", number(bound)))
                    };
                    text.push_str(&format!(
                        "{} = {{ {}{}seed = {}, seeds = {}, result = {} }}\n",
                        quoted(metric),
                        bound("at_least", entry.at_least),
                        bound("at_most", entry.at_most),
                        entry.seed,
                        entry.seeds,
                        number(entry.result)
                    ));
                }
            }
        }
        text
    }
}

/// A key or a string as TOML writes it.
fn quoted(text: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if !text.is_empty() && text.chars().all(is_bare) {
        return text.to_owned();
    }
    // Of all quotations the one that a key may have: on one line, with escapes.
    serde_json::to_string(text).unwrap_or_default()
}

/// A number as TOML writes it: with a point.
fn number(number: f64) -> String {
    format!("{number:?}")
}

#[cfg(test)]
mod tests {
    use super::super::figures::RowFigures;
    use super::*;

    fn run(seed: u64, seeds: usize, rows: &[(&str, Bound, f64)]) -> Figures {
        let rows = rows.iter().map(|&(metric, bound, result)| RowFigures {
            metric: metric.to_owned(),
            unit: "hops".to_owned(),
            reference: None,
            target: Some(bound),
            result: Some(result),
            low: None,
            high: None,
            met: Some(bound.is_met_by(Some(result))),
        });
        Figures {
            experiment: "hop-law".to_owned(),
            nodes: 1000,
            seed,
            seeds,
            trace_hash: String::new(),
            rows: rows.collect(),
            notes: Vec::new(),
            wall_s: 0.0,
            peak_rss_mib: 0.0,
            events: 0,
            events_per_s: 0.0,
            per_seed: Vec::new(),
        }
    }

    const fn at_most(most: f64) -> Bound {
        Bound {
            at_least: None,
            at_most: Some(most),
        }
    }

    #[test]
    fn a_target_that_was_met_and_is_missed_is_lost() {
        let mut met = Met::default();
        let metric = "mean hops, \"k\" = 20";
        assert_eq!(
            met.record(&run(
                1,
                3,
                &[(metric, at_most(2.0), 1.9), ("p99", at_most(3.0), 4.0)]
            )),
            1
        );
        let held = met.compare(&run(1, 3, &[(metric, at_most(2.0), 2.0)]));
        assert_eq!(
            held,
            Comparison {
                compared: 1,
                ..Comparison::default()
            }
        );
        // What was never met may be missed, and a looser bound in the code does not help.
        let planted = met.compare(&run(
            1,
            3,
            &[(metric, at_most(9.0), 2.3), ("p99", at_most(3.0), 4.0)],
        ));
        let [lost] = planted.lost.as_slice() else {
            panic!("{planted:?}")
        };
        assert!(
            lost.contains(metric) && lost.contains("2.3 hops") && lost.contains("≤ 2 "),
            "{lost}"
        );
        let gone = met.compare(&run(1, 3, &[]));
        assert!(gone.lost[0].contains("not measured any more"), "{gone:?}");
    }

    #[test]
    fn only_runs_that_include_the_recorded_seeds_are_compared() {
        let mut met = Met::default();
        met.record(&run(2, 2, &[("hops", at_most(2.0), 1.9)]));
        let lost = |seed, seeds| {
            met.compare(&run(seed, seeds, &[("hops", at_most(2.0), 5.0)]))
                .lost
                .len()
        };
        assert_eq!([lost(2, 2), lost(1, 3), lost(1, 9)], [1, 1, 1]);
        assert_eq!([lost(1, 2), lost(2, 1), lost(3, 5), lost(7, 2)], [0, 0, 0, 0]);
        assert_eq!(met.compare(&run(7, 2, &[])).skipped, 1);
        let other = Figures {
            nodes: 2000,
            ..run(2, 2, &[])
        };
        assert_eq!(met.compare(&other), Comparison::default());
    }

    #[test]
    fn recording_never_loosens_a_bound() {
        let mut met = Met::default();
        met.record(&run(1, 1, &[("hops", at_most(2.0), 1.9)]));
        let before = met.clone();
        assert_eq!(met.record(&run(1, 1, &[("hops", at_most(3.0), 1.9)])), 0);
        assert_eq!(met.record(&run(5, 3, &[("hops", at_most(2.0), 1.8)])), 0);
        assert_eq!(met, before);
        assert_eq!(met.record(&run(1, 1, &[("hops", at_most(1.5), 1.4)])), 1);
        assert_eq!(
            met.compare(&run(1, 1, &[("hops", at_most(2.0), 1.9)])).lost.len(),
            1
        );
    }

    #[test]
    fn the_file_is_read_as_it_was_written_and_sorted() {
        let mut met = Met::default();
        let between = Bound {
            at_least: Some(0.1),
            at_most: Some(7.0),
        };
        let rows = [("b \"x\"", at_most(2.0), 1.25), ("a", between, 1.0)];
        met.record(&run(1, 3, &rows));
        met.record(&Figures {
            nodes: 200,
            ..run(1, 3, &rows)
        });
        let text = met.text();
        assert_eq!(Met::parse(&text).expect("it was written so"), met);
        let small = text.find("[hop-law.200]").expect("it is there");
        assert!(
            small < text.find("[hop-law.1000]").expect("it is there"),
            "{text}"
        );
        assert!(
            text.find("a = {").expect("it is there") < text.find("\"b ").expect("it is there"),
            "{text}"
        );
    }

    #[test]
    fn mistakes_in_the_file_are_told() {
        for (text, words) in [
            ("[hop-law.many]\n", "hop-law.many"),
            (
                "[hop-law.5]\nx = { at_mots = 1, seed = 1, seeds = 1, result = 1 }\n",
                "line 2",
            ),
            ("[hop-law.5]\nx = 3\n", "line 2"),
        ] {
            let error = Met::parse(text).expect_err(text);
            assert!(error.contains(words), "{error}");
        }
    }
}
