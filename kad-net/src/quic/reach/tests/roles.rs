//! Who finds out that it can be reached, and who does not.

use super::*;
use crate::nat::reachability::Role;
use crate::wire::reach::ReachRefusal;

#[tokio::test]
async fn in_a_private_network_everybody_serves_at_once_and_asks_nobody() {
    let all: Vec<_> = (1..5).map(|n| node(n, ReachConfig::default())).collect();
    for (place, one) in all.iter().enumerate() {
        for other in &all[place + 1..] {
            dial(one, other).await;
        }
    }
    // One that came later and asks has had its answers, so the others had their time, too.
    let asking = node(5, config(RoleChoice::Client));
    dial(&asking, &all[0]).await;
    stands(&asking, "has a place", |standing| standing.relays.len() == 1).await;
    for one in &all {
        let standing = one.reach().standing().borrow().clone();
        assert_eq!(standing.role, Role::Server);
        assert!(standing.relays.is_empty());
        assert!(standing.card().serves);
    }
    for silent in &all[1..] {
        assert_eq!(silent.quic_stats().reach_requests, 0);
    }
}

#[tokio::test]
async fn only_those_whom_a_node_has_dialled_are_asked() {
    let subject = node(6, config(RoleChoice::Client));
    let caller = server(7);
    dial(&caller, &subject).await;
    let dialled = server(8);
    dial(&subject, &dialled).await;
    stands(&subject, "has a place", |standing| standing.relays.len() == 1).await;
    assert_eq!(caller.quic_stats().reach_requests, 0);
}

#[tokio::test]
async fn a_quiet_node_asks_nobody_even_if_it_cannot_be_reached() {
    let quiet = node(
        9,
        ReachConfig {
            quiet: true,
            ..config(RoleChoice::Client)
        },
    );
    let left_alone = server(155);
    dial(&quiet, &left_alone).await;
    // One that came later and asks has had its answers.
    let (asked, asking) = (server(156), node(157, config(RoleChoice::Client)));
    dial(&asking, &asked).await;
    stands(&asking, "has a place", |standing| standing.relays.len() == 1).await;
    assert_eq!(left_alone.quic_stats().reach_requests, 0);
    assert!(quiet.reach().standing().borrow().relays.is_empty());
}

#[tokio::test]
async fn strangers_that_call_make_a_node_serve() {
    let subject = node(10, config(RoleChoice::Auto));
    assert_eq!(subject.reach().standing().borrow().role, Role::Client);
    let callers: Vec<_> = (11..14).map(|n| node(n, ReachConfig::default())).collect();
    for caller in &callers[..2] {
        dial(caller, &subject).await;
    }
    // Twice from one host is once.
    let again = node(11, ReachConfig::default());
    dial(&again, &subject).await;
    assert_eq!(subject.reach().standing().borrow().reachable, []);
    dial(&callers[2], &subject).await;
    let standing = stands(&subject, "serves", |standing| standing.role == Role::Server).await;
    assert_eq!(standing.reachable, [socket_of(&subject)]);
    // From now on it tells others that it does.
    let hello = question(&again, &subject.local(), &ReachRequest::Hello).await;
    let observed = socket_of(&again);
    assert_eq!(
        hello,
        Ok(ReachAnswer::Hello {
            observed,
            serves: true,
            relays: true,
            also: None
        })
    );
}

#[tokio::test]
async fn a_node_that_has_called_its_callers_first_proves_nothing_by_them() {
    let subject = node(15, config(RoleChoice::Auto));
    let callers: Vec<_> = (16..20).map(|n| node(n, ReachConfig::default())).collect();
    for caller in &callers {
        dial(&subject, caller).await;
        // Another node on the same host.
        let host = node(
            socket_of(caller)
                .ip()
                .to_string()
                .split('.')
                .nth(2)
                .unwrap()
                .parse()
                .unwrap(),
            ReachConfig::default(),
        );
        dial(&host, &subject).await;
    }
    // One stranger more is not enough for a proof, but its call is heard after theirs.
    let last = node(20, ReachConfig::default());
    dial(&last, &subject).await;
    let hello = question(&last, &subject.local(), &ReachRequest::Hello).await;
    assert!(
        matches!(hello, Ok(ReachAnswer::Hello { serves: false, .. })),
        "{hello:?}"
    );
    assert_eq!(subject.reach().standing().borrow().reachable, []);
}

