//! The contacts nearest to a point, without sorting the table.
//!
//! Seen from the target, the buckets of a table lie in a fixed order. Bucket `i` holds ids that differ from the local
//! one first in bit `i`, so its distance from the target has the bits above `i` in common with `local XOR target` and
//! bit `i` flipped. Where that bit of `local XOR target` is set, the bucket lies nearer to the target than the local id
//! does, and the lower `i` is the nearer; where it is clear, it lies farther, and the higher `i` is the nearer. So two
//! scans over the bitmap give all buckets nearest first, and only contacts of one bucket have to be sorted.

use alloc::vec::Vec;

use super::buckets::Buckets;
use crate::{Key, NodeId};

/// Memory for [`RoutingTable::closest`](super::RoutingTable::closest), used again and again.
#[derive(Debug, Default, Clone)]
pub struct ClosestScratch {
    /// The upper 32 bits of a distance, which nearly always decide, and the place.
    found: Vec<(u32, u16)>,
}

impl ClosestScratch {
    /// The places of the nearest items, nearest first.
    pub(super) fn fill<T>(
        &mut self,
        buckets: &Buckets<T>,
        id: impl Fn(&T) -> NodeId,
        local: NodeId,
        target: Key,
        n: usize,
    ) -> impl Iterator<Item = usize> {
        self.found.clear();
        let apart = local.distance(target).to_limbs();
        let exists = buckets.bitmap();
        // A limb of a distance counts its bits from the top, the bitmap from the bottom.
        for word in 0..4 {
            let mut nearer = exists[word] & apart[word].reverse_bits();
            while nearer != 0 && self.found.len() < n {
                self.take(
                    buckets,
                    64 * word as u32 + nearer.trailing_zeros(),
                    &id,
                    target,
                    n,
                );
                nearer &= nearer - 1;
            }
        }
        for word in (0..4).rev() {
            let mut farther = exists[word] & !apart[word].reverse_bits();
            while farther != 0 && self.found.len() < n {
                let bit = 63 - farther.leading_zeros();
                self.take(buckets, 64 * word as u32 + bit, &id, target, n);
                farther &= !(1 << bit);
            }
        }
        self.found.iter().map(|&(_, place)| usize::from(place))
    }

    /// Appends the items of one bucket, sorted, as far as there is room for them.
    fn take<T>(
        &mut self,
        buckets: &Buckets<T>,
        index: u32,
        id: &impl Fn(&T) -> NodeId,
        target: Key,
        n: usize,
    ) {
        let sorted = self.found.len();
        let range = buckets.range(index);
        let distance = |place: u16| id(buckets.at(place.into())).distance(target);
        self.found.extend(
            range
                .map(|place| place as u16)
                .map(|place| ((distance(place).to_limbs()[0] >> 32) as u32, place)),
        );
        let nearer =
            |a: &(u32, u16), b: &(u32, u16)| a.0.cmp(&b.0).then_with(|| distance(a.1).cmp(&distance(b.1)));
        let tail = &mut self.found[sorted..];
        let room = n - sorted;
        if tail.len() > room {
            tail.select_nth_unstable_by(room, nearer);
            self.found.truncate(n);
        }
        self.found[sorted..].sort_unstable_by(nearer);
    }
}
