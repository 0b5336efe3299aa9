//! Which keys this node holds, so that a question for any other is answered without a look at the disk.

use std::collections::HashSet;

use kad_core::{Key, Slot};
use kad_store::{RecordReader, Scan, StoreError};

/// Keys that are remembered: at 16 bytes each, 4 MiB. A store with more is asked every time.
const MAX_KEYS: usize = 1 << 18;

/// Records read at a time while the set is filled.
const PAGE: usize = 1024;

/// Damaged records that are told of when the store is read at the start. Further ones are found when they are read
/// next.
const MAX_DAMAGED: usize = 1024;

/// A set of keys that may say "perhaps" for a key that is gone, and never "no" for one that is there.
#[derive(Debug)]
pub(crate) struct Held {
    /// The first 64 bits of each key; `None` once there were too many.
    keys: Option<HashSet<u64>>,
}

impl Held {
    /// Reads a store through to its end: its keys, and which slots of it are damaged, at most [`MAX_DAMAGED`].
    pub(crate) fn read<R: RecordReader>(reader: &R) -> Result<(Self, Vec<Slot>), StoreError> {
        let mut damaged = Vec::new();
        let mut held = Self {
            keys: Some(HashSet::new()),
        };
        let mut scan = Scan::all(PAGE);
        loop {
            let page = reader.scan(&scan)?;
            for stored in page.records {
                held.insert(stored.slot.key);
            }
            for slot in page.damaged {
                held.insert(slot.key);
                if damaged.len() < MAX_DAMAGED {
                    damaged.push(slot);
                }
            }
            // Damage is looked for behind the keys that fit as well.
            let is_enough = held.keys.is_none() && damaged.len() == MAX_DAMAGED;
            match page.next {
                Some(next) if !is_enough => scan = scan.after(next),
                _ => return Ok((held, damaged)),
            }
        }
    }

    pub(crate) fn insert(&mut self, key: Key) {
        if let Some(keys) = &mut self.keys {
            keys.insert(key.to_limbs()[0]);
            if keys.len() > MAX_KEYS {
                self.keys = None;
            }
        }
    }

    pub(crate) fn may_contain(&self, key: Key) -> bool {
        self.keys
            .as_ref()
            .is_none_or(|keys| keys.contains(&key.to_limbs()[0]))
    }
}

#[cfg(test)]
mod tests {
    use kad_core::{
        Fingerprint, Kind, NetworkId, NodeId, Parameters, Prefix, RawRecord, Record, Rules, UnixTime,
    };
    use kad_store::{Page, StoredRecord};

    use super::*;

    /// A store with a record under each of the first numbers, of which some are damaged.
    #[derive(Clone)]
    struct Numbers {
        record: RawRecord,
        count: u64,
        is_damaged: fn(u64) -> bool,
    }

    impl Numbers {
        fn new(count: usize, is_damaged: fn(u64) -> bool) -> Self {
            let (parameters, now) = (Parameters::default(), UnixTime::from_secs(1_800_000_000));
            let rules = Rules::new(NetworkId::new("numbers", &parameters), &parameters);
            let record =
                Record::immutable(b"x", now + kad_core::Duration::from_secs(60), &rules, now).unwrap();
            let (record, count) = (record.as_raw().clone(), count as u64);
            Self {
                record,
                count,
                is_damaged,
            }
        }

        fn stored(&self, number: u64) -> StoredRecord {
            StoredRecord {
                slot: Slot {
                    key: Key::from_limbs([number, 0, 0, 0]),
                    kind: Kind::Immutable,
                    provider: NodeId::default(),
                },
                raw: self.record.clone(),
                due: UnixTime::from_secs(0),
                own: false,
                source: kad_core::Source::UNKNOWN,
            }
        }
    }

    impl RecordReader for Numbers {
        fn get(&self, _: &Slot) -> Result<Option<StoredRecord>, StoreError> {
            Err(StoreError::Closed)
        }

        fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
            let first = scan.after.map_or(0, |slot| slot.key.to_limbs()[0] + 1);
            let end = self.count.min(first + scan.limit as u64);
            let (damaged, whole): (Vec<u64>, Vec<u64>) =
                (first..end).partition(|number| (self.is_damaged)(*number));
            Ok(Page {
                records: whole.into_iter().map(|number| self.stored(number)).collect(),
                damaged: damaged
                    .into_iter()
                    .map(|number| self.stored(number).slot)
                    .collect(),
                next: (end < self.count).then(|| self.stored(end - 1).slot),
            })
        }

        fn fingerprint(&self, _: Prefix) -> Result<Fingerprint, StoreError> {
            Err(StoreError::Closed)
        }
    }

    #[test]
    fn damage_is_found_behind_more_keys_than_are_remembered_up_to_a_bound() {
        let count = MAX_KEYS + 3 * PAGE;
        let last = |number| number + 1 == (MAX_KEYS + 3 * PAGE) as u64;
        let store = Numbers::new(count, last);
        let (held, damaged) = Held::read(&store).unwrap();
        assert!(held.keys.is_none());
        assert_eq!(damaged, [store.stored(count as u64 - 1).slot]);
        let (_, damaged) = Held::read(&Numbers::new(2 * MAX_DAMAGED, |_| true)).unwrap();
        assert_eq!(damaged.len(), MAX_DAMAGED);
    }

    #[test]
    fn never_denies_a_key_that_was_put() {
        let mut held = Held {
            keys: Some(HashSet::new()),
        };
        let key = |n: u64| Key::from_limbs([n, 0, 0, 0]);
        assert!(!held.may_contain(key(1)));
        for n in 0..=MAX_KEYS as u64 {
            held.insert(key(n));
            assert!(held.may_contain(key(n)));
        }
        assert!(
            held.may_contain(key(u64::MAX)),
            "a set that overflowed must say perhaps"
        );
    }
}
