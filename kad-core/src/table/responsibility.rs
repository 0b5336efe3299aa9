//! Responsibility: the keys to which a node is one of the k nearest, as prefixes.
//!
//! Of two nodes the one is nearer to a key that agrees with it in the first bit in which the two differ. So a contact
//! that differs from this node first in bit `j` is nearer to those keys that have its bit `j`. Of all keys with one
//! prefix of `b` bits that is known of every contact with `j < b`, and of the others it depends on the rest of the key.
//! If even with all of these fewer than k are nearer, this node is responsible for the whole prefix; if k are nearer
//! for certain, for none of it; else it is halved.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::RoutingTable;
use crate::summary::MAX_PREFIX_BITS;
use crate::{Address, Prefix};

/// The most prefixes that one's responsibility is told in. Among a million nodes there are some five, seldom twenty.
/// Where there would be more, the smallest are told as a whole, although this node is responsible for a part of them
/// only.
pub(crate) const MAX_RESPONSIBILITIES: usize = 48;

impl<A: Address> RoutingTable<A> {
    /// The parts of the key space to all of whose keys, as far as this table knows, fewer than k contacts are nearer
    /// than the own id; the largest come first, and none overlaps another.
    pub(crate) fn responsibilities(&self, k: usize) -> Vec<Prefix> {
        let own = self.local.to_key().to_limbs()[0];
        let mut found = Vec::new();
        // Each with the number of contacts that are nearer to all of its keys, which is less than k.
        let mut undecided = VecDeque::from([(Prefix::ALL, 0)]);
        while let Some((prefix, nearer)) = undecided.pop_front() {
            let bit = prefix.len();
            let perhaps_nearer = self.live.len() - self.live.range(bit.into()).start;
            let is_full = found.len() + undecided.len() + 1 >= MAX_RESPONSIBILITIES;
            match prefix
                .halves()
                .filter(|_| nearer + perhaps_nearer >= k && !is_full)
            {
                None => found.push(prefix),
                Some([zero, one]) => {
                    let own_bit = own >> (MAX_PREFIX_BITS - 1 - bit) & 1;
                    let (ours, theirs) = if own_bit == 0 { (zero, one) } else { (one, zero) };
                    let halves = [
                        (ours, nearer),
                        (theirs, nearer + self.live.bucket(bit.into()).len()),
                    ];
                    undecided.extend(halves.into_iter().filter(|&(_, nearer)| nearer < k));
                }
            }
        }
        found
    }
}
