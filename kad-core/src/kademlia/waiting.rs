//! What becomes of requests whose answers let us wait: somebody else is asked as well, then the query goes on without,
//! and in the end the contact is found dead.
//!
//! ```text
//!   sent ──► late: hedged ──────────► given up ───────────► lost: the contact is blamed
//!              STORE: a PING asks whether it is alive
//!                └─ late as well: the contact is suspected, and what is late from it is given up
//! ```

use alloc::vec::Vec;

use super::Kademlia;
use crate::rpc::{Asked, Purpose, Stage};
use crate::slab::Handle;
use crate::timers::Owner;
use crate::{Address, Contact, Duration, NodeId, Now, Outbox, Output, RequestId};

/// Requests to one dead contact that are given up in one go; those beyond run into their own deadlines.
const MAX_GIVEN_UP: usize = 16;

/// Requests whose answers nobody waits for any more, and whose fate is still waited for; further ones are cancelled and
/// nobody is blamed.
const MAX_JUDGING: usize = 128;

/// By how much at least the time of a STORE is prolonged while the others of its kind are not answered either.
const PROLONGED: Duration = Duration::from_millis(10);

impl<A: Address> Kademlia<A> {
    /// A question is late, and somebody else is asked as well; or it is given up by whoever waited; or the contact is
    /// lost.
    pub(super) fn on_flight_timer(&mut self, now: Now, place: u32, out: &mut Outbox<A>) {
        let Some(handle) = self.flights.handle_at(place) else {
            return;
        };
        let Some(flight) = self.flights.get_mut(handle) else {
            return;
        };
        let (contact, purpose, asked) = (flight.contact.clone(), flight.purpose, flight.asked);
        let waited = now.monotonic.since(flight.sent);
        if waited >= flight.limits.lost {
            return self.on_lost(now, handle, out);
        }
        if waited >= flight.limits.given_up {
            self.give_up(now, handle, out);
            return self.suspect(now, &contact, out);
        }
        let store = asked.waits_for_disk();
        if let Purpose::Query(query) = purpose
            && store
            && !flight.suspected
            && waited < self.config.patience.store_floor / 8
            && let Some(query) = self.queries.get_mut(query)
            && !query.is_mostly_told()
        {
            // The others let us wait as well: their disks are slow, or we are busy ourselves.
            flight.limits.late = waited + (waited / 2).max(PROLONGED);
            let next = flight.next();
            return self.timers.set(Owner::Rpc(place), next);
        }
        flight.stage = Stage::Late;
        let (next, suspected) = (flight.next(), flight.suspected);
        self.timers.set(Owner::Rpc(place), next);
        if asked == Asked::Ping {
            // A late PING alone says little: it is the second thing that is late.
            if !self.late_of(&contact).is_empty() {
                self.suspect(now, &contact, out);
            }
            return;
        }
        if !suspected && self.can_spare(purpose) && self.suspects.contains(&contact, now.monotonic) {
            // What made it suspected was not yet known when this was sent.
            return self.give_up(now, handle, out);
        }
        if store {
            // A slow disk or a dead peer? A PING tells.
            self.probe(now, contact.clone(), out);
        }
        self.hedge(now, purpose, contact.id, out);
    }

    /// Somebody else is asked as well.
    fn hedge(&mut self, now: Now, purpose: Purpose, id: NodeId, out: &mut Outbox<A>) {
        if let Purpose::Query(query) = purpose
            && let Some(asking) = self.queries.get_mut(query)
        {
            self.stats.hedges += 1;
            asking.on_slow(id);
            self.pump(now, query, out);
        }
    }

    /// A contact has let a PING wait for longer than it should, or anything else for much longer. Until it answers or
    /// is found dead, nobody waits long for it, and those whose answers from it are late go on without.
    fn suspect(&mut self, now: Now, contact: &Contact<A>, out: &mut Outbox<A>) {
        self.suspects
            .add(contact, now.monotonic + self.config.patience.initial);
        for (handle, purpose) in self.late_of(contact) {
            if self.can_spare(purpose) {
                self.give_up(now, handle, out);
            }
        }
    }

    /// Whether somebody else can take the place of whoever was asked. One question to one contact ends with it.
    pub(super) fn can_spare(&mut self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Query(query) => self
                .queries
                .get_mut(query)
                .is_some_and(|query| query.lookup.is_some()),
            Purpose::Probe => false,
        }
    }

    /// What queries have asked a contact and not got in time.
    fn late_of(&self, contact: &Contact<A>) -> Vec<(Handle, Purpose)> {
        let late = self.flights.iter().filter(|(_, flight)| {
            flight.stage == Stage::Late && flight.asked != Asked::Ping && flight.contact == *contact
        });
        late.map(|(handle, flight)| (handle, flight.purpose))
            .take(MAX_GIVEN_UP)
            .collect()
    }

    /// A query goes on without an answer. If it comes it still counts, and if not, the contact is dead.
    fn give_up(&mut self, now: Now, handle: Handle, out: &mut Outbox<A>) {
        let Some(flight) = self.flights.get_mut(handle) else {
            return;
        };
        let Purpose::Query(query) = flight.purpose else {
            return;
        };
        flight.stage = Stage::GivenUp;
        let (id, next) = (flight.contact.id, flight.next());
        self.timers.set(Owner::Rpc(handle.place), next);
        self.judging += 1;
        self.forsake(query, handle);
        self.stats.failures += 1;
        if let Some(asking) = self.queries.get_mut(query) {
            asking.effort.failures += 1;
            asking.on_overdue(id);
            self.pump(now, query, out);
        }
        if self.judging > MAX_JUDGING {
            self.cancel_flight(handle, out);
        }
    }

    /// Nobody has answered, and the time for that is over.
    fn on_lost(&mut self, now: Now, handle: Handle, out: &mut Outbox<A>) {
        let Some(flight) = self.settle(handle) else { return };
        self.stats.timeouts += 1;
        out.push(Output::Cancel {
            id: RequestId(handle.to_u64()),
        });
        self.blame(now, &flight, out);
        self.fail_query(now, &flight, out);
        if flight.purpose == Purpose::Probe {
            self.give_up_on(now, &flight.contact, out);
        }
    }

    /// A query has ended. What it still has in flight is cancelled, but for what is late: its fate says who is dead, or
    /// every query that ends early would ask the dead again.
    pub(super) fn leave_flight(&mut self, now: Now, handle: Handle, out: &mut Outbox<A>) {
        let Some(flight) = self.flights.get_mut(handle) else {
            return;
        };
        if flight.stage == Stage::Late && self.judging < MAX_JUDGING {
            flight.stage = Stage::GivenUp;
            let next = flight.next().max(now.monotonic + Duration::from_micros(1));
            self.judging += 1;
            self.timers.set(Owner::Rpc(handle.place), next);
        } else {
            self.cancel_flight(handle, out);
        }
    }

    /// A contact did not answer a PING, so it will not answer anything that queries have asked it. The second PING,
    /// which decides about its place in the table, goes on.
    fn give_up_on(&mut self, now: Now, contact: &Contact<A>, out: &mut Outbox<A>) {
        let waiting = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.contact == *contact && flight.purpose != Purpose::Probe);
        let waiting: Vec<Handle> = waiting.map(|(handle, _)| handle).take(MAX_GIVEN_UP).collect();
        for handle in waiting {
            if let Some(flight) = self.settle(handle) {
                self.stats.timeouts += 1;
                out.push(Output::Cancel {
                    id: RequestId(handle.to_u64()),
                });
                self.fail_query(now, &flight, out);
            }
        }
    }
}

#[cfg(test)]
mod tests;
