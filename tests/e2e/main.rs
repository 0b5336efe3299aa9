//! The `kad-node` command as a person or a script meets it: real processes, real sockets on loopback.
//!
//! Nothing here sleeps to synchronise. Whoever waits reads an output of a process, and gives up at a deadline.

mod clients;
mod commands;
mod crawl;
mod durability;
mod files;
mod hostile;
mod outcome;
mod policy;
mod process;
mod refusals;
mod repair;
mod restart;
mod silence;
mod testnet;
