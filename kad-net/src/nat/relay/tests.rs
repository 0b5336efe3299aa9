mod oracle;

use kad_core::Duration;
use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

fn id(n: u64) -> NodeId {
    NodeId::from_limbs([n, 0, 0, 0])
}

/// Everybody is on a site of their own.
fn leg(n: u64) -> SocketAddr {
    SocketAddr::from(([20 + (n / 256) as u8, n as u8, 0, 1], 4001))
}

fn relay(config: RelayConfig) -> Relay {
    Relay::new(config, Scope::Global, &[5; 32], at(0))
}

fn tell(relay: &mut Relay, millis: u64, event: Event) -> Vec<Action> {
    let mut out = Vec::new();
    relay.handle(at(millis), event, &mut out);
    out
}

const fn reserve(peer: NodeId, leg: SocketAddr) -> Event {
    let relayed = false;
    Event::Reserve { peer, leg, relayed }
}

fn opens(from: u64, to: u64) -> Event {
    Event::Open {
        peer: id(from),
        leg: leg(from),
        relayed: false,
        to: id(to),
    }
}

fn open(relay: &mut Relay, millis: u64, from: u64, to: u64) -> SessionId {
    match tell(relay, millis, opens(from, to))[..] {
        [Action::Opened { session, .. }] => session,
        ref other => panic!("{other:?}"),
    }
}

fn refusal(out: &[Action]) -> Option<Refusal> {
    match out {
        [Action::Refused { why, .. }] => Some(*why),
        _ => None,
    }
}

#[test]
fn a_relay_that_was_in_a_private_network_and_is_in_the_internet_counts_sites() {
    let config = RelayConfig {
        reservations_per_site: 2,
        ..RelayConfig::default()
    };
    let mut relay = Relay::new(config, Scope::Any, &[5; 32], at(0));
    // Each on another host of one network.
    let beside = |n: u8| SocketAddr::from(([20, 1, 0, n], 4001));
    let asks = |relay: &mut Relay, n: u8| refusal(&tell(relay, 0, reserve(id(n.into()), beside(n))));
    assert!((1..=4).all(|n| asks(&mut relay, n).is_none()));
    relay.went_public();
    assert_eq!(asks(&mut relay, 5), Some(Refusal::Full));
}

#[test]
fn datagrams_go_between_the_two_legs_of_a_session_and_nowhere_else() {
    let mut relay = relay(RelayConfig::default());
    assert!(matches!(
        tell(&mut relay, 0, reserve(id(1), leg(1)))[..],
        [Action::Reserved { .. }]
    ));
    let session = open(&mut relay, 0, 2, 1);
    assert_eq!(
        relay.forward(at(1), session, leg(2), 1200),
        Verdict::Forward { to: leg(1) }
    );
    assert_eq!(
        relay.forward(at(1), session, leg(1), 1200),
        Verdict::Forward { to: leg(2) }
    );
    let stranger = Verdict::Drop(Reason::Stranger);
    assert_eq!(relay.forward(at(1), session, leg(3), 1200), stranger);
    let other_port = SocketAddr::new(leg(2).ip(), 4002);
    assert_eq!(relay.forward(at(1), session, other_port, 1200), stranger);
    assert_eq!(
        relay.forward(at(1), SessionId(7), leg(2), 1200),
        Verdict::Drop(Reason::NoSession)
    );
    for bytes in [0, MAX_DATAGRAM + 1, usize::MAX] {
        assert_eq!(
            relay.forward(at(1), session, leg(2), bytes),
            Verdict::Drop(Reason::Size)
        );
    }
    assert_eq!(
        (
            relay.stats().forwarded,
            relay.stats().bytes,
            relay.stats().dropped
        ),
        (2, 2400, 6)
    );
}

#[test]
fn a_leg_moves_only_with_the_connection_of_its_peer() {
    let mut relay = relay(RelayConfig::default());
    tell(&mut relay, 0, reserve(id(1), leg(1)));
    let session = open(&mut relay, 0, 2, 1);
    assert_eq!(
        relay.forward(at(0), session, leg(9), 1),
        Verdict::Drop(Reason::Stranger)
    );
    tell(
        &mut relay,
        0,
        Event::Moved {
            peer: id(1),
            leg: leg(9),
        },
    );
    assert_eq!(
        relay.forward(at(0), session, leg(9), 1),
        Verdict::Forward { to: leg(2) }
    );
    assert_eq!(
        relay.forward(at(0), session, leg(1), 1),
        Verdict::Drop(Reason::Stranger)
    );
    let later = open(&mut relay, 0, 3, 1);
    assert_eq!(
        relay.forward(at(0), later, leg(3), 1),
        Verdict::Forward { to: leg(9) }
    );
    let out = tell(
        &mut relay,
        0,
        Event::Moved {
            peer: id(2),
            leg: leg(9),
        },
    );
    assert!(
        matches!(out[..], [Action::Closed { why: End::Gone, .. }]),
        "both ends at one address"
    );
}

