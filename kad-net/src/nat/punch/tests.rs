use proptest::prelude::*;

use super::*;

const X: &str = "8.8.8.8:4001";

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn setup(lower: bool, asks: bool) -> Setup {
    let id = |n| NodeId::from_limbs([n, 0, 0, 0]);
    Setup {
        local: id(if lower { 1 } else { 3 }),
        peer: id(2),
        asks,
        own_class: NatClass::EndpointIndependent,
        peer_class: NatClass::Unknown,
        targets: vec![socket(X), socket("8.8.8.8:9000")],
    }
}

struct Attempt(Punch);

impl Attempt {
    fn new(lower: bool, asks: bool) -> Self {
        Self(Punch::new(setup(lower, asks), at(0)).unwrap())
    }

    fn tell(&mut self, millis: u64, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.0.handle(at(millis), event, &mut out);
        out
    }

    /// All that timers cause until then, with the milliseconds.
    fn run(&mut self, millis: u64) -> Vec<(u64, Action)> {
        let mut told = Vec::new();
        while let Some(due) = self.0.poll_timeout().filter(|due| *due <= at(millis)) {
            let when = due.as_micros() / 1000;
            told.extend(
                self.tell(when, Event::Timeout)
                    .into_iter()
                    .map(|action| (when, action)),
            );
        }
        told
    }
}

const fn go(millis: u64) -> Event {
    Event::Go {
        wait: Duration::from_millis(millis),
    }
}

fn heard(from: &str) -> Event {
    Event::Heard { from: socket(from) }
}

#[test]
fn a_round_follows_the_schedule() {
    let mut attempt = Attempt::new(true, false);
    assert_eq!(attempt.0.poll_timeout(), None);
    attempt.tell(0, go(20));
    let told = attempt.run(10_000);
    let first: Vec<_> = told
        .iter()
        .filter(|(_, action)| *action == Action::Punch { to: socket(X) })
        .collect();
    let times: Vec<u64> = first.iter().map(|(when, _)| when - 20).collect();
    assert_eq!(times[..7], [0, 30, 60, 90, 120, 270, 420]);
    assert_eq!(times.last(), Some(&2370));
    assert_eq!(told.len(), 2 * first.len() + 1, "both targets each time");
    assert_eq!(told.last(), Some(&(2520, Action::Missed)));
}

#[test]
fn the_source_of_the_first_punch_becomes_the_target() {
    let mut attempt = Attempt::new(true, false);
    attempt.tell(0, go(0));
    attempt.run(100);
    let from = "8.8.8.8:31337";
    let to = socket(from);
    let answer = Action::Punch { to };
    assert_eq!(
        attempt.tell(110, heard(from)),
        [answer, answer, answer, Action::Dial { to }]
    );
    assert_eq!(attempt.tell(111, heard(X)), []);
    assert!(attempt.run(3000).iter().all(|(_, action)| *action == answer));
}

#[test]
fn a_punch_from_another_host_is_counted_and_nothing_else() {
    let mut attempt = Attempt::new(true, false);
    for event in [go(0), Event::Timeout] {
        attempt.tell(0, event);
    }
    assert_eq!(attempt.tell(1, heard("6.6.6.6:4001")), []);
    assert_eq!(attempt.0.untimely(), 1);
    assert!(
        !attempt
            .run(60_000)
            .iter()
            .any(|(_, action)| matches!(action, Action::Dial { .. }))
    );
}

#[test]
fn the_higher_id_dials_only_if_no_handshake_came_within_half_a_second() {
    for arrives in [false, true] {
        let mut attempt = Attempt::new(false, false);
        attempt.tell(0, go(0));
        attempt.run(50);
        assert_eq!(attempt.tell(60, heard(X)).len(), ANSWERS);
        if arrives {
            attempt.tell(300, Event::Arriving);
        }
        let dials: Vec<_> = attempt
            .run(10_000)
            .into_iter()
            .filter(|(_, action)| matches!(action, Action::Dial { .. }))
            .collect();
        let expected = [(560, Action::Dial { to: socket(X) })];
        assert_eq!(dials, if arrives { &[][..] } else { &expected[..] });
    }
}

#[test]
fn of_two_connections_the_one_dialled_by_the_lower_id_survives() {
    use Dialler::{Peer, Us};
    for (lower, first, second, told) in [
        (true, Us, Peer, vec![Action::Retire { by: Peer }]),
        (
            true,
            Peer,
            Us,
            vec![Action::Use { by: Us }, Action::Retire { by: Peer }],
        ),
        (
            false,
            Us,
            Peer,
            vec![Action::Use { by: Peer }, Action::Retire { by: Us }],
        ),
        (false, Peer, Us, vec![Action::Retire { by: Us }]),
    ] {
        let mut attempt = Attempt::new(lower, false);
        assert_eq!(
            attempt.tell(0, Event::Connected { by: first }),
            [Action::Use { by: first }]
        );
        assert_eq!(attempt.tell(1, Event::Connected { by: second }), told);
        let kept = if lower { Us } else { Peer };
        let gone = if lower { Peer } else { Us };
        assert_eq!(attempt.tell(2, Event::Closed { by: gone }), []);
        assert_eq!(attempt.tell(3, Event::Closed { by: kept }), [Action::FallBack]);
    }
}

