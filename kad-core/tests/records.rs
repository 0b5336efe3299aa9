//! Records: what is made verifies, what was tampered with does not, and all nodes agree on which of two wins.

use std::cmp::Ordering;

use bytes::Bytes;
use kad_core::record::{MAX_PROVIDER_PAYLOAD, judge, precedence};
use kad_core::{
    Announcement, Duration, Key, Keypair, Kind, MAX_RECORD, MAX_SALT, MAX_VALUE, MutableVersion, NetworkId,
    Parameters, RawRecord, Record, RecordError, Rules, UnixTime, Verdict,
};
use proptest::prelude::*;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn rules_of(name: &str) -> Rules {
    let parameters = Parameters::default();
    Rules::new(NetworkId::new(name, &parameters), &parameters)
}

fn rules() -> Rules {
    rules_of("records")
}

fn owner(number: u8) -> Keypair {
    Keypair::from_secret(&[number; 32])
}

fn version(seq: u64, value: Option<&[u8]>) -> MutableVersion<'_> {
    MutableVersion {
        salt: b"salt",
        seq,
        issued: NOW,
        expiry: NOW + if value.is_some() { DAY } else { WEEK },
        value,
    }
}

fn mutable(seq: u64, value: Option<&[u8]>) -> Record {
    Record::mutable(&owner(1), &version(seq, value), &rules(), NOW).expect("a fair record")
}

fn announcement(payload: Option<&[u8]>) -> Announcement<'_> {
    Announcement {
        key: Key::from_limbs([1, 2, 3, 4]),
        issued: NOW,
        expiry: NOW + if payload.is_some() { DAY } else { WEEK },
        payload,
    }
}

fn provider(payload: Option<&[u8]>) -> Record {
    Record::provider(&owner(2), &announcement(payload), &rules(), NOW).expect("a fair record")
}

fn immutable(value: &[u8]) -> Record {
    Record::immutable(value, NOW + DAY, &rules(), NOW).expect("a fair record")
}

fn one_of_each() -> [Record; 6] {
    [
        immutable(b"value"),
        Record::file_index(b"value", NOW + DAY, &rules(), NOW).expect("a fair record"),
        mutable(3, Some(b"value")),
        mutable(4, None),
        provider(Some(b"here")),
        provider(None),
    ]
}

/// As a peer gets it: the bytes, and for immutable records the life that is left.
fn received(record: &Record, rules: &Rules, now: UnixTime) -> Result<Record, RecordError> {
    Record::verify(
        RawRecord::parse(record.as_bytes().clone(), record.expiry())?,
        rules,
        now,
    )
}

#[test]
fn what_was_made_comes_back_as_it_was() {
    for record in one_of_each() {
        assert_eq!(received(&record, &rules(), NOW), Ok(record.clone()), "{record:?}");
    }
}

#[test]
fn the_same_bytes_as_another_content_lie_elsewhere() {
    let [plain, index, ..] = one_of_each();
    assert_eq!(plain.value(), index.value());
    assert_ne!(plain.key(), index.key());
}

#[test]
fn a_signature_is_bound_to_its_network() {
    for record in one_of_each().iter().filter(|record| record.author().is_some()) {
        assert_eq!(
            received(record, &rules_of("another"), NOW),
            Err(RecordError::BadSignature)
        );
    }
}

#[test]
fn a_signature_is_bound_to_its_kind() {
    for record in one_of_each().iter().filter(|record| record.author().is_some()) {
        for kind in [1, 2] {
            let mut bytes = record.as_bytes().to_vec();
            if bytes[1] == kind {
                continue;
            }
            bytes[1] = kind;
            let raw = RawRecord::parse(bytes.into(), record.expiry());
            assert!(raw.and_then(|raw| Record::verify(raw, &rules(), NOW)).is_err());
        }
    }
}

#[test]
fn a_changed_byte_is_a_bad_signature_or_worse() {
    for record in one_of_each().iter().filter(|record| record.author().is_some()) {
        // Not the kind: any bytes are an immutable value, which lies under another key.
        for place in (0..record.as_bytes().len()).filter(|place| *place != 1) {
            let mut bytes = record.as_bytes().to_vec();
            bytes[place] ^= 1;
            let raw = RawRecord::parse(bytes.into(), record.expiry());
            assert!(
                raw.and_then(|raw| Record::verify(raw, &rules(), NOW)).is_err(),
                "byte {place} of {record:?}"
            );
        }
    }
}

