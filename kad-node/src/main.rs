//! The `kad-node` command: a node to run, and clients for everything that a node can be asked.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
