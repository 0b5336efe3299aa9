//! What happens to a relay, and what it wants done.

use std::net::SocketAddr;

use kad_core::{Duration, NodeId};

use super::SessionId;
#[cfg(doc)]
use super::{Relay, RelayConfig};

/// What happens to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A peer asks for a place, or for its place to be kept. Owes it one [`Action::Reserved`] or [`Action::Refused`].
    Reserve {
        /// Who; proven.
        peer: NodeId,
        /// Where its connection comes from.
        leg: SocketAddr,
        /// Whether that connection is itself relayed by somebody.
        relayed: bool,
    },
    /// A peer wants its place no more. The sessions that run go on.
    Release {
        /// Who.
        peer: NodeId,
    },
    /// A peer asks for a session with one that has a place. Owes it one [`Action::Opened`] or [`Action::Refused`].
    Open {
        /// Who; proven.
        peer: NodeId,
        /// Where its connection comes from.
        leg: SocketAddr,
        /// Whether that connection is itself relayed by somebody.
        relayed: bool,
        /// With whom.
        to: NodeId,
    },
    /// One of the two ends it, over its own connection.
    Close {
        /// Which.
        session: SessionId,
        /// Who.
        peer: NodeId,
    },
    /// The connection of a peer may have another address than before; it has proven this one.
    Moved {
        /// Who.
        peer: NodeId,
        /// The new address.
        leg: SocketAddr,
    },
    /// The connection of a peer is gone.
    Gone {
        /// Who.
        peer: NodeId,
    },
    /// The time that [`Relay::poll_timeout`] told has come.
    Timeout,
}

/// What a relay wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Tell a peer that it has a place.
    Reserved {
        /// Whom.
        peer: NodeId,
        /// For how long.
        lifetime: Duration,
    },
    /// Tell a peer that it does not get what it asked for.
    Refused {
        /// Whom.
        peer: NodeId,
        /// Why not.
        why: Refusal,
    },
    /// Tell both that they have a session, and its limits ([`RelayConfig`]).
    Opened {
        /// Which.
        session: SessionId,
        /// Who asked.
        from: NodeId,
        /// With whom.
        to: NodeId,
    },
    /// Tell both that it is over, as far as they are still connected.
    Closed {
        /// Which.
        session: SessionId,
        /// Who it was between.
        between: [NodeId; 2],
        /// Why.
        why: End,
    },
}

/// Why a peer does not get a place or a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no more room, for this peer, its host, its site, or anybody.
    Full,
    /// It comes through another relay: chains would make one datagram into several.
    Relayed,
    /// Whom it wants has no place here.
    NoReservation,
    /// It wants a session with itself, or both ends would have one address.
    Same,
    /// It has opened too many in the last minute, or too many were opened to whom it wants.
    TooOften,
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// One of the two said so.
    Closed,
    /// One of the two is gone, or has no place any more.
    Gone,
    /// Its time is over.
    Time,
    /// Its bytes are used up.
    Bytes,
}

/// What to do with a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it to this address, once.
    Forward {
        /// The other leg.
        to: SocketAddr,
    },
    /// Forget it, and tell nobody.
    Drop(Reason),
}

/// Why a datagram is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// There is no such session.
    NoSession,
    /// It comes from neither leg.
    Stranger,
    /// It is empty, or larger than what is forwarded.
    Size,
    /// The session has used up its bytes or its time.
    Spent,
    /// The session sends too fast.
    SessionRate,
    /// All sessions together send too fast.
    Rate,
}
