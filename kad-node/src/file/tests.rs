//! What storing and fetching do with every length, and with every fault of the network.

mod coded;
mod sealed;
mod survival;
mod tended;
mod vectors;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use kad_core::Key;
use kad_core::record::{Content, immutable_key};
use proptest::prelude::*;
use tokio::io::{AsyncRead, ReadBuf};

use super::faulty::Map;
use super::tree::shape::tests::room;
use super::{
    ATTEMPTS, FetchOptions, FetchedFile, FileOptions, GetFileError, Plan, Progress, PutFileError, StoredFile,
    get, put,
};

/// Bytes of a chunk: small, but an index of two keys is larger, as nothing should depend on that.
const CHUNK: u64 = 8;

/// Three children a node, so that 82 chunks have more than four levels.
fn plan(parallel: usize) -> Plan {
    Plan {
        room: room(CHUNK, 3),
        parallel,
        first_pause: Duration::ZERO,
    }
}

/// Bytes without repetition, so that no two chunks are the same.
fn contents(length: u64) -> Vec<u8> {
    (0..length.div_ceil(CHUNK))
        .flat_map(u64::to_be_bytes)
        .take(length as usize)
        .collect()
}

/// Gives at most three bytes at once, as pipes may.
struct Dribble<'a>(&'a [u8]);

impl AsyncRead for Dribble<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self.0.split_at(self.0.len().min(buffer.remaining()).min(3));
        buffer.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

async fn store(map: &Map, bytes: &[u8]) -> Result<StoredFile<u32>, PutFileError> {
    put::store(map, plan(4), FileOptions::default(), None, Dribble(bytes), |_| ()).await
}

async fn fetch(map: &Map, key: Key) -> (Result<FetchedFile, GetFileError>, Vec<u8>) {
    let mut sink = Vec::new();
    let fetched = get::fetch(
        map,
        plan(4),
        FetchOptions::default(),
        &key.into(),
        &mut sink,
        |_| (),
    )
    .await;
    (fetched, sink)
}

fn chunk_key(bytes: &[u8], index: usize) -> Key {
    immutable_key(Content::Plain, bytes.chunks(CHUNK as usize).nth(index).unwrap())
}

