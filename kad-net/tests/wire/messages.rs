//! Arbitrary messages within the bounds of the core.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use kad_core::summary::{MAX_COMPARED, MAX_MARKS, short};
use kad_core::{
    Announcement, Contact, Difference, Duration, FindValue, Fingerprint, Found, Key, Keypair, Kind,
    MAX_CARD_BYTES, MAX_CLOSER, MAX_RECORDS, MutableVersion, NodeId, Prefix, Record, RecordError, Rejection,
    Request, Response, StoreEntry, UnixTime, Verdict, Want,
};
use proptest::array;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub(crate) use super::network::{NOW, Sockets, codec, rules};

/// The longest life of a record in the default network.
pub(crate) const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

pub(crate) fn keypair(seed: u8) -> Keypair {
    Keypair::from_secret(&[seed; 32])
}

/// Which sockets messages name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
    Both,
}

pub(crate) fn id() -> impl Strategy<Value = NodeId> {
    any::<[u8; 32]>().prop_map(NodeId::from_bytes)
}

pub(crate) fn key() -> impl Strategy<Value = Key> {
    any::<[u8; 32]>().prop_map(Key::from_bytes)
}

pub(crate) fn socket(family: Family) -> BoxedStrategy<SocketAddr> {
    let v4 = (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| (Ipv4Addr::from(ip), port).into());
    // A first byte of 0x20 keeps IPv4 in IPv6 clothes out, which comes back as IPv4.
    let v6 = (any::<[u8; 15]>(), any::<u16>()).prop_map(|(tail, port)| {
        let mut ip = [0x20; 16];
        ip[1..].copy_from_slice(&tail);
        (Ipv6Addr::from(ip), port).into()
    });
    match family {
        Family::V4 => v4.boxed(),
        Family::V6 => v6.boxed(),
        Family::Both => prop_oneof![v4, v6].boxed(),
    }
}

pub(crate) fn address(family: Family) -> impl Strategy<Value = Sockets> {
    vec(socket(family), 1..=4).prop_map(Sockets)
}

pub(crate) fn contacts(family: Family) -> impl Strategy<Value = Vec<Contact<Sockets>>> {
    let contact = (id(), address(family)).prop_map(|(id, address)| Contact::new(id, address));
    vec(contact, 0..=MAX_CLOSER)
}

fn seconds() -> impl Strategy<Value = Duration> {
    (1..=LONGEST.as_secs()).prop_map(Duration::from_secs)
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![9 => vec(any::<u8>(), 0..300), 1 => vec(any::<u8>(), 600..1024)]
}

/// A record of a kind, valid at [`NOW`].
pub(crate) fn record(kind: Kind) -> BoxedStrategy<Record> {
    let parts = (
        payload(),
        seconds(),
        vec(any::<u8>(), 0..=64),
        any::<u64>(),
        1..4u8,
        any::<bool>(),
        key(),
    );
    parts
        .prop_map(move |(payload, life, salt, seq, owner, alive, key)| {
            let issued = NOW;
            let value = alive.then_some(payload.as_slice());
            let expiry = NOW + if alive { life } else { LONGEST };
            let made = match kind {
                Kind::Immutable => Record::immutable(&payload, NOW + life, &rules(), NOW),
                Kind::Mutable => {
                    let version = MutableVersion {
                        salt: &salt,
                        seq,
                        issued,
                        expiry,
                        value,
                    };
                    Record::mutable(&keypair(owner), &version, &rules(), NOW)
                }
                Kind::Provider => {
                    let announcement = Announcement {
                        key,
                        issued,
                        expiry,
                        payload: value,
                    };
                    Record::provider(&keypair(owner), &announcement, &rules(), NOW)
                }
            };
            made.expect("a record within the rules")
        })
        .boxed()
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Immutable), Just(Kind::Mutable), Just(Kind::Provider)]
}

fn want() -> impl Strategy<Value = Want> {
    prop_oneof![Just(Want::Record), Just(Want::Digest)]
}

