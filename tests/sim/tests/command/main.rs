//! The command, as people and programs call it.

mod bad_input;
mod met_targets;
mod process;
mod results;
mod runs;
