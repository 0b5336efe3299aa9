//! Two of which one is seen at another port by everybody, and the other one lets in only ports that it has sent to.

use std::sync::PoisonError;

use super::*;
use crate::nat::birthday::MAX_SOCKETS;
use crate::nat::observation::NatClass;
use crate::quic::mux::between::Narrow;

/// How many attempts a node has begun.
fn attempts(node: &QuicTransport) -> u64 {
    node.shared.meetings.birthdays.turns().made()
}

/// `hidden` is the one behind the NAT with many ports.
fn hide(hidden: &QuicTransport, narrow: &QuicTransport) {
    let class = |node: &QuicTransport, class| {
        let mut told = node
            .shared
            .meetings
            .class
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *told = Some(class);
    };
    class(hidden, NatClass::EndpointDependent);
    class(narrow, NatClass::EndpointIndependent);
    *narrow.shared.mux.between.narrow.lock().unwrap() = Some(Narrow::towards(socket_of(hidden)));
}

/// A direct path is found, or nothing is lost: of a thousand attempts one is in vain, and the second one comes within
/// the time for which a path is waited for.
async fn becomes_direct(world: &World, hidden: &QuicTransport, narrow: &QuicTransport) {
    hide(hidden, narrow);
    let connection = world.connect_by(&world.card_behind_nat()).await;
    assert_eq!(connection.path().borrow().kind, Some(PathKind::Relayed));
    let (echoed, report) = tokio::join!(
        echo(&connection, 1 << 20),
        path(&connection, "is direct", |report| report.kind
            == Some(PathKind::Punched))
    );
    let () = echoed;
    let remote = report.remote.unwrap();
    assert_eq!(remote.ip(), socket_of(&world.other).ip());
    // Who is hidden is met at a port of its own; the other one at the port that everybody knows.
    let at_its_own = remote == socket_of(&world.other);
    assert_eq!(at_its_own, !std::ptr::eq(hidden, &*world.other), "{report:?}");
    assert!(report.why.contains("ports after"), "{report:?}");
    echo(&connection, 100_000).await;
    eventually("the session is over", || {
        world.relay.quic_stats().relay.sessions == 0
    })
    .await;
    echo(&connection, 100_000).await;
    assert_eq!(connection.path().borrow().kind, Some(PathKind::Punched));
    assert!((1..=2).contains(&attempts(hidden)), "{}", attempts(hidden));
    assert_eq!(attempts(hidden), attempts(narrow));
    // Of all ports that were open, the one is left over which they talk; and nothing when that is over.
    let mut opened: Vec<u16> = {
        let narrow = narrow.shared.mux.between.narrow.lock().unwrap();
        narrow.as_ref().unwrap().seen.iter().copied().collect()
    };
    // Each has sent something; the first sixteen were opened before anything could be met.
    assert!((16..=2 * MAX_SOCKETS).contains(&opened.len()), "{}", opened.len());
    let host = socket_of(hidden).ip();
    opened.retain(|&port| std::net::UdpSocket::bind((host, port)).is_err());
    assert_eq!(opened.len(), 1, "{opened:?}");
    soon(async { tokio::join!(hidden.close(), narrow.close()) }).await;
    assert!(
        std::net::UdpSocket::bind((host, opened[0])).is_ok(),
        "it is still open"
    );
}

#[tokio::test]
async fn a_peer_behind_a_nat_with_many_ports_is_met_at_one_of_them() {
    let world = World::of(159, wide(), [true; 2]).await;
    becomes_direct(&world, &world.other, &world.one).await;
}

#[tokio::test]
async fn who_is_behind_a_nat_with_many_ports_meets_others() {
    let world = World::of(162, wide(), [true; 2]).await;
    becomes_direct(&world, &world.one, &world.other).await;
}

#[tokio::test]
async fn nothing_is_tried_unless_both_want_it() {
    for (first, wants) in [(165, [true, false]), (168, [false, true])] {
        let world = World::of(first, wide(), wants).await;
        hide(&world.other, &world.one);
        let connection = world.connect_by(&world.card_behind_nat()).await;
        path(&connection, "is explained", |report| {
            report.why.contains("no packet came through")
        })
        .await;
        // Whether the peer wants it was asked before, if at all, over the same path; the turn is given back with the
        // answer.
        echo(&connection, 100_000).await;
        eventually("the turn is given back", || {
            let now = world.one.shared.mux.now();
            let mut turns = world.one.shared.meetings.birthdays.turns();
            let free = turns.take(now, &world.other.local().id);
            if free {
                turns.end(now, false);
            }
            free
        })
        .await;
        assert_eq!((attempts(&world.one), attempts(&world.other)), (0, 0));
        assert_eq!(connection.path().borrow().kind, Some(PathKind::Relayed));
    }
}
