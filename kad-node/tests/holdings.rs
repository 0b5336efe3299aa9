//! What a node keeps is told the same by the node and by its disk, and can be forgotten.

use std::time::Duration;

use kad_core::{Key, Keypair, Parameters, UnixTime};
use kad_node::file::{Code, FileOptions};
use kad_node::holdings::{HoldingKind, Holdings, HoldingsError};
use kad_node::{DEFAULT_NETWORK, MutableOptions, Node, PutOptions};

fn now() -> UnixTime {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    UnixTime::from_secs(since.as_secs())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_holding_is_told_by_the_node_and_by_its_disk_and_forgotten_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Holdings::open(dir.path(), DEFAULT_NETWORK, &Parameters::default());
    assert!(matches!(open(), Err(HoldingsError::NoRecords { .. })));
    let node = Node::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .data(dir.path());
    let node = node.spawn().await.unwrap();
    let (keep, owner) = (PutOptions::default().keep(true), Keypair::from_secret(&[3; 32]));
    let bytes: Vec<u8> = (0..400_000_u32)
        .map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8)
        .collect();
    let options = FileOptions::default().put(keep).code(Code::new(4, 2).unwrap());
    let file = node.put_file(&bytes[..], options, |_| ()).await.unwrap();
    let value = node.put("a value", keep).await.unwrap().key;
    let other = node.put("of others", PutOptions::default()).await.unwrap().key;
    let brief = node
        .put("brief", keep.ttl(Duration::from_secs(1)))
        .await
        .unwrap()
        .key;
    let mut version = MutableOptions::default();
    version.put = keep;
    // Nobody can be asked which is the newest.
    version.seq = Some(1);
    let mutable = node.put_mutable(&owner, b"a", "one", version).await.unwrap().key;
    node.put_mutable(&owner, b"b", "one", version).await.unwrap();
    version.seq = Some(2);
    let deleted = node.delete_mutable(&owner, b"b", version).await.unwrap().key;
    node.provide(&owner, value, b"here", keep).await.unwrap();
    let wanted = Key::from_limbs([7; 4]);

    let listing = node.holdings(vec![file.key, wanted]).await.unwrap();
    assert!(matches!(open(), Err(HoldingsError::Running { .. })));
    node.shutdown().await.unwrap();
    let mut holdings = open().unwrap();
    let later = now() + Duration::from_secs(2);
    let mut on_disk = holdings.list(later).unwrap();
    assert_eq!((on_disk.more, on_disk.damaged), (0, 0));
    // What had ended by then, and what only the caller knew of.
    let is_left = |key: &Key| *key != brief && *key != wanted;
    let left: Vec<_> = listing
        .holdings
        .iter()
        .filter(|holding| is_left(&holding.key))
        .cloned()
        .collect();
    on_disk.holdings.retain(|holding| holding.key != brief);
    assert_eq!(on_disk.holdings, left);

    let kind = |key: Key| {
        let found = listing.holdings.iter().find(|holding| holding.key == key);
        found.map(|holding| holding.kind)
    };
    let coded = on_disk.holdings[0].clone();
    assert_eq!((coded.key, coded.bytes, coded.missing), (file.key, 400_000, 0));
    assert_eq!(coded.records, file.chunks + file.parity + file.indexes);
    assert!(coded.sample.len() as u64 == coded.records && coded.sample[0] == file.key);
    let code = Code::new(4, 2).ok();
    assert_eq!(
        coded.kind,
        HoldingKind::File {
            is_sealed: false,
            code
        }
    );
    assert_eq!((kind(wanted), kind(other)), (Some(HoldingKind::Wanted), None));
    assert_eq!(
        kind(mutable),
        Some(HoldingKind::Mutable {
            seq: 1,
            is_deleted: false
        })
    );
    assert_eq!(
        kind(deleted),
        Some(HoldingKind::Mutable {
            seq: 2,
            is_deleted: true
        })
    );
    let announced = on_disk.holdings.last().unwrap();
    let provider = owner.node_id();
    assert_eq!(announced.key, value);
    assert_eq!(
        announced.kind,
        HoldingKind::Provider {
            provider,
            is_withdrawn: false
        }
    );

    let forgotten = holdings.forget(file.key, later).unwrap().unwrap();
    assert_eq!((forgotten.records, forgotten.shared), (coded.records, 0));
    assert_eq!(holdings.forget(mutable, later).unwrap().unwrap().records, 1);
    assert_eq!(holdings.forget(value, later).unwrap().unwrap().records, 1);
    for key in [file.key, other, wanted] {
        assert_eq!(
            holdings.forget(key, later).unwrap(),
            None,
            "it is not the node's own"
        );
    }
    let left: Vec<_> = holdings
        .list(later)
        .unwrap()
        .holdings
        .into_iter()
        .map(|left| left.key)
        .collect();
    assert_eq!(
        left,
        [deleted, value],
        "the deletion, and the announcement of the value"
    );
}
