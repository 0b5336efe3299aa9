//! What a routing table keeps.

use alloc::vec::Vec;

/// Sizes and limits of a routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableConfig {
    /// Contacts of each bucket that is not in [`wide`](Self::wide). Default k (paper, section 2.2).
    pub bucket_size: usize,
    /// Sizes of the first buckets, from the far half inwards: wider ones buy hops for memory. Default none; see
    /// [`with_wide`](Self::with_wide).
    pub wide: Vec<u16>,
    /// So many contacts nearest to the own id are kept even where their bucket is full: see `table/neighbourhood.rs`.
    /// Default k, so that a node knows the holders of what lies near to it; 0 switches it off. More than a bucket's
    /// size makes buckets grow up to this many.
    pub neighbourhood: usize,
    /// Hundredths of the places of a far bucket that are open to whoever answers faster or stands where nobody else
    /// does: see `table/proximity.rs` and `table/spread.rs`. Default 50, so that an attacker with fast machines or
    /// chosen ids gets half of a bucket at most; 0 switches both off.
    pub proximity_share: u8,
    /// Whether contacts of a far bucket that crowd in one region of it make room for those of others: see
    /// `table/spread.rs`. Default true: it saves a fifth of the hops. It takes places out of the same share.
    pub spread: bool,
    /// Contacts of a bucket that wait for a place. Default 4: two requests in a row must fail before a place falls
    /// free, so a bucket rarely loses more than that between two refreshes.
    pub replacements: usize,
    /// Requests in a row that may fail before a contact is removed. Default 2: one lost packet is no death. At most
    /// 127.
    pub failures: u8,
    /// How many contacts of one address group there may be, in global scope.
    pub groups: GroupLimits,
    /// Leading zero bits that the puzzle hash of an id must have. Default 0.
    pub puzzle_bits: u32,
}

/// How many contacts of one address group a bucket and a table take. They fight with small networks whose members share
/// a provider, where [`GroupLimits::NONE`] is right; addresses outside of global scope are never limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupLimits {
    /// Of one IPv4 /24 or IPv6 /48 in a bucket. Default 2, as discv5 and Ethereum's discv4 have it.
    pub narrow_per_bucket: usize,
    /// Of one IPv4 /24 or IPv6 /48 in the table. Default 10, as discv5 and Ethereum's discv4 have it.
    pub narrow_per_table: usize,
    /// Of one IPv4 /16 or IPv6 /32 in a bucket. Default 5: a quarter of a bucket of 20.
    pub wide_per_bucket: usize,
    /// Of one IPv4 /16 or IPv6 /32 in the table. Default 30: a tenth of a table of 100,000 nodes' density.
    pub wide_per_table: usize,
}

impl GroupLimits {
    /// No limits.
    pub const NONE: Self = Self {
        narrow_per_bucket: usize::MAX,
        narrow_per_table: usize::MAX,
        wide_per_bucket: usize::MAX,
        wide_per_table: usize::MAX,
    };
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self {
            narrow_per_bucket: 2,
            narrow_per_table: 10,
            wide_per_bucket: 5,
            wide_per_table: 30,
        }
    }
}

impl TableConfig {
    /// The defaults for buckets of k.
    #[must_use]
    pub const fn new(k: usize, puzzle_bits: u32) -> Self {
        let groups = GroupLimits {
            narrow_per_bucket: 2,
            narrow_per_table: 10,
            wide_per_bucket: 5,
            wide_per_table: 30,
        };
        Self {
            bucket_size: k,
            wide: Vec::new(),
            neighbourhood: k,
            proximity_share: 50,
            spread: true,
            replacements: 4,
            failures: 2,
            groups,
            puzzle_bits,
        }
    }

    /// The same with other sizes of the first buckets, from the far half inwards.
    ///
    /// A lookup starts from the contacts nearest to its target: among eight times as many the nearest one shares three
    /// bits more. It costs the memory of the contacts, more lookups to join, and PINGs to keep them fresh: one in a
    /// refresh interval for each contact of whom nothing else was asked.
    ///
    /// ```
    /// use kad_core::table::TableConfig;
    ///
    /// let config = TableConfig::new(20, 0).with_wide(&[160, 80, 40]);
    /// assert_eq!([0, 1, 2, 3].map(|bucket| config.bucket_size(bucket)), [160, 80, 40, 20]);
    /// ```
    #[must_use]
    pub fn with_wide(mut self, sizes: &[u16]) -> Self {
        self.wide = sizes.to_vec();
        self
    }

    /// The same for a full table: one that knows every member of a network of up to `max_contacts`, at most
    /// [`MAX_FULL_CONTACTS`], so that a lookup is over in one hop.
    ///
    /// Ids are hashes, so bucket `i` of such a network has one of 2^(i + 1) members, give or take a few standard
    /// deviations; it gets as many places, and none fewer than before. So nearly all of a network of that size fit, and
    /// the whole table is bounded by the sum. In a larger network each bucket holds its share, and whoever comes later
    /// waits for a place as in any full bucket; the near buckets, where the own neighbours are, have the places that
    /// they have in any table.
    ///
    /// Of one address group it takes a share of all, instead of a number that is right for buckets of k: one of 256 of
    /// a /24, one of 32 of a /16. In a bucket that has room for everybody nobody is pushed out by those who come in
    /// numbers, so the limits need not hold for each bucket on its own.
    #[must_use]
    pub fn full(self, max_contacts: usize) -> Self {
        let max_contacts = max_contacts.min(MAX_FULL_CONTACTS);
        let mut wide = Vec::new();
        for bucket in 0.. {
            let share = max_contacts >> (bucket + 1);
            let size = share + SPREAD * share.isqrt();
            let ordinary = self.bucket_size(bucket);
            // Beyond the wide ones that there were, an ordinary bucket has room enough from here on.
            if size <= ordinary && bucket as usize >= self.wide.len() {
                break;
            }
            wide.push(u16::try_from(size.max(ordinary)).unwrap_or(u16::MAX));
        }
        let (narrow, broad) = (max_contacts / 256, max_contacts / 32);
        let groups = GroupLimits {
            narrow_per_bucket: narrow.max(self.groups.narrow_per_bucket),
            narrow_per_table: narrow.max(self.groups.narrow_per_table),
            wide_per_bucket: broad.max(self.groups.wide_per_bucket),
            wide_per_table: broad.max(self.groups.wide_per_table),
        };
        Self { wide, groups, ..self }
    }

