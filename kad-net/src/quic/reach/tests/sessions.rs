//! Sessions: opened through a relay, used, and over at both ends.

use super::*;
use crate::nat::relay::RelayConfig;
use crate::quic::mux::Side;
use crate::quic::reach::{Arrival, NotOpened, meet, open};
use crate::wire::reach::ReachRefusal;

/// A relay, and two clients that have a place there.
async fn meeting(first: u8, relay: RelayConfig) -> [Arc<QuicTransport>; 3] {
    let relay = node(
        first,
        ReachConfig {
            relay: Some(relay),
            ..config(RoleChoice::Server)
        },
    );
    let [one, other] = [first + 1, first + 2].map(|n| node(n, config(RoleChoice::Client)));
    for client in [&one, &other] {
        dial(client, &relay).await;
        stands(client, "has a place", |standing| standing.relays.len() == 1).await;
    }
    [relay, one, other]
}

#[tokio::test]
async fn two_that_cannot_be_dialled_meet_at_a_relay() {
    let [relay, one, other] = meeting(91, RelayConfig::default()).await;
    let mut arrivals = other.reach().sessions.intercept();
    let opened = soon(open(&one.shared, &relay.local(), other.local().id))
        .await
        .unwrap();
    let arrived = arrival(&mut arrivals).await;
    assert_eq!(opened.session, arrived.session);
    assert_eq!((opened.peer, arrived.peer), (other.local().id, one.local().id));
    assert_eq!((opened.side, arrived.side), (Side::Opener, Side::Answerer));
    assert_eq!(
        (opened.relay, arrived.relay),
        (relay.local().id, relay.local().id)
    );
    let (one_at, other_at) = (socket_of(&one), socket_of(&other));
    assert_eq!((opened.seen, opened.peer_host), (one_at, other_at.ip()));
    assert_eq!((arrived.seen, arrived.peer_host), (other_at, one_at.ip()));
    assert_eq!(opened.limits, arrived.limits);
    assert_eq!(opened.limits.bytes, RelayConfig::default().session_bytes);

    // What one sends to the fake address comes to the other.
    one.shared
        .mux
        .send_relayed(opened.route.fake(), b"\x40 a datagram");
    eventually("it came through", || other.quic_stats().socket.relayed == 1).await;
    other
        .shared
        .mux
        .send_relayed(arrived.route.fake(), b"\x40 and back");
    eventually("so did the answer", || one.quic_stats().socket.relayed == 1).await;
    assert_eq!(relay.quic_stats().relay.forwarded, 2);

    // A third, even with a place there, has no say in it.
    let stranger = node(159, config(RoleChoice::Client));
    dial(&stranger, &relay).await;
    stands(&stranger, "has a place", |standing| standing.relays.len() == 1).await;
    let session = opened.session;
    for request in [ReachRequest::Meet { session }, ReachRequest::Close { session }] {
        let answer = question(&stranger, &relay.local(), &request).await;
        match request {
            ReachRequest::Close { .. } => assert_eq!(answer, Ok(ReachAnswer::Done)),
            _ => assert_eq!(answer, Err(NotHeard::Refused(ReachRefusal::NoSession))),
        }
    }
    assert_eq!(relay.quic_stats().relay.sessions, 1);

    // Both are told when to punch, once.
    let wait = soon(meet(&one.shared, &opened)).await.unwrap();
    let told = soon(arrivals.recv()).await;
    let Some(Arrival::Go {
        session,
        wait: others,
        ..
    }) = told
    else {
        panic!("no GO: {told:?}");
    };
    assert_eq!(session, opened.session);
    assert!(wait < Duration::from_millis(500) && others < Duration::from_millis(500));
    assert_eq!(
        soon(meet(&one.shared, &opened)).await,
        Err(NotOpened::Refused(ReachRefusal::Busy))
    );

    // Who gives it up ends it for both.
    drop(opened);
    soon(arrived.over()).await;
    eventually("it is gone", || relay.quic_stats().relay.sessions == 0).await;
}

#[tokio::test]
async fn a_session_whose_time_is_over_is_so_at_both_ends() {
    let limits = RelayConfig {
        session: Duration::from_millis(100),
        ..RelayConfig::default()
    };
    let [relay, one, other] = meeting(94, limits).await;
    let mut arrivals = other.reach().sessions.intercept();
    let opened = soon(open(&one.shared, &relay.local(), other.local().id))
        .await
        .unwrap();
    let arrived = arrival(&mut arrivals).await;
    soon(opened.over()).await;
    soon(arrived.over()).await;
    assert_eq!(relay.quic_stats().relay.sessions, 0);
}

