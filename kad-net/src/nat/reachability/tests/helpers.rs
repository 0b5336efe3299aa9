//! Who is asked for help, how soon, and what their number and their places are good for.

use super::*;

#[test]
fn a_helper_that_refuses_or_is_silent_says_nothing_and_is_left_alone_for_a_while() {
    for answer in [Some(false), None] {
        let mut node = Node::new(1);
        let mut asked = Vec::new();
        while node.now < at(600) {
            node.now = node.machine.poll_timeout().unwrap();
            for action in node.tell(Event::Timeout) {
                let Action::Check { nonce, .. } = action else {
                    panic!("{action:?}")
                };
                asked.push(node.now);
                if let Some(passed_on) = answer {
                    node.tell(Event::Answered { nonce, passed_on });
                }
            }
        }
        assert!(
            asked.len() > 5 && asked.windows(2).all(|two| two[1].since(two[0]) >= REST),
            "{asked:?}"
        );
    }
}

#[test]
fn no_helper_is_asked_more_often_than_it_grants() {
    let mut node = Node::new(1);
    let many = (2000..2006).map(|port| SocketAddr::from(([198, 51, 100, 7], port)));
    node.tell(Event::Addresses(many.collect()));
    let mut asked: Vec<Instant> = Vec::new();
    while node.now < at(600) {
        node.now = node.machine.poll_timeout().unwrap();
        for action in node.tell(Event::Timeout) {
            let Action::Check { nonce, .. } = action else {
                continue;
            };
            asked.push(node.now);
            node.tell(Event::Answered {
                nonce,
                passed_on: true,
            });
        }
    }
    assert!(asked.len() > 2 * ASKED_OF_EACH);
    assert!(
        asked
            .windows(ASKED_OF_EACH + 1)
            .all(|some| some[ASKED_OF_EACH].since(some[0]) >= MINUTE)
    );
}

#[test]
fn an_address_that_nobody_could_check_is_checked_when_there_is_somebody() {
    let mut node = Node::new(0);
    node.run(at(5), OPEN);
    assert_eq!(node.checks, 0);
    let ip = [20, 1, 0, 1].into();
    node.tell(Event::HelperKnown { helper: id(1), ip });
    assert_eq!(node.machine.poll_timeout(), Some(at(5)));
    node.run(at(5), OPEN);
    assert_eq!(node.checks, 1);
    // Of the next one there is nothing to wait for.
    let due = node.machine.poll_timeout();
    let ip = [20, 2, 0, 1].into();
    node.tell(Event::HelperKnown { helper: id(2), ip });
    assert_eq!(node.machine.poll_timeout(), due);
}

#[test]
fn in_a_private_network_a_node_may_be_told_to_prove_itself() {
    let config = ReachabilityConfig {
        presume: false,
        ..ReachabilityConfig::default()
    };
    let mut node = Node::with(config, Scope::Any, false, 3);
    assert_eq!(node.machine.role(), Role::Client);
    assert!(!node.machine.is_decided());
    node.run(at(70), OPEN);
    assert_eq!(node.machine.role(), Role::Server);
    assert!(node.machine.is_decided());
    node.tell(Event::NetworkChanged);
    assert_eq!(node.machine.role(), Role::Client);
}

/// A node with helpers of whose targets each is on a host of its own of 20.0.0.0/24, or on a given one.
fn laboratory(helpers: u8, target: impl Fn(u64) -> [u8; 4], until: Instant) -> Node {
    let mut node = Node::new(0);
    for n in 1..=helpers {
        let ip = [20, 0, 0, n].into();
        node.tell(Event::HelperKnown {
            helper: id(n.into()),
            ip,
        });
    }
    while let Some(due) = node.machine.poll_timeout().filter(|due| *due <= until) {
        node.now = due;
        for action in node.tell(Event::Timeout) {
            if let Action::Check { nonce, .. } = action {
                node.checks += 1;
                let from = (target(node.checks), 5000).into();
                node.probe(from, nonce);
            }
        }
    }
    node
}

