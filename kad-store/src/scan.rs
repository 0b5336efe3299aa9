//! Paging through a store in the order of the slots, or through those of its records that are due.
//!
//! The position is a slot, so a page never depends on what a writer did to earlier ones. The price: the due index is
//! sorted by time, and a page wants slots. [`Scan::choose`] therefore walks both ways in step, along the slots (keeping
//! those that are due) and along the due index (keeping the first by slot), and takes the answer of whichever ends
//! first. If d of n records are due, spread evenly, a page of p costs about min(d, p·n/d) steps: never more than
//! √(p·n), and nothing at all if nothing is due.

use std::collections::BTreeSet;
use std::ops::Bound;

use kad_core::{Key, Kind, NodeId, Slot, UnixTime};

use crate::{StoreError, StoredRecord};

/// The most records of one page; with less than 100 bytes of position each, more would only make answers late.
pub const MAX_PAGE_RECORDS: usize = 1024;

/// A page ends with the record that brings it to so many bytes: 64 of the largest values.
pub const MAX_PAGE_BYTES: usize = 4 << 20;

/// Which records to read: those from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// The first slot.
    pub first: Slot,
    /// The last slot. Before `first`, nothing matches.
    pub last: Slot,
    /// Go on behind this slot: [`Page::next`] of the page before.
    pub after: Option<Slot>,
    /// Only records that are due at this time or before.
    pub due_by: Option<UnixTime>,
    /// The most records of the page; 0 counts as 1, and no page has more than [`MAX_PAGE_RECORDS`].
    pub limit: usize,
}

/// An answer to a [`Scan`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The records, in the order of their slots. May be empty although there are more.
    pub records: Vec<StoredRecord>,
    /// Slots between them whose records are damaged: [`RecordStore::discard`](crate::RecordStore::discard) them.
    pub damaged: Vec<Slot>,
    /// Where to go on: the [`Scan::after`] of the next page. `None` says that the scan is at its end.
    pub next: Option<Slot>,
}

/// The slots of a page, before their records are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    slots: Vec<Slot>,
    more: bool,
}

const FIRST: NodeId = NodeId::from_limbs([0; 4]);
const LAST: NodeId = NodeId::from_limbs([u64::MAX; 4]);

/// No slot is behind this one.
pub(crate) const LAST_SLOT: Slot = slot(Key::from_limbs([u64::MAX; 4]), Kind::Provider, LAST);

impl Scan {
    /// Everything.
    #[must_use]
    pub const fn all(limit: usize) -> Self {
        Self::keys(Key::from_limbs([0; 4]), Key::from_limbs([u64::MAX; 4]), limit)
    }

    /// All records of the keys from `first` to `last`, both included.
    #[must_use]
    pub const fn keys(first: Key, last: Key, limit: usize) -> Self {
        Self {
            first: slot(first, Kind::Immutable, FIRST),
            last: slot(last, Kind::Provider, LAST),
            after: None,
            due_by: None,
            limit,
        }
    }

    /// The records of one kind under one key: the providers of the key, behind `after_provider` if that is given, or
    /// the one record that the other kinds can have.
    #[must_use]
    pub fn slots_of(key: Key, kind: Kind, after_provider: Option<NodeId>, limit: usize) -> Self {
        Self {
            first: slot(key, kind, FIRST),
            last: slot(key, kind, LAST),
            after: after_provider.map(|provider| slot(key, kind, provider)),
            due_by: None,
            limit,
        }
    }

    /// The same, but only what is due at `time` or before.
    #[must_use]
    pub const fn due_by(mut self, time: UnixTime) -> Self {
        self.due_by = Some(time);
        self
    }

    /// The same, from behind a slot.
    #[must_use]
    pub const fn after(mut self, slot: Slot) -> Self {
        self.after = Some(slot);
        self
    }

    /// Where the page begins and ends, or `None` if nothing can match. The bounds are in order, so they are safe for
    /// `BTreeMap::range`.
    #[must_use]
    pub fn bounds(&self) -> Option<(Bound<Slot>, Bound<Slot>)> {
        match self.after {
            Some(after) if after >= self.first => {
                (after < self.last).then_some((Bound::Excluded(after), Bound::Included(self.last)))
            }
            _ => {
                (self.first <= self.last).then_some((Bound::Included(self.first), Bound::Included(self.last)))
            }
        }
    }

