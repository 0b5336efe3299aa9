//! What several runs of one experiment found together.

use crate::batch::Run;
use crate::report::{Chart, Row};

/// A figure over all seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The row of the first seed that has it, with the mean over all seeds as its result.
    pub row: Row,
    /// The smallest result of a seed.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

/// Means over seeds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    /// The figures, in the order in which people read them.
    pub figures: Vec<Figure>,
    /// The plots of the first seed.
    pub charts: Vec<Chart>,
    /// What a reader should know, each note once.
    pub notes: Vec<String>,
    /// The hashes of all runs, folded in the order of the seeds; of one run it is its own.
    pub trace: u64,
    /// Events of all runs.
    pub events: u64,
    /// Events for each second of a thread's time.
    pub events_per_second: f64,
}

impl Summary {
    /// Of runs in the order of their seeds.
    #[must_use]
    pub fn of(runs: &[Run]) -> Self {
        let mut summary = Self::default();
        for run in runs {
            for row in &run.report.rows {
                let known = summary
                    .figures
                    .iter()
                    .any(|figure| figure.row.metric == row.metric);
                if !known {
                    summary.figures.push(figure(row, runs));
                }
            }
            for note in &run.report.notes {
                if !summary.notes.contains(note) {
                    summary.notes.push(note.clone());
                }
            }
            summary.events += run.report.events;
        }
        if let Some(first) = runs.first() {
            summary.charts.clone_from(&first.report.charts);
        }
        summary.trace = runs
            .iter()
            .map(|run| run.report.trace)
            .reduce(fold)
            .unwrap_or_default();
        let seconds: f64 = runs.iter().map(|run| run.wall.as_secs_f64()).sum();
        summary.events_per_second = summary.events as f64 / seconds.max(1e-9);
        summary
    }
}

/// The mean over the seeds that have this figure. If it could not be measured in one of them (NaN), it could not be at
/// all.
fn figure(row: &Row, runs: &[Run]) -> Figure {
    let results: Vec<f64> = runs
        .iter()
        .flat_map(|run| &run.report.rows)
        .filter(|other| other.metric == row.metric)
        .map(|other| other.result)
        .collect();
    let mean = results.iter().sum::<f64>() / results.len() as f64;
    let low = results.iter().copied().fold(f64::NAN, f64::min);
    let high = results.iter().copied().fold(f64::NAN, f64::max);
    Figure {
        row: Row {
            // Rounding must not carry a mean out of what it is the mean of.
            result: if low < high || mean.is_nan() { mean } else { low },
            ..row.clone()
        },
        low,
        high,
    }
}

/// Two hashes in one; the order counts.
const fn fold(hash: u64, next: u64) -> u64 {
    (hash.rotate_left(23) ^ next).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Report;

    fn run(seed: u64, result: f64, trace: u64) -> Run {
        let mut report = Report {
            trace,
            events: 500,
            notes: vec!["the same".to_owned()],
            ..Report::default()
        };
        report.push(Row::new("figure", "ms", result));
        Run {
            seed,
            report,
            wall: Duration::from_secs(1),
        }
    }

    #[test]
    fn figures_are_means_and_keep_their_extremes() {
        let summary = Summary::of(&[run(1, 2.0, 7), run(2, 3.0, 8), run(3, 7.0, 9)]);
        let [figure] = summary.figures.as_slice() else {
            panic!("{summary:?}")
        };
        assert_eq!((figure.row.result, figure.low, figure.high), (4.0, 2.0, 7.0));
        assert_eq!(summary.notes, ["the same"]);
        assert_eq!((summary.events, summary.events_per_second), (1500, 500.0));
    }

    #[test]
    fn what_one_seed_could_not_measure_was_not_measured() {
        let summary = Summary::of(&[run(1, 2.0, 7), run(2, f64::NAN, 8)]);
        assert!(summary.figures[0].row.result.is_nan());
        assert_eq!(summary.figures[0].high, 2.0);
    }

    #[test]
    fn the_hash_of_one_run_is_its_own_and_that_of_several_knows_their_order() {
        assert_eq!(Summary::of(&[run(1, 0.0, 7)]).trace, 7);
        let [one, other] = [run(1, 0.0, 7), run(2, 0.0, 8)];
        let forth = Summary::of(&[one.clone(), other.clone()]).trace;
        assert_ne!(forth, Summary::of(&[other, one]).trace);
        assert_eq!(Summary::of(&[]).trace, 0);
    }
}
