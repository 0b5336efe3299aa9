//! What a batch bounds, and what it does not write.

mod making_room;

use kad_core::{Duration, NetworkId, NodeId, Parameters, Rules};

use super::*;
use crate::{MemoryStore, RecordReader as _, RecordStore as _};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn record(number: u64, size: usize) -> Record {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("batch", &parameters), &parameters);
    let mut value = vec![0; size];
    value[..8].copy_from_slice(&number.to_be_bytes());
    Record::immutable(&value, NOW + Duration::from_secs(60), &rules, NOW).unwrap()
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
fn a_batch_of_too_many_bytes_asks_for_a_flush() {
    let mut store = MemoryStore::new(Limits::default());
    let mut accepted = 0;
    let full = loop {
        match store.put(put(&record(accepted, 65_000))) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::BatchFull));
    assert_eq!(accepted as usize, MAX_BATCH_BYTES / 65_002);
    assert_eq!(store.usage().records, accepted, "what was refused is not counted");
    store.flush().unwrap();
    assert_eq!(
        store.put(put(&record(accepted, 65_000))).unwrap(),
        Verdict::Stored
    );
}

#[test]
fn a_batch_of_too_many_slots_asks_for_a_flush() {
    let mut store = MemoryStore::new(Limits::default());
    for number in 0..=MAX_BATCH_SLOTS as u64 {
        if number == MAX_BATCH_SLOTS as u64 {
            assert!(matches!(
                store.put(put(&record(number, 8))),
                Err(StoreError::BatchFull)
            ));
            assert!(
                store.remove(&record(0, 8).slot()).unwrap(),
                "what is in the batch can change"
            );
            assert!(matches!(store.expire(NOW, 1), Err(StoreError::BatchFull)));
            store.flush().unwrap();
        }
        store.put(put(&record(number, 8))).unwrap();
    }
    store.flush().unwrap();
    assert_eq!(store.usage().records, MAX_BATCH_SLOTS as u64);
    // More than a batch can remove at once ends in two flushes.
    let end = NOW + Duration::from_secs(60);
    assert_eq!(store.expire(end, usize::MAX).unwrap(), MAX_BATCH_SLOTS);
    store.flush().unwrap();
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn one_neighbour_fills_half_of_an_empty_store_and_no_more() {
    let mut store = MemoryStore::new(Limits {
        max_records: 100,
        max_records_per_source: 50,
        around: Some(NodeId::default()),
        ..Limits::default()
    });
    let verdicts = (0..80).map(|number| {
        let record = record(number, 8);
        let source = Source::new(1);
        store
            .put(Put {
                source,
                ..put(&record)
            })
            .unwrap()
    });
    let verdicts: Vec<_> = verdicts.collect();
    assert!(verdicts[..50].iter().all(|&verdict| verdict == Verdict::Stored));
    assert!(verdicts[50..].iter().all(|&verdict| verdict == Verdict::Full));
}

#[test]
fn a_kept_record_does_not_keep_the_frame_that_brought_it() {
    let frame = Bytes::from([[1, 0, 0].as_slice(), &[7; 100], &[0; 60_000]].concat());
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("batch", &parameters), &parameters);
    let raw = RawRecord::parse(frame.slice(..103), NOW + Duration::from_secs(60)).unwrap();
    let record = Record::verify(raw, &rules, NOW).unwrap();
    let mut store = MemoryStore::new(Limits::default());
    store.put(put(&record)).unwrap();
    store.flush().unwrap();
    let stored = store.reader().get(&record.slot()).unwrap().unwrap();
    drop(record);
    assert_eq!(stored.raw.as_bytes()[..], frame[..103]);
    assert!(frame.is_unique(), "nobody else holds on to the frame");
}

#[test]
fn what_did_not_change_is_not_written() {
    let mut batch = Batch::new(Limits::default(), Ledger::default());
    let mut flushed = MemoryStore::new(Limits::default());
    let record = record(1, 8);
    flushed.put(put(&record)).unwrap();
    flushed.flush().unwrap();
    let base = flushed.flushed();
    assert_eq!(batch.put(&*base, put(&record)).unwrap(), Verdict::Unchanged);
    assert!(batch.is_empty());
    batch
        .put(
            &*base,
            Put {
                own: true,
                ..put(&record)
            },
        )
        .unwrap();
    let change = batch.changes().next().map(|(_, change)| change.clone());
    assert!(
        matches!(change, Some(Change::Touched(StoredRecord { own: true, .. }))),
        "{change:?}"
    );
}
