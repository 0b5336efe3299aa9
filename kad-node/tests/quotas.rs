//! What a node's store takes from others, and what it tells of it.

use std::net::SocketAddr;
use std::time::Duration;

use kad_core::{Config, Key, Keypair, Parameters, Source};
use kad_net::memory::{Conditions, Network};
use kad_node::{Node, PutOptions};
use kad_store::{Limits, MemoryReader, MemoryStore, RecordReader as _, RecordStore as _, Scan, StoredRecord};

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

fn keypair(n: u8) -> Keypair {
    Keypair::from_secret(&[n; 32])
}

/// Addresses of sites of their own, as on the internet.
fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([8, 8, n, 1], 4000))
}

/// The nth node, and what its store holds.
async fn node(
    network: &Network,
    n: u8,
    limits: Limits,
    repair: Duration,
) -> (Node<SocketAddr>, MemoryReader) {
    let mut config = Config::for_network(&Parameters::default());
    config.repair = repair;
    config.first_repair = repair;
    let transport = network.join(keypair(n).node_id(), address(n));
    let mut builder = Node::builder().config(config);
    if n > 1 {
        builder = builder.bootstrap(address(1));
    }
    let store = MemoryStore::new(limits);
    let reader = store.reader();
    let node = builder.spawn_with(keypair(n), transport, store).await.unwrap();
    if n > 1 {
        node.joined().await.unwrap();
    }
    (node, reader)
}

fn held(reader: &MemoryReader) -> Vec<StoredRecord> {
    reader.scan(&Scan::all(1000)).unwrap().records
}

const SELDOM: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_full_store_keeps_what_is_nearest_and_tells_what_it_gave_up_and_refused() {
    let network = Network::new(1, Conditions::default());
    let (first, _) = node(&network, 1, Limits::default(), SELDOM).await;
    let id = keypair(2).node_id();
    let small = Limits {
        max_records: 5,
        around: Some(id),
        ..Limits::default()
    };
    let (second, reader) = node(&network, 2, small, SELDOM).await;
    let mut keys: Vec<Key> = Vec::new();
    for n in 0..20 {
        let options = PutOptions::default().settle(true);
        let stored = first.put(format!("value {n}"), options).await.unwrap();
        keys.push(stored.key);
    }
    keys.sort_by_key(|key| id.distance(*key));
    let mut nearest = keys[..5].to_vec();
    nearest.sort_unstable();
    let records = held(&reader);
    assert_eq!(
        records.iter().map(|record| record.slot.key).collect::<Vec<_>>(),
        nearest
    );
    let sender = Source::of(first.local());
    assert!(
        records
            .iter()
            .all(|record| record.source == sender && !record.own)
    );
    let storage = second.stats().await.unwrap().storage;
    assert_eq!(storage.records, 5);
    assert_eq!(storage.evicted + storage.full_store, 15, "{storage:?}");
    assert!(storage.evicted > 0 && storage.full_store > 0, "{storage:?}");

    // What a node keeps of its own has room all the same, and no sender.
    let kept = second
        .put("its own", PutOptions::default().keep(true))
        .await
        .unwrap();
    let own: Vec<_> = held(&reader).into_iter().filter(|record| record.own).collect();
    assert_eq!(own.len(), 1);
    assert_eq!((own[0].slot.key, own[0].source), (kept.key, Source::UNKNOWN));
    assert_eq!(second.stats().await.unwrap().storage.records, 6);
}

#[tokio::test]
async fn a_site_that_has_its_share_is_refused_and_others_are_not() {
    let network = Network::new(2, Conditions::default());
    let (first, _) = node(&network, 1, Limits::default(), SELDOM).await;
    let limits = Limits {
        max_records_per_source: 3,
        ..Limits::default()
    };
    let (second, reader) = node(&network, 2, limits, SELDOM).await;
    let (third, _) = node(&network, 3, Limits::default(), SELDOM).await;
    let options = PutOptions::default().settle(true);
    for n in 0..8 {
        first.put(format!("of one {n}"), options).await.unwrap();
    }
    third.put("of another", options).await.unwrap();
    let sent_by = |node: &Node<SocketAddr>| {
        let source = Source::of(node.local());
        held(&reader)
            .iter()
            .filter(|record| record.source == source)
            .count()
    };
    assert_eq!((sent_by(&first), sent_by(&third)), (3, 1));
    let storage = second.stats().await.unwrap().storage;
    assert_eq!(storage.full_source, 5, "{storage:?}");
}

#[tokio::test]
async fn what_a_node_fetches_counts_for_the_neighbour_that_gave_it() {
    let network = Network::new(3, Conditions::default());
    let (first, _) = node(&network, 1, Limits::default(), SELDOM).await;
    let (second, _) = node(&network, 2, Limits::default(), SELDOM).await;
    for n in 0..5 {
        let options = PutOptions::default().settle(true);
        first.put(format!("value {n}"), options).await.unwrap();
    }
    let (third, reader) = node(&network, 3, Limits::default(), Duration::from_secs(1)).await;
    // Each look is a question to the driver, so this goes as fast as it answers.
    let waiting = async { while third.stats().await.unwrap().storage.records < 5 {} };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it never fetches them");
    let neighbours = [first, second].map(|node| Source::of(node.local()));
    assert!(
        held(&reader)
            .iter()
            .all(|record| neighbours.contains(&record.source))
    );
}
