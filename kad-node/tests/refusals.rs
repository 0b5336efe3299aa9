//! What a node refuses, as the applications on both sides see it.

use std::net::SocketAddr;
use std::time::Duration;

use kad_core::{Key, Keypair, Kind, Parameters, Record};
use kad_net::memory::{Conditions, Network};
use kad_node::{Builder, DenyList, MutableOptions, Node, NodeError, PutOptions, Refusal, Validator};
use kad_store::{Limits, MemoryStore};

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nobody says "bad", and "final" stays.
struct Strict;

impl Validator for Strict {
    fn admit(&self, record: &Record) -> Result<(), Refusal> {
        match &record.value()[..] {
            b"bad" => Err(Refusal::new("it is a bad word")),
            _ => Ok(()),
        }
    }

    fn choose(&self, held: &Record, _: &Record) -> bool {
        held.value() != "final"
    }
}

/// The nth node of a network, which joins through the first.
async fn node(network: &Network, n: u8, builder: Builder) -> Node<SocketAddr> {
    let keypair = Keypair::from_secret(&[n; 32]);
    let address = |n| SocketAddr::from(([10, 0, 0, n], 4000));
    let transport = network.join(keypair.node_id(), address(n));
    let builder = match n {
        1 => builder,
        _ => builder.bootstrap(address(1)),
    };
    let store = MemoryStore::new(Limits::default());
    let node = builder.spawn_with(keypair, transport, store).await.unwrap();
    if n > 1 {
        node.joined().await.unwrap();
    }
    node
}

/// Nodes that compare what they hold ten times a second.
fn quickly() -> Builder {
    let mut config = kad_core::Config::for_network(&Parameters::default());
    (config.first_repair, config.repair) = (Duration::from_millis(100), Duration::from_millis(100));
    Node::builder().config(config)
}

/// Waits until something holds, and looks as often as the node answers.
async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let waiting = async { while !holds().await {} };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

