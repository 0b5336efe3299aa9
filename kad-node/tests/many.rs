//! Many keys in one call, in a network of real nodes on the loopback interface.

use std::collections::BTreeMap;

use kad_core::{Key, Keypair};
use kad_net::WireAddress as _;
use kad_node::{Node, NodeError, PutOptions};

async fn network(size: usize) -> Vec<Node> {
    let at = || Node::builder().listen("127.0.0.1:0".parse().unwrap());
    let first = at().spawn().await.unwrap();
    let door = first.local().address.sockets()[0];
    let mut nodes = vec![first];
    for _ in 1..size {
        let node = at().bootstrap(door).spawn().await.unwrap();
        node.joined().await.unwrap();
        nodes.push(node);
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_values_are_stored_and_read_and_one_that_is_too_large_stops_none() {
    let nodes = network(5).await;
    let mut values: Vec<Vec<u8>> = (0..700_u32).map(|n| n.to_be_bytes().repeat(5)).collect();
    values[300] = vec![0; 70_000];
    values[301] = values[299].clone();
    let mut keys = BTreeMap::new();
    let mut refused = Vec::new();
    let report = nodes[1]
        .put_many(&values, PutOptions::default().quorum(5), |one| {
            match one.outcome {
                Ok(stored) => {
                    assert_eq!((stored.copies(), stored.key), (5, one.key));
                    assert!(keys.insert(one.position, one.key).is_none());
                }
                Err(error) => refused.push((one.position, error)),
            }
        })
        .await
        .unwrap();
    assert_eq!((report.keys, report.failed), (700, 1));
    assert!(
        matches!(refused[..], [(300, NodeError::Record(_))]),
        "{refused:?}"
    );
    assert!(report.requests < 700, "{report:?}: four holders each, one by one");

    let order: Vec<(u64, Key)> = keys.into_iter().collect();
    let missing = Key::default();
    let wanted = order.iter().map(|(_, key)| *key).chain([missing]);
    let mut found = 0;
    let report = nodes[4]
        .get_many(wanted, |one| match one.outcome.unwrap() {
            Some(value) => {
                let (position, key) = order[usize::try_from(one.position).unwrap()];
                assert_eq!(key, one.key);
                assert_eq!(value.bytes, values[usize::try_from(position).unwrap()]);
                found += 1;
            }
            None => assert_eq!((one.key, one.position), (missing, 699)),
        })
        .await
        .unwrap();
    assert_eq!((report.keys, report.failed, found), (700, 0, 699));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_announcements_are_made_and_withdrawn_and_a_quorum_that_cannot_be_is_told_of_each() {
    let nodes = network(3).await;
    let provider = Keypair::from_secret(&[7; 32]);
    let keys: Vec<Key> = (0..200_u64)
        .map(|n| Key::from_limbs([n << 56, 0, 0, n]))
        .collect();
    let providers = async |key| nodes[2].providers(key, 10).await.unwrap();

    let options = PutOptions::default().quorum(3);
    let provided = nodes[0].provide_many(&provider, keys.iter().copied(), b"here", options, |one| {
        assert_eq!(one.outcome.unwrap().copies(), 3);
    });
    assert_eq!(provided.await.unwrap().failed, 0);
    let found = providers(keys[77]).await;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].public_key, &found[0].payload[..]),
        (provider.public(), &b"here"[..])
    );

    let withdrawn = nodes[1].stop_providing_many(&provider, keys.iter().copied(), |one| {
        assert!(one.outcome.is_ok());
    });
    assert_eq!(withdrawn.await.unwrap().keys, 200);
    assert!(providers(keys[77]).await.is_empty());

    let mut failures = 0;
    let options = PutOptions::default().quorum(4);
    let values = (0..10_u8).map(|n| [n; 3]);
    let report = nodes[0]
        .put_many(values, options, |one| {
            let error = one.outcome.unwrap_err();
            assert!(
                matches!(
                    error,
                    NodeError::QuorumNotMet {
                        acknowledged: 3,
                        wanted: 4
                    }
                ),
                "{error}"
            );
            failures += 1;
        })
        .await
        .unwrap();
    assert_eq!((report.failed, failures), (10, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_stops_many_and_who_knows_nobody_keeps_what_it_stores() {
    let lone = network(1).await.remove(0);
    let report = lone.put_many(["a", "b"], PutOptions::default(), |one| {
        assert!(one.outcome.unwrap().local);
    });
    assert_eq!(report.await.unwrap().failed, 0);
    let none: [&str; 0] = [];
    assert_eq!(
        lone.put_many(none, PutOptions::default(), |_| ())
            .await
            .unwrap()
            .keys,
        0
    );
    lone.shutdown().await.unwrap();
    let stopped = lone.put_many(["a"], PutOptions::default(), |_| ()).await;
    assert!(matches!(stopped, Err(NodeError::Stopped)), "{stopped:?}");
}
