//! Whole networks of Kademlia nodes in one thread and in virtual time.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod adversary;
pub mod batch;
mod census;
mod check;
mod dice;
pub mod experiments;
mod links;
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
pub use self::world::{BEGINNING, Growth, Happening, World};
