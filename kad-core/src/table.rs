//! The routing table: whom we know, many nearby and few far away (Kademlia paper, sections 2.2 and 2.4).
//!
//! Bucket `i` holds contacts whose ids share exactly `i` leading bits with the local one, so bucket 0 is the far half of the
//! space. Buckets exist only where there is somebody in them. All contacts lie in one array, bucket after bucket from far
//! to near, inside a bucket the least recently seen first; replacements lie in a second array of the same order.
//!
//! It refuses to believe hearsay: a contact enters only after it answered us ([`RoutingTable::answered`]). It refuses to
//! forget old friends: a full bucket keeps its live contacts, because who has been up for long will stay (paper, figure 1),
//! and because nobody can push them out by showing up often.

mod buckets;
mod closest;
mod config;

use self::buckets::Buckets;
pub use self::closest::ClosestScratch;
pub use self::config::{DEFAULT_FULL_CONTACTS, GroupLimits, MAX_FULL_CONTACTS, TableConfig};
use crate::{Address, AddressGroups, Contact, Duration, ID_BITS, Instant, Key, NodeId};

/// Whom a node knows.
#[derive(Debug)]
pub struct RoutingTable<A> {
    local: NodeId,
    config: TableConfig,
    /// The contacts.
    live: Buckets<Known<A>>,
    /// Contacts that answered when their bucket was full, least recently seen first.
    waiting: Buckets<Known<A>>,
}

/// A contact and what was seen of it.
#[derive(Debug, Clone)]
pub(crate) struct Known<A> {
    contact: Contact<A>,
    last_seen: Instant,
    /// Smoothed round trip in microseconds, 0 while none was measured.
    rtt: u32,
    /// Its mean deviation in microseconds.
    deviation: Micros24,
    /// Requests in a row that failed.
    failures: u8,
}

/// Up to 16.7 s in microseconds, big-endian. In three bytes, because a fourth would cost eight for each contact.
#[derive(Debug, Clone, Copy, Default)]
struct Micros24([u8; 3]);

impl Micros24 {
    const fn get(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_be_bytes([0, a, b, c])
    }

    fn saturating(micros: u32) -> Self {
        let [_, a, b, c] = micros.min((1 << 24) - 1).to_be_bytes();
        Self([a, b, c])
    }
}

/// A contact of the table, and what was seen of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'t, A> {
    /// Who and where.
    pub contact: &'t Contact<A>,
    /// When it last answered.
    pub last_seen: Instant,
    /// Its smoothed round trip, if one was measured.
    pub rtt: Option<Duration>,
    /// The mean deviation of its round trips.
    pub deviation: Duration,
    /// Requests in a row that failed.
    pub failures: u8,
}

/// What became of a contact that has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Admission<A> {
    /// It was known and is fresh again.
    Updated,
    /// It is in the table now.
    Added,
    /// Its bucket is full. It waits for a place; `probe` is the contact that was silent for longest and deserves a PING.
    Waiting {
        /// Whom to PING.
        probe: Option<Contact<A>>,
    },
    /// It may not enter.
    Refused(Refusal),
}

/// Why a contact may not enter the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It is this node itself.
    Own,
    /// Its id has not done the work that the network demands.
    Puzzle,
    /// Too many of its address group are there.
    Diversity,
}

/// What became of a contact that has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Removal<A> {
    /// It was not in the table.
    Unknown,
    /// It is flagged, and stays until it fails again.
    Kept,
    /// It is gone.
    Removed {
        /// Who took its place, on older evidence: probe it.
        promoted: Option<Contact<A>>,
    },
}

impl<A: Address> RoutingTable<A> {
    /// A table that knows nobody.
    #[must_use]
    pub const fn new(local: NodeId, config: TableConfig) -> Self {
        Self {
            local,
            config,
            live: Buckets::new(),
            waiting: Buckets::new(),
        }
    }

    /// The id from which distances are measured.
    #[must_use]
    pub const fn local(&self) -> NodeId {
        self.local
    }

