//! The routing table: whom we know, many nearby and few far away (Kademlia paper, sections 2.2 and 2.4).
//!
//! Bucket `i` holds contacts whose ids share exactly `i` leading bits with the local one, so bucket 0 is the far half
//! of the space. Buckets exist only where there is somebody in them. All contacts lie in one array, bucket after bucket
//! from far to near, inside a bucket the least recently seen first; replacements lie in a second array of the same
//! order.
//!
//! It refuses to believe hearsay: a contact enters only after it answered us ([`RoutingTable::answered`]). It refuses
//! to forget old friends: a full bucket keeps its live contacts, because who has been up for long will stay (paper,
//! figure 1), and because nobody can push them out by showing up often. There are exceptions: the contacts nearest to
//! the own id are always let in (`table/neighbourhood.rs`), and of a far bucket a share is open to those that stand
//! where nobody else does (`table/spread.rs`) or answer faster (`table/proximity.rs`).

mod buckets;
mod closest;
mod config;
mod known;
mod neighbourhood;
mod proximity;
mod responsibility;
mod spread;

use self::buckets::Buckets;
pub use self::closest::ClosestScratch;
pub use self::config::{DEFAULT_FULL_CONTACTS, GroupLimits, MAX_FULL_CONTACTS, TableConfig};
pub use self::known::Entry;
use self::known::{Known, MOST_FAILURES};
use crate::{Address, AddressGroups, Contact, Distance, Duration, ID_BITS, Instant, Key, NodeId};

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

/// What became of a contact that has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Admission<A> {
    /// It was known and is fresh again.
    Updated,
    /// It is in the table now.
    Added,
    /// It is in the table now, in the place of another one, which waits for the next place.
    Replaced {
        /// Who has left the table.
        out: NodeId,
        /// What the newcomer is that the other one is not.
        merit: Merit,
    },
    /// Its bucket is full. It waits for a place; `probe` is the contact that was silent for longest and deserves a
    /// PING.
    Waiting {
        /// Whom to PING.
        probe: Option<Contact<A>>,
    },
    /// It may not enter.
    Refused(Refusal),
}

