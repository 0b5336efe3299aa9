//! What an experiment found, beside what others published.

use std::fmt;

/// One figure of an experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What was measured; unique in its experiment, and the same in every run.
    pub metric: String,
    /// What it is counted in, for people: "ms", "%", "RPCs"; empty for plain numbers.
    pub unit: &'static str,
    /// What others published or what theory says.
    pub reference: Option<f64>,
    /// What we want.
    pub target: Option<Target>,
    /// What it is.
    pub result: f64,
}

/// A bound on a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
    /// Between the two.
    Between(f64, f64),
}

impl Target {
    /// Within a distance of a value.
    #[must_use]
    pub const fn near(value: f64, distance: f64) -> Self {
        Self::Between(value - distance, value + distance)
    }

    /// Whether a result is what we want. Something that could not be measured (NaN) is not.
    #[must_use]
    pub fn is_met_by(self, result: f64) -> bool {
        match self {
            Self::AtMost(most) => result <= most,
            Self::AtLeast(least) => result >= least,
            Self::Between(least, most) => (least..=most).contains(&result),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {}", short(*most)),
            Self::AtLeast(least) => write!(f, "≥ {}", short(*least)),
            Self::Between(least, most) => write!(f, "{} to {}", short(*least), short(*most)),
        }
    }
}

/// A number for people: up to four significant digits.
#[must_use]
pub fn short(number: f64) -> String {
    let digits = match number.abs() {
        n if n >= 1000.0 => 0,
        n if n >= 100.0 => 1,
        n if n >= 1.0 => 2,
        _ => 4,
    };
    let text = format!("{number:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

impl Row {
    /// A figure without reference and target.
    pub fn new(metric: impl Into<String>, unit: &'static str, result: f64) -> Self {
        Self {
            metric: metric.into(),
            unit,
            reference: None,
            target: None,
            result,
        }
    }

    /// The same with what others have.
    #[must_use]
    pub const fn reference(mut self, reference: f64) -> Self {
        self.reference = Some(reference);
        self
    }

    /// The same with what we want.
    #[must_use]
    pub const fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Whether the target is met; `None` without one.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        self.target.map(|target| target.is_met_by(self.result))
    }
}

/// A curve of a plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What it shows.
    pub name: String,
    /// Points from left to right.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chart {
    /// What it is about.
    pub title: String,
    /// What the horizontal axis counts, with its unit.
    pub x: String,
    /// What the vertical axis counts, with its unit.
    pub y: String,
    /// Whether the horizontal axis is logarithmic.
    pub log_x: bool,
    /// Its curves, at most a dozen, or nobody can tell them apart.
    pub curves: Vec<Curve>,
}

/// What one run of an experiment with one seed found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// The figures, in the order in which people read them.
    pub rows: Vec<Row>,
    /// Plots, where a curve says more.
    pub charts: Vec<Chart>,
    /// Things that a reader should know: what was left out, what a figure does not say.
    pub notes: Vec<String>,
    /// The hash of all events of all worlds of the run.
    pub trace: u64,
    /// Events of all worlds, timers not counted.
    pub events: u64,
}

impl Report {
    /// Takes the events and the hash of a world that has come to its end.
    pub fn close(&mut self, world: &crate::World) {
        self.events += world.events();
        self.trace = (self.trace.rotate_left(17) ^ world.trace().hash()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// Adds a figure.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }
}

/// Samples of one quantity, to ask for quantiles.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// One more.
    pub fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their mean; NaN of none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The share that is at least so large; NaN of none.
    #[must_use]
    pub fn share_from(&self, least: f64) -> f64 {
        self.0.iter().filter(|&&sample| sample >= least).count() as f64 / self.0.len() as f64
    }

    /// The value that a share of them does not exceed (nearest rank); NaN of none.
    pub fn quantile(&mut self, share: f64) -> f64 {
        self.0.sort_unstable_by(f64::total_cmp);
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
    }

    /// Their distribution as a curve of about a hundred points: value, share in percent.
    pub fn distribution(&mut self) -> Vec<(f64, f64)> {
        (0..=100)
            .map(|percent| (self.quantile(f64::from(percent) / 100.0), f64::from(percent)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let mut samples = Samples::default();
        (1..=100).rev().for_each(|n| samples.push(f64::from(n)));
        assert_eq!(samples.quantile(0.5), 50.0);
        assert_eq!(samples.quantile(0.99), 99.0);
        assert_eq!(samples.quantile(1.0), 100.0);
        assert_eq!(samples.quantile(0.0), 1.0);
        assert!(Samples::default().quantile(0.5).is_nan());
    }

    #[test]
    fn what_could_not_be_measured_meets_no_target() {
        for target in [Target::AtMost(1.0), Target::AtLeast(0.0), Target::near(1.0, 5.0)] {
            assert!(!target.is_met_by(f64::NAN));
        }
        assert!(Target::near(2.0, 0.5).is_met_by(2.5));
    }

    #[test]
    fn numbers_for_people_are_short() {
        let shown: Vec<_> = [0.0, 0.123_45, 2.0, 3.456, 123.456, 12_345.6].map(short).into();
        assert_eq!(shown, ["0", "0.1235", "2", "3.46", "123.5", "12346"]);
    }
}