    /// How many contacts a bucket takes.
    #[must_use]
    pub fn bucket_size(&self, bucket: u32) -> usize {
        self.wide
            .get(bucket as usize)
            .map_or(self.bucket_size, |&size| size.into())
    }

    /// Places of a bucket that proximity leaves alone.
    pub(super) fn tenured_places(&self, bucket: u32) -> usize {
        let size = self.bucket_size(bucket);
        size - size.saturating_mul(self.proximity_share.min(100).into()) / 100
    }
}

/// Contacts for which a full table has room unless told otherwise: some 2 MB with their addresses, and more than most
/// networks have servers.
pub const DEFAULT_FULL_CONTACTS: usize = 16_384;

/// The most contacts for which a full table can have room: with what the buckets may hold beyond their shares, and k in
/// each of 256 buckets, there are fewer than the 65,536 places of a table.
pub const MAX_FULL_CONTACTS: usize = 49_152;

/// Standard deviations above its mean for which a bucket of a full table has room: one network of 30,000 has more in
/// it.
const SPREAD: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::table::{Admission, RoutingTable};
    use crate::{Contact, ID_BITS, Instant, MAX_CLOSER, NodeId};

    fn places(config: &TableConfig) -> usize {
        (0..ID_BITS).map(|bucket| config.bucket_size(bucket)).sum()
    }

    #[test]
    fn a_full_table_has_the_places_that_it_promises_and_never_more_than_there_can_be() {
        for max_contacts in [
            0,
            1,
            100,
            1000,
            DEFAULT_FULL_CONTACTS,
            MAX_FULL_CONTACTS,
            usize::MAX,
        ] {
            for k in [1, 20, MAX_CLOSER] {
                let ordinary = TableConfig::new(k, 0);
                let full = ordinary.clone().full(max_contacts);
                assert!(places(&full) >= max_contacts.min(MAX_FULL_CONTACTS));
                assert!(places(&full) <= usize::from(u16::MAX), "{}", places(&full));
                let (mut narrower, mut before) = (true, usize::MAX);
                for bucket in 0..ID_BITS {
                    let size = full.bucket_size(bucket);
                    narrower &= size <= before && size >= ordinary.bucket_size(bucket);
                    before = size;
                }
                assert!(narrower, "{max_contacts} contacts, k {k}");
            }
        }
    }

    #[test]
    fn buckets_that_were_wide_stay_wide_and_limits_that_were_lifted_stay_lifted() {
        let mut config = TableConfig::new(20, 0);
        config.wide = alloc::vec![10, 5000, 30, 30, 300];
        config.groups = GroupLimits::NONE;
        let full = config.full(1024);
        let sizes: Vec<usize> = (0..6).map(|bucket| full.bucket_size(bucket)).collect();
        assert_eq!(
            sizes,
            [512 + 4 * 22, 5000, 128 + 4 * 11, 64 + 4 * 8, 300, 20 + 12]
        );
        assert_eq!(full.groups, GroupLimits::NONE);
    }

    fn contact(rng: &mut Rng) -> Contact<u32> {
        let limbs = [rng.next_u64(), rng.next_u64(), rng.next_u64(), rng.next_u64()];
        Contact::new(NodeId::from_limbs(limbs), 1)
    }

    #[test]
    fn everybody_of_a_network_of_that_size_fits() {
        for (seed, members) in [(1, 64), (2, 500), (3, 2000), (4, 4096)] {
            let mut rng = Rng::new(seed);
            let config = TableConfig::new(20, 0).full(members);
            let mut table = RoutingTable::new(contact(&mut rng).id, config);
            for _ in 0..members {
                assert_eq!(
                    table.answered(Instant::ZERO, &contact(&mut rng), None),
                    Admission::Added
                );
            }
        }
    }

    #[test]
    fn in_a_larger_network_newcomers_wait_and_neighbours_are_let_in_all_the_same() {
        let mut rng = Rng::new(5);
        let mut config = TableConfig::new(20, 0).full(512);
        // The nearest, and those from where nobody stands, enter full buckets by rules of their own.
        (config.neighbourhood, config.spread) = (0, false);
        let mut table = RoutingTable::new(contact(&mut rng).id, config.clone());
        let mut all = Vec::new();
        for _ in 0..6000 {
            let newcomer = contact(&mut rng);
            let index = table.local().distance(newcomer.id.to_key()).leading_zeros();
            let room = table.has_room(index);
            let admitted = table.answered(Instant::ZERO, &newcomer, None);
            assert_eq!(admitted == Admission::Added, room);
            assert_eq!(!room, matches!(admitted, Admission::Waiting { .. }));
            all.push((index, newcomer.id));
        }
        assert!(table.len() <= places(&config) && table.len() >= 512);
        // A bucket in which there are no more than k has all of them, however many there are elsewhere.
        for bucket in 0..ID_BITS {
            let there = all.iter().filter(|(index, _)| *index == bucket).count();
            assert!(table.bucket_len(bucket) >= there.min(20));
        }
    }
}
