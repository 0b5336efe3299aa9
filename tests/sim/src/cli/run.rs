//! `kad-sim run`: everything that can be wrong is found before the run begins.

use std::path::{Path, PathBuf};
use std::time::Instant;

use kad_sim::batch::BatchError;
use kad_sim::experiments::{self, ALL, Experiment, MAX_NODES, MIN_NODES};
use kad_sim::{Plan, Scenario, Subject, Summary};
use serde_json::json;

use super::figures::Figures;
use super::met::{Comparison, Met};
use super::progress::Bars;
use super::reply::{Answer, Failure};
use super::table::{grouped, memory};
use super::{checkout, machine, plot, replace};

/// The most seeds of one run: a week of the shortest experiments.
const MAX_SEEDS: u64 = 100_000;

/// Nodes of a scenario's small run.
const SMALL_SCENARIO: usize = 300;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kad-sim run hop-law
  kad-sim run hop-law --nodes 10000 --seed 7 --plot hops.svg
  kad-sim run hop-law --small --seeds 3 --json
  kad-sim run tests/sim/scenarios/evening.toml

Exit status 1 if a target that was once met with these nodes and seeds (tests/sim/met.toml) is missed.")]
pub(crate) struct Args {
    /// An experiment that 'kad-sim list' names, or a scenario file that ends in .toml
    #[arg(value_name = "EXPERIMENT")]
    subject: String,
    /// How many nodes [default: those of the full experiment]
    #[arg(long, value_name = "N", conflicts_with = "small")]
    nodes: Option<u64>,
    /// As few nodes as continuous integration takes
    #[arg(long)]
    small: bool,
    /// What all chance comes from; the same seed gives the same run
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How many seeds to run, from the first on; figures are means over them
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_SEEDS))]
    seeds: u64,
    /// How many seeds to run at a time, which changes no figure [default: as many as there are cores and memory for]
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
    /// Draw the charts of the first seed
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Keep the figures for 'kad-sim docs'
    #[arg(long)]
    save: bool,
    /// Where kept figures are [default: tests/sim/results]
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Add targets that are met now to the file of met targets
    #[arg(long)]
    record: bool,
    /// The file of met targets [default: tests/sim/met.toml]
    #[arg(long, value_name = "FILE")]
    met: Option<PathBuf>,
}

