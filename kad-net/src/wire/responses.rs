//! The bodies of answers, and whether an answer belongs to what was asked.

use bincode::{Decode, Encode};
use bytes::Bytes;
use kad_core::summary::short;
use kad_core::{
    FindValue, Found, ID_BYTES, Kind, MAX_CARD_BYTES, MAX_RECORDS, NodeId, Prefix, RawRecord, Record,
    RecordError, Rejection, Request, Response, UnixTime, Verdict, Want,
};

use super::body::{BodyReader, BodyWriter};
use super::records::{self, RecordBytes, SMALLEST_RECORD};
use super::{Codec, DecodeError, EncodeError, Scope, contacts, kind, summaries};
use crate::WireAddress;

const FOUND_RECORD: u8 = 0;
const FOUND_DIGEST: u8 = 1;

#[derive(Encode, Decode)]
struct DigestBody {
    seq: u64,
    digest: [u8; ID_BYTES],
}

/// One shape for all verdicts, so that one that we do not know can still be read over.
#[derive(Encode, Decode)]
struct VerdictBody {
    code: u8,
    /// The current version (stale, conflict), the reason (refused), else zero.
    detail: u64,
}

/// Bytes of the smallest verdict on the wire.
const SMALLEST_VERDICT: usize = 2;

impl From<&Verdict> for VerdictBody {
    fn from(verdict: &Verdict) -> Self {
        let (code, detail) = match *verdict {
            Verdict::Stored => (0, 0),
            Verdict::Unchanged => (1, 0),
            Verdict::Stale { current } => (2, current),
            Verdict::Conflict { current } => (3, current),
            Verdict::Full => (4, 0),
            Verdict::Refused(error) => (5, record_error_to_number(error)),
            Verdict::NotNear => (7, 0),
            Verdict::TooOften => (8, 0),
            Verdict::StoresNothing => (9, 0),
            // Unknown here means newer in the core than in this codec: no acknowledgement is the safe thing to say.
            _ => (6, 0),
        };
        Self { code, detail }
    }
}

impl From<VerdictBody> for Verdict {
    fn from(VerdictBody { code, detail }: VerdictBody) -> Self {
        match code {
            0 => Self::Stored,
            1 => Self::Unchanged,
            2 => Self::Stale { current: detail },
            3 => Self::Conflict { current: detail },
            4 => Self::Full,
            5 => Self::Refused(record_error_from_number(detail)),
            7 => Self::NotNear,
            8 => Self::TooOften,
            9 => Self::StoresNothing,
            _ => Self::Failed,
        }
    }
}

const fn record_error_to_number(error: RecordError) -> u64 {
    match error {
        RecordError::UnknownVersion => 1,
        RecordError::UnknownKind => 2,
        RecordError::TooLarge => 3,
        RecordError::WrongKey => 4,
        RecordError::BadSignature => 5,
        RecordError::Expired => 6,
        RecordError::BadLifetime => 7,
        RecordError::FromTheFuture => 8,
        RecordError::Denied => 9,
        _ => 0,
    }
}

const fn record_error_from_number(number: u64) -> RecordError {
    match number {
        1 => RecordError::UnknownVersion,
        2 => RecordError::UnknownKind,
        3 => RecordError::TooLarge,
        4 => RecordError::WrongKey,
        5 => RecordError::BadSignature,
        6 => RecordError::Expired,
        7 => RecordError::BadLifetime,
        8 => RecordError::FromTheFuture,
        9 => RecordError::Denied,
        _ => RecordError::Malformed,
    }
}

const fn rejection_to_number(rejection: Rejection) -> u8 {
    match rejection {
        Rejection::Busy => 1,
        Rejection::Malformed => 2,
        Rejection::ReadOnly => 3,
        Rejection::StoresNothing => 4,
        _ => 0,
    }
}

const fn rejection_from_number(number: u8) -> Rejection {
    match number {
        1 => Rejection::Busy,
        2 => Rejection::Malformed,
        3 => Rejection::ReadOnly,
        4 => Rejection::StoresNothing,
        _ => Rejection::Unsupported,
    }
}

pub(super) const fn kind<A>(response: &Response<A>) -> u8 {
    match response {
        Response::Pong { .. } => kind::PONG,
        Response::Nodes { .. } => kind::NODES,
        Response::Values { .. } => kind::VALUES,
        Response::Stored { .. } => kind::STORED,
        Response::Compared { .. } => kind::COMPARED,
        Response::Fetched { .. } => kind::FETCHED,
        Response::Rejected(_) => kind::REJECTED,
    }
}

