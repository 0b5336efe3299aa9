//! Histories of mutable records: real nodes write and read at once, everything that they were told is recorded, and a
//! checker says which guarantee does not hold.
//!
//! `docs/guarantees.md` says in words what [`check`] says in code. The tests of `planted.rs` run the same on stores
//! that are broken in one way each, and have to be found out.

mod check;
mod client;
mod network;
mod planted;
mod sound;
#[path = "../../kad-node/tests/stores/swayed.rs"]
mod swayed;
