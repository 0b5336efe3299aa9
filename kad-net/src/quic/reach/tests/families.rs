//! Nodes of both families: what they tell others of each other.

use super::*;
use crate::nat::prefix::Family;
use crate::quic::families;

/// A server on host `n` and on the loopback of IPv6.
fn of_both(n: u8) -> Arc<QuicTransport> {
    let config = QuicConfig {
        reach: config(RoleChoice::Server),
        ..QuicConfig::new(key(n), network(), vec![host(n), "[::1]:0".parse().unwrap()])
    };
    Arc::new(QuicTransport::bind(config).unwrap())
}

fn socket(node: &QuicTransport, family: Family) -> SocketAddr {
    let address = node.local().address;
    let mut sockets = address.sockets().iter();
    *sockets.find(|socket| Family::of(socket.ip()) == family).unwrap()
}

/// The contact of a node in one family.
fn contact_in(node: &QuicTransport, family: Family) -> Contact<QuicAddress> {
    Contact::new(node.local().id, socket(node, family).into())
}

#[tokio::test]
async fn a_server_that_knows_another_one_in_one_family_goes_and_looks_in_the_other() {
    let (subject, other) = (of_both(201), of_both(202));
    let known = contact_in(&other, Family::V4);
    link(&subject, &known).await;
    // It hears of the other address, dials it, and then may tell others.
    let v6 = socket(&other, Family::V6);
    let reached = || {
        let now = subject.shared.mux.now();
        subject.shared.reached.place(now, &known.id, Family::V6) == Some(v6)
    };
    eventually("it was there", reached).await;
    let met = subject.shared.with_other_family(&known.id, known.address.clone());
    assert_eq!(met, other.local().address);
}

#[tokio::test]
async fn what_is_said_of_a_peer_and_is_not_so_is_told_nobody() {
    let (subject, other, third) = (of_both(203), server(204), of_both(205));
    let known = contact_in(&other, Family::V4);
    link(&subject, &known).await;
    let now = subject.shared.mux.now();
    // Somebody else lives there.
    subject
        .shared
        .reached
        .claim(now, known.id, socket(&third, Family::V6));
    eventually("it was looked at", || subject.stats().wrong_identity > 0).await;
    let place = subject.shared.reached.place(now, &known.id, Family::V6);
    assert_eq!(place, None);
}

#[tokio::test]
async fn a_connection_in_the_family_that_is_wanted_takes_the_place_of_another() {
    let (subject, relay) = (of_both(206), of_both(207));
    for family in [Family::V4, Family::V6] {
        let met = soon(connect::link_at(&subject.shared, &contact_in(&relay, family))).await;
        let at = met.unwrap().link().connection.remote_address();
        assert_eq!(at, socket(&relay, family));
    }
    // One that fits is used again.
    let before = subject.stats().dialled;
    let both = relay.local();
    soon(connect::link_at(&subject.shared, &both)).await.unwrap();
    soon(connect::link_at(&subject.shared, &contact_in(&relay, Family::V6)))
        .await
        .unwrap();
    assert_eq!(subject.stats().dialled, before);
}

#[tokio::test]
async fn half_of_the_peers_of_both_families_are_met_in_each() {
    let subject = of_both(208);
    let mut met = Vec::new();
    for n in 209..217 {
        let peer = of_both(n);
        let at = link(&subject, &peer.local())
            .await
            .link()
            .connection
            .remote_address();
        let first = families::first_for(subject.local().id, peer.local().id);
        assert_eq!(Family::of(at.ip()), first);
        met.push(first);
    }
    assert!(met.contains(&Family::V4) && met.contains(&Family::V6), "{met:?}");
}