#[tokio::test]
async fn files_around_every_edge_of_the_tree_come_back() {
    for (length, chunks, indexes) in [
        (0, 1, 0),
        (1, 1, 0),
        (CHUNK, 1, 0),
        (CHUNK + 1, 2, 1),
        (3 * CHUNK, 3, 1),
        (3 * CHUNK + 1, 4, 3),
        (9 * CHUNK, 9, 4),
        (9 * CHUNK + 1, 10, 7),
        (81 * CHUNK, 81, 40),
    ] {
        let (map, bytes) = (Map::default(), contents(length));
        let stored = store(&map, &bytes).await.unwrap();
        assert_eq!(
            (stored.bytes, stored.chunks, stored.indexes),
            (length, chunks, indexes)
        );
        assert_eq!(
            (map.holds(Content::Plain), map.holds(Content::FileIndex)),
            (chunks as usize, indexes as usize)
        );
        assert_eq!((stored.copies_min, stored.copies_mean), (1, 1.0));
        assert_eq!(stored.rpcs, 2 * (chunks + indexes));
        let (fetched, sink) = fetch(&map, stored.key).await;
        assert!(sink == bytes, "{length}");
        let fetched = fetched.unwrap();
        assert_eq!(
            (fetched.bytes, fetched.chunks, fetched.indexes, fetched.rpcs),
            (length, chunks, indexes, chunks + indexes)
        );
    }
    let error = store(&Map::default(), &contents(81 * CHUNK + 1))
        .await
        .unwrap_err();
    assert!(matches!(error, PutFileError::TooLarge), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_stored_is_fetched_with_no_more_in_flight_than_planned(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        parallel in 1_usize..9,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let map = Map::default();
            let options = FileOptions::default();
            let mut seen = Vec::new();
            let stored =
                put::store(&map, plan(parallel), options, None, Dribble(&bytes), |at| seen.push(at)).await.unwrap();
            prop_assert!(map.most_in_flight() <= parallel);
            let last_put = map.books.lock().unwrap().put_in_order.last().copied();
            prop_assert_eq!(last_put, Some(stored.key));
            prop_assert!(seen.is_sorted_by_key(|at| (at.bytes, at.chunks, at.rpcs)));
            prop_assert_eq!(seen.last().unwrap().bytes, bytes.len() as u64);

            map.books.lock().unwrap().most_in_flight = 0;
            let (mut sink, mut seen) = (Vec::new(), Vec::new());
            get::fetch(&map, plan(parallel), FetchOptions::default(), &stored.key.into(), &mut sink, |at| seen.push(at)).await.unwrap();
            prop_assert!(map.most_in_flight() <= parallel);
            prop_assert!(sink == bytes);
            let total = Some(bytes.len() as u64);
            let last: &Progress = seen.last().unwrap();
            prop_assert_eq!((last.bytes, last.chunks), (bytes.len() as u64, stored.chunks));
            prop_assert!(seen.iter().all(|at| at.total == total));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn work_is_done_in_parallel() {
    let map = Map::default();
    let key = store(&map, &contents(40 * CHUNK)).await.unwrap().key;
    assert_eq!(map.most_in_flight(), 4);
    map.books.lock().unwrap().most_in_flight = 0;
    fetch(&map, key).await.0.unwrap();
    assert_eq!(map.most_in_flight(), 4);
}

#[tokio::test]
async fn a_missing_chunk_names_itself_and_what_comes_before_it_is_written() {
    let (map, bytes) = (Map::default(), contents(50 * CHUNK));
    let key = store(&map, &bytes).await.unwrap().key;
    let missing = chunk_key(&bytes, 33);
    map.values.lock().unwrap().remove(&missing);
    let (fetched, sink) = fetch(&map, key).await;
    let error = fetched.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the file is incomplete: nobody has chunk 33 (at byte 264, key {missing})")
    );
    assert!(bytes[..33 * CHUNK as usize].starts_with(&sink));
}

#[tokio::test]
async fn a_chunk_that_the_second_lookup_finds_is_good_enough() {
    let (map, bytes) = (Map::default(), contents(50 * CHUNK));
    let key = store(&map, &bytes).await.unwrap().key;
    map.hidden
        .lock()
        .unwrap()
        .insert(chunk_key(&bytes, 5), ATTEMPTS - 1);
    let (fetched, sink) = fetch(&map, key).await;
    fetched.unwrap();
    assert!(sink == bytes);
}

#[tokio::test]
async fn a_key_that_nobody_has_is_not_found_after_one_lookup() {
    let map = Map::default();
    let error = fetch(&map, Key::default()).await.0.unwrap_err();
    assert!(matches!(error, GetFileError::NotFound { .. }), "{error}");
    assert_eq!(map.books.lock().unwrap().gets, 1);
}

#[tokio::test]
async fn a_chunk_is_tried_again_and_given_up_by_name() {
    let bytes = contents(20 * CHUNK);
    let map = Map::default();
    map.refused
        .lock()
        .unwrap()
        .insert(chunk_key(&bytes, 7), ATTEMPTS - 1);
    store(&map, &bytes).await.unwrap();

    let map = Map::default();
    let key = chunk_key(&bytes, 7);
    map.refused.lock().unwrap().insert(key, ATTEMPTS);
    let error = store(&map, &bytes).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "chunk 7 (at byte 56, key {key}) could not be stored: only 1 of the 1 nodes that were needed \
             acknowledged"
        )
    );
    assert_eq!(map.refused.lock().unwrap()[&key], 0, "no attempt more");
}

#[tokio::test]
async fn a_root_is_not_stored_when_a_chunk_was_not() {
    let bytes = contents(20 * CHUNK);
    let root = store(&Map::default(), &bytes).await.unwrap().key;
    let map = Map::default();
    map.refused
        .lock()
        .unwrap()
        .insert(chunk_key(&bytes, 19), ATTEMPTS);
    store(&map, &bytes).await.unwrap_err();
    assert!(!map.values.lock().unwrap().contains_key(&root));
}

