//! Frames that are none, and members that are none: refused by name, and the connection goes on.

use bytes::Bytes;
use kad_core::{Contact, NetworkId, Parameters, Rejection, Request, Response};
use kad_net::quic::{QuicConfig, QuicError, QuicTransport};
use kad_net::{MAX_FRAME, Transport as _};

use super::attackers::{Crowd, LOOPBACK, answer_to, find_node, frame, key, member, ping, reset_code, target};
use super::nodes::{Plain, soon};
use crate::process::Daemon;

#[tokio::test]
async fn frames_that_are_none_are_refused_by_name() {
    let daemon = Daemon::start::<&str>(&[]);
    let (attacker, to) = (member(1), target(&daemon));
    let refused = async |bytes: &[u8]| {
        let frame = Bytes::copy_from_slice(bytes);
        match answer_to(&attacker, &to, frame, &Request::Ping).await {
            Response::Rejected(rejection) => rejection,
            other => panic!("{bytes:?} was answered with {other:?}"),
        }
    };
    let whole = find_node(1);
    for length in 0..whole.len() {
        assert_eq!(
            refused(&whole[..length]).await,
            Rejection::Malformed,
            "{length} bytes"
        );
    }
    assert_eq!(
        refused(&[&ping()[..], &[0]].concat()).await,
        Rejection::Malformed,
        "a byte too many"
    );
    assert_eq!(
        refused(&[1, 4, 0, 65]).await,
        Rejection::Malformed,
        "more records than there may be"
    );
    assert_eq!(
        refused(&[1, 4, 0, 64]).await,
        Rejection::Malformed,
        "more records than there are"
    );
    let part = |bits: u8, length: u8| [&[bits, length, 0][..], &[0; 16]].concat();
    let compare = |parts: &[Vec<u8>]| [&[1, 5, 0, parts.len() as u8], &parts.concat()[..], &[0]].concat();
    for (frame, why) in [
        (compare(&[]), "nothing is compared"),
        (compare(&[part(0, 3), part(0, 3)]), "a part twice"),
        (compare(&[part(0, 3), part(0, 4)]), "a part of another part"),
        (compare(&[part(1, 3)]), "bits beyond the length of a prefix"),
        (vec![1, 5, 0, 65], "more parts than there may be"),
        (vec![1, 6, 0, 0, 0, 0, 0], "nothing is fetched"),
        (vec![1, 6, 0, 0, 0, 65], "more marks than there may be"),
    ] {
        assert_eq!(refused(&frame).await, Rejection::Malformed, "{why}");
    }
    assert_eq!(
        refused(&[2, 1, 0, 0]).await,
        Rejection::Unsupported,
        "another version"
    );
    for kind in [0, 7, 0x7f, 0x81, 0xff] {
        assert_eq!(
            refused(&[1, kind, 0, 0]).await,
            Rejection::Unsupported,
            "kind {kind}"
        );
    }
    for flag in [0x10, 0x20, 0x40, 0x80] {
        assert_eq!(
            refused(&[1, 1, flag, 0]).await,
            Rejection::Unsupported,
            "flag {flag:#x}"
        );
    }
    let mut find_value = vec![1, 3, 0];
    find_value.extend([0; 32]);
    find_value.extend([9, 0, 0, 0, 0]);
    assert_eq!(
        refused(&find_value).await,
        Rejection::Unsupported,
        "an unknown kind of record"
    );
    assert_eq!(
        refused(&vec![0xff; MAX_FRAME]).await,
        Rejection::Unsupported,
        "a frame full of nothing"
    );

    let answer = soon(attacker.request(&to, ping())).await.unwrap();
    assert!(answer.warm, "the connection outlived all of it");
    assert_eq!(attacker.stats().dialled, 1);
}

#[tokio::test]
async fn streams_that_carry_no_frame_are_refused_by_a_code() {
    let daemon = Daemon::start::<&str>(&[]);
    let to = target(&daemon);
    let connection = soon(Crowd::new(quinn::TransportConfig::default()).connect(2, &to))
        .await
        .unwrap();
    let send = async |bytes: &[u8]| {
        let (mut send, mut recv) = soon(connection.open_bi()).await.unwrap();
        // It may be refused before all of it is written.
        let _ = soon(send.write_all(bytes)).await;
        let _ = send.finish();
        reset_code(&mut recv).await
    };
    assert_eq!(send(&vec![1; MAX_FRAME + 2]).await, Ok(2), "a frame too large");
    assert_eq!(
        send(&[7, 1, 1, 0, 0]).await,
        Ok(3),
        "a kind of stream of some later version"
    );
    assert_eq!(send(&[]).await, Ok(3), "nothing");
    assert!(
        send(&[&[1], &ping()[..]].concat()).await.is_err(),
        "a request is answered"
    );
    assert_eq!(connection.close_reason(), None);
}

#[tokio::test]
async fn who_is_no_member_or_somebody_else_gets_no_further_than_the_handshake() {
    let daemon = Daemon::start::<&str>(&[]);
    let to = target(&daemon);
    let elsewhere = NetworkId::new("elsewhere", &Parameters::default());
    let foreign = QuicTransport::bind(QuicConfig::new(key(1), elsewhere, vec![LOOPBACK])).unwrap();
    assert_eq!(
        soon(foreign.request(&to, ping())).await.unwrap_err(),
        QuicError::OtherNetwork
    );

    // Other parameters are another network, whatever it is called.
    let parameters = Parameters {
        k: 7,
        ..Parameters::default()
    };
    let renamed = NetworkId::new(kad_node::DEFAULT_NETWORK, &parameters);
    let foreign = QuicTransport::bind(QuicConfig::new(key(1), renamed, vec![LOOPBACK])).unwrap();
    assert_eq!(
        soon(foreign.request(&to, ping())).await.unwrap_err(),
        QuicError::OtherNetwork
    );

    let attacker = member(1);
    let mistaken = Contact::new(key(9).node_id(), to.address.clone());
    let error = soon(attacker.request(&mistaken, ping())).await.unwrap_err();
    assert_eq!(
        error,
        QuicError::WrongIdentity {
            expected: mistaken.id,
            found: to.id
        }
    );

    for nobody in [
        Plain::new(None, &format!("nkad/1/{}", daemon.network)),
        Plain::new(Some(&key(3)), "h3"),
    ] {
        let address = kad_net::WireAddress::sockets(&to.address)[0];
        // In TLS 1.3 the client is done first, and hears of its refusal a moment later.
        if let Ok(connection) = soon(nobody.0.connect(address, "nkad").unwrap()).await {
            soon(connection.closed()).await;
        }
    }
    soon(attacker.request(&to, frame(&Request::Ping))).await.unwrap();
}
