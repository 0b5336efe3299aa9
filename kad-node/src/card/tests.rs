use std::net::SocketAddr;
use std::sync::Arc;

use kad_net::memory::{Conditions, Network};
use kad_net::nat::candidates::Candidate;
use kad_net::nat::observation::NatClass;
use kad_net::nat::reachability::Prospect;
use kad_store::{Limits, MemoryStore};

use super::*;
use crate::builder::Assembly;
use crate::role::{Role, RoleChoice};
use crate::{Builder, DenyList, MutableOptions, Node, Whereabouts};

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 4000))
}

fn keypair(n: u8) -> Keypair {
    Keypair::from_secret(&[n; 32])
}

/// The nth node of a network, which joins through the first.
async fn node(network: &Network, n: u8, builder: Builder) -> Node<SocketAddr> {
    started(network, n, builder, None).await
}

/// The same with a transport that finds out how its node is reached.
async fn started(
    network: &Network,
    n: u8,
    builder: Builder,
    presence: Option<watch::Receiver<Presence<SocketAddr>>>,
) -> Node<SocketAddr> {
    let transport = network.join(keypair(n).node_id(), address(n));
    let builder = match n {
        1 => builder,
        _ => builder.bootstrap(address(1)),
    };
    let store = MemoryStore::new(Limits::default());
    let node = builder.assemble(Assembly {
        keypair: keypair(n),
        transport: Arc::new(transport),
        store,
        files: None,
        presence,
        sockets: None,
    });
    let node = node.unwrap();
    if n > 1 {
        node.joined().await.unwrap();
    }
    node
}

async fn network(seed: u64) -> (Network, Vec<Node<SocketAddr>>) {
    let network = Network::new(seed, Conditions::default());
    let mut nodes = Vec::new();
    for n in 1..=4 {
        nodes.push(node(&network, n, Node::builder()).await);
    }
    (network, nodes)
}

/// What a node behind a NAT says, with one relay.
fn relayed(relay: u8) -> Presence<SocketAddr> {
    let observed = Candidate {
        address: address(200),
        kind: CandidateKind::Observed,
    };
    Presence {
        role: Role::Client,
        prospect: Prospect::Unclear,
        card: Card {
            candidates: vec![observed],
            class: NatClass::EndpointDependent,
            relays: vec![kad_core::Contact::new(keypair(relay).node_id(), address(relay))],
            serves: false,
        },
    }
}

fn keeper(
    node: &Node<SocketAddr>,
    presence: watch::Receiver<Presence<SocketAddr>>,
) -> CardKeeper<SocketAddr> {
    let (asker, join) = node.for_tasks();
    CardKeeper {
        keypair: node.keypair().clone(),
        rules: *node.rules(),
        presence,
        join,
        asker,
        enough: 1,
        pause: Duration::from_millis(20),
    }
}

/// Asks until what is found is as it should be.
async fn finds(
    node: &Node<SocketAddr>,
    id: kad_core::NodeId,
    wanted: impl Fn(Option<&Whereabouts<SocketAddr>>) -> bool,
) {
    let looking = async {
        while !wanted(node.find_node(id).await.unwrap().as_ref()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .expect("it is not found as it should be");
}

fn card_is<'a>(card: &'a Card<SocketAddr>) -> impl Fn(Option<&Whereabouts<SocketAddr>>) -> bool + 'a {
    move |found| found.is_some_and(|found| found.card.as_ref() == Some(card))
}

