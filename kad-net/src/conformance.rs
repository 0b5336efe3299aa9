//! Proves that a transport does its duties, whoever wrote it.
//!
//! ```
//! use std::net::SocketAddr;
//! use std::sync::atomic::{AtomicU16, Ordering};
//!
//! use kad_core::Keypair;
//! use kad_net::conformance::{self, Factory};
//! use kad_net::memory::{Conditions, MemoryTransport, Network};
//!
//! struct Memory(Network, AtomicU16);
//!
//! impl Factory for Memory {
//!     type Transport = MemoryTransport;
//!
//!     async fn open(&self, keypair: Keypair) -> MemoryTransport {
//!         let port = 4000 + self.1.fetch_add(1, Ordering::Relaxed);
//!         self.0.join(keypair.node_id(), SocketAddr::from(([10, 0, 0, 1], port)))
//!     }
//!
//!     async fn nowhere(&self) -> SocketAddr {
//!         SocketAddr::from(([10, 0, 0, 2], 1))
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let memory = Memory(Network::new(1, Conditions::default()), AtomicU16::new(0));
//! conformance::run(&memory).await.expect("memory does its duties");
//! # });
//! ```
//!
//! Each [`Duty`] is checked with members of its own, both through [`Transport`] and through its twin
//! [`DynTransport`](crate::DynTransport). The suite needs a tokio runtime with a clock; on a paused clock it takes no
//! time. It says nothing of speed, and cannot see tasks that a transport leaves behind: that is a test of its author's.

mod checks;
mod exchange;
mod round_trips;
mod twin;

use std::fmt;
use std::time::Duration;

use kad_core::Keypair;

use self::exchange::Bench;
use crate::Transport;

/// Opens members of one network for the suite.
pub trait Factory: Sync {
    /// What is proven.
    type Transport: Transport;

    /// A fresh member that can be reached by all the others, with an identity of its own.
    ///
    /// For a transport over sockets: bound to a free port of the loopback address.
    fn open(&self, keypair: Keypair) -> impl Future<Output = Self::Transport> + Send;

    /// An address of the network at which nobody is.
    fn nowhere(&self) -> impl Future<Output = <Self::Transport as Transport>::Address> + Send;

    /// How long anything may take before it counts as hanging. Default 30 s, more than any handshake should.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// What a transport owes, as [`Transport`] lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Duty {
    /// Who asks is proven, and can be asked back at the address that is given.
    ProvenIdentities,
    /// An answer comes only from the node that was meant.
    WrongIdentityRefused,
    /// A bare address becomes the contact of who is there.
    Identify,
    /// Frames from nothing to the largest arrive unchanged, larger ones not at all.
    FrameSizes,
    /// Many requests at once, both ways, and each gets its own answer.
    ManyAtOnce,
    /// A request that is dropped at any moment is never taken for a whole one, and harms no other.
    CancelledRequest,
    /// Dropping the future of `accept` loses no request.
    CancelledAccept,
    /// A request whose reply is dropped fails as busy.
    DroppedReply,
    /// Where nobody is, a request fails as unreachable within a bounded time.
    Nowhere,
    /// Requests say whether their connection was already open.
    Warmth,
    /// How long an answer took is told, without the time to dial.
    RoundTrips,
    /// After `close`, everything that waited has ended and nothing new begins.
    Close,
    /// A peer that closes ends the requests that wait for it.
    PeerClosed,
    /// The twin without types does the same.
    DynTwin,
}

/// A duty that was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{duty:?}: {what}")]
#[non_exhaustive]
pub struct Broken {
    /// Which one.
    pub duty: Duty,
    /// What was seen.
    pub what: String,
}

/// Checks all duties, one after another, and stops at the first that is not done.
///
/// # Errors
/// Names the duty and what was seen.
pub async fn run<F: Factory>(factory: &F) -> Result<(), Broken> {
    let bench = &mut Bench::new(factory);
    checks::proven_identities(bench).await?;
    checks::wrong_identity_refused(bench).await?;
    checks::identify(bench).await?;
    checks::frame_sizes(bench).await?;
    checks::many_at_once(bench).await?;
    checks::cancelled_request(bench).await?;
    checks::cancelled_accept(bench).await?;
    checks::dropped_reply(bench).await?;
    checks::nowhere(bench).await?;
    checks::warmth(bench).await?;
    round_trips::round_trips(bench).await?;
    checks::close(bench).await?;
    checks::peer_closed(bench).await?;
    twin::dyn_twin(bench).await
}

impl Duty {
    fn broken(self, what: impl fmt::Display) -> Broken {
        let what = what.to_string();
        Broken { duty: self, what }
    }

    /// An error of this duty unless a condition holds.
    fn check(self, holds: bool, what: impl fmt::Display) -> Result<(), Broken> {
        match holds {
            true => Ok(()),
            false => Err(self.broken(what)),
        }
    }
}
