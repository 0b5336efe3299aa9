//! An acknowledgement means durable: what a node said it has, it has after `kill -9`.

use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use kad_core::Key;
use kad_node::{Node, PutOptions};

use crate::process::{DEADLINE, Daemon};

/// Values of the put that is cut short.
const VALUES: usize = 2000;
/// Puts under way at once, so that flushes are shared and one is surely under way when the end comes.
const CONCURRENT: usize = 32;
/// Acknowledgements of the victim after which it is killed.
const KILLED_AFTER: usize = 300;

fn value(n: usize) -> Vec<u8> {
    let mut value = vec![n as u8; 512];
    value[..8].copy_from_slice(&n.to_be_bytes());
    value
}

async fn client(bootstrap: &str) -> Node {
    let builder = Node::builder()
        .read_only(true)
        .bootstrap(bootstrap.parse::<kad_node::Peer>().unwrap());
    let node = builder.spawn().await.unwrap();
    tokio::time::timeout(DEADLINE, node.joined())
        .await
        .unwrap()
        .unwrap();
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut peers = Daemon::network(2);
    let mut victim = Daemon::with_data(dir.path(), Some(&peers[0]));
    victim.logs("joined the network");
    peers[0].knows(&victim.id);

    // The journal: every key that the victim, by name, has acknowledged.
    let mut journal: Vec<(usize, Key)> = Vec::new();
    let node = client(&peers[0].address).await;
    let options = PutOptions::default().ttl(Duration::from_secs(3600));
    let mut puts = stream::iter(0..VALUES)
        .map(|n| {
            let node = &node;
            async move { (n, node.put(value(n), options).await) }
        })
        .buffer_unordered(CONCURRENT);
    let mut killed = false;
    let mut after = 0;
    while let Some((n, stored)) = puts.next().await {
        let stored = stored.unwrap();
        if stored
            .holders
            .iter()
            .any(|holder| holder.id.to_string() == victim.id)
        {
            journal.push((n, stored.key));
        }
        if !killed && journal.len() >= KILLED_AFTER {
            victim.kill();
            killed = true;
        }
        after += usize::from(killed);
        // Those that were under way when it was killed may still bring its last acknowledgements.
        if after > 2 * CONCURRENT {
            break;
        }
    }
    drop(puts);
    assert!(killed && journal.len() >= KILLED_AFTER, "it was killed too late");
    assert!(journal.len() < VALUES);
    node.shutdown().await.unwrap();
    for peer in &mut peers {
        peer.kill();
    }

    // Its peers are down, so what comes back comes from its disk.
    let victim = Daemon::with_data(dir.path(), None);
    let node = client(&victim.address).await;
    for (n, key) in &journal {
        let found = tokio::time::timeout(DEADLINE, node.get(*key))
            .await
            .unwrap()
            .unwrap();
        let found = found.unwrap_or_else(|| panic!("value {n} was acknowledged and is lost"));
        assert_eq!(found.bytes, value(*n));
    }
    node.shutdown().await.unwrap();
}