#[tokio::test]
async fn a_node_that_only_asks_is_found_by_the_card_that_its_builder_has_it_keep() {
    let (network, nodes) = network(1).await;
    let (_told, presence) = watch::channel(relayed(2));
    let client = started(&network, 9, Node::builder().read_only(true), Some(presence)).await;
    let card = relayed(2).card;
    for node in &nodes {
        finds(node, client.id(), card_is(&card)).await;
        let found = node.find_node(client.id()).await.unwrap().unwrap();
        assert_eq!(found.contact, None, "nobody knows it");
        let left = found.expires.unwrap().secs_since(unix_now());
        assert!(left <= LIFE.as_secs() && left > LIFE.as_secs() - 120);
    }
    // It ends in order: nobody has to look for it any longer.
    client.shutdown().await.unwrap();
    let stopped = |found: Option<&Whereabouts<SocketAddr>>| {
        found.is_some_and(|found| found.card.as_ref().is_some_and(Card::is_nowhere))
    };
    for node in &nodes {
        finds(node, keypair(9).node_id(), stopped).await;
    }
}

#[tokio::test]
async fn who_does_not_want_to_be_found_is_not() {
    let (network, nodes) = network(2).await;
    let (_told, presence) = watch::channel(relayed(2));
    let shy = Node::builder().role(RoleChoice::Client).card(false);
    let client = started(&network, 9, shy, Some(presence)).await;
    // One that does, and that came later, is found: the other one has had its time.
    let (_told, presence) = watch::channel(relayed(3));
    let other = started(&network, 10, Node::builder().read_only(true), Some(presence)).await;
    finds(&nodes[0], other.id(), card_is(&relayed(3).card)).await;
    assert_eq!(nodes[1].find_node(client.id()).await.unwrap(), None);
}

#[tokio::test]
async fn the_card_follows_what_is_found_out() {
    let (network, nodes) = network(3).await;
    let client = node(&network, 9, Node::builder().read_only(true)).await;
    let (told, presence) = watch::channel(relayed(2));
    let farewell = keeper(&client, presence).start();
    finds(&nodes[0], client.id(), card_is(&relayed(2).card)).await;
    for relay in [3, 4, 2, 3] {
        told.send_replace(relayed(relay));
        finds(&nodes[1], client.id(), card_is(&relayed(relay).card)).await;
    }
    // It ends in order, which is said as well.
    farewell.say().await;
    finds(&nodes[2], client.id(), card_is(&Card::default())).await;
}

#[tokio::test]
async fn who_has_nothing_to_say_for_a_while_does_not_say_that_it_has_stopped() {
    let unproven = Presence {
        role: Role::Server,
        prospect: Prospect::Unclear,
        card: Card {
            candidates: vec![Candidate {
                address: address(200),
                kind: CandidateKind::Observed,
            }],
            serves: true,
            ..Card::default()
        },
    };
    let nothing = Presence {
        role: Role::Client,
        prospect: Prospect::Unclear,
        card: Card::default(),
    };
    let (network, nodes) = network(8).await;
    let client = node(&network, 9, Node::builder().read_only(true)).await;
    let other = node(&network, 10, Node::builder().read_only(true)).await;
    let (told, presence) = watch::channel(relayed(2));
    let farewell = keeper(&client, presence).start();
    let (told_other, presence) = watch::channel(relayed(2));
    let _other = keeper(&other, presence).start();
    for (silent, relay) in [(unproven, 3), (nothing, 4)] {
        told.send_replace(relayed(relay));
        finds(&nodes[0], client.id(), card_is(&relayed(relay).card)).await;
        told.send_replace(silent);
        // Another keeper with the same pause has written twice: this one has had its time.
        for relay in [3, 4] {
            told_other.send_replace(relayed(relay));
            finds(&nodes[0], other.id(), card_is(&relayed(relay).card)).await;
        }
        let found = nodes[1].find_node(client.id()).await.unwrap();
        assert!(card_is(&relayed(relay).card)(found.as_ref()), "{found:?}");
    }
    farewell.say().await;
    finds(&nodes[2], client.id(), card_is(&Card::default())).await;
}

