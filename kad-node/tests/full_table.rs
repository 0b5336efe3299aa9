//! A node with a full table among ordinary ones.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use kad_core::{Key, Keypair, NodeId, Parameters};
use kad_net::memory::{Conditions, Network};
use kad_node::{Builder, FullTable, Node, SpawnError, TableMode};
use kad_store::{Limits, MemoryStore};

/// Contacts of an ordinary bucket, few enough that an ordinary node does not know everybody.
const K: u16 = 4;

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

fn address(n: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, (n / 256) as u8, (n % 256) as u8], 4000))
}

fn builder() -> Builder {
    let parameters = Parameters {
        k: K,
        ..Parameters::default()
    };
    Node::builder().parameters(parameters)
}

/// The nth node of a network, which joins through the first.
async fn node(network: &Network, n: u64, table: TableMode) -> Node<SocketAddr> {
    let mut secret = [9; 32];
    secret[..8].copy_from_slice(&n.to_be_bytes());
    let keypair = Keypair::from_secret(&secret);
    let transport = network.join(keypair.node_id(), address(n));
    let mut builder = builder().table(table);
    if n > 1 {
        builder = builder.bootstrap(address(1));
    }
    let store = MemoryStore::new(Limits::default());
    let node = builder.spawn_with(keypair, transport, store).await.unwrap();
    if n > 1 {
        node.joined().await.unwrap();
    }
    node
}

async fn known(node: &Node<SocketAddr>) -> BTreeSet<NodeId> {
    let contacts = node.contacts().await.unwrap();
    contacts.into_iter().map(|(_, contact)| contact.id).collect()
}

/// Waits until a node knows exactly these.
async fn until_it_knows(node: &Node<SocketAddr>, wanted: &BTreeSet<NodeId>) {
    let mut events = node.events();
    let waiting = async {
        while known(node).await != *wanted {
            // Each change is told; one that was missed is in the table all the same.
            let _ = events.recv().await;
        }
    };
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        let known = known(node).await;
        panic!(
            "it knows {} of {}",
            known.intersection(wanted).count(),
            wanted.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_table_is_filled_by_walks_and_loses_the_dead_by_walks() {
    let network = Network::new(1, Conditions::default());
    let mut others = Vec::new();
    for n in 1..=40 {
        others.push(node(&network, n, TableMode::Kademlia).await);
    }
    let quick = FullTable::default().contacts(100).walk(Duration::from_secs(1));
    let full = node(&network, 41, TableMode::Full(quick)).await;
    let everybody: BTreeSet<NodeId> = others.iter().map(Node::id).collect();
    until_it_knows(&full, &everybody).await;
    assert!(
        known(&others[7]).await.len() < 35,
        "the others are no test of anything"
    );

    // Whoever knows everybody asks the k nearest and nobody else.
    let k = usize::from(K);
    for n in 0..20u64 {
        let target = Key::from_limbs([n << 59, n, n, n]);
        let closest = full.closest(target).await.unwrap();
        let mut nearest: Vec<NodeId> = everybody.iter().copied().collect();
        nearest.sort_by_key(|id| id.distance(target));
        let found: Vec<NodeId> = closest.contacts.iter().map(|contact| contact.id).collect();
        assert_eq!(found, nearest[..k], "{closest:?}");
        // On a machine that is busy a late answer is hedged.
        assert!(closest.effort.requests <= 2 * u32::from(K), "{closest:?}");
    }

    for n in 28..=40 {
        assert!(network.disconnect(address(n)));
    }
    let living: BTreeSet<NodeId> = others[..27].iter().map(Node::id).collect();
    let closest = full.closest(Key::default()).await.unwrap();
    assert!(!closest.contacts.is_empty());
    assert!(
        closest
            .contacts
            .iter()
            .all(|contact| living.contains(&contact.id))
    );
    until_it_knows(&full, &living).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_of_a_network_gets_to_know_everybody_as_well() {
    let network = Network::new(3, Conditions::default());
    let quick = FullTable::default().walk(Duration::from_secs(1));
    let first = node(&network, 1, TableMode::Full(quick)).await;
    let mut others = Vec::new();
    for n in 2..=25 {
        others.push(node(&network, n, TableMode::Kademlia).await);
    }
    until_it_knows(&first, &others.iter().map(Node::id).collect()).await;
}

#[tokio::test]
async fn a_node_that_walks_stops_when_its_last_handle_is_gone() {
    let network = Network::new(2, Conditions::default());
    let first = node(&network, 1, TableMode::Kademlia).await;
    let full = node(&network, 2, TableMode::full()).await;
    let mut events = full.events();
    drop(full);
    // The driver holds the other end of this; the walker must not hold the driver.
    let ended = async { while events.recv().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("the node goes on");
    first.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_table_that_cannot_be_is_told_with_its_bounds() {
    let full = FullTable::default();
    for (table, says) in [
        (full.contacts(0), "1 to 49152"),
        (full.contacts(50_000), "1 to 49152"),
        (full.walk(Duration::ZERO), "every second"),
    ] {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let spawned = builder().listen(loopback).table(TableMode::Full(table)).spawn();
        let error = spawned.await.expect_err("no such table");
        assert!(
            matches!(error, SpawnError::Table(_)) && error.to_string().contains(says),
            "{error}"
        );
    }
}
