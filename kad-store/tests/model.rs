//! Random operations against a model that is too simple to be wrong: two maps, one for the last flush and one for now.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kad_core::record::judge;
use kad_core::{
    Announcement, Duration, Key, Keypair, Kind, MutableVersion, NetworkId, Parameters, Record, Rules, Slot,
    UnixTime, Verdict,
};
use kad_store::{Limits, MemoryStore, Put, RecordReader, RecordStore, Scan, StoredRecord, Usage};
use proptest::prelude::*;
use proptest::sample::Index;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const LIMITS: Limits = Limits {
    max_records: 12,
    max_bytes: 3000,
    max_providers_per_key: 3,
};

/// Few slots and many versions, so that operations meet. Signed once.
static RECORDS: LazyLock<Vec<Record>> = LazyLock::new(|| {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("model", &parameters), &parameters);
    let keys = [1u8, 2, 3, 4, 5].map(|number| Keypair::from_secret(&[number; 32]));
    let longest = parameters.max_lifetime;
    let mut records = Vec::new();
    for number in 0..8u64 {
        for end in [100, 200, 300] {
            let value = vec![number as u8; 40 * number as usize];
            records.push(Record::immutable(&value, NOW + Duration::from_secs(end), &rules, NOW).unwrap());
        }
        for seq in 0..4u64 {
            let value = vec![0; 300 * (seq as usize ^ number as usize) % 700];
            let value = (seq != 2).then_some(value.as_slice());
            let expiry = NOW + longest;
            let version = MutableVersion {
                salt: &[1, (number % 4) as u8],
                seq,
                issued: NOW,
                expiry,
                value,
            };
            records.push(Record::mutable(&keys[0], &version, &rules, NOW).unwrap());
        }
        for provider in &keys {
            let issued = NOW + Duration::from_secs(number / 2);
            let payload = (number != 5).then_some(b"here".as_slice());
            let key = Key::from_limbs([number % 2, 0, 0, 0]);
            let announcement = Announcement {
                key,
                issued,
                expiry: issued + longest,
                payload,
            };
            records.push(Record::provider(provider, &announcement, &rules, NOW).unwrap());
        }
    }
    records
});

#[derive(Debug, Clone)]
enum Operation {
    Put {
        record: Index,
        expected: Option<u64>,
        due: u64,
        own: bool,
    },
    Remove(Index),
    Expire {
        after: u64,
        limit: usize,
    },
    Flush,
    Stop,
    Scan {
        range: Option<(Index, Index)>,
        due_by: Option<u64>,
        limit: usize,
    },
    SlotsOf {
        of: Index,
        after: Option<Index>,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let index = any::<Index>;
    let expected = proptest::option::weighted(0.2, 0..4u64);
    let due_by = proptest::option::of(0..60u64);
    let after = prop_oneof![5 => 50..350u64, 1 => Just(7 * 24 * 3600)];
    prop_oneof![
        12 => (index(), expected, 0..60u64, any::<bool>())
            .prop_map(|(record, expected, due, own)| Operation::Put { record, expected, due, own }),
        2 => index().prop_map(Operation::Remove),
        2 => (after, 0..6usize).prop_map(|(after, limit)| Operation::Expire { after, limit }),
        3 => Just(Operation::Flush),
        1 => Just(Operation::Stop),
        3 => (proptest::option::of((index(), index())), due_by, 0..9usize)
            .prop_map(|(range, due_by, limit)| Operation::Scan { range, due_by, limit }),
        1 => (index(), proptest::option::of(index())).prop_map(|(of, after)| Operation::SlotsOf { of, after }),
    ]
}

type Held = BTreeMap<Slot, StoredRecord>;

#[derive(Default)]
struct Model {
    now: Held,
    flushed: Held,
}

impl Model {
    fn usage(&self) -> Usage {
        let bytes = self
            .now
            .values()
            .map(|record| record.raw.as_bytes().len() as u64)
            .sum();
        Usage {
            records: self.now.len() as u64,
            bytes,
        }
    }

    fn put(&mut self, put: Put<'_>) -> Verdict {
        let slot = put.record.slot();
        let held = self.now.get(&slot);
        let verdict = judge(held.map(|held| &held.raw), put.record, put.expected);
        let own = put.own || held.is_some_and(|held| held.own);
        let due = match held {
            Some(held) if held.own && !put.own => held.due.min(put.due),
            _ => put.due,
        };
        let bytes = |record: &StoredRecord| record.raw.as_bytes().len() as u64;
        if verdict == Verdict::Stored {
            let raw = put.record.as_raw().clone();
            let new = StoredRecord { slot, raw, due, own };
            let mut after = Self {
                now: self.now.clone(),
                flushed: Held::new(),
            };
            after.now.insert(slot, new.clone());
            let usage = after.usage();
            let siblings = after
                .now
                .keys()
                .filter(|other| other.kind == Kind::Provider && other.key == slot.key);
            let fits = match held {
                Some(held) => bytes(&new) <= bytes(held) || usage.bytes <= LIMITS.max_bytes,
                None => {
                    usage.records <= LIMITS.max_records
                        && usage.bytes <= LIMITS.max_bytes
                        && (slot.kind != Kind::Provider
                            || siblings.count() <= LIMITS.max_providers_per_key as usize)
                }
            };
            if !fits {
                return Verdict::Full;
            }
            self.now.insert(slot, new);
        } else if verdict == Verdict::Unchanged {
            let held = self.now.get_mut(&slot).expect("unchanged, so something is held");
            (held.due, held.own) = (due, own);
        }
        verdict
    }

