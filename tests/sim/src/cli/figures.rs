//! What a run found, as programs read it, as it is kept, and as people read it.

use std::fmt::{self, Write as _};

use kad_sim::batch::Run;
use kad_sim::report::{Target, short};
use kad_sim::{Figure, Summary};
use serde::{Deserialize, Serialize};

use super::table;

/// The object that `--json` prints and `--save` keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) experiment: String,
    pub(crate) nodes: usize,
    /// The first seed.
    pub(crate) seed: u64,
    /// How many seeds.
    pub(crate) seeds: usize,
    /// 16 hexadecimal digits.
    pub(crate) trace_hash: String,
    pub(crate) rows: Vec<RowFigures>,
    pub(crate) notes: Vec<String>,
    pub(crate) wall_s: f64,
    pub(crate) peak_rss_mib: f64,
    /// Messages that arrived and the like; timers are not counted.
    pub(crate) events: u64,
    /// For each second of one thread.
    pub(crate) events_per_s: f64,
    /// Each seed for itself, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) per_seed: Vec<SeedFigures>,
}

/// One row; over several seeds the mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RowFigures {
    pub(crate) metric: String,
    pub(crate) unit: String,
    pub(crate) reference: Option<f64>,
    pub(crate) target: Option<Bound>,
    /// `None` if it could not be measured.
    pub(crate) result: Option<f64>,
    /// The smallest and the largest of several seeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) low: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) high: Option<f64>,
    /// `None` without a target.
    pub(crate) met: Option<bool>,
}

/// One seed of several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SeedFigures {
    pub(crate) seed: u64,
    pub(crate) trace_hash: String,
    pub(crate) events: u64,
    pub(crate) wall_s: f64,
    pub(crate) results: Vec<SeedResult>,
}

/// A figure of one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SeedResult {
    pub(crate) metric: String,
    pub(crate) result: Option<f64>,
}

/// A target as data: at least this, at most that, or both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bound {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at_least: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at_most: Option<f64>,
}

impl Bound {
    /// Whether a result is within it; what could not be measured is not.
    pub(crate) fn is_met_by(self, result: Option<f64>) -> bool {
        result.is_some_and(|result| {
            self.at_least.is_none_or(|least| result >= least)
                && self.at_most.is_none_or(|most| result <= most)
        })
    }

    /// Whether whatever is within this one is within the other as well.
    pub(crate) fn is_within(self, other: Self) -> bool {
        let above = other
            .at_least
            .is_none_or(|least| self.at_least.is_some_and(|own| own >= least));
        let below = other
            .at_most
            .is_none_or(|most| self.at_most.is_some_and(|own| own <= most));
        above && below
    }
}

impl From<Target> for Bound {
    fn from(target: Target) -> Self {
        let (at_least, at_most) = match target {
            Target::AtMost(most) => (None, Some(most)),
            Target::AtLeast(least) => (Some(least), None),
            Target::Between(least, most) => (Some(least), Some(most)),
        };
        Self { at_least, at_most }
    }
}

/// As a target is shown to people.
impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.at_least, self.at_most) {
            (Some(least), Some(most)) => Target::Between(least, most).fmt(f),
            (Some(least), None) => Target::AtLeast(least).fmt(f),
            (None, Some(most)) => Target::AtMost(most).fmt(f),
            (None, None) => f.write_str("anything"),
        }
    }
}

impl Figures {
    /// Of runs in the order of their seeds, the first of which is `seed`.
    pub(crate) fn new(
        experiment: &str,
        nodes: usize,
        (seed, runs): (u64, &[Run]),
        summary: &Summary,
        (wall_s, peak_bytes): (f64, u64),
    ) -> Self {
        let several = runs.len() > 1;
        Self {
            experiment: experiment.to_owned(),
            nodes,
            seed,
            seeds: runs.len(),
            trace_hash: hash(summary.trace),
            rows: summary
                .figures
                .iter()
                .map(|figure| row(figure, several))
                .collect(),
            notes: summary.notes.clone(),
            wall_s: rounded(wall_s),
            peak_rss_mib: rounded(peak_bytes as f64 / f64::from(1 << 20)),
            events: summary.events,
            events_per_s: rounded(summary.events_per_second),
            per_seed: if several {
                runs.iter().map(of_seed).collect()
            } else {
                Vec::new()
            },
        }
    }

    /// The row of this metric.
    pub(crate) fn row(&self, metric: &str) -> Option<&RowFigures> {
        self.rows.iter().find(|row| row.metric == metric)
    }

    /// Whether the seeds of this run are among those of a run with these.
    pub(crate) fn covers(&self, seed: u64, seeds: usize) -> bool {
        let last = |seed: u64, seeds: usize| u128::from(seed) + seeds as u128;
        self.seed <= seed && last(seed, seeds) <= last(self.seed, self.seeds)
    }

    /// Which seeds: "seed 1", "seeds 1 to 3".
    pub(crate) fn seeds(&self) -> String {
        match self.seeds {
            0 | 1 => format!("seed {}", self.seed),
            seeds => format!(
                "seeds {} to {}",
                self.seed,
                self.seed.wrapping_add(seeds as u64 - 1)
            ),
        }
    }