fn entries() -> impl Strategy<Value = Vec<StoreEntry>> {
    let entry =
        (kind().prop_flat_map(record), option::of(any::<u64>())).prop_map(|(record, expected)| StoreEntry {
            record: Ok(record),
            expected,
        });
    let entry = entry.boxed();
    prop_oneof![9 => vec(entry.clone(), 0..5), 1 => vec(entry, MAX_RECORDS - 4..=MAX_RECORDS)]
}

fn find_value() -> impl Strategy<Value = FindValue> {
    (key(), kind(), want(), any::<u64>(), option::of(id())).prop_map(|(key, kind, want, min_seq, after)| {
        FindValue {
            key,
            kind,
            min_seq,
            after,
            want,
        }
    })
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (any::<u64>(), 0..=64u8).prop_map(|(bits, length)| Prefix::new(bits, length))
}

fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    (any::<u32>(), any::<u128>()).prop_map(|(count, sum)| Fingerprint { count, sum })
}

fn parts() -> impl Strategy<Value = Vec<(Prefix, Fingerprint)>> {
    vec((prefix(), fingerprint()), 0..=MAX_COMPARED)
}

fn difference() -> impl Strategy<Value = Difference> {
    prop_oneof![
        Just(Difference::Same),
        array::uniform16(fingerprint()).prop_map(|parts| Difference::Parts(Box::new(parts))),
        vec(any::<u64>(), 0..=MAX_MARKS / MAX_COMPARED).prop_map(Difference::Listed),
    ]
}

pub(crate) fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Ping),
        (key(), any::<bool>()).prop_map(|(target, card)| Request::FindNode { target, card }),
        find_value().prop_map(Request::FindValue),
        entries().prop_map(|entries| Request::Store { entries }),
        parts().prop_map(|parts| Request::Compare { parts }),
        (prefix(), vec(any::<u64>(), 0..=MAX_RECORDS))
            .prop_map(|(prefix, marks)| Request::Fetch { prefix, marks }),
    ]
}

fn record_error() -> impl Strategy<Value = RecordError> {
    prop_oneof![
        Just(RecordError::Malformed),
        Just(RecordError::UnknownVersion),
        Just(RecordError::UnknownKind),
        Just(RecordError::TooLarge),
        Just(RecordError::WrongKey),
        Just(RecordError::BadSignature),
        Just(RecordError::Expired),
        Just(RecordError::BadLifetime),
        Just(RecordError::FromTheFuture),
        Just(RecordError::Denied),
    ]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Stored),
        Just(Verdict::Unchanged),
        any::<u64>().prop_map(|current| Verdict::Stale { current }),
        any::<u64>().prop_map(|current| Verdict::Conflict { current }),
        Just(Verdict::Full),
        record_error().prop_map(Verdict::Refused),
        Just(Verdict::Failed),
        Just(Verdict::NotNear),
        Just(Verdict::TooOften),
        Just(Verdict::StoresNothing),
    ]
}

/// Providers of one key, as a page of an answer holds them.
fn providers(key: Key) -> impl Strategy<Value = Vec<Found>> {
    vec((1..=255u8, payload(), seconds()), 0..20).prop_map(move |announced| {
        let record = |(seed, payload, life): (u8, Vec<u8>, Duration)| {
            let announcement = Announcement {
                key,
                issued: NOW,
                expiry: NOW + life,
                payload: Some(&payload),
            };
            Record::provider(&keypair(seed), &announcement, &rules(), NOW).expect("within the rules")
        };
        announced
            .into_iter()
            .map(|parts| Found::Record(record(parts)))
            .collect()
    })
}