#[tokio::test]
async fn a_tree_that_was_made_wrong_is_refused_by_name() {
    let bytes = contents(20 * CHUNK);
    let chunk = chunk_key(&bytes, 4);
    let spoilt = async |key: Option<Key>, content: Content, to: &[u8]| {
        let map = Map::default();
        let root = store(&map, &bytes).await.unwrap().key;
        map.replace(key.unwrap_or(root), content, to.to_vec());
        fetch(&map, root).await.0.unwrap_err().to_string()
    };
    let error = spoilt(Some(chunk), Content::Plain, b"short").await;
    assert!(error.contains("should be 8 bytes, but is 5 bytes"), "{error}");
    let error = spoilt(Some(chunk), Content::FileIndex, b"12345678").await;
    assert!(
        error.contains("chunk 4 (at byte 32") && error.ends_with("is an index"),
        "{error}"
    );
    let error = spoilt(None, Content::FileIndex, b"12345678").await;
    assert!(
        error.ends_with("8 bytes are not the length of an index"),
        "{error}"
    );

    // The first index below the root of 20 chunks of 8 bytes has level 2 and the first nine of them.
    let map = Map::default();
    let root = store(&map, &bytes).await.unwrap().key;
    let first = {
        let values = map.values.lock().unwrap();
        let key: [u8; 32] = values[&root].1[10..42].try_into().unwrap();
        Key::from_bytes(key)
    };
    let error = spoilt(Some(first), Content::Plain, b"data").await;
    assert!(
        error.ends_with("should be an index of level 2, but is data"),
        "{error}"
    );
    map.values.lock().unwrap().remove(&first);
    let error = fetch(&map, root).await.0.unwrap_err();
    assert!(
        matches!(
            error,
            GetFileError::MissingIndex {
                level: 2,
                offset: 0,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_larger_than_wanted_is_refused_by_what_its_root_says() {
    let map = Map::default();
    for length in [CHUNK, 20 * CHUNK] {
        let key = store(&map, &contents(length)).await.unwrap().key;
        map.books.lock().unwrap().gets = 0;
        let mut sink = Vec::new();
        let error = get::fetch(
            &map,
            plan(4),
            FetchOptions::default().max_bytes(length - 1),
            &key.into(),
            &mut sink,
            |_| (),
        )
        .await;
        let error = error.unwrap_err();
        assert!(matches!(error, GetFileError::TooLarge { bytes, .. } if bytes == length));
        assert!(sink.is_empty());
        assert_eq!(map.books.lock().unwrap().gets, 1);
    }
}

#[tokio::test]
async fn an_unreadable_source_and_an_unwritable_sink_are_told_as_what_they_are() {
    let broken = broken_reader();
    let error = put::store(
        &Map::default(),
        plan(4),
        FileOptions::default(),
        None,
        broken,
        |_| (),
    )
    .await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "the file cannot be read: pulled out"
    );

    let map = Map::default();
    let key = store(&map, &contents(20 * CHUNK)).await.unwrap().key;
    let (reader, writer) = tokio::io::duplex(16);
    drop(reader);
    let error = get::fetch(
        &map,
        plan(4),
        FetchOptions::default(),
        &key.into(),
        writer,
        |_| (),
    )
    .await;
    assert!(matches!(error, Err(GetFileError::Write(_))));
}

/// Gives a chunk and a half, then fails.
fn broken_reader() -> impl AsyncRead + Unpin + Send {
    struct Broken;
    impl AsyncRead for Broken {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::other("pulled out")))
        }
    }
    tokio::io::AsyncReadExt::chain(&[1_u8; 12][..], Broken)
}

#[tokio::test]
async fn nothing_is_left_on_disk_of_a_file_that_fails_or_is_abandoned() {
    let (mut map, bytes) = (Map::default(), contents(50 * CHUNK));
    let file = store(&map, &bytes).await.unwrap().key.into();
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("copy");
    let count = || std::fs::read_dir(directory.path()).unwrap().count();
    let last = chunk_key(&bytes, 49);

    map.hidden.lock().unwrap().insert(last, ATTEMPTS);
    let failed = get::fetch_to(&map, plan(4), FetchOptions::default(), &file, &target, |_| ()).await;
    assert!(matches!(
        failed,
        Err(GetFileError::MissingChunk { index: 49, .. })
    ));
    assert_eq!(count(), 0);

    map.stuck.insert(last);
    let (written, mut was_written) = tokio::sync::mpsc::channel(64);
    {
        let report = move |at: Progress| written.try_send(at.chunks).unwrap();
        let fetching = get::fetch_to(&map, plan(4), FetchOptions::default(), &file, &target, report);
        tokio::pin!(fetching);
        loop {
            tokio::select! {
                fetched = &mut fetching => panic!("the last chunk is stuck: {fetched:?}"),
                Some(chunks) = was_written.recv() => if chunks == 49 { break },
            }
        }
        assert_eq!(count(), 1, "the partial file");
        assert!(!target.exists());
    }
    assert_eq!(count(), 0);
    assert_eq!(
        map.books.lock().unwrap().in_flight,
        0,
        "what was in flight is dropped"
    );

    map.stuck.clear();
    let fetched = get::fetch_to(&map, plan(4), FetchOptions::default(), &file, &target, |_| ()).await;
    assert_eq!(fetched.unwrap().bytes, 50 * CHUNK);
    assert!(std::fs::read(&target).unwrap() == bytes);
    assert_eq!(count(), 1);
}