    /// How many contacts there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live.len() == 0
    }

    /// The contact with this id.
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<Entry<'_, A>> {
        let bucket = self.live.bucket(self.index(id)?);
        bucket
            .iter()
            .find(|known| known.contact.id == id)
            .map(Known::entry)
    }

    /// All contacts, from the far half of the space to the near ones.
    pub fn contacts(&self) -> impl Iterator<Item = Entry<'_, A>> {
        self.live.iter().map(Known::entry)
    }

    /// Contacts in a bucket.
    #[must_use]
    pub fn bucket_len(&self, bucket: u32) -> usize {
        self.live.bucket(bucket).len()
    }

    /// How many contacts a bucket takes.
    #[must_use]
    pub fn bucket_capacity(&self, bucket: u32) -> usize {
        self.config.bucket_size(bucket)
    }

    /// Whether a bucket takes one more contact.
    #[must_use]
    pub fn has_room(&self, bucket: u32) -> bool {
        self.bucket_len(bucket) < self.bucket_capacity(bucket)
    }

    /// The index of the nearest bucket that has a contact.
    #[must_use]
    pub fn deepest(&self) -> Option<u32> {
        self.live.deepest()
    }

    /// The contacts nearest to a point, nearest first, at most `n`. Allocates nothing once `scratch` has grown.
    pub fn closest<'t>(
        &'t self,
        target: Key,
        n: usize,
        scratch: &'t mut ClosestScratch,
    ) -> impl Iterator<Item = Entry<'t, A>> {
        let id = |known: &Known<A>| known.contact.id;
        scratch
            .fill(&self.live, id, self.local, target, n)
            .map(|place| self.live.at(place).entry())
    }

    /// Whether a stranger is worth a PING: it is not known at this address, may enter, and there is room for it or for one
    /// more to wait.
    #[must_use]
    pub fn wants(&self, contact: &Contact<A>) -> bool {
        let Some(index) = self.index(contact.id) else {
            return false;
        };
        if let Some(known) = self.get(contact.id) {
            return known.contact.address != contact.address && self.refusal(index, contact).is_none();
        }
        let waiting = self.waiting.bucket(index);
        let room = self.has_room(index)
            || (waiting.len() < self.config.replacements
                && !waiting.iter().any(|w| w.contact.id == contact.id));
        room && self.refusal(index, contact).is_none()
    }

    /// A contact has answered us. The address at which it did is the one that counts, unless the group of that one is full:
    /// then the contact is refused there and stays where it was.
    pub fn answered(&mut self, now: Instant, contact: &Contact<A>, rtt: Option<Duration>) -> Admission<A> {
        let Some(index) = self.index(contact.id) else {
            return Admission::Refused(Refusal::Own);
        };
        let bucket = self.live.bucket(index);
        if let Some(place) = bucket.iter().position(|known| known.contact.id == contact.id) {
            // Or one could enter from many groups and then gather in one.
            if bucket[place].contact.address != contact.address
                && let Some(refusal) = self.refusal(index, contact)
            {
                return Admission::Refused(refusal);
            }
            let bucket = self.live.bucket_mut(index);
            bucket[place].answered(now, contact, rtt);
            bucket[place..].rotate_left(1);
            return Admission::Updated;
        }
        if let Some(refusal) = self.refusal(index, contact) {
            return Admission::Refused(refusal);
        }
        let known = Known::new(now, contact, rtt);
        if self.has_room(index) {
            self.waiting
                .remove_where(index, |waiting| waiting.contact.id == contact.id);
            self.live.push(index, known);
            return Admission::Added;
        }
        self.wait(index, known);
        let oldest = self
            .live
            .bucket(index)
            .first()
            .filter(|oldest| oldest.last_seen < now);
        Admission::Waiting {
            probe: oldest.map(|oldest| oldest.contact.clone()),
        }
    }

    /// A request to a contact has failed. After as many failures in a row as configured it is removed. A failure at an
    /// address that is not the one known here says nothing: somebody else made it up, or it is out of date.
    pub fn failed(&mut self, contact: &Contact<A>) -> Removal<A> {
        let id = contact.id;
        let Some(index) = self.index(id) else {
            return Removal::Unknown;
        };
        self.waiting
            .remove_where(index, |waiting| waiting.contact == *contact);
        let Some(known) = self
            .live
            .bucket_mut(index)
            .iter_mut()
            .find(|known| known.contact == *contact)
        else {
            return Removal::Unknown;
        };
        known.failures = known.failures.saturating_add(1);
        match known.failures >= self.config.failures {
            true => self.remove(id),
            false => Removal::Kept,
        }
    }

    /// Removes a contact at once: it has left, or wants nobody to route through it. The freshest of those that wait takes
    /// its place.
    pub fn remove(&mut self, id: NodeId) -> Removal<A> {
        let Some(index) = self.index(id) else {
            return Removal::Unknown;
        };
        self.waiting
            .remove_where(index, |waiting| waiting.contact.id == id);
        if !self.live.remove_where(index, |known| known.contact.id == id) {
            return Removal::Unknown;
        }
        // The one that was seen last, among those that may still enter: groups may have filled up meanwhile.
        let fresh = self
            .waiting
            .bucket(index)
            .iter()
            .rev()
            .find(|w| self.refusal(index, &w.contact).is_none());
        let promoted = fresh.cloned();
        if let Some(known) = &promoted {
            let id = known.contact.id;
            self.waiting
                .remove_where(index, |waiting| waiting.contact.id == id);
            // It is older evidence than all that is there, so it goes first.
            self.live
                .insert_sorted(index, known.clone(), |held| held.last_seen <= known.last_seen);
        }
        Removal::Removed {
            promoted: promoted.map(|known| known.contact),
        }
    }

    fn wait(&mut self, index: u32, known: Known<A>) {
        if self.config.replacements == 0 {
            return;
        }
        self.waiting
            .remove_where(index, |waiting| waiting.contact.id == known.contact.id);
        if self.waiting.bucket(index).len() >= self.config.replacements {
            self.waiting.remove_first(index);
        }
        self.waiting.push(index, known);
    }

    fn refusal(&self, index: u32, contact: &Contact<A>) -> Option<Refusal> {
        if self.config.puzzle_bits > 0 && contact.id.puzzle_bits() < self.config.puzzle_bits {
            return Some(Refusal::Puzzle);
        }
        let groups = contact.address.groups()?;
        let count = |group: fn(&AddressGroups) -> u64| {
            let same = |known: &&Known<A>| {
                known.contact.id != contact.id
                    && known
                        .contact
                        .address
                        .groups()
                        .is_some_and(|g| group(&g) == group(&groups))
            };
            (
                self.live.bucket(index).iter().filter(same).count(),
                self.live.iter().filter(same).count(),
            )
        };
        let limits = &self.config.groups;
        let (narrow_bucket, narrow_table) = count(|groups| groups.narrow);
        let (wide_bucket, wide_table) = count(|groups| groups.wide);
        let full = narrow_bucket >= limits.narrow_per_bucket
            || narrow_table >= limits.narrow_per_table
            || wide_bucket >= limits.wide_per_bucket
            || wide_table >= limits.wide_per_table;
        full.then_some(Refusal::Diversity)
    }

    fn index(&self, id: NodeId) -> Option<u32> {
        let index = self.local.distance(id.to_key()).leading_zeros();
        (index < ID_BITS).then_some(index)
    }
}

