use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn at(secs: u64) -> Instant {
    Instant::from_micros(secs * 1_000_000)
}

fn id(n: u64) -> NodeId {
    NodeId::from_limbs([n, 0, 0, 0])
}

fn known(n: u64, site: u8, millis: u64) -> Event {
    Event::RelayKnown {
        relay: id(n),
        ip: [20, site, 0, n as u8].into(),
        rtt: Duration::from_millis(millis),
    }
}

struct Node(Reservations, Instant);

impl Node {
    fn new() -> Self {
        Self(Reservations::new(Scope::Global, &[1; 32]), at(0))
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.0.handle(self.1, event, &mut out);
        out
    }

    fn grant(&mut self, n: u64) -> Vec<Action> {
        self.tell(Event::Granted {
            relay: id(n),
            lifetime: HOUR,
        })
    }

    /// The next timeout.
    fn wait(&mut self) -> Vec<Action> {
        self.1 = self.0.poll_timeout().expect("there is something to wait for");
        let out = self.tell(Event::Timeout);
        assert!(
            self.0.poll_timeout().is_none_or(|next| next > self.1),
            "a timeout does not go away"
        );
        out
    }

    /// A client that holds places at relays 1, 2 and 3, and knows further ones.
    fn settled() -> Self {
        let mut node = Self::new();
        for n in 1..=5 {
            node.tell(known(n, n as u8, 10 * n));
        }
        node.tell(Event::Needed(true));
        for n in 1..=3 {
            node.grant(n);
        }
        assert_eq!(node.held(), [1, 2, 3]);
        node
    }

    fn held(&self) -> Vec<u64> {
        self.0.held().map(|id| id.to_key().to_limbs()[0]).collect()
    }
}

const fn reserve(relay: NodeId) -> Action {
    Action::Reserve { relay }
}

#[test]
fn who_meets_relays_in_both_families_has_a_place_in_each() {
    let six = |n: u64| Event::RelayKnown {
        relay: id(n),
        ip: std::net::Ipv6Addr::from([0x2001, 0xdb8, n as u16, 0, 0, 0, 0, 1]).into(),
        rtt: Duration::from_millis(100 * n),
    };
    let mut node = Node::new();
    for n in 1..=4 {
        node.tell(known(n, n as u8, 10 * n));
    }
    for n in 5..=6 {
        node.tell(six(n));
    }
    assert_eq!(
        node.tell(Event::Needed(true)),
        [reserve(id(1)), reserve(id(5)), reserve(id(2))]
    );
    for n in [1, 5, 2] {
        node.grant(n);
    }
    // Whichever is lost.
    assert_eq!(node.tell(Event::RelayGone { relay: id(5) })[0], reserve(id(6)));
    node.grant(6);
    node.tell(Event::RelayGone { relay: id(6) });
    node.tell(Event::RelayGone { relay: id(1) });
    assert_eq!(node.held(), [2], "the others are asked");

    // One that has all its places in one family, and meets the first relay of the other.
    let mut settled = Node::settled();
    assert_eq!(
        settled.tell(six(6)),
        [Action::Release { relay: id(3) }, reserve(id(6)), Action::Changed]
    );
    // It refuses: the place is taken by the next one.
    assert_eq!(settled.tell(Event::Refused { relay: id(6) }), [reserve(id(4))]);
}

#[test]
fn a_relay_that_is_not_where_it_says_hides_no_other_one_of_that_family() {
    let six = |n: u64| Event::RelayKnown {
        relay: id(n),
        ip: std::net::Ipv6Addr::from([0x2001, 0xdb8, n as u16, 0, 0, 0, 0, 1]).into(),
        rtt: Duration::from_millis(10),
    };
    let mut node = Node::new();
    assert!(!node.0.lacks(node.1, Family::V6), "it needs none");
    node.tell(Event::Needed(true));
    assert!(node.0.lacks(node.1, Family::V6));
    assert_eq!(node.tell(six(1)), [reserve(id(1))]);
    assert!(!node.0.lacks(node.1, Family::V6), "it is asked");
    assert!(node.0.lacks(node.1, Family::V4));
    node.tell(Event::Refused { relay: id(1) });
    assert!(node.0.lacks(node.1, Family::V6));
    node.tell(six(2));
    node.grant(2);
    assert!(!node.0.lacks(node.1, Family::V6));
}

#[test]
fn the_nearest_at_three_different_sites_are_asked() {
    let mut node = Node::new();
    for (n, site, millis) in [
        (1, 1, 10),
        (2, 1, 11),
        (3, 2, 50),
        (4, 3, 90),
        (5, 4, 40),
        (6, 5, 300),
    ] {
        assert_eq!(node.tell(known(n, site, millis)), []);
    }
    let out = node.tell(Event::Needed(true));
    assert_eq!(out, [reserve(id(1)), reserve(id(5)), reserve(id(3))]);
    assert_eq!(node.grant(5), [Action::Changed]);
    assert_eq!(node.held(), [5]);
}

