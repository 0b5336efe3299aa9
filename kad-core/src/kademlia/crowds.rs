//! The region of a key, where the nodes nearest to it may be a crowd (`query/region.rs`).

use alloc::vec::Vec;

use super::Kademlia;
use super::lookups::FAR_OF_WRITES;
use crate::query::Region;
use crate::slab::Handle;
use crate::{Address, Key, Now, Population};

/// Random points that are drawn to find one in a region; half of them or more are in it, but in the thinnest of parts.
const POINTS_TRIED: usize = 16;

impl<A: Address> Kademlia<A> {
    /// The surroundings of a key, as far as the size of the network is known.
    pub(super) fn region(&self, key: Key) -> Region {
        Region::new(key, self.config.k, self.population_for_crowds())
    }

    /// By how many nodes it is judged who is a crowd; `None` if nobody is.
    ///
    /// The samples of the estimate are up to a day old. In a network that has grown since, everybody would look like a
    /// crowd; but this node has seen its own surroundings fill. Whoever crowds around it makes it find fewer crowds,
    /// which gets him one writer or reader, not the key.
    pub(super) fn population_for_crowds(&self) -> Option<Population> {
        let population = self.population().filter(|_| self.config.widen)?;
        let seen = self.table.len() as u64 + 1;
        let around = self.guess().map_or(0, |guess| guess.nodes);
        Some(Population {
            high: population.high.max(around).max(seen),
            ..population
        })
    }

    /// Looks up a random point in a part of the region of the key that a query is for.
    pub(super) fn look_into(&mut self, now: Now, handle: Handle, bucket: u32) {
        let Some(region) = self
            .queries
            .get_mut(handle)
            .and_then(|query| query.region().copied())
        else {
            return;
        };
        self.stats.widened += u64::from(region.is_first_part());
        // The first part may reach beyond the region; a point outside would be wasted.
        let mut target = region.key();
        for _ in 0..POINTS_TRIED {
            let distance = self.rng.distance_in_bucket(bucket);
            target = region.key().at(distance);
            if distance <= region.radius() {
                break;
            }
        }
        let far = FAR_OF_WRITES.min(self.config.alpha);
        let lookup = self.lookup(now, target, (far, self.config.k), Vec::new());
        if let Some(query) = self.queries.get_mut(handle) {
            query.lookup = Some(lookup);
        }
    }
}
