//! Peers that want more than their share, or want others to be hit.

use std::sync::Mutex;

use super::*;
use crate::nat::observation::NatClass;
use crate::nat::reachability::Role;
use crate::quic::exchange::{self, STREAM_REACH};
use crate::quic::mux::Packet;
use crate::wire::reach::{ReachRefusal, SessionLimits};

const fn refused(why: ReachRefusal) -> Result<ReachAnswer, NotHeard> {
    Err(NotHeard::Refused(why))
}

fn check(address: SocketAddr) -> ReachRequest {
    ReachRequest::Check {
        address,
        nonce: [7; 16],
    }
}

#[tokio::test]
async fn nobody_can_have_an_address_probed_that_is_not_their_own() {
    let (helper, client) = (server(111), node(112, config(RoleChoice::Client)));
    let victim: SocketAddr = "127.0.250.1:4000".parse().unwrap();
    for address in [victim, "224.0.0.1:4000".parse().unwrap()] {
        let answer = question(&client, &helper.local(), &check(address)).await;
        assert_eq!(answer, refused(ReachRefusal::BadAddress));
    }
    // His own would be; there is only nobody to probe it.
    let answer = question(&client, &helper.local(), &check(socket_of(&client))).await;
    assert_eq!(answer, refused(ReachRefusal::NoTarget));
}

#[tokio::test]
async fn a_node_that_was_in_a_private_network_and_is_in_the_internet_dials_nobody_without_end() {
    let node = node(134, config(RoleChoice::Client));
    let (now, meetings) = (node.shared.mux.now(), &node.shared.meetings);
    let dialled = || {
        (0..100)
            .filter(|_| meetings.may_dial(now, [8, 8, 8, 8].into()))
            .count()
    };
    assert_eq!(dialled(), 100, "there is nobody to protect");
    meetings.went_public();
    assert!((1..100).contains(&dialled()));
}

#[tokio::test]
async fn a_check_that_is_smaller_than_what_it_causes_is_refused() {
    let (helper, client) = (server(113), node(114, config(RoleChoice::Client)));
    let link = link(&client, &helper.local()).await;
    let request = check(socket_of(&client));
    let whole = request.encode().unwrap();
    // The same without its padding: the list of bytes is empty, and nothing follows but the extensions.
    let used = whole.len() - 1 - whole.iter().rev().skip(1).take_while(|byte| **byte == 0).count();
    let mut small = whole[..used - 1].to_vec();
    small.extend([0, 0]);
    let small = Bytes::from(small);
    assert!(ReachRequest::decode(&small, Scope::Any).is_ok(), "{small:?}");
    let answer = soon(exchange::ask(&client.shared, &link, STREAM_REACH, small)).await;
    let Ok((frame, _)) = answer else {
        panic!("no answer");
    };
    assert_eq!(
        ReachAnswer::decode(&frame, &request, Scope::Any),
        Ok(ReachAnswer::Refused(ReachRefusal::TooSmall))
    );
}

#[tokio::test]
async fn one_peer_has_few_probes_in_a_minute() {
    let (target, client) = (server(115), node(116, config(RoleChoice::Client)));
    let victim = host(117);
    let victim = SocketAddr::new(victim.ip(), 4000);
    let mut granted = 0;
    for nonce in 0..20 {
        let request = ReachRequest::DialBack {
            address: victim,
            nonce: [nonce; 16],
        };
        match question(&client, &target.local(), &request).await {
            Ok(ReachAnswer::Done) => granted += 1,
            other => assert_eq!(other, refused(ReachRefusal::Busy)),
        }
    }
    assert_eq!(granted, 12);
}

#[tokio::test]
async fn a_peer_has_eight_requests_under_way_and_others_have_theirs() {
    // A target that never says whether it probes.
    let mute = Scripted::new(
        118,
        Arc::new(|request, from, _| matches!(request, ReachRequest::Hello).then(|| honest(from))),
    );
    let helper = server(119);
    link(&helper, &mute.contact).await;
    let (hog, other) = (
        node(120, config(RoleChoice::Client)),
        node(121, config(RoleChoice::Client)),
    );
    let to = helper.local();
    // Until the helper knows the target, it has none.
    let request = check(socket_of(&other));
    loop {
        let link = link(&other, &to).await;
        let answer = ask(&other.shared, &link, &request, Duration::from_millis(100)).await;
        if answer == Err(NotHeard::Nothing) {
            break;
        }
        assert_eq!(answer, refused(ReachRefusal::NoTarget));
    }
    let request = check(socket_of(&hog));
    let link = link(&hog, &to).await;
    let asked = futures::future::join_all((0..12).map(|_| ask(&hog.shared, &link, &request, PATIENCE)));
    let answers = soon(asked).await;
    let busy = answers
        .iter()
        .filter(|answer| **answer == refused(ReachRefusal::Busy))
        .count();
    assert_eq!(busy, 4, "{answers:?}");
    let hello = question(&other, &to, &ReachRequest::Hello).await;
    assert!(hello.is_ok(), "{hello:?}");
}

