//! COMPARE and FETCH, and their answers.

use kad_core::summary::short;
use kad_core::{Fingerprint, Prefix, Record, Request, Response};
use kad_net::wire::{DecodeError, EncodeError};

use super::super::messages::{LONGEST, NOW, Sockets, codec, rules};
use super::request;

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
