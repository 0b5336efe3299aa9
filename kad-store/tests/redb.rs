//! What only a store in a file can get wrong: who may open it, what is no store, and what damage does.
#![cfg(feature = "redb")]

use std::path::Path;

use kad_core::{Duration, MAX_VALUE, NetworkId, Parameters, Prefix, Record, Rules, Source, UnixTime};
use kad_store::{Put, RecordReader as _, RecordStore as _, RedbConfig, RedbStore, Scan, StoreError};
use redb::{ReadableDatabase as _, TableDefinition};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("nautilus-kad about");
const BODIES: TableDefinition<'_, &[u8; 65], &[u8]> = TableDefinition::new("bodies");

fn open(path: &Path) -> Result<RedbStore, StoreError> {
    RedbStore::open(
        path,
        &RedbConfig {
            cache_bytes: 1 << 20,
            ..RedbConfig::default()
        },
    )
}

fn record(number: u64, size: usize) -> Record {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("redb", &parameters), &parameters);
    let mut value = vec![0; size.max(8)];
    value[..8].copy_from_slice(&number.to_be_bytes());
    Record::immutable(&value, NOW + Duration::from_secs(3600), &rules, NOW).unwrap()
}

fn put(record: &Record) -> Put<'_> {
    Put {
        record,
        expected: None,
        due: NOW,
        own: false,
        source: Source::UNKNOWN,
        sender: None,
    }
}

#[test]
fn a_second_opener_is_told_that_the_store_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.redb");
    let first = open(&path).unwrap();
    let second = open(&path).unwrap_err();
    assert!(
        matches!(&second, StoreError::Locked { path: other } if *other == path),
        "{second:?}"
    );
    assert!(
        second.to_string().ends_with("is in use by another node"),
        "{second}"
    );
    drop(first);
    open(&path).unwrap();
}

#[test]
fn a_file_that_is_no_database_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("thesis.txt");
    for text in ["x", "Chapter 1", &"Chapter 2. ".repeat(10_000)] {
        std::fs::write(&path, text).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Foreign { .. }), "{error:?}");
        assert_eq!(std::fs::read(&path).unwrap(), text.as_bytes());
    }
}

#[test]
fn a_database_of_others_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bookkeeping.redb");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(TableDefinition::<&str, u64>::new("accounts"))
        .unwrap()
        .insert("rent", 900)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let before = std::fs::read(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error:?}");
    assert!(std::fs::read(&path).unwrap() == before, "not one byte changed");
}

#[test]
fn another_format_is_refused_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.redb");
    drop(open(&path).unwrap());
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(ABOUT)
        .unwrap()
        .insert("format", kad_store::redb::FORMAT + 1)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let before = std::fs::read(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Format {
                found: 4,
                supported: 3,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("format 3"), "{error}");
    assert!(std::fs::read(&path).unwrap() == before, "not one byte changed");
}

#[test]
fn an_empty_file_becomes_a_store_and_nothing_is_left_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.redb");
    std::fs::write(&path, "").unwrap();
    drop(open(&path).unwrap());
    let names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["records.redb"]);
    let nowhere = open(&folder.path().join("no such folder/records.redb")).unwrap_err();
    assert!(matches!(nowhere, StoreError::Io(_)), "{nowhere:?}");
}

#[test]
fn many_openers_at_once_make_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.redb");
    let stores: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| open(&path))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let opened = stores.iter().filter(|store| store.is_ok()).count();
    assert_eq!(opened, 1, "{stores:?}");
    for error in stores.iter().filter_map(|store| store.as_ref().err()) {
        assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    }
}

