//! Many small lists in one array.

use alloc::vec::Vec;
use core::ops::Range;

use crate::ID_BITS;

/// Lists for the buckets 0 to 255 that have something in them, one after another in one array.
///
/// A bitmap says which exist; the place of a bucket's bounds among all is the number of bits set below its own. An
/// empty one owns no memory, and a full one none that it does not use: growth is by a few places, not by doubling.
#[derive(Debug, Clone)]
pub(super) struct Buckets<T> {
    exists: [u64; 4],
    /// Where each existing bucket ends, in the order of their indexes.
    ends: Vec<u16>,
    items: Vec<T>,
}

/// Places by which an array that is full grows.
const GROWTH: usize = 8;

/// Items of all buckets together, because their places are counted in 16 bits. Two hundred times what a network of a
/// million nodes fills with buckets of 20.
pub(super) const MAX_ITEMS: usize = 65_535;

impl<T> Buckets<T> {
    pub(super) const fn new() -> Self {
        Self {
            exists: [0; 4],
            ends: Vec::new(),
            items: Vec::new(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing can be inserted any more.
    pub(super) const fn is_full(&self) -> bool {
        self.items.len() >= MAX_ITEMS
    }

    pub(super) fn iter(&self) -> core::slice::Iter<'_, T> {
        self.items.iter()
    }

    pub(super) fn at(&self, place: usize) -> &T {
        &self.items[place]
    }

    pub(super) const fn exists(&self, index: u32) -> bool {
        self.exists[(index / 64) as usize] >> (index % 64) & 1 == 1
    }

    /// Bit `i % 64` of word `i / 64` says whether bucket `i` exists.
    pub(super) const fn bitmap(&self) -> [u64; 4] {
        self.exists
    }

    pub(super) fn deepest(&self) -> Option<u32> {
        let word = self.exists.iter().rposition(|&bits| bits != 0)?;
        Some(64 * word as u32 + 63 - self.exists[word].leading_zeros())
    }

    pub(super) fn bucket(&self, index: u32) -> &[T] {
        &self.items[self.range(index)]
    }

    pub(super) fn bucket_mut(&mut self, index: u32) -> &mut [T] {
        let range = self.range(index);
        &mut self.items[range]
    }

    /// Where the items of a bucket lie; an empty range for one that does not exist.
    pub(super) fn range(&self, index: u32) -> Range<usize> {
        let rank = self.rank(index);
        let start = rank
            .checked_sub(1)
            .map_or(0, |before| usize::from(self.ends[before]));
        match self.exists(index) {
            true => start..usize::from(self.ends[rank]),
            false => start..start,
        }
    }

    pub(super) fn push(&mut self, index: u32, item: T) {
        self.insert_at(index, self.range(index).end, item);
    }

    /// Inserts behind the first items for which `before` holds.
    pub(super) fn insert_sorted(&mut self, index: u32, item: T, before: impl FnMut(&T) -> bool) {
        let place = self.range(index).start + self.bucket(index).partition_point(before);
        self.insert_at(index, place, item);
    }

    pub(super) fn remove_first(&mut self, index: u32) {
        let range = self.range(index);
        if !range.is_empty() {
            self.remove_at(index, range.start);
        }
    }

    /// Takes out the item at a place within a bucket and puts another one at the bucket's end.
    pub(super) fn replace(&mut self, index: u32, place: usize, item: T) -> Option<T> {
        let bucket = self.bucket_mut(index).get_mut(place..)?;
        bucket.rotate_left(1);
        bucket.last_mut().map(|last| core::mem::replace(last, item))
    }

    /// Removes the first item for which `is` holds.
    pub(super) fn take_where(&mut self, index: u32, is: impl FnMut(&T) -> bool) -> Option<T> {
        let place = self.bucket(index).iter().position(is)?;
        Some(self.remove_at(index, self.range(index).start + place))
    }

    fn insert_at(&mut self, index: u32, place: usize, item: T) {
        debug_assert!(index < ID_BITS);
        let rank = self.rank(index);
        if !self.exists(index) {
            let end = self.range(index).end as u16;
            if self.ends.len() == self.ends.capacity() {
                self.ends.reserve_exact(GROWTH);
            }
            self.ends.insert(rank, end);
            self.exists[(index / 64) as usize] |= 1 << (index % 64);
        }
        if self.items.len() == self.items.capacity() {
            self.items.reserve_exact(GROWTH);
        }
        self.items.insert(place, item);
        self.ends[rank..].iter_mut().for_each(|end| *end += 1);
    }

    fn remove_at(&mut self, index: u32, place: usize) -> T {
        let rank = self.rank(index);
        let item = self.items.remove(place);
        self.ends[rank..].iter_mut().for_each(|end| *end -= 1);
        if self.range(index).is_empty() {
            self.ends.remove(rank);
            self.exists[(index / 64) as usize] &= !(1 << (index % 64));
        }
        item
    }

    /// How many buckets exist before this one.
    const fn rank(&self, index: u32) -> usize {
        let mut rank = 0;
        let mut word = 0;
        while word < (index / 64) as usize {
            rank += self.exists[word].count_ones();
            word += 1;
        }
        let below = (1u64 << (index % 64)) - 1;
        (rank + (self.exists[word] & below).count_ones()) as usize
    }
}
