//! Random operations against a model that is too simple to be wrong: two maps, one for the last flush and one for now.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kad_core::record::judge;
use kad_core::{
    Announcement, Duration, Key, Keypair, Kind, MutableVersion, NetworkId, NodeId, Parameters, Record, Rules,
    Slot, Source, UnixTime, Verdict,
};
use kad_store::{Limits, MemoryStore, Put, RecordReader, RecordStore, Scan, StoredRecord, Usage};
use proptest::prelude::*;
use proptest::sample::Index;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
/// Keys of the providers are at one end of the key space and the node is at the other, so others go first.
const AROUND: NodeId = NodeId::from_limbs([u64::MAX, 0, 0, 0]);
/// `None` for a node that gives up nothing, which the tests of a full store begin with.
const fn limits(around: Option<NodeId>) -> Limits {
    Limits {
        max_records: 12,
        max_bytes: 3000,
        max_records_per_source: 7,
        max_bytes_per_source: 2000,
        max_providers_per_key: 3,
        max_own_records: 5,
        max_own_bytes: 2500,
        around,
    }
}

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
        source: u64,
        by_author: bool,
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
        24 => (index(), expected, 0..60u64, prop::bool::weighted(0.2), 0..4u64, any::<bool>())
            .prop_map(|(record, expected, due, own, source, by_author)| {
                Operation::Put { record, expected, due, own, source, by_author }
            }),
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

struct Model {
    limits: Limits,
    now: Held,
    flushed: Held,
}

const fn bytes(record: &StoredRecord) -> u64 {
    record.raw.as_bytes().len() as u64
}

/// Records and bytes.
fn sum<'a>(records: impl IntoIterator<Item = &'a StoredRecord>) -> (u64, u64) {
    let add = |(count, sum): (u64, u64), record| (count + 1, sum + bytes(record));
    records.into_iter().fold((0, 0), add)
}

impl Model {
    fn usage(&self) -> Usage {
        let (records, bytes) = sum(self.now.values());
        Usage { records, bytes }
    }

    fn put(&mut self, put: Put<'_>) -> Verdict {
        let slot = put.record.slot();
        let held = self.now.get(&slot).cloned();
        let verdict = judge(held.as_ref().map(|held| &held.raw), put.record, put.expected);
        let was_own = held.as_ref().is_some_and(|held| held.own);
        let own = put.own || was_own;
        let due = match &held {
            Some(held) if held.own && !put.own => held.due.min(put.due),
            _ => put.due,
        };
        let source = match &held {
            _ if own => Source::UNKNOWN,
            Some(held) if put.source.is_unknown() => held.source,
            Some(held) if held.raw.as_bytes() == put.record.as_bytes() && put.sender.is_none() => held.source,
            Some(held) => {
                let (records, sent) = sum(self.now.values().filter(|record| record.source == put.source));
                let sent = sent + put.record.as_bytes().len() as u64;
                let limits = &self.limits;
                match records < limits.max_records_per_source && sent <= limits.max_bytes_per_source {
                    true => put.source,
                    false => held.source,
                }
            }
            None => put.source,
        };
        let raw = match (verdict, &held) {
            (Verdict::Stored, _) => put.record.as_raw().clone(),
            (Verdict::Unchanged, Some(held)) => held.raw.clone(),
            _ => return verdict,
        };
        let new = StoredRecord {
            slot,
            raw,
            due,
            own,
            source,
        };
        let is_smaller = held
            .as_ref()
            .is_some_and(|held| held.own == own && bytes(&new) <= bytes(held));
        let mut after = self.now.clone();
        after.insert(slot, new);
        let fits = is_smaller || self.make_room(&mut after, slot, held.is_none());
        if !fits {
            return Verdict::Full;
        }
        self.now = after;
        verdict
    }

