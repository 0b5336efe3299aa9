//! Every reason to refuse a frame, by name.

use bytes::Bytes;
use kad_core::summary::short;
use kad_core::{
    Announcement, Duration, FindValue, Fingerprint, Found, Key, Kind, MAX_CARD_BYTES, MAX_RECORD,
    MutableVersion, NetworkId, NodeId, Parameters, Prefix, Record, RecordError, Rejection, Request, Response,
    Rules, StoreEntry, UnixTime, Verdict, Want,
};
use kad_net::MAX_FRAME;
use kad_net::wire::{Codec, DecodeError, EncodeError, Scope};

use super::messages::{LONGEST, NOW, Sockets, codec, keypair, rules};

fn request(frame: &[u8]) -> Result<Request, DecodeError> {
    let decoded = codec().decode_request(NOW, Bytes::copy_from_slice(frame));
    decoded.map(|incoming| incoming.request)
}

fn answer(frame: &[u8], asked: &Request) -> Result<Response<Sockets>, DecodeError> {
    codec().decode_response(NOW, Bytes::copy_from_slice(frame), asked)
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

fn values(found: Vec<Found>, next: Option<NodeId>) -> Response<Sockets> {
    let closer = Vec::new();
    Response::Values { found, next, closer }
}

/// What a node that asked says to an answer encoded with the rules of another network, at another time.
fn answered(codec_there: &Codec, then: UnixTime, record: Record, asked: FindValue) -> DecodeError {
    let frame = codec_there
        .encode_response(then, &values(vec![Found::Record(record)], None))
        .unwrap();
    let decoded = codec().decode_response::<Sockets>(NOW, frame, &Request::FindValue(asked));
    decoded.expect_err("a bad answer")
}

fn mutable_at(issued: UnixTime, expiry: UnixTime, rules: &Rules) -> Record {
    let version = MutableVersion {
        salt: b"salt",
        seq: 7,
        issued,
        expiry,
        value: Some(b"value"),
    };
    Record::mutable(&keypair(1), &version, rules, issued).unwrap()
}

fn provider(seed: u8) -> Record {
    let announcement = Announcement {
        key: Key::default(),
        issued: NOW,
        expiry: NOW + LONGEST,
        payload: Some(b"here"),
    };
    Record::provider(&keypair(seed), &announcement, &rules(), NOW).unwrap()
}

const PING: [u8; 4] = [1, 1, 0, 0];

#[test]
fn a_frame_that_is_cut_short_is_refused_at_every_length() {
    let record = mutable_at(NOW, NOW + LONGEST, &rules());
    let entries = vec![
        StoreEntry {
            record: Ok(record),
            expected: Some(300)
        };
        2
    ];
    let whole = codec()
        .encode_request(NOW, false, &Request::Store { entries })
        .unwrap();
    for length in 0..whole.len() {
        assert_eq!(request(&whole[..length]), Err(DecodeError::Truncated), "{length}");
    }
    assert!(request(&whole).is_ok());
}

#[test]
fn a_frame_that_is_too_large_is_refused() {
    let mut frame = PING.to_vec();
    frame.resize(MAX_FRAME + 1, 0);
    assert_eq!(request(&frame), Err(DecodeError::TooLarge));
}

#[test]
fn an_unknown_version_is_refused() {
    assert_eq!(request(&[2, 1, 0, 0]), Err(DecodeError::UnknownVersion(2)));
    assert_eq!(DecodeError::UnknownVersion(2).rejection(), Rejection::Unsupported);
}

#[test]
fn a_prefix_has_one_form_and_every_part_its_difference() {
    let compare = |bits: &[u8], length: u8| {
        let body = [&[1, 5, 0, 1], bits, &[length, 0], &[0; 16], &[0]].concat();
        request(&body)
    };
    assert!(compare(&[0], 3).is_ok());
    // One bit beyond the length, and more bits than there are.
    assert_eq!(compare(&[1], 3), Err(DecodeError::BadPrefix));
    assert_eq!(compare(&[0], 65), Err(DecodeError::BadPrefix));
    let asked = Request::Compare {
        parts: vec![(Prefix::ALL, Fingerprint::default()); 2],
    };
    let answer = |body: &[u8]| {
        let frame = [&[1, 0x85, 0], body].concat().into();
        codec().decode_response::<Sockets>(NOW, frame, &asked)
    };
    assert!(answer(&[2, 0, 0, 0]).is_ok());
    assert_eq!(answer(&[1, 0, 0]), Err(DecodeError::WrongDifferences));
    assert_eq!(
        answer(&[2, 0, 3, 0]),
        Err(DecodeError::UnknownValue("form of difference"))
    );
    // A list that claims more marks than a part may have, before they are looked for.
    assert_eq!(
        answer(&[2, 0, 2, 251, 1, 2, 0]),
        Err(DecodeError::TooManyElements("marks"))
    );
    let too_many = Request::Compare {
        parts: vec![(Prefix::ALL, Fingerprint::default()); 65],
    };
    assert_eq!(
        codec().encode_request(NOW, false, &too_many),
        Err(EncodeError::TooManyParts)
    );
}

#[test]
fn records_that_were_not_fetched_are_passed_over() {
    let record = |value: &[u8]| Record::immutable(value, NOW + LONGEST, &rules(), NOW).unwrap();
    let (wanted, other) = (record(b"wanted"), record(b"other"));
    let asked = Request::Fetch {
        prefix: Prefix::ALL,
        marks: vec![short(wanted.as_raw().mark()), 0],
    };
    let response: Response<Sockets> = Response::Fetched {
        records: vec![other, wanted.clone()],
    };
    let frame = codec().encode_response(NOW, &response).unwrap();
    let read = codec().decode_response::<Sockets>(NOW, frame, &asked);
    let records = vec![wanted];
    assert_eq!(read, Ok(Response::Fetched { records }));
}

#[test]
fn an_unknown_kind_is_unsupported_and_not_malformed() {
    for kind in [0, 7, 0x7f, 0x80, 0x81, 0xff] {
        let refused = request(&[1, kind, 0, 0]).unwrap_err();
        assert_eq!(refused, DecodeError::UnknownKind(kind));
        assert_eq!(refused.rejection(), Rejection::Unsupported);
    }
    for kind in [0, 1, 4, 0x80, 0x87, 0xfe] {
        assert_eq!(
            answer(&[1, kind, 0, 0], &Request::Ping),
            Err(DecodeError::UnknownKind(kind))
        );
    }
}

#[test]
fn a_flag_that_must_be_understood_is_refused_and_one_that_may_be_ignored_is() {
    for bit in 4..8 {
        assert_eq!(
            request(&[1, 1, 1 << bit, 0]),
            Err(DecodeError::UnknownFlags(1 << bit))
        );
    }
    for bit in 1..4 {
        assert_eq!(request(&[1, 1, 1 << bit, 0]), Ok(Request::Ping));
    }
    assert_eq!(DecodeError::UnknownFlags(16).rejection(), Rejection::Unsupported);
}

#[test]
fn bytes_after_the_end_are_refused() {
    assert_eq!(request(&[1, 1, 0, 0, 0]), Err(DecodeError::TrailingBytes));
    assert_eq!(DecodeError::TrailingBytes.rejection(), Rejection::Malformed);
}

#[test]
fn extensions_that_nobody_knows_are_passed_over() {
    assert_eq!(
        request(&[1, 1, 0, 2, 9, 3, 1, 2, 3, 251, 0, 4, 0]),
        Ok(Request::Ping)
    );
}

#[test]
fn too_many_elements_are_refused() {
    assert_eq!(
        request(&[1, 4, 0, 65]),
        Err(DecodeError::TooManyElements("records"))
    );
    assert_eq!(
        request(&[1, 1, 0, 17]),
        Err(DecodeError::TooManyElements("extensions"))
    );
    let find_node = Request::FindNode {
        target: Key::default(),
        card: false,
    };
    assert_eq!(
        answer(&[1, 0x82, 0, 33], &find_node),
        Err(DecodeError::TooManyElements("contacts"))
    );
    let mut five_sockets = vec![1, 0x82, 0, 1];
    five_sockets.extend([0; 32]);
    five_sockets.push(5);
    assert_eq!(
        answer(&five_sockets, &find_node),
        Err(DecodeError::TooManyElements("sockets"))
    );
    let record = mutable_at(NOW, NOW + LONGEST, &rules());
    assert_eq!(
        answer(&[1, 0x83, 0, 2], &Request::FindValue(find(&record))),
        Err(DecodeError::TooManyElements("records"))
    );
    // 2^62 elements.
    let claim = [1, 4, 0, 253, 0, 0, 0, 0, 0, 0, 0, 64];
    assert_eq!(request(&claim), Err(DecodeError::TooManyElements("records")));
}

#[test]
fn too_many_bytes_of_records_are_refused() {
    let mut frame = vec![1, 4, 0, 2];
    for _ in 0..2 {
        let length = (MAX_RECORD as u32 / 2 + 1).to_le_bytes();
        frame.extend([0, 252]);
        frame.extend(length);
        frame.resize(frame.len() + MAX_RECORD / 2 + 1, 0);
        frame.push(0);
    }
    frame.push(0);
    assert_eq!(request(&frame), Err(DecodeError::TooManyRecordBytes));
}

#[test]
fn integers_options_and_variants_that_are_none_are_refused() {
    let find_value = |kind: u8, want: u8, min_seq: u8, after: u8| {
        let mut frame = vec![1, 3, 0];
        frame.extend([0; 32]);
        frame.extend([kind, want, min_seq, after, 0]);
        request(&frame)
    };
    assert!(find_value(0, 0, 0, 0).is_ok());
    assert_eq!(
        find_value(3, 0, 0, 0),
        Err(DecodeError::UnknownValue("kind of record"))
    );
    assert_eq!(find_value(0, 2, 0, 0), Err(DecodeError::UnknownValue("want")));
    assert_eq!(find_value(0, 0, 255, 0), Err(DecodeError::Body));
    assert_eq!(find_value(0, 0, 0, 2), Err(DecodeError::Body));
    // A socket of neither family.
    assert_eq!(
        answer(&[1, 0x81, 0, 0, 1, 2, 1, 2, 3, 4, 80, 0], &Request::Ping),
        Err(DecodeError::Body)
    );
}

#[test]
fn a_pong_that_sees_us_nowhere_is_refused() {
    assert_eq!(
        answer(&[1, 0x81, 0, 0, 0, 0], &Request::Ping),
        Err(DecodeError::BadAddress)
    );
}

#[test]
fn an_answer_to_another_request_is_refused() {
    let nodes = codec()
        .encode_response::<Sockets>(
            NOW,
            &Response::Nodes {
                closer: Vec::new(),
                card: None,
            },
        )
        .unwrap();
    assert_eq!(
        answer(&nodes, &Request::Ping),
        Err(DecodeError::UnexpectedAnswer(0x82))
    );
    let store = Request::Store { entries: Vec::new() };
    let verdicts = vec![Verdict::Stored];
    let closer = Vec::new();
    let stored = codec()
        .encode_response::<Sockets>(NOW, &Response::Stored { verdicts, closer })
        .unwrap();
    assert_eq!(answer(&stored, &store), Err(DecodeError::WrongVerdicts));
}

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

#[test]
fn a_bad_record_of_a_store_costs_only_its_own_entry() {
    let good = mutable_at(NOW, NOW + LONGEST, &rules());
    let entry = |record| StoreEntry {
        record,
        expected: None,
    };
    let entries = vec![entry(Ok(good.clone())), entry(Ok(good.clone()))];
    let mut frame = codec()
        .encode_request(NOW, false, &Request::Store { entries })
        .unwrap()
        .to_vec();
    let last = frame.len() - 3;
    frame[last] ^= 1;
    let entries = vec![entry(Ok(good)), entry(Err(RecordError::BadSignature))];
    assert_eq!(request(&frame), Ok(Request::Store { entries }));
}

#[test]
fn verdicts_and_rejections_of_later_versions_can_be_read() {
    let entry = StoreEntry {
        record: Err(RecordError::Malformed),
        expected: None,
    };
    let asked = Request::Store {
        entries: vec![entry; 2],
    };
    // Verdict 99 with a detail, and a refusal for reason 99.
    let read = answer(&[1, 0x84, 0, 2, 99, 251, 0, 1, 5, 99, 0, 0], &asked);
    let verdicts = vec![Verdict::Failed, Verdict::Refused(RecordError::Malformed)];
    let closer = Vec::new();
    assert_eq!(read, Ok(Response::Stored { verdicts, closer }));
    assert_eq!(
        answer(&[1, 0xff, 0, 99, 0], &asked),
        Ok(Response::Rejected(Rejection::Unsupported))
    );
}

#[test]
fn a_card_that_is_not_that_of_the_node_is_refused() {
    let nodes = |card: &Record| {
        let (closer, card) = (Vec::new(), Some(card.clone()));
        codec().encode_response::<Sockets>(NOW, &Response::Nodes { closer, card })
    };
    let read = |card: &Record, target, wanted| {
        let asked = Request::FindNode { target, card: wanted };
        answer(&nodes(card).unwrap(), &asked)
    };
    let card = |seed: u8, salt: &[u8], value: &[u8]| {
        let version = MutableVersion {
            salt,
            seq: 1,
            issued: NOW,
            expiry: NOW + LONGEST,
            value: Some(value),
        };
        Record::mutable(&keypair(seed), &version, &rules(), NOW).unwrap()
    };
    let mine = card(1, b"", b"here");
    let told = |card| {
        let closer = Vec::new();
        Ok(Response::Nodes { closer, card })
    };
    assert_eq!(read(&mine, mine.key(), true), told(Some(mine.clone())));
    // Nobody has to verify what was not asked for.
    assert_eq!(read(&mine, mine.key(), false), told(None));
    assert_eq!(
        read(&mine, keypair(2).node_id().to_key(), true),
        Err(DecodeError::Record(RecordError::WrongKey))
    );
    let value = Record::immutable(b"value", NOW + LONGEST, &rules(), NOW).unwrap();
    assert_eq!(read(&value, value.key(), true), Err(DecodeError::WrongRecordKind));
    let large = card(1, b"", &[0; MAX_CARD_BYTES]);
    assert_eq!(nodes(&large), Err(EncodeError::TooManyRecordBytes));

    let asked = Request::FindNode {
        target: mine.key(),
        card: true,
    };
    let frame = |extensions: &[(u16, &[u8])]| {
        let mut frame = vec![1, 0x82, 0, 0, extensions.len() as u8];
        for (number, bytes) in extensions {
            frame.push(*number as u8);
            frame.push(251);
            frame.extend((bytes.len() as u16).to_le_bytes());
            frame.extend(*bytes);
        }
        answer(&frame, &asked)
    };
    assert_eq!(frame(&[(1, mine.as_bytes())]), told(Some(mine.clone())));
    assert_eq!(
        frame(&[(2, b"what"), (1, mine.as_bytes())]),
        told(Some(mine.clone()))
    );
    assert_eq!(frame(&[(2, mine.as_bytes())]), told(None));
    assert_eq!(
        frame(&[(1, mine.as_bytes()), (1, mine.as_bytes())]),
        Err(DecodeError::TooManyElements("extensions of one number"))
    );
    assert_eq!(
        frame(&[(1, large.as_bytes())]),
        Err(DecodeError::TooManyRecordBytes)
    );
    let mut forged = mine.as_bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(
        frame(&[(1, &forged)]),
        Err(DecodeError::Record(RecordError::BadSignature))
    );
    assert_eq!(
        frame(&[(1, &mine.as_bytes()[..20])]),
        Err(DecodeError::Record(RecordError::Malformed))
    );
}

#[test]
fn a_card_whose_life_has_ended_is_left_out_of_an_answer() {
    let version = MutableVersion {
        salt: b"",
        seq: 1,
        issued: NOW,
        expiry: NOW + LONGEST,
        value: Some(b"here"),
    };
    let card = Record::mutable(&keypair(1), &version, &rules(), NOW).unwrap();
    let asked = Request::FindNode {
        target: card.key(),
        card: true,
    };
    let (closer, card) = (Vec::new(), Some(card));
    let response = Response::<Sockets>::Nodes { closer, card };
    let frame = codec().encode_response(NOW + LONGEST, &response).unwrap();
    let (closer, card) = (Vec::new(), None);
    assert_eq!(answer(&frame, &asked), Ok(Response::Nodes { closer, card }));
}