#[test]
fn a_record_ends_with_its_last_second() {
    for record in one_of_each() {
        let last = record.expiry() - Duration::from_secs(1);
        assert!(received(&record, &rules(), last).is_ok());
        assert_eq!(
            received(&record, &rules(), record.expiry()),
            Err(RecordError::Expired)
        );
    }
}

#[test]
fn a_record_from_the_future_is_refused() {
    for record in one_of_each().iter().filter(|record| record.author().is_some()) {
        assert!(received(record, &rules(), NOW - Duration::from_secs(600)).is_ok());
        let early = NOW - Duration::from_secs(601);
        assert_eq!(received(record, &rules(), early), Err(RecordError::FromTheFuture));
    }
}

#[test]
fn nothing_lives_longer_than_the_network_allows() {
    let (long, err) = (NOW + WEEK + Duration::from_secs(1), Err(RecordError::BadLifetime));
    assert_eq!(Record::immutable(b"v", long, &rules(), NOW), err);
    let mut greedy = version(1, Some(b"v"));
    greedy.expiry = long;
    assert_eq!(Record::mutable(&owner(1), &greedy, &rules(), NOW), err);
    let mut greedy = announcement(Some(b"v"));
    greedy.expiry = long;
    assert_eq!(Record::provider(&owner(1), &greedy, &rules(), NOW), err);
}

#[test]
fn nothing_ends_before_it_was_issued() {
    let mut backwards = version(1, Some(b"v"));
    backwards.issued = NOW + Duration::from_secs(300);
    backwards.expiry = NOW + Duration::from_secs(200);
    let err = Err(RecordError::BadLifetime);
    assert_eq!(Record::mutable(&owner(1), &backwards, &rules(), NOW), err);
}

#[test]
fn a_tombstone_lives_as_long_as_anything_it_must_outlive() {
    let mut short = version(1, None);
    short.expiry = NOW + WEEK - Duration::from_secs(1);
    let err = Err(RecordError::BadLifetime);
    assert_eq!(Record::mutable(&owner(1), &short, &rules(), NOW), err);
    let mut short = announcement(None);
    short.expiry = NOW + DAY;
    assert_eq!(Record::provider(&owner(1), &short, &rules(), NOW), err);
}

#[test]
fn what_is_too_large_is_refused() {
    let (largest, large) = (vec![7; MAX_VALUE], vec![7; MAX_VALUE + 1]);
    let err = Err(RecordError::TooLarge);
    assert!(Record::immutable(&largest, NOW + DAY, &rules(), NOW).is_ok());
    assert_eq!(Record::immutable(&large, NOW + DAY, &rules(), NOW), err);
    assert!(Record::mutable(&owner(1), &version(1, Some(&largest)), &rules(), NOW).is_ok());
    assert_eq!(
        Record::mutable(&owner(1), &version(1, Some(&large)), &rules(), NOW),
        err
    );
    let salt = [1; MAX_SALT + 1];
    let mut salted = version(1, Some(&largest));
    salted.salt = &salt[1..];
    let record = Record::mutable(&owner(1), &salted, &rules(), NOW).expect("the largest there is");
    assert_eq!(record.as_bytes().len(), MAX_RECORD);
    salted.salt = &salt;
    assert_eq!(Record::mutable(&owner(1), &salted, &rules(), NOW), err);
    let payload = [7; MAX_PROVIDER_PAYLOAD + 1];
    assert!(Record::provider(&owner(1), &announcement(Some(&payload[1..])), &rules(), NOW).is_ok());
    assert_eq!(
        Record::provider(&owner(1), &announcement(Some(&payload)), &rules(), NOW),
        err
    );
    assert_eq!(
        RawRecord::parse(vec![1; MAX_RECORD + 1].into(), NOW),
        Err(RecordError::TooLarge)
    );
    let parameters = Parameters {
        max_value: 10,
        ..Parameters::default()
    };
    let strict = Rules::new(rules().network, &parameters);
    assert_eq!(Record::immutable(&[7; 11], NOW + DAY, &strict, NOW), err);
}

