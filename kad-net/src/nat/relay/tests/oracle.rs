//! A relay against an oracle that knows every session and every byte that went through.

use super::*;

/// What happens to a relay in the test against the oracle.
#[derive(Debug, Clone)]
enum Step {
    Reserve(u64),
    Open(u64, u64),
    Gone(u64),
    Release(u64),
    Move(u64, u64),
    /// From one of the two legs, or from where nobody is.
    Forward {
        session: usize,
        side: usize,
        bytes: usize,
    },
    Made {
        session: u64,
        from: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let peer = || 0u64..6;
    prop_oneof![
        1 => peer().prop_map(Step::Reserve),
        2 => (peer(), peer()).prop_map(|(from, to)| Step::Open(from, to)),
        1 => peer().prop_map(Step::Gone),
        1 => peer().prop_map(Step::Release),
        1 => (peer(), 0u64..12).prop_map(|(peer, leg)| Step::Move(peer, leg)),
        20 => (0usize..8, 0usize..8, 1usize..1600)
            .prop_map(|(session, side, bytes)| Step::Forward { session, side: side % 5 % 3, bytes }),
        1 => (any::<u64>(), peer()).prop_map(|(session, from)| Step::Made { session, from }),
    ]
}

/// A session as the oracle knows it.
struct Known {
    id: SessionId,
    peers: [u64; 2],
    legs: [SocketAddr; 2],
    began: u64,
    sent: Vec<(u64, usize, u64)>,
    open: bool,
}

/// The connection of a peer comes from another place.
fn moved(known: &mut [Known], peer: u64, to: u64) {
    for session in known {
        for (end, own) in session.peers.iter().zip(&mut session.legs) {
            if *end == peer {
                *own = leg(to);
            }
        }
    }
}

proptest! {
    /// The oracle knows who opened what, and every datagram that went through.
    #[test]
    fn forwarding_is_one_to_one_between_known_legs_and_within_every_budget(
        steps in prop::collection::vec((0u64..600, step()), 1..200),
    ) {
        let config = RelayConfig {
            session_bytes: 12_000,
            session_rate: 3_000,
            rate: 5_000,
            session: Duration::from_secs(60),
            ..RelayConfig::default()
        };
        let mut relay = relay(config.clone());
        let (mut millis, mut known, mut all): (u64, Vec<Known>, Vec<(u64, u64)>) = (0, Vec::new(), Vec::new());
        let mut places = BTreeMap::new();
        for (wait, step) in steps {
            millis += wait;
            let out = match step {
                Step::Reserve(peer) => {
                    places.insert(peer, leg(peer));
                    moved(&mut known, peer, peer);
                    tell(&mut relay, millis, reserve(id(peer), leg(peer)))
                }
                Step::Open(from, to) => {
                    places.entry(from).and_modify(|place| *place = leg(from));
                    moved(&mut known, from, from);
                    let out = tell(&mut relay, millis, opens(from, to));
                    for action in &out {
                        if let Action::Opened { session, .. } = *action {
                            prop_assert!(from != to && places.contains_key(&to));
                            prop_assert!(known.iter().all(|other| other.id != session));
                            let legs = [leg(from), places[&to]];
                            let (peers, sent) = ([from, to], vec![]);
                            known.push(Known { id: session, peers, legs, began: millis, sent, open: true });
                        }
                    }
                    out
                }
                Step::Gone(peer) => {
                    places.remove(&peer);
                    tell(&mut relay, millis, Event::Gone { peer: id(peer) })
                }
                Step::Release(peer) => {
                    places.remove(&peer);
                    let out = tell(&mut relay, millis, Event::Release { peer: id(peer) });
                    let over = |action: &Action| matches!(action, Action::Closed { why: End::Time | End::Bytes, .. });
                    prop_assert!(out.iter().all(over), "running sessions go on: {out:?}");
                    out
                }
                Step::Move(peer, to) => {
                    places.entry(peer).and_modify(|place| *place = leg(to));
                    moved(&mut known, peer, to);
                    tell(&mut relay, millis, Event::Moved { peer: id(peer), leg: leg(to) })
                }
                Step::Made { session, from } => {
                    let before = (relay.stats().sessions, relay.stats().reservations);
                    let verdict = relay.forward(at(millis), SessionId(session), leg(from), 100);
                    prop_assert_eq!(verdict, Verdict::Drop(Reason::NoSession));
                    prop_assert_eq!(before, (relay.stats().sessions, relay.stats().reservations));
                    vec![]
                }
                Step::Forward { session, side, bytes } => {
                    // The newest ones are most likely still open.
                    let count = known.len().min(3);
                    let Some(session) = known.iter_mut().rev().nth(session % count.max(1)) else { continue };
                    let side = Some(side).filter(|side| *side < 2);
                    let from = side.map_or_else(|| leg(99), |side| session.legs[side]);
                    let verdict = relay.forward(at(millis), session.id, from, bytes);
                    let sum = |list: &mut dyn Iterator<Item = u64>| list.sum::<u64>();
                    // Every window that ends now.
                    let fits = |sent: &[(u64, u64)], rate: u64| (0..=sent.len()).all(|first| {
                        let began = sent.get(first).map_or(millis, |(when, _)| *when);
                        let went = sum(&mut sent[first..].iter().map(|(_, bytes)| *bytes));
                        1000 * (went + bytes as u64) <= 1000 * rate + (millis - began) * rate
                    });
                    let own: Vec<_> = session.sent.iter().map(|(when, _, bytes)| (*when, *bytes)).collect();
                    let used = sum(&mut session.sent.iter().filter(|it| Some(it.1) == side).map(|it| it.2));
                    let expected = match side {
                        Some(side) if session.open
                            && bytes <= MAX_DATAGRAM
                            && millis < session.began + 60_000
                            && used + bytes as u64 <= config.session_bytes
                            && fits(&own, config.session_rate)
                            && fits(&all, config.rate) => Some((side, session.legs[1 - side])),
                        _ => None,
                    };
                    match (verdict, expected) {
                        (Verdict::Forward { to }, Some((side, other))) => {
                            prop_assert_eq!(to, other);
                            session.sent.push((millis, side, bytes as u64));
                            all.push((millis, bytes as u64));
                        }
                        (Verdict::Drop(Reason::Spent), None) => session.open &= side.is_none() || bytes > MAX_DATAGRAM,
                        (Verdict::Drop(_), None) => {}
                        (verdict, expected) => prop_assert!(false, "{verdict:?}, not {expected:?}"),
                    }
                    vec![]
                }
            };
            for action in out {
                if let Action::Closed { session, .. } = action {
                    known.iter_mut().filter(|it| it.id == session).for_each(|it| it.open = false);
                }
            }
        }
    }
}
