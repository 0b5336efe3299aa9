//! The node's own records are stored again, region by region (`query/sweep.rs`).
//!
//! When something of its own is due, everything of its region is that will be due before long. So what was published
//! one by one gathers, and a node with many keys sweeps over the key space, some regions at a time and no faster than
//! its records come due. Due times lie in the store, so a sweep goes on where it was after a restart, and what came due
//! meanwhile comes first, as nothing else is due.

use alloc::vec;
use alloc::vec::Vec;

use super::lookups::FAR_OF_WRITES;
use super::{Kademlia, Pending};
use crate::lookup::Lookup;
use crate::query::{FindValueTask, Placing, Role, Sweep, Sweeping, Task};
use crate::summary::MAX_PREFIX_BITS;
use crate::{
    Address, Duration, Event, FindValue, Key, Kind, Now, Outbox, Output, Prefix, Read, Record, Source,
    StoreEntry, StoreId, StoreOp, UnixTime, Want,
};

/// Bits of a key that a lookup of its region has in common with it, beyond those of the region: enough where the
/// network is sixteen times as large as was thought.
const NEAR_BITS: u8 = 4;

/// A signed record that nobody renews is stored again after this part of the interval at least, three hours by default;
/// and one that nobody takes as often, to be there when somebody does.
const LEAST_OF_ENDING: u32 = 8;

/// A region that is swept takes with it what is due within this part of the interval.
const AHEAD: u32 = 4;

impl<A: Address> Kademlia<A> {
    /// Sweeps over the region of a key, unless that is under way or there is enough to do.
    pub(super) fn sweep(&mut self, now: Now, key: Key, out: &mut Outbox<A>) {
        if self.maintenance.replicating >= self.config.max_replications || self.is_sweeping(key) {
            return;
        }
        let region = self.region_of(key);
        let about = Sweeping {
            region,
            by: now.unix + self.config.republish / AHEAD,
            now: now.unix,
            expiry: now.unix + self.config.lifetime,
            placing: self.placing(),
            enough: self.config.write_quorum,
        };
        self.maintenance.replicating += 1;
        let lookup = self.region_lookup(now, key, region);
        self.start(now, None, Task::Sweep(Sweep::new(about)), Some(lookup), out);
    }

    /// As many nodes around a random point near the key as the keys of its region can have holders.
    fn region_lookup(&mut self, now: Now, key: Key, region: Prefix) -> Lookup<A> {
        let point = self.point_near(key, region);
        let results = self.config.k.saturating_mul(2);
        self.upkeep_lookup(now, point, results)
    }

    /// The region of a key, and the same lookup for a writer who waits.
    pub(super) fn bulk_lookup(&mut self, now: Now, key: Key) -> (Prefix, Lookup<A>) {
        let region = self.region_of(key);
        let point = self.point_near(key, region);
        let (far, results) = (
            FAR_OF_WRITES.min(self.config.alpha),
            self.config.k.saturating_mul(2),
        );
        let lookup = self.lookup_of(now, point, (far, results), results, Vec::new());
        (region, lookup)
    }

    /// A point of the region that nobody can foresee, in the part of it that the key is in: if the region has more
    /// nodes than was thought, those around the key are found.
    fn point_near(&mut self, key: Key, region: Prefix) -> Key {
        self.point_in(Prefix::new(
            key.to_limbs()[0],
            region.len().saturating_add(NEAR_BITS),
        ))
    }

    /// What decides which of the nodes of a region take a record.
    pub(super) fn placing(&self) -> Placing {
        Placing {
            k: self.config.k,
            me: self.holder(),
            population: self.population_for_crowds(),
        }
    }

    /// The region of a key: the part of the key space around it that has half of k to k nodes, as far as is known.
    /// Records of one region are stored together by [`Command::StoreMany`](crate::Command::StoreMany).
    #[must_use]
    pub fn region_of(&self, key: Key) -> Prefix {
        let nodes = self.population().map_or(1, |population| population.nodes);
        let regions = (nodes.saturating_mul(2) / self.config.k.max(1) as u64).max(1);
        let bits = regions.ilog2().min(MAX_PREFIX_BITS.into()) as u8;
        Prefix::new(key.to_limbs()[0], bits)
    }

