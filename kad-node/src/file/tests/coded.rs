//! Coded files: what parity makes up for, and what a repair stores again.

use std::collections::HashSet;

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::super::seal::tests::secret;
use super::super::{Code, Reference, Repair};
use super::*;

/// Stripes of ten chunks and six parity chunks, two to an index, so that trees have levels.
fn plan(parallel: usize) -> Plan {
    Plan {
        room: room(CHUNK, 33),
        parallel,
        first_pause: Duration::ZERO,
    }
}

fn code() -> Code {
    Code::new(10, 6).unwrap()
}

/// Bytes of which no two chunks are the same and none is all zeros: chunks that are equal share a record, which no code
/// can help.
fn contents(length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

async fn store(map: &Map, bytes: &[u8]) -> StoredFile<u32> {
    let options = FileOptions::default().code(code());
    let stored = put::store(map, plan(4), options, None, Dribble(bytes), |_| ()).await;
    stored.unwrap()
}

async fn fetch(
    map: &Map,
    file: &Reference,
    options: FetchOptions,
) -> (Result<FetchedFile, GetFileError>, Vec<u8>) {
    let mut sink = Vec::new();
    let fetched = get::fetch(map, plan(4), options, file, &mut sink, |_| ()).await;
    (fetched, sink)
}

/// The keys of a file with a single index, in their order: ten chunks, six parity chunks, and so on.
fn keys(map: &Map, root: Key) -> Vec<Key> {
    let values = map.values.lock().unwrap();
    let (_, keys) = values[&root].1.split_at(13);
    keys.chunks(32)
        .map(|key| Key::from_bytes(key.try_into().unwrap()))
        .collect()
}

#[tokio::test]
async fn coded_files_around_every_edge_come_back() {
    for (length, chunks, parity, indexes) in [
        (0, 1, 0, 0),
        (1, 1, 0, 0),
        (CHUNK, 1, 0, 0),
        (CHUNK + 1, 2, 6, 1),
        (10 * CHUNK, 10, 6, 1),
        (10 * CHUNK + 1, 11, 12, 1),
        (20 * CHUNK, 20, 12, 1),
        (20 * CHUNK + 1, 21, 18, 3),
        (57 * CHUNK, 57, 36, 4),
    ] {
        let (map, bytes) = (Map::default(), contents(length));
        let stored = store(&map, &bytes).await;
        assert_eq!(
            (stored.bytes, stored.chunks, stored.parity, stored.indexes),
            (length, chunks, parity, indexes),
            "{length}"
        );
        assert_eq!(
            map.holds(Content::Plain) as u64,
            chunks + parity,
            "all keys differ"
        );
        let (fetched, sink) = fetch(&map, &stored.key.into(), FetchOptions::default()).await;
        assert!(sink == bytes, "{length}");
        let fetched = fetched.unwrap();
        assert_eq!(
            (fetched.chunks, fetched.indexes, fetched.restored),
            (chunks, indexes, 0)
        );
        assert_eq!(
            fetched.rpcs,
            chunks + indexes,
            "no parity is fetched that is not needed"
        );
    }
}

#[tokio::test]
async fn every_code_and_length_of_the_last_stripe_comes_back_without_as_many_chunks_as_it_has_parity() {
    for (data, parity) in [(1, 1), (1, 3), (2, 1), (3, 7), (9, 2)] {
        // A last chunk of a few bytes may well be its own parity.
        for length in (1..3 * CHUNK * u64::from(data)).filter(|length| length % CHUNK > 3) {
            let (map, bytes) = (Map::default(), contents(length));
            let options = FileOptions::default().code(Code::new(data, parity).unwrap());
            let stored = put::store(&map, plan(3), options, None, &bytes[..], |_| ())
                .await
                .unwrap();
            let first = if stored.parity > 0 { data.min(parity) } else { 0 };
            for lost in bytes.chunks(CHUNK as usize).take(first.into()) {
                map.values
                    .lock()
                    .unwrap()
                    .remove(&immutable_key(Content::Plain, lost));
            }
            let mut sink = Vec::new();
            let file = stored.reference();
            let fetched = get::fetch(&map, plan(3), FetchOptions::default(), &file, &mut sink, |_| ()).await;
            fetched.unwrap();
            assert!(sink == bytes, "{length} bytes with {data}+{parity}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_six_of_a_stripe_may_be_lost_and_seven_are_told_by_name(
        lost in subsequence((0..16).collect::<Vec<usize>>(), 0..=8),
        parallel in 1_usize..20,
        sealed in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let map = Map::default();
            let chunk = if sealed { 32 } else { CHUNK };
            let plan = Plan { room: room(chunk, 34), ..plan(parallel) };
            let bytes = contents(if sealed { 16 * 13 } else { chunk * 14 });
            let given = sealed.then(|| secret(3));
            let options = FileOptions::default().encrypt(sealed).code(code());
            let stored = put::store(&map, plan, options, given, &bytes[..], |_| ()).await.unwrap();
            prop_assert!(map.most_in_flight() <= parallel);
            prop_assert_eq!((stored.chunks, stored.parity, stored.indexes), (14, 12, 1));
            let at = if sealed { 45 } else { 13 };
            let keys: Vec<Key> = {
                let values = map.values.lock().unwrap();
                let keys = &values[&stored.key].1[at..];
                keys.chunks(32).map(|key| Key::from_bytes(key.try_into().unwrap())).collect()
            };
            for place in &lost {
                map.values.lock().unwrap().remove(&keys[*place]);
            }
            map.books.lock().unwrap().most_in_flight = 0;
            let mut sink = Vec::new();
            let file = stored.reference();
            let fetched = get::fetch(&map, plan, FetchOptions::default(), &file, &mut sink, |_| ()).await;
            prop_assert!(map.most_in_flight() <= parallel);
            let lost_data = lost.iter().filter(|place| **place < 10).count() as u64;
            match fetched {
                Ok(fetched) => {
                    prop_assert!(lost.len() <= 6 || lost_data == 0);
                    prop_assert_eq!(fetched.restored, lost_data);
                    prop_assert!(sink == bytes);
                }
                Err(GetFileError::LostStripe { stripe: 0, offset: 0, found, needed: 10 }) => {
                    prop_assert_eq!(found, 16 - lost.len());
                    prop_assert!(lost.len() > 6);
                    prop_assert!(sink.is_empty());
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_repair_leaves_everything_as_it_was_stored(
        lost in subsequence((0..16).collect::<Vec<usize>>(), 0..=6),
        rare in subsequence((0..16).collect::<Vec<usize>>(), 0..=16),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let map = Map::default();
            let stored = store(&map, &contents(10 * CHUNK)).await;
            let whole = map.values.lock().unwrap().clone();
            let keys = keys(&map, stored.key);
            for place in &lost {
                map.values.lock().unwrap().remove(&keys[*place]);
            }
            map.rare.lock().unwrap().extend(rare.iter().map(|place| keys[*place]));
            map.rare.lock().unwrap().insert(stored.key);
            let options = FetchOptions::default().repair(Repair::default());
            let fetched = fetch(&map, &stored.key.into(), options).await.0.unwrap();
            let wanting: HashSet<_> = lost.iter().chain(&rare).collect();
            prop_assert_eq!(fetched.repair.checked, 17);
            prop_assert_eq!(fetched.repair.stored, wanting.len() as u64 + 1);
            prop_assert_eq!(fetched.repair.failed, 0);
            prop_assert!(*map.values.lock().unwrap() == whole);
            prop_assert!(map.rare.lock().unwrap().is_empty());
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_chunk_that_parity_makes_up_for_is_not_looked_for_again_and_one_that_it_does_not_is() {
    let (map, bytes) = (Map::default(), contents(10 * CHUNK));
    let stored = store(&map, &bytes).await;
    let keys = keys(&map, stored.key);
    map.hidden.lock().unwrap().insert(keys[3], 1);
    let (fetched, sink) = fetch(&map, &stored.key.into(), FetchOptions::default()).await;
    let fetched = fetched.unwrap();
    assert_eq!((fetched.restored, sink == bytes), (1, true));
    assert_eq!(
        map.books.lock().unwrap().gets,
        1 + 10 + 1,
        "the root, the chunks, one of the parity"
    );

    for key in &keys[..7] {
        map.hidden.lock().unwrap().insert(*key, 2);
    }
    let (fetched, sink) = fetch(&map, &stored.key.into(), FetchOptions::default()).await;
    assert!(
        fetched.unwrap().restored >= 6 && sink == bytes,
        "the third lookup found the seventh"
    );
}

#[tokio::test]
async fn lookups_that_nobody_answers_are_made_up_for_and_told_as_such_where_they_cannot_be() {
    let (map, bytes) = (Map::default(), contents(10 * CHUNK));
    let stored = store(&map, &bytes).await;
    let keys = keys(&map, stored.key);
    let silent = |count: usize| {
        let often = ATTEMPTS + 1;
        let silent = keys.iter().take(count).map(|key| (*key, often));
        *map.unanswered.lock().unwrap() = silent.collect();
    };
    silent(6);
    let (fetched, sink) = fetch(&map, &stored.key.into(), FetchOptions::default()).await;
    assert!(fetched.unwrap().restored == 6 && sink == bytes);
    silent(7);
    let error = fetch(&map, &stored.key.into(), FetchOptions::default())
        .await
        .0
        .unwrap_err();
    assert!(matches!(error, GetFileError::Lookup { offset: 0, .. }), "{error}");
}

#[tokio::test]
async fn parity_that_does_not_belong_to_its_chunks_is_told_where_it_is_needed() {
    let map = Map::default();
    let bytes = contents(10 * CHUNK);
    let stored = store(&map, &bytes).await;
    let keys = keys(&map, stored.key);
    for wrong in [&[7; CHUNK as usize][..], &[7; 3]] {
        // An index that names something else in the place of its first parity chunk.
        let mut index = map.values.lock().unwrap()[&stored.key].1.to_vec();
        let other = immutable_key(Content::Plain, wrong);
        map.replace(other, Content::Plain, wrong.to_vec());
        let at = 13 + 10 * 32;
        index[at..at + 32].copy_from_slice(&other.to_bytes());
        let root = immutable_key(Content::FileIndex, &index);
        map.replace(root, Content::FileIndex, index);
        let (fetched, sink) = fetch(&map, &root.into(), FetchOptions::default()).await;
        assert!(fetched.is_ok() && sink == bytes, "nobody needs it");
        let held = map.holds(Content::Plain);
        let options = FetchOptions::default().repair(Repair::default());
        let repaired = fetch(&map, &root.into(), options).await.0.unwrap().repair;
        assert_eq!(
            (repaired.checked, repaired.stored, repaired.failed),
            (16, 0, 1),
            "nobody can make it again"
        );
        assert_eq!(map.holds(Content::Plain), held);
        map.hidden.lock().unwrap().insert(keys[0], ATTEMPTS);
        let (fetched, sink) = fetch(&map, &root.into(), FetchOptions::default()).await;
        assert!(
            matches!(fetched, Err(GetFileError::BadParity { stripe: 0, offset: 0 })),
            "{fetched:?}"
        );
        assert!(sink.is_empty());
        map.hidden.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn plain_files_are_repaired_too_and_what_cannot_be_is_counted() {
    let (map, bytes) = (Map::default(), contents(12 * CHUNK));
    let stored = super::store(&map, &bytes).await.unwrap();
    let (two, three) = (chunk_key(&bytes, 2), chunk_key(&bytes, 3));
    map.rare.lock().unwrap().extend([two, three, stored.key]);
    map.refused.lock().unwrap().insert(three, ATTEMPTS);
    let options = FetchOptions::default().repair(Repair::default());
    let mut sink = Vec::new();
    let file = stored.reference();
    let fetched = get::fetch(&map, super::plan(4), options, &file, &mut sink, |_| ())
        .await
        .unwrap();
    assert!(sink == bytes);
    let repair = fetched.repair;
    assert_eq!(
        (repair.checked, repair.stored, repair.failed),
        (12 + stored.indexes, 2, 1)
    );
    assert_eq!(*map.rare.lock().unwrap(), [three].into());

    let small = super::store(&map, b"one").await.unwrap();
    map.rare.lock().unwrap().insert(small.key);
    let fetched = get::fetch(
        &map,
        super::plan(4),
        options,
        &small.reference(),
        &mut sink,
        |_| (),
    )
    .await;
    assert_eq!(fetched.unwrap().repair.stored, 1);
}

#[tokio::test]
async fn a_code_too_wide_for_the_values_of_the_network_is_refused_by_name() {
    let options = FileOptions::default().code(Code::new(20, 20).unwrap());
    let stored = put::store(&Map::default(), plan(4), options, None, &b"x"[..], |_| ()).await;
    let error = stored.unwrap_err().to_string();
    assert!(error.ends_with("too small for files of code 20+20"), "{error}");
}
