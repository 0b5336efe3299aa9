//! Beyond the k nearest: what is done where made-up nodes crowd around a key.
//!
//! Making ids nearer to a key than every honest node costs an attacker next to nothing, and k of them are all that a
//! lookup of the key finds: they take the record and forget it (Sridhar et al. 2024 hid 99 % of keys in IPFS with 45
//! nodes each). But real nodes lie evenly in the space, and by the estimate of the network's size it is known how
//! evenly. Nodes that lie far closer together than chance explains are a *crowd*, and the k nearest are not to be
//! relied on.
//!
//! Then the *region* counts: the part of the space around the key in which k nodes are expected, whoever else is there.
//! It cannot be found by looking up the key, because the honest nodes around tell of the nearest, which is the crowd.
//! So points of the region that are random, and that the attacker could not know, are looked up instead, one in each of
//! the parts into which the bits of the key divide the region: its far half, the far half of what is left, and so on.
//! Whoever is found there is told as well, or asked.
//!
//! ```text
//!   distance from the key   0 ▏crowd ▏ 4th ▏  3rd part  ▏      2nd part      ▏          1st part          ▏ radius
//! ```
//!
//! Putting the nodes of a crowd farther apart, so that chance may explain them, leaves room for honest ones among the k
//! nearest. And crowding all of a region takes as many nodes as the network has there, several times over.

use crate::lookup::Lookup;
use crate::{Address, Distance, Key, NodeId, Population};

/// Parts of a region that are looked into. One to three of its twenty nodes lie in what is left, and most of them are
/// found on the way.
const MAX_PARTS: u32 = 4;

/// The most nodes that take a record with a crowded key, for every two of k: the k nearest, k of the region, and some
/// for what of the crowd is found there.
const MAX_TOLD_PER_TWO_RESULTS: usize = 5;

/// The surroundings of a key, and how far they were looked into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Region {
    key: Key,
    k: usize,
    population: Option<Population>,
    /// Parts that were looked into.
    parts: u32,
}

impl Region {
    /// Around a key, for all that is known of the size of the network; without that nothing is a crowd.
    pub(crate) const fn new(key: Key, k: usize, population: Option<Population>) -> Self {
        Self {
            key,
            k,
            population,
            parts: 0,
        }
    }

    /// Whether more than the k nearest were looked for.
    pub(crate) const fn is_wide(&self) -> bool {
        self.parts > 0
    }

    /// Whether those that a lookup of the key has found lie closer together than chance explains, so that they are not
    /// to be relied on.
    pub(crate) fn is_crowded<A: Address>(&self, lookup: &Lookup<A>) -> bool {
        let farthest = lookup.results().enumerate().last();
        farthest.is_some_and(|(before, last)| self.is_crowd(before as u64 + 1, last.id.distance(self.key)))
    }

    /// Whether those that a lookup of the key knows, asked or not, look like a crowd: the nearest so many of them, for
    /// any number up to 2 k. They have proven nothing yet, and some may be made up.
    pub(crate) fn is_suspect<A: Address>(&self, lookup: &Lookup<A>) -> bool {
        self.is_suspicious(lookup.nearest().take(self.k.saturating_mul(2)))
    }

    /// Whether nodes at these distances, nearest first, look like a crowd.
    pub(crate) fn is_suspicious(&self, mut nearest_first: impl Iterator<Item = Distance>) -> bool {
        let mut nodes = 0;
        nearest_first.any(|distance| {
            nodes += 1;
            self.is_crowd(nodes, distance)
        })
    }

    /// Whether so many nodes within this distance are more than chance explains.
    ///
    /// The distance of the n-th nearest, as the number of nodes expected nearer, has mean n and a deviation of the
    /// square root of n. It is not believed if it is 2.25 deviations less, and that with the largest network that is
    /// likely: it happens once in a thousand lookups of twenty honest nodes. Six nodes or fewer are never a crowd.
    fn is_crowd(&self, nodes: u64, distance: Distance) -> bool {
        let Some(population) = self.population else {
            return false;
        };
        let largest = Population {
            nodes: population.high,
            ..population
        };
        largest.rank(distance) < nodes.saturating_sub((nodes * 81 / 16).isqrt())
    }

    /// Whether the first part is being looked into.
    pub(crate) const fn is_first_part(&self) -> bool {
        self.parts == 1
    }

    /// The bucket, seen from the key, of which a point is to be looked up next; `None` if the region was looked into.
    pub(crate) fn next_part(&mut self) -> Option<u32> {
        if self.parts == MAX_PARTS {
            return None;
        }
        self.parts += 1;
        Some(self.radius().leading_zeros() + self.parts - 1)
    }

    /// Whether a node is to be told or asked besides the k nearest: it is in the region and not where the crowd is.
    pub(crate) fn wants(&self, id: NodeId) -> bool {
        let distance = id.distance(self.key);
        let expected = self.population.map_or(0, |population| population.rank(distance));
        distance <= self.radius() && expected > 0
    }

    /// The most nodes that take a record.
    pub(crate) const fn room(&self) -> usize {
        self.k.saturating_mul(MAX_TOLD_PER_TWO_RESULTS) / 2
    }

    pub(crate) fn radius(&self) -> Distance {
        self.population
            .map_or(Distance::ZERO, |population| population.radius(self.k as u64))
    }

    pub(crate) const fn key(&self) -> Key {
        self.key
    }
}

#[cfg(test)]
mod tests;