#[test]
fn a_peer_that_asks_over_a_new_connection_has_moved() {
    let mut relay = relay(RelayConfig::default());
    tell(&mut relay, 0, reserve(id(1), leg(1)));
    let session = open(&mut relay, 0, 2, 1);
    tell(&mut relay, 1, reserve(id(1), leg(9)));
    assert_eq!(
        relay.forward(at(1), session, leg(2), 1),
        Verdict::Forward { to: leg(9) }
    );
    tell(&mut relay, 1, reserve(id(3), leg(3)));
    let elsewhere = Event::Open {
        peer: id(2),
        leg: leg(8),
        relayed: false,
        to: id(3),
    };
    tell(&mut relay, 1, elsewhere);
    assert_eq!(
        relay.forward(at(1), session, leg(9), 1),
        Verdict::Forward { to: leg(8) }
    );
}

#[test]
fn nobody_is_forwarded_to_who_did_not_ask_for_it() {
    let mut relay = relay(RelayConfig::default());
    assert_eq!(
        refusal(&tell(&mut relay, 0, opens(2, 1))),
        Some(Refusal::NoReservation)
    );
    tell(&mut relay, 0, reserve(id(1), leg(1)));
    assert_eq!(refusal(&tell(&mut relay, 0, opens(1, 1))), Some(Refusal::Same));
    let beside = Event::Open {
        peer: id(2),
        leg: leg(1),
        relayed: false,
        to: id(1),
    };
    assert_eq!(refusal(&tell(&mut relay, 0, beside)), Some(Refusal::Same));
}

#[test]
fn relays_are_not_chained() {
    let mut relay = relay(RelayConfig::default());
    let chained = Event::Reserve {
        peer: id(1),
        leg: leg(1),
        relayed: true,
    };
    assert_eq!(refusal(&tell(&mut relay, 0, chained)), Some(Refusal::Relayed));
    tell(&mut relay, 0, reserve(id(1), leg(1)));
    let chained = Event::Open {
        peer: id(2),
        leg: leg(2),
        relayed: true,
        to: id(1),
    };
    assert_eq!(refusal(&tell(&mut relay, 0, chained)), Some(Refusal::Relayed));
}

#[test]
fn places_are_limited_for_hosts_for_sites_and_in_all_and_can_be_renewed_when_all_are_taken() {
    let got =
        |relay: &mut Relay, n: u64, leg: SocketAddr| refusal(&tell(relay, 0, reserve(id(n), leg))).is_none();
    let one_host = |n: u64| SocketAddr::from(([8, 8, 8, 8], 2000 + n as u16));
    let mut relay = relay(RelayConfig::default());
    assert_eq!((0..50).filter(|&n| got(&mut relay, n, one_host(n))).count(), 8);
    let one_site = |n: u64| SocketAddr::from(([8, 8, 8, n as u8], 2000));
    assert_eq!((100..150).filter(|&n| got(&mut relay, n, one_site(n))).count(), 8);
    assert_eq!((1000..1500).filter(|&n| got(&mut relay, n, leg(n))).count(), 112);
    assert_eq!(relay.stats().reservations, 128);
    assert!(got(&mut relay, 0, one_host(0)), "a renewal needs no new place");
    tell(&mut relay, 0, Event::Release { peer: id(1000) });
    assert!(got(&mut relay, 5000, leg(5000 % 700)));
}

