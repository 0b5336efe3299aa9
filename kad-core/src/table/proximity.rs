//! Proximity: in far buckets, who answers faster may take the place of who is slower.
//!
//! All contacts of a far bucket serve a lookup equally well, but one that answers in 10 ms serves it sooner than one
//! that takes 200. Round trips are never asked for: [`RoutingTable::answered`](super::RoutingTable::answered) is told
//! those of traffic that flows anyway. A contact that answered in at most three quarters of the time of another one,
//! whose full bucket it belongs to, takes its place at once; the slower one waits for the next place.
//!
//! # What stops it
//!
//! Somebody with fast machines near to us could fill our far buckets that way, so:
//!
//! - **Tenure.** Only a share of a bucket's places is open to proximity
//!   ([`TableConfig::proximity_share`](super::TableConfig::proximity_share), half by default). When proximity takes the
//!   first place of a bucket, all others there get tenure. They can lose their place to somebody faster only while more
//!   of them have tenure than the rest of the bucket has places; the slowest are first. After that, a contact with
//!   tenure leaves only by failing. Whoever came by proximity has none, and whoever comes later, by whatever way, gets
//!   it only while fewer have tenure than the rest has places. So nobody wins tenure by coming and going: in a bucket
//!   that was full of honest contacts that stay, that many of them remain, whatever an attacker does.
//! - **Groups.** Limits of address groups are asked for before this rule, as ever.
//! - **The neighbourhood** is left alone, and as much again around it: there the nearest count, and who they are must
//!   not depend on who asks from where. Buckets beyond which there are not that many contacts never do this.
//! - **Spread.** Nobody takes the place of the only contact of another region of the bucket (`spread.rs`), and what
//!   that rule takes comes out of the same share.
//! - **Evidence.** Contacts that were not measured neither replace nor are replaced, and those that wait keep their
//!   smoothed round trip, so one lucky answer does not swap the same two again and again.

use super::{Known, RoutingTable};
use crate::Address;

/// How much faster is clearly faster: at most so many parts of the other's round trip. A quarter less is beyond what
/// smoothed round trips of one path vary by.
const CLEARLY_FASTER: (u64, u64) = (3, 4);

/// So many neighbourhoods must lie nearer than a bucket that may choose by proximity: the neighbourhood, and once more
/// as much, because estimates of where it ends vary from node to node.
const NEIGHBOURHOODS_KEPT: usize = 2;

impl<A: Address> RoutingTable<A> {
    /// The place in its full bucket that a newcomer takes because it is faster: that of the slowest it may replace.
    pub(super) fn outrun_by(&self, index: u32, newcomer: &Known<A>) -> Option<usize> {
        let rtt = newcomer.rtt()?;
        if self.config.proximity_share == 0 || !self.is_far(index) {
            return None;
        }
        let is_open = self.is_open(index);
        let (numerator, denominator) = CLEARLY_FASTER;
        let bucket = self.live.bucket(index).iter().enumerate();
        let slower = bucket.filter_map(|(place, known)| {
            let other = known.rtt().filter(|_| is_open(known))?;
            let slower = u64::from(rtt) * denominator <= u64::from(other) * numerator;
            (slower && !self.leaves_a_gap(index, known, newcomer.contact.id)).then_some((other, place))
        });
        slower.max().map(|(_, place)| place)
    }

    /// Whether a contact of this bucket may have to make room for somebody faster, or from elsewhere.
    pub(super) fn is_open(&self, index: u32) -> impl Fn(&Known<A>) -> bool {
        let tenured = self.tenured(index);
        // Before the first place was taken, nobody has tenure, and all would get it.
        let begun = tenured > 0;
        let would_have = if begun { tenured } else { self.bucket_len(index) };
        let spare = would_have > self.config.tenured_places(index);
        move |known| spare || begun && !known.is_tenured()
    }

    /// A place of this bucket is taken for another merit than nearness: if it is the first one, all who are there get
    /// tenure.
    pub(super) fn begin_tenure(&mut self, index: u32) {
        if self.tenured(index) == 0 {
            let bucket = self.live.bucket_mut(index);
            bucket.iter_mut().for_each(|known| known.set_tenured(true));
        }
    }

    /// Whether a contact that enters a bucket gets tenure.
    pub(super) fn gives_tenure(&self, index: u32) -> bool {
        (1..self.config.tenured_places(index)).contains(&self.tenured(index))
    }

    fn tenured(&self, index: u32) -> usize {
        let bucket = self.live.bucket(index).iter();
        bucket.filter(|known| known.is_tenured()).count()
    }

    /// Whether a bucket lies outside of the neighbourhood and of its surroundings.
    pub(super) fn is_far(&self, index: u32) -> bool {
        let kept = self.config.bucket_size.max(self.config.neighbourhood);
        self.in_nearer_buckets(index) >= kept.saturating_mul(NEIGHBOURHOODS_KEPT)
    }
}