#[test]
fn what_has_no_layout_that_we_know_is_refused_by_name() {
    let parse = |bytes: &[u8]| RawRecord::parse(Bytes::copy_from_slice(bytes), NOW + DAY);
    assert_eq!(parse(&[]), Err(RecordError::Malformed));
    assert_eq!(parse(&[1]), Err(RecordError::Malformed));
    assert_eq!(parse(&[2, 0, 0]), Err(RecordError::UnknownVersion));
    assert_eq!(parse(&[1, 3, 0]), Err(RecordError::UnknownKind));
    assert_eq!(parse(&[1, 0]), Err(RecordError::Malformed));
    assert_eq!(parse(&[1, 0, 2]), Err(RecordError::UnknownKind));
    for record in [mutable(1, Some(b"")), provider(Some(b""))] {
        let bytes = record.as_bytes();
        assert_eq!(parse(&bytes[..bytes.len() - 5]), Err(RecordError::Malformed));
        let mut flagged = bytes.to_vec();
        flagged[2] = 2;
        assert_eq!(parse(&flagged), Err(RecordError::Malformed));
    }
    let mut valued = mutable(1, Some(b"a tombstone has none")).as_bytes().to_vec();
    valued[2] = 1;
    assert_eq!(parse(&valued), Err(RecordError::Malformed));
}

#[test]
fn every_error_says_what_it_is() {
    let all = [
        RecordError::Malformed,
        RecordError::UnknownVersion,
        RecordError::UnknownKind,
        RecordError::TooLarge,
        RecordError::WrongKey,
        RecordError::BadSignature,
        RecordError::Expired,
        RecordError::BadLifetime,
        RecordError::FromTheFuture,
    ];
    let texts: std::collections::BTreeSet<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), all.len());
}

#[test]
fn a_renewed_record_differs_in_its_life_only() {
    let record = immutable(b"value");
    let renewed = record.renewed(NOW + WEEK);
    assert_eq!(
        (renewed.key(), renewed.as_bytes()),
        (record.key(), record.as_bytes())
    );
    assert_eq!(renewed.expiry(), NOW + WEEK);
    let signed = mutable(1, Some(b"value"));
    assert_eq!(signed.renewed(NOW + WEEK), signed);
}

#[test]
fn the_table_of_verdicts() {
    let (old, new, gone) = (mutable(1, Some(b"a")), mutable(2, Some(b"a")), mutable(2, None));
    let (short, long) = (immutable(b"v"), immutable(b"v").renewed(NOW + WEEK));
    let stale = |current| Verdict::Stale { current };
    let conflict = |current| Verdict::Conflict { current };
    for (held, incoming, expected, verdict) in [
        (None, &old, None, Verdict::Stored),
        (None, &old, Some(0), Verdict::Stored),
        (None, &old, Some(1), conflict(0)),
        (Some(&old), &old, None, Verdict::Unchanged),
        (Some(&old), &new, None, Verdict::Stored),
        (Some(&old), &new, Some(1), Verdict::Stored),
        (Some(&old), &new, Some(2), conflict(1)),
        (Some(&new), &old, None, stale(2)),
        (Some(&new), &old, Some(1), conflict(2)),
        (Some(&new), &gone, None, Verdict::Stored),
        (Some(&gone), &new, None, stale(2)),
        (Some(&short), &long, None, Verdict::Stored),
        (Some(&long), &short, None, Verdict::Unchanged),
        (Some(&long), &long, None, Verdict::Unchanged),
    ] {
        assert_eq!(
            judge(held.map(Record::as_raw), incoming, expected),
            verdict,
            "{held:?} {incoming:?} {expected:?}"
        );
    }
    assert!(Verdict::Unchanged.is_acknowledgement() && !stale(2).is_acknowledgement());
}

