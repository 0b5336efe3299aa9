//! What the node does unasked: refresh, asking the silent, replication, expiry.

use alloc::vec::Vec;

use super::{Kademlia, Pending};
use crate::silence::ROUND;
use crate::table::Entry;
use crate::timers::Owner;
use crate::{
    Address, Due, Instant, MAX_RECORDS, NodeId, Now, Outbox, Output, Prefix, StoreId, StoreOp, StoreReply,
    UnixTime,
};

/// Expired records removed in one go; when that many were found, the next go follows at once.
const EXPIRE_BATCH: usize = 256;

/// Records looked for at once whose time has come.
const DUE_BATCH: usize = MAX_RECORDS;

impl<A: Address> Kademlia<A> {
    pub(super) fn on_maintenance_timer(&mut self, now: Now, out: &mut Outbox<A>) {
        let at = now.monotonic;
        if self.maintenance.next_expire <= at {
            self.maintenance.plan_expire(&self.config, &mut self.rng, at);
            self.expire(now.unix, out);
            // Not with every PONG: of the first few that a node hears, most may lie.
            self.check_clock(now, out);
        }
        if self.maintenance.next_due <= at {
            self.maintenance.plan_due(&self.config, &mut self.rng, at);
            self.maintenance.more_due = true;
            self.scan_due(now, out);
        }
        if self.maintenance.next_repair <= at {
            self.maintenance.plan_repair(&self.config, &mut self.rng, at);
            self.repair(now, out);
        }
        if self.maintenance.next_refresh <= at {
            let (table, edge) = (&self.table, self.edge());
            let has_room = |bucket| table.has_room(bucket);
            self.maintenance
                .plan_refresh(&self.config, &mut self.rng, at, edge, has_room);
            if self.samples.want_another(at, self.config.refresh) {
                // The far half always counts. In a busy node nothing is due: others want points of all buckets.
                self.maintenance.want(0);
            }
            self.ask_again(now, out);
            self.refresh_next(now, out);
        }
        if self.maintenance.silence.next() <= at {
            self.ask_the_silent(now, out);
        }
        self.timers.set(Owner::Maintenance, self.maintenance.next());
    }

    fn expire(&mut self, now: UnixTime, out: &mut Outbox<A>) {
        let id = self.pending.insert(Pending::Expire);
        out.push(Output::Store {
            id: StoreId(id.to_u64()),
            op: StoreOp::Expire {
                now,
                limit: EXPIRE_BATCH,
            },
        });
    }

    pub(super) fn on_expired(&mut self, now: Now, reply: &StoreReply, out: &mut Outbox<A>) {
        if matches!(reply, StoreReply::Expired { more: true }) {
            self.expire(now.unix, out);
        }
    }

    /// Asks for records that are due, if there is anybody to hand them to and room to do it.
    pub(super) fn scan_due(&mut self, now: Now, out: &mut Outbox<A>) {
        let room = self
            .config
            .max_replications
            .saturating_sub(self.maintenance.replicating);
        if room == 0 || self.maintenance.scanning || !self.maintenance.more_due || self.table.is_empty() {
            return;
        }
        self.maintenance.scanning = true;
        // Those under way are still due until their store query notes otherwise.
        let limit = DUE_BATCH.max(room + self.maintenance.replicating);
        let id = self.pending.insert(Pending::Due);
        out.push(Output::Store {
            id: StoreId(id.to_u64()),
            op: StoreOp::Due(Due {
                within: Prefix::ALL,
                after: None,
                own: false,
                by: now.unix,
                limit,
            }),
        });
    }

    pub(super) fn on_due(&mut self, now: Now, reply: StoreReply, out: &mut Outbox<A>) {
        self.maintenance.scanning = false;
        let due = match reply {
            StoreReply::Due(due) => due,
            _ => Vec::new(),
        };
        let limit = self.config.max_replications;
        self.maintenance.more_due = due.len() >= limit;
        let (own, others): (Vec<_>, Vec<_>) = due.into_iter().partition(|due| due.own);
        for due in own {
            self.sweep(now, due.record.key(), out);
        }
        self.look_after(now, others.into_iter().map(|due| due.record).collect(), out);
    }

    /// PINGs contacts that would be silent for a refresh interval otherwise: lookups meet most of the dead, and this
    /// the rest.
    fn ask_the_silent(&mut self, now: Now, out: &mut Outbox<A>) {
        let is_probed = |id: NodeId| {
            self.table
                .get(id)
                .is_some_and(|entry| self.is_probed(entry.contact))
        };
        let probed: Vec<NodeId> = self.probing.iter().copied().filter(|&id| is_probed(id)).collect();
        let silence = &mut self.maintenance.silence;
        let since = silence.unasked();
        // Whoever is being probed is asked already, and is gone or fresh in a moment.
        let unasked = |entry: &Entry<'_, A>| entry.last_seen >= since && !probed.contains(&entry.contact.id);
        let unasked = || self.table.contacts().filter(unasked);
        let mut heard: Vec<_> = unasked().map(|entry| entry.last_seen).collect();
        heard.sort_unstable();
        let count = silence.plan(self.config.refresh, now.monotonic, self.table.len(), &heard);
        let Some(&last) = heard[..count].last() else {
            return;
        };
        // Of those that were heard of at the same moment as the last, some may have to wait.
        let older = unasked().filter(|entry| entry.last_seen < last);
        let others = unasked().filter(|entry| entry.last_seen == last);
        let silent = older.chain(others).take(count);
        let silent: Vec<_> = silent.map(|entry| entry.contact.clone()).collect();
        for contact in silent {
            self.probe(now, contact, out);
        }
    }

    /// PINGs those once more that were asked and have neither answered nor failed, as many as a round takes, those that
    /// were silent for longest first: this node could not send, or they were busy.
    fn ask_again(&mut self, now: Now, out: &mut Outbox<A>) {
        let long_ago = self.long_ago(now);
        let silent = |entry: &Entry<'_, A>| entry.last_seen < long_ago;
        let mut contacts: Vec<Entry<'_, A>> = self.table.contacts().filter(silent).collect();
        contacts.sort_unstable_by_key(|entry| entry.last_seen);
        contacts.truncate(ROUND);
        let contacts: Vec<_> = contacts.into_iter().map(|entry| entry.contact.clone()).collect();
        for contact in contacts {
            self.probe(now, contact, out);
        }
    }

    /// A refresh interval ago: who was last heard of before may be gone.
    pub(super) fn long_ago(&self, now: Now) -> Instant {
        Instant::ZERO + now.monotonic.since(Instant::ZERO + self.config.refresh)
    }

    /// Starts the refresh of the next bucket that waits for one.
    pub(super) fn refresh_next(&mut self, now: Now, out: &mut Outbox<A>) {
        if self.maintenance.refreshing || self.table.is_empty() {
            return;
        }
        if let Some(bucket) = self.maintenance.take_waiting() {
            self.maintenance.refreshing = true;
            self.refresh(now, bucket, out);
        }
    }
}
