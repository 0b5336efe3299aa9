//! The `kad-node` command as a person or a script meets it: real processes, real sockets on loopback.
//!
//! Nothing here sleeps. Whoever waits reads an output of a process, and gives up at a deadline.

mod clients;
mod commands;
mod durability;
mod outcome;
mod process;
mod refusals;
mod restart;
mod testnet;
