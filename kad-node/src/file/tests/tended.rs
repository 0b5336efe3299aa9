//! Files that are kept and repaired by somebody who cannot read them.

use std::collections::HashSet;

use super::super::seal::tests::secret;
use super::super::stripe::Care;
use super::super::{Code, Repair, TendedFile, tend};
use super::*;

/// Sealed chunks of 32 bytes, stripes of four and two, two of them to an index.
fn plan() -> Plan {
    Plan {
        room: room(32, 14),
        parallel: 4,
        first_pause: Duration::ZERO,
    }
}

/// Bytes of which no two chunks are the same.
fn contents(length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

async fn store(map: &Map, sealed: bool, code: Option<Code>, length: u64) -> StoredFile<u32> {
    let options = FileOptions::default().encrypt(sealed).code(code);
    let secret = sealed.then(|| secret(1));
    let stored = put::store(map, plan(), options, secret, Dribble(&contents(length)), |_| ()).await;
    stored.unwrap()
}

async fn keep(map: &Map, key: Key) -> Result<TendedFile, GetFileError> {
    let care = Care::Keep(Repair::default());
    tend::tend(map, plan(), key, u64::MAX, care, |_| ()).await
}

fn all(map: &Map) -> HashSet<Key> {
    map.values.lock().unwrap().keys().copied().collect()
}

#[tokio::test]
async fn every_record_of_every_kind_of_file_is_kept_without_the_secret() {
    let code = Code::new(4, 2).ok();
    for (sealed, code) in [(false, None), (true, None), (false, code), (true, code)] {
        for length in [0, 1, 32, 33, 100, 1000] {
            let map = Map::default();
            let stored = store(&map, sealed, code, length).await;
            let mut seen = Vec::new();
            let care = Care::Keep(Repair::default());
            let kept = tend::tend(&map, plan(), stored.key, u64::MAX, care, |at| seen.push(at)).await;
            let kept = kept.unwrap();
            assert_eq!(*map.kept.lock().unwrap(), all(&map));
            assert_eq!(
                (kept.chunks, kept.parity, kept.indexes),
                (stored.chunks, stored.parity, stored.indexes)
            );
            let records = stored.chunks + stored.parity + stored.indexes;
            let told = kept.repair;
            assert_eq!(
                (told.checked, told.kept, told.stored, told.failed),
                (records, records, 0, 0)
            );
            let last: &Progress = seen.last().unwrap();
            assert_eq!(
                (last.bytes, last.total, last.chunks),
                (kept.bytes, Some(kept.bytes), kept.chunks)
            );
        }
    }
}

#[tokio::test]
async fn what_is_missing_is_restored_and_what_is_rare_is_stored_again_while_it_is_kept() {
    let map = Map::default();
    let stored = store(&map, true, Code::new(4, 2).ok(), 28 * 8).await;
    let whole = all(&map);
    let chunks: Vec<Key> = {
        let values = map.values.lock().unwrap();
        let plain = values
            .iter()
            .filter(|(_, (content, _))| *content == Content::Plain);
        plain.map(|(key, _)| *key).collect()
    };
    map.values.lock().unwrap().remove(&chunks[0]);
    map.rare.lock().unwrap().extend([chunks[1], stored.key]);
    let kept = keep(&map, stored.key).await.unwrap();
    assert_eq!((kept.repair.stored, kept.repair.failed), (3, 0));
    assert_eq!(
        (all(&map), map.kept.lock().unwrap().clone()),
        (whole.clone(), whole)
    );
    assert!(map.rare.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_was_interrupted_goes_on_and_asks_for_nothing_twice() {
    let map = Map::default();
    let stored = store(&map, true, None, 1000).await;
    let missing: Vec<Key> = {
        let values = map.values.lock().unwrap();
        let plain = values
            .iter()
            .filter(|(_, (content, _))| *content == Content::Plain);
        plain.map(|(key, _)| *key).take(3).collect()
    };
    map.unkept
        .lock()
        .unwrap()
        .extend(missing.iter().map(|key| (*key, 1)));
    assert_eq!(keep(&map, stored.key).await.unwrap().repair.failed, 3);
    map.books.lock().unwrap().gets = 0;
    let kept = keep(&map, stored.key).await.unwrap();
    assert_eq!((kept.repair.kept, kept.repair.failed), (3, 0));
    // The index nodes lead the way, whoever has them.
    assert_eq!(map.books.lock().unwrap().gets, kept.indexes + 3);
    map.books.lock().unwrap().gets = 0;
    assert_eq!(keep(&map, stored.key).await.unwrap().repair.kept, 0);
    assert_eq!(map.books.lock().unwrap().gets, kept.indexes);
}

#[tokio::test]
async fn a_sealed_file_is_repaired_without_its_secret_and_nothing_is_kept() {
    let map = Map::default();
    let stored = store(&map, true, Code::new(4, 2).ok(), 500).await;
    let whole = all(&map);
    let lost = *whole
        .iter()
        .find(|key| **key != stored.key && is_chunk(&map, key))
        .unwrap();
    map.values.lock().unwrap().remove(&lost);
    let care = Care::Repair(Repair::default());
    let repaired = tend::tend(&map, plan(), stored.key, u64::MAX, care, |_| ())
        .await
        .unwrap();
    assert_eq!(
        (
            repaired.repair.stored,
            repaired.repair.kept,
            repaired.repair.failed
        ),
        (1, 0, 0)
    );
    assert_eq!(
        repaired.repair.checked,
        stored.chunks + stored.parity + stored.indexes
    );
    assert!(all(&map) == whole && map.kept.lock().unwrap().is_empty());
}

fn is_chunk(map: &Map, key: &Key) -> bool {
    map.values.lock().unwrap()[key].0 == Content::Plain
}

#[tokio::test]
async fn what_is_larger_than_wanted_or_gone_is_told_before_anything_is_kept() {
    let map = Map::default();
    for length in [20, 500] {
        let stored = store(&map, false, None, length).await;
        let care = Care::Keep(Repair::default());
        let error = tend::tend(&map, plan(), stored.key, length - 1, care, |_| ())
            .await
            .unwrap_err();
        assert!(matches!(error, GetFileError::TooLarge { .. }), "{error}");
        assert!(map.kept.lock().unwrap().is_empty());
    }
    let error = keep(&map, Key::default()).await.unwrap_err();
    assert!(matches!(error, GetFileError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_file_that_there_is_no_room_for_is_not_fetched_further_and_said_to_be_too_much() {
    let map = Map::default();
    let stored = store(&map, false, None, 32 * 200).await;
    *map.room.lock().unwrap() = Some(20);
    map.books.lock().unwrap().gets = 0;
    for tries in 1..4 {
        let error = keep(&map, stored.key).await.unwrap_err();
        assert!(
            matches!(error, GetFileError::NoRoom { key } if key == stored.key),
            "{error}"
        );
        assert_eq!(map.kept.lock().unwrap().len(), 20);
        let gets = map.books.lock().unwrap().gets;
        assert!(
            gets < 60 + 40 * (tries - 1),
            "{gets} of 200 were fetched in {tries} tries"
        );
    }
    *map.room.lock().unwrap() = None;
    assert_eq!(keep(&map, stored.key).await.unwrap().repair.failed, 0);
    assert_eq!(*map.kept.lock().unwrap(), all(&map));
}

#[tokio::test]
async fn what_was_stored_again_and_not_kept_counts_as_failed_while_it_is_kept() {
    let map = Map::default();
    let stored = store(&map, false, None, 100).await;
    let rare: Vec<Key> = all(&map).into_iter().collect();
    map.rare.lock().unwrap().extend(rare.iter().copied());
    // As often as it is tried.
    map.unkept
        .lock()
        .unwrap()
        .extend(rare.iter().map(|key| (*key, ATTEMPTS)));
    let told = keep(&map, stored.key).await.unwrap().repair;
    assert_eq!(
        (told.checked, told.kept, told.failed),
        (rare.len() as u64, 0, rare.len() as u64)
    );
    assert!(map.kept.lock().unwrap().is_empty());
}
