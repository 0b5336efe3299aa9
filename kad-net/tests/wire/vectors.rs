//! The test vectors of `docs/protocol.md`: what is printed there is what the codec writes and reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use kad_core::record::{Content, immutable_key, mutable_key};
use kad_core::summary::short;
use kad_core::{
    Announcement, Contact, Difference, FindValue, Fingerprint, Found, Key, Kind, MutableVersion, NetworkId,
    Parameters, Prefix, Record, RecordError, Rejection, Request, Response, StoreEntry, UnixTime, Verdict,
    Want,
};

use kad_net::card::Card;
use kad_net::nat::candidates::{Candidate, CandidateKind};
use kad_net::nat::observation::NatClass;

use super::messages::{LONGEST, NOW, Sockets, codec, keypair, rules};

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).expect("hexadecimal") as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The lines `name = hex` of all blocks with this mark; a line that is indented continues the one before.
pub(crate) fn printed(mark: &str) -> BTreeMap<String, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
    let text = std::fs::read_to_string(path).expect("docs/protocol.md");
    let mut vectors: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line.strip_prefix("```") == Some(mark);
        } else if inside && let Some((name, value)) = line.split_once(" = ") {
            vectors.push((name.trim().into(), value.trim().into()));
        } else if inside && let Some((_, value)) = vectors.last_mut() {
            value.push_str(line.trim());
        }
    }
    let count = vectors.len();
    let vectors: BTreeMap<_, _> = vectors.into_iter().collect();
    assert_eq!(vectors.len(), count, "a name is there twice");
    vectors
}

fn card() -> Record {
    mutable(b"", 3, Some(b"card"))
}

/// What a node behind a NAT says of itself.
fn card_value() -> Vec<u8> {
    let candidate = |kind, address: &str| Candidate {
        address: address.parse().unwrap(),
        kind,
    };
    let card = Card {
        candidates: vec![
            candidate(CandidateKind::Observed, "192.0.2.1:4000"),
            candidate(CandidateKind::Lan, "10.0.0.7:4001"),
        ],
        class: NatClass::EndpointIndependent,
        relays: vec![contact(2, &["192.0.2.2:250", "[2001:db8::2]:251"])],
        serves: false,
    };
    card.encode().unwrap()
}

fn mutable(salt: &[u8], seq: u64, value: Option<&[u8]>) -> Record {
    let version = MutableVersion {
        salt,
        seq,
        issued: NOW,
        expiry: NOW + LONGEST,
        value,
    };
    Record::mutable(&keypair(1), &version, &rules(), NOW).unwrap()
}

fn immutable() -> Record {
    let day = std::time::Duration::from_secs(86_400);
    Record::immutable(b"hello", NOW + day, &rules(), NOW).unwrap()
}

/// The root of a file of 61441 zero bytes: version, level, total, and the keys of its two chunks.
fn file_index() -> Record {
    let mut node = vec![1, 1];
    node.extend(61_441_u64.to_be_bytes());
    for length in [61_440, 1] {
        node.extend(immutable_key(Content::Plain, &vec![0; length]).to_bytes());
    }
    let day = std::time::Duration::from_secs(86_400);
    Record::file_index(&node, NOW + day, &rules(), NOW).unwrap()
}

fn provider(payload: Option<&[u8]>) -> Record {
    let announcement = Announcement {
        key: immutable_key(Content::Plain, b"hello"),
        issued: NOW,
        expiry: NOW + LONGEST,
        payload,
    };
    Record::provider(&keypair(2), &announcement, &rules(), NOW).unwrap()
}

fn contact(seed: u8, sockets: &[&str]) -> Contact<Sockets> {
    let sockets = sockets.iter().map(|text| text.parse().unwrap()).collect();
    Contact::new(keypair(seed).node_id(), Sockets(sockets))
}

fn closer() -> Vec<Contact<Sockets>> {
    vec![
        contact(1, &["192.0.2.1:4000"]),
        contact(2, &["192.0.2.2:250", "[2001:db8::2]:251"]),
    ]
}

fn find(record: &Record) -> FindValue {
    FindValue {
        key: record.key(),
        kind: record.kind(),
        min_seq: 0,
        after: None,
        want: Want::Record,
    }
}

fn entry(record: Record, expected: Option<u64>) -> StoreEntry {
    StoreEntry {
        record: Ok(record),
        expected,
    }
}

fn fingerprint(records: &[Record]) -> Fingerprint {
    let mut sum = Fingerprint::default();
    records.iter().for_each(|record| sum.add(record.as_raw().mark()));
    sum
}

/// Asks about the first half of all keys, of which nothing is held, and a sixteenth of the other one.
fn compare() -> Request {
    let parts = vec![
        (Prefix::new(0, 1), Fingerprint::default()),
        (
            Prefix::new(0x9 << 60, 4),
            fingerprint(&[immutable(), mutable(b"blog", 7, Some(b"post"))]),
        ),
    ];
    Request::Compare { parts }
}

