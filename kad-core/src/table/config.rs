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
    /// Default k, so that a node knows the holders of what lies near to it; 0 switches it off. More than a bucket's size
    /// makes buckets grow up to this many.
    pub neighbourhood: usize,
    /// Hundredths of the places of a far bucket that are open to whoever answers faster or stands where nobody else does: see
    /// `table/proximity.rs` and `table/spread.rs`. Default 50, so that an attacker with fast machines or chosen ids gets
    /// half of a bucket at most; 0 switches both off.
    pub proximity_share: u8,
    /// Whether contacts of a far bucket that crowd in one region of it make room for those of others: see
    /// `table/spread.rs`. Default true: it saves a fifth of the hops. It takes places out of the same share.
    pub spread: bool,
    /// Contacts of a bucket that wait for a place. Default 4: two requests in a row must fail before a place falls free, so
    /// a bucket rarely loses more than that between two refreshes.
    pub replacements: usize,
    /// Requests in a row that may fail before a contact is removed. Default 2: one lost packet is no death. At most 127.
    pub failures: u8,
    /// How many contacts of one address group there may be, in global scope.
    pub groups: GroupLimits,
    /// Leading zero bits that the puzzle hash of an id must have. Default 0.
    pub puzzle_bits: u32,
}

/// How many contacts of one address group a bucket and a table take. They fight with small networks whose members share a
/// provider, where [`GroupLimits::NONE`] is right; addresses outside of global scope are never limited.
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
    /// A lookup starts from the contacts nearest to its target: among eight times as many the nearest one shares three bits
    /// more. It costs the memory of the contacts, more lookups to join, and PINGs to keep them fresh: of `max_probes` four
    /// times in a refresh interval, so of more than 128 contacts that nobody asks each is asked less often.
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
