//! `kad-sim docs`: the newest figures, as they stand in `docs/simulation.md`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use kad_sim::experiments::{ALL, Experiment, find};
use kad_sim::report::short;
use serde_json::json;

use super::figures::{Figures, RowFigures};
use super::reply::{Answer, Failure};
use super::table::{grouped, memory};
use super::{checkout, replace};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kad-sim run hop-law --save && kad-sim docs
  kad-sim docs --check")]
pub(crate) struct Args {
    /// Where figures are that 'kad-sim run --save' kept [default: tests/sim/results]
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// The document to write into [default: docs/simulation.md]
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
    /// Write nothing; exit with 1 if the document is out of date
    #[arg(long)]
    check: bool,
}

/// What is between the two is this command's.
const BEGIN: &str = "<!-- figures: 'kad-sim docs' writes from here -->";
const END: &str = "<!-- figures: to here -->";

/// A file larger than this is no kept result: one has a few KB, more with many seeds.
const MAX_BYTES: u64 = 64 << 20;

pub(crate) fn execute(args: &Args) -> Result<Answer, Failure> {
    let folder = args
        .results
        .clone()
        .unwrap_or_else(|| checkout::file("tests/sim/results"));
    let document = args
        .document
        .clone()
        .unwrap_or_else(|| checkout::file("docs/simulation.md"));
    // Where nobody has kept anything, there is nothing to show.
    let results = match args.results.is_some() || folder.is_dir() {
        true => read_all(&folder)?,
        false => Vec::new(),
    };
    let unusable = |why: &str| {
        Failure::usage(format!(
            "the document {} cannot be used: {why}",
            document.display()
        ))
    };
    let before = fs::read_to_string(&document).map_err(|error| unusable(&error.to_string()))?;
    let parts = before
        .split_once(BEGIN)
        .and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let Some((head, tail)) = parts else {
        return Err(unusable(&format!("it has no '{BEGIN}' with '{END}' after it")));
    };
    let after = format!("{head}{BEGIN}\n{}{END}{tail}", figures(&results));
    let current = before == after;
    let object = json!({ "document": document, "results": results.len(), "current": current });
    let told = document.display();
    if current {
        return Ok(Answer::new(object, format!("{told} is up to date")));
    }
    if args.check {
        let late = format!(
            "{told} does not show the figures in {}; run 'kad-sim docs'",
            folder.display()
        );
        return Ok(Answer::new(object, String::new()).negative(vec![late]));
    }
    replace::write(&document, after.as_bytes()).map_err(|error| unusable(&error.to_string()))?;
    Ok(Answer::new(
        object,
        format!("{told} shows {} results", results.len()),
    ))
}

/// All kept results, in the order of the experiments' numbers and then of the nodes.
fn read_all(folder: &Path) -> Result<Vec<(&'static Experiment, Figures)>, Failure> {
    let unreadable = |path: &Path, why: &dyn std::fmt::Display| {
        Failure::usage(format!(
            "the results in {} cannot be used: {why}; name another folder with --results, or keep a result anew with \
             'kad-sim run --save'",
            path.display()
        ))
    };
    let mut results = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return Err(unreadable(folder, &error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let figures = read(&path).map_err(|error| unreadable(&path, &error))?;
        let Some(experiment) = find(&figures.experiment) else {
            let why = format!("there is no experiment '{}'", figures.experiment);
            return Err(unreadable(&path, &why));
        };
        results.push((experiment, figures));
    }
    results.sort_by_key(|(experiment, figures)| (experiment.number, figures.nodes, figures.seeds));
    Ok(results)
}

fn read(path: &Path) -> io::Result<Figures> {
    if fs::metadata(path)?.len() > MAX_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// What stands between the two marks.
fn figures(results: &[(&'static Experiment, Figures)]) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = overview(&mut text, results);
    for (experiment, figures) in results {
        let _ = section(&mut text, experiment, figures);
    }
    text
}

/// All experiments, one a row for each number of nodes that was run.
fn overview(text: &mut String, results: &[(&'static Experiment, Figures)]) -> std::fmt::Result {
    writeln!(
        text,
        "\n| # | experiment | nodes | targets met | wall | memory at the peak | events/s |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for experiment in ALL {
        let mut runs = results
            .iter()
            .filter(|(other, _)| other.name == experiment.name)
            .peekable();
        if runs.peek().is_none() {
            writeln!(
                text,
                "| {} | `{}` | – | not run yet | – | – | – |",
                experiment.number, experiment.name
            )?;
        }
        for (_, run) in runs {
            let met = run.rows.iter().filter(|row| row.met == Some(true)).count();
            let targets = run.rows.iter().filter(|row| row.met.is_some()).count();
            writeln!(
                text,
                "| {} | `{}` | {} | {met} of {targets} | {} s | {} | {} |",
                experiment.number,
                experiment.name,
                grouped(run.nodes as u64),
                short(run.wall_s),
                memory((run.peak_rss_mib * f64::from(1 << 20)) as u64),
                grouped(run.events_per_s as u64),
            )?;
        }
    }
    Ok(())
}

/// One run with all of its figures.
fn section(text: &mut String, experiment: &Experiment, run: &Figures) -> std::fmt::Result {
    let nodes = grouped(run.nodes as u64);
    writeln!(
        text,
        "\n### {}. `{}`, {nodes} nodes\n",
        experiment.number, experiment.name
    )?;
    writeln!(
        text,
        "{} References: {}.\n",
        experiment.question, experiment.source
    )?;
    writeln!(text, "| metric | reference | target | result | met |")?;
    writeln!(text, "|---|---|---|---|---|")?;
    for row in &run.rows {
        let RowFigures {
            metric,
            reference,
            target,
            ..
        } = row;
        let reference = reference.map_or_else(|| "–".to_owned(), short);
        let target = target.map_or_else(|| "–".to_owned(), |target| target.to_string());
        let metric = metric.replace('|', "\\|");
        writeln!(
            text,
            "| {metric} | {reference} | {target} | {} | {} |",
            row.shown(),
            row.is_met()
        )?;
    }
    for note in &run.notes {
        writeln!(text, "\nNote: {}.", note.trim_end_matches('.'))?;
    }
    writeln!(
        text,
        "\n`kad-sim run {} --nodes {} --seed {}{}`, trace `{}`.",
        experiment.name,
        run.nodes,
        run.seed,
        if run.seeds > 1 {
            format!(" --seeds {}", run.seeds)
        } else {
            String::new()
        },
        run.trace_hash
    )
}