#[test]
fn a_cut_or_damaged_file_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.redb");
    let mut store = open(&path).unwrap();
    for number in 0..200 {
        store.put(put(&record(number, 1000))).unwrap();
    }
    store.flush().unwrap();
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let check = RedbConfig {
        check_on_open: true,
        ..RedbConfig::default()
    };
    for cut in [10, 100, 320, 4096, whole.len() / 2] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let error = RedbStore::open(&path, &check).unwrap_err();
        assert!(
            matches!(error, StoreError::Corrupt { .. } | StoreError::Io(_)),
            "cut at {cut}: {error:?}"
        );
    }
    let mut noticed = 0;
    for page in 1..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[page * 4096 + 100..page * 4096 + 200].fill(0xff);
        std::fs::write(&path, &damaged).unwrap();
        // Without the check there may be errors or not, but the process goes on.
        if let Ok(mut store) = open(&path) {
            let reader = store.reader();
            let _ = (
                reader.scan(&Scan::all(1000)),
                reader.scan(&Scan::all(1000).due_by(NOW)),
            );
            for number in 0..200 {
                let _ = (
                    reader.get(&record(number, 1000).slot()),
                    store.put(put(&record(number + 100, 1000))),
                    store.discard(&record(number, 1000).slot()),
                );
            }
            let _ = (store.expire(NOW + Duration::from_secs(7200), 50), store.flush());
        }
        std::fs::write(&path, &damaged).unwrap();
        // Damage in a page that is not in use goes unnoticed, rightly.
        noticed += usize::from(RedbStore::open(&path, &check).is_err());
    }
    assert!(
        noticed >= 50,
        "of {} damaged pages {noticed} were noticed",
        whole.len() / 4096
    );
}

#[test]
fn a_damaged_record_is_reported_skipped_and_healed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.redb");
    let (sick, well) = (record(1, 50), record(2, 50));
    let mut store = open(&path).unwrap();
    store.put(put(&sick)).unwrap();
    store.put(put(&well)).unwrap();
    store.flush().unwrap();
    let usage = store.usage();
    drop(store);
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut slot = [0; 65];
    slot[..32].copy_from_slice(&sick.key().to_bytes());
    transaction
        .open_table(BODIES)
        .unwrap()
        .insert(&slot, b"rot".as_slice())
        .unwrap();
    transaction.commit().unwrap();
    assert!(database.begin_read().is_ok());
    drop(database);

    let mut store = open(&path).unwrap();
    let error = store.reader().get(&sick.slot()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    let page = store.reader().scan(&Scan::all(10)).unwrap();
    assert_eq!((page.records.len(), page.next), (1, None));
    assert_eq!(page.damaged, [sick.slot()]);
    assert_eq!(page.records[0].slot, well.slot());
    assert_eq!(store.put(put(&sick)).unwrap(), kad_core::Verdict::Stored);
    store.flush().unwrap();
    assert_eq!(
        store.reader().get(&sick.slot()).unwrap().unwrap().raw,
        *sick.as_raw()
    );
    assert_eq!(store.usage(), usage, "healing counts nothing twice");
}

/// Flips one bit of each copy of these bytes in a file, and says how many there were.
fn flip(path: &Path, bytes: &[u8]) -> usize {
    let mut file = std::fs::read(path).unwrap();
    let (mut flipped, mut from) = (0, 0);
    while let Some(at) = file[from..]
        .windows(bytes.len())
        .position(|window| window == bytes)
    {
        file[from + at + bytes.len() / 2] ^= 0x10;
        (flipped, from) = (flipped + 1, from + at + bytes.len());
    }
    std::fs::write(path, file).unwrap();
    flipped
}

