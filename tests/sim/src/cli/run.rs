//! `kad-sim run`: everything that can be wrong is found before the run begins.

mod outputs;
mod room;
mod wanted;

use std::path::PathBuf;
use std::time::Instant;

use kad_sim::batch::BatchError;
use kad_sim::{Plan, Summary};
use serde_json::json;

use self::outputs::Outputs;
use self::wanted::Wanted;
use super::figures::Figures;
use super::machine;
use super::met::Comparison;
use super::progress::Bars;
use super::reply::{Answer, Failure};

/// The most seeds of one run: the reports of all are held until the last one has ended.
const MAX_SEEDS: u64 = 100_000;

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

pub(crate) fn execute(args: &Args, json: bool) -> Result<Answer, Failure> {
    let wanted = Wanted::find(&args.subject)?;
    let subject = wanted.subject();
    let nodes = wanted.nodes(args.nodes, args.small)?;
    if args.seed.checked_add(args.seeds - 1).is_none() {
        return Err(Failure::usage(format!(
            "there are no {} seeds from {} on; the last one is {}",
            args.seeds,
            args.seed,
            u64::MAX
        )));
    }
    let seeds = args.seeds as usize;
    let mut outputs = Outputs::prepare(args, &wanted, nodes)?;
    let plan = Plan {
        nodes,
        seed: args.seed,
        seeds,
        threads: room::threads(
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
        .map_err(|error| match &error {
            BatchError::Panicked { seed, .. } => {
                let again = again(
                    args,
                    &Plan {
                        seed: *seed,
                        seeds: 1,
                        ..plan
                    },
                );
                Failure::negative(format!("{error}; replay: {again}"))
            }
            _ => Failure::usage(format!("{error}; give fewer --threads")),
        })?;
    drop(bars);
    let summary = Summary::of(&runs);
    let cost = (began.elapsed().as_secs_f64(), machine::peak_memory());
    let figures = Figures::new(subject.name(), nodes, (args.seed, &runs), &summary, cost);

    let comparison = match &wanted {
        Wanted::Experiment(_) => outputs.met.compare(&figures),
        Wanted::Scenario(_) => Comparison::default(),
    };
    let (told, written) = outputs.write(&wanted, &figures, &summary.charts);
    let text = [vec![figures.text(&wanted.headline())], told, comparison.told()]
        .concat()
        .join("\n");
    let mut object = serde_json::to_value(&figures).unwrap_or_default();
    object["lost"] = json!(comparison.lost);
    let answer = Answer::new(object, text);
    if let Err(failure) = written {
        // What was found is not lost with the file.
        answer.print(json);
        return Err(failure);
    }
    let again = again(args, &plan);
    let replay = |lost| format!("{lost}; replay: {again}");
    Ok(answer.negative(comparison.lost.into_iter().map(replay).collect()))
}

/// The command that repeats a run.
fn again(args: &Args, plan: &Plan) -> String {
    let mut command = format!(
        "kad-sim run {} --nodes {} --seed {}",
        args.subject, plan.nodes, plan.seed
    );
    if plan.seeds > 1 {
        command.push_str(&format!(" --seeds {}", plan.seeds));
    }
    command
}
