//! Spread: a far bucket holds contacts from all over its part of the space.
//!
//! What a far bucket is worth to a lookup is how near to any target its nearest contact is. Among k random ids of its
//! half, quarter or eighth of the space that is `m_k` bits on average beyond the one that the bucket itself stands for
//! (4.7 for 20). But buckets are not filled with random ids. A joining node fills a bucket by looking up one point of
//! it, and finds the nodes nearest to that point: a cluster, of which twenty are worth little more than one. Measured
//! by the simulator's `hop-law`, buckets of 20 so filled had contacts in 3 of 16 regions, and a lookup among 10,000
//! nodes took 3.1 hops in the place of 2.5.
//!
//! So a bucket is cut into *regions*, by the bits of the distance that follow the bucket's own: as many regions as
//! there are places, rounded down to a power of two. A newcomer from a region that has nobody takes the place of a
//! contact from a region that has several. Newcomers are those who ask us and those whom lookups meet, from anywhere,
//! so buckets spread while the network is used. The rule comes to rest: each step fills a region and empties none.
//!
//! # What stops it
//!
//! Somebody who picks ids for regions that nobody stands in gets in without waiting for a place to fall free. So the
//! rule is bound as proximity is (`proximity.rs`), and the two share one budget: only places that are not tenured are
//! taken, at most [`proximity_share`](super::TableConfig::proximity_share) of a bucket, and newcomers by this rule get
//! no tenure. Nor does it ever take the place of a contact that stands alone in its region, so in a bucket that is
//! spread already it does nothing. Of those who crowd, one that failed lately makes room first, then the slowest; where
//! none was measured one of the largest crowd, and of these the one that answered last, so who shows up often is not
//! helped. Address groups are asked for before, and the neighbourhood with its surroundings is left alone.

use super::{Known, RoutingTable};
use crate::{Address, Distance, NodeId};

/// A bucket has at most 2^6 regions: wide ones of more than 64 places gain little by being told apart more finely.
const MOST_REGION_BITS: u32 = 6;

impl<A: Address> RoutingTable<A> {
    /// The place in its full bucket that a newcomer takes because it stands where nobody of the bucket does.
    pub(super) fn crowded_by(&self, index: u32, newcomer: NodeId) -> Option<usize> {
        if !self.config.spread || !self.is_far(index) {
            return None;
        }
        let counts = self.counts(index);
        if counts[self.region(index, newcomer)] > 0 {
            return None;
        }
        let is_open = self.is_open(index);
        let open = self.live.bucket(index).iter().enumerate();
        let crowd = |known: &Known<A>| counts[self.region(index, known.contact.id)];
        open.filter(|(_, known)| is_open(known) && crowd(known) > 1)
            .max_by_key(|&(place, known)| (known.failures() > 0, known.rtt(), crowd(known), place))
            .map(|(place, _)| place)
    }

    /// Whether a region would be left with nobody if a newcomer took the place of this contact.
    pub(super) fn leaves_a_gap(&self, index: u32, known: &Known<A>, newcomer: NodeId) -> bool {
        if !self.config.spread {
            return false;
        }
        let region = self.region(index, known.contact.id);
        region != self.region(index, newcomer) && self.counts(index)[region] < 2
    }

    /// Contacts of each region of a bucket.
    fn counts(&self, index: u32) -> [u16; 1 << MOST_REGION_BITS] {
        let mut counts = [0; 1 << MOST_REGION_BITS];
        for known in self.live.bucket(index) {
            counts[self.region(index, known.contact.id)] += 1;
        }
        counts
    }

    fn region(&self, index: u32, id: NodeId) -> usize {
        let places = self.config.bucket_size(index).max(1);
        bits(self.distance(id), index + 1, places.ilog2().min(MOST_REGION_BITS))
    }
}

/// So many bits of a distance from this one on; zeros beyond the last.
fn bits(distance: Distance, from: u32, count: u32) -> usize {
    (from..from + count).fold(0, |bits, index| {
        bits << 1 | usize::from(index < crate::ID_BITS && distance.bit(index))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    #[test]
    fn bits_are_taken_across_limbs_and_beyond_the_end() {
        let distance = Key::default().distance(Key::from_limbs([0b1011, 0b101 << 61, 0, 1]));
        assert_eq!(bits(distance, 60, 4), 0b1011);
        assert_eq!(bits(distance, 62, 5), 0b11101);
        assert_eq!(bits(distance, 254, 4), 0b0100);
        assert_eq!(bits(distance, 256, 6), 0);
        assert_eq!(bits(distance, 0, 0), 0);
    }
}
