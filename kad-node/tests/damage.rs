//! A record that rots on a node's disk: it is noticed, served to nobody, and fetched again from the others.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use kad_core::{Config, Key, Keypair, Kind, Parameters};
use kad_net::memory::{Conditions, Network};
use kad_node::{Node, PutOptions};
use kad_store::{RedbConfig, RedbStore};

/// As many nodes, so that all of them hold everything.
const K: u16 = 4;

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

fn keypair(n: u8) -> Keypair {
    Keypair::from_secret(&[n; 32])
}

const fn address(n: u8) -> SocketAddr {
    SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, n)),
        4000,
    )
}

/// The nth node, with its disk.
async fn node(network: &Network, folder: &Path, n: u8) -> Node<SocketAddr> {
    let parameters = Parameters {
        k: K,
        ..Parameters::default()
    };
    let config = Config {
        repair: Duration::from_secs(1),
        first_repair: Duration::from_secs(1),
        ..Config::for_network(&parameters)
    };
    let transport = network.join(keypair(n).node_id(), address(n));
    let store = RedbStore::open(folder.join(n.to_string()), &RedbConfig::default()).unwrap();
    let mut builder = Node::builder().parameters(parameters).config(config);
    if n > 1 {
        builder = builder.bootstrap(address(1));
    }
    let node = builder.spawn_with(keypair(n), transport, store).await.unwrap();
    if n > 1 {
        node.joined().await.unwrap();
    }
    node
}

/// Whether a node says that it holds something, as another one sees it.
async fn holds(asker: &Node<SocketAddr>, node: &Node<SocketAddr>, key: Key) -> bool {
    let holders = asker.census(key, Kind::Immutable).await.unwrap();
    holders
        .iter()
        .filter_map(|holder| holder.contact.as_ref())
        .any(|contact| contact.id == node.id())
}

/// Flips a bit in each copy of a value in a file.
fn flip(file: &Path, value: &[u8]) {
    let mut bytes = std::fs::read(file).unwrap();
    let places: Vec<_> = (0..bytes.len() - value.len())
        .filter(|&at| bytes[at..].starts_with(value))
        .collect();
    assert!(!places.is_empty(), "the value lies in the file as it is");
    places.iter().for_each(|at| bytes[at + 5] ^= 1);
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_rots_on_disk_is_served_to_nobody_and_fetched_again() {
    let network = Network::new(1, Conditions::default());
    let disks = tempfile::tempdir().unwrap();
    let mut nodes = Vec::new();
    for n in 1..=3 {
        nodes.push(node(&network, disks.path(), n).await);
    }
    let last = node(&network, disks.path(), 4).await;
    let value = b"as it was written";
    let key = nodes[0]
        .put(value, PutOptions::default().settle(true))
        .await
        .unwrap()
        .key;
    let waiting = async { while !holds(&nodes[0], &last, key).await {} };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("all hold it");

    last.shutdown().await.unwrap();
    flip(&disks.path().join("4"), value);
    let last = node(&network, disks.path(), 4).await;
    // The first to ask finds the damage, and only then does the node know that it lacks the record.
    assert!(
        !holds(&nodes[0], &last, key).await,
        "what is damaged is served to nobody"
    );
    assert_eq!(last.get(key).await.unwrap().expect("others have it").bytes, value[..]);
    let waiting = async { while !holds(&nodes[0], &last, key).await {} };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("the next comparison fetches it again");
    let storage = last.stats().await.unwrap().storage;
    assert_eq!(
        (storage.discarded, storage.failures, storage.records),
        (1, 0, 1),
        "{storage:?}"
    );
}
