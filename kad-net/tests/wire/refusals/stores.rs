//! STORE and its answer, and what later versions may say.

use kad_core::{RecordError, Rejection, Request, Response, StoreEntry, Verdict};

use super::super::messages::{LONGEST, NOW, codec, rules};
use super::{answer, mutable_at, request};

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
