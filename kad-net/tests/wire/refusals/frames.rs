//! Frames of any kind: their bytes, lengths, flags and extensions.

use kad_core::{Key, MAX_RECORD, Rejection, Request, Response, StoreEntry, Verdict};
use kad_net::MAX_FRAME;
use kad_net::wire::DecodeError;

use super::super::messages::{LONGEST, NOW, Sockets, codec, rules};
use super::{PING, answer, find, mutable_at, request};

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