    fn is_sweeping(&self, key: Key) -> bool {
        self.queries.iter().any(|(_, query)| match &query.task {
            Task::Sweep(sweep) => sweep.prefix().contains(key),
            Task::Store(task) => task.role() == Role::Replicate && task.key() == key,
            _ => false,
        })
    }

    /// A region was swept, as far as it goes.
    pub(super) fn swept(&mut self, now: Now, sweep: &Sweep<A>, out: &mut Outbox<A>) {
        let done = sweep.done();
        self.maintenance.replicating = self.maintenance.replicating.saturating_sub(1);
        self.stats.sweeps += 1;
        self.stats.records_swept += done.records;
        self.stats.late_by = done.late_by;
        for record in sweep.ending() {
            out.push(Output::Event(Event::RepublishDue(record.clone())));
        }
        // Those beyond are soon due again, and found by the next sweep.
        let limit = self.config.max_replications;
        let room = limit.saturating_sub(self.maintenance.replicating);
        for &key in sweep.outdated().iter().take(room) {
            self.maintenance.replicating += 1;
            self.catch_up(now, key, out);
        }
        for record in sweep.crowded() {
            if self.maintenance.replicating < self.config.max_replications {
                self.maintenance.replicating += 1;
                self.replicate(now, record.clone(), out);
            }
        }
        // What is still due would be found again at once and stored without end: the next scan is soon enough.
        self.maintenance.more_due &= !sweep.is_refused();
        self.scan_due(now, out);
    }

    /// Reads a record that this node keeps and somebody else has written meanwhile. The newer version takes the place
    /// of the old one (`kept_up`): else that would be stored again for ever, and come back once the newer one has
    /// ended. It counts as a region that is swept.
    fn catch_up(&mut self, now: Now, key: Key, out: &mut Outbox<A>) {
        let ask = FindValue {
            key,
            kind: Kind::Mutable,
            min_seq: 0,
            after: None,
            want: Want::Record,
        };
        let read = Read::Quorum(self.config.read_quorum);
        let task = FindValueTask::new(ask, read, self.region(key));
        let lookup = self.upkeep_lookup(now, key, self.config.k);
        self.start(now, None, Task::FindValue(task), Some(lookup), out);
    }

    /// What was read to catch up takes the place of what is kept, and so is the node's own as well. It is put as what
    /// others have written, because the application may have a say in that.
    pub(super) fn kept_up(&mut self, now: Now, found: &FindValueTask<A>, out: &mut Outbox<A>) {
        let Some(newest) = found.newest() else { return };
        let entries = vec![StoreEntry::from(newest.clone())];
        let due = self.due_of_own(now.unix, &entries);
        let id = self.pending.insert(Pending::Note);
        let op = StoreOp::Put {
            entries,
            due,
            own: false,
            source: Source::UNKNOWN,
            sender: None,
        };
        out.push(Output::Store {
            id: StoreId(id.to_u64()),
            op,
        });
    }

    /// When records of the node's own are stored next: none may end before, and all of a batch stay together.
    pub(super) fn due_of_own(&mut self, now: UnixTime, entries: &[StoreEntry]) -> UnixTime {
        let wait = self.config.republish.min(half_of_life(now, entries));
        now + self.rng.shortened(wait)
    }

    /// The same where they cannot be given a new life: halves of what is left would become ever shorter.
    pub(super) fn due_of_ending(&mut self, now: UnixTime, entries: &[StoreEntry]) -> UnixTime {
        let least = self.config.republish / LEAST_OF_ENDING;
        let wait = self.config.republish.min(half_of_life(now, entries)).max(least);
        now + self.rng.shortened(wait)
    }

    /// The same where nobody takes them.
    pub(super) fn due_of_refused(&mut self, now: UnixTime) -> UnixTime {
        now + self.rng.shortened(self.config.republish / LEAST_OF_ENDING)
    }
}

/// Half of what the one that ends first has left.
fn half_of_life(now: UnixTime, entries: &[StoreEntry]) -> Duration {
    let records = entries.iter().filter_map(|entry| entry.record.as_ref().ok());
    let left = records
        .map(|record: &Record| record.expiry().secs_since(now))
        .min();
    left.map_or(Duration::MAX, |left| Duration::from_secs(left / 2))
}
