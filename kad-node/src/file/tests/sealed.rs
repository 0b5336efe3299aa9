//! Sealed files: what only the secret opens, and what nobody can forge.

use proptest::prelude::*;

use super::super::seal::tests::secret;
use super::super::{Reference, Secret};
use super::*;

/// Bytes of a sealed chunk: twice as many as its tag.
const SEALED: u64 = 32;
/// Bytes of the content in one.
const PAYLOAD: u64 = 16;

fn plan(parallel: usize) -> Plan {
    Plan {
        // Three children a node, besides what belongs to the seal.
        room: room(SEALED, 5),
        parallel,
        first_pause: Duration::ZERO,
    }
}

async fn store(map: &Map, bytes: &[u8], secret: &Secret) -> StoredFile<u32> {
    let options = FileOptions::default().encrypt(true);
    let secret = Some(secret.clone());
    let stored = put::store(map, plan(4), options, secret, Dribble(bytes), |_| ()).await;
    stored.unwrap()
}

async fn fetch(map: &Map, file: &Reference) -> (Result<FetchedFile, GetFileError>, Vec<u8>) {
    let mut sink = Vec::new();
    let fetched = get::fetch(map, plan(4), FetchOptions::default(), file, &mut sink, |_| ()).await;
    (fetched, sink)
}

/// The keys of the chunks of a file with a single index.
fn chunk_keys(map: &Map, root: Key) -> Vec<Key> {
    let values = map.values.lock().unwrap();
    let (_, keys) = values[&root].1.split_at(45);
    keys.chunks(32)
        .map(|key| Key::from_bytes(key.try_into().unwrap()))
        .collect()
}

/// A file of these chunks, put together by somebody who has no secret.
fn put_together(map: &Map, root: Key, chunks: &[Key]) -> Key {
    let header = map.values.lock().unwrap()[&root].1.slice(..45);
    let mut index = header.to_vec();
    index[2..10].copy_from_slice(&(chunks.len() as u64 * SEALED).to_be_bytes());
    index.extend(chunks.iter().flat_map(|key| key.to_bytes()));
    let key = immutable_key(Content::FileIndex, &index);
    map.replace(key, Content::FileIndex, index);
    key
}

