//! Files in a network of real nodes on the loopback interface.
#![allow(clippy::print_stdout, reason = "figures are told with --nocapture")]

use std::collections::HashMap;

use kad_core::{Kind, Parameters};
use kad_net::WireAddress;
use kad_node::file::{Code, FetchOptions, FileOptions, GetFileError, PutFileError, Repair};
use kad_node::{Node, PutOptions};

/// Nodes of which `k` hold each record.
async fn network(size: usize, k: u16) -> Vec<Node> {
    let spawn = |builder: kad_node::Builder| async move {
        let parameters = Parameters {
            k,
            ..Parameters::default()
        };
        let builder = builder
            .parameters(parameters)
            .listen("127.0.0.1:0".parse().unwrap());
        builder.spawn().await.unwrap()
    };
    let first = spawn(Node::builder()).await;
    let door = first.local().address.sockets()[0];
    let mut nodes = vec![first];
    for _ in 1..size {
        let node = spawn(Node::builder().bootstrap(door)).await;
        node.joined().await.unwrap();
        nodes.push(node);
    }
    nodes
}

/// Bytes without a pattern, the same in every run.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(b"files")
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_one_node_stored_comes_back_through_another() {
    let nodes = network(8, 4).await;
    let bytes = noise(4_000_000);
    let options = FileOptions::default().quorum(3);
    let mut reported = 0;
    let began = std::time::Instant::now();
    let stored = nodes[1]
        .put_file(&bytes[..], options, |at| reported = at.bytes)
        .await
        .unwrap();
    let storing = began.elapsed();
    assert_eq!(reported, 4_000_000);
    assert_eq!((stored.bytes, stored.chunks, stored.indexes), (4_000_000, 66, 1));
    assert!(stored.copies_min >= 3 && stored.copies_mean >= 3.0, "{stored:?}");

    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("copy");
    let began = std::time::Instant::now();
    let fetched = nodes[6]
        .get_file_to(stored.key, &target, FetchOptions::default(), |_| ())
        .await
        .unwrap();
    eprintln!(
        "4 MB, 8 nodes: stored in {storing:?} ({} requests, {:.1} copies), fetched in {:?} ({} requests)",
        stored.rpcs,
        stored.copies_mean,
        began.elapsed(),
        fetched.rpcs
    );
    assert_eq!(
        (fetched.bytes, fetched.chunks, fetched.indexes),
        (4_000_000, 66, 1)
    );
    assert!(std::fs::read(&target).unwrap() == bytes);

    let holders = nodes[3].census(stored.key, Kind::Immutable).await.unwrap();
    let named: HashMap<_, _> = stored
        .holders_of_root
        .iter()
        .map(|contact| (contact.id, contact))
        .collect();
    let held = holders.iter().filter_map(|holder| holder.contact.as_ref());
    assert!(held.filter(|contact| named.contains_key(&contact.id)).count() >= 2);

    for node in &nodes {
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_values_are_files_and_what_is_not_there_is_not_found() {
    let nodes = network(3, 20).await;
    let value = nodes[0]
        .put(noise(64 * 1024), PutOptions::default())
        .await
        .unwrap();
    let mut sink = Vec::new();
    let options = FetchOptions::default();
    let fetched = nodes[2]
        .get_file(value.key, &mut sink, options, |_| ())
        .await
        .unwrap();
    assert_eq!((fetched.chunks, sink), (1, noise(64 * 1024)));

    let empty = nodes[1]
        .put_file(tokio::io::empty(), FileOptions::default(), |_| ())
        .await
        .unwrap();
    let fetched = nodes[0].get_file(empty.key, tokio::io::sink(), options, |_| ());
    assert_eq!(fetched.await.unwrap().bytes, 0);

    let nowhere = kad_core::Key::from_limbs([1, 2, 3, 4]);
    let error = nodes[0]
        .get_file(nowhere, tokio::io::sink(), options, |_| ())
        .await;
    assert!(matches!(error, Err(GetFileError::NotFound { key }) if key == nowhere));

    let demanding = FileOptions::default().quorum(4);
    let error = nodes[0].put_file(&b"four copies"[..], demanding, |_| ()).await;
    assert!(matches!(error, Err(PutFileError::Chunk { index: 0, .. })));
    for node in &nodes {
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_and_coded_file_is_read_and_repaired_by_whoever_has_its_reference() {
    let mut nodes = network(4, 20).await;
    let bytes = noise(2_000_000);
    let options = FileOptions::default()
        .encrypt(true)
        .code(Code::new(8, 3).unwrap());
    let options = options.put(PutOptions::default().settle(true));
    let stored = nodes[0].put_file(&bytes[..], options, |_| ()).await.unwrap();
    assert_eq!((stored.bytes, stored.chunks, stored.parity), (2_000_000, 33, 15));
    assert_eq!((stored.indexes, stored.copies_min), (1, 4));

    // The node that comes later holds nothing until somebody repairs.
    let door = nodes[0].local().address.sockets()[0];
    let late = Node::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .bootstrap(door);
    nodes.push(late.spawn().await.unwrap());
    nodes[4].joined().await.unwrap();
    let repair = Repair::default().put(PutOptions::default().settle(true));
    let options = FetchOptions::default().repair(repair);
    let mut copy = Vec::new();
    let fetched = nodes[1]
        .get_file(stored.reference(), &mut copy, options, |_| ())
        .await
        .unwrap();
    assert!(copy == bytes);
    let repaired = fetched.repair;
    assert_eq!((repaired.checked, repaired.stored, repaired.failed), (49, 49, 0));
    let again = nodes[4]
        .get_file(&stored.reference(), tokio::io::sink(), options, |_| ())
        .await
        .unwrap();
    assert_eq!(
        (again.repair.checked, again.repair.stored, again.restored),
        (49, 0, 0)
    );

    let error = nodes[1]
        .get_file(stored.key, tokio::io::sink(), options, |_| ())
        .await;
    assert!(matches!(error, Err(GetFileError::Sealed)));
    for node in &nodes {
        node.shutdown().await.unwrap();
    }
}
