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
    /// Reads all keys of a store, and tells which slots of it are damaged.
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
            match page.next {
                Some(next) if held.keys.is_some() => scan = scan.after(next),
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
    use super::*;

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
