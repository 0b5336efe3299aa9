//! Carries Kademlia requests between nodes.
//!
//! ```text
//!   kad-core's Request ──wire──► frame ──transport──► frame ──wire──► Request, proven
//! ```
//!
//! - [`transport`] is the seam: a [`Transport`] moves opaque frames between nodes and proves who they are.
//! - [`wire`] turns messages into frames and back, and verifies every record on the way in.
//! - [`memory`] is a transport inside one process, `quic` (on by default) one over the internet.
//! - [`nat`] decides who can be reached and how: pure; the QUIC transport does what it wants.
//! - [`conformance`] proves any [`Transport`], these two and yours.
//!
//! This crate decides nothing: whom to ask, how long to wait and what to keep is the business of `kad-core`. It retries
//! nothing beyond one dial, and has no timeout of its own but that of a handshake. Without default features it is all
//! of this except QUIC. The bytes are described in `docs/protocol.md`.
#![forbid(unsafe_code)]

pub mod conformance;
pub mod memory;
pub mod nat;
#[cfg(feature = "quic")]
pub mod quic;
pub mod transport;
pub mod wire;

pub use kad_core::Failure;

pub use self::transport::{
    Answer, BoxError, BoxFuture, BoxReply, DynTransport, Inbound, MAX_FRAME, Reply, Transport,
    TransportError, TransportStats, WireAddress,
};
pub use self::wire::card;
