//! The bodies of requests.

use bincode::{Decode, Encode};
use bytes::Bytes;
use kad_core::{FindValue, ID_BYTES, Key, Kind, MAX_RECORDS, NodeId, Request, StoreEntry, UnixTime, Want};

use super::body::{BodyReader, BodyWriter};
use super::records::{self, RecordBytes, SMALLEST_RECORD};
use super::{Codec, DecodeError, EncodeError, kind, summaries};

/// FIND_VALUE, apart from the core's type, whose order and names may change.
#[derive(Encode, Decode)]
struct FindValueBody {
    key: [u8; ID_BYTES],
    kind: u8,
    want: u8,
    min_seq: u64,
    after: Option<[u8; ID_BYTES]>,
}

const WANT_RECORD: u8 = 0;
const WANT_DIGEST: u8 = 1;

impl From<&FindValue> for FindValueBody {
    fn from(find: &FindValue) -> Self {
        Self {
            key: find.key.to_bytes(),
            kind: find.kind as u8,
            want: match find.want {
                Want::Record => WANT_RECORD,
                Want::Digest => WANT_DIGEST,
            },
            min_seq: find.min_seq,
            after: find.after.map(NodeId::to_bytes),
        }
    }
}

impl TryFrom<FindValueBody> for FindValue {
    type Error = DecodeError;

    fn try_from(body: FindValueBody) -> Result<Self, DecodeError> {
        Ok(Self {
            key: Key::from_bytes(body.key),
            kind: Kind::from_u8(body.kind).ok_or(DecodeError::UnknownValue("kind of record"))?,
            min_seq: body.min_seq,
            after: body.after.map(NodeId::from_bytes),
            want: match body.want {
                WANT_RECORD => Want::Record,
                WANT_DIGEST => Want::Digest,
                _ => return Err(DecodeError::UnknownValue("want")),
            },
        })
    }
}

pub(super) const fn kind(request: &Request) -> u8 {
    match request {
        Request::Ping => kind::PING,
        Request::FindNode { .. } => kind::FIND_NODE,
        Request::FindValue(_) => kind::FIND_VALUE,
        Request::Store { .. } => kind::STORE,
        Request::Compare { .. } => kind::COMPARE,
        Request::Fetch { .. } => kind::FETCH,
    }
}

pub(super) fn size_hint(request: &Request) -> usize {
    match request {
        Request::Ping => 0,
        // An extension without bytes.
        Request::FindNode { card, .. } => ID_BYTES + 2 * usize::from(*card),
        Request::FindValue(_) => 2 * ID_BYTES + 2 + 9 + 1,
        Request::Store { entries } => {
            let records = entries.iter().filter_map(|entry| entry.record.as_ref().ok());
            1 + records
                .map(|record| 10 + records::size_hint(record))
                .sum::<usize>()
        }
        Request::Compare { parts } => summaries::parts_size_hint(parts.len()),
        Request::Fetch { marks, .. } => 10 + summaries::marks_size_hint(marks.len()),
    }
}

pub(super) fn write(body: &mut BodyWriter, now: UnixTime, request: &Request) -> Result<(), EncodeError> {
    match request {
        Request::Ping => Ok(()),
        Request::FindNode { target, .. } => body.value(&target.to_bytes()),
        Request::FindValue(find) => body.value(&FindValueBody::from(find)),
        Request::Store { entries } => write_store(body, now, entries),
        Request::Compare { parts } => summaries::write_parts(body, parts),
        Request::Fetch { prefix, marks } => {
            summaries::write_prefix(body, *prefix)?;
            summaries::write_marks(body, marks)
        }
    }
}

fn write_store(body: &mut BodyWriter, now: UnixTime, entries: &[StoreEntry]) -> Result<(), EncodeError> {
    if entries.len() > MAX_RECORDS {
        return Err(EncodeError::TooManyRecords);
    }
    body.count(entries.len())?;
    let mut bytes = RecordBytes::default();
    for StoreEntry { record, expected } in entries {
        let record = record.as_ref().map_err(|&error| EncodeError::NoRecord(error))?;
        bytes.write(body, now, record)?;
        body.value(expected)?;
    }
    Ok(())
}

pub(super) fn read(
    codec: &Codec,
    now: UnixTime,
    frame: &Bytes,
    kind: u8,
    body: &mut BodyReader<'_>,
) -> Result<Request, DecodeError> {
    match kind {
        kind::PING => Ok(Request::Ping),
        kind::FIND_NODE => {
            let target = Key::from_bytes(body.value()?);
            let card = false; // An extension, read when the body ends.
            Ok(Request::FindNode { target, card })
        }
        kind::FIND_VALUE => Ok(Request::FindValue(body.value::<FindValueBody>()?.try_into()?)),
        kind::STORE => {
            let entries = read_store(codec, now, frame, body)?;
            Ok(Request::Store { entries })
        }
        kind::COMPARE => {
            let parts = summaries::read_parts(body)?;
            Ok(Request::Compare { parts })
        }
        kind::FETCH => {
            let (prefix, marks) = (summaries::read_prefix(body)?, summaries::read_marks(body)?);
            Ok(Request::Fetch { prefix, marks })
        }
        unknown => Err(DecodeError::UnknownKind(unknown)),
    }
}

fn read_store(
    codec: &Codec,
    now: UnixTime,
    frame: &Bytes,
    body: &mut BodyReader<'_>,
) -> Result<Vec<StoreEntry>, DecodeError> {
    let count = body.count("records", MAX_RECORDS, SMALLEST_RECORD + 1)?;
    let mut entries = Vec::with_capacity(count);
    let mut bytes = RecordBytes::default();
    for _ in 0..count {
        let record = bytes.read(codec, now, frame, body)?;
        let expected = body.value()?;
        entries.push(StoreEntry { record, expected });
    }
    Ok(entries)
}
