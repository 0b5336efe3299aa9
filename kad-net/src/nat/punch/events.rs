//! What happens to an attempt, and what it wants done.

use std::net::SocketAddr;

use kad_core::Duration;

#[cfg(doc)]
use super::{DIAL_RTT, Punch};
use crate::nat::candidates::MAX_TARGETS;

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialler {
    /// This node.
    Us,
    /// The peer.
    Peer,
}

/// What happens to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The coordinator tells both to begin.
    Go {
        /// After how long; at most two seconds.
        wait: Duration,
    },
    /// The coordinator has no time for the round that was asked for, and has told nobody to begin.
    Busy,
    /// A punch of the peer arrived; its MAC is right.
    Heard {
        /// From where.
        from: SocketAddr,
    },
    /// The first packet of a handshake arrived from where punches came from.
    Arriving,
    /// A direct connection to the peer stands, and its identity is proven.
    Connected {
        /// Who dialled.
        by: Dialler,
    },
    /// That connection is gone.
    Closed {
        /// Who had dialled it.
        by: Dialler,
    },
    /// This node has other addresses than before; the peer will be told by the coordinator.
    NetworkChanged,
    /// The peer has other addresses than before.
    Targets([Option<SocketAddr>; MAX_TARGETS]),
    /// The time that [`Punch::poll_timeout`] told has come.
    Timeout,
}

/// What an attempt wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask the coordinator for a round.
    Ask,
    /// Send one punch.
    Punch {
        /// To where.
        to: SocketAddr,
    },
    /// Dial the peer, with [`DIAL_RTT`].
    Dial {
        /// To where.
        to: SocketAddr,
    },
    /// Send nothing more of a handshake that is under way.
    StopDial,
    /// New streams go over this connection from now on.
    Use {
        /// Who dialled it.
        by: Dialler,
    },
    /// Let the streams of this connection end, then close it.
    Retire {
        /// Who dialled it.
        by: Dialler,
    },
    /// A round is over in vain. The relay is still there.
    Missed,
    /// There is no direct connection any more; new streams go through the relay.
    FallBack,
}
