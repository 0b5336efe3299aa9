//! Why a node does not do what it is asked for.

use crate::wire::DecodeError;

/// Why a node does not do what it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReachRefusal {
    /// It does not know this request, or does not do such a thing.
    #[error("the peer does not do that")]
    Unsupported,
    /// It could not read the request.
    #[error("the peer could not read the request")]
    Malformed,
    /// Not now; a ration is used up.
    #[error("the peer has no time for it now")]
    Busy,
    /// The request has fewer bytes than it would cause.
    #[error("the request was too small")]
    TooSmall,
    /// Not an address of who asks, or one that nothing is sent to.
    #[error("the address is not one that the peer sends to")]
    BadAddress,
    /// It knows nobody who could probe.
    #[error("the peer knows nobody who could probe")]
    NoTarget,
    /// It has no more room.
    #[error("the relay has no more room")]
    Full,
    /// Who asks comes through a relay itself.
    #[error("a relay serves nobody who comes through another relay")]
    Relayed,
    /// The one that is wanted, or who asks, has no place there.
    #[error("the peer has no place at this relay")]
    NoReservation,
    /// Both ends would be one.
    #[error("both ends would be one")]
    Same,
    /// There is no such session of who asks.
    #[error("there is no such session")]
    NoSession,
}

impl ReachRefusal {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Unsupported => 0,
            Self::Malformed => 1,
            Self::Busy => 2,
            Self::TooSmall => 3,
            Self::BadAddress => 4,
            Self::NoTarget => 5,
            Self::Full => 6,
            Self::Relayed => 7,
            Self::NoReservation => 8,
            Self::Same => 9,
            Self::NoSession => 10,
        }
    }

    /// A reason that is not known is read as one for good.
    pub(super) const fn of_number(number: u8) -> Self {
        match number {
            1 => Self::Malformed,
            2 => Self::Busy,
            3 => Self::TooSmall,
            4 => Self::BadAddress,
            5 => Self::NoTarget,
            6 => Self::Full,
            7 => Self::Relayed,
            8 => Self::NoReservation,
            9 => Self::Same,
            10 => Self::NoSession,
            _ => Self::Unsupported,
        }
    }

    /// What to answer to a request that could not be read.
    #[must_use]
    pub const fn of_error(error: &DecodeError) -> Self {
        match error.rejection() {
            kad_core::Rejection::Unsupported => Self::Unsupported,
            _ => Self::Malformed,
        }
    }
}