#[test]
fn a_relay_that_is_busy_is_asked_again_soon_and_ever_more_rarely_and_others_meanwhile() {
    let mut node = Node::new();
    node.tell(known(1, 1, 10));
    node.tell(known(2, 2, 20));
    assert_eq!(node.tell(Event::Needed(true)), [reserve(id(1)), reserve(id(2))]);
    node.grant(2);
    let rest = |node: &mut Node| {
        let busy = node.1;
        node.tell(Event::Busy { relay: id(1) });
        loop {
            let asked = node.wait();
            if asked.contains(&reserve(id(2))) {
                node.grant(2);
            }
            if asked.contains(&reserve(id(1))) {
                return node.1.since(busy).as_secs();
            }
        }
    };
    for doubled in [10, 20, 40, 80, 160, 320, 600, 600, 600] {
        let rest = rest(&mut node);
        assert!(
            (doubled..=doubled * 9 / 8).contains(&rest),
            "{rest} for {doubled}"
        );
    }
    // Once it has granted something it is as any other.
    node.grant(1);
    assert_eq!(node.held(), [1, 2]);
    while node.wait() != [reserve(id(1))] {
        node.grant(2);
    }
    assert!((10..12).contains(&rest(&mut node)));
}

#[test]
fn while_a_relay_is_busy_the_next_one_has_its_place() {
    let mut node = Node::new();
    for n in 1..=4 {
        node.tell(known(n, n as u8, 10 * n));
    }
    let asked = node.tell(Event::Needed(true));
    assert_eq!(asked, [reserve(id(1)), reserve(id(2)), reserve(id(3))]);
    assert_eq!(node.tell(Event::Busy { relay: id(1) }), [reserve(id(4))]);
}

#[test]
fn a_place_whose_renewal_finds_the_relay_busy_is_kept_while_its_time_lasts() {
    let mut node = Node::settled();
    let mut asked = 0;
    while node.held().contains(&1) {
        for action in node.wait() {
            match action {
                Action::Reserve { relay } if relay == id(1) => {
                    asked += 1;
                    node.tell(Event::Busy { relay });
                }
                Action::Reserve { relay } => {
                    node.tell(Event::Granted {
                        relay,
                        lifetime: HOUR,
                    });
                }
                _ => {}
            }
        }
        assert!(node.1 <= at(3601), "it is held for longer than was granted");
    }
    assert!(node.1 >= at(2900), "it was lost after {:?}", node.1);
    assert!((5..12).contains(&asked), "{asked}");
}

#[test]
fn places_are_renewed_at_half_of_their_time() {
    let mut node = Node::settled();
    for n in 1..=3 {
        node.tell(known(n, n as u8, 10));
    }
    let mut renewed = Vec::new();
    while renewed.len() < 3 {
        for action in node.wait() {
            let Action::Reserve { relay } = action else {
                panic!("{action:?}")
            };
            renewed.push(node.1);
            assert_eq!(
                node.tell(Event::Granted {
                    relay,
                    lifetime: HOUR
                }),
                []
            );
        }
    }
    assert!(
        renewed
            .iter()
            .all(|when| *when >= at(1800) && *when < at(1800 + 225)),
        "{renewed:?}"
    );
    assert_eq!(node.held(), [1, 2, 3]);
}

#[test]
fn a_relay_that_is_gone_refuses_or_is_silent_is_replaced_by_the_next() {
    let mut node = Node::settled();
    assert_eq!(
        node.tell(Event::RelayGone { relay: id(1) }),
        [reserve(id(4)), Action::Changed]
    );
    assert_eq!(node.tell(Event::Refused { relay: id(4) }), [reserve(id(5))]);
    assert_eq!(node.held(), [2, 3]);
    assert_eq!(node.wait(), [], "it is silent, and nobody else is left");
    assert_eq!(node.1, at(10));
    assert_eq!(node.wait(), [reserve(id(4))], "who refused is asked again later");
    assert_eq!(node.1, at(600));
    assert_eq!(node.grant(4), [Action::Changed]);
    assert_eq!(node.held(), [2, 3, 4]);
}

#[test]
fn a_renewal_that_is_refused_loses_the_place() {
    let mut node = Node::settled();
    while !node.wait().contains(&reserve(id(2))) {
        node.grant(1);
        node.grant(3);
    }
    let out = node.tell(Event::Refused { relay: id(2) });
    assert!(
        out.contains(&Action::Changed) && out.contains(&reserve(id(4))),
        "{out:?}"
    );
}

#[test]
fn a_clearly_nearer_relay_takes_a_place_when_it_is_to_be_renewed() {
    let mut node = Node::settled();
    node.tell(known(9, 9, 1));
    let mut released = Vec::new();
    for _ in 0..3 {
        for action in node.wait() {
            match action {
                Action::Release { relay } => released.push(relay),
                Action::Reserve { relay } => {
                    node.tell(Event::Granted {
                        relay,
                        lifetime: HOUR,
                    });
                }
                Action::Changed => {}
            }
        }
    }
    assert_eq!(released.len(), 1);
    assert_eq!(node.held()[0], 9);
}

