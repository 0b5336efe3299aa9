//! What a store holds, by prefix of the key: the [`Fingerprint`] of any part in the time that its depth takes, and the
//! marks in it.
//!
//! A tree that branches by four bits of the key at a time. A leaf is cut into sixteen when it has more than 32 records,
//! so a store that holds the keys around its own id is as quick as one whose keys lie anywhere. The deepest leaves, at
//! 64 bits, hold all records of one key, however many.
//!
//! It lives in memory: 32 bytes for a record, some 50 with what leaves have to spare.

use std::collections::{BTreeSet, btree_set};

use kad_core::summary::{MAX_PREFIX_BITS, PART_BITS, PARTS};
use kad_core::{Fingerprint, Key, Prefix};

/// A leaf with more records is cut.
const LEAF: usize = 32;

/// The marks of all records of a store.
#[derive(Debug, Default)]
pub struct Index(Node);

#[derive(Debug)]
enum Node {
    Leaf(BTreeSet<Entry>),
    Inner(Box<Inner>),
}

#[derive(Debug, Default)]
struct Inner {
    all: Fingerprint,
    parts: [Node; PARTS],
}

/// The first 64 bits of a key, and the mark of a record under it; a leaf is sorted by both.
type Entry = (u64, u128);

impl Default for Node {
    fn default() -> Self {
        Self::Leaf(BTreeSet::new())
    }
}

impl Index {
    /// One more record.
    pub fn insert(&mut self, key: Key, mark: u128) {
        let entry = (key.to_limbs()[0], mark);
        let _ = self.0.insert(entry, 0);
    }

    /// One record less; nothing if it is not there.
    pub fn remove(&mut self, key: Key, mark: u128) {
        let entry = (key.to_limbs()[0], mark);
        let _ = self.0.remove(entry, 0);
    }

    /// What is held in a part.
    #[must_use]
    pub fn fingerprint(&self, prefix: Prefix) -> Fingerprint {
        let mut sum = Fingerprint::default();
        self.0.visit(prefix, 0, &mut |node| {
            sum.merge(node.fingerprint(prefix));
            true
        });
        sum
    }

    /// The first 64 bits of the keys and the marks of at most `limit` records of a part, in the order of the keys.
    #[must_use]
    pub fn marks(&self, prefix: Prefix, limit: usize) -> Vec<(u64, u128)> {
        let mut marks = Vec::new();
        self.0.visit(prefix, 0, &mut |node| {
            node.collect(prefix, limit, &mut marks);
            marks.len() < limit
        });
        marks
    }
}

/// The four bits of a key by which the level at this depth branches.
const fn digit(bits: u64, depth: u8) -> usize {
    (bits >> (MAX_PREFIX_BITS - PART_BITS - depth)) as usize & (PARTS - 1)
}

impl Node {
    /// Says whether it was not there before.
    fn insert(&mut self, entry: Entry, depth: u8) -> bool {
        match self {
            Self::Leaf(entries) => {
                if !entries.insert(entry) {
                    return false;
                }
                if entries.len() > LEAF && depth < MAX_PREFIX_BITS {
                    let mut inner = Box::<Inner>::default();
                    for entry in std::mem::take(entries) {
                        let _ = inner.insert(entry, depth);
                    }
                    *self = Self::Inner(inner);
                }
                true
            }
            Self::Inner(inner) => inner.insert(entry, depth),
        }
    }

    /// Says whether it was there.
    fn remove(&mut self, entry: Entry, depth: u8) -> bool {
        match self {
            Self::Leaf(entries) => entries.remove(&entry),
            Self::Inner(inner) => {
                let removed = inner.parts[digit(entry.0, depth)].remove(entry, depth + PART_BITS);
                if removed {
                    inner.all.take(entry.1);
                }
                if inner.all.count == 0 {
                    *self = Self::default();
                }
                removed
            }
        }
    }

