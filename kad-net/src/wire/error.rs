//! Why a frame could not be written or read, a name for each reason.

use kad_core::{RecordError, Rejection};

/// Why a message could not become a frame. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// More than [`MAX_FRAME`](crate::MAX_FRAME) bytes: cannot happen within the other bounds.
    #[error("the frame would be too large")]
    TooLarge,
    /// More records or verdicts than [`MAX_RECORDS`](kad_core::MAX_RECORDS).
    #[error("too many records")]
    TooManyRecords,
    /// More bytes of records than [`MAX_RECORD_BYTES`](kad_core::MAX_RECORD_BYTES).
    #[error("too many bytes of records")]
    TooManyRecordBytes,
    /// More contacts than [`MAX_CLOSER`](kad_core::MAX_CLOSER).
    #[error("too many contacts")]
    TooManyContacts,
    /// An address of more sockets than [`MAX_SOCKETS`](crate::wire::MAX_SOCKETS).
    #[error("too many sockets in an address")]
    TooManySockets,
    /// More parts or differences than [`MAX_COMPARED`](kad_core::summary::MAX_COMPARED).
    #[error("too many parts")]
    TooManyParts,
    /// More marks than [`MAX_LISTED`](kad_core::summary::MAX_LISTED) of a part or
    /// [`MAX_MARKS`](kad_core::summary::MAX_MARKS) in all.
    #[error("too many marks")]
    TooManyMarks,
    /// A STORE entry that is itself an error and has no bytes to send.
    #[error("a STORE entry is no record: {0}")]
    NoRecord(RecordError),
}

/// Why a frame was refused. Nothing changed, and the connection stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame ends before the message does, or claims more than it carries.
    #[error("the frame is cut short")]
    Truncated,
    /// More than [`MAX_FRAME`](crate::MAX_FRAME) bytes.
    #[error("the frame is too large")]
    TooLarge,
    /// A version that we do not speak.
    #[error("unknown version {0}")]
    UnknownVersion(u8),
    /// A kind of message that we do not know, or a request where an answer belongs, or the other way round.
    #[error("unknown kind of message {0:#04x}")]
    UnknownKind(u8),
    /// Flags that we would have to understand.
    #[error("unknown flags {0:#04x}")]
    UnknownFlags(u8),
    /// Bytes after the end of the message.
    #[error("bytes after the end of the message")]
    TrailingBytes,
    /// A list with more elements than it may have; the name is that of the list.
    #[error("too many {0}")]
    TooManyElements(&'static str),
    /// More bytes of records than [`MAX_RECORD_BYTES`](kad_core::MAX_RECORD_BYTES).
    #[error("too many bytes of records")]
    TooManyRecordBytes,
    /// More bytes of extensions than [`MAX_EXTENSION_BYTES`](crate::wire::MAX_EXTENSION_BYTES).
    #[error("too many bytes of extensions")]
    TooManyExtensionBytes,
    /// A number that stands for nothing we know; the name is that of the field.
    #[error("unknown {0}")]
    UnknownValue(&'static str),
    /// An integer that is written in no known way or does not fit, or an option or a variant that is none.
    #[error("the body is not well formed")]
    Body,
    /// Bytes that do not begin as the card of a node does.
    #[error("not the card of a node")]
    NoCard,
    /// No usable address where one must be.
    #[error("no usable address")]
    BadAddress,
    /// An answer to another kind of request than ours.
    #[error("the answer {0:#04x} does not belong to the request")]
    UnexpectedAnswer(u8),
    /// A record in the answer does not verify, or its key is not the one that was asked for.
    #[error("a record in the answer is bad: {0}")]
    Record(RecordError),
    /// A record of another kind than was asked for.
    #[error("a record of a kind that was not asked for")]
    WrongRecordKind,
    /// A digest where records were asked for, or the other way round.
    #[error("records and digests mixed up")]
    WrongForm,
    /// A version older than the smallest that was asked for.
    #[error("an older version than was asked for")]
    OldVersion,
    /// Providers that are not in their order, or a next page that does not come after this one: paging would never end.
    #[error("providers out of their order")]
    WrongPage,
    /// A prefix of more than 64 bits, or with bits beyond its length.
    #[error("a prefix that is none")]
    BadPrefix,
    /// Not one difference for each part of the COMPARE.
    #[error("not one difference for each part")]
    WrongDifferences,
    /// Not one verdict for each entry of the STORE.
    #[error("not one verdict for each record")]
    WrongVerdicts,
}

impl DecodeError {
    /// What to answer to a request that failed in this way: what we do not know may be right, the rest is wrong.
    #[must_use]
    pub const fn rejection(&self) -> Rejection {
        match self {
            Self::UnknownVersion(_)
            | Self::UnknownKind(_)
            | Self::UnknownFlags(_)
            | Self::UnknownValue(_) => Rejection::Unsupported,
            _ => Rejection::Malformed,
        }
    }
}
