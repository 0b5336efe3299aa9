//! What two nodes tell each other of their stores, so that only what differs has to travel.
//!
//! A *prefix* is a part of the key space: all keys that begin with some bits. What a store holds there is told by a
//! *fingerprint*, the number of records and the sum of their marks. Two nodes that hold the same have the same
//! fingerprint, and comparing costs them 20 bytes however much that is. Where fingerprints differ the part is cut into
//! sixteen, which are compared in turn, until so few records are left that their marks are told one by one (range-based
//! set reconciliation: Meyer 2023).
//!
//! A *mark* names one version of one record: 128 bits of the hash of its bytes. An immutable record that lives longer
//! in one store than in another has the same mark in both. Marks are added, not XORed, and counted: records that sum up
//! to somebody else's are harder to find that way, and whoever finds some hides nothing but what he stored himself.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::Key;

/// Bits by which a part is longer than the one that was cut into [`PARTS`].
pub const PART_BITS: u8 = 4;

/// Parts into which one is cut.
pub const PARTS: usize = 1 << PART_BITS;

/// The longest prefix in bits. Keys that have more in common are told of together: those of one key, and those that
/// somebody took much trouble to make.
pub const MAX_PREFIX_BITS: u8 = 64;

/// The most parts that one COMPARE asks about: as many as the widest region is made of, twice over.
pub const MAX_COMPARED: usize = 64;

/// A part of so few records is told mark by mark: in 512 bytes, which is hardly more than sixteen fingerprints.
pub const LISTED: usize = 64;

/// The most marks told of one part, however many records it has: those of one key with as many providers as a store
/// keeps by default, and as much again.
pub const MAX_LISTED: usize = 512;

/// The most marks in one answer, 16 KiB; parts beyond are answered with their fingerprints.
pub const MAX_MARKS: usize = 2048;

/// All keys that begin with some bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The bits, from the top; the others are zero.
    bits: u64,
    length: u8,
}

impl Prefix {
    /// All keys.
    pub const ALL: Self = Self { bits: 0, length: 0 };

    /// The keys that have the first `length` bits in common with `bits`; with more than [`MAX_PREFIX_BITS`] as with so
    /// many.
    #[must_use]
    pub const fn new(bits: u64, length: u8) -> Self {
        let length = if length > MAX_PREFIX_BITS {
            MAX_PREFIX_BITS
        } else {
            length
        };
        Self {
            bits: bits & Self::mask(length),
            length,
        }
    }

    /// The bits that count, from the top; the others are zero.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.bits
    }

    /// How many bits count, at most [`MAX_PREFIX_BITS`].
    #[must_use]
    pub const fn len(self) -> u8 {
        self.length
    }

    /// Whether it is the prefix of all keys.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.length == 0
    }

    /// Whether a key begins with it.
    #[must_use]
    pub const fn contains(self, key: Key) -> bool {
        key.to_limbs()[0] & Self::mask(self.length) == self.bits
    }

    /// The first of its keys.
    #[must_use]
    pub const fn first(self) -> Key {
        Key::from_limbs([self.bits, 0, 0, 0])
    }

    /// The last of its keys.
    #[must_use]
    pub const fn last(self) -> Key {
        Key::from_limbs([self.bits | !Self::mask(self.length), u64::MAX, u64::MAX, u64::MAX])
    }

    /// Its two halves; `None` where it is as long as one can be.
    #[must_use]
    pub const fn halves(self) -> Option<[Self; 2]> {
        if self.length == MAX_PREFIX_BITS {
            return None;
        }
        let length = self.length + 1;
        let one = self.bits | 1 << (MAX_PREFIX_BITS - length);
        Some([Self { length, ..self }, Self { bits: one, length }])
    }

    /// The sixteen parts of it in the order of their keys; `None` where it is too long to be cut.
    #[must_use]
    pub fn parts(self) -> Option<[Self; PARTS]> {
        let length = self.length + PART_BITS;
        (length <= MAX_PREFIX_BITS).then(|| {
            core::array::from_fn(|part| Self {
                bits: self.bits | (part as u64) << (MAX_PREFIX_BITS - length),
                length,
            })
        })
    }

    const fn mask(length: u8) -> u64 {
        match length {
            0 => 0,
            length => u64::MAX << (MAX_PREFIX_BITS - length),
        }
    }
}

/// How many records, and the sum of their marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Fingerprint {
    /// How many; it stays at the largest number that fits.
    pub count: u32,
    /// The sum of their marks, modulo 2^128.
    pub sum: u128,
}

impl Fingerprint {
    /// One more record.
    pub const fn add(&mut self, mark: u128) {
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.wrapping_add(mark);
    }

    /// One record less.
    pub const fn take(&mut self, mark: u128) {
        self.count = self.count.saturating_sub(1);
        self.sum = self.sum.wrapping_sub(mark);
    }

    /// Those of another part as well.
    pub const fn merge(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// The form in which a mark travels: its upper 64 bits.
#[must_use]
pub const fn short(mark: u128) -> u64 {
    (mark >> 64) as u64
}

/// How what a node holds in a part differs from what it was told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Not at all.
    Same,
    /// It holds too much to tell; so much in each of the sixteen [`parts`](Prefix::parts).
    Parts(Box<[Fingerprint; PARTS]>),
    /// It holds what has these marks in their [`short`] form, ascending, at most [`MAX_LISTED`].
    Listed(Vec<u64>),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_prefix_of_nothing_has_all_keys_and_one_of_64_bits_cannot_be_cut() {
        assert!(Prefix::ALL.contains(Key::from_limbs([u64::MAX; 4])));
        assert_eq!(Prefix::ALL.last(), Key::from_limbs([u64::MAX; 4]));
        let one = Prefix::new(7, 200);
        assert_eq!((one.len(), one.halves(), one.parts()), (64, None, None));
        assert!(one.contains(Key::from_limbs([7, 9, 9, 9])) && !one.contains(Key::from_limbs([6, 9, 9, 9])));
        assert_eq!(Prefix::new(0, 61).parts(), None);
    }

    proptest! {
        #[test]
        fn a_key_lies_in_one_half_and_in_one_part(bits: u64, length in 0u8..=60, key: u64) {
            let prefix = Prefix::new(bits, length);
            let key = Key::from_limbs([prefix.bits() | key & !Prefix::mask(length), 1, 2, 3]);
            prop_assert!(prefix.contains(key) && prefix.first() <= key && key <= prefix.last());
            let halves = prefix.halves().expect("it can be halved");
            prop_assert_eq!(halves.iter().filter(|half| half.contains(key)).count(), 1);
            let parts = prefix.parts().expect("it can be cut");
            prop_assert_eq!(parts.iter().filter(|part| part.contains(key)).count(), 1);
            prop_assert!(parts.is_sorted());
        }

        #[test]
        fn what_was_added_and_taken_leaves_no_trace(marks: Vec<u128>, others: Vec<u128>) {
            let mut all = Fingerprint::default();
            marks.iter().chain(&others).for_each(|&mark| all.add(mark));
            others.iter().rev().for_each(|&mark| all.take(mark));
            let mut rest = Fingerprint::default();
            marks.iter().for_each(|&mark| rest.add(mark));
            prop_assert_eq!(all, rest);
        }
    }
}