#[test]
fn one_peer_and_one_host_get_a_part_of_the_sessions() {
    let mut relay = relay(RelayConfig::default());
    for n in 0..30 {
        tell(&mut relay, 0, reserve(id(n), leg(n)));
    }
    let mut opened = |event: Event| refusal(&tell(&mut relay, 0, event)).is_none();
    assert_eq!(
        (0..30).filter(|&n| opened(opens(100, n))).count(),
        4,
        "a hog that opens"
    );
    assert_eq!(
        (0..9).filter(|_| opened(opens(101, 10))).count(),
        2,
        "one that calls one other"
    );
    // One called twice already.
    assert_eq!(
        (200..230).filter(|&n| opened(opens(n, 10))).count(),
        6,
        "a hog that is called"
    );
    assert!(opened(opens(10, 11)), "which may still call others");
    let many_ids = |n: u64| Event::Open {
        peer: id(300 + n),
        leg: ([8, 8, 8, 8], 2000 + n as u16).into(),
        relayed: false,
        to: id(n),
    };
    assert_eq!(
        (0..30).filter(|&n| opened(many_ids(n))).count(),
        3,
        "a hog with many ids"
    );
    assert_eq!(
        (400..430).filter(|&n| opened(opens(n, n - 400))).count(),
        0,
        "all together"
    );
}

#[test]
fn a_node_with_no_places_relays_for_nobody() {
    let mut relay = relay(RelayConfig {
        reservations: 0,
        ..RelayConfig::default()
    });
    assert_eq!(
        refusal(&tell(&mut relay, 0, reserve(id(1), leg(1)))),
        Some(Refusal::Full)
    );
    let mut relay = self::relay(RelayConfig {
        reservations: usize::MAX,
        ..RelayConfig::default()
    });
    for n in 0..2000 {
        tell(&mut relay, 0, reserve(id(n), leg(n)));
    }
    assert_eq!(relay.stats().reservations, MAX_RESERVATIONS);
}

#[test]
fn sessions_end_with_their_time_their_bytes_or_their_peers() {
    let mut relay = relay(RelayConfig {
        session_bytes: 5000,
        ..RelayConfig::default()
    });
    for n in 1..=4 {
        tell(&mut relay, 0, reserve(id(n), leg(n)));
    }
    let sessions: Vec<_> = (1..=4).map(|n| open(&mut relay, 0, 100 + n, n)).collect();
    let why = |out: Vec<Action>, session: SessionId| match out[..] {
        [
            Action::Closed {
                session: closed, why, ..
            },
        ] if closed == session => why,
        _ => panic!("{out:?}"),
    };
    let close = Event::Close {
        session: sessions[0],
        peer: id(7),
    };
    assert_eq!(tell(&mut relay, 1, close), [], "it is not theirs");
    let close = Event::Close {
        session: sessions[0],
        peer: id(1),
    };
    assert_eq!(why(tell(&mut relay, 1, close), sessions[0]), End::Closed);
    assert_eq!(
        why(tell(&mut relay, 1, Event::Gone { peer: id(102) }), sessions[1]),
        End::Gone
    );
    for _ in 0..5 {
        assert!(matches!(
            relay.forward(at(1), sessions[2], leg(3), 1000),
            Verdict::Forward { .. }
        ));
    }
    assert_eq!(
        relay.forward(at(1), sessions[2], leg(3), 1),
        Verdict::Drop(Reason::Spent)
    );
    assert!(relay.poll_timeout().is_some_and(|due| due <= at(1)));
    assert_eq!(why(tell(&mut relay, 1, Event::Timeout), sessions[2]), End::Bytes);
    assert_eq!(relay.poll_timeout(), Some(at(900_000)));
    assert_eq!(
        relay.forward(at(900_000), sessions[3], leg(4), 1),
        Verdict::Drop(Reason::Spent)
    );
    assert_eq!(
        why(tell(&mut relay, 900_000, Event::Timeout), sessions[3]),
        End::Time
    );
    assert_eq!(relay.poll_timeout(), Some(at(3_600_000)));
    tell(&mut relay, 3_600_000, Event::Timeout);
    assert_eq!((relay.stats().reservations, relay.poll_timeout()), (0, None));
}

#[test]
fn all_sessions_together_send_no_faster_than_the_node_allows() {
    let mut relay = relay(RelayConfig::default());
    let mut sessions = Vec::new();
    for n in 0..16 {
        tell(&mut relay, 0, reserve(id(n), leg(n)));
        sessions.push(open(&mut relay, 0, 100 + n, n));
    }
    let mut bytes = 0;
    for millis in 0..4000 {
        for (n, &session) in (0..).zip(&sessions) {
            if let Verdict::Forward { .. } = relay.forward(at(millis), session, leg(n), 1000) {
                bytes += 1000;
            }
        }
    }
    assert!(
        (2_540_000..=2_560_000).contains(&bytes),
        "four seconds and a bucket: {bytes}"
    );
}

