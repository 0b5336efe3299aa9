//! What is encoded is decoded again, and stays within a frame.

use kad_core::{
    Contact, Found, Kind, MAX_CLOSER, MAX_RECORD, MAX_RECORDS, MAX_SALT, MAX_VALUE, MutableVersion, NodeId,
    Record, Request, Response, StoreEntry, Verdict,
};
use kad_net::MAX_FRAME;
use kad_net::wire::{Codec, EncodeError, IncomingRequest, Scope};
use proptest::prelude::*;

use super::messages::{Family, LONGEST, NOW, Sockets, codec, exchange, keypair, request, rules};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_request_comes_back(request in request(), read_only: bool) {
        let frame = codec().encode_request(NOW, read_only, &request).unwrap();
        prop_assert!(frame.len() <= MAX_FRAME);
        let expected = IncomingRequest { read_only, request };
        prop_assert_eq!(codec().decode_request(NOW, frame), Ok(expected));
    }

    #[test]
    fn every_answer_comes_back((asked, response) in exchange(Family::Both)) {
        let frame = codec().encode_response(NOW, &response).unwrap();
        prop_assert!(frame.len() <= MAX_FRAME);
        prop_assert_eq!(codec().decode_response(NOW, frame, &asked), Ok(response));
    }
}

fn largest_record() -> Record {
    let version = MutableVersion {
        salt: &[1; MAX_SALT],
        seq: u64::MAX,
        issued: NOW,
        expiry: NOW + LONGEST,
        value: Some(&vec![2; MAX_VALUE]),
    };
    Record::mutable(&keypair(1), &version, &rules(), NOW).unwrap()
}

fn widest_contacts(count: usize) -> Vec<Contact<Sockets>> {
    let socket = "[2fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
    let contact = Contact::new(NodeId::from_bytes([0xff; 32]), Sockets(vec![socket; 4]));
    vec![contact; count]
}

#[test]
fn the_largest_messages_fit_into_a_frame() {
    let record = largest_record();
    assert_eq!(record.as_bytes().len(), MAX_RECORD);
    let asked = Request::FindValue(kad_core::FindValue {
        key: record.key(),
        kind: Kind::Mutable,
        min_seq: u64::MAX,
        after: None,
        want: kad_core::Want::Record,
    });
    let values = Response::Values {
        found: vec![Found::Record(record.clone())],
        next: Some(NodeId::from_bytes([0xff; 32])),
        closer: widest_contacts(MAX_CLOSER),
    };
    let frame = codec().encode_response(NOW, &values).unwrap();
    assert_eq!(codec().decode_response(NOW, frame, &asked), Ok(values));

    let store = Request::Store {
        entries: vec![StoreEntry {
            record: Ok(record),
            expected: Some(u64::MAX),
        }],
    };
    let frame = codec().encode_request(NOW, true, &store).unwrap();
    assert_eq!(codec().decode_request(NOW, frame).unwrap().request, store);
}

#[test]
fn what_is_beyond_the_bounds_of_the_core_is_not_encoded() {
    let encode = |response: &Response<Sockets>| codec().encode_response(NOW, response).unwrap_err();
    let closer = widest_contacts(MAX_CLOSER + 1);
    assert_eq!(
        encode(&Response::Nodes { closer, card: None }),
        EncodeError::TooManyContacts
    );
    let mut closer = widest_contacts(1);
    closer[0].address.0.push("8.8.8.8:4000".parse().unwrap());
    assert_eq!(
        encode(&Response::Nodes { closer, card: None }),
        EncodeError::TooManySockets
    );
    let verdicts = vec![Verdict::Stored; MAX_RECORDS + 1];
    let closer = Vec::new();
    assert_eq!(
        encode(&Response::Stored { verdicts, closer }),
        EncodeError::TooManyRecords
    );

    let store = |entries| codec().encode_request(NOW, false, &Request::Store { entries });
    let entry = StoreEntry {
        record: Ok(largest_record()),
        expected: None,
    };
    assert_eq!(
        store(vec![entry.clone(), entry]),
        Err(EncodeError::TooManyRecordBytes)
    );
    let error = kad_core::RecordError::Expired;
    let entry = StoreEntry {
        record: Err(error),
        expected: None,
    };
    assert_eq!(store(vec![entry]), Err(EncodeError::NoRecord(error)));
}