#[tokio::test]
async fn sealed_files_around_every_edge_come_back_and_holders_see_whole_chunks() {
    for (length, chunks, indexes) in [
        (0, 1, 1),
        (1, 1, 1),
        (PAYLOAD - 1, 1, 1),
        (PAYLOAD, 2, 1),
        (3 * PAYLOAD - 1, 3, 1),
        (3 * PAYLOAD, 4, 3),
        (27 * PAYLOAD, 28, 17),
    ] {
        let (map, bytes) = (Map::default(), contents(length));
        let stored = store(&map, &bytes, &secret(1)).await;
        assert_eq!(
            (stored.bytes, stored.chunks, stored.parity, stored.indexes),
            (length, chunks, 0, indexes),
            "{length}"
        );
        for (content, value) in map.values.lock().unwrap().values() {
            assert!(*content == Content::FileIndex || value.len() as u64 == SEALED);
        }
        let (fetched, sink) = fetch(&map, &stored.reference()).await;
        assert!(sink == bytes, "{length}");
        let fetched = fetched.unwrap();
        assert_eq!(
            (fetched.bytes, fetched.chunks, fetched.indexes),
            (length, chunks, indexes)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn nothing_of_a_sealed_file_is_in_the_network(
        bytes in prop::collection::vec(any::<u8>(), 8..400),
        parallel in 1_usize..9,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let map = Map::default();
            let secret = Secret::generate().unwrap();
            let options = FileOptions::default().encrypt(true);
            let given = Some(secret.clone());
            let stored = put::store(&map, plan(parallel), options, given, &bytes[..], |_| ()).await.unwrap();
            for (_, value) in map.values.lock().unwrap().values() {
                for part in bytes.windows(8).chain(secret.bytes().windows(8)) {
                    prop_assert!(!value.windows(8).any(|held| held == part));
                }
            }
            let (mut sink, mut seen) = (Vec::new(), Vec::new());
            let options = FetchOptions::default();
            let file = stored.reference();
            get::fetch(&map, plan(parallel), options, &file, &mut sink, |at| seen.push(at)).await.unwrap();
            prop_assert!(sink == bytes);
            let last: &Progress = seen.last().unwrap();
            prop_assert_eq!((last.bytes, last.total), (bytes.len() as u64, Some(bytes.len() as u64)));
            prop_assert!(seen.iter().all(|at| at.total >= Some(at.bytes)));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn wrong_missing_and_needless_secrets_are_told_before_anything_is_fetched() {
    let map = Map::default();
    let stored = store(&map, &contents(100), &secret(1)).await;
    let plain = super::store(&map, &contents(5)).await.unwrap().key;
    let with = |key: Key, secret: Option<Secret>| {
        let mut file = Reference::from(key);
        file.secret = secret;
        file
    };
    for (file, says) in [
        (with(stored.key, None), "this file is sealed; give its whole name"),
        (with(stored.key, Some(secret(2))), "is not that of this file"),
        (with(plain, Some(secret(1))), "this file is not sealed"),
    ] {
        map.books.lock().unwrap().gets = 0;
        let (fetched, sink) = fetch(&map, &file).await;
        let error = fetched.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!((sink.len(), map.books.lock().unwrap().gets), (0, 1));
    }
}

#[tokio::test]
async fn chunks_that_are_swapped_cut_off_repeated_or_of_another_file_are_forgeries() {
    let map = Map::default();
    let bytes = contents(2 * PAYLOAD + 5);
    let stored = store(&map, &bytes, &secret(1)).await;
    let other = store(&map, &bytes, &secret(2)).await;
    let true_ones = chunk_keys(&map, stored.key);
    let foreign = chunk_keys(&map, other.key);
    let [first, second, last] = true_ones[..] else {
        panic!("{true_ones:?}")
    };
    for (chunks, forged, written) in [
        (vec![second, first, last], 0, 0),
        (vec![first, second], 1, PAYLOAD),
        (vec![first], 0, 0),
        (vec![second, last], 0, 0),
        (vec![first, second, second], 2, 2 * PAYLOAD),
        (vec![first, last, last], 1, PAYLOAD),
        (vec![first, foreign[1], last], 1, PAYLOAD),
        (vec![first, second, foreign[2]], 2, 2 * PAYLOAD),
    ] {
        let mut file = Reference::from(put_together(&map, stored.key, &chunks));
        file.secret.clone_from(&stored.secret);
        let (fetched, sink) = fetch(&map, &file).await;
        let error = fetched.unwrap_err();
        assert!(
            matches!(error, GetFileError::Forged { index, .. } if index == forged),
            "{error}"
        );
        assert!(
            sink == bytes[..written as usize],
            "nothing that was not sealed is written"
        );
    }
}

#[tokio::test]
async fn every_flipped_bit_of_a_chunk_is_found_out_even_where_its_key_is_made_to_fit() {
    let map = Map::default();
    let bytes = contents(PAYLOAD + 3);
    let stored = store(&map, &bytes, &secret(1)).await;
    let chunks = chunk_keys(&map, stored.key);
    for chunk in 0..2 {
        let whole = map.values.lock().unwrap()[&chunks[chunk]].1.to_vec();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let key = immutable_key(Content::Plain, &flipped);
            map.replace(key, Content::Plain, flipped);
            let mut chunks = chunks.clone();
            chunks[chunk] = key;
            let mut file = Reference::from(put_together(&map, stored.key, &chunks));
            file.secret.clone_from(&stored.secret);
            let error = fetch(&map, &file).await.0.unwrap_err();
            assert!(
                matches!(error, GetFileError::Forged { index, .. } if index == chunk as u64),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_sealed_file_larger_than_wanted_is_refused_by_its_chunks_or_at_its_end() {
    let map = Map::default();
    let stored = store(&map, &contents(5 * PAYLOAD + 7), &secret(1)).await;
    let limited = async |most: u64| {
        let options = FetchOptions::default().max_bytes(most);
        map.books.lock().unwrap().gets = 0;
        let file = stored.reference();
        let fetched = get::fetch(&map, plan(4), options, &file, tokio::io::sink(), |_| ()).await;
        (
            fetched.map(|fetched| fetched.bytes),
            map.books.lock().unwrap().gets,
        )
    };
    let (refused, gets) = limited(5 * PAYLOAD - 1).await;
    assert!(matches!(refused, Err(GetFileError::TooLarge { bytes: 80, .. })));
    assert_eq!(gets, 1);
    let (refused, _) = limited(5 * PAYLOAD + 6).await;
    assert!(matches!(refused, Err(GetFileError::TooLarge { bytes: 87, .. })));
    assert_eq!(limited(5 * PAYLOAD + 7).await.0.unwrap(), 87);
}