/// Why a contact took the place of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Merit {
    /// It is one of the contacts nearest to the own id.
    Near,
    /// It answers clearly faster.
    Fast,
    /// It comes from a region of the bucket that had nobody.
    Apart,
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
        /// Who took its place, on older evidence: probe it. If nobody did, somebody may wait who is a
        /// [candidate](RoutingTable::candidate).
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

    /// Contacts in a bucket. They may be more than its capacity where all of them are neighbours: at most
    /// [`TableConfig::neighbourhood`].
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
        self.bucket_len(bucket) < self.bucket_capacity(bucket) && !self.live.is_full()
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

    /// Whether a stranger is worth a PING: it is not known at this address, may enter, and there is room for it or for
    /// one more to wait, or it would be a neighbour, or would stand alone in its region of a bucket.
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
            || self.is_neighbour(index, contact.id)
            || self.crowded_by(index, contact.id).is_some()
            || (waiting.len() < self.config.replacements
                && !waiting.iter().any(|w| w.contact.id == contact.id));
        room && self.refusal(index, contact).is_none()
    }

    /// A contact has answered us. The address at which it did is the one that counts, unless the group of that one is
    /// full: then the contact is refused there and stays where it was.
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
        let known = match self.waiting.take_where(index, |w| w.contact.id == contact.id) {
            Some(mut known) => {
                known.answered(now, contact, rtt);
                known
            }
            None => Known::new(now, contact, rtt),
        };
        if self.has_room(index) {
            return self.push(index, known);
        }
        if self.is_neighbour(index, contact.id) {
            if let Some(place) = self.displaced_by(index, contact.id) {
                return self.displace(index, place, known, Merit::Near);
            }
            if !self.live.is_full() {
                return self.push(index, known);
            }
        }
        if let Some(place) = self.crowded_by(index, contact.id) {
            return self.displace(index, place, known, Merit::Apart);
        }
        if let Some(place) = self.outrun_by(index, &known) {
            return self.displace(index, place, known, Merit::Fast);
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
    /// address that is not the one known here says nothing: somebody else made it up, or it is out of date. `fresh` is
    /// as in [`remove`](Self::remove).
    pub fn failed(&mut self, fresh: Instant, contact: &Contact<A>) -> Removal<A> {
        let id = contact.id;
        let Some(index) = self.index(id) else {
            return Removal::Unknown;
        };
        self.waiting
            .take_where(index, |waiting| waiting.contact == *contact);
        let Some(known) = self
            .live
            .bucket_mut(index)
            .iter_mut()
            .find(|known| known.contact == *contact)
        else {
            return Removal::Unknown;
        };
        known.fail();
        match known.failures() >= self.config.failures.min(MOST_FAILURES) {
            true => self.remove(fresh, id),
            false => Removal::Kept,
        }
    }

    /// Removes a contact at once: it has left, or wants nobody to route through it. One of those that wait and have
    /// answered at `fresh` or later takes its place: the nearest if it is a neighbour now, else the freshest. The
    /// others may be gone themselves, and have to answer first: see [`candidate`](Self::candidate).
    pub fn remove(&mut self, fresh: Instant, id: NodeId) -> Removal<A> {
        let Some(index) = self.index(id) else {
            return Removal::Unknown;
        };
        self.waiting.take_where(index, |waiting| waiting.contact.id == id);
        let left = self.live.take_where(index, |known| known.contact.id == id);
        if left.is_none() {
            return Removal::Unknown;
        }
        let heir = self.heir(index, fresh).map(|waiting| waiting.contact.id);
        let promoted = heir.and_then(|id| self.waiting.take_where(index, |w| w.contact.id == id));
        Removal::Removed {
            promoted: promoted.map(|mut known| {
                let (contact, seen) = (known.contact.clone(), known.last_seen);
                known.set_tenured(self.gives_tenure(index));
                // It is older evidence than all that is there, so it goes first.
                self.live
                    .insert_sorted(index, known, |held| held.last_seen <= seen);
                contact
            }),
        }
    }

    /// Who waits for a place of the bucket of this id and finds one when it answers.
    #[must_use]
    pub fn candidate(&self, id: NodeId) -> Option<&Contact<A>> {
        let heir = self.heir(self.index(id)?, Instant::ZERO);
        heir.map(|waiting| &waiting.contact)
    }

    /// Who takes a place of a bucket that has fallen free, among those that have answered at `fresh` or later and may
    /// still enter: groups may have filled up since they began to wait.
    fn heir(&self, index: u32, fresh: Instant) -> Option<&Known<A>> {
        let waiting = self.waiting.bucket(index);
        let heirs = || {
            let may_enter = |waiting: &&Known<A>| {
                waiting.last_seen >= fresh && self.refusal(index, &waiting.contact).is_none()
            };
            waiting.iter().filter(may_enter)
        };
        let nearest = heirs().min_by_key(|waiting| self.distance(waiting.contact.id));
        nearest
            .filter(|waiting| self.is_neighbour(index, waiting.contact.id))
            .or_else(|| heirs().next_back().filter(|_| self.has_room(index)))
    }

    /// Adds a contact that has just answered.
    fn push(&mut self, index: u32, mut known: Known<A>) -> Admission<A> {
        known.set_tenured(self.gives_tenure(index));
        self.live.push(index, known);
        Admission::Added
    }

    /// Gives the place of a contact to another one that has just answered. The one that was there is alive, as far as
    /// is known, so it waits for the next place.
    fn displace(&mut self, index: u32, place: usize, by: Known<A>, merit: Merit) -> Admission<A> {
        if merit != Merit::Near {
            self.begin_tenure(index);
        }
        let Some(mut out) = self.live.replace(index, place, by) else {
            return Admission::Added;
        };
        let tenured = merit == Merit::Near && self.gives_tenure(index);
        if let Some(newcomer) = self.live.bucket_mut(index).last_mut() {
            newcomer.set_tenured(tenured);
        }
        let id = out.contact.id;
        out.set_tenured(false);
        self.wait(index, out);
        Admission::Replaced { out: id, merit }
    }

    /// Puts a contact among those that wait for a place. When there are too many, the one that was seen longest ago is
    /// forgotten.
    fn wait(&mut self, index: u32, known: Known<A>) {
        if self.config.replacements == 0 || self.waiting.is_full() {
            return;
        }
        let seen = known.last_seen;
        self.waiting
            .insert_sorted(index, known, |held| held.last_seen <= seen);
        if self.waiting.bucket(index).len() > self.config.replacements {
            self.waiting.remove_first(index);
        }
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
        let index = self.distance(id).leading_zeros();
        (index < ID_BITS).then_some(index)
    }

    fn distance(&self, id: NodeId) -> Distance {
        self.local.distance(id.to_key())
    }
}

#[cfg(test)]
mod tests;
