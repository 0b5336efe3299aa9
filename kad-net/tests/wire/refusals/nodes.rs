//! Answers to PING and FIND_NODE: where a node is, and its card.

use kad_core::{MAX_CARD_BYTES, MutableVersion, Record, RecordError, Request, Response};
use kad_net::wire::{DecodeError, EncodeError};

use super::super::messages::{LONGEST, NOW, Sockets, codec, keypair, rules};
use super::answer;

#[test]
fn a_pong_that_sees_us_nowhere_is_refused() {
    assert_eq!(
        answer(&[1, 0x81, 0, 0, 0, 0], &Request::Ping),
        Err(DecodeError::BadAddress)
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
