//! Whole networks of Kademlia nodes in one thread and in virtual time.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod adversary;
mod census;
mod dice;
pub mod experiments;
mod links;
pub mod load;
mod place;
mod queue;
pub mod report;
mod sessions;
mod shelf;
mod trace;
pub mod traffic;
mod world;

pub use self::census::Census;
pub use self::dice::Dice;
pub use self::links::{Delay, Links};
pub use self::place::{Place, Site, WIDE_GROUPS};
pub use self::report::Report;
pub use self::sessions::{MAX_TRACE, Returns, SessionTrace, Sessions, Span, TraceError};
pub use self::trace::Trace;
pub use self::traffic::Traffic;
pub use self::world::{BEGINNING, Growth, Happening, World};
