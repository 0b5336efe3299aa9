//! What a node is to keep as its own is kept, or the caller is told that it is not.

use std::net::SocketAddr;

use kad_core::{Key, Keypair};
use kad_net::memory::{Conditions, Network};
use kad_node::{MutableOptions, Node, NodeError, PutOptions};
use kad_store::{Limits, MemoryStore};

const KEEP: fn() -> PutOptions = || PutOptions::default().keep(true);

async fn node(network: &Network, n: u8, limits: Limits) -> Node<SocketAddr> {
    let (keypair, address) = (
        Keypair::from_secret(&[n; 32]),
        SocketAddr::from(([8, 8, n, 1], 4000)),
    );
    let transport = network.join(keypair.node_id(), address);
    let mut builder = Node::builder();
    if n > 1 {
        builder = builder.bootstrap(SocketAddr::from(([8, 8, 1, 1], 4000)));
    }
    let node = builder.spawn_with(keypair, transport, MemoryStore::new(limits));
    let node = node.await.unwrap();
    if n > 1 {
        node.joined().await.unwrap();
    }
    node
}

/// A node that may have so many records of its own, and another that takes what it is given.
async fn pair(own: u64) -> (Node<SocketAddr>, Node<SocketAddr>) {
    let network = Network::new(1, Conditions::default());
    let other = node(&network, 1, Limits::default()).await;
    let limits = Limits {
        max_own_records: own,
        ..Limits::default()
    };
    (node(&network, 2, limits).await, other)
}

#[tokio::test]
async fn what_others_took_and_the_own_store_had_no_room_for_is_no_success() {
    let (node, other) = pair(1).await;
    let owner = Keypair::from_secret(&[9; 32]);
    let first = node.put("first", KEEP()).await.unwrap();
    node.put("first", KEEP()).await.unwrap();
    let full = |outcome: Result<Key, NodeError>| {
        assert!(matches!(outcome, Err(NodeError::NoRoom)), "{outcome:?}");
    };
    full(node.put("second", KEEP()).await.map(|stored| stored.key));
    let mut version = MutableOptions::default();
    version.put = KEEP();
    let written = node.put_mutable(&owner, b"a", "one", version).await;
    full(written.map(|stored| stored.key));
    let deleted = node.delete_mutable(&owner, b"b", MutableOptions::default()).await;
    full(deleted.map(|stored| stored.key));
    let withdrawn = node.stop_providing(&owner, first.key).await;
    full(withdrawn.map(|stored| stored.key));
    // The others have it all the same, and who asks for no copy of its own is told of a success.
    let second = node.put("second", PutOptions::default()).await.unwrap();
    assert_eq!(second.holders.len(), 1);
    assert_eq!(other.get(second.key).await.unwrap().unwrap().bytes, "second");
}

#[tokio::test]
async fn of_many_those_are_told_that_the_own_store_had_no_room_for() {
    let (node, _other) = pair(3).await;
    let (mut kept, mut full) = (0, 0);
    let values = (0..10).map(|number| format!("value {number}"));
    let told = node.put_many(values, KEEP(), |one| match one.outcome {
        Ok(_) => kept += 1,
        Err(NodeError::NoRoom) => full += 1,
        Err(error) => panic!("{error}"),
    });
    let report = told.await.unwrap();
    assert_eq!((kept, full, report.failed), (3, 7, 7));
    let keys = (0..5).map(|number| Key::from_limbs([number, 0, 0, 0]));
    let mut failed = 0;
    let owner = Keypair::from_secret(&[9; 32]);
    let told = node.stop_providing_many(&owner, keys, |one| {
        failed += u32::from(matches!(one.outcome, Err(NodeError::NoRoom)));
    });
    told.await.unwrap();
    assert_eq!(failed, 5, "withdrawals are kept, too");
}
