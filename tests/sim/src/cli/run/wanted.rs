//! What is run: an experiment by its name, or a scenario from its file.

use std::path::Path;

use kad_sim::experiments::{self, ALL, Experiment, MAX_NODES, MIN_NODES};
use kad_sim::{Scenario, Subject};

use crate::cli::reply::Failure;
use crate::cli::table::grouped;

/// Nodes of a scenario's small run.
const SMALL_SCENARIO: usize = 300;

pub(super) enum Wanted {
    Experiment(&'static Experiment),
    Scenario(Box<Scenario>),
}

impl Wanted {
    pub(super) fn find(name: &str) -> Result<Self, Failure> {
        if Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let scenario =
                Scenario::read(Path::new(name)).map_err(|error| Failure::usage(error.to_string()))?;
            return Ok(Self::Scenario(Box::new(scenario)));
        }
        experiments::find(name).map(Self::Experiment).ok_or_else(|| {
            let names: Vec<_> = ALL.iter().map(|experiment| experiment.name).collect();
            Failure::usage(format!(
                "there is no experiment '{name}'; there are {}, and scenario files that end in .toml",
                names.join(", ")
            ))
        })
    }

    pub(super) fn subject(&self) -> &dyn Subject {
        match self {
            Self::Experiment(experiment) => *experiment,
            Self::Scenario(scenario) => &**scenario,
        }
    }

    /// How many nodes: those that are asked for, if there can be so many.
    pub(super) fn nodes(&self, asked: Option<u64>, small: bool) -> Result<usize, Failure> {
        let (full, few, fewest, most) = match self {
            Self::Experiment(experiment) => (experiment.nodes, experiment.small, MIN_NODES, MAX_NODES),
            Self::Scenario(scenario) => (
                scenario.nodes(),
                scenario.nodes().min(SMALL_SCENARIO),
                Scenario::MIN_NODES,
                scenario.most_nodes(),
            ),
        };
        let nodes = match asked {
            Some(nodes) => usize::try_from(nodes).unwrap_or(usize::MAX),
            None if small => few,
            None => full,
        };
        let (name, told) = (self.subject().name(), grouped(nodes as u64));
        if nodes < fewest {
            return Err(Failure::usage(format!(
                "{told} nodes are too few: {name} needs at least {fewest}; give more with --nodes"
            )));
        }
        if nodes > most {
            return Err(Failure::usage(format!(
                "{told} nodes are too many: a simulation numbers no more than {}; give fewer with --nodes",
                grouped(most as u64)
            )));
        }
        Ok(nodes)
    }

    /// What it is about, in a line.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Experiment(experiment) => format!("{}: {}", experiment.name, experiment.question),
            Self::Scenario(scenario) => scenario.title().to_owned(),
        }
    }

    /// The same, and where the references come from.
    pub(super) fn headline(&self) -> String {
        match self {
            Self::Experiment(experiment) => format!("{}\nreferences: {}", self.title(), experiment.source),
            Self::Scenario(_) => self.title(),
        }
    }
}
