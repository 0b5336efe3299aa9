//! Answers to FIND_VALUE: records that are not what was asked for, or that are not good.

use kad_core::{
    Duration, FindValue, Found, Kind, NetworkId, Parameters, Record, RecordError, Request, Rules, Want,
};
use kad_net::wire::{Codec, DecodeError, Scope};

use super::super::messages::{LONGEST, NOW, codec, rules};
use super::{answer, answered, find, mutable_at, provider, values};

#[test]
fn a_value_that_hashes_to_another_key_is_refused() {
    let asked = find(&Record::immutable(b"this", NOW + LONGEST, &rules(), NOW).unwrap());
    let given = Record::immutable(b"that", NOW + LONGEST, &rules(), NOW).unwrap();
    assert_eq!(
        answered(&codec(), NOW, given, asked),
        DecodeError::Record(RecordError::WrongKey)
    );
}

#[test]
fn a_record_of_another_kind_is_refused() {
    let record = mutable_at(NOW, NOW + LONGEST, &rules());
    let asked = FindValue {
        kind: Kind::Immutable,
        ..find(&record)
    };
    assert_eq!(
        answered(&codec(), NOW, record, asked),
        DecodeError::WrongRecordKind
    );
}

#[test]
fn an_older_version_than_was_asked_for_is_refused() {
    let record = mutable_at(NOW, NOW + LONGEST, &rules());
    let asked = FindValue {
        min_seq: 8,
        ..find(&record)
    };
    assert_eq!(
        answered(&codec(), NOW, record.clone(), asked),
        DecodeError::OldVersion
    );
    let digest = Found::Digest {
        seq: 7,
        digest: record.digest(),
    };
    let frame = codec().encode_response(NOW, &values(vec![digest], None)).unwrap();
    let asked = FindValue {
        want: Want::Digest,
        ..asked
    };
    assert_eq!(
        answer(&frame, &Request::FindValue(asked)),
        Err(DecodeError::OldVersion)
    );
}

#[test]
fn records_and_digests_are_not_mixed_up() {
    let record = mutable_at(NOW, NOW + LONGEST, &rules());
    let asked = FindValue {
        want: Want::Digest,
        ..find(&record)
    };
    assert_eq!(answered(&codec(), NOW, record, asked), DecodeError::WrongForm);
}

#[test]
fn a_page_of_providers_that_is_out_of_order_or_does_not_advance_is_refused() {
    let mut records = [provider(1), provider(2), provider(3)];
    records.sort_by_key(|record| record.slot().provider);
    let ids = records.each_ref().map(|record| record.slot().provider);
    let page = |order: &[usize], after: Option<usize>, next: Option<usize>| {
        let asked = FindValue {
            after: after.map(|place| ids[place]),
            ..find(&records[0])
        };
        let found = order.iter().map(|&place| Found::Record(records[place].clone()));
        let answered = values(found.collect(), next.map(|place| ids[place]));
        let frame = codec().encode_response(NOW, &answered).unwrap();
        answer(&frame, &Request::FindValue(asked)).map(drop)
    };
    let wrong = Err(DecodeError::WrongPage);
    assert_eq!(page(&[0, 1, 2], None, None), Ok(()));
    assert_eq!(page(&[1, 0, 2], None, None), wrong, "not in the order of ids");
    assert_eq!(page(&[0, 0], None, None), wrong, "one twice");
    // From behind the one in the middle it goes round.
    assert_eq!(page(&[2, 0, 1], Some(1), None), Ok(()));
    assert_eq!(page(&[0, 2], Some(1), None), wrong, "begins before `after`");
    assert_eq!(page(&[1, 2, 0], Some(1), None), wrong, "`after` comes last");
    assert_eq!(page(&[2, 0], Some(1), Some(0)), Ok(()));
    assert_eq!(page(&[2, 0], Some(1), Some(2)), wrong, "leads back into the page");
    assert_eq!(page(&[2, 0], Some(1), Some(1)), wrong, "leads all the way round");
    assert_eq!(page(&[], Some(1), Some(1)), wrong, "does not advance");
}

#[test]
fn a_bad_signature_is_refused() {
    let record = mutable_at(NOW, NOW + LONGEST, &rules());
    let asked = Request::FindValue(find(&record));
    let mut frame = codec()
        .encode_response(NOW, &values(vec![Found::Record(record)], None))
        .unwrap()
        .to_vec();
    // The last byte of the signature comes before `next`, the contacts and the extensions.
    let last = frame.len() - 4;
    frame[last] ^= 1;
    assert_eq!(
        answer(&frame, &asked),
        Err(DecodeError::Record(RecordError::BadSignature))
    );
}

#[test]
fn a_record_of_another_network_is_refused() {
    let parameters = Parameters::default();
    let elsewhere = Rules::new(NetworkId::new("elsewhere", &parameters), &parameters);
    let record = mutable_at(NOW, NOW + LONGEST, &elsewhere);
    let asked = find(&record);
    let there = Codec::new(elsewhere, Scope::Any);
    assert_eq!(
        answered(&there, NOW, record, asked),
        DecodeError::Record(RecordError::BadSignature)
    );
}

#[test]
fn a_record_that_has_ended_is_refused() {
    let before = NOW - Duration::from_secs(3600);
    let record = mutable_at(before, NOW, &rules());
    let asked = find(&record);
    assert_eq!(
        answered(&codec(), before, record, asked),
        DecodeError::Record(RecordError::Expired)
    );
}

#[test]
fn a_record_of_the_future_is_refused() {
    let ahead = NOW + Duration::from_secs(601);
    let record = mutable_at(ahead, ahead + LONGEST, &rules());
    let asked = find(&record);
    assert_eq!(
        answered(&codec(), ahead, record, asked),
        DecodeError::Record(RecordError::FromTheFuture)
    );
}

#[test]
fn an_immutable_record_that_claims_to_live_too_long_is_refused() {
    let record = Record::immutable(b"value", NOW + LONGEST, &rules(), NOW).unwrap();
    let asked = find(&record);
    let before = NOW - Duration::from_secs(1);
    assert_eq!(
        answered(&codec(), before, record, asked),
        DecodeError::Record(RecordError::BadLifetime)
    );
}
