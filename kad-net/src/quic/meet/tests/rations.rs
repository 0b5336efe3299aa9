//! Where rations are asked for: before anything is sent.

use std::net::SocketAddr;

use super::*;
use crate::quic::meet::{direct, punching, session};
use crate::wire::Scope;

/// A node in the internet, as far as it knows; the addresses of these tests lead nowhere, and nothing is sent to them.
fn in_the_internet(n: u8) -> Arc<QuicTransport> {
    let config = ReachConfig {
        scope: Scope::Global,
        ..config(RoleChoice::Client)
    };
    node(n, config)
}

#[tokio::test]
async fn whom_a_card_names_is_dialled_within_the_rations() {
    let one = in_the_internet(160);
    let victim = SocketAddr::from(([192, 0, 2, 1], 4001));
    let now = one.shared.mux.now();
    while one.shared.meetings.dials().take(now, victim.ip(), Scope::Global) {}
    let sent = one.quic_stats().socket.sent;
    let refused = soon(direct::attempt(&one.shared, victim, key(161).node_id())).await;
    let refused = refused.unwrap_err();
    assert!(refused.to_string().contains("dialled too often"), "{refused}");
    assert_eq!(one.quic_stats().socket.sent, sent);
}

#[tokio::test]
async fn relays_that_a_card_names_are_dialled_within_the_rations() {
    let one = in_the_internet(162);
    let relay = |n: u8| Contact::new(key(n).node_id(), "192.0.2.1:4001".parse().unwrap());
    let granted = (0..100).filter(|n| session::may_dial(&one.shared, &relay(*n)));
    assert_eq!(granted.count(), 12, "whatever their ids are");
}

#[tokio::test]
async fn attempts_to_punch_begin_within_the_rations() {
    let one = in_the_internet(163);
    let begin = |targets: &[&str]| {
        let targets = targets.iter().map(|target| target.parse().unwrap()).collect();
        let granted = punching::granted(&one.shared, targets)?;
        Some(granted.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(begin(&[]), Some(Vec::new()), "who names nobody asks for nothing");
    let two_ports = ["192.0.2.1:4001", "192.0.2.1:4002"];
    for _ in 0..30 {
        assert_eq!(
            begin(&two_ports).unwrap(),
            two_ports,
            "an attempt is one, whatever ports it tries"
        );
    }
    assert_eq!(begin(&two_ports), None);
    let with_another = ["192.0.2.1:4001", "198.51.100.1:4001"];
    assert_eq!(begin(&with_another).unwrap(), ["198.51.100.1:4001"]);
    // Where nobody can be harmed everything is as before.
    let private = node(164, config(RoleChoice::Client));
    for _ in 0..100 {
        let target = vec!["10.0.0.1:4001".parse().unwrap()];
        assert!(punching::granted(&private.shared, target).is_some());
    }
}
