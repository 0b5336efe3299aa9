//! The report of a test network, for people and for programs.

use std::fmt::{self, Write as _};

use comfy_table::{Table, presets};
use serde::Serialize;

use super::measure::{Lookups, Values};
use super::raw::Raw;

/// Everything that was measured. The fields are the object that `--json` prints.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) nodes: usize,
    pub(crate) k: usize,
    pub(crate) store: &'static str,
    pub(crate) seed: u64,
    /// Until each bucket of each table held min(k, members).
    pub(crate) join_ms: f64,
    /// From `spawn` to `Joined` for one more node.
    pub(crate) last_join_ms: f64,
    pub(crate) killed: usize,
    pub(crate) lookups: Lookups,
    /// Measured last, when values and the file have found out many of the dead.
    pub(crate) lookups_after_kill: Option<Lookups>,
    pub(crate) values: Values,
    /// Measured first of all after the kill.
    pub(crate) values_after_kill: Option<Values>,
    pub(crate) file: FileReport,
    pub(crate) cpu_ms_per_rpc: f64,
    pub(crate) rss_mib_per_node: f64,
    /// Ends of open connections, when the memory was sampled.
    pub(crate) connections: u64,
    pub(crate) rss_kib_per_connection_end_over_1_mib: f64,
    pub(crate) raw: Option<RawReport>,
    /// What did not hold.
    pub(crate) broken: Vec<String>,
    pub(crate) ok: bool,
}

/// How the file fared.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FileReport {
    pub(crate) bytes: u64,
    pub(crate) chunks: u64,
    pub(crate) key: String,
    pub(crate) blake3: String,
    pub(crate) put_ms: f64,
    pub(crate) get_ms: f64,
    pub(crate) get_rpcs_per_chunk: f64,
    pub(crate) identical: bool,
    pub(crate) copies_mean: f64,
    pub(crate) copies_min: usize,
    pub(crate) copies_mean_after_kill: f64,
    pub(crate) copies_min_after_kill: usize,
}

/// Bare quinn, and what this network did in proportion.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RawReport {
    #[serde(flatten)]
    pub(crate) raw: Raw,
    /// Requests a second of the lookups, in proportion to bare quinn.
    pub(crate) rpc_per_second_ratio: f64,
    /// Processor time for each request, in proportion to bare quinn.
    pub(crate) cpu_ratio: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = format!("{} nodes, {} store", self.nodes, self.store);
        writeln!(f, "\nNautilus KAD test network: {nodes}, seed {}\n", self.seed)?;
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        table.set_header(["", "before", "after the kill"]);
        let both = |value: fn(&Lookups) -> String| {
            [Some(&self.lookups), self.lookups_after_kill.as_ref()].map(|l| l.map_or_else(dash, value))
        };
        let mut row = |name: &str, [before, after]: [String; 2]| {
            table.add_row([name.to_owned(), before, after]);
        };
        row(
            "nodes",
            [self.nodes.to_string(), (self.nodes - self.killed).to_string()],
        );
        row(
            "lookups",
            both(|l| format!("{}, {} at a time", l.count, l.concurrency)),
        );
        row("  exact k closest", both(|l| percent(l.exact_share)));
        row(
            "  latency p50 / p99",
            both(|l| format!("{:.1} / {:.1} ms", l.p50_ms, l.p99_ms)),
        );
        row("  RPCs each", both(|l| format!("{:.1}", l.rpcs_mean)));
        row("  a second", both(|l| format!("{:.0}", l.per_second)));
        let both = |value: fn(&Values) -> String| {
            [Some(&self.values), self.values_after_kill.as_ref()].map(|v| v.map_or_else(dash, value))
        };
        row(
            "values of 1 KiB",
            both(|v| format!("{}, {} at a time", v.count, v.concurrency)),
        );
        row(
            "  copies acknowledged",
            both(|v| format!("{:.1}", v.acknowledged_mean)),
        );
        row("  found again", both(|v| percent(v.found_share)));
        row(
            "  puts / gets a second",
            both(|v| format!("{:.0} / {:.0}", v.puts_per_second, v.gets_per_second)),
        );
        row(
            "  put p50 / p99",
            both(|v| format!("{:.1} / {:.1} ms", v.put_p50_ms, v.put_p99_ms)),
        );
        row(
            "  get p50 / p99",
            both(|v| format!("{:.1} / {:.1} ms", v.get_p50_ms, v.get_p99_ms)),
        );
        row(
            "  RPCs of a put / get",
            both(|v| format!("{:.1} / {:.1}", v.put_rpcs_mean, v.get_rpcs_mean)),
        );
        let file = &self.file;
        row(
            "file",
            [
                format!("{:.1} MB in {} chunks", file.bytes as f64 / 1e6, file.chunks),
                "read back".to_owned(),
            ],
        );
        row(
            "  took",
            [format!("{:.0} ms", file.put_ms), format!("{:.0} ms", file.get_ms)],
        );
        row(
            "  copies of a chunk, mean / min",
            [
                format!("{:.1} / {}", file.copies_mean, file.copies_min),
                format!(
                    "{:.1} / {}",
                    file.copies_mean_after_kill, file.copies_min_after_kill
                ),
            ],
        );
        row(
            "  BLAKE3",
            [
                file.blake3.chars().take(16).collect(),
                if file.identical { "identical" } else { "DIFFERENT" }.to_owned(),
            ],
        );
        writeln!(f, "{table}\n")?;
        writeln!(
            f,
            "joined in {:.2} s; one more node joins in {:.0} ms",
            self.join_ms / 1e3,
            self.last_join_ms
        )?;
        writeln!(
            f,
            "{:.2} MiB of memory a node with {:.0} open connections each",
            self.rss_mib_per_node,
            self.connections as f64 / self.nodes as f64
        )?;
        writeln!(
            f,
            "{:.3} ms of CPU for each RPC of a lookup, both ends together",
            self.cpu_ms_per_rpc
        )?;
        if let Some(raw) = &self.raw {
            let mut line = String::new();
            write!(
                line,
                "bare quinn: {:.0} requests/s at {:.3} ms; ",
                raw.raw.rpc_per_second, raw.raw.cpu_ms_per_rpc
            )?;
            write!(
                line,
                "this network does {} of that rate at {:.2} times the CPU",
                percent(raw.rpc_per_second_ratio),
                raw.cpu_ratio
            )?;
            writeln!(f, "{line}")?;
        }
        match self.broken.as_slice() {
            [] => write!(f, "\neverything held"),
            broken => write!(f, "\ndid NOT hold:\n  {}", broken.join("\n  ")),
        }
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
