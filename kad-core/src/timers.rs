//! Deadlines in a binary heap that knows where each of them is, so that one can be moved or taken out.
//!
//! Each owner (a request in flight, a query, the maintenance) has at most one deadline. Without removal, deadlines of
//! requests long answered would wake the driver for nothing, thousands a second.

use alloc::vec::Vec;

use crate::{Duration, Instant};

/// Who a deadline belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// The request in flight at this place.
    Rpc(u32),
    /// The query at this place.
    Query(u32),
    /// Refresh, replication, expiry.
    Maintenance,
}

/// At most one deadline for each owner. As many places as there were owners at once since only the maintenance had one,
/// which is when the memory for the others is given back.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: Vec<(Instant, Owner)>,
    rpcs: Vec<u32>,
    queries: Vec<u32>,
    maintenance: Option<u32>,
}

const NOWHERE: u32 = u32::MAX;

impl Timers {
    /// The earliest deadline.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.heap.first().map(|&(at, _)| at)
    }

    /// Sets the deadline of an owner in the place of the one it had. The end of time never comes: nothing could be
    /// later.
    pub(crate) fn set(&mut self, owner: Owner, at: Instant) {
        if at == Instant::MAX {
            return self.clear(owner);
        }
        let index = match self.place(owner) {
            Some(index) => {
                self.heap[index].0 = at;
                index
            }
            None => {
                self.heap.push((at, owner));
                self.heap.len() - 1
            }
        };
        let index = self.sift_up(index);
        self.sift_down(index);
    }

    /// Takes the deadline of an owner out, if it has one.
    pub(crate) fn clear(&mut self, owner: Owner) {
        if let Some(index) = self.place(owner) {
            self.take(index);
        }
    }

    /// Takes the earliest deadline out if it is not after `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Owner> {
        let &(at, owner) = self.heap.first()?;
        (at <= now).then(|| {
            self.take(0);
            owner
        })
    }

    /// Moves a first deadline that is not after `now` just past it.
    pub(crate) fn postpone(&mut self, now: Instant) {
        while let Some(&(at, owner)) = self.heap.first()
            && at <= now
        {
            self.set(owner, now + Duration::from_micros(1));
        }
    }

    fn take(&mut self, index: usize) {
        let (_, owner) = self.heap.swap_remove(index);
        self.set_place(owner, NOWHERE);
        if index < self.heap.len() {
            let index = self.sift_up(index);
            self.sift_down(index);
        }
        if matches!(self.heap[..], [] | [(_, Owner::Maintenance)]) {
            (self.rpcs, self.queries) = (Vec::new(), Vec::new());
            self.heap.shrink_to(1);
        }
    }

    fn place(&self, owner: Owner) -> Option<usize> {
        let place = match owner {
            Owner::Rpc(slot) => self.rpcs.get(slot as usize).copied(),
            Owner::Query(slot) => self.queries.get(slot as usize).copied(),
            Owner::Maintenance => self.maintenance,
        };
        place
            .filter(|&place| place != NOWHERE)
            .map(|place| place as usize)
    }

    fn set_place(&mut self, owner: Owner, place: u32) {
        let (places, slot) = match owner {
            Owner::Rpc(slot) => (&mut self.rpcs, slot as usize),
            Owner::Query(slot) => (&mut self.queries, slot as usize),
            Owner::Maintenance => {
                self.maintenance = Some(place);
                return;
            }
        };
        if places.len() <= slot {
            places.resize(slot + 1, NOWHERE);
        }
        places[slot] = place;
    }

    fn sift_up(&mut self, mut index: usize) -> usize {
        while index > 0 {
            let parent = (index - 1) / 2;
            if self.heap[parent] <= self.heap[index] {
                break;
            }
            self.swap(parent, index);
            index = parent;
        }
        self.set_place(self.heap[index].1, index as u32);
        index
    }

    fn sift_down(&mut self, mut index: usize) {
        loop {
            let children = [2 * index + 1, 2 * index + 2]
                .into_iter()
                .filter(|&child| child < self.heap.len());
            match children.min_by_key(|&child| self.heap[child]) {
                Some(child) if self.heap[child] < self.heap[index] => {
                    self.swap(child, index);
                    index = child;
                }
                _ => break,
            }
        }
        self.set_place(self.heap[index].1, index as u32);
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.set_place(self.heap[a].1, a as u32);
        self.set_place(self.heap[b].1, b as u32);
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn at_the_end_of_time_nothing_is_due() {
        let mut timers = Timers::default();
        timers.set(Owner::Maintenance, Instant::from_micros(5));
        timers.set(Owner::Rpc(1), Instant::MAX);
        timers.postpone(Instant::MAX);
        assert_eq!(timers.first(), None);
    }

    #[test]
    fn an_idle_node_has_memory_for_one_deadline() {
        let mut timers = Timers::default();
        timers.set(Owner::Maintenance, Instant::from_micros(5));
        for slot in 0..50 {
            timers.set(Owner::Rpc(slot), Instant::from_micros(9));
            timers.set(Owner::Query(slot), Instant::from_micros(9));
        }
        for slot in 0..50 {
            timers.clear(Owner::Query(slot));
            timers.clear(Owner::Rpc(slot));
        }
        let places = (
            timers.heap.capacity(),
            timers.rpcs.capacity(),
            timers.queries.capacity(),
        );
        assert_eq!(places, (1, 0, 0));
        assert_eq!(timers.pop_due(Instant::from_micros(5)), Some(Owner::Maintenance));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn behaves_like_a_sorted_map(actions in prop::collection::vec((0u8..3, 0u32..12, 0u64..50), 1..80)) {
            let mut timers = Timers::default();
            let mut model: BTreeMap<Owner, Instant> = BTreeMap::new();
            for (action, slot, at) in actions {
                let owner = match slot {
                    0 => Owner::Maintenance,
                    slot if slot % 2 == 0 => Owner::Rpc(slot / 2),
                    slot => Owner::Query(slot / 2),
                };
                let at = Instant::from_micros(at);
                match action {
                    0 => {
                        timers.set(owner, at);
                        model.insert(owner, at);
                    }
                    1 => {
                        timers.clear(owner);
                        model.remove(&owner);
                    }
                    _ => {
                        let due = model.iter().map(|(&owner, &due)| (due, owner)).min().filter(|&(due, _)| due <= at);
                        prop_assert_eq!(timers.pop_due(at), due.map(|(_, owner)| owner));
                        due.map(|(_, owner)| model.remove(&owner));
                    }
                }
                prop_assert_eq!(timers.first(), model.values().min().copied());
            }
        }
    }
}
