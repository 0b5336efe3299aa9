//! Scenarios: what a network is like and what it is asked to do, from a TOML file.
//!
//! A scenario needs no Rust: `kad-sim run FILE.toml` runs it and reports the general figures of a network under load.
//! What it cannot say, an experiment of one's own can. Every field is in `docs/simulation.md`.
//!
//! The order of what happens: the nodes join one after the other; sybils join like anybody; all settle; adversaries
//! turn; values are stored; the dead die; nodes begin to come and go; the load begins, and after the warm-up it is
//! measured.

mod enemies;
mod error;
mod file;
mod load;
mod play;
mod reading;
mod tables;
mod values;

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use kad_core::{Config, Duration, Key};

pub use self::error::ScenarioError;
use crate::batch::Subject;
use crate::experiments::{Setup, node_bytes};
use crate::{Growth, Links, Place, Report, SessionTrace, Sessions, Site};

/// A network, and what happens to it.
#[derive(Debug, Clone)]
pub struct Scenario {
    name: String,
    title: String,
    nodes: usize,
    site: Site,
    growth: Growth,
    settle: Duration,
    dead: f64,
    config: Arc<Config>,
    links: Links,
    partition: Option<Partition>,
    life: Life,
    adversaries: Vec<Group>,
    load: Load,
}

/// Whether nodes come and go.
#[derive(Debug, Clone)]
enum Life {
    /// They stay.
    Still,
    /// As these distributions say.
    Sessions(Sessions),
    /// As it was measured.
    Trace(Arc<SessionTrace>),
}

/// A cut through the network.
#[derive(Debug, Clone, Copy)]
struct Partition {
    /// From the beginning of what is measured.
    at: Duration,
    lasts: Duration,
    /// Of the nodes, on the other side.
    share: f64,
}

/// Adversaries of one kind, which collude.
#[derive(Debug, Clone)]
struct Group {
    kind: Kind,
    members: Members,
    /// Contacts in a lie.
    told: usize,
    /// Whose tables are flooded.
    victims: usize,
    /// Knocks at each victim in a second.
    rate: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Silent,
    Lying,
    Flooding,
}

/// Who turns.
#[derive(Debug, Clone)]
enum Members {
    /// This share of the nodes.
    Share(f64),
    /// So many nodes that join for it.
    Sybils {
        count: usize,
        near: Near,
        /// They stand at so many shared sites; 0 for the site of the others.
        sites: u8,
    },
}

/// Where sybils lie.
#[derive(Debug, Clone, Copy)]
enum Near {
    /// Anywhere.
    Anywhere,
    /// Nearer to this key than any honest node.
    Key(Key),
    /// Nearer to the first value's key than any honest node.
    FirstValue,
}

/// What the network is asked.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// Values that are stored before the load begins.
    values: usize,
    value_bytes: usize,
    /// Each for a node and second.
    lookups: f64,
    puts: f64,
    gets: f64,
    warm_up: Duration,
    duration: Duration,
}

/// A file larger than this is no scenario: the example with every field has some 3 KB.
const MAX_FILE_BYTES: u64 = 1 << 20;

impl Scenario {
    /// Reads a file, and the session trace that it may name.
    ///
    /// # Errors
    /// [`ScenarioError`] says what is wrong, with the line and the field where it can.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let unreadable = |error: io::Error| ScenarioError::new(path, format!("it cannot be read: {error}"));
        let size = fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_FILE_BYTES {
            let what = format!("it has {size} bytes, more than {MAX_FILE_BYTES}");
            return Err(ScenarioError::new(path, what));
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(path, &text)
    }

    /// Takes the text of a file; `path` gives the name, and the folder in which a trace is looked for.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(path: &Path, text: &str) -> Result<Self, ScenarioError> {
        reading::parse(path, text)
    }

    /// What the scenario is about, in its own words.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Nodes, as the file has it; sybils are not counted.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.nodes
    }

    /// The most nodes that this scenario can be run with: the simulation must number the sybils, too.
    #[must_use]
    pub fn most_nodes(&self) -> usize {
        Place::MAX_NUMBER as usize - self.sybils()
    }

    /// The fewest nodes that make a network.
    pub const MIN_NODES: usize = 2;

    /// Nodes that join to turn.
    fn sybils(&self) -> usize {
        self.adversaries
            .iter()
            .map(|group| match group.members {
                Members::Share(_) => 0,
                Members::Sybils { count, .. } => count,
            })
            .sum()
    }
}

impl Subject for Scenario {
    fn name(&self) -> &str {
        &self.name
    }

    fn memory(&self, nodes: usize) -> u64 {
        /// A record in a store: the map's entries, its times, the record's own fields.
        const RECORD_BYTES: u64 = 400;
        let traced = match &self.life {
            Life::Trace(trace) => trace.nodes(),
            Life::Still | Life::Sessions(_) => 0,
        };
        let nodes = (nodes.max(traced) + self.sybils()) as u64;
        let wide: u64 = self.config.table.wide.iter().map(|&size| u64::from(size)).sum();
        let pools = self.links.connections.unwrap_or_default() as u64 * 16;
        let size = self.config.table.bucket_size.max(self.config.k);
        let node = node_bytes(nodes as usize, size) + wide * 62 + pools;
        let seconds = (self.load.warm_up + self.load.duration).as_secs_f64();
        let values = self.load.values as u64 + (self.load.puts * nodes as f64 * seconds) as u64;
        let copies = values * (self.config.k as u64 + 1);
        nodes * node + copies * (RECORD_BYTES + self.load.value_bytes as u64)
    }

    fn run(&self, setup: &Setup<'_>) -> Report {
        play::play(self, setup)
    }
}

#[cfg(test)]
mod tests;