    /// The slots of the page.
    ///
    /// `by_slot` gives the slots within [`bounds`](Self::bounds) with their due times, in order; `by_due` gives all
    /// slots that are due by [`due_by`](Self::due_by), in any order. Without a due time `by_due` is not asked.
    ///
    /// # Errors
    /// The first error of either walk.
    pub fn choose(
        &self,
        mut by_slot: impl Iterator<Item = Result<(Slot, UnixTime), StoreError>>,
        mut by_due: impl Iterator<Item = Result<Slot, StoreError>>,
    ) -> Result<Chosen, StoreError> {
        let limit = self.limit.clamp(1, MAX_PAGE_RECORDS);
        let behind = |slot: &Slot| self.after.is_none_or(|after| *slot > after);
        let mut along_slots = Vec::new();
        let mut along_due = BTreeSet::new();
        loop {
            match by_slot.next().transpose()? {
                Some((slot, due)) if self.due_by.is_none_or(|due_by| due <= due_by) => along_slots.push(slot),
                Some(_) => {}
                None => return Ok(Chosen::of(along_slots, limit)),
            }
            if along_slots.len() > limit {
                return Ok(Chosen::of(along_slots, limit));
            }
            if self.due_by.is_none() {
                continue;
            }
            match by_due.next().transpose()? {
                Some(slot) if self.first <= slot && slot <= self.last && behind(&slot) => {
                    along_due.insert(slot);
                    if along_due.len() > limit + 1 {
                        along_due.pop_last();
                    }
                }
                Some(_) => {}
                None => return Ok(Chosen::of(along_due.into_iter().collect(), limit)),
            }
        }
    }
}

impl Chosen {
    /// One slot more than the limit was looked for, to know whether there are more.
    fn of(mut slots: Vec<Slot>, limit: usize) -> Self {
        let more = slots.len() > limit;
        slots.truncate(limit);
        Self { slots, more }
    }

    /// Reads the records; `read` gives `None` for one that cannot be read any more.
    ///
    /// # Errors
    /// The first error of `read`.
    pub fn read(
        self,
        mut read: impl FnMut(&Slot) -> Result<Option<StoredRecord>, StoreError>,
    ) -> Result<Page, StoreError> {
        let (mut records, mut damaged) = (Vec::with_capacity(self.slots.len()), Vec::new());
        let mut bytes = 0;
        for (i, slot) in self.slots.iter().enumerate() {
            match read(slot)? {
                Some(record) => {
                    bytes += record.raw.as_bytes().len();
                    records.push(record);
                }
                None => damaged.push(*slot),
            }
            let more = self.more || i + 1 < self.slots.len();
            if bytes >= MAX_PAGE_BYTES || i + 1 == self.slots.len() {
                let next = more.then_some(*slot);
                return Ok(Page {
                    records,
                    damaged,
                    next,
                });
            }
        }
        Ok(Page {
            records,
            damaged,
            next: None,
        })
    }
}

const fn slot(key: Key, kind: Kind, provider: NodeId) -> Slot {
    Slot { key, kind, provider }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(n: u64) -> Slot {
        slot(Key::from_limbs([n, 0, 0, 0]), Kind::Immutable, FIRST)
    }

    /// Slots 0..n of which those that `due` names are due; counts the steps of both walks together.
    fn chosen(n: u64, due: impl Fn(u64) -> bool + Copy, scan: Scan) -> (Chosen, usize) {
        let steps = std::cell::Cell::new(0);
        let count = || steps.set(steps.get() + 1);
        let all = (0..n).map(|i| (numbered(i), UnixTime::from_secs(u64::from(!due(i)) * 100)));
        let by_slot = all
            .filter(|(slot, _)| scan.after.is_none_or(|after| *slot > after))
            .map(Ok)
            .inspect(|_| count());
        let by_due = (0..n)
            .rev()
            .filter(|&i| due(i))
            .map(numbered)
            .map(Ok)
            .inspect(|_| count());
        let chosen = scan.choose(by_slot, by_due).unwrap();
        (chosen, steps.get())
    }

    #[test]
    fn a_page_of_due_records_costs_less_than_the_root_says() {
        let scan = Scan::all(10).due_by(UnixTime::from_secs(50));
        for spacing in [1, 10, 100, 1000, 10_000] {
            let (page, steps) = chosen(100_000, |i| i % spacing == 0, scan);
            assert_eq!(
                page.slots,
                (0..10).map(|i| numbered(i * spacing)).collect::<Vec<_>>()
            );
            // Twice the root of 11 records (one more is looked for) times 100,000 held.
            assert!(steps <= 2 * 1100, "{steps} steps with one due in {spacing}");
        }
        let (page, steps) = chosen(100_000, |_| false, scan);
        assert_eq!((page.slots.len(), page.more), (0, false));
        assert!(steps <= 1, "{steps} steps although nothing is due");
    }

    #[test]
    fn both_walks_choose_the_same_slots() {
        for spacing in [1, 2, 3, 7, 50, 99, 100] {
            let due = |i| i % spacing == 0;
            let mut scan = Scan::all(4).due_by(UnixTime::from_secs(50));
            let mut seen = Vec::new();
            loop {
                let (page, _) = chosen(100, due, scan);
                seen.extend(page.slots.iter().copied());
                match page.slots.last() {
                    Some(&last) if page.more => scan = scan.after(last),
                    _ => break,
                }
            }
            assert_eq!(
                seen,
                (0..100).filter(|&i| due(i)).map(numbered).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn bounds_that_cross_match_nothing() {
        let (low, high) = (numbered(1).key, numbered(2).key);
        assert_eq!(Scan::keys(high, low, 1).bounds(), None);
        let whole = Scan::keys(low, high, 1);
        assert_eq!(whole.after(whole.last).bounds(), None);
        assert_eq!(
            whole.after(numbered(0)).bounds(),
            whole.bounds(),
            "before the range"
        );
    }
}