pub(super) fn size_hint<A: WireAddress>(response: &Response<A>) -> usize {
    match response {
        Response::Pong { .. } => 9 + 1 + 20 * contacts::MAX_SOCKETS,
        Response::Nodes { closer, card } => {
            contacts::size_hint(closer) + card.as_ref().map_or(0, records::size_hint)
        }
        Response::Values { found, closer, .. } => {
            let found_bytes = |found: &Found| match found {
                Found::Record(record) => 1 + records::size_hint(record),
                Found::Digest { .. } => 1 + 9 + ID_BYTES,
            };
            1 + found.iter().map(found_bytes).sum::<usize>() + 1 + ID_BYTES + contacts::size_hint(closer)
        }
        Response::Stored { verdicts, closer } => 1 + 10 * verdicts.len() + contacts::size_hint(closer),
        Response::Compared { differences } => summaries::differences_size_hint(differences),
        Response::Fetched { records } => 1 + records.iter().map(records::size_hint).sum::<usize>(),
        Response::Rejected(_) => 1,
    }
}

pub(super) fn write<A: WireAddress>(
    body: &mut BodyWriter,
    now: UnixTime,
    response: &Response<A>,
) -> Result<(), EncodeError> {
    match response {
        Response::Pong { unix, observed } => {
            body.value(&unix.as_secs())?;
            contacts::write_address(body, observed)
        }
        Response::Nodes { closer, .. } => contacts::write(body, closer),
        Response::Values { found, next, closer } => {
            write_found(body, now, found)?;
            body.value(&next.map(NodeId::to_bytes))?;
            contacts::write(body, closer)
        }
        Response::Stored { verdicts, closer } => {
            if verdicts.len() > MAX_RECORDS {
                return Err(EncodeError::TooManyRecords);
            }
            body.count(verdicts.len())?;
            for verdict in verdicts {
                body.value(&VerdictBody::from(verdict))?;
            }
            contacts::write(body, closer)
        }
        Response::Compared { differences } => summaries::write_differences(body, differences),
        Response::Fetched { records } => write_fetched(body, now, records),
        Response::Rejected(rejection) => body.value(&rejection_to_number(*rejection)),
    }
}

/// The bytes of the card that an answer carries, unless its life has ended.
pub(super) fn card<A>(now: UnixTime, response: &Response<A>) -> Result<Option<&[u8]>, EncodeError> {
    let Response::Nodes { card: Some(card), .. } = response else {
        return Ok(None);
    };
    match card.as_bytes().len() {
        ..=MAX_CARD_BYTES => Ok((card.expiry() > now).then_some(card.as_bytes())),
        _ => Err(EncodeError::TooManyRecordBytes),
    }
}

/// The card of the node whose id was asked for; `None` if it was not wanted.
pub(super) fn read_card(
    codec: &Codec,
    now: UnixTime,
    bytes: Bytes,
    asked: &Request,
) -> Result<Option<Record>, DecodeError> {
    let Request::FindNode { target, card: true } = *asked else {
        return Ok(None);
    };
    if bytes.len() > MAX_CARD_BYTES {
        return Err(DecodeError::TooManyRecordBytes);
    }
    // A signed record says itself when it ends.
    let raw = RawRecord::parse(bytes, now).map_err(DecodeError::Record)?;
    if raw.kind() != Kind::Mutable {
        return Err(DecodeError::WrongRecordKind);
    }
    let card = Record::verify(raw, codec.rules(), now).map_err(DecodeError::Record)?;
    match card.key() == target {
        true => Ok(Some(card)),
        false => Err(DecodeError::Record(RecordError::WrongKey)),
    }
}

fn write_fetched(body: &mut BodyWriter, now: UnixTime, records: &[Record]) -> Result<(), EncodeError> {
    let alive = |record: &&Record| record.expiry() > now;
    let count = records.iter().filter(alive).count();
    if count > MAX_RECORDS {
        return Err(EncodeError::TooManyRecords);
    }
    body.count(count)?;
    let mut bytes = RecordBytes::default();
    records
        .iter()
        .filter(alive)
        .try_for_each(|record| bytes.write(body, now, record))
}

fn write_found(body: &mut BodyWriter, now: UnixTime, found: &[Found]) -> Result<(), EncodeError> {
    // A record may end between the look into the store and here; sent all the same, it would look like a lie.
    let alive = |found: &&Found| match found {
        Found::Record(record) => record.expiry() > now,
        Found::Digest { .. } => true,
    };
    let count = found.iter().filter(alive).count();
    if count > MAX_RECORDS {
        return Err(EncodeError::TooManyRecords);
    }
    body.count(count)?;
    let mut bytes = RecordBytes::default();
    for found in found.iter().filter(alive) {
        match found {
            Found::Record(record) => {
                body.value(&FOUND_RECORD)?;
                bytes.write(body, now, record)?;
            }
            &Found::Digest { seq, digest } => {
                body.value(&FOUND_DIGEST)?;
                body.value(&DigestBody { seq, digest })?;
            }
        }
    }
    Ok(())
}

