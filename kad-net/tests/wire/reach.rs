//! Frames of streams of kind 0x02: round trips, refusals, hostile bytes, and what the document prints of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use kad_core::NodeId;
use kad_net::nat::candidates::{Candidate, CandidateKind, MAX_CANDIDATES};
use kad_net::nat::dial_back::{CHECK_BYTES, DIAL_BACK_BYTES};
use kad_net::nat::observation::NatClass;
use kad_net::nat::relay::{RelayConfig, SessionId};
use kad_net::wire::reach::{
    LONGEST_WAIT, MAX_REACH_FRAME, ReachAnswer, ReachRefusal, ReachRequest, SessionLimits,
};
use kad_net::wire::{DecodeError, MAX_EXTENSION_BYTES, Scope};
use proptest::collection::vec;
use proptest::prelude::*;

use super::messages::{Family, id, keypair, socket};
use super::vectors::{hex, printed, unhex};

fn host() -> impl Strategy<Value = IpAddr> {
    socket(Family::Both).prop_map(|socket| socket.ip())
}

fn session() -> impl Strategy<Value = SessionId> {
    any::<u64>().prop_map(SessionId)
}

fn limits() -> impl Strategy<Value = SessionLimits> {
    (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(bytes, seconds, rate)| SessionLimits {
        bytes,
        seconds,
        rate,
    })
}

fn wait() -> impl Strategy<Value = Duration> {
    any::<u16>().prop_map(|millis| Duration::from_millis(millis.into()))
}

fn class() -> impl Strategy<Value = NatClass> {
    prop_oneof![
        Just(NatClass::Unknown),
        Just(NatClass::EndpointIndependent),
        Just(NatClass::EndpointDependent)
    ]
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let kind = prop_oneof![
        Just(CandidateKind::Lan),
        Just(CandidateKind::Verified),
        Just(CandidateKind::Mapped),
        Just(CandidateKind::Observed)
    ];
    let sane =
        socket(Family::Both).prop_filter("one that can be sent to", |socket| Scope::Any.admits(*socket));
    let candidate = (kind, sane).prop_map(|(kind, address)| Candidate { address, kind });
    vec(candidate, 0..=MAX_CANDIDATES)
}

fn request() -> impl Strategy<Value = ReachRequest> {
    let both = Family::Both;
    prop_oneof![
        Just(ReachRequest::Hello),
        (socket(both), any::<[u8; 16]>()).prop_map(|(address, nonce)| ReachRequest::Check { address, nonce }),
        (socket(both), any::<[u8; 16]>())
            .prop_map(|(address, nonce)| ReachRequest::DialBack { address, nonce }),
        Just(ReachRequest::Reserve),
        Just(ReachRequest::Keep),
        Just(ReachRequest::Release),
        id().prop_map(|to| ReachRequest::Open { to }),
        (session(), id(), host(), socket(both), limits()).prop_map(
            |(session, from, from_host, seen, limits)| {
                ReachRequest::Incoming {
                    session,
                    from,
                    from_host,
                    seen,
                    limits,
                }
            }
        ),
        session().prop_map(|session| ReachRequest::Close { session }),
        session().prop_map(|session| ReachRequest::Meet { session }),
        (session(), wait()).prop_map(|(session, wait)| ReachRequest::Go { session, wait }),
        (class(), candidates(), any::<bool>()).prop_map(|(class, candidates, birthday)| {
            ReachRequest::Candidates {
                class,
                candidates,
                birthday,
            }
        }),
    ]
}

const REFUSALS: [ReachRefusal; 11] = [
    ReachRefusal::Unsupported,
    ReachRefusal::Malformed,
    ReachRefusal::Busy,
    ReachRefusal::TooSmall,
    ReachRefusal::BadAddress,
    ReachRefusal::NoTarget,
    ReachRefusal::Full,
    ReachRefusal::Relayed,
    ReachRefusal::NoReservation,
    ReachRefusal::Same,
    ReachRefusal::NoSession,
];