/// Records of one slot that differ in everything that precedence may look at; layouts only, since it asks for no more.
fn raws() -> impl Strategy<Value = RawRecord> {
    let fields = (
        0..3u64,
        prop::option::of(prop::collection::vec(0..2u8, 0..3)),
        0..3u64,
    );
    (fields, any::<bool>()).prop_map(|((seq, value, life), signed)| {
        let tombstone = value.is_none();
        let value = value.unwrap_or_default();
        let mut bytes = vec![1, u8::from(signed), u8::from(signed && tombstone)];
        if signed {
            bytes.extend([9; 32]);
            bytes.extend(seq.to_be_bytes());
            bytes.extend(NOW.as_secs().to_be_bytes());
            bytes.extend((NOW.as_secs() + life).to_be_bytes());
            bytes.push(0);
        }
        bytes.extend(&value);
        bytes.extend(if signed { &[0; 64][..] } else { &[] });
        RawRecord::parse(bytes.into(), UnixTime::from_secs(NOW.as_secs() + life)).expect("a layout")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn precedence_is_a_total_order(a in raws(), b in raws(), c in raws()) {
        prop_assert_eq!(precedence(&a, &b), precedence(&b, &a).reverse());
        prop_assert_eq!(precedence(&a, &a), Ordering::Equal);
        if precedence(&a, &b) != Ordering::Greater && precedence(&b, &c) != Ordering::Greater {
            prop_assert_ne!(precedence(&a, &c), Ordering::Greater);
        }
        if a.kind() == b.kind() && precedence(&a, &b) == Ordering::Equal {
            prop_assert_eq!(a, b, "two records of which none wins");
        }
    }

    #[test]
    fn immutable_records_of_any_value_come_back(value in prop::collection::vec(any::<u8>(), 0..200), life in 1..604_800u64) {
        let record = Record::immutable(&value, NOW + Duration::from_secs(life), &rules(), NOW).unwrap();
        prop_assert_eq!(&record.value()[..], &value[..]);
        prop_assert_eq!(received(&record, &rules(), NOW), Ok(record));
    }
}

proptest! {
    // A signature and its check take 50 to 100 µs.
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn signed_records_of_any_fields_come_back(
        secret in any::<[u8; 32]>(),
        salt in prop::collection::vec(any::<u8>(), 0..=MAX_SALT),
        seq in any::<u64>(),
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..100)),
        back in 0..600_000u64,
    ) {
        let owner = Keypair::from_secret(&secret);
        let issued = NOW - Duration::from_secs(back);
        let (expiry, value) = (issued + WEEK, value.as_deref());
        let version = MutableVersion { salt: &salt, seq, issued, expiry, value };
        let record = Record::mutable(&owner, &version, &rules(), NOW).unwrap();
        prop_assert_eq!((record.salt(), record.seq(), record.kind()), (&salt[..], seq, Kind::Mutable));
        prop_assert_eq!(record.author(), Some(owner.public()));
        prop_assert_eq!(record.is_tombstone(), value.is_none());
        prop_assert_eq!(record.expiry(), expiry);
        prop_assert_eq!(received(&record, &rules(), NOW), Ok(record));
        let payload = value;
        let announcement = Announcement { key: Key::from_bytes(secret), issued, expiry, payload };
        let record = Record::provider(&owner, &announcement, &rules(), NOW).unwrap();
        prop_assert_eq!(record.slot().provider, owner.node_id());
        prop_assert_eq!(record.key(), announcement.key);
        prop_assert_eq!(received(&record, &rules(), NOW), Ok(record));
    }
}

#[test]
fn arbitrary_bytes_are_a_record_or_an_error() {
    bolero::check!().with_iterations(20_000).for_each(|bytes: &[u8]| {
        // Half of them get far enough to be a signed layout.
        let mut shaped = vec![1, bytes.first().map_or(0, |first| first % 4), 0];
        shaped.extend(bytes);
        shaped.extend([0; 100]);
        for bytes in [Bytes::copy_from_slice(bytes), shaped.into()] {
            let Ok(raw) = RawRecord::parse(bytes.clone(), NOW + DAY) else {
                continue;
            };
            assert_eq!(raw.as_bytes(), &bytes);
            assert!(raw.value().len() <= MAX_VALUE);
            if let Ok(record) = Record::verify(raw, &rules(), NOW) {
                assert_eq!(received(&record, &rules(), NOW), Ok(record));
            }
        }
    });
}