pub(super) fn read<A: WireAddress>(
    codec: &Codec,
    now: UnixTime,
    frame: &Bytes,
    kind: u8,
    body: &mut BodyReader<'_>,
    asked: &Request,
) -> Result<Response<A>, DecodeError> {
    match (kind, asked) {
        (kind::PONG, Request::Ping) => {
            let unix = UnixTime::from_secs(body.value()?);
            // Where we are seen is no contact to dial; it may well be private.
            let observed = contacts::read_address(body, Scope::Any)?.ok_or(DecodeError::BadAddress)?;
            Ok(Response::Pong { unix, observed })
        }
        (kind::NODES, Request::FindNode { .. }) => {
            let closer = contacts::read(codec, body)?;
            let card = None; // An extension, read when the body ends.
            Ok(Response::Nodes { closer, card })
        }
        (kind::VALUES, Request::FindValue(asked)) => read_values(codec, now, frame, body, asked),
        (kind::STORED, Request::Store { entries }) => {
            let count = body.count("verdicts", MAX_RECORDS, SMALLEST_VERDICT)?;
            if count != entries.len() {
                return Err(DecodeError::WrongVerdicts);
            }
            let mut verdicts = Vec::with_capacity(count);
            for _ in 0..count {
                verdicts.push(body.value::<VerdictBody>()?.into());
            }
            let closer = contacts::read(codec, body)?;
            Ok(Response::Stored { verdicts, closer })
        }
        (kind::COMPARED, Request::Compare { parts }) => {
            let differences = summaries::read_differences(body, parts.len())?;
            Ok(Response::Compared { differences })
        }
        (kind::FETCHED, Request::Fetch { prefix, marks }) => {
            let records = read_fetched(codec, now, frame, body, (*prefix, marks))?;
            Ok(Response::Fetched { records })
        }
        (kind::REJECTED, _) => Ok(Response::Rejected(rejection_from_number(body.value()?))),
        (known @ kind::PONG..=kind::FETCHED, _) => Err(DecodeError::UnexpectedAnswer(known)),
        (unknown, _) => Err(DecodeError::UnknownKind(unknown)),
    }
}

/// The records that were asked for. One that does not verify here, because clocks differ, say, does not spoil the
/// others.
fn read_fetched(
    codec: &Codec,
    now: UnixTime,
    frame: &Bytes,
    body: &mut BodyReader<'_>,
    (prefix, marks): (Prefix, &[u64]),
) -> Result<Vec<Record>, DecodeError> {
    let count = body.count("records", marks.len().min(MAX_RECORDS), SMALLEST_RECORD)?;
    let mut records = Vec::with_capacity(count);
    let mut bytes = RecordBytes::default();
    for _ in 0..count {
        if let Ok(record) = bytes.read(codec, now, frame, body)?
            && prefix.contains(record.key())
            && marks.contains(&short(record.as_raw().mark()))
        {
            records.push(record);
        }
    }
    Ok(records)
}

fn read_values<A: WireAddress>(
    codec: &Codec,
    now: UnixTime,
    frame: &Bytes,
    body: &mut BodyReader<'_>,
    asked: &FindValue,
) -> Result<Response<A>, DecodeError> {
    let most = match asked.kind {
        Kind::Provider => MAX_RECORDS,
        Kind::Immutable | Kind::Mutable => 1,
    };
    let count = body.count("records", most, 1 + SMALLEST_RECORD)?;
    let mut found = Vec::with_capacity(count);
    let mut bytes = RecordBytes::default();
    let mut last = None;
    for _ in 0..count {
        found.push(match (body.value::<u8>()?, asked.want) {
            (FOUND_RECORD, Want::Record) => {
                let record = bytes
                    .read(codec, now, frame, body)?
                    .map_err(DecodeError::Record)?;
                check_asked(&record, asked)?;
                if record.kind() == Kind::Provider {
                    let turn = asked.turn_of(record.slot().provider);
                    if last.replace(turn).is_some_and(|last| turn <= last) {
                        return Err(DecodeError::WrongPage);
                    }
                }
                Found::Record(record)
            }
            (FOUND_DIGEST, Want::Digest) => {
                let DigestBody { seq, digest } = body.value()?;
                if seq < asked.min_seq && asked.kind == Kind::Mutable {
                    return Err(DecodeError::OldVersion);
                }
                Found::Digest { seq, digest }
            }
            (FOUND_RECORD | FOUND_DIGEST, _) => return Err(DecodeError::WrongForm),
            _ => return Err(DecodeError::UnknownValue("form of record")),
        });
    }
    let next = body.value::<Option<[u8; ID_BYTES]>>()?.map(NodeId::from_bytes);
    // All the way round there is nothing more.
    if let Some(next) = next
        && (asked.after == Some(next) || last.is_some_and(|last| asked.turn_of(next) < last))
    {
        return Err(DecodeError::WrongPage);
    }
    let closer = contacts::read(codec, body)?;
    Ok(Response::Values { found, next, closer })
}

/// A record that proves itself can still be another one than was asked for.
fn check_asked(record: &Record, asked: &FindValue) -> Result<(), DecodeError> {
    if record.kind() != asked.kind {
        return Err(DecodeError::WrongRecordKind);
    }
    if record.key() != asked.key {
        return Err(DecodeError::Record(RecordError::WrongKey));
    }
    if record.kind() == Kind::Mutable && record.seq() < asked.min_seq {
        return Err(DecodeError::OldVersion);
    }
    Ok(())
}
