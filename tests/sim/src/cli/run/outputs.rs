//! The files that a run writes. Whether they can be written is tried before it begins.

use std::path::{Path, PathBuf};
use std::{fs, io};

use kad_sim::report::Chart;

use super::{Args, Wanted};
use crate::cli::figures::Figures;
use crate::cli::met::Met;
use crate::cli::reply::Failure;
use crate::cli::table::grouped;
use crate::cli::{checkout, plot, replace};

/// Where what goes, and the targets that were met so far.
pub(super) struct Outputs {
    plot: Option<PathBuf>,
    kept: Option<PathBuf>,
    record: Option<PathBuf>,
    pub(super) met: Met,
}

impl Outputs {
    /// Finds out where files go, and tries whether they can be written; nothing is left behind, but for the folder of
    /// the results if there was none.
    ///
    /// # Errors
    /// What is wrong with the first that cannot, or with the file of met targets.
    pub(super) fn prepare(args: &Args, wanted: &Wanted, nodes: usize) -> Result<Self, Failure> {
        if let Wanted::Scenario(_) = wanted
            && (args.save || args.record)
        {
            return Err(Failure::usage(
                "only experiments that 'kad-sim list' names are kept and have targets; leave out --save and --record",
            ));
        }
        let met = args
            .met
            .clone()
            .unwrap_or_else(|| checkout::file("tests/sim/met.toml"));
        if args.met.is_some() && !args.record && !met.exists() {
            return Err(Failure::usage(format!(
                "the file of met targets {} is not there; name another one, or make it with --record",
                met.display()
            )));
        }
        let results = args
            .results
            .clone()
            .unwrap_or_else(|| checkout::file("tests/sim/results"));
        let name = format!("{}-{nodes}.json", wanted.subject().name());
        let outputs = Self {
            plot: args.plot.clone(),
            kept: args.save.then(|| results.join(name)),
            met: Met::read(&met)?,
            record: args.record.then_some(met),
        };
        if let Some(path) = &outputs.plot {
            replace::probe(path).map_err(|error| unwritable(path, &error, "--plot"))?;
        }
        if let Some(path) = &outputs.record {
            replace::probe(path).map_err(|error| unwritable(path, &error, "--met"))?;
        }
        if let Some(path) = &outputs.kept {
            let made = if results.is_dir() {
                Ok(())
            } else {
                fs::create_dir(&results)
            };
            made.and_then(|()| replace::probe(path))
                .map_err(|error| unwritable(path, &error, "--results"))?;
        }
        Ok(outputs)
    }

    /// Writes them all: a line about each, and what went wrong with the first that could not be written.
    pub(super) fn write(
        &mut self,
        wanted: &Wanted,
        figures: &Figures,
        charts: &[Chart],
    ) -> (Vec<String>, Result<(), Failure>) {
        let mut told = Vec::new();
        let mut result = Ok(());
        let mut note = |path: &Path, flag, written: io::Result<String>| match written {
            Ok(line) => told.push(line),
            Err(error) if result.is_ok() => result = Err(unwritable(path, &error, flag)),
            Err(_) => {}
        };
        if let Some(path) = &self.plot {
            note(path, "--plot", draw(path, wanted, figures, charts));
        }
        if let Some(path) = &self.kept {
            note(path, "--results", keep(path, figures));
        }
        if let Some(path) = &self.record {
            note(path, "--met", record(path, &mut self.met, figures));
        }
        (told, result)
    }
}

fn draw(path: &Path, wanted: &Wanted, figures: &Figures, charts: &[Chart]) -> io::Result<String> {
    let shown = path.display();
    if charts.is_empty() {
        return Ok(format!("there is no chart, so {shown} was not written"));
    }
    let mut about = format!("{} nodes, seed {}", grouped(figures.nodes as u64), figures.seed);
    if figures.seeds > 1 {
        about.push_str(&format!(", the first of {}", figures.seeds));
    }
    let svg = plot::draw(&wanted.title(), &about, charts).map_err(io::Error::other)?;
    replace::write(path, svg.as_bytes())?;
    Ok(format!("plot: {shown}"))
}

fn keep(path: &Path, figures: &Figures) -> io::Result<String> {
    let mut bytes = serde_json::to_vec_pretty(figures)?;
    bytes.push(b'\n');
    replace::write(path, &bytes)?;
    Ok(format!("kept in {}", path.display()))
}

fn record(path: &Path, met: &mut Met, figures: &Figures) -> io::Result<String> {
    let added = met.record(figures);
    // A file that would not change is left alone.
    if added > 0 {
        met.write(path)?;
    }
    Ok(format!("{added} more targets in {}", path.display()))
}

fn unwritable(path: &Path, error: &io::Error, flag: &str) -> Failure {
    Failure::usage(format!(
        "{} cannot be written: {error}; give another place with {flag}",
        path.display()
    ))
}
