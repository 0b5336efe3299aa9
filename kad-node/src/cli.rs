//! The command line: what there is to say, and how the outcome is told.
//!
//! Every command ends in one [`Answer`] or one [`Failure`]. Nothing here knows the protocol:
//! commands call the library as any application would.

mod arguments;
mod client;
mod config;
mod connect;
mod control;
mod crawl;
mod forward;
mod get_many;
mod holdings;
mod inspect;
mod keep;
mod key;
mod lists;
mod mutable;
mod paths;
mod pipe;
mod progress;
mod provide;
mod put_many;
mod repair;
mod reply;
mod run;
mod stay;
mod streams;
mod testnet;
mod transfer;
mod values;
mod watch;

use std::future::Future;
use std::io;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use serde_json::json;

use self::reply::{Answer, Failure};

/// A node of a Kademlia network, and the tools to use one
#[derive(Debug, Parser)]
#[command(name = "kad-node", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    /// Print one JSON object on the last line of standard output, errors included
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  kad-node testnet
  kad-node run --listen 0.0.0.0:4000 --data /var/lib/kad-node
  kad-node put --bootstrap 192.0.2.7:4000 notes.txt
  kad-node get --bootstrap 192.0.2.7:4000 KEY -o notes.txt

Exit status:
  0    done or found
  1    not found, quorum not met, or nobody answered
  2    wrong usage or input: a bootstrap node that cannot be reached, an unreadable file, a port in use
  130  interrupted

Environment:
  KAD_BOOTSTRAP  bootstrap nodes, separated by commas
  RUST_LOG       what to log, such as info or kad_node=debug";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make or show a key file
    #[command(subcommand)]
    Key(key::Command),
    /// Run a node until it is told to stop
    Run(run::Args),
    /// Start a whole network on this machine, store a file, kill a quarter of the nodes, and read the file back
    Testnet(testnet::Args),
    /// Store files under their hashes
    Put(values::PutArgs),
    /// Fetch what is stored under a hash
    Get(values::GetArgs),
    /// Store again what too few nodes hold of a file
    Repair(repair::RepairArgs),
    /// Run a node that keeps files of others alive
    Keep(keep::KeepArgs),
    /// List what a node keeps, and how many copies there are
    List(holdings::ListArgs),
    /// Keep a file no longer
    Forget(holdings::ForgetArgs),
    /// Write a new version of a record that belongs to a key
    PutMutable(mutable::PutArgs),
    /// Read the newest version of a record that belongs to a key
    GetMutable(mutable::GetArgs),
    /// Tell of each new version of a record that belongs to a key
    Watch(watch::WatchArgs),
    /// Delete a record that belongs to a key
    DeleteMutable(mutable::DeleteArgs),
    /// Announce that you have what keys name
    Provide(provide::ProvideArgs),
    /// List who announced to have what a key names
    Providers(provide::ProvidersArgs),
    /// Find where a node is
    FindNode(inspect::FindNodeArgs),
    /// List the nodes nearest to a key
    Closest(inspect::ClosestArgs),
    /// Ask a node whether it is there
    Ping(inspect::PingArgs),
    /// Wait for a peer, and pipe standard input and output to it
    Listen(connect::ListenArgs),
    /// Connect to a peer by its id, wherever it is, and pipe standard input and output to it
    Connect(connect::ConnectArgs),
    /// Make ports of a peer's machine ports of this one
    Forward(forward::ForwardingArgs),
    /// Walk over the whole network: who is there, how far away, and how many of the contacts in its tables are dead
    Crawl(crawl::Args),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  kad-node completions bash > /usr/share/bash-completion/completions/kad-node"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Parses, runs, tells, and says how to exit.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let json = cli.json;
    let pipes = cli.command.pipes();
    match cli.command.execute(json) {
        Ok(answer) => {
            match pipes {
                true if json => answer.print_aside(),
                true => {}
                false => answer.print(json),
            }
            answer.exit_code()
        }
        Err(failure) => {
            match pipes {
                true => failure.print_aside(json),
                false => failure.print(json),
            }
            failure.exit_code()
        }
    }
}

impl Command {
    /// Whether standard output is for what a peer sends.
    fn pipes(&self) -> bool {
        matches!(self, Self::Listen(_) | Self::Connect(_))
    }

    fn execute(self, json: bool) -> Result<Answer, Failure> {
        match self {
            Self::Key(command) => key::execute(command),
            Self::Completions { shell } => Ok(completions(shell)),
            Self::Run(args) => block_on(run::execute(args, json, Vec::new())),
            Self::Keep(args) => block_on(keep::execute(args, json)),
            Self::List(args) => interruptible(holdings::list(args, json)),
            Self::Forget(args) => holdings::forget(&args),
            Self::Repair(args) => interruptible(repair::repair(args, json)),
            Self::Testnet(args) => block_on(testnet::execute(args, json)),
            Self::Put(args) => interruptible(values::put(args, json)),
            Self::Get(args) => interruptible(values::get(args, json)),
            Self::PutMutable(args) => interruptible(mutable::put(args, json)),
            Self::GetMutable(args) => interruptible(mutable::get(args, json)),
            Self::Watch(args) => interruptible(watch::watch(args, json)),
            Self::DeleteMutable(args) => interruptible(mutable::delete(args, json)),
            Self::Provide(args) if args.stay => {
                run::log_if_asked()?;
                block_on(stay::stay(args, json))
            }
            Self::Provide(args) => interruptible(provide::provide(args, json)),
            Self::Providers(args) => interruptible(provide::providers(args, json)),
            Self::FindNode(args) => interruptible(inspect::find_node(args, json)),
            Self::Closest(args) => interruptible(inspect::closest(args, json)),
            Self::Ping(args) => interruptible(inspect::ping(args)),
            Self::Listen(args) => {
                run::log_if_asked()?;
                block_on(connect::listen(args, json))
            }
            Self::Connect(args) => {
                run::log_if_asked()?;
                block_on(connect::connect(args, json))
            }
            Self::Forward(args) => {
                run::log_if_asked()?;
                block_on(forward::forward(args, json))
            }
            Self::Crawl(args) => {
                run::log_if_asked()?;
                block_on(crawl::execute(args, json))
            }
        }
    }
}

/// A client command: quiet unless RUST_LOG asks, and ended by Ctrl-C.
fn interruptible(command: impl Future<Output = Result<Answer, Failure>>) -> Result<Answer, Failure> {
    run::log_if_asked()?;
    block_on(async {
        tokio::select! {
            biased;
            pressed = tokio::signal::ctrl_c() => match pressed {
                Ok(()) => Err(Failure::interrupted()),
                Err(error) => Err(Failure::usage(format!("Ctrl-C cannot be waited for: {error}"))),
            },
            done = command => done,
        }
    })
}

fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::usage(format!("the operating system gives no threads: {error}")))?;
    let done = runtime.block_on(command);
    // A thread may wait for standard input for ever; the end of the process ends it.
    runtime.shutdown_background();
    done
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

fn completions(shell: clap_complete::Shell) -> Answer {
    let mut script = io::Cursor::new(Vec::new());
    clap_complete::generate(shell, &mut Cli::command(), "kad-node", &mut script);
    let script = String::from_utf8_lossy(script.get_ref()).into_owned();
    Answer::new(
        json!({ "shell": shell.to_string(), "script": script }),
        script.trim_end().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let children: Vec<_> = command.get_subcommands().collect();
            for leaf in if children.is_empty() {
                vec![command]
            } else {
                children
            } {
                let after = leaf.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(after.contains("kad-node "), "{} has no example", leaf.get_name());
            }
        }
    }
}