fn found(kind: Kind) -> BoxedStrategy<(FindValue, Vec<Found>)> {
    let asked = move |key, want, min_seq| FindValue {
        key,
        kind,
        min_seq,
        after: None,
        want,
    };
    let digest = (any::<u64>(), any::<[u8; 32]>()).prop_map(|(seq, digest)| Found::Digest { seq, digest });
    let most = if kind == Kind::Provider { MAX_RECORDS } else { 1 };
    let digests =
        (key(), vec(digest, 0..=most)).prop_map(move |(key, found)| (asked(key, Want::Digest, 0), found));
    let records = match kind {
        Kind::Provider => (key(), option::of(id()))
            .prop_flat_map(|(key, after)| (Just(key), Just(after), providers(key)))
            .prop_map(move |(key, after, mut found)| {
                let asked = FindValue {
                    after,
                    ..asked(key, Want::Record, 0)
                };
                // A page is in order, and names nobody twice.
                found.sort_by_key(|found| turn(&asked, found));
                found.dedup_by_key(|found| turn(&asked, found));
                (asked, found)
            })
            .boxed(),
        Kind::Immutable | Kind::Mutable => record(kind)
            .prop_map(move |record| {
                (
                    asked(record.key(), Want::Record, record.seq()),
                    vec![Found::Record(record)],
                )
            })
            .boxed(),
    };
    prop_oneof![digests, records].boxed()
}

/// Where a record comes in a page.
fn turn(asked: &FindValue, found: &Found) -> Option<(bool, NodeId)> {
    match found {
        Found::Record(record) => Some(asked.turn_of(record.slot().provider)),
        Found::Digest { .. } => None,
    }
}

/// A request, and an answer that may be given to it.
pub(crate) fn exchange(family: Family) -> BoxedStrategy<(Request, Response<Sockets>)> {
    let pong = (any::<u64>(), address(family)).prop_map(|(unix, observed)| {
        let unix = UnixTime::from_secs(unix);
        (Request::Ping, Response::Pong { unix, observed })
    });
    let card = option::of(record(Kind::Mutable));
    let nodes = (key(), card, contacts(family)).prop_map(|(target, card, closer)| {
        let card = card.filter(|card| card.as_bytes().len() <= MAX_CARD_BYTES);
        let target = card.as_ref().map_or(target, Record::key);
        let asked = Request::FindNode {
            target,
            card: card.is_some(),
        };
        (asked, Response::Nodes { closer, card })
    });
    let values = (kind().prop_flat_map(found), option::of(id()), contacts(family)).prop_map(
        |((asked, found), next, closer)| {
            // The next page comes after this one.
            let last = found.last().and_then(|found| turn(&asked, found));
            let next = next.filter(|&next| asked.after != Some(next) && Some(asked.turn_of(next)) >= last);
            (
                Request::FindValue(asked),
                Response::Values { found, next, closer },
            )
        },
    );
    // What was stored does not matter to the answer, only how much.
    let stored = (vec(verdict(), 0..=MAX_RECORDS), contacts(family)).prop_map(|(verdicts, closer)| {
        let record = Record::immutable(b"", NOW + LONGEST, &rules(), NOW);
        let entry = StoreEntry {
            record,
            expected: None,
        };
        let entries = vec![entry; verdicts.len()];
        (Request::Store { entries }, Response::Stored { verdicts, closer })
    });
    let compared = vec((prefix(), fingerprint(), difference()), 0..=MAX_COMPARED).prop_map(|parts| {
        let asked = parts.iter().map(|&(prefix, sum, _)| (prefix, sum)).collect();
        let differences = parts.into_iter().map(|(.., difference)| difference).collect();
        (
            Request::Compare { parts: asked },
            Response::Compared { differences },
        )
    });
    let fetched = vec(vec(any::<u8>(), 0..200), 0..=MAX_RECORDS).prop_map(|values| {
        let record = |value: &Vec<u8>| Record::immutable(value, NOW + LONGEST, &rules(), NOW).unwrap();
        let records: Vec<_> = values.iter().map(record).collect();
        let marks = records
            .iter()
            .map(|record| short(record.as_raw().mark()))
            .collect();
        let prefix = Prefix::ALL;
        (Request::Fetch { prefix, marks }, Response::Fetched { records })
    });
    let rejection = prop_oneof![
        Just(Rejection::Unsupported),
        Just(Rejection::Busy),
        Just(Rejection::Malformed),
        Just(Rejection::ReadOnly),
        Just(Rejection::StoresNothing),
    ];
    let rejected = (request(), rejection).prop_map(|(asked, why)| (asked, Response::Rejected(why)));
    prop_oneof![pong, nodes, values, stored, compared, fetched, rejected].boxed()
}