#[tokio::test]
async fn nonces_that_are_seen_again_prove_nothing() {
    // A helper that knows a way in, as it sends the probes itself, and does it again and again from other hosts.
    let accomplices: Arc<Vec<Scripted>> = Arc::new(
        (122..125)
            .map(|n| Scripted::new(n, Arc::new(|_, _, _| None)))
            .collect(),
    );
    let seen: Arc<Mutex<Vec<[u8; 16]>>> = Arc::default();
    let script = |accomplices: Arc<Vec<Scripted>>, seen: Arc<Mutex<Vec<[u8; 16]>>>| -> Script {
        Arc::new(move |request, from, _| match request {
            ReachRequest::Hello => Some(honest(from)),
            ReachRequest::Check { address, nonce } => {
                let mut seen = seen.lock().unwrap();
                seen.push(*nonce);
                for nonce in seen.iter() {
                    for accomplice in accomplices.iter() {
                        accomplice.mux.send(*address, Packet::Probe { nonce: *nonce });
                    }
                }
                Some(ReachAnswer::Done)
            }
            _ => None,
        })
    };
    let helper = Scripted::new(125, script(accomplices, seen.clone()));
    let subject = node(126, config(RoleChoice::Auto));
    link(&subject, &helper.contact).await;
    eventually("four checks", || seen.lock().unwrap().len() >= 4).await;
    // Three hosts were heard, and old nonces often, but one helper alone never makes a proof.
    let standing = subject.reach().standing().borrow().clone();
    assert_eq!((standing.role, standing.reachable), (Role::Client, Vec::new()));
    let nonces = seen.lock().unwrap().clone();
    assert!(
        nonces
            .iter()
            .enumerate()
            .all(|(n, nonce)| !nonces[..n].contains(nonce))
    );
    assert_eq!(standing.class, NatClass::Unknown);
}

#[tokio::test]
async fn who_is_no_relay_of_a_node_cannot_have_sessions_arrive_there() {
    let (subject, stranger) = (
        node(127, config(RoleChoice::Client)),
        node(128, config(RoleChoice::Client)),
    );
    let host = host(129).ip();
    let incoming = ReachRequest::Incoming {
        session: crate::nat::relay::SessionId(5),
        from: key(130).node_id(),
        from_host: host,
        seen: std::net::SocketAddr::new(host, 4001),
        limits: SessionLimits::of(&RelayConfig::default()),
    };
    let answer = question(&stranger, &subject.local(), &incoming).await;
    assert_eq!(answer, refused(ReachRefusal::NoReservation));
    let go = ReachRequest::Go {
        session: crate::nat::relay::SessionId(5),
        wait: Duration::ZERO,
    };
    let answer = question(&stranger, &subject.local(), &go).await;
    assert_eq!(answer, refused(ReachRefusal::NoSession));
    let meet = ReachRequest::Meet {
        session: crate::nat::relay::SessionId(5),
    };
    let answer = question(&stranger, &subject.local(), &meet).await;
    assert_eq!(answer, refused(ReachRefusal::NoSession));
}

#[tokio::test]
async fn a_relay_has_no_more_sessions_arrive_than_it_may() {
    let script: Script = Arc::new(|request, from, _| match request {
        ReachRequest::Hello => Some(ReachAnswer::Hello {
            observed: from,
            serves: true,
            relays: true,
            also: None,
        }),
        ReachRequest::Reserve => Some(ReachAnswer::Reserved {
            lifetime: Duration::from_secs(3600),
            limits: SessionLimits::of(&RelayConfig::default()),
        }),
        ReachRequest::Keep => Some(ReachAnswer::Kept { observed: from }),
        _ => Some(ReachAnswer::Done),
    });
    let relay = Scripted::new(131, script);
    let subject = node(132, config(RoleChoice::Client));
    // Over a connection that this end can speak on as well.
    let link = link(&subject, &relay.contact).await;
    stands(&subject, "has a place", |standing| standing.relays.len() == 1).await;
    drop(link);
    let told = |session| super::super::sessions::Told {
        session: crate::nat::relay::SessionId(session),
        peer: key(133).node_id(),
        side: crate::quic::mux::Side::Answerer,
        peer_host: host(133).ip(),
        seen: host(132),
        limits: SessionLimits::of(&RelayConfig::default()),
    };
    let link = subject.shared.pool.open(&relay.contact.id).unwrap();
    let mut opened: Vec<_> = (0..20)
        .filter_map(|session| super::super::sessions::begin(&subject.shared, &link, &told(session)))
        .collect();
    assert_eq!(opened.len(), 8);
    opened.pop();
    assert!(super::super::sessions::begin(&subject.shared, &link, &told(30)).is_some());
}