#[test]
fn records_share_the_memory_of_their_frame() {
    let store = Request::Store {
        entries: vec![StoreEntry {
            record: Ok(largest_record()),
            expected: None,
        }],
    };
    let frame = codec().encode_request(NOW, false, &store).unwrap();
    let memory = frame.as_ptr_range();
    let Request::Store { entries } = codec().decode_request(NOW, frame).unwrap().request else {
        panic!("a STORE");
    };
    let record = entries[0].record.as_ref().unwrap();
    assert!(memory.contains(&record.as_bytes().as_ptr()));
}

#[test]
fn an_immutable_record_loses_the_time_that_passes() {
    let record = Record::immutable(b"value", NOW + LONGEST, &rules(), NOW).unwrap();
    let store = Request::Store {
        entries: vec![StoreEntry {
            record: Ok(record),
            expected: None,
        }],
    };
    let later = NOW + std::time::Duration::from_secs(3600);
    // It is passed on an hour later, to a node whose clock is a year ahead.
    let ahead = later + std::time::Duration::from_secs(365 * 24 * 3600);
    let frame = codec().encode_request(later, false, &store).unwrap();
    let Request::Store { entries } = codec().decode_request(ahead, frame).unwrap().request else {
        panic!("a STORE");
    };
    let left = entries[0].record.as_ref().unwrap().expiry().secs_since(ahead);
    assert_eq!(left, LONGEST.as_secs() - 3600);
}

#[test]
fn a_record_that_has_just_ended_is_left_out_of_an_answer() {
    let record = Record::immutable(b"value", NOW + LONGEST, &rules(), NOW).unwrap();
    let asked = Request::FindValue(kad_core::FindValue {
        key: record.key(),
        kind: Kind::Immutable,
        min_seq: 0,
        after: None,
        want: kad_core::Want::Record,
    });
    let values = Response::<Sockets>::Values {
        found: vec![Found::Record(record)],
        next: None,
        closer: Vec::new(),
    };
    let ended = NOW + LONGEST;
    let frame = codec().encode_response(ended, &values).unwrap();
    let Ok(Response::<Sockets>::Values { found, .. }) = codec().decode_response(ended, frame, &asked) else {
        panic!("values");
    };
    assert_eq!(found, []);
}

#[test]
fn contacts_outside_of_the_scope_are_dropped_and_counted() {
    let address = |sockets: &[&str]| Sockets(sockets.iter().map(|text| text.parse().unwrap()).collect());
    let contact = |byte: u8, sockets: &[&str]| Contact::new(NodeId::from_bytes([byte; 32]), address(sockets));
    let closer = vec![
        contact(1, &["192.168.0.1:4000", "8.8.8.8:4000"]),
        contact(2, &["10.0.0.1:4000", "[::1]:4000"]),
        contact(3, &["8.8.4.4:53"]),
        contact(4, &["[2001:db8::1]:4000"]),
    ];
    let frame = codec()
        .encode_response(NOW, &Response::Nodes { closer, card: None })
        .unwrap();
    let asked = Request::FindNode {
        target: kad_core::Key::default(),
        card: false,
    };
    let global = Codec::new(rules(), Scope::Global);
    let expected = Response::Nodes {
        closer: vec![contact(1, &["8.8.8.8:4000"]), contact(4, &["[2001:db8::1]:4000"])],
        card: None,
    };
    let clone = global.clone();
    assert_eq!(clone.decode_response(NOW, frame, &asked), Ok(expected));
    assert_eq!(clone.contacts_dropped(), 2);
    assert_eq!(global.contacts_dropped(), 2, "clones share the counter");
}
