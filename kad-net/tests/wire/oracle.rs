//! Another implementation of the same encoding writes and reads the same bytes.
//!
//! `wincode` with variable-length integers is byte-compatible with bincode's standard configuration. Its tuples mirror
//! each message here, from the words of `docs/protocol.md` and not from the codec's own types.

use bytes::Bytes;
use kad_core::{
    Contact, Difference, FindValue, Fingerprint, Found, Kind, Prefix, Record, RecordError, Rejection,
    Request, Response, Verdict, Want,
};
use proptest::prelude::*;
use wincode::config::Configuration;

use super::messages::{Family, NOW, Sockets, codec, exchange, request};

type Extensions = Vec<(u16, Vec<u8>)>;
type V4 = (u32, [u8; 4], u16);
type V6 = (u32, [u8; 16], u16);
type WireRecord = (u64, Vec<u8>);
type Id = [u8; 32];
type WirePrefix = (u64, u8);
type WireFingerprint = (u32, [u8; 16]);
type Contacts<S> = Vec<(Id, Vec<S>)>;
type Values<F> = (Vec<(u8, F)>, Option<Id>, Contacts<V4>, Extensions);
type FindValueBody = ([u8; 32], u8, u8, u64, Option<[u8; 32]>);

macro_rules! oracle {
    ($frame:expr, $ty:ty, $value:expr) => {{
        let config = Configuration::default().with_varint_encoding();
        let (frame, value): (&Bytes, $ty) = ($frame, $value);
        let written = wincode::config::serialize(&value, config).expect("wincode writes");
        prop_assert_eq!(&frame[3..], &written, "written");
        let read: $ty = wincode::config::deserialize_exact(&frame[3..], config).expect("wincode reads");
        prop_assert_eq!(read, value, "read");
    }};
}

/// The contacts of a message whose sockets are all of one family.
fn contacts<S>(closer: &[Contact<Sockets>], socket: impl Fn(&std::net::SocketAddr) -> S) -> Contacts<S> {
    let contact = |contact: &Contact<Sockets>| {
        (
            contact.id.to_bytes(),
            contact.address.0.iter().map(&socket).collect(),
        )
    };
    closer.iter().map(contact).collect()
}

fn v4(socket: &std::net::SocketAddr) -> V4 {
    match socket.ip() {
        std::net::IpAddr::V4(ip) => (0, ip.octets(), socket.port()),
        std::net::IpAddr::V6(ip) => panic!("{ip} is no IPv4 address"),
    }
}

fn v6(socket: &std::net::SocketAddr) -> V6 {
    match socket.ip() {
        std::net::IpAddr::V6(ip) => (1, ip.octets(), socket.port()),
        std::net::IpAddr::V4(ip) => panic!("{ip} is no IPv6 address"),
    }
}

fn record(record: &Record) -> WireRecord {
    let remaining = match record.kind() {
        Kind::Immutable => record.expiry().as_secs() - NOW.as_secs(),
        Kind::Mutable | Kind::Provider => 0,
    };
    (remaining, record.as_bytes().to_vec())
}

fn find_value(find: &FindValue) -> FindValueBody {
    let want = u8::from(find.want == Want::Digest);
    (
        find.key.to_bytes(),
        find.kind as u8,
        want,
        find.min_seq,
        find.after.map(kad_core::NodeId::to_bytes),
    )
}

fn prefix(prefix: Prefix) -> WirePrefix {
    (prefix.bits(), prefix.len())
}

fn fingerprint(fingerprint: Fingerprint) -> WireFingerprint {
    (fingerprint.count, fingerprint.sum.to_be_bytes())
}

fn big_endian(marks: &[u64]) -> Vec<[u8; 8]> {
    marks.iter().map(|mark| mark.to_be_bytes()).collect()
}

fn verdict(verdict: &Verdict) -> (u8, u64) {
    match *verdict {
        Verdict::Stored => (0, 0),
        Verdict::Unchanged => (1, 0),
        Verdict::Stale { current } => (2, current),
        Verdict::Conflict { current } => (3, current),
        Verdict::Full => (4, 0),
        Verdict::Refused(RecordError::Malformed) => (5, 0),
        Verdict::Refused(RecordError::UnknownVersion) => (5, 1),
        Verdict::Refused(RecordError::UnknownKind) => (5, 2),
        Verdict::Refused(RecordError::TooLarge) => (5, 3),
        Verdict::Refused(RecordError::WrongKey) => (5, 4),
        Verdict::Refused(RecordError::BadSignature) => (5, 5),
        Verdict::Refused(RecordError::Expired) => (5, 6),
        Verdict::Refused(RecordError::BadLifetime) => (5, 7),
        Verdict::Refused(RecordError::FromTheFuture) => (5, 8),
        Verdict::Refused(RecordError::Denied) => (5, 9),
        Verdict::NotNear => (7, 0),
        Verdict::TooOften => (8, 0),
        Verdict::StoresNothing => (9, 0),
        _ => (6, 0),
    }
}

