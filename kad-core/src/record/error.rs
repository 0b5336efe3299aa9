//! Why a record is refused.

use core::fmt;

/// Why a record was refused. Nothing changed where it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordError {
    /// Bytes that are no record: too short, an impossible length, an unknown flag.
    Malformed,
    /// A version of the layout that we do not know.
    UnknownVersion,
    /// A kind of record that we do not know.
    UnknownKind,
    /// The value, salt or payload is larger than the network allows.
    TooLarge,
    /// An immutable value that does not hash to the key it was asked or stored under.
    WrongKey,
    /// The signature does not cover these bytes in this network.
    BadSignature,
    /// Its life is over.
    Expired,
    /// It claims to live longer than the network allows, or (a tombstone) shorter than older versions could.
    BadLifetime,
    /// It claims to have been made more than [`MAX_CLOCK_SKEW`](super::MAX_CLOCK_SKEW) in the future.
    FromTheFuture,
    /// The node does not want it: its operator or its application refuses such records.
    Denied,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the bytes are no record",
            Self::UnknownVersion => "unknown version of the record layout",
            Self::UnknownKind => "unknown kind of record",
            Self::TooLarge => "the value is larger than the network allows",
            Self::WrongKey => "the value does not hash to the key",
            Self::BadSignature => "the signature does not verify",
            Self::Expired => "the record has expired",
            Self::BadLifetime => "the lifetime is not one that the network allows",
            Self::FromTheFuture => "the record was issued in the future",
            Self::Denied => "the node does not want such a record",
        })
    }
}

impl core::error::Error for RecordError {}
