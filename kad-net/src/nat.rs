//! Who can be reached, and how: everything about NATs that can be decided without a socket.
//!
//! The QUIC transport feeds these machines (`quic/reach.rs`) and does what they want. They are tested against made-up
//! NATs.
//!
//! ```text
//!   handshakes ─► observation ─► candidates ─┐
//!                      │                     ▼
//!                      └─► reachability ─► role        dial_back (for others)
//!                              │
//!                 a client ────┴─► reservations ─► at their relays: relay
//!                                        │
//!   two of them meet there: candidates ─► coordinator ─► punch (─► birthday) ─► a direct path, or the relay stays
//! ```
//!
//! - [`observation`]: which addresses peers see this node at, and of which class the NAT is.
//! - [`reachability`]: which of them strangers reach, and so whether this node serves or only asks.
//! - [`contacted`]: whether somebody is a stranger.
//! - [`dial_back`]: how a node helps others to find that out, without being turned against anybody.
//! - [`candidates`]: which addresses of a peer are worth a try, and which of them may be punched.
//! - [`coordinator`]: how two are told to begin at the same moment.
//! - [`punch`]: one attempt of two peers to reach each other directly.
//! - [`birthday`]: one more, by many ports, where nobody can tell which one to punch.
//! - [`reservations`]: at which relays a node that cannot be dialled has a place.
//! - [`relay`]: how much of what a node forwards for others.
//! - [`model`]: no machine of a node, but the NATs that its tests and simulators put in front of it.
//!
//! Each is a machine like `kad_core::Kademlia`: `handle(now, event, out)` is the only thing that changes it, never
//! fails, and appends what it wants to `out`; `poll_timeout` tells when its `Event::Timeout` is due. None of them has a
//! clock, a socket or a thread. The same seed and the same events give the same actions. What must not be guessed by
//! others, nonces and session ids, is drawn from the seed by a keyed hash, so the seed has to be secret, and an answer
//! that shows one of them says nothing about the next.
//!
//! Three differ: [`candidates`] and the [`coordinator`] need no timer and are functions, and [`relay`] is also asked
//! about every datagram, which it answers at once.
//!
//! What they refuse to do: believe one peer about anything; send more than they were sent; hold more than
//! `docs/bounds.md` says, whatever peers do.

pub mod birthday;
pub mod candidates;
pub mod contacted;
pub mod coordinator;
pub mod dial_back;
mod draws;
pub mod model;
pub mod observation;
pub(crate) mod prefix;
pub mod punch;
pub(crate) mod ration;
pub mod reachability;
pub mod relay;
pub mod reservations;

#[cfg(test)]
mod tests;