fn fetch() -> Request {
    Request::Fetch {
        prefix: Prefix::ALL,
        marks: vec![short(immutable().as_raw().mark())],
    }
}

/// Each request of the document.
fn requests() -> Vec<(&'static str, bool, Request)> {
    let page = FindValue {
        after: Some(keypair(1).node_id()),
        ..find(&provider(Some(b"here")))
    };
    let newer = FindValue {
        min_seq: 300,
        want: Want::Digest,
        ..find(&mutable(b"blog", 7, None))
    };
    let entries = vec![
        entry(immutable(), None),
        entry(mutable(b"blog", 7, Some(b"post")), Some(6)),
    ];
    vec![
        ("ping", false, Request::Ping),
        ("ping, read-only", true, Request::Ping),
        (
            "find_node",
            false,
            Request::FindNode {
                target: immutable_key(Content::Plain, b"hello"),
                card: false,
            },
        ),
        (
            "find_node with card",
            false,
            Request::FindNode {
                target: card().key(),
                card: true,
            },
        ),
        (
            "find_value, immutable",
            false,
            Request::FindValue(find(&immutable())),
        ),
        ("find_value, mutable digest", false, Request::FindValue(newer)),
        ("find_value, providers", false, Request::FindValue(page)),
        ("store", false, Request::Store { entries }),
        ("compare", false, compare()),
        ("fetch", false, fetch()),
    ]
}

/// Each answer of the document, and what was asked.
fn answers() -> Vec<(&'static str, Request, Response<Sockets>)> {
    let pong = |unix, socket: &str| Response::Pong {
        unix: UnixTime::from_secs(unix),
        observed: contact(1, &[socket]).address,
    };
    let values = |found, next, closer| Response::Values { found, next, closer };
    let target = immutable_key(Content::Plain, b"hello");
    let store = |count| Request::Store {
        entries: vec![entry(immutable(), None); count],
    };
    let verdicts = vec![
        Verdict::Stored,
        Verdict::Unchanged,
        Verdict::Stale { current: 9 },
        Verdict::Conflict { current: 70_000 },
        Verdict::Full,
        Verdict::Refused(RecordError::BadSignature),
        Verdict::Failed,
        Verdict::NotNear,
        Verdict::TooOften,
        Verdict::StoresNothing,
        Verdict::Refused(RecordError::Denied),
    ];
    let blog = mutable(b"blog", 7, Some(b"post"));
    let digest = Found::Digest {
        seq: 7,
        digest: blog.digest(),
    };
    let digests = FindValue {
        want: Want::Digest,
        ..find(&blog)
    };
    let here = provider(Some(b"here"));
    let next = Some(here.slot().provider);
    vec![
        ("pong, IPv4", Request::Ping, pong(1_800_000_000, "192.0.2.1:4000")),
        ("pong, IPv6", Request::Ping, pong(250, "[2001:db8::1]:65535")),
        (
            "nodes",
            Request::FindNode { target, card: false },
            Response::Nodes {
                closer: closer(),
                card: None,
            },
        ),
        (
            "nodes with card",
            Request::FindNode {
                target: card().key(),
                card: true,
            },
            Response::Nodes {
                closer: closer(),
                card: Some(card()),
            },
        ),
        (
            "values, immutable",
            Request::FindValue(find(&immutable())),
            values(vec![Found::Record(immutable())], None, Vec::new()),
        ),
        (
            "values, digest",
            Request::FindValue(digests),
            values(vec![digest], None, closer()),
        ),
        (
            "values, providers",
            Request::FindValue(find(&here)),
            values(vec![Found::Record(here)], next, Vec::new()),
        ),
        (
            "values, none",
            Request::FindValue(find(&blog)),
            values(Vec::new(), None, closer()),
        ),
        (
            "stored",
            store(11),
            Response::Stored {
                verdicts,
                closer: closer(),
            },
        ),
        (
            "compared, same and listed",
            compare(),
            Response::Compared {
                differences: vec![
                    Difference::Same,
                    Difference::Listed(vec![short(immutable().as_raw().mark())]),
                ],
            },
        ),
        (
            "compared, parts",
            Request::Compare {
                parts: vec![(Prefix::ALL, Fingerprint::default())],
            },
            Response::Compared {
                differences: vec![Difference::Parts({
                    let mut parts = [Fingerprint::default(); 16];
                    parts[9] = fingerprint(&[immutable()]);
                    Box::new(parts)
                })],
            },
        ),
        (
            "fetched",
            fetch(),
            Response::Fetched {
                records: vec![immutable()],
            },
        ),
        (
            "rejected, unsupported",
            Request::Ping,
            Response::Rejected(Rejection::Unsupported),
        ),
        (
            "rejected, busy",
            Request::Ping,
            Response::Rejected(Rejection::Busy),
        ),
        (
            "rejected, malformed",
            Request::Ping,
            Response::Rejected(Rejection::Malformed),
        ),
        (
            "rejected, read-only",
            Request::Ping,
            Response::Rejected(Rejection::ReadOnly),
        ),
        (
            "rejected, stores nothing",
            Request::Ping,
            Response::Rejected(Rejection::StoresNothing),
        ),
    ]
}

