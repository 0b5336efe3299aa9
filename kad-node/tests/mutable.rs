//! Mutable records as an application meets them: lives, deletions, liars, and watches.

#[path = "stores/swayed.rs"]
mod swayed;

use std::net::SocketAddr;
use std::time::Duration;

use kad_core::record::mutable_key;
use kad_core::{Keypair, Kind, Parameters, Verdict};
use kad_net::memory::{Conditions, Network};
use kad_node::{Change, MutableOptions, Node, NodeError, PutOptions, WatchOptions};
use kad_store::RecordStore as _;

use self::swayed::Swayed;

/// A store that may claim to hold a later version than anybody ever wrote.
fn store(lies: bool) -> Swayed {
    Swayed::new(
        move |store, put| match lies && put.record.kind() == Kind::Mutable {
            true => Ok(Verdict::Conflict { current: u64::MAX }),
            false => store.put(put),
        },
    )
}

/// So many nodes of which 8 hold each record, and of which the last so many lie.
async fn nodes(count: u8, liars: u8) -> Vec<Node<SocketAddr>> {
    let network = Network::new(1, Conditions::default());
    let mut nodes = Vec::new();
    for number in 0..count {
        let keypair = Keypair::from_secret(&[number + 1; 32]);
        let address = |number: u8| SocketAddr::from(([10, 0, 0, number], 4000));
        let transport = network.join(keypair.node_id(), address(number));
        let parameters = Parameters {
            k: 8,
            ..Parameters::default()
        };
        let mut builder = Node::builder().parameters(parameters);
        if number > 0 {
            builder = builder.bootstrap(address(0));
        }
        let store = store(number >= count - liars);
        let node = builder.spawn_with(keypair, transport, store).await.unwrap();
        if number > 0 {
            node.joined().await.unwrap();
        }
        nodes.push(node);
    }
    nodes
}

fn expecting(version: u64) -> MutableOptions {
    let mut options = MutableOptions::default();
    options.expected = Some(version);
    options
}

/// All that are asked are waited for.
fn settled() -> MutableOptions {
    let mut options = MutableOptions::default();
    options.put = PutOptions::default().settle(true);
    options
}

fn living(ttl: Duration) -> MutableOptions {
    let mut options = MutableOptions::default();
    options.put = PutOptions::default().ttl(ttl);
    options
}

