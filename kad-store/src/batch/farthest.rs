//! The records of a store from the one that is farthest from the node to the nearest, without an index of distances.
//!
//! Slots are in the order of keys. Of keys that begin alike, those with the other next bit than the node's id are all
//! farther from it than those with the same one, so a descent that always takes the farther half first meets records in
//! the order of their distances. The two ends of a range tell where it branches, so it takes two looks a branch however
//! long the common beginning is: some forty for the first record of a million.

use std::ops::ControlFlow;

use kad_core::{Distance, Key, Kind, NodeId, Slot};

use super::{Batch, Committed, Listing, Order};
use crate::StoreError;
use crate::scan::LAST_SLOT;

/// The most slots that one put looks at to find what it can take the place of: milliseconds of a file, and enough to
/// get past a few hundred records that cannot be given up.
pub const MAX_LOOKED: usize = 1024;

/// The most slots looked at for a sender that may take the place of its own records only: enough for some ten of the
/// farthest. Whoever holds more than its share must not make each of its puts a long walk.
pub const MAX_LOOKED_FOR_OWN_PLACE: usize = 64;

/// Looks that are left. Those at what the batch has removed already are counted apart: they are of no use, and a flush
/// does away with them.
pub(super) struct Looks {
    left: usize,
    vain: usize,
}

impl Looks {
    /// So many, and [`MAX_LOOKED`] at what was removed.
    pub(super) const fn new(most: usize) -> Self {
        Self {
            left: most,
            vain: MAX_LOOKED,
        }
    }

    /// Whether what the batch has removed was in the way.
    pub(super) const fn are_lost(&self) -> bool {
        self.vain == 0
    }

    const fn are_over(&self) -> bool {
        self.left == 0 || self.vain == 0
    }

    /// Whether there was one left.
    const fn take(&mut self) -> bool {
        take_one(&mut self.left)
    }

    /// Whether there was one left for what was removed.
    const fn take_in_vain(&mut self) -> bool {
        take_one(&mut self.vain)
    }
}

const fn take_one(looks: &mut usize) -> bool {
    let is_left = *looks > 0;
    *looks = looks.saturating_sub(1);
    is_left
}

impl Batch {
    /// Calls `each` with the records from the one farthest from `around` on, of one key those that end first before
    /// others, until it breaks off or no looks are left. Parts that hold only own records are left out.
    pub(super) fn farthest_first(
        &self,
        base: &impl Committed,
        around: NodeId,
        looks: &mut Looks,
        each: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        for part in self.ledger.parts_farthest_first() {
            let mut ranges = vec![part];
            while let Some(range) = ranges.pop() {
                let first = self.end_of(base, range, Order::Up, looks)?;
                let last = self.end_of(base, range, Order::Down, looks)?;
                if looks.are_over() {
                    return Ok(());
                }
                let (Some(first), Some(last)) = (first, last) else {
                    continue;
                };
                if first == last {
                    for (slot, listing) in self.records_of(base, first, looks)? {
                        if each(slot, listing).is_break() {
                            return Ok(());
                        }
                    }
                    continue;
                }
                let branch = first.distance(last).leading_zeros();
                let (low, high) = ((first, cut(last, branch, false)), (cut(last, branch, true), last));
                let is_high = bit(around.to_key(), branch);
                ranges.extend(if is_high { [high, low] } else { [low, high] });
            }
        }
        Ok(())
    }

    /// The first or the last key of a range.
    fn end_of(
        &self,
        base: &impl Committed,
        (low, high): (Key, Key),
        order: Order,
        looks: &mut Looks,
    ) -> Result<Option<Key>, StoreError> {
        let (first, last) = (first_of(low), last_of(high));
        let mut end = None;
        base.records(&first, &last, order, &mut |slot, _| {
            if self.is_removed(&slot) {
                return match looks.take_in_vain() {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                };
            }
            if looks.take() {
                end = Some(slot.key);
            }
            ControlFlow::Break(())
        })?;
        let mut changed = self.changes.range(first..=last);
        loop {
            let next = match order {
                Order::Up => changed.next(),
                Order::Down => changed.next_back(),
            };
            match next {
                Some((slot, changed)) if changed.change.record().is_some() => {
                    return Ok(match (order, end) {
                        (_, None) => Some(slot.key),
                        (Order::Up, Some(end)) => Some(end.min(slot.key)),
                        (Order::Down, Some(end)) => Some(end.max(slot.key)),
                    });
                }
                Some(_) if looks.take_in_vain() => {}
                Some(_) | None => return Ok(end),
            }
        }
    }