#[tokio::test]
async fn probes_of_nodes_that_it_never_contacted_make_a_node_serve() {
    let helpers = servers(21..29).await;
    let subject = node(30, config(RoleChoice::Auto));
    dial(&subject, &helpers[0]).await;
    dial(&subject, &helpers[4]).await;
    let standing = stands(&subject, "serves", |standing| standing.role == Role::Server).await;
    assert_eq!(standing.reachable, [socket_of(&subject)]);
    assert!(subject.quic_stats().socket.probes >= 3);
    // It needs no relay any more.
    stands(&subject, "gives its places up", |standing| {
        standing.relays.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_node_behind_a_wall_only_asks_and_keeps_three_places() {
    // The targets of each of the three are nobody that the node knows.
    let helpers = servers(141..153).await;
    let subject = node(40, config(RoleChoice::Auto));
    wall(&subject);
    for helper in helpers.iter().step_by(4) {
        dial(&subject, helper).await;
    }
    let standing = stands(&subject, "has three places", |standing| {
        standing.relays.len() == 3
    })
    .await;
    assert_eq!(standing.role, Role::Client);
    // Probes of two checks were kept out by the wall; it is still no server.
    eventually("probes were sent", || subject.quic_stats().socket.strays >= 6).await;
    let standing = subject.reach().standing().borrow().clone();
    assert_eq!((standing.role, standing.reachable.len()), (Role::Client, 0));
    let card = standing.card();
    assert_eq!((card.serves, card.relays.len()), (false, 3));
    for relay in &card.relays {
        let contact = helpers
            .iter()
            .map(|helper| helper.local())
            .find(|contact| contact.id == relay.id);
        assert_eq!(contact.unwrap().address, relay.address);
    }
}

#[tokio::test]
async fn liars_among_the_observers_are_outvoted() {
    let lie: SocketAddr = "127.9.9.9:9".parse().unwrap();
    let liars: Vec<_> = (41..43)
        .map(|n| Scripted::new(n, Arc::new(move |_, _, _| Some(honest(lie)))))
        .collect();
    let fair: Vec<_> = (43..49)
        .map(|n| Scripted::new(n, Arc::new(|_, from, _| Some(honest(from)))))
        .collect();
    let subject = node(49, config(RoleChoice::Client));
    for peer in liars.iter().chain(&fair) {
        link(&subject, &peer.contact).await;
    }
    let standing = stands(&subject, "is seen", |standing| {
        standing.class == crate::nat::observation::NatClass::EndpointIndependent
    })
    .await;
    assert_eq!(standing.observed, [socket_of(&subject)]);
}

#[tokio::test]
async fn another_network_voids_what_was_proven_in_the_old_one() {
    let subject = node(50, config(RoleChoice::Auto));
    let callers: Vec<_> = (51..54).map(|n| node(n, ReachConfig::default())).collect();
    // What a node is told first is no change.
    subject.reach().network_changed(vec![host(50).ip()]);
    for caller in &callers {
        dial(caller, &subject).await;
    }
    stands(&subject, "serves", |standing| standing.role == Role::Server).await;
    subject.reach().network_changed(vec![host(51).ip()]);
    let standing = stands(&subject, "only asks", |standing| standing.role == Role::Client).await;
    assert_eq!(standing.reachable, []);
}

#[tokio::test]
async fn what_a_router_forwards_is_told_as_such() {
    let subject = node(55, ReachConfig::default());
    let mapped: Vec<SocketAddr> = (1..=40).map(|port| ([8, 8, 8, 8], 4000 + port).into()).collect();
    subject.reach().set_mapped(mapped.clone());
    let standing = stands(&subject, "is mapped", |standing| !standing.mapped.is_empty()).await;
    assert_eq!(standing.mapped, mapped[..16]);
}

#[tokio::test]
async fn a_server_behind_a_nat_reminds_it_that_it_is_there() {
    // All see the node at an address of a router, and have it probed there by others; a router brings the probes in.
    let outside: SocketAddr = "127.0.170.9:4444".parse().unwrap();
    let inside: Arc<std::sync::OnceLock<SocketAddr>> = Arc::default();
    let hellos = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let probers: Arc<Vec<Scripted>> = Arc::new(
        (163..167)
            .map(|n| Scripted::new(n, Arc::new(|_, _, _| None)))
            .collect(),
    );
    let script = || -> Script {
        let (inside, hellos, probers) = (inside.clone(), hellos.clone(), probers.clone());
        Arc::new(move |request, _, _| match request {
            ReachRequest::Hello => {
                hellos.fetch_add(1, Relaxed);
                Some(honest(outside))
            }
            ReachRequest::Check { address, nonce } => {
                // Each nonce is heard of one of them: which, decides its first byte.
                let prober = &probers[usize::from(nonce[0]) % probers.len()];
                if *address == outside {
                    let packet = crate::quic::mux::Packet::Probe { nonce: *nonce };
                    prober.mux.send(*inside.get()?, packet);
                }
                Some(ReachAnswer::Done)
            }
            _ => None,
        })
    };
    let helpers: Vec<_> = (167..171).map(|n| Scripted::new(n, script())).collect();
    let subject = node(171, config(RoleChoice::Auto));
    inside.set(socket_of(&subject)).unwrap();
    for helper in &helpers {
        link(&subject, &helper.contact).await;
    }
    let standing = stands(&subject, "serves", |standing| standing.role == Role::Server).await;
    assert_eq!(standing.reachable, [outside]);
    // Everybody has said hello by then, and is not asked again for minutes.
    let before = hellos.load(Relaxed);
    eventually("the NAT is reminded", || hellos.load(Relaxed) >= before + 3).await;
}

#[tokio::test]
async fn a_relay_that_only_asks_from_now_on_keeps_no_places() {
    let relay = node(183, config(RoleChoice::Auto));
    relay.reach().network_changed(vec![host(183).ip()]);
    let callers: Vec<_> = (184..187).map(|n| node(n, ReachConfig::default())).collect();
    for caller in &callers {
        dial(caller, &relay).await;
    }
    stands(&relay, "serves", |standing| standing.role == Role::Server).await;
    let reserved = question(&callers[0], &relay.local(), &ReachRequest::Reserve).await;
    assert!(
        matches!(reserved, Ok(ReachAnswer::Reserved { .. })),
        "{reserved:?}"
    );
    let kept = question(&callers[0], &relay.local(), &ReachRequest::Keep).await;
    assert!(matches!(kept, Ok(ReachAnswer::Kept { .. })), "{kept:?}");
    relay.reach().network_changed(vec![host(184).ip()]);
    stands(&relay, "only asks", |standing| standing.role == Role::Client).await;
    let none = Err(NotHeard::Refused(ReachRefusal::NoReservation));
    let to = callers[0].local().id;
    let opened = question(&callers[1], &relay.local(), &ReachRequest::Open { to }).await;
    assert_eq!(opened, none);
    let kept = question(&callers[0], &relay.local(), &ReachRequest::Keep).await;
    assert_eq!(kept, none);
    assert_eq!(relay.quic_stats().relay.reservations, 0);
}