    /// What the run took, in one line.
    pub(crate) fn cost(&self) -> String {
        format!(
            "{} nodes, {}, trace {}, {} events, {} events/s, {} s, {} at the peak",
            table::grouped(self.nodes as u64),
            self.seeds(),
            self.trace_hash,
            table::grouped(self.events),
            table::grouped(self.events_per_s as u64),
            short(self.wall_s),
            table::memory((self.peak_rss_mib * f64::from(1 << 20)) as u64),
        )
    }

    /// The table, the notes and what it took, for people.
    pub(crate) fn text(&self, headline: &str) -> String {
        let compares = |row: &RowFigures| row.reference.is_some() || row.target.is_some();
        let table = if self.rows.iter().any(compares) {
            let rows = self.rows.iter().map(|row| {
                [
                    row.metric.clone(),
                    row.reference.map_or_else(dash, short),
                    row.target.map_or_else(dash, |target| target.to_string()),
                    row.shown(),
                    row.is_met().to_owned(),
                ]
            });
            table::draw(
                ["metric", "reference", "target", "result", "met"],
                rows,
                &[1, 2, 3],
            )
        } else {
            let rows = self.rows.iter().map(|row| [row.metric.clone(), row.shown()]);
            table::draw(["metric", "result"], rows, &[1])
        };
        let mut text = format!("{headline}\n\n{table}\n");
        for note in &self.notes {
            // Writing to a string does not fail.
            let _ = writeln!(text, "note: {note}");
        }
        let _ = write!(text, "\n{}", self.cost());
        text
    }
}

impl RowFigures {
    /// The result with its unit, and the range over several seeds.
    pub(crate) fn shown(&self) -> String {
        let Some(result) = self.result else {
            return "not measured".to_owned();
        };
        let mut text = short(result);
        if !self.unit.is_empty() {
            let gap = if self.unit.starts_with('/') { "" } else { " " };
            text = format!("{text}{gap}{}", self.unit);
        }
        if let (Some(low), Some(high)) = (self.low, self.high)
            && low < high
        {
            text = format!("{text} ({} to {})", short(low), short(high));
        }
        text
    }

    /// Whether the target is met, in a word.
    pub(crate) const fn is_met(&self) -> &'static str {
        match self.met {
            Some(true) => "yes",
            Some(false) => "no",
            None => "–",
        }
    }
}

fn row(figure: &Figure, several: bool) -> RowFigures {
    let row = &figure.row;
    RowFigures {
        metric: row.metric.clone(),
        unit: row.unit.to_owned(),
        reference: row.reference,
        target: row.target.map(Bound::from),
        result: finite(row.result),
        low: finite(figure.low).filter(|_| several),
        high: finite(figure.high).filter(|_| several),
        met: row.met(),
    }
}

fn of_seed(run: &Run) -> SeedFigures {
    let result = |row: &kad_sim::report::Row| SeedResult {
        metric: row.metric.clone(),
        result: finite(row.result),
    };
    SeedFigures {
        seed: run.seed,
        trace_hash: hash(run.report.trace),
        events: run.report.events,
        wall_s: rounded(run.wall.as_secs_f64()),
        results: run.report.rows.iter().map(result).collect(),
    }
}

fn hash(trace: u64) -> String {
    format!("{trace:016x}")
}

/// JSON knows neither NaN nor infinity.
fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

/// Three digits after the point: nobody reads more.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

fn dash() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(at_least: impl Into<Option<f64>>, at_most: impl Into<Option<f64>>) -> Bound {
        Bound {
            at_least: at_least.into(),
            at_most: at_most.into(),
        }
    }

    #[test]
    fn bounds_know_what_is_within() {
        assert!(bound(1.0, 2.0).is_met_by(Some(1.0)) && bound(1.0, 2.0).is_met_by(Some(2.0)));
        assert!(!bound(1.0, None).is_met_by(Some(0.9)) && !bound(None, 2.0).is_met_by(Some(2.1)));
        assert!(!bound(None, 2.0).is_met_by(None));
        assert!(bound(1.0, 2.0).is_within(bound(None, 2.0)) && bound(1.5, None).is_within(bound(1.0, None)));
        assert!(
            !bound(None, 2.0).is_within(bound(1.0, 2.0)) && !bound(None, 2.1).is_within(bound(None, 2.0))
        );
    }

    #[test]
    fn what_could_not_be_measured_is_null_in_json() {
        let figure = Figure {
            row: kad_sim::report::Row::new("x", "ms", f64::NAN).target(Target::AtMost(1.0)),
            low: f64::NAN,
            high: f64::INFINITY,
        };
        let row = row(&figure, true);
        assert_eq!(
            (row.result, row.low, row.high, row.met),
            (None, None, None, Some(false))
        );
        assert_eq!(row.shown(), "not measured");
        let json = serde_json::to_string(&row).expect("rows are JSON");
        assert!(
            json.contains(r#""result":null"#) && json.contains(r#""target":{"at_most":1.0}"#),
            "{json}"
        );
        assert_eq!(
            serde_json::from_str::<RowFigures>(&json).expect("it was written so"),
            row
        );
    }
}
