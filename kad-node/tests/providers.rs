//! Who provides what, and where they can be reached.

use std::net::{Ipv4Addr, SocketAddr};

use kad_core::{Key, Keypair};
use kad_net::WireAddress as _;
use kad_net::memory::{Conditions, Network};
use kad_net::wire::Scope;
use kad_node::{Node, PutOptions};
use kad_store::{Limits, MemoryStore};

const KEY: Key = Key::from_limbs([1, 2, 3, 4]);

fn keypair(n: u8) -> Keypair {
    Keypair::from_secret(&[n; 32])
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, n), 4000))
}

async fn node(network: &Network, n: u8) -> Node<SocketAddr> {
    let transport = network.join(keypair(n).node_id(), address(n));
    let mut builder = Node::builder();
    if n > 1 {
        builder = builder.bootstrap(address(1));
    }
    let store = MemoryStore::new(Limits::default());
    let node = builder.spawn_with(keypair(n), transport, store).await.unwrap();
    if n > 1 {
        node.joined().await.unwrap();
    }
    node
}

async fn nodes(network: &Network) -> Vec<Node<SocketAddr>> {
    let mut nodes = Vec::new();
    for n in 1..=4 {
        nodes.push(node(network, n).await);
    }
    nodes
}

#[tokio::test]
async fn a_node_that_provides_says_where_it_can_be_reached_and_other_signers_do_not() {
    let network = Network::new(1, Conditions::default());
    let nodes = nodes(&network).await;
    let options = PutOptions::default().settle(true);
    // Long payloads leave no room for an address; those that look like one are told apart.
    let announced: [(u8, &[u8], bool); 5] = [
        (2, b"of node 2", true),
        (3, &[7; 1024], false),
        (4, b"kad-addr", true),
        (50, b"of somebody else", false),
        (51, b"kad-addr\x00looks like one", false),
    ];
    for (n, payload, _) in announced {
        let through = &nodes[usize::from(n.min(4)) - 1];
        through.provide(&keypair(n), KEY, payload, options).await.unwrap();
    }
    let mut found = nodes[0].providers(KEY, 10).await.unwrap();
    found.sort_by_key(|provider| {
        announced
            .iter()
            .position(|(n, ..)| keypair(*n).node_id() == provider.id)
    });
    assert_eq!(found.len(), announced.len());
    for (provider, (n, payload, has_address)) in found.iter().zip(announced) {
        assert_eq!(provider.payload[..], *payload, "of {n}");
        assert_eq!(provider.address, has_address.then(|| address(n)), "of {n}");
    }
    let contact = found[0].contact().expect("it says where it is");
    assert_eq!(nodes[0].ping(contact).await.unwrap().observed, address(1));
}

#[tokio::test]
async fn many_announcements_say_the_same_as_one_and_are_taken_back_alike() {
    let network = Network::new(4, Conditions::default());
    let nodes = nodes(&network).await;
    let options = PutOptions::default().settle(true);
    let keys: Vec<Key> = (1..9)
        .map(|number| Key::from_limbs([number << 60, 0, 0, 1]))
        .collect();
    let announced: [(u8, &[u8], bool); 3] = [
        (2, b"of node 2", true),
        (50, b"of somebody else", false),
        (51, b"kad-addr\x00looks like one", false),
    ];
    for (n, payload, has_address) in announced {
        let through = &nodes[1];
        let provider = keypair(n);
        let told = through.provide_many(&provider, keys.clone(), payload, options, |one| {
            assert!(one.outcome.is_ok(), "{one:?}");
        });
        assert_eq!(told.await.unwrap().keys, 8);
        // What one call signs for a further key is no different.
        through.provide(&provider, KEY, payload, options).await.unwrap();
        for key in keys.iter().copied().chain([KEY]) {
            let found = nodes[0].providers(key, 10).await.unwrap();
            let [found] = &found[..] else {
                panic!("one provides {key}, not {}", found.len())
            };
            assert_eq!(found.payload[..], *payload, "of {n}");
            assert_eq!(found.address, has_address.then(|| address(n)), "of {n}");
        }
        let told = through.stop_providing_many(&provider, keys.clone(), |one| {
            assert!(one.outcome.is_ok(), "{one:?}");
        });
        assert_eq!(told.await.unwrap().failed, 0);
        through.stop_providing(&provider, KEY).await.unwrap();
        for key in keys.iter().copied().chain([KEY]) {
            assert_eq!(nodes[0].providers(key, 10).await.unwrap(), []);
        }
    }
}

#[tokio::test]
async fn a_payload_that_is_too_long_is_refused_and_not_cut() {
    let network = Network::new(2, Conditions::default());
    let nodes = nodes(&network).await;
    let (own, options) = (keypair(2), PutOptions::default());
    let provided = nodes[1].provide(&own, KEY, &[7; 1025], options).await;
    let error = provided.unwrap_err().to_string();
    assert!(error.contains("larger than"), "{error}");
}

#[tokio::test]
async fn over_quic_a_node_announces_the_address_at_which_others_see_it() {
    let mut nodes: Vec<Node> = Vec::new();
    for _ in 0..3 {
        // On every interface, so that the node itself cannot know which address others reach.
        let mut builder = Node::builder().listen("0.0.0.0:0".parse().unwrap());
        if let Some(first) = nodes.first() {
            let port = first.local().address.sockets()[0].port();
            builder = builder.bootstrap(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        }
        let own = Keypair::from_secret(&[60 + nodes.len() as u8; 32]);
        let node = builder.keypair(own).scope(Scope::Any).spawn().await.unwrap();
        if !nodes.is_empty() {
            node.joined().await.unwrap();
        }
        nodes.push(node);
    }
    let own = Keypair::from_secret(&[61; 32]);
    let options = PutOptions::default().settle(true);
    nodes[1].provide(&own, KEY, b"here", options).await.unwrap();
    let found = nodes[2].providers(KEY, 1).await.unwrap();
    let contact = found[0].contact().expect("it says where it is");
    assert_eq!(contact.id, nodes[1].id());
    let port = nodes[1].local().address.sockets()[0].port();
    assert_eq!(
        contact.address.sockets(),
        [SocketAddr::from((Ipv4Addr::LOCALHOST, port))]
    );
    nodes[2].ping(contact).await.unwrap();
    assert_eq!(found[0].payload[..], *b"here");
}
