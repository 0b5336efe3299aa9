//! What a node has counted.

use crate::{Duration, Population};

/// Counters of one machine, all since it was made except those that say "now".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Contacts in the table now.
    pub contacts: usize,
    /// Queries under way now, the node's own included.
    pub queries: usize,
    /// Requests in flight now.
    pub in_flight: usize,
    /// Requests of peers that wait for the store now.
    pub pending: usize,
    /// Popular values of which it has a copy in its cache now.
    pub cached: usize,
    /// Whether the node has lost everyone it knew.
    pub isolated: bool,
    /// How many nodes the network has, as far as this one can tell now.
    pub population: Option<Population>,
    /// Requests sent.
    pub requests_sent: u64,
    /// Answers that came and fitted.
    pub responses_received: u64,
    /// Requests that failed, for whatever reason.
    pub failures: u64,
    /// Of these, the ones that ran out of time.
    pub timeouts: u64,
    /// Requests that took so long that somebody else was asked as well.
    pub hedges: u64,
    /// Contacts of hearsay that were not asked, because too many at that host or site are being dialled or were dead.
    pub rationed: u64,
    /// Writes and reads that went beyond the k nearest, because these lay implausibly close together.
    pub widened: u64,
    /// Requests of peers.
    pub requests_received: u64,
    /// Of these, the ones that were refused.
    pub rejected: u64,
    /// Records that were given to peers who asked for them, from the store or the cache.
    pub records_told: u64,
    /// Questions that were answered from the cache of popular values.
    pub cache_hits: u64,
    /// Answers that came late, twice or for nothing.
    pub unexpected_responses: u64,
    /// Answers that did not fit their question: another kind, a record under another key, too many.
    pub misfits: u64,
    /// Records that peers stored here.
    pub records_stored: u64,
    /// Records of peers that were refused: badly signed, expired, stale, or for want of room.
    pub records_refused: u64,
    /// Contacts that entered the table.
    pub contacts_added: u64,
    /// Contacts that left the table, because they no longer answered, turned read-only, or had to make room.
    pub contacts_removed: u64,
    /// Of the removed, the ones that gave their place to a faster one.
    pub proximity_swaps: u64,
    /// Of the removed, the ones that gave their place to one from a region of the bucket that had nobody.
    pub spread_swaps: u64,
    /// Records of this node's own that were stored again by a lookup of their own, because their nearest crowd.
    pub replications: u64,
    /// Regions of the key space in which this node's own records were stored again.
    pub sweeps: u64,
    /// Records of this node's own that were stored again by these.
    pub records_swept: u64,
    /// By how much the record that waited for longest in the last of these was late.
    pub late_by: Duration,
    /// Times that what this node holds was compared with others.
    pub repairs: u64,
    /// Records of others that were missing here and were fetched.
    pub records_drawn: u64,
    /// Records of others that were missing elsewhere and were given.
    pub records_handed: u64,
    /// Buckets refreshed.
    pub refreshes: u64,
}