impl<A: Address> Known<A> {
    fn new(now: Instant, contact: &Contact<A>, rtt: Option<Duration>) -> Self {
        let mut known = Self {
            contact: contact.clone(),
            last_seen: now,
            rtt: 0,
            deviation: Micros24::default(),
            failures: 0,
        };
        known.measure(rtt);
        known
    }

    fn answered(&mut self, now: Instant, contact: &Contact<A>, rtt: Option<Duration>) {
        if self.contact.address != contact.address {
            self.contact.address = contact.address.clone();
            (self.rtt, self.deviation) = (0, Micros24::default());
        }
        self.last_seen = now;
        self.failures = 0;
        self.measure(rtt);
    }

    /// RFC 6298, section 2, in whole microseconds.
    fn measure(&mut self, rtt: Option<Duration>) {
        let Some(rtt) = rtt else { return };
        let sample = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1);
        if self.rtt == 0 {
            (self.rtt, self.deviation) = (sample, Micros24::saturating(sample / 2));
            return;
        }
        let off = self.rtt.abs_diff(sample);
        let deviation = self.deviation.get();
        self.deviation = Micros24::saturating(deviation - deviation / 4 + off / 4);
        self.rtt = (self.rtt - self.rtt / 8).saturating_add(sample / 8).max(1);
    }

    fn entry(&self) -> Entry<'_, A> {
        Entry {
            contact: &self.contact,
            last_seen: self.last_seen,
            rtt: (self.rtt != 0).then(|| Duration::from_micros(self.rtt.into())),
            deviation: Duration::from_micros(self.deviation.get().into()),
            failures: self.failures,
        }
    }
}

#[cfg(test)]
mod tests;