#[test]
fn a_record_with_one_flipped_bit_is_discarded_with_all_that_the_store_tells_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.redb");
    for size in [50, 3000, 60_000] {
        let (sick, well) = (record(7_777_777_777 + size as u64, size), record(1, size));
        let mut store = open(&path).unwrap();
        store.put(put(&sick)).unwrap();
        store.put(put(&well)).unwrap();
        store.flush().unwrap();
        drop(store);
        assert!(
            flip(&path, &sick.as_bytes()[..12]) > 0,
            "its bytes lie in the file"
        );

        let mut store = open(&path).unwrap();
        let reader = store.reader();
        let of_key = Prefix::new(sick.key().to_limbs()[0], 64);
        let told = |reader: &kad_store::RedbReader| {
            let due = reader.scan(&Scan::all(1000).due_by(NOW)).unwrap();
            (
                reader.fingerprint(of_key).unwrap().count,
                due.damaged.contains(&sick.slot()),
            )
        };
        assert_eq!(
            told(&reader),
            (1, true),
            "the mark of a damaged record, {size} bytes"
        );
        assert!(matches!(
            reader.get(&sick.slot()),
            Err(StoreError::Corrupt { .. })
        ));
        let before = store.usage();
        assert!(!store.discard(&well.slot()).unwrap(), "what is whole stays");
        assert!(store.discard(&sick.slot()).unwrap());
        assert!(!store.discard(&sick.slot()).unwrap(), "it is gone");
        store.flush().unwrap();
        assert_eq!(told(&reader), (0, false));
        assert!(reader.get(&sick.slot()).unwrap().is_none());
        assert_eq!(store.usage().records, before.records - 1);
        assert_eq!(
            store.expire(sick.expiry(), usize::MAX).unwrap() as u64,
            before.records - 1
        );
        store.flush().unwrap();
    }
}

#[test]
fn a_record_that_was_stored_again_meanwhile_is_not_discarded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.redb");
    let record = record(8_888_888_888, 50);
    let mut store = open(&path).unwrap();
    store.put(put(&record)).unwrap();
    store.flush().unwrap();
    drop(store);
    assert!(flip(&path, &record.as_bytes()[..12]) > 0);
    let mut store = open(&path).unwrap();
    assert!(store.reader().get(&record.slot()).is_err());
    store.put(put(&record)).unwrap();
    assert!(!store.discard(&record.slot()).unwrap(), "not flushed yet");
    store.flush().unwrap();
    assert!(!store.discard(&record.slot()).unwrap());
    assert!(store.reader().get(&record.slot()).unwrap().is_some());
}

#[test]
fn a_reader_that_outlives_its_store_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.redb");
    let mut store = open(&path).unwrap();
    store.put(put(&record(1, 50))).unwrap();
    store.flush().unwrap();
    let reader = store.reader();
    drop(store);
    assert!(matches!(
        reader.get(&record(1, 50).slot()),
        Err(StoreError::Closed)
    ));
    assert!(matches!(reader.scan(&Scan::all(1)), Err(StoreError::Closed)));
    let again = open(&path).unwrap();
    assert!(
        again.reader().get(&record(1, 50).slot()).unwrap().is_some(),
        "the old reader does not lock it"
    );
}

#[test]
fn a_new_due_time_does_not_write_the_value_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.redb");
    let mut store = open(&path).unwrap();
    let records: Vec<_> = (0..64).map(|number| record(number, MAX_VALUE - 5000)).collect();
    for record in &records {
        store.put(put(record)).unwrap();
    }
    store.flush().unwrap();
    let before = std::fs::metadata(&path).unwrap().len();
    for turn in 1..20 {
        for record in &records {
            store
                .put(Put {
                    due: NOW + Duration::from_secs(turn),
                    ..put(record)
                })
                .unwrap();
        }
        store.flush().unwrap();
    }
    let after = std::fs::metadata(&path).unwrap().len();
    assert!(after < before + (1 << 20), "from {before} to {after} bytes");
}

#[test]
fn the_file_stays_small_while_records_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.redb");
    let mut store = open(&path).unwrap();
    let mut sizes = Vec::new();
    for turn in 0..12u64 {
        for number in 0..400 {
            store.put(put(&record(turn * 400 + number, 1000))).unwrap();
            if turn > 0 {
                assert!(
                    store
                        .remove(&record((turn - 1) * 400 + number, 1000).slot())
                        .unwrap()
                );
            }
            if number % 50 == 49 {
                store.flush().unwrap();
            }
        }
        sizes.push(std::fs::metadata(&path).unwrap().len());
    }
    assert!(sizes[11] <= 2 * sizes[2], "{sizes:?}");
}
