//! Every reason to refuse a frame, by name.

mod frames;
mod nodes;
mod stores;
mod summaries;
mod values;

use bytes::Bytes;
use kad_core::{
    Announcement, FindValue, Found, Key, MutableVersion, NodeId, Record, Request, Response, Rules, UnixTime,
    Want,
};
use kad_net::wire::{Codec, DecodeError};

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