    /// Calls `each` with the nodes that together have everything with this prefix and of which at most the edges have
    /// more, in the order of the keys, until it says no.
    fn visit(&self, prefix: Prefix, depth: u8, each: &mut impl FnMut(&Self) -> bool) -> bool {
        match self {
            Self::Inner(inner) if depth < prefix.len() => {
                let first = digit(prefix.bits(), depth);
                let last = digit(prefix.last().to_limbs()[0], depth);
                (first..=last).all(|part| inner.parts[part].visit(prefix, depth + PART_BITS, each))
            }
            _ => each(self),
        }
    }

    /// Of what is in this node, what has this prefix. An inner node has it as a whole.
    fn fingerprint(&self, prefix: Prefix) -> Fingerprint {
        match self {
            Self::Inner(inner) => inner.all,
            Self::Leaf(entries) => {
                let mut sum = Fingerprint::default();
                within(entries, prefix).for_each(|&(_, mark)| sum.add(mark));
                sum
            }
        }
    }

    fn collect(&self, prefix: Prefix, limit: usize, marks: &mut Vec<Entry>) {
        match self {
            Self::Leaf(entries) => {
                let room = limit.saturating_sub(marks.len());
                marks.extend(within(entries, prefix).take(room));
            }
            Self::Inner(inner) => {
                for part in &inner.parts {
                    if marks.len() >= limit {
                        return;
                    }
                    part.collect(prefix, limit, marks);
                }
            }
        }
    }
}

impl Inner {
    fn insert(&mut self, entry: Entry, depth: u8) -> bool {
        let is_new = self.parts[digit(entry.0, depth)].insert(entry, depth + PART_BITS);
        if is_new {
            self.all.add(entry.1);
        }
        is_new
    }
}

fn within(entries: &BTreeSet<Entry>, prefix: Prefix) -> btree_set::Range<'_, Entry> {
    let (first, last) = (prefix.bits(), prefix.last().to_limbs()[0]);
    entries.range((first, 0)..=(last, u128::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn key(bits: u64) -> Key {
        Key::from_limbs([bits, 1, 2, 3])
    }

    /// Keys that gather, so that the tree is deep in places.
    fn bits() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            (0u64..200).prop_map(|low| 0xabcd_ef01_2345_0000 | low),
            Just(7u64)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn tells_of_each_part_what_a_sorted_set_tells(
            steps in prop::collection::vec((bits(), 0u128..50, prop::bool::weighted(0.7)), 0..600),
            parts in prop::collection::vec((bits(), 0u8..=64), 1..40),
        ) {
            let (mut index, mut oracle) = (Index::default(), BTreeSet::new());
            for (bits, mark, insert) in steps {
                // A mark belongs to one key only.
                let mark = u128::from(bits) << 64 | mark;
                if insert {
                    index.insert(key(bits), mark);
                    oracle.insert((bits, mark));
                } else {
                    index.remove(key(bits), mark);
                    oracle.remove(&(bits, mark));
                }
            }
            for (bits, length) in parts {
                let prefix = Prefix::new(bits, length);
                let held: Vec<_> = oracle.iter().copied().filter(|&(bits, _)| prefix.contains(key(bits))).collect();
                let mut sum = Fingerprint::default();
                held.iter().for_each(|&(_, mark)| sum.add(mark));
                prop_assert_eq!(index.fingerprint(prefix), sum);
                prop_assert_eq!(index.marks(prefix, usize::MAX), held.clone());
                prop_assert_eq!(index.marks(prefix, 5), held.into_iter().take(5).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn ten_thousand_records_of_one_key_are_one_leaf_and_leave_nothing() {
        let mut index = Index::default();
        (0..10_000).for_each(|mark| index.insert(key(9), mark));
        assert_eq!(index.fingerprint(Prefix::new(9, 64)).count, 10_000);
        (0..10_000).for_each(|mark| index.remove(key(9), mark));
        assert_eq!(index.fingerprint(Prefix::ALL), Fingerprint::default());
        assert!(matches!(index.0, Node::Leaf(_)));
    }
}