#[test]
fn a_session_sends_no_faster_than_it_may_and_others_do_not_suffer() {
    let mut relay = relay(RelayConfig::default());
    for n in 0..2 {
        tell(&mut relay, 0, reserve(id(n), leg(n)));
    }
    let (hog, other) = (open(&mut relay, 0, 100, 0), open(&mut relay, 0, 101, 1));
    let mut bytes = 0;
    for millis in 0..4000 {
        for from in [leg(0), leg(100)] {
            match relay.forward(at(millis), hog, from, 1000) {
                Verdict::Forward { .. } => bytes += 1000,
                Verdict::Drop(reason) => assert_eq!(reason, Reason::SessionRate),
            }
        }
        if millis % 100 == 0 {
            let verdict = relay.forward(at(millis), other, leg(1), 1000);
            assert_eq!(verdict, Verdict::Forward { to: leg(101) });
        }
    }
    assert!(
        (630_000..=640_000).contains(&bytes),
        "four seconds and a bucket: {bytes}"
    );
}

#[test]
fn sessions_that_are_opened_and_closed_at_once_are_soon_refused() {
    let mut relay = relay(RelayConfig::default());
    tell(&mut relay, 0, reserve(id(1), leg(1)));
    // Opened and closed as fast as it goes: how many one peer, and how many in all, may have of somebody in a minute.
    let mut storm = |millis: u64, from: std::ops::Range<u64>| {
        let mut opened = 0;
        for peer in from {
            for _ in 0..100 {
                match tell(&mut relay, millis, opens(peer, 1))[..] {
                    [Action::Opened { session, .. }] => {
                        opened += 1;
                        let peer = id(peer);
                        tell(&mut relay, millis, Event::Close { session, peer });
                    }
                    ref other => assert_eq!(refusal(other), Some(Refusal::TooOften)),
                }
            }
        }
        opened
    };
    assert_eq!(storm(0, 2..3), MAX_OPENED_BY_PEER);
    assert_eq!(storm(1, 2..50), MAX_OPENED_TO_PEER - MAX_OPENED_BY_PEER);
    assert_eq!(storm(59_999, 50..51), 0);
    assert_eq!(storm(60_002, 2..50), MAX_OPENED_TO_PEER);
}

#[test]
fn a_relay_knows_who_has_something_here() {
    let mut relay = relay(RelayConfig::default());
    tell(&mut relay, 0, reserve(id(1), leg(1)));
    assert!(relay.has_place(id(1)) && relay.knows(id(1)) && !relay.knows(id(2)));
    let session = open(&mut relay, 0, 2, 1);
    assert!(!relay.has_place(id(2)) && relay.knows(id(2)));
    assert_eq!(relay.between(session), Some([id(2), id(1)]));
    let peer = id(2);
    tell(&mut relay, 0, Event::Close { session, peer });
    assert!(relay.knows(id(1)) && !relay.knows(id(2)));
    assert_eq!(relay.between(session), None);
}

#[test]
fn who_gives_its_place_up_keeps_the_sessions_that_run() {
    let mut relay = relay(RelayConfig::default());
    tell(&mut relay, 0, reserve(id(1), leg(1)));
    let session = open(&mut relay, 0, 2, 1);
    assert_eq!(tell(&mut relay, 1, Event::Release { peer: id(1) }), []);
    assert!(!relay.has_place(id(1)) && relay.knows(id(1)) && relay.knows(id(2)));
    for (from, to) in [(2, 1), (1, 2)] {
        let verdict = relay.forward(at(2), session, leg(from), 1200);
        assert_eq!(verdict, Verdict::Forward { to: leg(to) });
    }
    assert_eq!(
        refusal(&tell(&mut relay, 2, opens(3, 1))),
        Some(Refusal::NoReservation)
    );
    let peer = id(1);
    tell(&mut relay, 3, Event::Moved { peer, leg: leg(9) });
    assert_eq!(
        relay.forward(at(3), session, leg(2), 1),
        Verdict::Forward { to: leg(9) }
    );
    let gone = tell(&mut relay, 4, Event::Gone { peer });
    assert!(
        matches!(gone[..], [Action::Closed { why: End::Gone, .. }]),
        "{gone:?}"
    );
}