#[test]
fn who_asks_asks_again_after_silence_three_times_and_then_seldom() {
    let mut attempt = Attempt::new(true, true);
    let mut asked = vec![0];
    while asked.len() < 6 {
        attempt.tell(asked[asked.len() - 1], go(0));
        let due = loop {
            let due = attempt.0.poll_timeout().unwrap().as_micros() / 1000;
            if attempt.tell(due, Event::Timeout).contains(&Action::Ask) {
                break due;
            }
        };
        asked.push(due);
    }
    let pauses: Vec<_> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(pauses, [37_500, 37_500, 602_500, 37_500, 37_500]);
}

#[test]
fn a_coordinator_cannot_keep_a_node_punching() {
    let mut attempt = Attempt::new(true, false);
    let mut punches = Vec::new();
    for millis in (0..600_000).step_by(100) {
        attempt.tell(millis, go(3_600_000));
        let told = attempt.run(millis + 99);
        punches.extend(
            told.into_iter()
                .filter(|(_, action)| matches!(action, Action::Punch { .. })),
        );
    }
    assert!(
        punches.len() <= MAX_ROUNDS as usize * MAX_PUNCHES,
        "{}",
        punches.len()
    );
    assert!(attempt.0.untimely() > 5000);
}

#[test]
fn the_longest_round_has_no_more_punches_than_it_may() {
    let targets = (0..9)
        .map(|n| SocketAddr::from(([8, 8, 8, 8], 4001 + n)))
        .collect();
    let setup = Setup {
        targets,
        ..setup(true, false)
    };
    let mut attempt = Attempt(Punch::new(setup, at(0)).unwrap());
    attempt.tell(0, go(0));
    let mut told = attempt.run(2499);
    told.extend(
        attempt
            .tell(2499, heard(X))
            .into_iter()
            .map(|action| (2499, action)),
    );
    told.extend(attempt.run(60_000));
    let punches = told
        .iter()
        .filter(|(_, action)| matches!(action, Action::Punch { .. }));
    let count = punches.count();
    assert!(count > 100 && count <= MAX_PUNCHES, "{count}");
    assert!(told.last().is_some_and(|(when, _)| *when == 5499));
}

#[test]
fn no_wait_is_longer_than_two_seconds() {
    let mut attempt = Attempt::new(true, false);
    attempt.tell(0, go(3_600_000));
    assert_eq!(attempt.0.poll_timeout(), Some(at(2000)));
}

#[test]
fn a_dial_is_stopped_before_the_silence() {
    let mut attempt = Attempt::new(true, false);
    attempt.tell(0, go(0));
    attempt.tell(10, heard(X));
    let told = attempt.run(60_000);
    assert_eq!(
        told[told.len() - 2..],
        [(3010, Action::StopDial), (3010, Action::Missed)]
    );
    assert_eq!(attempt.tell(20_000, heard(X)), [], "silence is silence");
}

#[test]
fn a_punch_that_comes_before_the_own_round_starts_it() {
    let mut attempt = Attempt::new(true, false);
    attempt.tell(0, go(500));
    assert_eq!(attempt.tell(10, heard(X)).len(), ANSWERS + 1);
    assert_eq!(attempt.0.poll_timeout(), Some(at(10)));
}

#[test]
fn a_lost_connection_is_tried_anew() {
    let mut attempt = Attempt::new(true, true);
    attempt.tell(0, go(0));
    attempt.tell(40, heard(X));
    attempt.tell(90, Event::Connected { by: Dialler::Us });
    assert_eq!(attempt.0.poll_timeout(), None);
    assert_eq!(
        attempt.tell(500_000, Event::Closed { by: Dialler::Us }),
        [Action::FallBack]
    );
    assert_eq!(attempt.run(500_000), [(500_000, Action::Ask)]);
}

#[test]
fn another_network_is_a_reason_to_try_at_once() {
    let mut attempt = Attempt::new(true, true);
    attempt.tell(0, go(0));
    attempt.run(3000);
    attempt.tell(4000, Event::NetworkChanged);
    assert_eq!(attempt.run(4000), [(4000, Action::Ask)]);
}

