//! Keeping the records of others where they belong: with those that are responsible for them.
//!
//! Nobody hands a record on because an hour has passed. Every node compares what it holds of the keys for which it is
//! responsible (`table/responsibility.rs`) with a few of those that are responsible for the same, and fetches what it
//! lacks (`query/reconcile.rs`). So a newcomer, a node that comes back, and one that moved up because a holder died
//! each get what they lack once, from one peer and not from k; and where nothing has changed, it costs a hundred bytes
//! an hour and peer however many records there are.
//!
//! Two cases are left. A node that leaves *hands over*: whoever moves up in its place is given what is missing there.
//! And a record that a node holds without being responsible for it any more might be the last copy, if the holders have
//! all changed while the node was away. So it is compared with one of those nearest to it from time to time, and given
//! if it is missing there.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use super::{Kademlia, Pending};
use crate::query::{Direction, Reconcile, Task, Visit};
use crate::summary::{MAX_PREFIX_BITS, PARTS};
use crate::{
    Address, Contact, Key, NodeId, Now, Outbox, Output, Prefix, Record, Source, StoreEntry, StoreId, StoreOp,
    UnixTime,
};

/// A record that this node holds without being responsible for it is compared with one of so many that are nearest to
/// it.
const ASKED_OF_NEAREST: usize = 3;

/// Points of a part at which is looked who moves up: it may not be the same everywhere.
const POINTS_OF_PART: usize = 2;

impl<A: Address> Kademlia<A> {
    /// Starts to compare what this node holds with others.
    pub(super) fn repair(&mut self, now: Now, out: &mut Outbox<A>) {
        if self.holder().is_none() || self.maintenance.repairing || self.table.is_empty() {
            return;
        }
        let prefixes = self.table.responsibilities(self.config.k);
        let (mut rounds, mut visited) = (Vec::new(), BTreeSet::new());
        for _ in 0..self.config.repair_peers {
            rounds.push(self.round(&prefixes, &mut visited));
        }
        // A newcomer may begin with one that has nothing either.
        let thorough = self.stats.repairs == 0;
        self.maintenance.repairing = true;
        self.stats.repairs += 1;
        let task = Reconcile::new(Direction::Draw, rounds, thorough);
        self.start(now, None, Task::Reconcile(task), None, out);
    }

    /// Peers who together should hold everything with these prefixes, and who are not visited yet: as few as there can
    /// be.
    fn round(&mut self, prefixes: &[Prefix], visited: &mut BTreeSet<NodeId>) -> Vec<Visit<A>> {
        let mut left: Vec<(Prefix, Vec<Contact<A>>)> = Vec::with_capacity(prefixes.len());
        for &prefix in prefixes {
            let point = self.point_in(prefix);
            // Who is one of the k nearest to this point may not be so to others of the part; who is nearer likely is.
            let mut holders = self.nearest(point, self.config.k.div_ceil(2));
            holders.retain(|holder| !visited.contains(&holder.id));
            left.push((prefix, holders));
        }
        let mut visits = Vec::new();
        loop {
            // Who can tell of most; by chance, if several can.
            let mut shares: BTreeMap<NodeId, (usize, u64, &Contact<A>)> = BTreeMap::new();
            for holder in left.iter().flat_map(|(_, holders)| holders) {
                let dice = self.rng.next_u64();
                shares.entry(holder.id).or_insert((0, dice, holder)).0 += 1;
            }
            let best = shares.into_values().max_by_key(|&(share, dice, _)| (share, dice));
            let Some(contact) = best.map(|(.., contact)| contact.clone()) else {
                return visits;
            };
            visited.insert(contact.id);
            let mut shared = Vec::new();
            left.retain(|(prefix, holders)| {
                let is_shared = holders.iter().any(|holder| holder.id == contact.id);
                shared.extend(is_shared.then_some(*prefix));
                !is_shared
            });
            shared.sort_unstable();
            visits.push((contact, shared));
        }
    }

