//! Whole nodes on hosts of the loopback network, of which one has to prove that it can be reached.

use std::net::SocketAddr;
use std::sync::Arc;

use kad_core::{Keypair, NetworkId, Parameters, Rules};
use kad_net::card::Card;
use kad_net::memory::{Conditions, MemoryTransport, Network};
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

/// A newcomer whose time passes when everybody waits, and others whom it can meet.
struct Bench {
    told: watch::Sender<Presence<SocketAddr>>,
    own: MemoryTransport,
    others: Vec<Contact<SocketAddr>>,
    _there: Vec<MemoryTransport>,
}

impl Bench {
    fn new() -> (Self, Proof<SocketAddr>) {
        let network = Network::new(1, Conditions::default());
        let address = |n: u8| SocketAddr::from(([10, 0, n, 1], 4000));
        let there: Vec<_> = (2..22)
            .map(|n| network.join(key(n).node_id(), address(n)))
            .collect();
        let (told, presence) = watch::channel(Presence {
            role: Role::Client,
            prospect: Prospect::Unclear,
            card: Card::default(),
        });
        let rules = Rules::new(
            NetworkId::new("proof", &Parameters::default()),
            &Parameters::default(),
        );
        let proof = Proof {
            presence,
            codec: Codec::new(rules, Scope::Any),
            within: PROOF_WITHIN,
        };
        let bench = Self {
            told,
            own: network.join(key(1).node_id(), address(1)),
            others: there.iter().map(Transport::local).collect(),
            _there: there,
        };
        (bench, proof)
    }

    fn prospect(&self, prospect: Prospect) {
        self.told.send_modify(|presence| presence.prospect = prospect);
    }

    fn proven(&self) {
        self.told.send_modify(|presence| presence.role = Role::Server);
    }

    /// Waits as one that has met two already. Tells what came of it, in which second, and how many more it has met.
    async fn wait(&self, proof: Proof<SocketAddr>) -> (bool, u64, usize) {
        let began = Instant::now();
        let mut met = 0;
        let candidates = self.others.iter().cloned().inspect(|_| met += 1);
        let found = proof.wait(&self.own, candidates, 2, 2).await;
        (matches!(found, Found::Proven), began.elapsed().as_secs(), met)
    }
}

#[tokio::test(start_paused = true)]
async fn who_hears_nobody_joins_after_five_seconds() {
    let (bench, proof) = Bench::new();
    bench.prospect(Prospect::Silent);
    assert_eq!(bench.wait(proof).await, (false, 5, 2));
}

#[tokio::test(start_paused = true)]
async fn who_has_heard_a_stranger_or_still_asks_waits_longer() {
    for prospect in [Prospect::Heard, Prospect::Asked] {
        let (bench, proof) = Bench::new();
        bench.prospect(prospect);
        let proven = async {
            tokio::time::sleep(Duration::from_secs(12)).await;
            bench.proven();
        };
        assert_eq!(tokio::join!(bench.wait(proof), proven).0, (true, 12, 2));
        // What has fallen silent is not waited for any more.
        let (bench, proof) = Bench::new();
        bench.prospect(prospect);
        let silent = async {
            tokio::time::sleep(Duration::from_secs(12)).await;
            bench.prospect(Prospect::Silent);
        };
        assert_eq!(tokio::join!(bench.wait(proof), silent).0, (false, 12, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_can_say_anything_one_more_is_met_each_second_up_to_eight() {
    let (bench, proof) = Bench::new();
    assert_eq!(bench.wait(proof).await, (false, 5, MAX_MET_BEFORE - 2));
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