#[test]
fn a_server_needs_no_relay() {
    let mut node = Node::settled();
    let out = node.tell(Event::Needed(false));
    let released = [1, 2, 3].map(|n| Action::Release { relay: id(n) });
    assert_eq!(out[..3], released);
    assert_eq!(out[3..], [Action::Changed]);
    assert_eq!(node.0.poll_timeout(), None);
    assert_eq!(
        node.grant(1),
        [Action::Release { relay: id(1) }],
        "it came too late"
    );
}

#[test]
fn relays_that_grant_absurd_times_cause_no_haste() {
    let mut node = Node::new();
    node.tell(known(1, 1, 10));
    node.tell(Event::Needed(true));
    for lifetime in [Duration::ZERO, Duration::MAX] {
        node.tell(Event::Granted {
            relay: id(1),
            lifetime,
        });
        let due = node.0.poll_timeout().unwrap();
        assert!(due >= at(60) && due <= at(14 * 3600), "{due:?}");
    }
}

#[test]
fn a_network_change_gives_those_who_refused_another_chance() {
    let mut node = Node::new();
    node.tell(known(1, 1, 10));
    node.tell(Event::Needed(true));
    node.tell(Event::Refused { relay: id(1) });
    assert_eq!(node.tell(Event::NetworkChanged), [reserve(id(1))]);
}

#[test]
fn of_many_relays_the_nearest_are_kept_in_mind() {
    let mut node = Node::settled();
    for n in 0..200 {
        node.tell(known(100 + n, (n % 250) as u8, 1000 - n));
    }
    assert_eq!(node.0.relays.len(), MAX_RELAYS);
    assert_eq!(node.held(), [1, 2, 3]);
    let slowest = node.0.relays.iter().map(|relay| relay.rtt).max();
    assert_eq!(
        slowest,
        Some(Duration::from_millis(1000 - 200 + MAX_RELAYS as u64 - 5))
    );
}

fn event() -> impl Strategy<Value = Event> {
    let relay = || (0u64..8).prop_map(id);
    prop_oneof![
        any::<bool>().prop_map(Event::Needed),
        (0u64..8, 0u8..5, 1u64..300).prop_map(|(n, site, millis)| known(n, site, millis)),
        relay().prop_map(|relay| Event::RelayGone { relay }),
        (relay(), 0u64..9000).prop_map(|(relay, secs)| Event::Granted {
            relay,
            lifetime: Duration::from_secs(secs)
        }),
        relay().prop_map(|relay| Event::Refused { relay }),
        relay().prop_map(|relay| Event::Busy { relay }),
        Just(Event::NetworkChanged),
    ]
}

proptest! {
    /// In whatever order things happen, no two places are at one site but by a move of a relay, there are no more than
    /// three, and a client leaves no place empty while somebody could be asked.
    #[test]
    fn places_are_few_at_different_sites_and_not_left_empty(
        events in prop::collection::vec((0u64..900, event()), 0..80),
    ) {
        let mut node = Node::new();
        let mut needed = false;
        for (secs, event) in events {
            let until = node.1 + Duration::from_secs(secs);
            while node.0.poll_timeout().is_some_and(|due| due <= until) {
                node.wait();
            }
            node.1 = until;
            // A relay that moves to another site is a case of its own.
            if let Event::RelayKnown { relay, ip, .. } = event
                && node.0.relays.iter().any(|known| known.id == relay && known.site != site(ip, Scope::Global))
            {
                continue;
            }
            if let Event::Needed(now) = event {
                needed = now;
            }
            let before = node.0.held_ids();
            let out = node.tell(event);
            prop_assert_eq!(out.contains(&Action::Changed), before != node.0.held_ids());
            prop_assert!(out.len() <= 2 * MAX_RESERVED + 1);
            let taken: Vec<_> = node.0.taken().map(|relay| relay.site).collect();
            prop_assert!(taken.len() <= MAX_RESERVED);
            prop_assert!((1..taken.len()).all(|n| !taken[..n].contains(&taken[n])));
            prop_assert!(needed || taken.is_empty());
            let idle = node.0.relays.iter().any(|relay| {
                let rested = matches!(relay.state, State::Idle { rests_until } if rests_until <= node.1);
                rested && !taken.contains(&relay.site)
            });
            prop_assert!(!needed || !idle || taken.len() == MAX_RESERVED);
        }
    }
}

#[test]
fn a_node_that_needs_relays_is_short_of_them_until_all_could_be_replaced() {
    let mut node = Node::new();
    node.tell(known(1, 1, 10));
    assert!(!node.0.is_short(), "it needs none");
    node.tell(Event::Needed(true));
    for n in 2..=6 {
        assert!(node.0.is_short(), "with {}", n - 1);
        node.tell(known(n, n as u8, 10));
    }
    assert!(!node.0.is_short());
    node.tell(Event::RelayGone { relay: id(3) });
    assert!(node.0.is_short());
}
