//! The experiments: published results, repeated with the production core.
//!
//! Each is one file with a function that builds worlds, drives them and reports. The list is [`ALL`].

mod adversaries;
mod bandwidth;
mod censorship;
mod durability;
mod exactness;
mod hop_law;
mod hot_keys;
mod nat;
mod publish;
mod scale;
mod sub_second;
mod sweep;

use crate::Report;

/// One experiment.
pub struct Experiment {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its number in the list of published results that the project repeats.
    pub number: u8,
    /// What it asks, in one line.
    pub question: &'static str,
    /// Where the reference comes from.
    pub source: &'static str,
    /// Nodes of the full experiment.
    pub nodes: usize,
    /// Nodes in the run of continuous integration, with three seeds.
    pub small: usize,
    /// Bytes that a run with so many nodes takes at its peak, as an estimate from above.
    pub memory: fn(nodes: usize) -> u64,
    /// Runs it.
    pub run: fn(&Setup<'_>) -> Report,
}

/// What a run is given.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// Nodes.
    pub nodes: usize,
    /// The seed of everything.
    pub seed: u64,
    /// Whom to tell how far it is.
    pub progress: &'a (dyn Progress + Sync),
}

/// Somebody who watches.
pub trait Progress {
    /// A stage begins, of so many steps.
    fn stage(&self, name: &str, steps: u64);
    /// So many of its steps are done.
    fn done(&self, steps: u64);
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn stage(&self, _: &str, _: u64) {}
    fn done(&self, _: u64) {}
}

/// The fewest nodes that every experiment can be run with: ten times k, so that a lookup has somewhere to go.
pub const MIN_NODES: usize = 200;

/// The most nodes that an experiment can be run with: those that a simulation numbers, less room for the experiment's
/// own.
pub const MAX_NODES: usize = 16_000_000;

/// All experiments, in the order of their numbers.
pub const ALL: &[Experiment] = &[
    hop_law::EXPERIMENT,
    exactness::EXPERIMENT,
    adversaries::EXPERIMENT,
    sub_second::EXPERIMENT,
    bandwidth::EXPERIMENT,
    publish::EXPERIMENT,
    durability::EXPERIMENT,
    sweep::EXPERIMENT,
    censorship::EXPERIMENT,
    scale::EXPERIMENT,
    hot_keys::EXPERIMENT,
    nat::EXPERIMENT,
];

/// The experiment of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Experiment> {
    ALL.iter().find(|experiment| experiment.name == name)
}

/// Bytes of a node with k = 20 in a world of so many, tables and all: measured by the experiment `scale`.
pub(crate) fn node_bytes(nodes: usize, k: usize) -> u64 {
    let levels = (nodes.max(2) as f64 / k as f64).log2().max(1.0) + 2.0;
    let contacts = (levels * (k as f64 + 4.0)).min(nodes as f64);
    1_600 + (contacts * 62.0) as u64
}
