//! The command line: what there is to say, and how the outcome is told.
//!
//! Every command ends in one [`Answer`] or one [`Failure`]. Nothing here knows how a network is simulated: commands
//! call the library as any test would.

mod checkout;
mod docs;
mod figures;
mod list;
mod machine;
mod met;
mod plot;
mod progress;
mod replace;
mod reply;
mod run;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::json;

use self::reply::{Answer, Failure};

/// Whole networks of Kademlia nodes in virtual time, over the production core
#[derive(Debug, Parser)]
#[command(name = "kad-sim", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    /// Print one JSON object on the last line of standard output, errors included
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  kad-sim list
  kad-sim run hop-law --nodes 10000 --plot hops.svg
  kad-sim run tests/sim/scenarios/evening.toml --seeds 4

Exit status:
  0    done
  1    a target that was once met is missed, a run panicked, or the documentation is out of date
  2    wrong usage or input: an unknown experiment, too many nodes for this machine, a file that cannot be written";

#[derive(Debug, Subcommand)]
enum Command {
    /// List the experiments
    List(list::Args),
    /// Run an experiment or a scenario file
    Run(run::Args),
    /// Write the newest figures of all experiments into docs/simulation.md
    Docs(docs::Args),
}

/// Parses, runs, tells, and says how to exit.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let json = cli.json;
    match cli.command.execute(json) {
        Ok(answer) => {
            answer.print(json);
            answer.exit_code()
        }
        Err(failure) => {
            failure.print(json);
            failure.exit_code()
        }
    }
}

impl Command {
    fn execute(self, json: bool) -> Result<Answer, Failure> {
        match self {
            Self::List(args) => Ok(list::execute(&args)),
            Self::Run(args) => run::execute(&args, json),
            Self::Docs(args) => docs::execute(&args),
        }
    }
}

/// What clap has to say: help and versions are no errors, and with --json mistakes are told in JSON too.
fn misused(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
        let text = error.to_string();
        let first = text.split("\n\n").next().unwrap_or(&text);
        let sentence = first.strip_prefix("error: ").unwrap_or(first);
        let words: Vec<&str> = sentence.split_whitespace().collect();
        reply::line(&json!({ "error": words.join(" ") }).to_string());
    }
    // Nobody is left to be told if this fails.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { reply::USAGE } else { 0 })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let after = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                after.contains("kad-sim "),
                "{} has no example",
                command.get_name()
            );
        }
    }
}
