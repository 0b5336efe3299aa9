//! The QUIC transport over real sockets of the loopback interface.
#![cfg(feature = "quic")]

#[path = "quic/applications.rs"]
mod applications;
#[path = "quic/bytes.rs"]
mod bytes;
#[path = "quic/identity.rs"]
mod identity;
#[path = "quic/life.rs"]
mod life;
#[path = "quic/limits.rs"]
mod limits;
#[path = "quic/nodes.rs"]
mod nodes;
#[path = "quic/streams.rs"]
mod streams;
#[path = "quic/trespassers.rs"]
mod trespassers;