#[test]
fn other_addresses_of_the_peer_end_a_long_pause_and_no_silence() {
    let mut attempt = Attempt::new(true, true);
    for round in 0..3 {
        attempt.tell(round * 40_000, go(0));
        attempt.run(round * 40_000 + 39_999);
    }
    let over = 80_000 + 2500;
    assert_eq!(attempt.0.poll_timeout(), Some(at(over + 600_000)));
    let other = Event::Targets([Some(socket("8.8.4.4:4001")), None, None, None]);
    assert_eq!(attempt.tell(over + 1000, other), []);
    assert_eq!(attempt.0.poll_timeout(), Some(at(over + 35_000)));
    attempt.run(over + 35_000);
    attempt.tell(over + 35_100, go(0));
    let to = socket("8.8.4.4:4001");
    assert_eq!(
        attempt.run(over + 35_100),
        [(over + 35_100, Action::Punch { to })]
    );
}

#[test]
fn without_a_target_there_is_no_attempt() {
    let nowhere = Setup {
        targets: vec![],
        ..setup(true, true)
    };
    assert_eq!(Punch::new(nowhere, at(0)).err(), Some(Hopeless::NoTarget));
    let many = Setup {
        targets: vec![socket(X); 50],
        ..setup(true, true)
    };
    assert_eq!(Punch::new(many, at(0)).unwrap().setup.targets.len(), MAX_TARGETS);
}

fn event() -> impl Strategy<Value = Event> {
    let by = prop_oneof![Just(Dialler::Us), Just(Dialler::Peer)];
    let from = prop_oneof![Just(X), Just("8.8.8.8:7"), Just("6.6.6.6:4001")];
    prop_oneof![
        (0u64..5000).prop_map(go),
        from.prop_map(heard),
        Just(Event::Arriving),
        by.clone().prop_map(|by| Event::Connected { by }),
        by.prop_map(|by| Event::Closed { by }),
        Just(Event::NetworkChanged),
        Just(Event::Targets([Some(socket("8.8.8.8:5")), None, None, None])),
        Just(Event::Timeout),
    ]
}

proptest! {
    /// Whatever happens in whatever order: packets go to the host of the peer alone, a connection in use is one that
    /// stands, and a round is not too long.
    #[test]
    fn no_order_of_events_makes_it_punch_others_or_without_end(
        events in prop::collection::vec((0u64..40_000, event()), 0..60), lower: bool, asks: bool,
    ) {
        let mut attempt = Attempt::new(lower, asks);
        let (mut millis, mut stands, mut punches) = (0, Vec::new(), Vec::new());
        for (wait, event) in events {
            millis += wait;
            let mut told = attempt.run(millis);
            match event {
                Event::Connected { by } if !stands.contains(&by) => stands.push(by),
                Event::Closed { by } => stands.retain(|other| *other != by),
                _ => {}
            }
            told.extend(attempt.tell(millis, event).into_iter().map(|action| (millis, action)));
            for (when, action) in told {
                match action {
                    Action::Punch { to } | Action::Dial { to } => {
                        prop_assert_eq!(to.ip(), socket(X).ip());
                        punches.push(when);
                    }
                    Action::Use { by } => prop_assert!(stands.contains(&by)),
                    Action::Retire { by } => stands.retain(|other| *other != by),
                    Action::FallBack => prop_assert!(stands.is_empty()),
                    Action::Ask => prop_assert!(asks),
                    Action::StopDial | Action::Missed => {}
                }
            }
            prop_assert_eq!(attempt.0.is_direct(), !stands.is_empty());
        }
        for window in punches.windows(2 * MAX_PUNCHES + 1) {
            prop_assert!(window[2 * MAX_PUNCHES] - window[0] > 5_500);
        }
    }
}

#[test]
fn a_coordinator_that_is_busy_is_asked_again_soon_and_that_is_no_round() {
    let mut attempt = Attempt::new(true, true);
    let mut now = 10;
    for _ in 0..MAX_REFUSED {
        assert_eq!(attempt.tell(now, Event::Busy), []);
        now += 5000;
        assert_eq!(attempt.run(now), [(now, Action::Ask)]);
    }
    // At last there is time, and the round is the first one.
    attempt.tell(now, go(0));
    let told = attempt.run(now + 3000);
    assert_eq!(told.last(), Some(&(now + 2500, Action::Missed)));
    assert_eq!(attempt.0.missed, 1);

    // Who is refused for ever goes on as if nobody answered.
    let mut attempt = Attempt::new(true, true);
    let mut now = 0;
    for _ in 0..=MAX_REFUSED {
        attempt.tell(now, Event::Busy);
        now += 5000;
        attempt.run(now);
    }
    assert_eq!(attempt.0.missed, 0);
    assert_eq!(attempt.run(now + 5000), [(now + 5000, Action::Missed)]);
}

#[test]
fn who_did_not_ask_is_not_told_that_the_coordinator_is_busy() {
    let mut attempt = Attempt::new(true, false);
    attempt.tell(0, Event::Busy);
    attempt.tell(10, go(0));
    assert!(matches!(attempt.run(10)[..], [(10, Action::Punch { .. }), ..]));
    // Nor does it end a round.
    attempt.tell(20, Event::Busy);
    assert_eq!(attempt.run(3000).last(), Some(&(2510, Action::Missed)));
}
