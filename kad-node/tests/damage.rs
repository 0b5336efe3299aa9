//! A record that rots on a node's disk: it is noticed, served to nobody, and fetched again from the others.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kad_core::{
    Config, Fingerprint, Key, Keypair, Kind, NodeId, Parameters, Prefix, Slot, UnixTime, Verdict,
};
use kad_net::memory::{Conditions, Network};
use kad_node::{Node, PutOptions};
use kad_store::{
    Limits, MemoryReader, MemoryStore, Page, Put, RecordReader, RecordStore, RedbConfig, RedbStore, Scan,
    StoreError, StoredRecord, Tally, Usage,
};

/// As many nodes, so that all of them hold everything.
const K: u16 = 4;

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often nodes compare what they hold: while a test waits for it, and never during a test.
const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(3600);

fn keypair(n: u8) -> Keypair {
    Keypair::from_secret(&[n; 32])
}

const fn address(n: u8) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, n)), 4000)
}

/// The nth node, with a store.
async fn node<S: RecordStore>(network: &Network, n: u8, store: S, repair: Duration) -> Node<SocketAddr>
where
    S::Reader: Sync,
{
    let parameters = Parameters {
        k: K,
        ..Parameters::default()
    };
    let mut config = Config::for_network(&parameters);
    config.repair = repair;
    config.first_repair = repair;
    let transport = network.join(keypair(n).node_id(), address(n));
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

/// Three nodes whose stores are in order.
async fn healthy(network: &Network) -> Vec<Node<SocketAddr>> {
    let mut nodes = Vec::new();
    for n in 1..=3 {
        nodes.push(node(network, n, MemoryStore::new(Limits::default()), OFTEN).await);
    }
    nodes
}

/// Puts a value and waits until a node holds it.
async fn put(nodes: &[Node<SocketAddr>], last: &Node<SocketAddr>, value: &[u8]) -> Key {
    let options = PutOptions::default().settle(true);
    let key = nodes[0].put(value, options).await.unwrap().key;
    until_held(&nodes[0], last, key).await;
    key
}

/// Asks until a node says that it holds something.
async fn until_held(asker: &Node<SocketAddr>, node: &Node<SocketAddr>, key: Key) {
    let waiting = async { while !holds(asker, node, key).await {} };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it never holds it");
}

/// Asks until a node has forgotten so many damaged records.
async fn until_discarded(node: &Node<SocketAddr>, records: u64) {
    let waiting = async { while node.stats().await.unwrap().storage.discarded < records {} };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it never discards it");
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
    let nodes = healthy(&network).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.redb");
    let open = || RedbStore::open(&file, &RedbConfig::default()).unwrap();
    let last = node(&network, 4, open(), SELDOM).await;
    let value = b"as it was written";
    let key = put(&nodes, &last, value).await;
    last.shutdown().await.unwrap();
    flip(&file, value);

    let last = node(&network, 4, open(), SELDOM).await;
    // Nobody has asked for it yet: it is found when the node starts.
    until_discarded(&last, 1).await;
    assert!(!holds(&nodes[0], &last, key).await, "it is served to nobody");
    let storage = last.stats().await.unwrap().storage;
    assert_eq!((storage.records, storage.failures), (0, 0), "{storage:?}");
    last.shutdown().await.unwrap();

    let last = node(&network, 4, open(), OFTEN).await;
    until_held(&nodes[0], &last, key).await;
    last.shutdown().await.unwrap();
    let bytes = std::fs::read(&file).unwrap();
    assert!(
        bytes.windows(value.len()).any(|window| window == value),
        "it lies in the file as it was"
    );
}

/// A store in which a record can rot while it is open.
struct Rotting {
    store: MemoryStore,
    rotten: Rotten,
}

/// What has rotted.
type Rotten = Arc<Mutex<BTreeSet<Slot>>>;

#[derive(Clone)]
struct RottingReader {
    reader: MemoryReader,
    rotten: Rotten,
}

impl RecordStore for Rotting {
    type Reader = RottingReader;

    fn put(&mut self, put: Put<'_>) -> Result<Verdict, StoreError> {
        self.store.put(put)
    }

    fn remove(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        self.store.remove(slot)
    }

    fn discard(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        match self.rotten.lock().unwrap().remove(slot) {
            true => self.store.remove(slot),
            false => Ok(false),
        }
    }

    fn expire(&mut self, now: UnixTime, limit: usize) -> Result<usize, StoreError> {
        self.store.expire(now, limit)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.store.flush()
    }

    fn reader(&self) -> RottingReader {
        RottingReader {
            reader: self.store.reader(),
            rotten: self.rotten.clone(),
        }
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }

    fn tally(&self) -> Tally {
        self.store.tally()
    }
}

impl RecordReader for RottingReader {
    fn get(&self, slot: &Slot) -> Result<Option<StoredRecord>, StoreError> {
        match self.rotten.lock().unwrap().contains(slot) {
            true => Err(StoreError::Corrupt {
                what: "it has rotted".to_owned(),
            }),
            false => self.reader.get(slot),
        }
    }

    fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        let mut page = self.reader.scan(scan)?;
        let rotten = self.rotten.lock().unwrap();
        let (damaged, whole) = page
            .records
            .into_iter()
            .partition(|record| rotten.contains(&record.slot));
        page.records = whole;
        let damaged: Vec<StoredRecord> = damaged;
        page.damaged = damaged.into_iter().map(|record| record.slot).collect();
        Ok(page)
    }

    fn fingerprint(&self, prefix: Prefix) -> Result<Fingerprint, StoreError> {
        self.reader.fingerprint(prefix)
    }

    fn marks(&self, prefix: Prefix, limit: usize) -> Result<Vec<(u64, u128)>, StoreError> {
        self.reader.marks(prefix, limit)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_rots_while_the_node_runs_is_forgotten_when_somebody_asks() {
    let network = Network::new(2, Conditions::default());
    let nodes = healthy(&network).await;
    let rotten = Rotten::default();
    let store = Rotting {
        store: MemoryStore::new(Limits::default()),
        rotten: rotten.clone(),
    };
    let last = node(&network, 4, store, OFTEN).await;
    let key = put(&nodes, &last, b"as it was put").await;
    rotten.lock().unwrap().insert(Slot {
        key,
        kind: Kind::Immutable,
        provider: NodeId::default(),
    });
    assert!(!holds(&nodes[0], &last, key).await, "it is served to nobody");
    until_discarded(&last, 1).await;
    until_held(&nodes[0], &last, key).await;
}
