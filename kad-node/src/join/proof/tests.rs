//! Whole nodes on hosts of the loopback network, of which one has to prove that it can be reached.

use std::net::SocketAddr;
use std::sync::Arc;

use kad_core::{Keypair, NetworkId, Parameters};
use kad_net::nat::reachability::{ReachabilityConfig, RoleChoice};
use kad_net::quic::{QuicAddress, QuicConfig, QuicTransport, ReachConfig};
use kad_net::wire::Scope;
use kad_store::memory::MemoryStore;

use super::*;
use crate::builder::Assembly;
use crate::{Builder, Node};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Servers of a network that is small: whoever joins it meets all of them.
const SERVERS: u8 = 11;

fn key(n: u8) -> Keypair {
    Keypair::from_secret(&[n; 32])
}

fn transport(n: u8, role: RoleChoice) -> Arc<QuicTransport> {
    let mut reachability = ReachabilityConfig::default();
    reachability.role = role;
    reachability.hold = kad_core::Duration::from_millis(100);
    // As in the internet.
    reachability.presume = false;
    let config = QuicConfig {
        reach: ReachConfig {
            reachability,
            ..ReachConfig::default()
        },
        ..QuicConfig::new(
            key(n),
            NetworkId::new("proof", &Parameters::default()),
            vec![SocketAddr::from(([127, 0, n, 1], 0))],
        )
    };
    Arc::new(QuicTransport::bind(config).unwrap())
}

fn node(n: u8, transport: &Arc<QuicTransport>, builder: Builder) -> Node {
    let presence = Presence::follow(transport.reach().standing());
    let store = MemoryStore::new(kad_store::Limits::default());
    let builder = builder.network("proof").scope(Scope::Any);
    let assembly = Assembly {
        keypair: key(n),
        transport: transport.clone(),
        store,
        files: None,
        presence: Some(presence),
        sockets: None,
    };
    builder.assemble(assembly).unwrap()
}

async fn identify(from: &QuicTransport, to: &QuicTransport) {
    from.identify(&to.local().address).await.unwrap();
}

/// A network of servers on hosts of their own, from this one on, in which each has others to pass a check on to.
async fn network(first: u8) -> (Vec<Arc<QuicTransport>>, Vec<Node>) {
    let transports: Vec<_> = (first..first + SERVERS)
        .map(|n| transport(n, RoleChoice::Server))
        .collect();
    for (place, one) in transports.iter().enumerate() {
        for other in transports.iter().cycle().skip(place + 1).take(5) {
            identify(one, other).await;
        }
    }
    // Each says hello to those that it has dialled, and so knows whom to ask to probe.
    let end = tokio::time::Instant::now() + PATIENCE;
    while transports.iter().any(|one| one.quic_stats().reach_requests < 5) {
        assert!(tokio::time::Instant::now() < end, "they do not greet each other");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The last one is the first of the network. Each joins by the one behind it, which it has dialled anyway.
    let mut nodes: Vec<Node> = Vec::new();
    for (n, transport) in (first..first + SERVERS).zip(&transports).rev() {
        let builder = Builder::default().role(RoleChoice::Server);
        match nodes.last() {
            None => nodes.push(node(n, transport, builder)),
            Some(behind) => {
                let joining = node(
                    n,
                    transport,
                    builder.bootstrap(behind.local().address.sockets()[0]),
                );
                joining.joined().await.unwrap();
                nodes.push(joining);
            }
        }
    }
    (transports, nodes)
}

fn newcomer(n: u8, transport: &Arc<QuicTransport>, way_in: &QuicTransport, within: Duration) -> Node {
    let mut builder = Builder::default().bootstrap(way_in.local().address.sockets()[0]);
    builder.proof_within = within;
    node(n, transport, builder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_everybody_reaches_serves_even_where_it_meets_everybody_when_it_joins() {
    let (transports, nodes) = network(60).await;
    let transport = transport(90, RoleChoice::Auto);
    let newcomer = newcomer(90, &transport, &transports[0], PATIENCE);
    newcomer.joined().await.unwrap();
    let mut role = newcomer.role();
    let serves = tokio::time::timeout(PATIENCE, role.wait_for(|role| *role == Role::Server)).await;
    assert!(serves.is_ok(), "it never serves: {:?}", transport.reach());
    drop(nodes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_nobody_can_prove_joins_all_the_same_and_only_asks() {
    let (transports, nodes) = network(110).await;
    let transport = transport(140, RoleChoice::Auto);
    // Behind a NAT these could reach it, and so nobody believes them.
    for other in &transports {
        identify(&transport, other).await;
    }
    let newcomer = newcomer(140, &transport, &transports[0], Duration::from_secs(2));
    let began = tokio::time::Instant::now();
    newcomer.joined().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2), "it did not wait");
    assert_eq!(*newcomer.role().borrow(), Role::Client);
    assert_eq!(transport.reach().standing().borrow().reachable, []);
    assert!(transport.quic_stats().socket.probes > 0);
    drop(nodes);
}

#[test]
fn enough_are_left_to_prove_something_or_nobody_is_waited_for() {
    // Of a large network four are met, of a small one fewer.
    assert_eq!(to_meet(1, 20), Some(3));
    assert_eq!(to_meet(4, 20), Some(0));
    assert_eq!(to_meet(12, 20), Some(0));
    assert_eq!(to_meet(1, 5), Some(2));
    assert_eq!(to_meet(1, 4), Some(1));
    assert_eq!(to_meet(0, 5), Some(2));
    // Who has met one and knows three more has one helper or two probers.
    assert_eq!(to_meet(1, 3), None);
    assert_eq!(to_meet(4, 2), None);
    assert_eq!(to_meet(0, 0), None);
}

#[test]
fn those_at_other_sites_are_met_first_and_then_those_on_other_hosts() {
    let contact = |n: u8, address: &str| {
        let socket: SocketAddr = address.parse().unwrap();
        Contact::new(key(n).node_id(), QuicAddress::from(socket))
    };
    let met = [contact(1, "20.0.0.1:1")];
    let known = vec![
        contact(1, "20.0.0.1:1"),
        contact(2, "20.0.0.2:1"),
        contact(3, "20.0.0.1:2"),
        contact(4, "20.0.1.1:1"),
        contact(4, "20.0.9.1:1"),
        contact(5, "20.0.1.1:2"),
        contact(6, "20.0.1.2:1"),
        contact(7, "20.0.2.1:1"),
        contact(9, "20.0.8.1:1"),
    ];
    let others = others(key(9).node_id(), &met, known);
    let order: Vec<_> = apart(&met, others)
        .into_iter()
        .map(|contact| contact.id)
        .collect();
    let expected = [4, 7, 2, 6].map(|n| key(n).node_id());
    assert_eq!(order, expected);
}
