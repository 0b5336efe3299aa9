use proptest::prelude::*;

use super::*;

const HERE: Place = Place {
    port: 4001,
    family: Family::V4,
};

fn at(secs: u64) -> Instant {
    Instant::from_micros(secs * 1_000_000)
}

fn vote(observer: &str, seen: &str) -> Event {
    Event::Vote {
        port: 4001,
        observer: observer.parse().unwrap(),
        seen: seen.parse().unwrap(),
    }
}

/// What follows from these votes of one second.
fn cast(observations: &mut Observations, secs: u64, votes: &[(&str, &str)]) -> Vec<Action> {
    let mut out = Vec::new();
    for (observer, seen) in votes {
        observations.handle(at(secs), vote(observer, seen), &mut out);
    }
    out
}

fn seen(observations: &Observations) -> Vec<String> {
    observations
        .candidates(HERE)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn an_address_counts_when_three_households_agree() {
    let mut observations = Observations::new(Scope::Global);
    let same = "198.51.100.7:4001";
    let out = cast(
        &mut observations,
        0,
        &[("8.8.8.1", same), ("8.8.8.1", same), ("8.8.8.2", same)],
    );
    assert_eq!((out, seen(&observations)), (vec![], vec![]));
    let out = cast(&mut observations, 0, &[("8.8.8.3", same)]);
    assert_eq!(
        (out, seen(&observations)),
        (vec![Action::Changed(HERE)], vec![same.to_owned()])
    );
    assert_eq!(observations.class(HERE), NatClass::Unknown);
    cast(&mut observations, 0, &[("8.8.8.4", "198.51.100.7:9999")]);
    assert_eq!(observations.class(HERE), NatClass::EndpointIndependent);
}

#[test]
fn a_household_has_one_vote_however_many_addresses_it_has() {
    let mut observations = Observations::new(Scope::Global);
    let same = "[2001:db8:9::1]:4001";
    let sybils = [
        "2001:db8:1::1",
        "2001:db8:1:1::1",
        "2001:db8:1:ff::1",
        "2001:db8:1:7f:1::",
    ];
    let votes = sybils.map(|observer| (observer, same));
    assert_eq!(cast(&mut observations, 0, &votes), []);
    let place = Place {
        family: Family::V6,
        ..HERE
    };
    assert_eq!(observations.candidates(place), []);
}

#[test]
fn another_port_for_every_peer_is_a_nat_that_nobody_can_be_told_about() {
    let mut observations = Observations::new(Scope::Global);
    let ports = [
        "198.51.100.7:1",
        "198.51.100.7:2",
        "198.51.100.7:3",
        "198.51.100.7:4",
    ];
    let observers = ["8.8.8.1", "8.8.8.2", "8.8.8.3", "8.8.8.4"];
    for (i, both) in observers.into_iter().zip(ports).enumerate() {
        assert_eq!(observations.class(HERE), NatClass::Unknown, "after {i}");
        cast(&mut observations, 0, &[both]);
    }
    assert_eq!(observations.class(HERE), NatClass::EndpointDependent);
    assert_eq!(seen(&observations), [""; 0]);
}

#[test]
fn the_last_vote_of_an_observer_counts_and_a_majority_that_sees_another_host_says_that_we_moved() {
    let mut observations = Observations::new(Scope::Global);
    let observers = ["8.8.8.1", "8.8.8.2", "8.8.8.3", "8.8.8.4"];
    let (old, new) = ("198.51.100.7:4001", "203.0.113.9:4001");
    cast(&mut observations, 0, &observers.map(|observer| (observer, old)));
    let mut out = Vec::new();
    for observer in observers {
        out.extend(cast(&mut observations, 9, &[(observer, new)]));
    }
    assert!(out.contains(&Action::Changed(HERE)));
    assert_eq!(seen(&observations), [new]);
    // Although the old address had lost its quorum before the new one had one.
    assert!(out.contains(&Action::Moved(HERE)));

    let many: Vec<String> = (1..=7).map(|n| format!("9.9.{n}.1")).collect();
    let mut out = Vec::new();
    for (i, observer) in many.iter().enumerate() {
        let seen = if i < 3 { old } else { "192.0.2.1:5" };
        out.extend(cast(&mut observations, 10, &[(observer, seen)]));
    }
    assert!(
        !out.contains(&Action::Moved(HERE)),
        "four still see the new address, and it is tied"
    );
    out.extend(cast(&mut observations, 11, &[("9.9.9.9", "192.0.2.1:5")]));
    assert!(out.contains(&Action::Moved(HERE)));
}

#[test]
fn votes_are_forgotten_after_half_an_hour() {
    let mut observations = Observations::new(Scope::Global);
    let same = "198.51.100.7:4001";
    for (secs, observer) in (0..).zip(["8.8.8.1", "8.8.8.2", "8.8.8.3", "8.8.8.4"]) {
        cast(&mut observations, secs, &[(observer, same)]);
    }
    let mut out = Vec::new();
    let mut told = Vec::new();
    while let Some(due) = observations.poll_timeout() {
        observations.handle(due, Event::Timeout, &mut out);
        told.push((due, seen(&observations).len(), out.drain(..).count()));
    }
    assert_eq!(
        told,
        [
            (at(1800), 1, 1),
            (at(1801), 0, 1),
            (at(1802), 0, 0),
            (at(1803), 0, 0)
        ]
    );
}

#[test]
fn a_network_change_forgets_everything() {
    let mut observations = Observations::new(Scope::Global);
    let same = "198.51.100.7:4001";
    cast(
        &mut observations,
        0,
        &[("8.8.8.1", same), ("8.8.8.2", same), ("8.8.8.3", same)],
    );
    let mut out = Vec::new();
    observations.handle(at(1), Event::NetworkChanged, &mut out);
    assert_eq!(out, [Action::Changed(HERE)]);
    assert_eq!(
        (seen(&observations).len(), observations.poll_timeout()),
        (0, None)
    );
}

#[test]
fn a_family_that_goes_away_takes_what_is_known_of_the_other_one_nowhere() {
    let mut observations = Observations::new(Scope::Global);
    let (v4, v6) = ("198.51.100.7:4001", "[2001:db8::7]:4001");
    for n in 1..=4 {
        let observers = [format!("8.8.8.{n}"), format!("2001:db8:{n}::1")];
        cast(&mut observations, 0, &[(&observers[0], v4), (&observers[1], v6)]);
    }
    let there = Place {
        family: Family::V6,
        ..HERE
    };
    assert_eq!(observations.candidates(there).len(), 1);
    let mut out = Vec::new();
    observations.handle(at(1), Event::FamilyChanged(Family::V6), &mut out);
    assert_eq!(out, [Action::Changed(there)]);
    assert_eq!(observations.candidates(there), []);
    assert_eq!(seen(&observations), [v4]);
    assert_eq!(observations.class(HERE), NatClass::EndpointIndependent);
}

#[test]
fn what_private_observers_see_counts_in_private_networks_only() {
    let votes = [
        ("192.168.1.1", "198.51.100.7:1"),
        ("10.0.0.1", "198.51.100.7:1"),
        ("100.64.0.9", "198.51.100.7:1"),
        ("8.8.8.8", "10.0.0.7:1"),
        ("8.8.8.8", "198.51.100.7:0"),
        ("8.8.8.8", "[2001:db8::1]:1"),
        ("::1", "[2001:db8::1]:1"),
    ];
    let mut observations = Observations::new(Scope::Global);
    assert_eq!(cast(&mut observations, 0, &votes), []);
    assert_eq!((observations.ignored(), observations.poll_timeout()), (7, None));
    let mut observations = Observations::new(Scope::Any);
    cast(&mut observations, 0, &votes);
    assert_eq!((observations.ignored(), seen(&observations).len()), (2, 1));
}

#[test]
fn neither_sockets_nor_votes_grow_without_bound() {
    let mut observations = Observations::new(Scope::Global);
    let mut out = Vec::new();
    for port in 0..100 {
        for n in 0..100u8 {
            let event = Event::Vote {
                port,
                observer: [9, 9, n, 9].into(),
                seen: ([198, 51, 100, 7], 4001).into(),
            };
            observations.handle(at(u64::from(n)), event, &mut out);
        }
    }
    assert_eq!(observations.places.len(), MAX_PLACES);
    assert!(
        observations
            .places
            .values()
            .all(|votes| votes.cast.len() == MAX_VOTES)
    );
    assert_eq!(observations.ignored(), 92 * 100);
}

proptest! {
    /// The oracle keeps everything that was ever said and counts it at the end.
    #[test]
    fn candidates_and_class_are_those_of_the_last_votes(
        said in prop::collection::vec((0u64..300, 0u8..12, 0u8..4, any::<bool>()), 0..60),
    ) {
        let (mut observations, mut out, mut secs) = (Observations::new(Scope::Global), Vec::new(), 0);
        let mut history = Vec::new();
        for (wait, observer, port, own_port) in said {
            secs += wait;
            // Ports of their own, as a symmetric NAT gives them, or few that are shared.
            let port = if own_port { 100 + u16::from(observer) } else { u16::from(port) + 1 };
            let seen = SocketAddr::from(([198, 51, 100, 7], port));
            let event = Event::Vote { port: 4001, observer: [9, 9, 9, observer].into(), seen };
            while let Some(due) = observations.poll_timeout().filter(|due| *due <= at(secs)) {
                observations.handle(due, Event::Timeout, &mut out);
            }
            observations.handle(at(secs), event, &mut out);
            history.push((secs, observer, seen));
        }
        let mut last = BTreeMap::new();
        for &(when, observer, seen) in &history {
            last.insert(observer, (when, seen));
        }
        let valid: Vec<_> = last.values().filter(|(when, _)| secs - when < 1800).map(|(_, seen)| *seen).collect();
        let votes = |seen: &SocketAddr| valid.iter().filter(|other| *other == seen).count();
        let mut agreed: Vec<_> = valid.iter().copied().filter(|seen| votes(seen) >= 3).collect();
        agreed.sort_unstable();
        agreed.dedup();
        let told = observations.candidates(HERE);
        prop_assert_eq!(told.len(), agreed.len().min(MAX_CANDIDATES));
        prop_assert!(told.iter().all(|seen| agreed.contains(seen)));
        prop_assert!(told.windows(2).all(|two| votes(&two[0]) >= votes(&two[1])));
        let most = valid.iter().map(votes).max().unwrap_or(0);
        let class = match valid.len() {
            0..4 => NatClass::Unknown,
            all if 4 * most >= 3 * all => NatClass::EndpointIndependent,
            _ if most == 1 => NatClass::EndpointDependent,
            _ => NatClass::Unknown,
        };
        prop_assert_eq!(observations.class(HERE), class);
    }
}

#[test]
fn votes_are_counted_by_family_and_age_and_known_by_household() {
    let mut observations = Observations::new(Scope::Global);
    cast(&mut observations, 0, &[("8.8.8.1", "198.51.100.7:4001")]);
    cast(
        &mut observations,
        100,
        &[
            ("8.8.8.2", "198.51.100.7:4001"),
            ("2001:db8:1::1", "[2001:db8:9::1]:4001"),
        ],
    );
    let minute = Duration::from_secs(60);
    let within = |family, span| observations.votes_within(at(120), family, span);
    assert_eq!(within(Family::V4, minute), 1);
    assert_eq!(within(Family::V4, minute * 10), 2);
    assert_eq!(within(Family::V6, minute), 1);
    let heard = |ip: &str| observations.has_vote_of(at(120), ip.parse().unwrap(), minute);
    assert!(heard("8.8.8.2") && heard("2001:db8:1:ff::9"));
    assert!(!heard("8.8.8.1") && !heard("8.8.8.3") && !heard("2001:db8:1:100::1"));
    assert_eq!(observations.places().count(), 2);
}
