use kad_core::Duration;
use proptest::prelude::*;

use super::expiry::{ANSWERED, UNANSWERED};
use super::*;

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1_000)
}

fn remote(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([20, 0, 0, host], 5_000 + port))
}

const OWN: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

/// The same rules over a list of all that ever passed: it forgets nothing, has no bound, and looks at all of it each
/// time.
struct Oracle {
    kind: Kind,
    forwarded: bool,
    /// When, where, as which port, and whether it was an answer.
    passed: Vec<(Instant, SocketAddr, u16, bool)>,
    uninvited: Vec<(Instant, SocketAddr)>,
}

impl Oracle {
    /// Port and end of the flow to an address: what was sent or answered there within its life, packet after packet.
    fn flow(&self, remote: SocketAddr) -> Option<(u16, Instant)> {
        let mut flow: Option<(u16, Instant, bool)> = None;
        for &(when, to, port, answer) in &self.passed {
            if to != remote {
                continue;
            }
            let alive = flow.filter(|(_, until, _)| when < *until);
            flow = match (alive, answer) {
                (None, true) if !(self.forwarded && port == PORT) => flow,
                (None, _) => Some((port, when + UNANSWERED, false)),
                (Some((known, until, answered)), true) if known != port => Some((known, until, answered)),
                (Some((known, _, answered)), _) => {
                    let answered = answered || answer;
                    Some((
                        known,
                        when + if answered { ANSWERED } else { UNANSWERED },
                        answered,
                    ))
                }
            };
        }
        flow.map(|(port, until, _)| (port, until))
    }

    fn lives(&self, now: Instant, remote: SocketAddr, port: u16) -> bool {
        self.flow(remote)
            .is_some_and(|(known, until)| known == port && now < until)
    }

    fn admits(&self, now: Instant, from: SocketAddr, port: u16) -> bool {
        let all = || self.passed.iter().map(|(_, to, ..)| *to);
        match self.kind {
            Kind::Block => false,
            _ if self.forwarded && port == PORT => true,
            Kind::Open => port == PORT,
            Kind::Full if port == PORT => all().any(|to| self.lives(now, to, PORT)),
            Kind::Addr => all().any(|to| to.ip() == from.ip() && self.lives(now, to, port)),
            _ => self.lives(now, from, port),
        }
    }

    fn is_poisoned(&self, now: Instant, remote: SocketAddr) -> bool {
        let recent = |(when, from): &(Instant, SocketAddr)| *from == remote && now.since(*when) < UNANSWERED;
        self.kind == Kind::Leaky && self.uninvited.iter().any(recent)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_nat_is_what_the_list_of_all_that_passed_makes_it(
        kind in 0usize..8,
        forwarded: bool,
        packets in prop::collection::vec((0u64..50_000, 0u8..3, 0u16..2, any::<bool>(), 0u8..3), 0..60),
    ) {
        let kind = KINDS[kind];
        let mut nat = Nat::new(kind, OWN);
        nat.forward(forwarded);
        let mut oracle = Oracle { kind, forwarded, passed: Vec::new(), uninvited: Vec::new() };
        let mut millis = 0;
        for (wait, host, port, goes_out, aim) in packets {
            millis += wait;
            let (now, there) = (at(millis), remote(host, port));
            if goes_out {
                let known = oracle.flow(there).filter(|(_, until)| now < *until);
                let Some(seen) = nat.send(now, there) else {
                    prop_assert_eq!(kind, Kind::Block);
                    continue;
                };
                prop_assert_eq!(seen.ip(), OWN);
                match known {
                    Some((port, _)) => prop_assert_eq!(seen.port(), port),
                    None => {
                        let other = kind == Kind::Sym || oracle.is_poisoned(now, there);
                        prop_assert_eq!(seen.port() != PORT, other);
                        let taken = oracle.passed.iter().any(|(_, _, port, _)| *port == seen.port());
                        prop_assert!(!other || !taken, "a port is given twice");
                    }
                }
                oracle.passed.push((now, there, seen.port(), false));
            } else {
                let flow = oracle.flow(there);
                // The host's own port, that of the flow, or some other one.
                let port = match aim {
                    0 => PORT,
                    1 => flow.map_or(PORT, |(port, _)| port),
                    _ => 40_001,
                };
                let passes = oracle.admits(now, there, port);
                prop_assert_eq!(nat.receive(now, there, port), passes, "{:?} from {} to {}", kind, there, port);
                if passes {
                    oracle.passed.push((now, there, port, true));
                } else if port == PORT {
                    oracle.uninvited.push((now, there));
                }
            }
            let flow = oracle.flow(there).filter(|(_, until)| now < *until);
            prop_assert_eq!(nat.port_towards(now, there), flow.map(|(port, _)| port));
        }
    }
}

#[test]
fn strangers_get_in_where_they_are_said_to() {
    for kind in KINDS {
        for forwarded in [false, true] {
            let mut nat = Nat::new(kind, OWN);
            nat.forward(forwarded);
            nat.send(at(0), remote(1, 0));
            let passes = nat.receive(at(1), remote(2, 0), PORT);
            assert_eq!(passes, nat.admits_strangers(), "{kind:?}, forwarded: {forwarded}");
        }
    }
}

#[test]
fn what_is_remembered_is_bounded_whoever_sends() {
    let mut nat = Nat::new(Kind::Leaky, OWN);
    for n in 0..10_000u32 {
        let [_, _, high, low] = n.to_be_bytes();
        let now = at(u64::from(n) / 10);
        nat.send(now, SocketAddr::from(([30, 0, high, low], 5_000)));
        nat.receive(now, SocketAddr::from(([40, 0, high, low], 5_000)), PORT);
    }
    assert!(nat.flows.len() <= 4_096 && nat.uninvited.len() <= 1_024);
    let last = SocketAddr::from(([30, 0, 39, 15], 5_000));
    assert_eq!(nat.port_towards(at(1_000), last), Some(PORT), "the newest stays");
    assert!(nat.receive(at(1_000) + Duration::from_secs(20), last, PORT));
}
