//! Records that are none: each entry of a STORE gets its verdict, and none of the bad ones is ever served.

use std::time::Duration;

use bytes::Bytes;
use kad_core::{
    FindValue, Key, Keypair, MutableVersion, NetworkId, Parameters, Record, RecordError, Request, Response,
    Rules, StoreEntry, UnixTime, Verdict, Want,
};
use kad_net::quic::{QuicAddress, QuicTransport};
use kad_net::wire::{Codec, Scope};
use nix::sys::signal::Signal;

use super::attackers::{answer_to, frame, key, member, now, rules, target};
use crate::process::Daemon;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A version of the record that an owner has under a salt.
fn version(owner: &Keypair, seq: u64, issued: UnixTime, life: Duration, rules: &Rules) -> Record {
    let version = MutableVersion {
        salt: b"salt",
        seq,
        issued,
        expiry: issued + life,
        value: Some(b"value"),
    };
    Record::mutable(owner, &version, rules, issued).unwrap()
}

fn entry(record: Record) -> StoreEntry {
    StoreEntry {
        record: Ok(record),
        expected: None,
    }
}

fn store(entries: Vec<StoreEntry>) -> Request {
    Request::Store { entries }
}

/// The frame with one byte of a record in it changed, counted from the end of the record.
fn damaged(frame: &Bytes, record: &Record, from_the_end: usize) -> Bytes {
    let (mut bytes, inside) = (frame.to_vec(), record.as_bytes());
    let at = bytes
        .windows(inside.len())
        .position(|window| window == &inside[..])
        .unwrap();
    bytes[at + inside.len() - from_the_end] ^= 1;
    bytes.into()
}

