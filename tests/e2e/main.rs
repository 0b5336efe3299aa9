//! The `kad-node` command as a person or a script meets it: real processes, real sockets on loopback.
//!
//! Nothing here sleeps to synchronise. Whoever waits reads an output of a process, and gives up at a deadline.

#[path = "../history/check.rs"]
mod check;
mod churn;
#[allow(dead_code, reason = "the tests of histories use the rest")]
#[path = "../history/client.rs"]
mod client;
mod clients;
mod clocks;
mod commands;
mod crawl;
mod durability;
mod files;
mod hostile;
mod keeping;
mod lists;
mod outcome;
mod policy;
mod process;
mod reaching;
mod refusals;
mod repair;
mod restart;
mod silence;
mod testnet;
