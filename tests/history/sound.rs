//! What holds with stores that work.

use std::time::Duration;

use futures::future::{join, join_all};
use kad_store::{Limits, MemoryStore};

use crate::check::{Promise, Told, Version, check, tally};
use crate::network::{World, address};

const NODES: usize = 24;

fn store() -> MemoryStore {
    MemoryStore::new(Limits::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_one_writer_meet_what_was_acknowledged_and_never_go_back() {
    for seed in 1..=3 {
        let world = World::new(seed, NODES, store).await;
        let writer = world.client(1);
        let writing = async {
            for seq in 1..=20 {
                let told = match seq % 4 {
                    0 if seq < 20 => writer.delete(seq).await,
                    _ => writer.write(seq, &format!("version {seq}")).await,
                };
                assert_eq!(told, Told::Acknowledged);
            }
        };
        let readers = [3, 9, 14, 20].map(|node| world.client(node));
        let reading = join_all(readers.iter().map(|reader| async {
            while reader.read().await.unwrap().is_none_or(|found| found.seq < 20) {}
        }));
        join(writing, reading).await;
        let rest = world.rest([2, 7, 23].into_iter()).await;
        let history = world.history.operations();
        assert_eq!(
            check(&history, Promise::Unchanged, rest),
            [],
            "seed {seed}: {:?}",
            tally(&history)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_compare_and_swap_at_once_one_at_most_wins_each_time() {
    for seed in 11..=13 {
        let world = World::new(seed, NODES, store).await;
        let writers = [2, 8, 15, 21].map(|node| world.client(node));
        join_all(writers.iter().enumerate().map(|(number, writer)| async move {
            for round in 0..8 {
                let found = writer.read().await.unwrap();
                let seq = found.map_or(1, |found| found.seq + 1);
                writer.swap(seq, &format!("{number} in round {round}")).await;
            }
        }))
        .await;
        let rest = world.rest([2, 8, 15, 21, 5, 11].into_iter()).await;
        let history = world.history.operations();
        assert_eq!(
            check(&history, Promise::Unchanged, rest),
            [],
            "seed {seed}: {:?}",
            tally(&history)
        );
        let tally = tally(&history);
        assert!(
            tally.contains_key("acknowledged") && tally.contains_key("conflict"),
            "nobody raced: {tally:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_who_race_on_both_sides_of_a_partition_end_in_one_value_everywhere() {
    let world = World::new(21, NODES, store).await;
    let (left, right) = (world.client(1), world.client(NODES - 1));
    assert_eq!(left.write(1, "before").await, Told::Acknowledged);
    world.network.part((NODES / 2..NODES).map(address));
    join(
        async {
            left.write(2, "left").await;
            // Alone with few holders a read may fail, which tells nothing.
            let _ = left.read().await;
        },
        async {
            right.write(2, "right").await;
            right.write(3, "right again").await;
            let _ = right.read().await;
        },
    )
    .await;
    world.network.heal();
    // Each side hears of the other again by whatever it does next.
    for node in &world.nodes {
        let _ = node.closest(node.id().to_key()).await;
    }
    let rest = world.rest(0..NODES).await;
    let history = world.history.operations();
    assert_eq!(
        check(&history, Promise::Always, rest),
        [],
        "{:?}",
        tally(&history)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nodes_come_and_go_no_reader_goes_back_and_the_end_is_the_same_for_all() {
    for seed in 31..=32 {
        let mut world = World::new(seed, NODES, store).await;
        let (writer, readers) = (world.client(1), [3, 4].map(|node| world.client(node)));
        for seq in 1..=12 {
            match seq % 5 {
                0 => writer.delete(seq).await,
                _ => writer.write(seq, &format!("version {seq}")).await,
            };
            join_all(readers.iter().map(|reader| reader.read())).await;
            // The client nodes stay, one of the others ends without a word, and a new one comes.
            world.network.disconnect(address(4 + seq as usize));
            world.add(seed, store()).await;
        }
        let rest = world.rest([1, 3, 4].into_iter()).await;
        let history = world.history.operations();
        assert_eq!(
            check(&history, Promise::Always, rest),
            [],
            "seed {seed}: {:?}",
            tally(&history)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_moves_to_where_only_an_older_version_is_known_does_not_go_back_and_brings_the_newer() {
    let world = World::new(51, NODES, store).await;
    let (here, there) = (0..NODES / 2, NODES / 2..NODES);
    // The reader is no holder, and has nothing but its memory.
    let moving = here.clone().max_by_key(|&node| world.distance(node)).unwrap();
    let (writer, reader, far) = (world.client(1), world.client(moving), world.client(NODES - 1));
    assert_eq!(writer.write(1, "known to all").await, Told::Acknowledged);
    world.network.part(there.clone().map(address));
    writer.write(2, "known here").await;
    let seq = |found: Option<Version>| found.map(|found| found.seq);
    assert_eq!(seq(reader.read().await.unwrap()), Some(2));
    assert_eq!(seq(far.read().await.unwrap()), Some(1));
    // The reader changes sides.
    world.network.part(there.chain([moving]).map(address));
    world.meet(moving, NODES - 1).await;
    assert_eq!(seq(reader.read().await.unwrap()), Some(2));
    // The reader brings it, without waiting for that itself.
    let brought = async { while seq(far.read().await.unwrap()) < Some(2) {} };
    let brought = tokio::time::timeout(Duration::from_secs(30), brought).await;
    assert!(brought.is_ok(), "the reader did not bring it");
    let history = world.history.operations();
    assert_eq!(check(&history, Promise::Always, u64::MAX), []);
}
