//! Whole networks of Kademlia nodes in one thread and in virtual time.
//!
//! A [`World`] holds any number of real nodes: each is the state machine of `kad-core` that the daemon drives,
//! unchanged, with a routing table that grew by joining and the memory store of `kad-store`. The world is their driver,
//! their wires and their clock. One queue holds everything that will happen, so a simulated hour of a thousand nodes
//! takes seconds, and what is measured is true of the code that runs on real machines.
//!
//! What happens depends on the seed alone: the same seed gives the same events in the same order, and a running hash of
//! all of them ([`Trace`]) proves it. Runs with different seeds can share a process and its threads ([`Plan`]) without
//! noticing.
//!
//! What it refuses to do: to take a table from an oracle (nodes join through the protocol), to look into a machine to
//! decide what happens (it is told and asked by its contract alone), to read a clock or draw entropy, and to hide a bad
//! figure (what was not measured is not met). What it does not model: the processor's time, bandwidth and queues of
//! links, and packets smaller than a message. `docs/simulation.md` says what follows from that.
//!
//! # A test of your own
//!
//! ```
//! use std::sync::Arc;
//!
//! use kad_core::{Command, Config, Duration, Kind, Outcome, Read, Record};
//! use kad_sim::{Growth, Links, Site, World, check};
//!
//! /// Of 20 values, how many are still found when each of 200 nodes has died with this chance?
//! fn found_after(death: f64, seed: u64) -> usize {
//!     let mut world = World::new(seed, Links::default());
//!     world.grow(200, Site::Private, &Arc::new(Config::default()), Growth::default());
//!     world.run_for(Duration::from_secs(60));
//!     let mut keys = Vec::new();
//!     for value in 0..20u8 {
//!         let (node, now) = (world.anyone(), world.now().unix);
//!         let expiry = now + Duration::from_secs(3600);
//!         let record = Record::immutable(&[value], expiry, world.rules(), now).expect("it is short");
//!         keys.push(record.key());
//!         world.ask(node, Command::Store { record, expected: None, keep: false, enough: usize::MAX });
//!     }
//!     for node in 0..world.len() {
//!         if world.dice().chance(death) {
//!             world.kill(node);
//!         }
//!     }
//!     let is_found = |key| {
//!         let (node, read) = (world.anyone(), Read::First);
//!         let (outcome, _) = world.ask(node, Command::FindValue { key, kind: Kind::Immutable, read });
//!         matches!(outcome, Outcome::Found { records, .. } if !records.is_empty())
//!     };
//!     keys.into_iter().map(is_found).filter(|&found| found).count()
//! }
//!
//! // The body of a #[test]. If a seed fails, the command is printed that repeats it with this seed.
//! check(1..=3, |seed| assert_eq!(found_after(0.3, seed), 20));
//! ```
//!
//! A network that needs no Rust is a [`Scenario`], and what is repeated often and compared with what others published
//! an [`Experiment`](experiments::Experiment).
//!
//! # Modules
//!
//! | where | what |
//! |---|---|
//! | [`World`] | the nodes, the queue, and what the experiment is told: [`Happening`] |
//! | [`Links`], [`Delay`] | delay, jitter, loss, connections that have to be made first |
//! | [`nat`] | what stands between nodes and the internet, and what comes of two that connect |
//! | [`Sessions`], [`SessionTrace`] | when nodes come and go |
//! | [`adversary`] | nodes that do not play by the rules |
//! | [`Place`], [`Site`] | addresses, and the groups that they are in |
//! | [`Census`] | who is there: what a lookup should have found |
//! | [`load`] | operations begun at a rate, and what came of each |
//! | [`traffic`] | what messages weigh on a wire |
//! | [`report`] | figures beside what others published, and charts |
//! | [`experiments`] | published results, repeated |
//! | [`scenario`] | networks from TOML files |
//! | [`batch`], [`Summary`] | several seeds side by side, and what they found together |
//! | [`check`](check()) | a check for several seeds that says how to repeat what failed |
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod adversary;
pub mod batch;
mod census;
mod check;
mod dice;
pub mod experiments;
mod links;
pub mod load;
mod memory;
pub mod nat;
mod place;
mod queue;
pub mod report;
pub mod scenario;
mod sessions;
mod shelf;
mod summary;
mod trace;
pub mod traffic;
mod world;

pub use self::batch::{Plan, Subject};
pub use self::census::Census;
pub use self::check::{SEED_VARIABLE, check};
pub use self::dice::Dice;
pub use self::links::{Delay, Links};
pub use self::place::{Place, Site, WIDE_GROUPS};
pub use self::report::Report;
pub use self::scenario::Scenario;
pub use self::sessions::{MAX_TRACE, Returns, SessionTrace, Sessions, Span, TraceError};
pub use self::summary::{Figure, Summary};
pub use self::trace::Trace;
pub use self::traffic::Traffic;
pub use self::world::{BEGINNING, Growth, Happening, Served, World};
