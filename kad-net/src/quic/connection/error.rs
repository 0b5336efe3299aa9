//! Why there is no connection, and why there is none any more.

use std::io;
use std::time::Duration;

use super::Protocol;

/// Why a peer could not be connected to. Nothing stays open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The peer was reached, and has too much to do.
    #[error("the peer has too many connections: try again later")]
    Busy,
    /// This transport is closed.
    #[error("the transport is closed")]
    Closed,
    /// The peer was reached, and lost again before it had answered.
    #[error("the peer was reached and lost again: {0}")]
    Lost(ConnectionError),
    /// The peer was reached, and nobody there waits for this protocol.
    #[error("the peer was reached, but nothing there listens for {protocol}")]
    NotListening {
        /// What it was asked for.
        protocol: Protocol,
    },
    /// The id is our own.
    #[error("this is our own id")]
    Ourselves,
    /// This node has connections to as many peers as it may, or too many to this one.
    #[error("this node has too many connections: close some")]
    TooMany,
    /// No path to the peer was found.
    #[error("{reason}")]
    Unreachable {
        /// What was tried and what came of it, in a sentence.
        reason: String,
    },
}

impl ConnectError {
    /// The connection has ended before it was there.
    pub(in crate::quic) fn of_end(error: ConnectionError) -> Self {
        match error {
            ConnectionError::TransportClosed => Self::Closed,
            error => Self::Lost(error),
        }
    }
}

/// Why a connection has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    ClosedByPeer,
    /// It was closed here, or nobody held it any more.
    #[error("the connection was closed")]
    ClosedHere,
    /// The peer does not know it: it was restarted, or had waited for a path for too long.
    #[error("the peer does not know the connection any more: it was restarted, or had given it up")]
    Forgotten,
    /// The last path was lost, and no other one was found in time.
    #[error("the peer was lost, and not found again within {waited:?}")]
    NoPath {
        /// How long another path was waited for.
        waited: Duration,
    },
    /// This transport is closed.
    #[error("the transport is closed")]
    TransportClosed,
}

impl From<ConnectionError> for io::Error {
    fn from(error: ConnectionError) -> Self {
        let kind = match error {
            ConnectionError::ClosedByPeer | ConnectionError::Forgotten => io::ErrorKind::ConnectionReset,
            ConnectionError::ClosedHere | ConnectionError::TransportClosed => {
                io::ErrorKind::ConnectionAborted
            }
            ConnectionError::NoPath { .. } => io::ErrorKind::TimedOut,
        };
        Self::new(kind, error)
    }
}

/// Why a datagram was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// The connection has ended.
    #[error(transparent)]
    Closed(#[from] ConnectionError),
    /// It does not fit into a packet of the path in use.
    #[error("the datagram has {size} bytes, and the path takes {most}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The most that the path takes now, in bytes.
        most: usize,
    },
}