#[test]
fn where_all_servers_lie_at_one_site_three_hosts_prove_as_much_as_three_sites() {
    let beside = |n: u64| [20, 0, 0, 100 + (n % 100) as u8];
    assert_eq!(laboratory(4, beside, at(60)).machine.reachable().count(), 1);
    // Who knows two servers only cannot tell what the network is like.
    assert_eq!(laboratory(2, beside, at(600)).machine.reachable().count(), 0);
    // One host is one proof, however often it comes, and a target on the helper's host is none.
    assert_eq!(
        laboratory(4, |_| [20, 0, 0, 100], at(600))
            .machine
            .reachable()
            .count(),
        0
    );
    // All that a site says is one proof as soon as servers at three sites are known.
    let mut node = Node::new(3);
    for n in 0..200 {
        node.call(SocketAddr::from(([40, 0, 0, n], 9)));
    }
    assert_eq!(node.machine.reachable().count(), 0);
}

#[test]
fn a_probe_that_says_nothing_counts_as_no_try_and_another_helper_is_asked_soon() {
    let mut node = Node::new(4);
    let (mut asked, mut last) = (Vec::new(), None);
    let met = [30, 0, 0, 1];
    node.send(met.into());
    // More than the tries after which a node pauses, in less time than the pause.
    while asked.len() < 14 {
        node.now = node.machine.poll_timeout().unwrap();
        for action in node.tell(Event::Timeout) {
            let Action::Check { helper, nonce, .. } = action else {
                continue;
            };
            assert_ne!(last.replace(helper), Some(helper), "the same helper twice");
            asked.push(node.now);
            node.probe((met, 5000).into(), nonce);
        }
    }
    assert!(asked[4] < at(5) && asked[13] < at(7 * 60), "{asked:?}");
    // Whoever has met everybody asks once a minute.
    let pauses: Vec<_> = asked.windows(2).map(|two| two[1].since(two[0])).collect();
    assert!(pauses[12] >= Duration::from_secs(60) && pauses[12] < Duration::from_secs(70));
    // The first strangers are not waited for any longer than that.
    node.run(at(9 * 60), OPEN);
    assert_eq!(node.machine.reachable().count(), 1);
}

#[test]
fn proofs_follow_each_other_within_a_second_so_that_who_joins_can_wait_for_them() {
    let mut node = Node::new(4);
    node.run(at(1), OPEN);
    assert_eq!(node.machine.reachable().count(), 1);
}

#[test]
fn a_further_helper_ends_the_pause_of_a_node_that_one_helper_could_not_prove() {
    let mut node = Node::new(1);
    node.run(at(120), OPEN);
    assert_eq!(node.machine.reachable().count(), 0);
    let due = node.machine.poll_timeout().unwrap();
    assert!(due >= at(300), "it does not pause: {due:?}");
    let ip = [20, 9, 0, 1].into();
    node.tell(Event::HelperKnown { helper: id(9), ip });
    node.run(at(122), OPEN);
    assert_eq!(node.machine.reachable().count(), 1);
}

fn presumed(called_by: &[&str]) -> Node {
    let mut node = Node::with(ReachabilityConfig::default(), Scope::Any, true, 0);
    node.tell(Event::Addresses(vec![socket("192.168.1.7:4001"), socket(US)]));
    for caller in called_by {
        node.call(socket(caller));
    }
    node
}

#[test]
fn whoever_dials_into_the_internet_presumes_nothing_any_more_and_serves_once_it_is_proven() {
    let mut node = presumed(&["192.168.1.8:4001"]);
    node.tell(Event::Dialled {
        to: [192, 168, 1, 8].into(),
    });
    assert_eq!((node.machine.role(), &node.roles[..]), (Role::Server, &[][..]));
    let out = node.tell(Event::Dialled {
        to: [20, 9, 0, 1].into(),
    });
    assert_eq!(out, [Action::Role(Role::Client)]);
    assert_eq!(node.machine.scope(), Scope::Global);
    for n in 0..4 {
        let ip = [20, n as u8, 0, 1].into();
        node.tell(Event::HelperKnown { helper: id(n), ip });
    }
    // Its address in the private network is none that anybody is asked about.
    node.run(at(70), OPEN);
    assert_eq!(node.machine.reachable().collect::<Vec<_>>(), [socket(US)]);
    assert_eq!(node.machine.role(), Role::Server);
}

