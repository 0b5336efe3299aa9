//! The `kad-sim` command: runs experiments and scenarios, and keeps what they found.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
