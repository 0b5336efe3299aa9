//! Places at relays: asked for, kept, lost, replaced.

use super::*;
use crate::wire::reach::{ReachRefusal, SessionLimits};

/// A client of all these servers.
async fn client_of(n: u8, servers: &[Arc<QuicTransport>]) -> Arc<QuicTransport> {
    let client = node(n, config(RoleChoice::Client));
    for server in servers {
        dial(&client, server).await;
    }
    client
}

#[tokio::test]
async fn a_relay_that_leaves_is_replaced_by_another() {
    let servers: Vec<_> = (61..66).map(server).collect();
    let client = client_of(66, &servers).await;
    let before = stands(&client, "has three places", |standing| standing.relays.len() == 3).await;
    let lost = relays(&before)[0];
    let place = servers
        .iter()
        .position(|server| server.local().id == lost)
        .unwrap();
    soon(servers[place].close()).await;
    let after = stands(&client, "has another", |standing| {
        standing.relays.len() == 3 && !relays(standing).contains(&lost)
    })
    .await;
    let kept = relays(&before)[1..]
        .iter()
        .all(|relay| relays(&after).contains(relay));
    assert!(kept, "the others stay");
}

#[tokio::test]
async fn a_relay_that_falls_silent_is_replaced_by_another() {
    let servers: Vec<_> = (67..72).map(server).collect();
    let client = client_of(72, &servers).await;
    let before = stands(&client, "has three places", |standing| standing.relays.len() == 3).await;
    let lost = relays(&before)[2];
    let silent = servers.iter().find(|server| server.local().id == lost).unwrap();
    silent.silence();
    stands(&client, "has another", |standing| {
        standing.relays.len() == 3 && !relays(standing).contains(&lost)
    })
    .await;
}

/// A relay that grants a place, and says this to who tells it that it is still there.
fn relay_that_says(n: u8, to_keep: impl Fn() -> ReachAnswer + Send + Sync + 'static) -> Scripted {
    let script: Script = Arc::new(move |request, from, _| {
        Some(match request {
            ReachRequest::Hello => ReachAnswer::Hello {
                observed: from,
                serves: true,
                relays: true,
                also: None,
            },
            ReachRequest::Reserve => ReachAnswer::Reserved {
                lifetime: Duration::from_secs(3600),
                limits: SessionLimits::of(&RelayConfig::default()),
            },
            _ => to_keep(),
        })
    });
    Scripted::new(n, script)
}

#[tokio::test]
async fn a_relay_that_has_forgotten_a_place_is_left() {
    let relay = relay_that_says(73, || ReachAnswer::Refused(ReachRefusal::NoReservation));
    let client = node(74, config(RoleChoice::Client));
    link(&client, &relay.contact).await;
    stands(&client, "has a place", |standing| standing.relays.len() == 1).await;
    stands(&client, "has none", |standing| standing.relays.is_empty()).await;
}

#[tokio::test]
async fn a_relay_that_is_busy_for_a_while_is_kept() {
    let told = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counting = told.clone();
    let relay = relay_that_says(80, move || {
        counting.fetch_add(1, Relaxed);
        ReachAnswer::Refused(ReachRefusal::Busy)
    });
    let client = node(81, config(RoleChoice::Client));
    link(&client, &relay.contact).await;
    let standing = stands(&client, "has a place", |standing| standing.relays.len() == 1).await;
    eventually("it was told four times", || told.load(Relaxed) >= 4).await;
    assert_eq!(client.reach().standing().borrow().relays, standing.relays);
}

#[tokio::test]
async fn a_client_that_leaves_has_no_place_any_more() {
    let relay = server(75);
    let client = client_of(76, std::slice::from_ref(&relay)).await;
    stands(&client, "has a place", |standing| standing.relays.len() == 1).await;
    assert_eq!(relay.quic_stats().relay.reservations, 1);
    soon(client.close()).await;
    eventually("the place is free", || relay.quic_stats().relay.reservations == 0).await;
}

#[tokio::test]
async fn who_relays_nothing_or_only_asks_is_no_help() {
    let none = node(
        77,
        ReachConfig {
            relay: None,
            ..config(RoleChoice::Server)
        },
    );
    let asks = node(78, config(RoleChoice::Client));
    let client = node(79, config(RoleChoice::Client));
    for relay in [&none, &asks] {
        let refused = question(&client, &relay.local(), &ReachRequest::Reserve).await;
        assert_eq!(refused, Err(NotHeard::Refused(ReachRefusal::Unsupported)));
        let hello = question(&client, &relay.local(), &ReachRequest::Hello).await;
        assert!(
            matches!(hello, Ok(ReachAnswer::Hello { relays: false, .. })),
            "{hello:?}"
        );
    }
    // Nor does who only asks have anything probed for others.
    let check = ReachRequest::Check {
        address: socket_of(&client),
        nonce: [1; 16],
    };
    let refused = question(&client, &asks.local(), &check).await;
    assert_eq!(refused, Err(NotHeard::Refused(ReachRefusal::Unsupported)));
    let kept = question(&client, &none.local(), &ReachRequest::Keep).await;
    assert_eq!(kept, Err(NotHeard::Refused(ReachRefusal::NoReservation)));
}
