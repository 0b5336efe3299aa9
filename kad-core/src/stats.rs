//! What a node has counted.

use crate::{Duration, Population, RecordError, Verdict};

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
    /// By how many seconds the wall clocks of this node's contacts are ahead of its own now, the median of those that
    /// it has lately PINGed; less than zero if they are behind, `None` while it knows too few. Peers may lie, so it is
    /// told and used for nothing.
    pub clock_offset: Option<i64>,
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
    /// Records of peers that were refused: the sum of [`refused`](Self::refused).
    pub records_refused: u64,
    /// Of these, how many for which reason.
    pub refused: Refused,
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

/// Records that peers sent here to be stored and that were refused, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// No record at all, or of a version or a kind that is not known.
    pub malformed: u64,
    /// Larger than the network allows.
    pub too_large: u64,
    /// Under a key that is not theirs.
    pub wrong_key: u64,
    /// Not signed by their owner for this network and this key: made up, changed, or taken from elsewhere.
    pub forged: u64,
    /// Their life was over.
    pub expired: u64,
    /// A longer life than the network allows, or a tombstone's that was too short.
    pub bad_lifetime: u64,
    /// Issued more than [`MAX_CLOCK_SKEW`](crate::record::MAX_CLOCK_SKEW) ahead of this node's clock.
    pub future: u64,
    /// Not wanted by the operator or the application.
    pub denied: u64,
    /// Older than what is held: replayed, or a writer that was too late.
    pub stale: u64,
    /// Another version was held than the writer expected.
    pub conflict: u64,
    /// No room.
    pub full: u64,
    /// This node could not write.
    pub failed: u64,
    /// This node is nowhere near the key.
    pub not_near: u64,
    /// Written anew too fast.
    pub too_often: u64,
    /// This node stores nothing for others.
    pub stores_nothing: u64,
}

impl Refused {
    /// Every reason with its name and how often it was given, in the order of the fields: for whoever prints them.
    #[must_use]
    pub const fn by_name(&self) -> [(&'static str, u64); 15] {
        [
            ("malformed", self.malformed),
            ("too_large", self.too_large),
            ("wrong_key", self.wrong_key),
            ("forged", self.forged),
            ("expired", self.expired),
            ("bad_lifetime", self.bad_lifetime),
            ("future", self.future),
            ("denied", self.denied),
            ("stale", self.stale),
            ("conflict", self.conflict),
            ("full", self.full),
            ("failed", self.failed),
            ("not_near", self.not_near),
            ("too_often", self.too_often),
            ("stores_nothing", self.stores_nothing),
        ]
    }

    /// One more; an acknowledgement is none.
    pub(crate) const fn count(&mut self, verdict: Verdict) {
        let reason = match verdict {
            Verdict::Stored | Verdict::Unchanged => return,
            Verdict::Refused(error) => match error {
                RecordError::Malformed | RecordError::UnknownVersion | RecordError::UnknownKind => {
                    &mut self.malformed
                }
                RecordError::TooLarge => &mut self.too_large,
                RecordError::WrongKey => &mut self.wrong_key,
                RecordError::BadSignature => &mut self.forged,
                RecordError::Expired => &mut self.expired,
                RecordError::BadLifetime => &mut self.bad_lifetime,
                RecordError::FromTheFuture => &mut self.future,
                RecordError::Denied => &mut self.denied,
            },
            Verdict::Stale { .. } => &mut self.stale,
            Verdict::Conflict { .. } => &mut self.conflict,
            Verdict::Full => &mut self.full,
            Verdict::Failed => &mut self.failed,
            Verdict::NotNear => &mut self.not_near,
            Verdict::TooOften => &mut self.too_often,
            Verdict::StoresNothing => &mut self.stores_nothing,
        };
        *reason += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_under_its_name() {
        let verdicts = [
            Verdict::Refused(RecordError::Malformed),
            Verdict::Refused(RecordError::TooLarge),
            Verdict::Refused(RecordError::WrongKey),
            Verdict::Refused(RecordError::BadSignature),
            Verdict::Refused(RecordError::Expired),
            Verdict::Refused(RecordError::BadLifetime),
            Verdict::Refused(RecordError::FromTheFuture),
            Verdict::Refused(RecordError::Denied),
            Verdict::Stale { current: 1 },
            Verdict::Conflict { current: 1 },
            Verdict::Full,
            Verdict::Failed,
            Verdict::NotNear,
            Verdict::TooOften,
            Verdict::StoresNothing,
        ];
        let mut refused = Refused::default();
        for (n, verdict) in (1..).zip(verdicts) {
            (0..n).for_each(|_| refused.count(verdict));
        }
        assert!(refused.by_name().into_iter().map(|(_, count)| count).eq(1..=15));
        for verdict in [RecordError::UnknownVersion, RecordError::UnknownKind].map(Verdict::Refused) {
            refused.count(verdict);
        }
        for verdict in [Verdict::Stored, Verdict::Unchanged] {
            refused.count(verdict);
        }
        assert_eq!(refused.malformed, 3);
        assert_eq!(
            refused.by_name().into_iter().map(|(_, count)| count).sum::<u64>(),
            122
        );
        // The names are those of the fields.
        let fields = alloc::format!("{refused:?}");
        let named = refused
            .by_name()
            .map(|(name, count)| alloc::format!("{name}: {count}"));
        assert_eq!(fields, alloc::format!("Refused {{ {} }}", named.join(", ")));
    }
}