#[tokio::test]
async fn a_clock_that_has_gone_back_does_not_keep_a_node_from_being_found() {
    let (network, nodes) = network(4).await;
    // What this node has written when its clock was years ahead.
    let ahead = MutableOptions {
        seq: Some(u64::MAX / 2),
        ..MutableOptions::default()
    };
    let value = relayed(4).card.encode().unwrap();
    nodes[0]
        .put_mutable(&keypair(9), b"", value, ahead)
        .await
        .unwrap();
    let client = node(&network, 9, Node::builder().read_only(true)).await;
    let (_told, presence) = watch::channel(relayed(2));
    let _farewell = keeper(&client, presence).start();
    finds(&nodes[1], client.id(), card_is(&relayed(2).card)).await;
}

#[tokio::test]
async fn a_server_that_nobody_has_proven_to_be_reachable_has_no_card() {
    let says = |kind, serves| {
        let card = Card::<SocketAddr> {
            candidates: vec![Candidate {
                address: address(1),
                kind,
            }],
            serves,
            ..Card::default()
        };
        let (role, prospect) = (Role::Server, Prospect::Heard);
        let presence = Presence { role, prospect, card };
        said_by(&presence).is_some()
    };
    assert!(!says(CandidateKind::Lan, true) && !says(CandidateKind::Observed, true));
    assert!(says(CandidateKind::Verified, true) && says(CandidateKind::Mapped, true));
    assert!(says(CandidateKind::Lan, false));
}

#[tokio::test]
async fn cards_of_denied_publishers_are_not_given() {
    let (network, nodes) = network(5).await;
    let client = node(&network, 9, Node::builder().read_only(true)).await;
    let (_told, presence) = watch::channel(relayed(2));
    let _farewell = keeper(&client, presence).start();
    finds(&nodes[0], client.id(), card_is(&relayed(2).card)).await;
    let list: DenyList = format!("node {}", client.id()).parse().unwrap();
    // Who denies it is not told of it by others either.
    nodes[1].deny(list.clone()).await.unwrap();
    assert_eq!(nodes[1].find_node(client.id()).await.unwrap(), None);
    finds(&nodes[0], client.id(), card_is(&relayed(2).card)).await;
    for node in [&nodes[0], &nodes[2], &nodes[3]] {
        node.deny(list.clone()).await.unwrap();
    }
    let other = node(&network, 10, Node::builder()).await;
    assert_eq!(other.find_node(client.id()).await.unwrap(), None);
}

#[tokio::test]
async fn the_role_follows_what_is_found_out_and_others_notice() {
    let (network, nodes) = network(6).await;
    let (told, presence) = watch::channel(relayed(2));
    let node = started(&network, 9, Node::builder(), Some(presence)).await;
    let mut role = node.role();
    assert!(node.is_read_only() && !node.stores());
    let is_known = async |wanted: bool| {
        let looking = async {
            loop {
                let contacts = nodes[0].contacts().await.unwrap();
                if contacts.iter().any(|(_, contact)| contact.id == node.id()) == wanted {
                    return;
                }
                // Whoever only asks says so when it asks, and when it is asked.
                let _ = nodes[0].ping(*node.local()).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap();
    };
    for serves in [true, false, true, false] {
        told.send_modify(|presence| presence.role = if serves { Role::Server } else { Role::Client });
        let wanted = if serves { Role::Server } else { Role::Client };
        role.wait_for(|role| *role == wanted).await.unwrap();
        assert_eq!((node.is_read_only(), node.stores()), (!serves, serves));
        is_known(serves).await;
    }
}

#[tokio::test]
async fn an_operators_role_stays_whatever_is_found_out() {
    let (network, _nodes) = network(7).await;
    let (told, presence) = watch::channel(relayed(2));
    let node = started(
        &network,
        9,
        Node::builder().role(RoleChoice::Server),
        Some(presence),
    )
    .await;
    assert!(!node.is_read_only());
    told.send_modify(|presence| presence.role = Role::Client);
    told.send_modify(|presence| presence.card.class = NatClass::Unknown);
    tokio::task::yield_now().await;
    assert!(!node.is_read_only());
}
