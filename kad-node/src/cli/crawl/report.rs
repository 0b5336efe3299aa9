//! What a crawl found, for people and for programs.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use comfy_table::{Table, presets};
use kad_node::Crawl;
use kad_node::crawl::GroupSizes;
use serde_json::{Value, json};

/// Groups that a person is shown; programs get all that are named.
const SHOWN_GROUPS: usize = 5;

/// The widest bar of the histogram.
const BAR: usize = 40;

/// The quantiles of the round trips that are told.
const QUANTILES: [(&str, f64); 4] = [("p10", 0.10), ("p50", 0.50), ("p90", 0.90), ("p99", 0.99)];

/// The object that `--json` prints.
pub(super) fn json(crawl: &Crawl, plot: Option<&Path>) -> Value {
    let mut latency = json!({ "nodes": crawl.latency.nodes() });
    for (name, share) in QUANTILES {
        latency[name] = json!(crawl.latency.quantile(share).map(millis));
    }
    let bar = |(bound, nodes): (Duration, usize)| json!({ "below_ms": millis(bound), "nodes": nodes });
    let histogram: Vec<Value> = crawl.latency.histogram().into_iter().map(bar).collect();
    let groups = |sizes: &GroupSizes| {
        let group = |(prefix, nodes): &(String, usize)| json!({ "prefix": prefix, "nodes": nodes });
        let largest: Vec<Value> = sizes.largest.iter().map(group).collect();
        json!({ "distinct": sizes.distinct, "largest": largest })
    };
    let buckets = crawl.buckets.iter().map(|bucket| {
        json!({
            "bucket": bucket.bucket,
            "contacts_mean": round(bucket.contacts),
            "known": bucket.known,
            "dead": bucket.dead,
            "dead_share": round(bucket.dead_share()),
        })
    });
    json!({
        "size": crawl.size,
        "heard": crawl.heard,
        "reachable": crawl.reachable,
        "refused": crawl.refused,
        "dead": crawl.dead,
        "unknown": crawl.unknown,
        "left_out": crawl.left_out,
        "stopped": crawl.stopped,
        "complete": crawl.is_complete(),
        "requests": crawl.requests,
        "unanswered": crawl.unanswered,
        "took_ms": millis(crawl.took),
        "latency_ms": latency,
        "latency_histogram": histogram,
        "groups": {
            "private": crawl.groups.private,
            "wide": groups(&crawl.groups.wide),
            "narrow": groups(&crawl.groups.narrow),
        },
        "buckets": buckets.collect::<Vec<_>>(),
        "plot": plot.map(|path| path.display().to_string()),
    })
}

/// The same as tables.
pub(super) fn text(crawl: &Crawl, plot: Option<&Path>) -> String {
    let mut parts = vec![summary(crawl).to_string()];
    if crawl.latency.nodes() > 0 {
        parts.push(latency(crawl));
    }
    if !crawl.buckets.is_empty() {
        parts.push(buckets(crawl).to_string());
    }
    if let Some(groups) = groups(crawl) {
        parts.push(groups.to_string());
    }
    if let Some(path) = plot {
        parts.push(format!("drawn into {}", path.display()));
    }
    parts.extend(reservations(crawl));
    parts.join("\n\n")
}

fn summary(crawl: &Crawl) -> Table {
    let mut table = table();
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("size of the network", crawl.size.to_string());
    row("nodes heard of", crawl.heard.to_string());
    row("  reachable", crawl.reachable.to_string());
    if crawl.refused > 0 {
        row("    of these refused", crawl.refused.to_string());
    }
    row("  dead", crawl.dead.to_string());
    if crawl.unknown > 0 {
        row("  unknown", crawl.unknown.to_string());
    }
    let each = crawl.requests as f64 / crawl.heard.max(1) as f64;
    row("questions", format!("{}, {each:.1} a node", crawl.requests));
    row("  unanswered", crawl.unanswered.to_string());
    row("took", format!("{:.2} s", crawl.took.as_secs_f64()));
    table
}

fn latency(crawl: &Crawl) -> String {
    let mut text = "round trips".to_owned();
    for (name, share) in QUANTILES {
        let time = crawl.latency.quantile(share).unwrap_or_default();
        let _ = write!(text, "   {name} {:.1} ms", time.as_secs_f64() * 1e3);
    }
    let histogram = crawl.latency.histogram();
    let most = histogram
        .iter()
        .map(|(_, nodes)| *nodes)
        .max()
        .unwrap_or(1)
        .max(1);
    for (bound, nodes) in histogram {
        let bar = "#".repeat((nodes * BAR).div_ceil(most));
        let _ = write!(text, "\n  below {:>9} {nodes:>7}  {bar}", span(bound));
    }
    text
}

fn buckets(crawl: &Crawl) -> Table {
    let mut table = table();
    table.set_header(["bucket", "contacts each", "told of", "dead", "share"]);
    for bucket in &crawl.buckets {
        table.add_row([
            bucket.bucket.to_string(),
            format!("{:.1}", bucket.contacts),
            bucket.known.to_string(),
            bucket.dead.to_string(),
            format!("{:.1} %", 100.0 * bucket.dead_share()),
        ]);
    }
    table
}

/// Where the nodes are, if any of them is at a public address.
fn groups(crawl: &Crawl) -> Option<Table> {
    let groups = &crawl.groups;
    if groups.wide.distinct == 0 {
        return None;
    }
    let mut table = table();
    table.set_header(["networks", "nodes"]);
    if groups.private > 0 {
        table.add_row(["private".to_owned(), groups.private.to_string()]);
    }
    for (width, sizes) in [("/16 and /32", &groups.wide), ("/24 and /48", &groups.narrow)] {
        table.add_row([format!("{} {width}", sizes.distinct), String::new()]);
        for (prefix, nodes) in sizes.largest.iter().take(SHOWN_GROUPS) {
            table.add_row([format!("  {prefix}"), nodes.to_string()]);
        }
    }
    Some(table)
}

/// What keeps this from being the whole network.
fn reservations(crawl: &Crawl) -> Vec<String> {
    let mut all = Vec::new();
    if crawl.stopped {
        all.push("stopped before the end: this is what was known by then".to_owned());
    }
    if crawl.left_out > 0 {
        all.push(format!(
            "the crawl was full: {} times it was told of nodes that it did not follow; give it more room with --max-nodes",
            crawl.left_out
        ));
    }
    if crawl.unknown > 0 && !crawl.stopped {
        all.push(format!(
            "{} nodes were not asked: too many at their host or site were dialled or found dead",
            crawl.unknown
        ));
    }
    all
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table
}

fn millis(span: Duration) -> f64 {
    round(span.as_secs_f64() * 1e3)
}

/// Three digits after the point: nobody reads more.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// A bound of the histogram: few digits, with their unit.
fn span(bound: Duration) -> String {
    let micros = bound.as_micros() as f64;
    match micros {
        ..1e3 => format!("{micros:.0} us"),
        ..1e6 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.1} s", micros / 1e6),
    }
}
