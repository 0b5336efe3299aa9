//! Stores that are broken in one way each: the checker has to find it out.

use futures::future::join_all;
use kad_core::{Kind, Verdict};
use kad_store::{Put, RecordStore as _};

use crate::check::{Promise, Violation, check};
use crate::network::World;
use crate::swayed::Swayed;

/// What a broken store keeps of the versions that it acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// The first.
    First,
    /// Whatever comes last, agreeing with every condition.
    Last,
    /// None.
    Nothing,
    /// All but deletions.
    Undeleted,
}

fn broken(kept: Kept) -> Swayed {
    Swayed::new(move |store, put| {
        if put.record.kind() != Kind::Mutable {
            return store.put(put);
        }
        match kept {
            Kept::First => {
                let first = Put {
                    expected: Some(0),
                    ..put
                };
                store.put(first)?;
                Ok(Verdict::Stored)
            }
            Kept::Last => {
                store.remove(&put.record.slot())?;
                store.put(Put {
                    expected: None,
                    ..put
                })
            }
            Kept::Nothing => Ok(Verdict::Stored),
            Kept::Undeleted if put.record.is_tombstone() => Ok(Verdict::Stored),
            Kept::Undeleted => store.put(put),
        }
    })
}

/// More races than it takes to meet a fault that depends on who comes first.
const MAX_ROUNDS: u64 = 100;

/// Writers who race with compare-and-swap and somebody who reads, on stores with a kept, until it shows.
async fn found_out(kept: Kept) -> Vec<Violation> {
    let world = World::new(41, 16, move || broken(kept)).await;
    let writers = [2, 8].map(|node| world.client(node));
    for round in 1..=MAX_ROUNDS {
        let racing = writers.iter().enumerate();
        join_all(
            racing.map(|(number, writer)| async move { writer.swap(round, &format!("of {number}")).await }),
        )
        .await;
        world.client(12).read().await.unwrap();
        let found = check(&world.history.operations(), Promise::Unchanged, u64::MAX);
        if !found.is_empty() {
            break;
        }
    }
    let rest = world.rest([5, 11, 14].into_iter()).await;
    check(&world.history.operations(), Promise::Unchanged, rest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_keeps_the_first_version_is_found_out() {
    let found = found_out(Kept::First).await;
    let stale = |violation: &Violation| matches!(violation, Violation::Stale { .. });
    assert!(found.iter().any(stale), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_keeps_the_last_to_come_is_found_out() {
    let found = found_out(Kept::Last).await;
    let two =
        |violation: &Violation| matches!(violation, Violation::TwoWinners(..) | Violation::Stale { .. });
    assert!(found.iter().any(two), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_keeps_nothing_is_found_out() {
    let found = found_out(Kept::Nothing).await;
    let lost = |violation: &Violation| matches!(violation, Violation::Lost(_));
    assert!(found.iter().any(lost), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_keeps_what_was_deleted_is_found_out() {
    let world = World::new(42, 16, || broken(Kept::Undeleted)).await;
    let writer = world.client(3);
    writer.write(1, "to be deleted").await;
    writer.delete(2).await;
    let rest = world.rest([5, 11, 14].into_iter()).await;
    let found = check(&world.history.operations(), Promise::Unchanged, rest);
    let lost = |violation: &Violation| matches!(violation, Violation::Lost(_));
    assert!(found.iter().any(lost), "{found:?}");
}