    /// Whether the batch has removed what was in a slot.
    fn is_removed(&self, slot: &Slot) -> bool {
        let changed = self.changes.get(slot);
        changed.is_some_and(|changed| changed.change.record().is_none())
    }

    /// The records of a key, those that end first before others. Too few if there are no looks left.
    fn records_of(
        &self,
        base: &impl Committed,
        key: Key,
        looks: &mut Looks,
    ) -> Result<Vec<(Slot, Listing)>, StoreError> {
        let (first, last) = (first_of(key), last_of(key));
        let mut records = Vec::new();
        base.records(&first, &last, Order::Up, &mut |slot, listing| {
            let is_left = match self.changes.get(&slot) {
                // It is among the changes.
                Some(changed) if changed.change.record().is_some() => looks.take(),
                Some(_) => looks.take_in_vain(),
                None => {
                    let is_left = looks.take();
                    records.extend(is_left.then_some((slot, listing)));
                    is_left
                }
            };
            match is_left {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        for (slot, changed) in self.changes.range(first..=last) {
            let record = changed.change.record();
            let is_left = match record {
                Some(_) => looks.take(),
                None => looks.take_in_vain(),
            };
            if !is_left {
                break;
            }
            records.extend(record.map(|record| (*slot, record.into())));
        }
        records.sort_unstable_by_key(|(slot, listing)| (listing.expiry, *slot));
        Ok(records)
    }
}

const fn first_of(key: Key) -> Slot {
    Slot {
        key,
        kind: Kind::Immutable,
        provider: NodeId::from_limbs([0; 4]),
    }
}

const fn last_of(key: Key) -> Slot {
    Slot { key, ..LAST_SLOT }
}

/// The bit at an index, counting from the most significant one.
const fn bit(key: Key, index: u32) -> bool {
    Distance::from_limbs(key.to_limbs()).bit(index)
}

/// The end of the half with this bit at `index`, among the keys that begin as `key` up to there: the first key of the
/// half with the bit set, the last one of the other.
const fn cut(key: Key, index: u32, is_set: bool) -> Key {
    let mut limbs = key.to_limbs();
    let (limb, shift) = ((index / 64) as usize, 63 - index % 64);
    // From this bit on: a one and zeros, or a zero and ones.
    let tail = u64::MAX >> (63 - shift);
    let top = 1 << shift;
    limbs[limb] = limbs[limb] & !tail | if is_set { top } else { tail & !top };
    let mut rest = limb + 1;
    while rest < limbs.len() {
        limbs[rest] = if is_set { 0 } else { u64::MAX };
        rest += 1;
    }
    Key::from_limbs(limbs)
}

#[cfg(test)]
mod tests {
    use kad_core::{Source, UnixTime};
    use proptest::prelude::*;

    use super::super::Ledger;
    use super::*;
    use crate::Limits;

    /// Slots with their listings, as a last flush.
    struct Shelf(std::collections::BTreeMap<Slot, Listing>);

    impl Committed for Shelf {
        fn held(&self, _: &Slot) -> Result<Option<super::super::Held>, StoreError> {
            Ok(None)
        }

        fn records(
            &self,
            first: &Slot,
            last: &Slot,
            order: Order,
            each: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
        ) -> Result<(), StoreError> {
            let mut range = self
                .0
                .range(first..=last)
                .map(|(slot, listing)| (*slot, *listing));
            let _ = match order {
                Order::Up => range.try_for_each(|(slot, listing)| each(slot, listing)),
                Order::Down => range.rev().try_for_each(|(slot, listing)| each(slot, listing)),
            };
            Ok(())
        }

        fn expired(
            &self,
            _: UnixTime,
            _: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
        ) -> Result<(), StoreError> {
            Ok(())
        }
    }

    /// Keys that gather, so that the common beginnings are long in places.
    fn key() -> impl Strategy<Value = Key> {
        let limb = || prop_oneof![any::<u64>(), 0..3u64, Just(u64::MAX)];
        [limb(), limb(), limb(), limb()].prop_map(Key::from_limbs)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn records_come_as_sorting_by_distance_and_end_says(
            around in key(),
            held in prop::collection::vec((key(), 0..4u64, 0..5u64), 0..60),
        ) {
            let around = around.to_node_id();
            let mut ledger = Ledger::new(Some(around));
            let mut shelf = Shelf(std::collections::BTreeMap::new());
            for (key, provider, end) in held {
                let listing = Listing {
                    expiry: UnixTime::from_secs(end),
                    bytes: 1,
                    own: false,
                    source: Source::UNKNOWN,
                    is_tombstone: false,
                };
                let slot = Slot { key, kind: Kind::Provider, provider: NodeId::from_limbs([provider, 0, 0, 0]) };
                if shelf.0.insert(slot, listing).is_none() {
                    ledger.add(key, &listing);
                }
            }
            let batch = Batch::new(Limits::default(), ledger);
            let mut met = Vec::new();
            let mut each = |slot: Slot, _| {
                met.push(slot);
                ControlFlow::Continue(())
            };
            batch.farthest_first(&shelf, around, &mut Looks::new(MAX_LOOKED), &mut each).unwrap();
            let mut oracle: Vec<_> = shelf.0.iter().collect();
            let near = |slot: &Slot| std::cmp::Reverse(around.distance(slot.key));
            oracle.sort_by_key(|(slot, listing)| (near(slot), listing.expiry, **slot));
            prop_assert_eq!(met, oracle.into_iter().map(|(slot, _)| *slot).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_farthest_of_a_hundred_thousand_is_found_in_some_fifty_looks() {
        let around = NodeId::from_limbs([7 << 60, 1, 2, 3]);
        let mut ledger = Ledger::new(Some(around));
        let mut shelf = Shelf(std::collections::BTreeMap::new());
        let mut bits = 1u64;
        for _ in 0..100_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = Key::from_limbs([bits, 0, 0, 0]);
            let listing = Listing {
                expiry: UnixTime::from_secs(1),
                bytes: 1,
                own: false,
                source: Source::UNKNOWN,
                is_tombstone: false,
            };
            ledger.add(key, &listing);
            shelf.0.insert(first_of(key), listing);
        }
        let looks = std::cell::Cell::new(0);
        struct Counting<'a>(&'a Shelf, &'a std::cell::Cell<usize>);
        impl Committed for Counting<'_> {
            fn held(&self, slot: &Slot) -> Result<Option<super::super::Held>, StoreError> {
                self.0.held(slot)
            }
            fn records(
                &self,
                first: &Slot,
                last: &Slot,
                order: Order,
                each: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
            ) -> Result<(), StoreError> {
                self.0.records(first, last, order, &mut |slot, listing| {
                    self.1.set(self.1.get() + 1);
                    each(slot, listing)
                })
            }
            fn expired(
                &self,
                _: UnixTime,
                _: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
            ) -> Result<(), StoreError> {
                Ok(())
            }
        }
        let batch = Batch::new(Limits::default(), ledger);
        let mut farthest = None;
        let mut each = |slot: Slot, _| {
            farthest = Some(slot);
            ControlFlow::Break(())
        };
        batch
            .farthest_first(
                &Counting(&shelf, &looks),
                around,
                &mut Looks::new(MAX_LOOKED),
                &mut each,
            )
            .unwrap();
        let right = shelf
            .0
            .keys()
            .max_by_key(|slot| around.distance(slot.key))
            .copied();
        assert_eq!(farthest, right);
        assert!(looks.get() < 50, "{} looks", looks.get());
    }
}
