//! What the settings of experiment 5 gave, side by side: the lower envelope, rows and charts.

use super::{BUDGET, Point};
use crate::report::{Chart, Curve, Report, Row, Target, short};

/// Bytes for each node and second at which latencies are compared.
const CHEAP: f64 = 10.0;
/// Bytes for each node and second at which failures are compared.
const DEAR: f64 = 40.0;

/// The setting that is best by a figure among those that cost at most so much.
fn best(points: &[Point], most: f64, figure: fn(&Point) -> f64) -> Option<&Point> {
    points
        .iter()
        .filter(|point| point.bytes <= most && !figure(point).is_nan())
        .min_by(|one, other| figure(one).total_cmp(&figure(other)))
}

/// The points that no other beats in both bytes and a figure, from cheap to dear.
fn envelope(points: &[Point], figure: fn(&Point) -> f64) -> Vec<(f64, f64)> {
    let mut all: Vec<_> = points.iter().map(|point| (point.bytes, figure(point))).collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut lowest = f64::INFINITY;
    all.retain(|&(_, figure)| {
        let better = figure < lowest;
        lowest = lowest.min(figure);
        better
    });
    all
}

/// The setting with which a network is fastest that has ten bytes for each node and second.
pub(super) fn cheap(points: &[Point]) -> Option<&Point> {
    best(points, CHEAP, |point| point.median)
}

/// The figures of the envelope, with targets if the network is as large as theirs.
pub(super) fn rows(report: &mut Report, points: &[Point], full: bool) {
    let aim = |row: Row, most: f64| {
        if full {
            row.target(Target::AtMost(most))
        } else {
            row
        }
    };
    let at = |what: &str, bytes: f64| format!("at {bytes} B/s: {what}");
    let nothing = f64::NAN;
    let fastest = cheap(points);
    let of = |point: Option<&Point>, figure: fn(&Point) -> f64| point.map_or(nothing, figure);
    let row = Row::new(at("median latency", CHEAP), "ms", of(fastest, |p| p.median)).reference(450.0);
    report.push(aim(row, 250.0));
    report.push(Row::new(at("p90 latency", CHEAP), "ms", of(fastest, |p| p.p90)));
    report.push(Row::new(at("failures", CHEAP), "%", of(fastest, |p| p.failures)));
    report.push(Row::new(
        at("QUIC bytes of that", CHEAP),
        "B/s",
        of(fastest, |p| p.quic),
    ));
    let safest = best(points, DEAR, |point| point.failures);
    let row = Row::new(at("failures", DEAR), "%", of(safest, |p| p.failures));
    report.push(aim(row, 0.5));
    let fastest = best(points, DEAR, |point| point.median);
    report.push(Row::new(
        at("median latency", DEAR),
        "ms",
        of(fastest, |p| p.median),
    ));
}

/// Where the bytes of a setting go.
pub(super) fn parts(report: &mut Report, whose: &str, point: &Point) {
    let [pings, joins, lookups, refreshes] = point.parts;
    report.push(Row::new(format!("{whose}: all bytes"), "B/s", point.bytes));
    for (what, bytes) in [
        ("joins", joins),
        ("refreshes", refreshes),
        ("PINGs", pings),
        ("lookups", lookups),
    ] {
        report.push(Row::new(format!("{whose}: bytes of {what}"), "B/s", bytes));
    }
}

/// One line for each setting.
pub(super) fn notes(report: &mut Report, points: &[Point]) {
    for point in points {
        report.notes.push(format!(
            "{}: {} B/s ({} as QUIC); the nearest answers after {} ms (p90 {}) and is known to be it after {}; {} % of {} \
             lookups failed; {} requests each",
            point.setting,
            short(point.bytes),
            short(point.quic),
            short(point.median),
            short(point.p90),
            short(point.end),
            short(point.failures),
            point.lookups,
            short(point.requests),
        ));
    }
}

/// Latency and failures against bytes.
pub(super) fn charts(points: &[Point]) -> Vec<Chart> {
    let chart = |title: String, y: &str, figure: fn(&Point) -> f64| {
        let mut all: Vec<_> = points.iter().map(|point| (point.bytes, figure(point))).collect();
        all.sort_by(|one, other| one.0.total_cmp(&other.0));
        let curve = |name: &str, points| Curve {
            name: name.into(),
            points,
        };
        Chart {
            title,
            x: "bytes for each node and second, cost model of Li et al.".into(),
            y: y.into(),
            log_x: true,
            curves: vec![
                curve("all settings", all),
                curve("lower envelope", envelope(points, figure)),
            ],
        }
    };
    let mut latency = chart(
        "Latency against bandwidth under churn".into(),
        "ms, median of the good lookups",
        |point| point.median,
    );
    for (name, published) in [("Kademlia 2005", 450.0), ("OneHop 2005", 160.0)] {
        latency.curves.push(Curve {
            name: name.into(),
            points: vec![(CHEAP, published)],
        });
    }
    let title = format!("Lookups that fail within {} s", BUDGET.as_secs());
    vec![latency, chart(title, "% of lookups", |point| point.failures)]
}

#[cfg(test)]
mod tests {
    use super::super::settings::SETTINGS;
    use super::*;

    fn point(bytes: f64, median: f64) -> Point {
        Point {
            setting: &SETTINGS[0],
            bytes,
            quic: 0.0,
            parts: [0.0; 4],
            median,
            p90: 0.0,
            end: 0.0,
            failures: 0.0,
            requests: 0.0,
            lookups: 0,
        }
    }

    #[test]
    fn the_envelope_has_only_what_nobody_beats() {
        let points = [
            point(20.0, 250.0),
            point(5.0, 400.0),
            point(9.0, 300.0),
            point(10.0, 350.0),
        ];
        let median = |point: &Point| point.median;
        assert_eq!(
            envelope(&points, median),
            [(5.0, 400.0), (9.0, 300.0), (20.0, 250.0)]
        );
        assert_eq!(cheap(&points).map(median), Some(300.0));
        assert!(cheap(&points[..1]).is_none());
    }
}
