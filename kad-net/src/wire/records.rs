//! Records on the wire: the seconds that are left, and the canonical bytes, which are a part of the frame.
//!
//! ```text
//! record  remaining  length  bytes…
//! ```

use bytes::Bytes;
use kad_core::{Duration, Kind, MAX_RECORD_BYTES, RawRecord, Record, RecordError, UnixTime};

use super::body::{BodyReader, BodyWriter};
use super::{Codec, DecodeError, EncodeError};

/// Bytes of the smallest record on the wire: no seconds, no bytes.
pub(super) const SMALLEST_RECORD: usize = 2;

/// The most bytes that a record takes on the wire besides its own.
const OVERHEAD: usize = 9 + 5;

pub(super) fn size_hint(record: &Record) -> usize {
    OVERHEAD + record.as_bytes().len()
}

/// Adds up the bytes of the records of one message, both ways.
#[derive(Default)]
pub(super) struct RecordBytes(usize);

impl RecordBytes {
    pub(super) fn write(
        &mut self,
        body: &mut BodyWriter,
        now: UnixTime,
        record: &Record,
    ) -> Result<(), EncodeError> {
        let bytes = record.as_bytes();
        self.0 += bytes.len();
        if self.0 > MAX_RECORD_BYTES {
            return Err(EncodeError::TooManyRecordBytes);
        }
        // A signed record says itself when it ends.
        body.value(&match record.kind() {
            Kind::Immutable => record.expiry().secs_since(now),
            Kind::Mutable | Kind::Provider => 0,
        })?;
        body.bytes(bytes)
    }

    /// The outer result is that of the frame, the inner one that of the record.
    pub(super) fn read(
        &mut self,
        codec: &Codec,
        now: UnixTime,
        frame: &Bytes,
        body: &mut BodyReader<'_>,
    ) -> Result<Result<Record, RecordError>, DecodeError> {
        let remaining = Duration::from_secs(body.value()?);
        let bytes = body.bytes()?;
        self.0 += bytes.len();
        if self.0 > MAX_RECORD_BYTES {
            return Err(DecodeError::TooManyRecordBytes);
        }
        let raw = RawRecord::parse(frame.slice_ref(bytes), now + remaining);
        Ok(raw.and_then(|raw| Record::verify(raw, &codec.rules, now)))
    }
}