    /// What a node that leaves does for its records: of each part whoever is the last of the k nearest without this
    /// node.
    pub(super) fn handing_over(&mut self) -> Reconcile<A> {
        let mut heirs: BTreeMap<NodeId, Visit<A>> = BTreeMap::new();
        for prefix in self.table.responsibilities(self.config.k) {
            let parts = prefix.parts().unwrap_or([prefix; PARTS]);
            for part in parts.into_iter().flat_map(|part| [part; POINTS_OF_PART]) {
                let point = self.point_in(part);
                // With fewer than k others everybody has everything.
                if let Some(heir) = self
                    .nearest(point, self.config.k)
                    .into_iter()
                    .nth(self.config.k - 1)
                {
                    heirs.entry(heir.id).or_insert((heir, Vec::new())).1.push(part);
                }
            }
        }
        let visits = heirs.into_values().map(|(heir, mut parts)| {
            parts.sort_unstable();
            parts.dedup();
            (heir, parts)
        });
        Reconcile::new(Direction::Hand, vec![visits.collect()], true)
    }

    /// Records of others whose time has come. Where this node is responsible for them that is all; the others are
    /// compared with somebody who is.
    pub(super) fn look_after(&mut self, now: Now, records: Vec<Record>, out: &mut Outbox<A>) {
        // Who only asks is responsible for nothing, and gives away what it once took in.
        let prefixes = match self.holder() {
            None if self.read_only => Vec::new(),
            _ => self.table.responsibilities(self.config.k),
        };
        let is_ours = |key: Key| prefixes.iter().any(|prefix| prefix.contains(key));
        let (mut noted, mut visits): (Vec<Record>, BTreeMap<NodeId, Visit<A>>) =
            (Vec::new(), BTreeMap::new());
        for record in records {
            let key = record.key();
            if !is_ours(key) {
                if self.maintenance.handing {
                    // Still due, and found again by the next scan.
                    self.maintenance.more_due = false;
                    continue;
                }
                let nearest = self.nearest(key, ASKED_OF_NEAREST);
                let chosen = self.rng.next_u64() as usize % nearest.len().max(1);
                if let Some(holder) = nearest.into_iter().nth(chosen) {
                    let prefix = Prefix::new(key.to_limbs()[0], MAX_PREFIX_BITS);
                    visits
                        .entry(holder.id)
                        .or_insert((holder, Vec::new()))
                        .1
                        .push(prefix);
                }
            }
            noted.push(record);
        }
        let visits: Vec<_> = visits
            .into_values()
            .map(|(holder, mut prefixes)| {
                prefixes.sort_unstable();
                prefixes.dedup();
                (holder, prefixes)
            })
            .collect();
        if !visits.is_empty() {
            self.maintenance.handing = true;
            let task = Reconcile::new(Direction::Hand, vec![visits], true);
            self.start(now, None, Task::Reconcile(task), None, out);
        }
        if !noted.is_empty() {
            let id = self.pending.insert(Pending::Note);
            let op = StoreOp::Put {
                entries: noted.into_iter().map(StoreEntry::from).collect(),
                due: self.due_of_others(now.unix),
                own: false,
                source: Source::UNKNOWN,
                sender: None,
            };
            out.push(Output::Store {
                id: StoreId(id.to_u64()),
                op,
            });
        }
    }

    /// A comparison has ended; `own` if the node itself began it.
    pub(super) fn reconciled(&mut self, task: &Reconcile<A>, own: bool) {
        match task.direction() {
            Direction::Draw => {
                self.maintenance.repairing = false;
                self.stats.records_drawn += task.moved();
            }
            Direction::Hand => {
                self.maintenance.handing &= !own;
                self.stats.records_handed += task.moved();
            }
        }
    }

    /// When a record of somebody else is looked after next.
    pub(super) fn due_of_others(&mut self, now: UnixTime) -> UnixTime {
        now + self.rng.shortened(self.config.look_after)
    }

    pub(super) fn point_in(&mut self, prefix: Prefix) -> Key {
        let last = prefix.last().to_limbs()[0];
        let free = prefix.bits() ^ last;
        let top = prefix.bits() | self.rng.next_u64() & free;
        Key::from_limbs([top, self.rng.next_u64(), 0, 0])
    }

    /// The nearest contacts that have not just failed.
    fn nearest(&mut self, point: Key, count: usize) -> Vec<Contact<A>> {
        let closest = self.table.closest(point, count, &mut self.scratch);
        let alive = closest.filter(|entry| entry.failures == 0);
        alive.map(|entry| entry.contact.clone()).collect()
    }
}
