//! What the node does unasked: refresh, replication, expiry.

use alloc::vec::Vec;

use super::{Kademlia, Pending};
use crate::record::Kind;
use crate::table::Entry;
use crate::timers::Owner;
use crate::{Address, DueRecord, Event, Now, Outbox, Output, Record, StoreId, StoreOp, StoreReply, UnixTime};

/// Expired records removed in one go; when that many were found, the next go follows at once.
const EXPIRE_BATCH: usize = 256;

impl<A: Address> Kademlia<A> {
    pub(super) fn on_maintenance_timer(&mut self, now: Now, out: &mut Outbox<A>) {
        let at = now.monotonic;
        if self.maintenance.next_expire <= at {
            self.maintenance.plan_expire(&self.config, &mut self.rng, at);
            self.expire(now.unix, out);
        }
        if self.maintenance.next_due <= at {
            self.maintenance.plan_due(&self.config, &mut self.rng, at);
            self.maintenance.more_due = true;
            self.scan_due(now, out);
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
            self.probe_the_silent(now, out);
            self.refresh_next(now, out);
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
        let limit = room + self.maintenance.replicating;
        let id = self.pending.insert(Pending::Due);
        out.push(Output::Store {
            id: StoreId(id.to_u64()),
            op: StoreOp::Due { by: now.unix, limit },
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
        for DueRecord { record, own } in due {
            if self.maintenance.replicating >= limit || self.is_replicating(&record) {
                continue;
            }
            self.maintenance.replicating += 1;
            let record = if own {
                self.renewed(now.unix, record, out)
            } else {
                record
            };
            self.replicate(now, record, own, out);
        }
    }

    /// A record of our own that nears its end gets a new life; only its owner can do that for a signed one.
    fn renewed(&self, now: UnixTime, record: Record, out: &mut Outbox<A>) -> Record {
        let early = self.config.lifetime.saturating_sub(self.config.republish);
        let slack = early.saturating_add(self.config.replicate.saturating_mul(2));
        if record.expiry() > now + slack || record.is_tombstone() {
            return record;
        }
        if record.kind() != Kind::Immutable {
            out.push(Output::Event(Event::RepublishDue(record.clone())));
        }
        record.renewed(now + self.config.lifetime)
    }

    fn is_replicating(&self, record: &Record) -> bool {
        self.queries
            .iter()
            .filter(|(_, query)| query.id.is_none() && query.lookup.is_some())
            .filter_map(|(_, query)| query.region())
            .any(|region| region.key() == record.key())
    }

    /// PINGs contacts that were silent for a refresh interval, as many as may be probed at once, those that were silent for
    /// longest first: lookups meet most of the dead, and this the rest.
    fn probe_the_silent(&mut self, now: Now, out: &mut Outbox<A>) {
        let silent = |entry: &Entry<'_, A>| entry.last_seen + self.config.refresh <= now.monotonic;
        let mut contacts: Vec<Entry<'_, A>> = self.table.contacts().filter(silent).collect();
        // Or a wide bucket would always come before the others.
        contacts.sort_by_key(|entry| entry.last_seen);
        contacts.truncate(self.config.max_probes);
        let contacts: Vec<_> = contacts.into_iter().map(|entry| entry.contact.clone()).collect();
        for contact in contacts {
            self.probe(now, contact, out);
        }
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
