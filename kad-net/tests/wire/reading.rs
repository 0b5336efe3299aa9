//! Frames from anywhere, and what must hold for each that can be read. The fuzzer includes this file.

use bytes::Bytes;
use kad_core::{
    Contact, Difference, FindValue, Fingerprint, Found, Key, Kind, Prefix, Record, Request, Response,
    StoreEntry, Verdict, Want,
};

use super::network::{NOW, Sockets, codec};

/// Bytes of memory for each byte of a frame: a verdict takes 2 on the wire and 16 in memory, a contact 33 and 56.
const MEMORY_PER_BYTE: usize = 48;

/// Reads a frame as a request; what can be read says the same again when it is written anew.
pub(crate) fn try_request(frame: &Bytes) {
    let Ok(incoming) = codec().decode_request(NOW, frame.clone()) else {
        return;
    };
    if let Request::Store { entries } = &incoming.request {
        let memory = entries.capacity() * size_of::<StoreEntry>();
        assert!(
            memory <= MEMORY_PER_BYTE * frame.len(),
            "{memory} for {}",
            frame.len()
        );
        if entries.iter().any(|entry| entry.record.is_err()) {
            return;
        }
    }
    let again = codec()
        .encode_request(NOW, incoming.read_only, &incoming.request)
        .unwrap();
    assert_eq!(codec().decode_request(NOW, again), Ok(incoming));
}

/// Reads a frame as the answer to a request, in the same way.
pub(crate) fn try_answer(frame: &Bytes, asked: &Request) {
    let Ok(response) = codec().decode_response::<Sockets>(NOW, frame.clone(), asked) else {
        return;
    };
    let memory = match &response {
        Response::Pong { .. } | Response::Rejected(_) => 0,
        Response::Nodes { closer, .. } => closer.capacity() * size_of::<Contact<Sockets>>(),
        Response::Values { found, closer, .. } => {
            found.capacity() * size_of::<Found>() + closer.capacity() * size_of::<Contact<Sockets>>()
        }
        Response::Compared { differences } => {
            let marks = differences.iter().map(|difference| match difference {
                Difference::Listed(marks) => marks.capacity() * size_of::<u64>(),
                Difference::Same | Difference::Parts(_) => 0,
            });
            marks.sum::<usize>()
        }
        Response::Fetched { records } => records.capacity() * size_of::<Record>(),
        Response::Stored { verdicts, closer } => {
            verdicts.capacity() * size_of::<Verdict>() + closer.capacity() * size_of::<Contact<Sockets>>()
        }
    };
    assert!(
        memory <= MEMORY_PER_BYTE * frame.len(),
        "{memory} for {}",
        frame.len()
    );
    let again = codec().encode_response(NOW, &response).unwrap();
    assert_eq!(codec().decode_response(NOW, again, asked), Ok(response));
}

/// One request of each kind, as what was asked.
pub(crate) fn questions() -> [Request; 7] {
    let find = FindValue {
        key: Key::default(),
        kind: Kind::Provider,
        min_seq: 0,
        after: None,
        want: Want::Record,
    };
    let digests = FindValue {
        want: Want::Digest,
        ..find
    };
    [
        Request::Ping,
        Request::FindNode {
            target: Key::default(),
            card: true,
        },
        Request::FindValue(find),
        Request::FindValue(digests),
        Request::Store { entries: Vec::new() },
        Request::Compare {
            parts: vec![(Prefix::ALL, Fingerprint::default())],
        },
        Request::Fetch {
            prefix: Prefix::ALL,
            marks: vec![0],
        },
    ]
}