    /// Takes away what has to go for the newcomer, from a map that it is in already.
    fn make_room(&self, after: &mut Held, slot: Slot, is_new: bool) -> bool {
        let limits = &self.limits;
        let new = after[&slot].clone();
        if new.own {
            let (records, bytes) = sum(after.values().filter(|record| record.own));
            return records <= limits.max_own_records && bytes <= limits.max_own_bytes;
        }
        let siblings = || {
            let of_key = |record: &&StoredRecord| record.slot.key == slot.key && !record.own;
            let providers = after.values().filter(|record| record.slot.kind == Kind::Provider);
            providers.filter(of_key).cloned().collect::<Vec<_>>()
        };
        if is_new && slot.kind == Kind::Provider {
            let siblings = siblings();
            if siblings.len() > limits.max_providers_per_key as usize {
                let of = |source| siblings.iter().filter(|record| record.source == source).count();
                let size = |record: &StoredRecord| match of(record.source) {
                    unknown if record.source.is_unknown() && 2 * unknown <= siblings.len() => 1,
                    count => count,
                };
                let leaver = siblings.iter().max_by_key(|record| {
                    (
                        record.raw.is_tombstone(),
                        size(record),
                        record.slot.provider.distance(slot.key),
                    )
                });
                let leaver = leaver.expect("the newcomer is one").slot;
                if leaver == slot {
                    return false;
                }
                after.remove(&leaver);
            }
        }
        let of_source = |record: &&StoredRecord| !record.own && record.source == new.source;
        let (records, sent) = sum(after.values().filter(of_source));
        let is_over = records > limits.max_records_per_source || sent > limits.max_bytes_per_source;
        if !new.source.is_unknown() && is_over {
            return false;
        }
        let sources: std::collections::BTreeSet<_> = self.now.values().map(|record| record.source).collect();
        let senders = sources
            .iter()
            .filter(|source| !source.is_unknown())
            .count()
            .max(1) as u64;
        let (records, sent) = sum(self.now.values().filter(of_source));
        let is_beyond = records > limits.max_records / senders || sent > limits.max_bytes / senders;
        let own_only = is_beyond && !new.source.is_unknown();
        let is_full = |after: &Held| {
            let (records, bytes) = sum(after.values().filter(|record| !record.own));
            records > limits.max_records || bytes > limits.max_bytes
        };
        let Some(around) = limits.around else {
            return !is_full(after);
        };
        let may_go = |record: &&StoredRecord| {
            !record.own
                && around.distance(record.slot.key) > around.distance(slot.key)
                && (!own_only || record.source == new.source)
        };
        let mut candidates: Vec<_> = after.values().filter(may_go).cloned().collect();
        candidates.sort_by_key(|record| {
            let distance = std::cmp::Reverse(around.distance(record.slot.key));
            (distance, record.raw.expiry(), record.slot)
        });
        let mut candidates = candidates.into_iter();
        while is_full(after) {
            match candidates.next() {
                Some(victim) => drop(after.remove(&victim.slot)),
                None => return false,
            }
        }
        true
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
fn compare<S: RecordStore>(operations: &[Operation], limits: Limits, mut store: S, reopen: impl Fn(S) -> S) {
    let mut model = Model {
        limits,
        now: Held::new(),
        flushed: Held::new(),
    };
    let record = |index: &Index| index.get(RECORDS.as_slice());
    for operation in operations {
        match operation {
            Operation::Put {
                record: index,
                expected,
                due,
                own,
                source,
                by_author,
            } => {
                let due = NOW + Duration::from_secs(*due);
                let put = Put {
                    record: record(index),
                    expected: *expected,
                    due,
                    own: *own,
                    source: Source::new(*source),
                    sender: record(index)
                        .author()
                        .map(|author| NodeId::from_public_key(&author))
                        .filter(|_| *by_author),
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

fn around() -> impl Strategy<Value = Option<NodeId>> {
    prop_oneof![1 => Just(None), 3 => Just(Some(AROUND)), 3 => Just(Some(NodeId::default()))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn memory_does_what_the_model_does(
        around in around(),
        operations in proptest::collection::vec(operation(), 1..120),
    ) {
        // Memory survives no stop, so a stop is a copy of the last flush.
        let limits = limits(around);
        compare(&operations, limits, MemoryStore::new(limits), |old| copy_of_the_last_flush(&old, limits));
    }
}

/// A new store with what the last flush of the old one left: what reopening would be, if memory survived.
fn copy_of_the_last_flush(old: &MemoryStore, limits: Limits) -> MemoryStore {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("model", &parameters), &parameters);
    let mut new = MemoryStore::new(limits);
    for stored in scan_all(&old.reader(), Scan::all(100)) {
        let record = Record::verify(stored.raw, &rules, NOW).unwrap();
        let put = Put {
            record: &record,
            expected: None,
            due: stored.due,
            own: stored.own,
            source: stored.source,
            sender: None,
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
    fn redb_does_what_the_model_does(
        around in around(),
        operations in proptest::collection::vec(operation(), 1..120),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let limits = limits(around);
        let config = kad_store::RedbConfig { limits, cache_bytes: 1 << 20, check_on_open: false };
        let open = || kad_store::RedbStore::open(folder.path().join("records.redb"), &config).unwrap();
        compare(&operations, limits, open(), |old| {
            drop(old);
            open()
        });
    }
}