/// What is run.
enum Wanted {
    Experiment(&'static Experiment),
    Scenario(Box<Scenario>),
}

pub(crate) fn execute(args: &Args, json: bool) -> Result<Answer, Failure> {
    let wanted = Wanted::find(&args.subject)?;
    let subject = wanted.subject();
    let nodes = wanted.nodes(args)?;
    let seeds = args.seeds as usize;
    if args.seed.checked_add(args.seeds - 1).is_none() {
        return Err(Failure::usage(format!(
            "there are no {seeds} seeds from {} on; the last one is {}",
            args.seed,
            u64::MAX
        )));
    }
    let kept = wanted.kept(args, nodes)?;
    let met_file = args
        .met
        .clone()
        .unwrap_or_else(|| checkout::file("tests/sim/met.toml"));
    let mut met = Met::read(&met_file)?;
    if args.met.is_some() && !args.record && !met_file.exists() {
        return Err(Failure::usage(format!(
            "the file of met targets {} is not there; name another one, or make it with --record",
            met_file.display()
        )));
    }
    for (path, flag) in [
        (args.plot.as_deref(), "--plot"),
        (kept.as_deref(), "--results"),
        (args.record.then_some(met_file.as_path()), "--met"),
    ] {
        if let Some(path) = path {
            replace::probe(path).map_err(|error| unwritable(path, &error, flag))?;
        }
    }
    let plan = Plan {
        nodes,
        seed: args.seed,
        seeds,
        threads: threads(
            subject.memory(nodes),
            seeds,
            args.threads,
            machine::available_memory(),
        )?,
    };

    let began = Instant::now();
    let bars = Bars::new(seeds, json);
    let runs = plan
        .run(subject, &|seed| bars.add(seed))
        .map_err(|error| crashed(&error, args, nodes))?;
    drop(bars);
    let summary = Summary::of(&runs);
    let cost = (began.elapsed().as_secs_f64(), machine::peak_memory());
    let figures = Figures::new(subject.name(), nodes, (args.seed, &runs), &summary, cost);

    let mut text = figures.text(&wanted.headline());
    let comparison = match &wanted {
        Wanted::Experiment(_) => met.compare(&figures),
        Wanted::Scenario(_) => Comparison::default(),
    };
    let mut object = serde_json::to_value(&figures).unwrap_or_default();
    object["lost"] = json!(comparison.lost);
    let mut late = Vec::new();
    if let Some(path) = &args.plot {
        match &*summary.charts {
            [] => text.push_str(&format!(
                "\nthere is no chart, so {} was not written",
                path.display()
            )),
            charts => {
                let about = match seeds {
                    1 => format!("{} nodes, seed {}", grouped(nodes as u64), args.seed),
                    _ => format!(
                        "{} nodes, seed {}, the first of {seeds}",
                        grouped(nodes as u64),
                        args.seed
                    ),
                };
                let written = plot::draw(&wanted.title(), &about, charts)
                    .map_err(std::io::Error::other)
                    .and_then(|svg| replace::write(path, svg.as_bytes()));
                match written {
                    Ok(()) => text.push_str(&format!("\nplot: {}", path.display())),
                    Err(error) => late.push(unwritable(path, &error, "--plot")),
                }
            }
        }
    }
    if let Some(path) = &kept {
        let mut bytes = serde_json::to_vec_pretty(&figures).unwrap_or_default();
        bytes.push(b'\n');
        match replace::write(path, &bytes) {
            Ok(()) => text.push_str(&format!("\nkept in {}", path.display())),
            Err(error) => late.push(unwritable(path, &error, "--results")),
        }
    }
    if args.record {
        let added = met.record(&figures);
        // A file that would not change is left alone.
        let written = if added > 0 { met.write(&met_file) } else { Ok(()) };
        match written {
            Ok(()) => text.push_str(&format!("\n{added} more targets in {}", met_file.display())),
            Err(error) => late.push(unwritable(&met_file, &error, "--met")),
        }
    }
    text.push_str(&held(&comparison));
    if let Some(failure) = late.into_iter().next() {
        // What was found is not lost with the file.
        Answer::new(object, text).print(json);
        return Err(failure);
    }
    let again = again(args, nodes, args.seed, seeds);
    let lost = comparison
        .lost
        .into_iter()
        .map(|lost| format!("{lost}; replay: {again}"))
        .collect();
    Ok(Answer::new(object, text).negative(lost))
}

impl Wanted {
    fn find(name: &str) -> Result<Self, Failure> {
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

    fn subject(&self) -> &dyn Subject {
        match self {
            Self::Experiment(experiment) => *experiment,
            Self::Scenario(scenario) => &**scenario,
        }
    }

    /// How many nodes, if there can be so many.
    fn nodes(&self, args: &Args) -> Result<usize, Failure> {
        let (full, small, fewest, most) = match self {
            Self::Experiment(experiment) => (experiment.nodes, experiment.small, MIN_NODES, MAX_NODES),
            Self::Scenario(scenario) => (
                scenario.nodes(),
                scenario.nodes().min(SMALL_SCENARIO),
                Scenario::MIN_NODES,
                scenario.most_nodes(),
            ),
        };
        let nodes = match args.nodes {
            Some(nodes) => usize::try_from(nodes).unwrap_or(usize::MAX),
            None if args.small => small,
            None => full,
        };
        let name = self.subject().name();
        let told = grouped(nodes as u64);
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

    /// Where the figures are kept, if they are.
    fn kept(&self, args: &Args, nodes: usize) -> Result<Option<PathBuf>, Failure> {
        let Self::Experiment(experiment) = self else {
            return match args.save || args.record {
                false => Ok(None),
                true => Err(Failure::usage(
                    "only experiments that 'kad-sim list' names are kept and have targets; leave out --save and --record",
                )),
            };
        };
        let folder = args
            .results
            .clone()
            .unwrap_or_else(|| checkout::file("tests/sim/results"));
        Ok(args
            .save
            .then(|| folder.join(format!("{}-{nodes}.json", experiment.name))))
    }

    fn title(&self) -> String {
        match self {
            Self::Experiment(experiment) => format!("{}: {}", experiment.name, experiment.question),
            Self::Scenario(scenario) => scenario.title().to_owned(),
        }
    }

    fn headline(&self) -> String {
        match self {
            Self::Experiment(experiment) => format!("{}\nreference: {}", self.title(), experiment.source),
            Self::Scenario(_) => self.title(),
        }
    }
}

/// How many runs at a time, if this machine has memory for them.
fn threads(each: u64, seeds: usize, wanted: Option<u64>, available: Option<u64>) -> Result<usize, Failure> {
    let Some(available) = available else {
        return Ok(wanted.map_or_else(machine::cores, |threads| threads as usize));
    };
    let room = usize::try_from(available / each.max(1)).unwrap_or(usize::MAX);
    let most = wanted
        .map_or_else(machine::cores, |threads| threads as usize)
        .min(seeds);
    match (room, wanted) {
        (0, _) => Err(Failure::usage(format!(
            "a run needs about {} of memory and this machine has {} available; give fewer --nodes",
            memory(each),
            memory(available)
        ))),
        (room, Some(_)) if room < most => Err(Failure::usage(format!(
            "{most} runs at a time need about {} of memory and this machine has {} available; give --threads {room} or fewer \
             --nodes",
            memory(each.saturating_mul(most as u64)),
            memory(available)
        ))),
        (room, _) => Ok(most.min(room)),
    }
}

/// The command that repeats a run.
fn again(args: &Args, nodes: usize, seed: u64, seeds: usize) -> String {
    let mut command = format!("kad-sim run {} --nodes {nodes} --seed {seed}", args.subject);
    if seeds > 1 {
        command.push_str(&format!(" --seeds {seeds}"));
    }
    command
}

fn crashed(error: &BatchError, args: &Args, nodes: usize) -> Failure {
    match error {
        BatchError::Panicked { seed, .. } => {
            Failure::negative(format!("{error}; replay: {}", again(args, nodes, *seed, 1)))
        }
        other => Failure::usage(format!("{other}; give fewer --threads")),
    }
}

fn unwritable(path: &Path, error: &std::io::Error, flag: &str) -> Failure {
    Failure::usage(format!(
        "{} cannot be written: {error}; give another place with {flag}",
        path.display()
    ))
}

/// How the run stands to the targets that were met once, in a line of its own.
fn held(comparison: &Comparison) -> String {
    let mut text = String::new();
    if comparison.compared > 0 {
        let held = comparison.compared - comparison.lost.len();
        text.push_str(&format!(
            "\n{held} of {} targets that were once met are met",
            comparison.compared
        ));
    }
    if comparison.skipped > 0 {
        text.push_str(&format!(
            "\n{} targets were once met with seeds that this run has not",
            comparison.skipped
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn no_more_runs_at_a_time_than_there_is_memory_for() {
        assert_eq!(threads(GIB, 8, Some(4), Some(9 * GIB)), Ok(4));
        assert_eq!(threads(GIB, 2, Some(4), Some(2 * GIB)), Ok(2), "only two seeds");
        let told = |failure: Result<usize, Failure>| format!("{:?}", failure.expect_err("there is no room"));
        let refused = told(threads(3 * GIB, 1, None, Some(2 * GIB)));
        assert!(refused.contains("3.0 GiB") && refused.contains("2.0 GiB") && refused.contains("--nodes"));
        let refused = told(threads(3 * GIB, 8, Some(4), Some(7 * GIB)));
        assert!(
            refused.contains("12.0 GiB") && refused.contains("--threads 2"),
            "{refused}"
        );
        // Who does not say how many gets as many as there is room for.
        assert_eq!(threads(3 * GIB, 8, None, Some(4 * GIB)), Ok(1));
        assert_eq!(
            threads(3 * GIB, 8, Some(3), None),
            Ok(3),
            "where the system says nothing"
        );
    }
}
