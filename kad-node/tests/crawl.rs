//! Crawls of networks in memory, where it is known who is there.

use std::net::SocketAddr;
use std::time::Duration;

use kad_core::{Keypair, Parameters, QueryError};
use kad_net::memory::{Conditions, Network};
use kad_node::{CrawlOptions, Node, NodeError};
use kad_store::{Limits, MemoryStore};

fn address(n: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, (n / 256) as u8, (n % 256) as u8], 4000))
}

/// The nth node of a network of small buckets, which joins through the first.
async fn node(network: &Network, n: u64) -> Node<SocketAddr> {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&n.to_be_bytes());
    let keypair = Keypair::from_secret(&secret);
    let transport = network.join(keypair.node_id(), address(n));
    let parameters = Parameters {
        k: 8,
        ..Parameters::default()
    };
    let mut builder = Node::builder().parameters(parameters);
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

async fn nodes(network: &Network, count: u64) -> Vec<Node<SocketAddr>> {
    let mut nodes = Vec::new();
    for n in 1..=count {
        nodes.push(node(network, n).await);
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crawl_finds_the_living_and_counts_the_dead() {
    let network = Network::new(1, Conditions::default());
    let nodes = nodes(&network, 40).await;
    let before = nodes[0].crawl(CrawlOptions::default()).await.unwrap();
    assert_eq!((before.size, before.heard, before.dead), (40, 39, 0));
    assert!(before.is_complete());
    assert_eq!((before.groups.private, before.latency.nodes()), (39, 39));

    // Those that are cut off stay in the tables of the others until these notice.
    for n in 31..=40 {
        assert!(network.disconnect(address(n)));
    }
    let after = nodes[0].crawl(CrawlOptions::default().parallel(4)).await.unwrap();
    assert_eq!((after.size, after.reachable), (30, 29), "{after:?}");
    assert!((1..=10).contains(&after.dead) && after.unknown == 0, "{after:?}");
    let dead: u64 = after.buckets.iter().map(|bucket| bucket.dead).sum();
    assert!(dead >= after.dead as u64, "{after:?}");
    assert!(after.buckets.iter().all(|bucket| bucket.dead <= bucket.known));
}

#[tokio::test]
async fn a_crawl_tells_how_far_away_nodes_are_and_not_what_it_costs_to_meet_them() {
    let delay = Duration::from_millis(20)..=Duration::from_millis(20);
    let network = Network::new(2, Conditions { delay, loss: 0.0 });
    let nodes = nodes(&network, 12).await;
    let crawler = node(&network, 13).await;
    let crawl = crawler.crawl(CrawlOptions::default()).await.unwrap();
    assert_eq!(crawl.reachable, nodes.len());
    let fastest = crawl.latency.quantile(0.0).unwrap();
    // With a handshake it would be 80 at least.
    let ms = Duration::from_millis;
    assert!((ms(40)..ms(80)).contains(&fastest), "{fastest:?}");
}

#[tokio::test]
async fn a_crawl_that_is_dropped_or_stopped_leaves_no_question_behind() {
    let delay = Duration::from_millis(5)..=Duration::from_millis(5);
    let network = Network::new(3, Conditions { delay, loss: 0.0 });
    let nodes = nodes(&network, 20).await;
    let crawler = &nodes[7];
    let settled = |crawl: &kad_node::Crawl| crawl.reachable + crawl.dead;

    // Stopped when the first has answered.
    let (answered, stop) = tokio::sync::oneshot::channel();
    let mut answered = Some(answered);
    let stopped = crawler.crawl_until(
        CrawlOptions::default().parallel(1),
        async { stop.await.unwrap() },
        |_| {
            if let Some(answered) = answered.take() {
                answered.send(()).unwrap();
            }
        },
    );
    let stopped = stopped.await.unwrap();
    assert!(stopped.stopped && !stopped.is_complete());
    assert!(
        (1..19).contains(&settled(&stopped)) && stopped.unknown > 0,
        "{stopped:?}"
    );

    let dropped = crawler.crawl(CrawlOptions::default());
    assert!(
        tokio::time::timeout(Duration::from_millis(7), dropped)
            .await
            .is_err()
    );
    // The cancellations are orders like this one, and before it. What may run are a refresh and the last of its join.
    let stats = crawler.stats().await.unwrap();
    assert!(stats.core.queries <= 2, "{stats:?}");
    assert_eq!(crawler.crawl(CrawlOptions::default()).await.unwrap().size, 20);
}

#[tokio::test]
async fn a_node_that_knows_nobody_has_nowhere_to_begin() {
    let network = Network::new(4, Conditions::default());
    let alone = node(&network, 1).await;
    let error = alone.crawl(CrawlOptions::default()).await.unwrap_err();
    assert!(
        matches!(error, NodeError::Query(QueryError::NoContacts)),
        "{error}"
    );
}