#[tokio::test]
async fn a_node_neither_stores_nor_reads_nor_publishes_what_its_application_refuses() {
    let network = Network::new(1, Conditions::default());
    let strict = node(&network, 1, Node::builder().validator(Strict)).await;
    let client = node(&network, 2, Node::builder().read_only(true)).await;
    let put = client.put("bad", PutOptions::default()).await;
    assert!(
        matches!(put, Err(NodeError::QuorumNotMet { acknowledged: 0, .. })),
        "{put:?}"
    );
    client.put("good", PutOptions::default()).await.unwrap();
    assert_eq!(strict.stats().await.unwrap().core.refused.denied, 1);

    // Its own: nobody is asked, and it is told why.
    let sent = strict.stats().await.unwrap().core.requests_sent;
    let put = strict.put("bad", PutOptions::default()).await.unwrap_err();
    assert_eq!(put.to_string(), "this node does not want it: it is a bad word");
    assert_eq!(strict.stats().await.unwrap().core.requests_sent, sent);

    // What others hold it does not read, and who is not so strict does.
    let lax = node(&network, 3, Node::builder()).await;
    let bad = lax.put("bad", PutOptions::default()).await.unwrap().key;
    assert_eq!(strict.get(bad).await.unwrap(), None);
    assert_eq!(client.get(bad).await.unwrap().unwrap().bytes, "bad");
    for node in [strict, client, lax] {
        node.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_version_that_the_application_does_not_choose_leaves_the_one_before_in_its_place() {
    let network = Network::new(2, Conditions::default());
    let strict = node(&network, 1, Node::builder().validator(Strict)).await;
    let client = node(&network, 2, Node::builder().read_only(true)).await;
    let owner = client.keypair();
    let options = MutableOptions::default();
    for value in ["draft", "final"] {
        client.put_mutable(owner, b"", value, options).await.unwrap();
    }
    let newer = client.put_mutable(owner, b"", "more", options).await;
    assert!(
        matches!(newer, Err(NodeError::QuorumNotMet { acknowledged: 0, .. })),
        "{newer:?}"
    );
    let read = client.get_mutable(&owner.public(), b"").await.unwrap().unwrap();
    assert_eq!((read.seq, &read.value[..]), (2, &b"final"[..]));
    strict.shutdown().await.unwrap();
}

#[tokio::test]
async fn repair_leaves_out_what_is_refused_and_asks_for_it_once() {
    let network = Network::new(3, Conditions::default());
    let lax = node(&network, 1, quickly()).await;
    let mut keys: Vec<Key> = Vec::new();
    for value in ["bad", "listed", "good"] {
        keys.push(lax.put(value, PutOptions::default()).await.unwrap().key);
    }
    let mut list = DenyList::default();
    list.deny_key(keys[1]);
    list.deny_publisher(lax.id());
    let strict = node(&network, 2, quickly().validator(Strict).deny(list)).await;
    let rounds = async |more| {
        let begun = strict.stats().await.unwrap().core.repairs;
        until(async || strict.stats().await.unwrap().core.repairs > begun + more).await;
    };
    until(async || strict.stats().await.unwrap().core.records_drawn > 0).await;
    rounds(2).await;
    let stats = strict.stats().await.unwrap();
    assert_eq!((stats.storage.records, stats.core.records_drawn), (1, 1));
    // From now on a round costs the question for what differs, and no FETCH.
    let sent = stats.core.requests_sent;
    rounds(10).await;
    let stats = (strict.stats().await.unwrap().core, stats.core);
    let (rounds, requests) = (stats.0.repairs - stats.1.repairs, stats.0.requests_sent - sent);
    assert!(
        requests <= 3 * rounds / 2 + 2,
        "{requests} requests in {rounds} rounds"
    );
    assert!(lax.census(keys[0], Kind::Immutable).await.unwrap().len() == 1);
    let denied = strict.get(keys[1]).await;
    assert!(matches!(denied, Err(NodeError::Denied(_))), "{denied:?}");
    let denied = strict.get_mutable(&lax.keypair().public(), b"").await;
    assert!(matches!(denied, Err(NodeError::Denied(_))), "{denied:?}");
    // Another list lets it in.
    assert_eq!(strict.deny(DenyList::default()).await.unwrap(), 0);
    until(async || strict.stats().await.unwrap().storage.records == 2).await;
    strict.shutdown().await.unwrap();
}

#[tokio::test]
async fn repair_fetches_once_what_the_application_does_not_choose() {
    let network = Network::new(5, Conditions::default());
    let lax = node(&network, 1, Node::builder()).await;
    let strict = node(&network, 2, quickly().validator(Strict)).await;
    let owner = lax.keypair();
    for value in ["final", "more"] {
        lax.put_mutable(owner, b"", value, MutableOptions::default())
            .await
            .unwrap();
    }
    let rounds = async |more| {
        let begun = strict.stats().await.unwrap().core.repairs;
        until(async || strict.stats().await.unwrap().core.repairs > begun + more).await;
        strict.stats().await.unwrap()
    };
    let before = rounds(3).await;
    let after = rounds(10).await;
    assert_eq!((after.storage.records, after.core.records_drawn), (1, 0));
    let (rounds, requests) = (
        after.core.repairs - before.core.repairs,
        after.core.requests_sent - before.core.requests_sent,
    );
    // The question for what differs, and no FETCH.
    assert!(
        requests <= 3 * rounds / 2 + 2,
        "{requests} requests in {rounds} rounds"
    );
    strict.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_writer_who_is_too_fast_for_its_holders_is_told_so() {
    let mut config = kad_core::Config::for_network(&Parameters::default());
    config.rewrite_every = Duration::from_secs(3600);
    let network = Network::new(4, Conditions::default());
    let mut holders = Vec::new();
    for n in 1..=3 {
        holders.push(node(&network, n, Node::builder().config(config.clone())).await);
    }
    let client = node(&network, 4, Node::builder().read_only(true)).await;
    let version = |seq| {
        let mut options = MutableOptions::default();
        options.put = options.put.settle(true);
        options.seq = Some(seq);
        options
    };
    let write = async |seq: u64| {
        client
            .put_mutable(client.keypair(), b"", seq.to_string(), version(seq))
            .await
    };
    for seq in 1..=16 {
        assert_eq!(write(seq).await.unwrap().copies(), 3, "version {seq}");
    }
    let hasty = write(17).await.unwrap_err();
    assert!(
        matches!(
            hasty,
            NodeError::TooOften {
                acknowledged: 0,
                refused: 3
            }
        ),
        "{hasty:?}"
    );
    assert!(hasty.to_string().contains("write it again"));
    let read = client
        .get_mutable(&client.keypair().public(), b"")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read.seq, 16);
    for holder in &holders {
        assert_eq!(holder.stats().await.unwrap().core.refused.too_often, 1);
    }
    // Of what a node writes itself only others complain.
    let own = &holders[0];
    for seq in 1..=16 {
        own.put_mutable(own.keypair(), b"", "x", version(seq))
            .await
            .unwrap();
    }
    let hasty = own.put_mutable(own.keypair(), b"", "x", version(17)).await;
    assert!(
        matches!(
            hasty,
            Err(NodeError::TooOften {
                acknowledged: 1,
                refused: 2
            })
        ),
        "{hasty:?}"
    );
}