/// The verdicts on a frame that should be a STORE of so many records.
async fn verdicts(
    attacker: &QuicTransport,
    to: &kad_core::Contact<QuicAddress>,
    sent: Bytes,
    asked: &Request,
) -> Vec<Verdict> {
    match answer_to(attacker, to, sent, asked).await {
        Response::Stored { verdicts, .. } => verdicts,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bad_records_are_refused_by_name_and_never_served() {
    let daemon = Daemon::start::<&str>(&[]);
    let (attacker, to) = (member(1), target(&daemon));
    let refused = Verdict::Refused;
    let other_network = Rules::new(
        NetworkId::new("elsewhere", &Parameters::default()),
        &Parameters::default(),
    );
    let longer = Parameters {
        max_lifetime: 30 * DAY,
        ..Parameters::default()
    };
    let patient = Rules::new(super::attackers::network(), &longer);
    let (now, rules) = (now(), rules());
    let ago = UnixTime::from_secs(now.as_secs() - 2 * DAY.as_secs());
    let cases = [
        (
            "expired",
            version(&key(11), 1, ago, DAY, &rules),
            RecordError::Expired,
        ),
        (
            "of the future",
            version(&key(12), 1, now + DAY / 24, DAY, &rules),
            RecordError::FromTheFuture,
        ),
        (
            "of another network",
            version(&key(13), 1, now, DAY, &other_network),
            RecordError::BadSignature,
        ),
        (
            "too long a life",
            version(&key(14), 1, now, 8 * DAY, &patient),
            RecordError::BadLifetime,
        ),
    ];
    let mut keys: Vec<Key> = Vec::new();
    for (what, record, error) in cases {
        keys.push(record.key());
        let asked = store(vec![entry(record)]);
        let sent = Codec::new(rules, Scope::Any)
            .encode_request(now, false, &asked)
            .unwrap();
        assert_eq!(
            verdicts(&attacker, &to, sent, &asked).await,
            [refused(error)],
            "{what}"
        );
    }

    // A changed signature, and a changed value.
    for from_the_end in [1, 64, 65] {
        let record = version(&key(15), 1, now, DAY, &rules);
        keys.push(record.key());
        let asked = store(vec![entry(record.clone())]);
        let sent = damaged(&frame(&asked), &record, from_the_end);
        let verdicts = verdicts(&attacker, &to, sent, &asked).await;
        assert_eq!(verdicts, [refused(RecordError::BadSignature)], "{from_the_end}");
    }

    // One bad entry spoils no other.
    let (good, bad) = (
        version(&key(16), 1, now, DAY, &rules),
        version(&key(17), 1, now, DAY, &rules),
    );
    let asked = store(vec![entry(good.clone()), entry(bad.clone()), entry(good.clone())]);
    let sent = damaged(&frame(&asked), &bad, 1);
    let said = verdicts(&attacker, &to, sent, &asked).await;
    assert_eq!(said.len(), 3);
    assert_eq!(
        (said[0], said[1]),
        (Verdict::Stored, refused(RecordError::BadSignature))
    );
    assert!(said[2].is_acknowledgement(), "{said:?}");
    keys.push(bad.key());

    for key in keys {
        assert_eq!(held(&attacker, &to, key).await, None, "a bad record is served");
    }
    assert_eq!(held(&attacker, &to, good.key()).await, Some(1));

    let last = daemon.stop(Signal::SIGTERM).1;
    for (reason, count) in [
        ("expired", 1),
        ("future", 1),
        ("bad_lifetime", 1),
        // Of another network, changed three times, and one among good ones.
        ("forged", 5),
        ("malformed", 0),
    ] {
        assert_eq!(last["refused"][reason], count, "{reason} in {last}");
    }
    assert_eq!(last["stored"], 2);
}

/// A STORE of one record of these bytes, as no node would send it.
fn store_of(record: &[u8]) -> Bytes {
    let length = u16::try_from(record.len()).unwrap().to_le_bytes();
    let header = [1, 4, 0, 1, 0, 251, length[0], length[1]];
    [&header, record, &[0, 0]].concat().into()
}

#[tokio::test]
async fn what_is_too_large_or_no_record_at_all_is_refused_by_name_and_counted() {
    let daemon = Daemon::start::<&str>(&[]);
    let (attacker, to) = (member(1), target(&daemon));
    let announced = |payload: usize| {
        let (now, provider) = (now().as_secs(), key(31));
        let (issued, expiry) = (now.to_be_bytes(), (now + 60).to_be_bytes());
        let public = provider.public();
        let parts = [
            &[1, 2, 0][..],
            public.as_bytes(),
            &issued,
            &expiry,
            &[7; 32],
            &vec![9; payload],
            &[0; 64],
        ];
        parts.concat()
    };
    for (what, record, error) in [
        (
            "a payload of 1,025 bytes",
            announced(1_025),
            RecordError::TooLarge,
        ),
        (
            "one of 1,024 that is not signed",
            announced(1_024),
            RecordError::BadSignature,
        ),
        ("a later layout", vec![9, 0, 0, 1], RecordError::UnknownVersion),
        ("an unknown kind", vec![1, 9, 0, 1], RecordError::UnknownKind),
        ("nothing", vec![], RecordError::Malformed),
    ] {
        let asked = store(vec![entry(version(&key(32), 1, now(), DAY, &rules()))]);
        let verdicts = verdicts(&attacker, &to, store_of(&record), &asked).await;
        assert_eq!(verdicts, [Verdict::Refused(error)], "{what}");
    }
    let last = daemon.stop(Signal::SIGTERM).1;
    for (reason, count) in [("too_large", 1), ("forged", 1), ("malformed", 3)] {
        assert_eq!(last["refused"][reason], count, "{reason} in {last}");
    }
}

#[tokio::test]
async fn versions_that_follow_each_other_too_fast_are_refused_by_name_and_counted() {
    let daemon = Daemon::start::<&str>(&[]);
    let (attacker, to, owner) = (member(1), target(&daemon), key(41));
    let entries = (1..=40).map(|seq| entry(version(&owner, seq, now(), DAY, &rules())));
    let asked = store(entries.collect());
    let said = verdicts(&attacker, &to, frame(&asked), &asked).await;
    assert_eq!(said[..16], [Verdict::Stored; 16]);
    assert_eq!(said[16..], [Verdict::TooOften; 24]);
    assert_eq!(
        held(
            &attacker,
            &to,
            kad_core::record::mutable_key(&owner.public(), b"salt")
        )
        .await,
        Some(16)
    );
    // Nobody else has to wait.
    let asked = store(vec![entry(version(&key(42), 1, now(), DAY, &rules()))]);
    assert_eq!(
        verdicts(&attacker, &to, frame(&asked), &asked).await,
        [Verdict::Stored]
    );
    let last = daemon.stop(Signal::SIGTERM).1;
    assert_eq!(last["refused"]["too_often"], 24, "{last}");
}

#[tokio::test]
async fn versions_go_forward_only() {
    let daemon = Daemon::start::<&str>(&[]);
    let (attacker, to, owner) = (member(1), target(&daemon), key(21));
    let (now, rules) = (now(), rules());
    for (seq, expected, verdict) in [
        (5, None, Verdict::Stored),
        (5, None, Verdict::Unchanged),
        (4, None, Verdict::Stale { current: 5 }),
        (6, Some(4), Verdict::Conflict { current: 5 }),
        (u64::MAX, None, Verdict::Stored),
        (6, None, Verdict::Stale { current: u64::MAX }),
    ] {
        let record = version(&owner, seq, now, DAY, &rules);
        let asked = store(vec![StoreEntry {
            record: Ok(record),
            expected,
        }]);
        assert_eq!(
            verdicts(&attacker, &to, frame(&asked), &asked).await,
            [verdict],
            "{seq}"
        );
    }
    let last = daemon.stop(Signal::SIGTERM).1;
    assert_eq!(
        (&last["refused"]["stale"], &last["refused"]["conflict"]),
        (&2.into(), &1.into()),
        "{last}"
    );
}

/// The version that the daemon serves of a mutable record.
async fn held(attacker: &QuicTransport, to: &kad_core::Contact<QuicAddress>, key: Key) -> Option<u64> {
    let kind = kad_core::Kind::Mutable;
    let asked = Request::FindValue(FindValue {
        key,
        kind,
        min_seq: 0,
        after: None,
        want: Want::Record,
    });
    match answer_to(attacker, to, frame(&asked), &asked).await {
        Response::Values { found, .. } => found.first().map(|found| match found {
            kad_core::Found::Record(record) => record.seq(),
            kad_core::Found::Digest { seq, .. } => *seq,
        }),
        other => panic!("{other:?}"),
    }
}