#[tokio::test]
async fn a_session_whose_bytes_are_used_up_is_over_at_both_ends() {
    let limits = RelayConfig {
        session_bytes: 100,
        ..RelayConfig::default()
    };
    let [relay, one, other] = meeting(97, limits).await;
    let mut arrivals = other.reach().sessions.intercept();
    let opened = soon(open(&one.shared, &relay.local(), other.local().id))
        .await
        .unwrap();
    let arrived = arrival(&mut arrivals).await;
    for _ in 0..2 {
        one.shared.mux.send_relayed(opened.route.fake(), &[0x40; 60]);
    }
    soon(opened.over()).await;
    soon(arrived.over()).await;
    assert_eq!(relay.quic_stats().relay.forwarded, 1);
}

#[tokio::test]
async fn the_end_of_one_end_or_of_the_relay_ends_a_session() {
    let [relay, one, other] = meeting(100, RelayConfig::default()).await;
    let mut arrivals = other.reach().sessions.intercept();
    let opened = soon(open(&one.shared, &relay.local(), other.local().id))
        .await
        .unwrap();
    let arrived = arrival(&mut arrivals).await;
    soon(one.close()).await;
    soon(arrived.over()).await;
    drop(opened);

    let third = node(103, config(RoleChoice::Client));
    let opened = soon(open(&third.shared, &relay.local(), other.local().id))
        .await
        .unwrap();
    let arrived = arrival(&mut arrivals).await;
    soon(relay.close()).await;
    soon(opened.over()).await;
    soon(arrived.over()).await;
}

#[tokio::test]
async fn nobody_has_a_session_with_one_that_has_no_place_or_wants_none() {
    let [relay, one, other] = meeting(104, RelayConfig::default()).await;
    let absent = key(200).node_id();
    assert_eq!(
        soon(open(&one.shared, &relay.local(), absent)).await.unwrap_err(),
        NotOpened::Refused(ReachRefusal::NoReservation)
    );
    assert_eq!(
        soon(open(&one.shared, &relay.local(), one.local().id))
            .await
            .unwrap_err(),
        NotOpened::Refused(ReachRefusal::Same)
    );
    // A peer has two with one other at a time, and others when those are over.
    let _waiting = other.reach().sessions.intercept();
    let stranger = node(107, config(RoleChoice::Client));
    let mut opened = Vec::new();
    for _ in 0..2 {
        opened.push(
            soon(open(&stranger.shared, &relay.local(), other.local().id))
                .await
                .unwrap(),
        );
    }
    assert_eq!(
        soon(open(&stranger.shared, &relay.local(), other.local().id))
            .await
            .unwrap_err(),
        NotOpened::Refused(ReachRefusal::Full)
    );
    drop(opened);
    eventually("they are gone", || relay.quic_stats().relay.sessions == 0).await;
    drop(
        soon(open(&stranger.shared, &relay.local(), other.local().id))
            .await
            .unwrap(),
    );
}

#[tokio::test]
async fn a_session_that_nobody_waits_for_any_more_is_closed_when_it_is_there() {
    let [relay, one, other] = meeting(108, RelayConfig::default()).await;
    let mut arrivals = other.reach().sessions.intercept();
    let (relayed, to) = (relay.local(), other.local().id);
    let mut opening = Box::pin(open(&one.shared, &relayed, to));
    assert!(futures::poll!(&mut opening).is_pending());
    drop(opening);
    let arrived = arrival(&mut arrivals).await;
    soon(arrived.over()).await;
}

#[tokio::test]
async fn who_declines_a_session_ends_it_for_who_opened_it() {
    let many = RelayConfig {
        sessions_per_pair: 16,
        sessions_per_opener: 16,
        sessions_per_target: 16,
        sessions_per_host: 16,
        ..RelayConfig::default()
    };
    let [relay, one, other] = meeting(160, many).await;
    // As many as one relay may have arrive; nobody takes them.
    let _waiting = other.reach().sessions.intercept();
    let mut opened = Vec::new();
    for _ in 0..8 {
        opened.push(
            soon(open(&one.shared, &relay.local(), other.local().id))
                .await
                .unwrap(),
        );
    }
    let ninth = soon(open(&one.shared, &relay.local(), other.local().id))
        .await
        .unwrap();
    soon(ninth.over()).await;
    eventually("only those are left that were taken", || {
        relay.quic_stats().relay.sessions == 8
    })
    .await;
}

#[tokio::test]
async fn who_gives_its_place_up_keeps_its_sessions() {
    let [relay, one, other] = meeting(181, RelayConfig::default()).await;
    let mut arrivals = other.reach().sessions.intercept();
    let opened = soon(open(&one.shared, &relay.local(), other.local().id))
        .await
        .unwrap();
    let arrived = arrival(&mut arrivals).await;
    let released = question(&other, &relay.local(), &ReachRequest::Release).await;
    assert_eq!(released, Ok(ReachAnswer::Done));
    one.shared.mux.send_relayed(opened.route.fake(), b"\x40 still");
    eventually("it came through", || other.quic_stats().socket.relayed == 1).await;
    assert_eq!(relay.quic_stats().relay.sessions, 1);
    drop(opened);
    soon(arrived.over()).await;
}