/// A request, and an answer that may be given to it.
fn exchange() -> impl Strategy<Value = (ReachRequest, ReachAnswer)> {
    let parts = (
        socket(Family::Both),
        any::<[bool; 4]>(),
        session(),
        (host(), host()),
        limits(),
        (any::<u64>(), wait()),
        (class(), candidates()),
        0..REFUSALS.len(),
    );
    (request(), parts).prop_map(
        |(
            asked,
            (observed, flags, session, hosts, limits, (seconds, wait), (class, candidates), refusal),
        )| {
            let answer = match asked {
                _ if flags[2] => ReachAnswer::Refused(REFUSALS[refusal]),
                ReachRequest::Hello => ReachAnswer::Hello {
                    observed,
                    serves: flags[0],
                    relays: flags[1],
                    also: flags[3].then_some(observed),
                },
                ReachRequest::Reserve => ReachAnswer::Reserved {
                    lifetime: Duration::from_secs(seconds),
                    limits,
                },
                ReachRequest::Keep => ReachAnswer::Kept { observed },
                ReachRequest::Open { .. } => ReachAnswer::Opened {
                    session,
                    peer_host: hosts.0,
                    seen: observed,
                    limits,
                },
                ReachRequest::Meet { .. } => ReachAnswer::Meet { wait },
                ReachRequest::Candidates { .. } => ReachAnswer::Candidates {
                    class,
                    candidates,
                    birthday: flags[0],
                },
                _ => ReachAnswer::Done,
            };
            (asked, answer)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_request_comes_back(request in request()) {
        let frame = request.encode().unwrap();
        prop_assert!(frame.len() <= MAX_REACH_FRAME - MAX_EXTENSION_BYTES);
        match request {
            ReachRequest::Check { .. } => prop_assert_eq!(frame.len(), CHECK_BYTES),
            ReachRequest::DialBack { .. } => prop_assert_eq!(frame.len(), DIAL_BACK_BYTES),
            _ => {}
        }
        prop_assert_eq!(ReachRequest::decode(&frame, Scope::Any), Ok(request));
    }

    #[test]
    fn every_answer_comes_back((asked, answer) in exchange()) {
        let frame = answer.encode(&asked).unwrap();
        prop_assert!(frame.len() <= MAX_REACH_FRAME - MAX_EXTENSION_BYTES);
        prop_assert_eq!(ReachAnswer::decode(&frame, &asked, Scope::Any), Ok(answer));
    }

    #[test]
    fn an_answer_to_something_else_is_refused((asked, answer) in exchange(), other in request()) {
        let frame = answer.encode(&asked).unwrap();
        let fits = std::mem::discriminant(&asked) == std::mem::discriminant(&other);
        let is_refusal = matches!(answer, ReachAnswer::Refused(_));
        let read = ReachAnswer::decode(&frame, &other, Scope::Any);
        match fits || is_refusal {
            true => prop_assert_eq!(read, Ok(answer)),
            false => prop_assert_eq!(read, Err(DecodeError::UnexpectedAnswer(frame[1]))),
        }
    }
}

#[test]
fn arbitrary_bytes_are_read_or_refused() {
    bolero::check!()
        .with_iterations(20_000)
        .with_max_len(512)
        .for_each(|bytes: &[u8]| {
            // As they are, and behind a header that is right.
            let kind = bytes.first().copied().unwrap_or_default();
            let framed = [&[1, 0x20 | kind & 0x8f, 0], bytes].concat();
            for frame in [Bytes::copy_from_slice(bytes), framed.into()] {
                if let Ok(request) = ReachRequest::decode(&frame, Scope::Any) {
                    let again = request.encode().unwrap();
                    assert_eq!(ReachRequest::decode(&again, Scope::Any), Ok(request));
                }
                for (_, asked) in requests() {
                    if let Ok(answer) = ReachAnswer::decode(&frame, &asked, Scope::Any) {
                        let again = answer.encode(&asked).unwrap();
                        assert_eq!(ReachAnswer::decode(&again, &asked, Scope::Any), Ok(answer));
                    }
                }
            }
        });
}

#[test]
fn frames_that_are_cut_or_lengthened_are_refused() {
    let whole = requests()
        .into_iter()
        .map(|(_, request)| (request.encode().unwrap(), request));
    for (frame, request) in whole {
        for end in 0..frame.len() {
            let cut = frame.slice(..end);
            assert!(
                ReachRequest::decode(&cut, Scope::Any).is_err(),
                "{request:?} cut at {end}"
            );
        }
        let longer = Bytes::from([&frame[..], &[0]].concat());
        let refused = ReachRequest::decode(&longer, Scope::Any);
        assert_eq!(refused, Err(DecodeError::TrailingBytes), "{request:?}");
    }
}

#[test]
fn every_reason_to_refuse_a_frame_has_a_name() {
    let read = |frame: &[u8]| ReachRequest::decode(&Bytes::copy_from_slice(frame), Scope::Any);
    assert_eq!(read(&[1, 0x21]), Err(DecodeError::Truncated));
    assert_eq!(read(&[2, 0x21, 0, 0]), Err(DecodeError::UnknownVersion(2)));
    assert_eq!(read(&[1, 0x21, 0x10, 0]), Err(DecodeError::UnknownFlags(0x10)));
    // Kinds of other streams are none here, and the other way round.
    for kind in [0x00, 0x01, 0x06, 0x20, 0x2d, 0x81, 0xa1, 0xff] {
        assert_eq!(read(&[1, kind, 0, 0]), Err(DecodeError::UnknownKind(kind)));
    }
    let large = vec![0; MAX_REACH_FRAME + 1];
    assert_eq!(read(&large), Err(DecodeError::TooLarge));
    let many = [&[1, 0x2c, 0, 0, MAX_CANDIDATES as u8 + 1][..], &[0; 200]].concat();
    assert_eq!(read(&many), Err(DecodeError::TooManyElements("candidates")));
    let padding = [
        &[1, 0x22, 0, 0, 1, 2, 3, 4, 9][..],
        &[7; 16],
        &[252, 0, 0, 0, 64, 0],
    ]
    .concat();
    assert_eq!(read(&padding), Err(DecodeError::Truncated));

    let answer =
        |frame: &[u8]| ReachAnswer::decode(&Bytes::copy_from_slice(frame), &ReachRequest::Hello, Scope::Any);
    let hello = |serves, relays| [1, 0xa1, 0, 0, 1, 2, 3, 4, 9, serves, relays, 0];
    assert!(answer(&hello(1, 0)).is_ok());
    assert_eq!(answer(&hello(2, 0)), Err(DecodeError::Body));
    assert_eq!(answer(&hello(0, 7)), Err(DecodeError::Body));
    // A reason that only a later version knows.
    assert_eq!(
        answer(&[1, 0xff, 0, 99, 0]),
        Ok(ReachAnswer::Refused(ReachRefusal::Unsupported))
    );
}

#[test]
fn a_refusal_says_what_is_wrong_with_a_request() {
    let of = |error| ReachRefusal::of_error(&error);
    assert_eq!(of(DecodeError::UnknownKind(9)), ReachRefusal::Unsupported);
    assert_eq!(of(DecodeError::Truncated), ReachRefusal::Malformed);
}

#[test]
fn a_wait_is_never_longer_than_can_be_written() {
    let go = ReachRequest::Go {
        session: SessionId(1),
        wait: Duration::from_secs(3600),
    };
    let read = ReachRequest::decode(&go.encode().unwrap(), Scope::Any).unwrap();
    let expected = ReachRequest::Go {
        session: SessionId(1),
        wait: LONGEST_WAIT,
    };
    assert_eq!(read, expected);
}

#[test]
fn candidates_outside_of_the_scope_are_left_out() {
    let candidate = |address: &str, kind| Candidate {
        address: address.parse().unwrap(),
        kind,
    };
    let lan = candidate("192.168.0.7:4000", CandidateKind::Lan);
    let far = candidate("8.8.8.8:4000", CandidateKind::Observed);
    let asked = ReachRequest::Candidates {
        class: NatClass::Unknown,
        candidates: vec![lan, candidate("10.0.0.1:4000", CandidateKind::Observed), far],
        birthday: false,
    };
    let read = ReachRequest::decode(&asked.encode().unwrap(), Scope::Global);
    let ReachRequest::Candidates { candidates, .. } = read.unwrap() else {
        panic!("candidates");
    };
    assert_eq!(candidates, [lan, far]);
}

fn session_of_document() -> SessionId {
    SessionId(0x0102_0304_0506_0708)
}

fn seen() -> SocketAddr {
    "192.0.2.1:4000".parse().unwrap()
}

fn id_of(seed: u8) -> NodeId {
    keypair(seed).node_id()
}

#[test]
fn what_the_document_prints_is_what_the_codec_writes_and_reads() {
    let mut written = Vec::new();
    for (name, request) in requests() {
        written.push((name.to_owned(), hex(&request.encode().unwrap())));
    }
    for (name, asked, answer) in answers() {
        written.push((name.to_owned(), hex(&answer.encode(&asked).unwrap())));
    }
    let block: Vec<String> = written
        .iter()
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    let printed = printed("reach-vectors");
    let written: BTreeMap<_, _> = written.into_iter().collect();
    assert_eq!(printed, written, "the vectors should be:\n{}", block.join("\n"));

    let frame = |name: &str| Bytes::from(unhex(&printed[name]));
    for (name, request) in requests() {
        let read = ReachRequest::decode(&frame(name), Scope::Any);
        assert_eq!(read, Ok(request), "{name}");
    }
    for (name, asked, answer) in answers() {
        let read = ReachAnswer::decode(&frame(name), &asked, Scope::Any);
        assert_eq!(read, Ok(answer), "{name}");
    }
}

/// Each request of the document.
fn requests() -> Vec<(&'static str, ReachRequest)> {
    let session = session_of_document();
    vec![
        ("hello", ReachRequest::Hello),
        (
            "check",
            ReachRequest::Check {
                address: seen(),
                nonce: [9; 16],
            },
        ),
        (
            "dial_back",
            ReachRequest::DialBack {
                address: "[2001:db8::2]:251".parse().unwrap(),
                nonce: [9; 16],
            },
        ),
        ("reserve", ReachRequest::Reserve),
        ("keep", ReachRequest::Keep),
        ("release", ReachRequest::Release),
        ("open", ReachRequest::Open { to: id_of(2) }),
        (
            "incoming",
            ReachRequest::Incoming {
                session,
                from: id_of(1),
                from_host: seen().ip(),
                seen: "[2001:db8::2]:4001".parse().unwrap(),
                limits: SessionLimits::of(&RelayConfig::default()),
            },
        ),
        ("close", ReachRequest::Close { session }),
        ("meet", ReachRequest::Meet { session }),
        (
            "go",
            ReachRequest::Go {
                session,
                wait: Duration::from_millis(300),
            },
        ),
        (
            "candidates",
            ReachRequest::Candidates {
                class: NatClass::EndpointIndependent,
                candidates: vec![
                    Candidate {
                        address: "192.168.0.7:4000".parse().unwrap(),
                        kind: CandidateKind::Lan,
                    },
                    Candidate {
                        address: seen(),
                        kind: CandidateKind::Observed,
                    },
                ],
                birthday: false,
            },
        ),
        ("candidates, many ports", many_ports()),
    ]
}

/// Asks for an attempt by many ports.
fn many_ports() -> ReachRequest {
    ReachRequest::Candidates {
        class: NatClass::EndpointIndependent,
        candidates: Vec::new(),
        birthday: true,
    }
}

/// Each answer of the document, and the request that it answers.
fn answers() -> Vec<(&'static str, ReachRequest, ReachAnswer)> {
    let (session, limits) = (session_of_document(), SessionLimits::of(&RelayConfig::default()));
    let hello = ReachAnswer::Hello {
        observed: seen(),
        serves: true,
        relays: false,
        also: None,
    };
    let check = ReachRequest::Check {
        address: seen(),
        nonce: [9; 16],
    };
    let opened = ReachAnswer::Opened {
        session,
        peer_host: "2001:db8::2".parse().unwrap(),
        seen: seen(),
        limits,
    };
    let reserved = ReachAnswer::Reserved {
        lifetime: Duration::from_secs(3600),
        limits,
    };
    let meet = ReachAnswer::Meet { wait: Duration::ZERO };
    let candidates = |birthday| ReachAnswer::Candidates {
        class: NatClass::EndpointDependent,
        candidates: Vec::new(),
        birthday,
    };
    let hello_of_both = ReachAnswer::Hello {
        observed: seen(),
        serves: true,
        relays: false,
        also: Some("[2001:db8::2]:4000".parse().unwrap()),
    };
    vec![
        ("hello, answered", ReachRequest::Hello, hello),
        (
            "hello, answered by a node of both families",
            ReachRequest::Hello,
            hello_of_both,
        ),
        ("check, passed on", check, ReachAnswer::Done),
        ("reserve, granted", ReachRequest::Reserve, reserved),
        (
            "keep, answered",
            ReachRequest::Keep,
            ReachAnswer::Kept { observed: seen() },
        ),
        ("open, granted", ReachRequest::Open { to: id_of(2) }, opened),
        ("meet, answered", ReachRequest::Meet { session }, meet),
        (
            "candidates, answered",
            ReachRequest::Candidates {
                class: NatClass::Unknown,
                candidates: Vec::new(),
                birthday: false,
            },
            candidates(false),
        ),
        ("candidates, begun", many_ports(), candidates(true)),
        (
            "refused, no place",
            ReachRequest::Open { to: id_of(2) },
            ReachAnswer::Refused(ReachRefusal::NoReservation),
        ),
    ]
}