    fn expire(&mut self, now: UnixTime, limit: usize) -> usize {
        let ended = self.now.values().map(|record| (record.raw.expiry(), record.slot));
        let mut ended: Vec<_> = ended.filter(|(expiry, _)| *expiry <= now).collect();
        ended.sort_unstable();
        ended.truncate(limit);
        ended.iter().for_each(|(_, slot)| drop(self.now.remove(slot)));
        ended.len()
    }

    fn scan(&self, scan: &Scan) -> Vec<StoredRecord> {
        let matches = |slot: &Slot, record: &StoredRecord| {
            *slot >= scan.first
                && *slot <= scan.last
                && scan.after.is_none_or(|after| *slot > after)
                && scan.due_by.is_none_or(|due_by| record.due <= due_by)
        };
        self.flushed
            .iter()
            .filter(|(slot, record)| matches(slot, record))
            .map(|(_, record)| record.clone())
            .collect()
    }
}

fn scan_all(reader: &impl RecordReader, mut scan: Scan) -> Vec<StoredRecord> {
    let mut records = Vec::new();
    loop {
        let page = reader.scan(&scan).unwrap();
        assert!(page.records.len() <= scan.limit.max(1));
        records.extend(page.records);
        match page.next {
            Some(next) => scan.after = Some(next),
            None => return records,
        }
    }
}

/// `reopen` stops the store uncleanly and gives what the last flush left.
fn compare<S: RecordStore>(operations: &[Operation], mut store: S, reopen: impl Fn(S) -> S) {
    let mut model = Model::default();
    let record = |index: &Index| index.get(RECORDS.as_slice());
    for operation in operations {
        match operation {
            Operation::Put {
                record: index,
                expected,
                due,
                own,
            } => {
                let due = NOW + Duration::from_secs(*due);
                let put = Put {
                    record: record(index),
                    expected: *expected,
                    due,
                    own: *own,
                };
                assert_eq!(store.put(put).unwrap(), model.put(put), "{operation:?}");
            }
            Operation::Remove(index) => {
                let slot = record(index).slot();
                assert_eq!(store.remove(&slot).unwrap(), model.now.remove(&slot).is_some());
            }
            Operation::Expire { after, limit } => {
                let now = NOW + Duration::from_secs(*after);
                assert_eq!(store.expire(now, *limit).unwrap(), model.expire(now, *limit));
            }
            Operation::Flush => {
                store.flush().unwrap();
                model.flushed = model.now.clone();
            }
            Operation::Stop => {
                store = reopen(store);
                model.now = model.flushed.clone();
            }
            Operation::Scan { range, due_by, limit } => {
                let mut scan = Scan::all(*limit);
                if let Some((first, last)) = range {
                    scan = Scan::keys(record(first).key(), record(last).key(), *limit);
                }
                scan.due_by = due_by.map(|due_by| NOW + Duration::from_secs(due_by));
                assert_eq!(scan_all(&store.reader(), scan), model.scan(&scan));
            }
            Operation::SlotsOf { of, after } => {
                let Slot { key, kind, .. } = record(of).slot();
                let after = after.map(|after| record(&after).slot().provider);
                let scan = Scan::slots_of(key, kind, after, 2);
                assert_eq!(scan_all(&store.reader(), scan), model.scan(&scan));
            }
        }
        assert_eq!(store.usage(), model.usage(), "after {operation:?}");
    }
    let reader = store.reader();
    for record in RECORDS.iter() {
        assert_eq!(
            reader.get(&record.slot()).unwrap().as_ref(),
            model.flushed.get(&record.slot())
        );
    }
    let everything: Vec<_> = model.flushed.values().cloned().collect();
    assert_eq!(scan_all(&reader, Scan::all(5)), everything);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn memory_does_what_the_model_does(operations in proptest::collection::vec(operation(), 1..120)) {
        // Memory survives no stop, so a stop is a copy of the last flush.
        compare(&operations, MemoryStore::new(LIMITS), copy_of_the_last_flush);
    }
}

/// A new store with what the last flush of the old one left: what reopening would be, if memory survived.
fn copy_of_the_last_flush(old: MemoryStore) -> MemoryStore {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("model", &parameters), &parameters);
    let mut new = MemoryStore::new(LIMITS);
    for stored in scan_all(&old.reader(), Scan::all(100)) {
        let record = Record::verify(stored.raw, &rules, NOW).unwrap();
        let put = Put {
            record: &record,
            expected: None,
            due: stored.due,
            own: stored.own,
        };
        assert_eq!(new.put(put).unwrap(), Verdict::Stored);
    }
    new.flush().unwrap();
    new
}

#[cfg(feature = "redb")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn redb_does_what_the_model_does(operations in proptest::collection::vec(operation(), 1..120)) {
        let folder = tempfile::tempdir().unwrap();
        let config = kad_store::RedbConfig { limits: LIMITS, cache_bytes: 1 << 20, check_on_open: false };
        let open = || kad_store::RedbStore::open(folder.path().join("records.redb"), &config).unwrap();
        compare(&operations, open(), |old| {
            drop(old);
            open()
        });
    }
}