fn rejection(rejection: Rejection) -> u8 {
    match rejection {
        Rejection::Busy => 1,
        Rejection::Malformed => 2,
        Rejection::ReadOnly => 3,
        Rejection::StoresNothing => 4,
        _ => 0,
    }
}

fn none() -> Extensions {
    Vec::new()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn requests_have_the_same_bytes(request in request()) {
        let frame = codec().encode_request(NOW, false, &request).unwrap();
        match &request {
            Request::Ping => oracle!(&frame, (Extensions,), (none(),)),
            Request::FindNode { target, card } => {
                let extensions = if *card { vec![(1, Vec::new())] } else { none() };
                oracle!(&frame, ([u8; 32], Extensions), (target.to_bytes(), extensions));
            }
            Request::FindValue(find) => {
                oracle!(&frame, (FindValueBody, Extensions), (find_value(find), none()));
            }
            Request::Store { entries } => {
                let entries = entries
                    .iter()
                    .map(|entry| (record(entry.record.as_ref().unwrap()), entry.expected))
                    .collect();
                oracle!(&frame, (Vec<(WireRecord, Option<u64>)>, Extensions), (entries, none()));
            }
            Request::Compare { parts } => {
                let parts = parts
                    .iter()
                    .map(|&(at, sum)| (prefix(at), fingerprint(sum)))
                    .collect();
                oracle!(&frame, (Vec<(WirePrefix, WireFingerprint)>, Extensions), (parts, none()));
            }
            Request::Fetch { prefix: at, marks } => {
                oracle!(&frame, (WirePrefix, Vec<[u8; 8]>, Extensions), (prefix(*at), big_endian(marks), none()));
            }
        }
    }

    #[test]
    fn answers_have_the_same_bytes((_, response) in exchange(Family::V4)) {
        let frame = codec().encode_response(NOW, &response).unwrap();
        match &response {
            Response::Pong { unix, observed } => {
                let observed = observed.0.iter().map(v4).collect();
                oracle!(&frame, (u64, Vec<V4>, Extensions), (unix.as_secs(), observed, none()));
            }
            Response::Nodes { closer, card } => {
                let extensions = card.iter().map(|card| (1, card.as_bytes().to_vec())).collect();
                oracle!(&frame, (Contacts<V4>, Extensions), (contacts(closer, v4), extensions));
            }
            Response::Values { found, next, closer } => {
                let next = next.map(kad_core::NodeId::to_bytes);
                let closer = contacts(closer, v4);
                // Records or digests, never both.
                if found.iter().all(|found| matches!(found, Found::Record(_))) {
                    let found = found.iter().filter_map(|found| match found {
                        Found::Record(found) => Some((0, record(found))),
                        Found::Digest { .. } => None,
                    });
                    oracle!(
                        &frame,
                        Values<WireRecord>,
                        (found.collect(), next, closer, none())
                    );
                } else {
                    let found = found.iter().filter_map(|found| match found {
                        Found::Digest { seq, digest } => Some((1, (*seq, *digest))),
                        Found::Record(_) => None,
                    });
                    oracle!(
                        &frame,
                        Values<(u64, Id)>,
                        (found.collect(), next, closer, none())
                    );
                }
            }
            Response::Compared { differences } => {
                // Their forms differ in shape, so they are written one by one.
                let config = Configuration::default().with_varint_encoding();
                let mut written = wincode::config::serialize(&(differences.len() as u64), config).unwrap();
                for difference in differences {
                    written.extend(match difference {
                        Difference::Same => vec![0],
                        Difference::Parts(parts) => {
                            let parts = (1u8, (**parts).map(fingerprint));
                            wincode::config::serialize(&parts, config).unwrap()
                        }
                        Difference::Listed(marks) => {
                            wincode::config::serialize(&(2u8, big_endian(marks)), config).unwrap()
                        }
                    });
                }
                written.push(0);
                prop_assert_eq!(&frame[3..], &written);
            }
            Response::Fetched { records } => {
                let records = records.iter().map(record).collect();
                oracle!(&frame, (Vec<WireRecord>, Extensions), (records, none()));
            }
            Response::Stored { verdicts, closer } => {
                let verdicts = verdicts.iter().map(verdict).collect();
                oracle!(
                    &frame,
                    (Vec<(u8, u64)>, Contacts<V4>, Extensions),
                    (verdicts, contacts(closer, v4), none())
                );
            }
            Response::Rejected(why) => oracle!(&frame, (u8, Extensions), (rejection(*why), none())),
        }
    }

    #[test]
    fn contacts_of_the_other_family_have_the_same_bytes(closer in super::messages::contacts(Family::V6)) {
        let mirrored = contacts(&closer, v6);
        let frame = codec().encode_response(NOW, &Response::Nodes { closer, card: None }).unwrap();
        oracle!(&frame, (Contacts<V6>, Extensions), (mirrored, none()));
    }
}