fn names() -> Vec<(String, String)> {
    let network = NetworkId::new("nautilus", &Parameters::default());
    let mut vectors = vec![("network digest".to_owned(), hex(network.as_bytes()))];
    for seed in [1, 2] {
        let keys = keypair(seed);
        vectors.push((format!("secret {seed}"), hex(&keys.secret())));
        vectors.push((format!("public key {seed}"), hex(keys.public().as_bytes())));
        vectors.push((format!("node id {seed}"), hex(&keys.node_id().to_bytes())));
    }
    let key = |name: &str, key: Key| (name.to_owned(), hex(&key.to_bytes()));
    vectors.extend([
        key(
            "key of the immutable value hello",
            immutable_key(Content::Plain, b"hello"),
        ),
        key("key of the file of zeros", file_index().key()),
        key(
            "key of public key 1 and salt blog",
            mutable_key(&keypair(1).public(), b"blog"),
        ),
        ("value of a card".to_owned(), hex(&card_value())),
    ]);
    vectors
}

fn records() -> Vec<(&'static str, Record)> {
    vec![
        ("record, immutable hello", immutable()),
        ("record, file index", file_index()),
        ("record, mutable blog", mutable(b"blog", 7, Some(b"post"))),
        ("record, mutable tombstone", mutable(b"blog", 8, None)),
        ("record, card", card()),
        ("record, provider", provider(Some(b"here"))),
        ("record, provider withdrawal", provider(None)),
    ]
}

#[test]
fn what_the_document_prints_is_what_the_codec_writes() {
    let mut written = names();
    for (name, record) in records() {
        written.push((name.into(), hex(record.as_bytes())));
    }
    let digest = mutable(b"blog", 7, Some(b"post")).digest();
    written.push(("digest of record, mutable blog".into(), hex(&digest)));
    for (name, read_only, request) in requests() {
        let frame = codec().encode_request(NOW, read_only, &request).unwrap();
        written.push((name.into(), hex(&frame)));
    }
    for (name, _, response) in answers() {
        written.push((
            name.into(),
            hex(&codec().encode_response(NOW, &response).unwrap()),
        ));
    }
    let mut block = String::new();
    for (name, value) in &written {
        writeln!(block, "{name} = {value}").expect("a string takes everything");
    }
    let written: BTreeMap<_, _> = written.into_iter().collect();
    assert_eq!(printed("vectors"), written, "the vectors should be:\n{block}");
}

#[test]
fn what_the_document_prints_is_what_the_codec_reads() {
    let printed = printed("vectors");
    let frame = |name: &str| Bytes::from(unhex(&printed[name]));
    for (name, read_only, request) in requests() {
        let incoming = codec().decode_request(NOW, frame(name)).unwrap();
        assert_eq!(
            (incoming.read_only, incoming.request),
            (read_only, request),
            "{name}"
        );
    }
    for (name, asked, response) in answers() {
        assert_eq!(
            codec().decode_response(NOW, frame(name), &asked),
            Ok(response),
            "{name}"
        );
    }
}

#[test]
fn the_limits_of_the_document_are_those_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
    let text = std::fs::read_to_string(path).expect("docs/protocol.md");
    for (limit, value) in [
        ("frame", format!("{} bytes", kad_net::MAX_FRAME)),
        ("contacts in a message", kad_core::MAX_CLOSER.to_string()),
        ("sockets in an address", kad_net::wire::MAX_SOCKETS.to_string()),
        (
            "records or verdicts in a message",
            kad_core::MAX_RECORDS.to_string(),
        ),
        (
            "bytes of records in a message",
            kad_core::MAX_RECORD_BYTES.to_string(),
        ),
        (
            "value; provider's payload; salt",
            format!(
                "{}; {}; {} bytes",
                kad_core::MAX_VALUE,
                kad_core::record::MAX_PROVIDER_PAYLOAD,
                kad_core::MAX_SALT
            ),
        ),
        (
            "extensions; their bytes",
            format!(
                "{}; {}",
                kad_net::wire::MAX_EXTENSIONS,
                kad_net::wire::MAX_EXTENSION_BYTES
            ),
        ),
        (
            "clocks",
            format!("{} s ahead", kad_core::record::MAX_CLOCK_SKEW.as_secs()),
        ),
    ] {
        let row = format!("| {limit} | {value} |");
        assert!(text.contains(&row), "{row}");
    }
}

#[test]
fn the_kinds_of_records_are_those_of_the_document() {
    let kinds = [Kind::Immutable, Kind::Mutable, Kind::Provider].map(|kind| kind as u8);
    assert_eq!(kinds, [0, 1, 2]);
}
