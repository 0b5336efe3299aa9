//! Carries Kademlia requests between nodes.
#![forbid(unsafe_code)]

pub mod conformance;
pub mod memory;
#[cfg(feature = "quic")]
pub mod quic;
pub mod transport;
pub mod wire;

pub use kad_core::Failure;

pub use self::transport::{
    Answer, BoxError, BoxFuture, BoxReply, DynTransport, Inbound, MAX_FRAME, Reply, Transport,
    TransportError, TransportStats, WireAddress,
};
