use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

fn id(n: u64) -> NodeId {
    NodeId::from_limbs([n, 0, 0, 0])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn check(client: u64, observed: &str, address: &str) -> Event {
    Event::Check {
        request: 7,
        client: id(client),
        observed: ip(observed),
        address: address.parse().unwrap(),
        nonce: [9; 16],
        bytes: CHECK_BYTES,
    }
}

fn dial_back(helper: u64, address: SocketAddr) -> Event {
    Event::DialBack {
        request: 8,
        helper: id(helper),
        address,
        nonce: [9; 16],
        bytes: DIAL_BACK_BYTES,
    }
}

fn one(machine: &mut DialBack, now: Instant, event: Event) -> Vec<Action> {
    let mut out = Vec::new();
    machine.handle(now, event, &mut out);
    out
}

fn helper(targets: &[&str]) -> DialBack {
    let mut helper = DialBack::new(Scope::Global, &[1; 32]);
    one(&mut helper, at(0), Event::OwnHost { ip: ip("9.9.9.9") });
    for (n, target) in (100..).zip(targets) {
        let event = Event::TargetKnown {
            target: id(n),
            ip: ip(target),
            dialled: true,
        };
        assert_eq!(one(&mut helper, at(0), event), []);
    }
    helper
}

const fn refused(request: u64, why: Refusal) -> Action {
    Action::Refuse { request, why }
}

/// Whom a helper asks on behalf of a client on 8.8.8.8, in many tries from that hour on.
fn asked(helper: &mut DialBack, hour: u64) -> Vec<NodeId> {
    let mut asked = Vec::new();
    for n in 0..MAX_PER_PEER as u64 {
        // Rations are for a minute.
        let now = at((hour * 60 + n) * 60_000);
        for action in one(helper, now, check(1, "8.8.8.8", "8.8.8.8:4001")) {
            match action {
                Action::Pass { target, .. } if !asked.contains(&target) => asked.push(target),
                Action::Pass { .. } => {}
                other => assert_eq!(other, refused(7, Refusal::NoTarget)),
            }
        }
    }
    asked.sort_unstable();
    asked
}

#[test]
fn a_target_is_beside_the_helper_or_the_client_only_if_there_is_none_elsewhere_and_on_neither_host() {
    let mut helper = helper(&[
        "9.9.9.1",
        "8.8.8.1",
        "[2001:db8::1]".trim_matches(['[', ']']),
        "7.7.7.7",
        "9.9.9.9",
        "8.8.8.8",
    ]);
    assert_eq!(asked(&mut helper, 0), [id(103)]);
    one(&mut helper, at(0), Event::TargetGone { target: id(103) });
    // All are beside one end; those on another host are what there is.
    assert_eq!(asked(&mut helper, 1), [id(100), id(101)]);
    for n in [100, 101] {
        one(&mut helper, at(0), Event::TargetGone { target: id(n) });
    }
    assert_eq!(asked(&mut helper, 2), []);
}

#[test]
fn an_address_is_probed_from_other_sites_each_time_and_sites_take_turns() {
    // Nine of ten targets are at one site.
    let mut crowded: Vec<String> = (1..=9).map(|n| format!("7.7.7.{n}")).collect();
    crowded.push("6.6.6.6".into());
    let names: Vec<&str> = crowded.iter().map(String::as_str).collect();
    let mut elsewhere = 0;
    for seed in 0..40 {
        let mut helper = helper(&names);
        helper.draws = Draws::new(&[seed; 32], "test");
        let mut asked = Vec::new();
        for _ in 0..3 {
            match one(&mut helper, at(0), check(1, "8.8.8.8", "8.8.8.8:4001"))[..] {
                [Action::Pass { target, .. }] => asked.push(target),
                ref other => panic!("{other:?}"),
            }
        }
        elsewhere += usize::from(asked[0] == id(109));
        assert!(
            asked[..2].contains(&id(109)),
            "the other site was not asked: {asked:?}"
        );
        assert!(!asked[2..].contains(&id(109)) && asked[2] != asked[0] && asked[2] != asked[1]);
    }
    assert!((10..30).contains(&elsewhere), "{elsewhere}");
}

#[test]
fn a_caller_is_asked_only_when_those_who_were_dialled_can_say_nothing_new() {
    let mut helper = helper(&["7.7.7.7", "6.6.6.6"]);
    let caller = Event::TargetKnown {
        target: id(5),
        ip: ip("5.5.5.5"),
        dialled: false,
    };
    one(&mut helper, at(0), caller);
    let mut asked = Vec::new();
    for _ in 0..3 {
        if let [Action::Pass { target, .. }] =
            one(&mut helper, at(0), check(1, "8.8.8.8", "8.8.8.8:4001"))[..]
        {
            asked.push(target);
        }
    }
    assert_eq!(asked[2], id(5), "{asked:?}");
}

#[test]
fn no_target_is_asked_more_often_than_it_grants_while_there_are_others() {
    let mut helper = helper(&["7.7.7.7", "6.6.6.6", "5.5.5.5", "4.4.4.4", "3.3.3.3"]);
    let mut counts = std::collections::BTreeMap::new();
    for n in 0..MAX_PER_MINUTE as u64 {
        let client = format!("8.8.{n}.8");
        let out = one(&mut helper, at(n), check(n, &client, &format!("{client}:4001")));
        if let [Action::Pass { target, .. }] = out[..] {
            *counts.entry(target).or_insert(0) += 1;
        }
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [MAX_PER_PEER; 5]);
}

#[test]
fn who_goes_public_probes_and_asks_only_in_the_internet() {
    let mut helper = DialBack::new(Scope::Any, &[1; 32]);
    for (n, target) in [(100, "192.168.1.9"), (101, "7.7.7.7")] {
        let (target, ip, dialled) = (id(n), ip(target), true);
        one(&mut helper, at(0), Event::TargetKnown { target, ip, dialled });
    }
    one(&mut helper, at(0), Event::WentPublic);
    assert_eq!(asked(&mut helper, 0), [id(101)]);
    let private = dial_back(1, "192.168.1.9:4001".parse().unwrap());
    assert_eq!(
        one(&mut helper, at(0), private),
        [refused(8, Refusal::BadAddress)]
    );
}

#[test]
fn a_client_can_have_only_its_own_host_probed() {
    let mut helper = helper(&["7.7.7.7"]);
    for (observed, address) in [
        ("8.8.8.8", "8.8.4.4:4001"),
        ("8.8.8.8", "8.8.8.8:53"),
        ("192.168.0.1", "192.168.0.1:4001"),
    ] {
        assert_eq!(
            one(&mut helper, at(0), check(1, observed, address)),
            [refused(7, Refusal::BadAddress)]
        );
    }
    let out = one(&mut helper, at(0), check(1, "::ffff:8.8.8.8", "8.8.8.8:4001"));
    assert!(matches!(out[..], [Action::Pass { .. }]));
}

#[test]
fn nobody_is_asked_twice_as_a_target_and_client() {
    let mut helper = helper(&["7.7.7.7"]);
    assert_eq!(
        one(&mut helper, at(0), check(100, "8.8.8.8", "8.8.8.8:4001")),
        [refused(7, Refusal::NoTarget)]
    );
}

#[test]
fn what_is_smaller_than_what_it_causes_is_refused() {
    let mut helper = helper(&["7.7.7.7"]);
    let Event::Check {
        request,
        client,
        observed,
        address,
        nonce,
        bytes,
    } = check(1, "8.8.8.8", "8.8.8.8:4001")
    else {
        unreachable!("made above")
    };
    let small = Event::Check {
        request,
        client,
        observed,
        address,
        nonce,
        bytes: bytes - 1,
    };
    assert_eq!(one(&mut helper, at(0), small), [refused(7, Refusal::TooSmall)]);
    let small = Event::DialBack {
        request,
        helper: client,
        address,
        nonce,
        bytes: DIAL_BACK_BYTES - 1,
    };
    assert_eq!(one(&mut helper, at(0), small), [refused(7, Refusal::TooSmall)]);
}

#[test]
fn three_probes_go_out_within_a_second() {
    let mut target = helper(&[]);
    let address: SocketAddr = "8.8.8.8:4001".parse().unwrap();
    let probe = Action::Probe {
        to: address,
        nonce: [9; 16],
    };
    assert_eq!(
        one(&mut target, at(5), dial_back(1, address)),
        [Action::Accept { request: 8 }, probe]
    );
    let mut told = Vec::new();
    while let Some(due) = target.poll_timeout() {
        told.push((due, one(&mut target, due, Event::Timeout)));
    }
    assert_eq!(told, [(at(305), vec![probe]), (at(905), vec![probe])]);
}

#[test]
fn one_more_than_the_rations_is_refused() {
    let mut helper = helper(&["7.7.7.7"]);
    let refusals = |machine: &mut DialBack, now: u64, client: u64| {
        let out = one(machine, at(now), check(client, "8.8.8.8", "8.8.8.8:4001"));
        out == [refused(7, Refusal::Busy)]
    };
    assert_eq!(
        (0..20).filter(|_| refusals(&mut helper, 0, 1)).count(),
        20 - MAX_PER_PEER
    );
    assert_eq!(
        (0..100).filter(|n| refusals(&mut helper, 0, 2 + n)).count(),
        100 - (MAX_PER_MINUTE - MAX_PER_PEER)
    );
    assert!(refusals(&mut helper, 59_999, 500));
    assert!(!refusals(&mut helper, 60_000, 500));
}

#[test]
fn helpers_that_lie_together_cannot_aim_a_target_at_a_host_or_a_site() {
    let mut target = helper(&[]);
    let mut probes = 0;
    for n in 0..200u64 {
        let out = one(
            &mut target,
            at(n),
            dial_back(n, ([8, 8, 8, 8], 2000 + n as u16).into()),
        );
        probes += out
            .iter()
            .filter(|action| matches!(action, Action::Accept { .. }))
            .count();
    }
    assert_eq!(probes, MAX_PER_HOST);
    for n in 0..200u64 {
        let out = one(
            &mut target,
            at(n),
            dial_back(n, ([8, 8, 8, n as u8], 4000).into()),
        );
        probes += out
            .iter()
            .filter(|action| matches!(action, Action::Accept { .. }))
            .count();
    }
    assert_eq!(probes, MAX_PER_SITE);
}

proptest! {
    /// Whatever is asked by whomever, in whatever order: fewer bytes go out than came in, each request is answered
    /// once, and nothing grows.
    #[test]
    fn nothing_that_is_sent_is_more_than_what_caused_it(
        asks in prop::collection::vec((0u64..3000, 0u64..6, 0u8..6, any::<bool>(), 150usize..300), 0..300),
    ) {
        let mut machine = helper(&["7.7.7.7", "6.6.6.6"]);
        let (mut millis, mut came, mut went) = (0, 0, 0);
        for (wait, peer, last, as_helper, bytes) in asks {
            millis += wait;
            let mut out = Vec::new();
            while let Some(due) = machine.poll_timeout().filter(|due| *due <= at(millis)) {
                machine.handle(due, Event::Timeout, &mut out);
            }
            let host = [8, 8, 8, last];
            let address = SocketAddr::from((host, 4001));
            let event = if as_helper {
                Event::Check { request: 1, client: id(peer), observed: host.into(), address, nonce: [0; 16], bytes }
            } else {
                Event::DialBack { request: 1, helper: id(peer), address, nonce: [0; 16], bytes }
            };
            came += bytes;
            machine.handle(at(millis), event, &mut out);
            let answers = out.iter().filter(|action| !matches!(action, Action::Probe { .. })).count();
            prop_assert_eq!(answers, 1);
            went += out.iter().map(|action| match action {
                Action::Pass { .. } => DIAL_BACK_BYTES,
                Action::Probe { .. } => PROBE_BYTES + HEADER_BYTES,
                Action::Accept { .. } | Action::Refuse { .. } => 0,
            }).sum::<usize>();
            prop_assert!(went <= came);
            prop_assert!(machine.due.len() <= 2 * MAX_PER_MINUTE);
        }
    }
}
