//! Why a request failed, and the codes by which two nodes tell each other.

use kad_core::{Failure, NodeId};
use quinn::{ConnectionError, VarInt};

use crate::transport::{MAX_FRAME, TransportError};

/// Why a request over QUIC failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuicError {
    /// What the peer sent as an answer is larger than a frame may be.
    #[error("the answer is larger than {MAX_FRAME} bytes")]
    AnswerTooLarge,
    /// The peer, or its side of the connection, refuses for now.
    #[error("the peer is busy")]
    Busy,
    /// This transport is closed.
    #[error("the transport is closed")]
    Closed,
    /// The frame to be sent is larger than a frame may be; nothing was sent.
    #[error("the request has {size} bytes, more than {MAX_FRAME}")]
    FrameTooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// The connection broke during the exchange. The peer may or may not have seen the request.
    #[error("the connection broke: {reason}")]
    Lost {
        /// What broke it.
        reason: String,
    },
    /// No socket of ours is of an address family of the peer; nothing was sent.
    #[error("this node has no socket of the address family of the peer")]
    NoSocket,
    /// Somebody answered who belongs to another network, or does not speak our protocol.
    #[error("the node at this address belongs to another network")]
    OtherNetwork,
    /// The address, or the id that was asked for, is our own.
    #[error("this is our own address")]
    Ourselves,
    /// Every connection that we may have is in use.
    #[error("all connections of this node are in use")]
    PoolFull,
    /// The peer closed the exchange in a way that makes no sense.
    #[error("the peer broke off the exchange with code {code}")]
    Refused {
        /// The code it gave.
        code: u64,
    },
    /// Nobody answered there in time.
    #[error("nobody answered: {reason}")]
    Unreachable {
        /// What was seen instead.
        reason: String,
    },
    /// Somebody else answered there.
    #[error("{found} answered in place of {expected}")]
    WrongIdentity {
        /// Who was asked for.
        expected: NodeId,
        /// Who answered, and proved to be.
        found: NodeId,
    },
}

impl TransportError for QuicError {
    /// A member of another network counts as somebody else ([`Failure::WrongIdentity`]): the address is alive, and
    /// useless. A missing address family is our own shortcoming ([`Failure::Local`]): others may well reach the
    /// contact.
    fn failure(&self) -> Failure {
        match self {
            Self::Busy => Failure::Busy,
            Self::Closed | Self::FrameTooLarge { .. } | Self::NoSocket | Self::Ourselves | Self::PoolFull => {
                Failure::Local
            }
            Self::Lost { .. } | Self::Unreachable { .. } => Failure::Unreachable,
            Self::OtherNetwork | Self::WrongIdentity { .. } => Failure::WrongIdentity,
            Self::AnswerTooLarge | Self::Refused { .. } => Failure::Malformed,
        }
    }
}

impl QuicError {
    /// Why a dial failed.
    pub(super) fn of_dial(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::ConnectionClosed(close) => match u64::from(close.error_code) {
                TLS_NO_APPLICATION_PROTOCOL => Self::OtherNetwork,
                QUIC_CONNECTION_REFUSED => Self::Busy,
                _ => Self::Unreachable {
                    reason: error.to_string(),
                },
            },
            ConnectionError::TransportError(inner)
                if u64::from(inner.code) == TLS_NO_APPLICATION_PROTOCOL =>
            {
                Self::OtherNetwork
            }
            ConnectionError::ApplicationClosed(close) if close.error_code == code::BUSY => Self::Busy,
            ConnectionError::LocallyClosed => Self::Closed,
            _ => Self::Unreachable {
                reason: error.to_string(),
            },
        }
    }

    /// Why an exchange on an open connection failed.
    pub(super) fn of_connection(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) if close.error_code == code::BUSY => Self::Busy,
            ConnectionError::ConnectionClosed(close)
                if u64::from(close.error_code) == TLS_NO_APPLICATION_PROTOCOL =>
            {
                Self::OtherNetwork
            }
            _ => Self::Lost {
                reason: error.to_string(),
            },
        }
    }

    /// What the code means with which the peer reset or stopped a stream.
    pub(super) fn of_code(code: VarInt) -> Self {
        match code {
            code::BUSY => Self::Busy,
            other => Self::Refused {
                code: other.into_inner(),
            },
        }
    }
}

/// Application codes, of streams and of connections alike. They are part of the protocol.
pub(super) mod code {
    use quinn::VarInt;

    /// Nobody waits for this any more.
    pub(in super::super) const CANCELLED: VarInt = VarInt::from_u32(0);
    /// Refused for now; asking later may help.
    pub(in super::super) const BUSY: VarInt = VarInt::from_u32(1);
    /// The frame was too large.
    pub(in super::super) const TOO_LARGE: VarInt = VarInt::from_u32(2);
    /// The first byte of the stream was not one that we know.
    pub(in super::super) const UNKNOWN_STREAM: VarInt = VarInt::from_u32(3);
    /// The request did not arrive in time.
    pub(in super::super) const TOO_SLOW: VarInt = VarInt::from_u32(4);
    /// The connection is not needed any more.
    pub(in super::super) const UNUSED: VarInt = VarInt::from_u32(5);
    /// The peer is not the one that was meant.
    pub(in super::super) const WRONG_IDENTITY: VarInt = VarInt::from_u32(6);
    /// The node shuts down.
    pub(in super::super) const SHUTDOWN: VarInt = VarInt::from_u32(7);

    // Those of connections of applications.

    /// The peer broke the rules.
    pub(in super::super) const VIOLATION: VarInt = VarInt::from_u32(16);
    /// There is no connection of this id.
    pub(in super::super) const UNKNOWN_CONNECTION: VarInt = VarInt::from_u32(17);
    /// The connection that the stream belongs to was closed.
    pub(in super::super) const CONNECTION_CLOSED: VarInt = VarInt::from_u32(18);
    /// The stream is over, or was given up, and is not known any more.
    pub(in super::super) const OVER: VarInt = VarInt::from_u32(19);
    /// The stream goes on over another path.
    pub(in super::super) const MOVED: VarInt = VarInt::from_u32(20);
}

/// CRYPTO_ERROR (RFC 9001, section 4.8) of the alert `no_application_protocol` (RFC 7301, section 3.2).
const TLS_NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

/// CONNECTION_REFUSED (RFC 9000, section 20.1).
const QUIC_CONNECTION_REFUSED: u64 = 0x2;
