//! Whole networks of machines in one thread and in virtual time. Every machine is wrapped in a
//! [`Checked`](contract::Checked), so each of these tests checks the driver contract as well.

mod asking;
mod bulk;
mod cache;
mod cards;
mod churn;
mod clocks;
#[allow(dead_code, reason = "another test uses the rest")]
mod contract;
mod crowds;
mod full_table;
mod idlers;
mod lookups;
mod neighbourhood;
mod population;
mod proximity;
mod records;
mod refusals;
mod repair;
mod roles;
mod shelf;
mod silence;
mod simulation;
mod wide;