#[test]
fn what_neighbours_have_shown_says_nothing_about_the_internet() {
    let mut node = Node::with(
        ReachabilityConfig {
            presume: false,
            ..ReachabilityConfig::default()
        },
        Scope::Any,
        false,
        0,
    );
    let private = socket("192.168.1.7:4001");
    node.tell(Event::Addresses(vec![private]));
    for n in 1..4 {
        node.call(SocketAddr::from(([192, 168, 1, 10 + n], 9)));
    }
    node.run(at(61), SHUT);
    assert_eq!(node.machine.role(), Role::Server);
    let out = node.tell(Event::Dialled {
        to: [20, 9, 0, 1].into(),
    });
    let lost = Action::Proven {
        address: private,
        reachable: false,
    };
    assert_eq!(out, [lost, Action::Role(Role::Client)]);
}

#[test]
fn the_first_node_of_a_network_to_which_strangers_came_serves_until_the_contrary_is_proven() {
    let mut node = presumed(&["40.1.0.1:9"]);
    assert_eq!(
        node.tell(Event::Dialled {
            to: [20, 9, 0, 1].into()
        }),
        []
    );
    assert_eq!(node.machine.role(), Role::Server);
    for n in 0..4 {
        let ip = [20, n as u8, 0, 1].into();
        node.tell(Event::HelperKnown { helper: id(n), ip });
    }
    node.run(at(60), SHUT);
    assert_eq!(node.machine.role(), Role::Client);
}

#[test]
fn a_refusal_costs_no_time_while_another_helper_can_be_asked() {
    let mut node = Node::new(4);
    let mut asked = Vec::new();
    while asked.len() < 3 {
        node.now = node.machine.poll_timeout().unwrap();
        for action in node.tell(Event::Timeout) {
            if let Action::Check { helper, nonce, .. } = action {
                assert!(!asked.contains(&helper), "it rests");
                asked.push(helper);
                node.tell(Event::Answered {
                    nonce,
                    passed_on: false,
                });
            }
        }
    }
    assert!(node.now < at(1), "{:?}", node.now);
    node.run(at(3), OPEN);
    // The one that is left is at one place only.
    assert_eq!((node.checks > 0, node.machine.reachable().count()), (true, 0));
}

#[test]
fn a_prospect_is_what_there_is_to_wait_for() {
    let mut node = Node::new(0);
    assert_eq!(
        node.machine.prospect(at(0)),
        Prospect::Asked,
        "somebody may be there already"
    );
    node.run(at(0), OPEN);
    assert_eq!(node.machine.prospect(at(0)), Prospect::Unclear);
    let ip = [20, 1, 0, 1].into();
    node.tell(Event::HelperKnown { helper: id(1), ip });
    let checked = node.tell(Event::Timeout);
    assert!(matches!(checked[..], [Action::Check { .. }]));
    assert_eq!(node.machine.prospect(at(0)), Prospect::Asked);

    let mut behind = Node::new(4);
    behind.run(at(5), SHUT);
    assert_eq!(behind.machine.prospect(at(5)), Prospect::Silent);
    let mut reached = Node::new(4);
    while reached.checks == 0 {
        let due = reached.machine.poll_timeout().unwrap();
        reached.run(due, OPEN);
    }
    let now = reached.now;
    assert_eq!(reached.machine.reachable().count(), 0);
    assert_eq!(reached.machine.prospect(now), Prospect::Heard);
    reached.run(at(2), OPEN);
    assert_eq!(reached.machine.prospect(at(2)), Prospect::Heard);
}