fn written(change: Option<Result<Change, NodeError>>) -> (u64, Vec<u8>) {
    match change {
        Some(Ok(Change::Written(version))) => (version.seq, version.value.to_vec()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_holder_that_lies_stops_nobody_from_writing() {
    let nodes = nodes(9, 1).await;
    let owner = Keypair::from_secret(&[99; 32]);
    for version in 0..4 {
        let stored = nodes[2]
            .put_mutable(&owner, b"a", "a value", expecting(version))
            .await
            .unwrap();
        assert_eq!((stored.seq, stored.refused), (version + 1, 1), "{stored:?}");
    }
    let stored = nodes[3]
        .put_mutable(&owner, b"a", "another", settled())
        .await
        .unwrap();
    assert_eq!((stored.seq, stored.refused), (5, 1), "{stored:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_third_lies_a_comparison_fails_and_a_plain_write_does_not() {
    let nodes = nodes(9, 3).await;
    let owner = Keypair::from_secret(&[98; 32]);
    let told = nodes[2].put_mutable(&owner, b"a", "a value", expecting(0)).await;
    assert!(
        matches!(told, Err(NodeError::Conflict { current: u64::MAX })),
        "{told:?}"
    );
    let stored = nodes[2]
        .put_mutable(&owner, b"a", "a value", settled())
        .await
        .unwrap();
    assert_eq!(stored.refused, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_lives_at_least_as_long_as_the_one_that_it_replaces() {
    let nodes = nodes(9, 0).await;
    let owner = Keypair::from_secret(&[97; 32]);
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    let first = nodes[1]
        .put_mutable(&owner, b"a", "long", living(hours(48)))
        .await
        .unwrap();
    let second = nodes[2]
        .put_mutable(&owner, b"a", "short", living(hours(1)))
        .await
        .unwrap();
    assert_eq!(second.expires, first.expires);
    let third = nodes[3]
        .put_mutable(&owner, b"a", "longer", living(hours(96)))
        .await
        .unwrap();
    assert!(third.expires > second.expires);
    let deleted = nodes[4]
        .delete_mutable(&owner, b"a", MutableOptions::default())
        .await
        .unwrap();
    assert_eq!(nodes[5].get_mutable(&owner.public(), b"a").await.unwrap(), None);
    let anew = nodes[6]
        .put_mutable(&owner, b"a", "anew", living(hours(1)))
        .await
        .unwrap();
    assert_eq!(anew.seq, 5, "a deletion is a version");
    assert!(
        anew.expires >= deleted.expires,
        "or what was deleted would come back after it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_node_of_a_network_writes_and_reads_versions_alone() {
    let nodes = nodes(1, 0).await;
    let owner = Keypair::from_secret(&[94; 32]);
    for version in 0..3 {
        let stored = nodes[0]
            .put_mutable(&owner, b"a", "a value", expecting(version))
            .await
            .unwrap();
        assert_eq!((stored.seq, stored.copies()), (version + 1, 1));
    }
    let conflict = nodes[0].put_mutable(&owner, b"a", "late", expecting(1)).await;
    assert!(
        matches!(conflict, Err(NodeError::Conflict { current: 3 })),
        "{conflict:?}"
    );
    assert_eq!(
        nodes[0]
            .get_mutable(&owner.public(), b"a")
            .await
            .unwrap()
            .unwrap()
            .seq,
        3
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_is_denied_is_not_read_from_memory_either() {
    let nodes = nodes(9, 0).await;
    let owner = Keypair::from_secret(&[93; 32]);
    let key = mutable_key(&owner.public(), b"a");
    nodes[1]
        .put_mutable(&owner, b"a", "a value", MutableOptions::default())
        .await
        .unwrap();
    let mut watch = nodes[2].watch(key, WatchOptions::default());
    assert_eq!(written(watch.next().await).0, 1);
    let list = format!("publisher {}", owner.public()).parse().unwrap();
    nodes[2].deny(list).await.unwrap();
    let denied = nodes[2].get_mutable(&owner.public(), b"a").await;
    assert!(matches!(denied, Err(NodeError::Denied(_))), "{denied:?}");
    let mut watch = nodes[2].watch(key, WatchOptions::default());
    let nothing = tokio::time::timeout(Duration::from_millis(500), watch.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_what_is_there_and_then_each_change_in_order() {
    let nodes = nodes(9, 0).await;
    let owner = Keypair::from_secret(&[96; 32]);
    let key = mutable_key(&owner.public(), b"a");
    let often = WatchOptions::default().every(Duration::from_millis(100), Duration::from_millis(200));
    let mut watch = nodes[7].watch(key, often);
    let put = |value: &'static str| nodes[1].put_mutable(&owner, b"a", value, MutableOptions::default());
    put("one").await.unwrap();
    assert_eq!(written(watch.next().await), (1, b"one".to_vec()));
    put("two").await.unwrap();
    assert_eq!(written(watch.next().await), (2, b"two".to_vec()));
    nodes[2]
        .delete_mutable(&owner, b"a", MutableOptions::default())
        .await
        .unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap(), Change::Deleted { seq: 3 });
    put("four").await.unwrap();
    assert_eq!(written(watch.next().await), (4, b"four".to_vec()));

    let mut late = nodes[5].watch(key, often.after(4));
    let mut slow = nodes[6].watch(key, often);
    put("five").await.unwrap();
    put("six").await.unwrap();
    let (seq, _) = written(late.next().await);
    assert!(seq > 4, "what it said it had is not told");
    assert_eq!(
        written(slow.next().await),
        (6, b"six".to_vec()),
        "the newest, not all in between"
    );

    nodes[7].shutdown().await.unwrap();
    assert!(watch.next().await.is_none(), "there is nobody to ask any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_brings_nothing_new_asks_ever_more_seldom() {
    let nodes = nodes(9, 0).await;
    let owner = Keypair::from_secret(&[95; 32]);
    nodes[1]
        .put_mutable(&owner, b"a", "one", MutableOptions::default())
        .await
        .unwrap();
    let key = mutable_key(&owner.public(), b"a");
    let often = WatchOptions::default().every(Duration::from_millis(100), Duration::from_secs(100));
    let mut watch = nodes[7].watch(key, often);
    assert_eq!(written(watch.next().await).0, 1);
    let before = nodes[7].stats().await.unwrap().core.requests_sent;
    let nothing = tokio::time::timeout(Duration::from_secs(5), watch.next()).await;
    assert!(nothing.is_err());
    // After 0.1, 0.3, 0.7, 1.5 and 3.1 seconds, and a read asks at most 8 holders and two more on the way.
    let asked = nodes[7].stats().await.unwrap().core.requests_sent - before;
    assert!((10..=70).contains(&asked), "{asked} requests");
}
