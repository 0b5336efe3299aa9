//! Asking peers, and what their answers and their silence mean for the table.

use alloc::vec::Vec;

use super::Kademlia;
use crate::query::Misfit;
use crate::rpc::{Asked, Flight, Purpose};
use crate::slab::Handle;
use crate::table::{Admission, Merit, Removal};
use crate::timers::Owner;
use crate::{
    Address, Contact, Duration, Event, Failure, NodeId, Now, Outbox, Output, Rejection, Request, RequestId,
    Response,
};

/// Requests to one dead contact that are given up in one go; those beyond run into their own deadlines.
const MAX_GIVEN_UP: usize = 16;

impl<A: Address> Kademlia<A> {
    /// Sends a request and arms its timer.
    pub(super) fn send(
        &mut self,
        now: Now,
        contact: Contact<A>,
        request: Request,
        purpose: Purpose,
        out: &mut Outbox<A>,
    ) -> Handle {
        let asked = Asked::of(&request);
        let known = self.table.get(contact.id);
        let patience = self
            .lateness
            .deadline(&self.config.patience, asked, known.as_ref(), now.monotonic);
        let deadline = now.monotonic + patience;
        let flight = Flight {
            contact: contact.clone(),
            purpose,
            asked,
            sent: now.monotonic,
            deadline,
        };
        let handle = self.flights.insert(flight);
        let late = now.monotonic + self.lateness.after(&self.config.patience);
        let hedged = matches!(purpose, Purpose::Query(_)) && late < deadline;
        self.timers
            .set(Owner::Rpc(handle.place), if hedged { late } else { deadline });
        self.stats.requests_sent += 1;
        out.push(Output::Request {
            id: RequestId(handle.to_u64()),
            to: contact,
            request,
        });
        handle
    }

    /// PINGs a contact that may enter the table or may be gone, unless enough are being probed.
    pub(super) fn probe(&mut self, now: Now, contact: Contact<A>, out: &mut Outbox<A>) {
        let room = self.probing.len() < self.config.max_probes;
        if room && !self.probing.contains(&contact.id) {
            self.probing.push(contact.id);
            self.send(now, contact, Request::Ping, Purpose::Probe, out);
        }
    }

    pub(super) fn on_response(
        &mut self,
        now: Now,
        handle: Handle,
        response: Response<A>,
        rtt: Option<Duration>,
        out: &mut Outbox<A>,
    ) {
        let Some(flight) = self.settle(handle) else {
            self.stats.unexpected_responses += 1;
            return;
        };
        if !flight.asked.fits(&response) {
            return self.misfit(now, &flight, out);
        }
        self.stats.responses_received += 1;
        if rtt.is_some() {
            let expected = self.table.get(flight.contact.id).and_then(|entry| entry.rtt);
            self.lateness.sample(now.monotonic.since(flight.sent), expected);
        }
        match response {
            Response::Rejected(Rejection::ReadOnly) => {
                // It serves nobody, so it has no business in a table.
                self.drop_contact(now, flight.contact.id, out);
                self.fail_query(now, &flight, out);
            }
            Response::Rejected(_) => self.fail_query(now, &flight, out),
            response => {
                self.admit(now, &flight.contact, rtt, out);
                let Purpose::Query(query) = flight.purpose else {
                    return;
                };
                let Some(asking) = self.queries.get_mut(query) else {
                    return;
                };
                let (table, shunned) = (&self.table, &self.shunned);
                // What we know better than the peer: contacts that were just found dead at that address.
                let alive = |contact: &Contact<A>| {
                    let flagged = table.get(contact.id).filter(|entry| entry.failures > 0);
                    flagged.is_none_or(|entry| entry.contact.address != contact.address)
                        && !shunned.contains(contact, now.monotonic)
                };
                match asking.on_response(&flight.contact, response, alive) {
                    Ok(()) => self.pump(now, query, out),
                    Err(Misfit) => self.misfit(now, &flight, out),
                }
            }
        }
    }

    pub(super) fn on_failure(&mut self, now: Now, handle: Handle, failure: Failure, out: &mut Outbox<A>) {
        let Some(flight) = self.settle(handle) else { return };
        match failure {
            Failure::Unreachable | Failure::WrongIdentity => self.blame(now, &flight, out),
            // It is there, or the fault was ours.
            Failure::Busy | Failure::Local => {}
            Failure::Malformed => self.stats.misfits += 1,
        }
        self.fail_query(now, &flight, out);
    }

    /// Either the question is late and somebody else is asked as well, or it has failed.
    pub(super) fn on_flight_timer(&mut self, now: Now, place: u32, out: &mut Outbox<A>) {
        let Some(handle) = self.flights.handle_at(place) else {
            return;
        };
        let Some(flight) = self.flights.get(handle) else {
            return;
        };
        if now.monotonic < flight.deadline {
            let (deadline, contact, asked, purpose) = (
                flight.deadline,
                flight.contact.clone(),
                flight.asked,
                flight.purpose,
            );
            self.timers.set(Owner::Rpc(place), deadline);
            if let Purpose::Query(query) = purpose
                && let Some(lookup) = self
                    .queries
                    .get_mut(query)
                    .and_then(|query| query.lookup.as_mut())
            {
                lookup.on_slow(contact.id);
                self.stats.hedges += 1;
                self.pump(now, query, out);
            }
            if matches!(asked, Asked::Store { .. }) {
                // A slow disk or a dead peer? A PING tells.
                self.probe(now, contact, out);
            }
            return;
        }
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

    /// A contact did not answer a PING, so it will not answer anything else that waits for it.
    fn give_up_on(&mut self, now: Now, contact: &Contact<A>, out: &mut Outbox<A>) {
        let waiting = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.contact == *contact);
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

    /// Forgets a request; nobody is to blame.
    pub(super) fn cancel_flight(&mut self, handle: Handle, out: &mut Outbox<A>) {
        if self.flights.remove(handle).is_some() {
            self.timers.clear(Owner::Rpc(handle.place));
            out.push(Output::Cancel {
                id: RequestId(handle.to_u64()),
            });
        }
    }

    fn settle(&mut self, handle: Handle) -> Option<Flight<A>> {
        let flight = self.flights.remove(handle)?;
        self.timers.clear(Owner::Rpc(handle.place));
        match flight.purpose {
            Purpose::Probe => {
                self.probing.retain(|&id| id != flight.contact.id);
                if self.probing.is_empty() {
                    self.probing = Vec::new(); // As the slabs do: idle nodes are small.
                }
            }
            Purpose::Query(query) => {
                if let Some(query) = self.queries.get_mut(query) {
                    query.flights.retain(|&other| other != handle);
                }
            }
        }
        Some(flight)
    }

    fn misfit(&mut self, now: Now, flight: &Flight<A>, out: &mut Outbox<A>) {
        self.stats.misfits += 1;
        self.fail_query(now, flight, out);
    }

    fn fail_query(&mut self, now: Now, flight: &Flight<A>, out: &mut Outbox<A>) {
        self.stats.failures += 1;
        if let Purpose::Query(handle) = flight.purpose
            && let Some(query) = self.queries.get_mut(handle)
        {
            query.effort.failures += 1;
            query.on_failure(flight.contact.id);
            self.pump(now, handle, out);
        }
    }

    /// A contact has answered: it may enter the table, or is fresh again.
    fn admit(&mut self, now: Now, contact: &Contact<A>, rtt: Option<Duration>, out: &mut Outbox<A>) {
        let was_empty = self.table.is_empty();
        self.shunned.forgive(contact.id);
        match self.table.answered(now.monotonic, contact, rtt) {
            Admission::Added => {
                self.stats.contacts_added += 1;
                self.stats.isolated &= !was_empty;
                out.push(Output::Event(Event::ContactAdded(contact.clone())));
            }
            Admission::Replaced {
                out: displaced,
                merit,
            } => {
                self.stats.contacts_added += 1;
                self.stats.contacts_removed += 1;
                self.stats.proximity_swaps += u64::from(merit == Merit::Fast);
                self.stats.spread_swaps += u64::from(merit == Merit::Apart);
                out.push(Output::Event(Event::ContactRemoved(displaced)));
                out.push(Output::Event(Event::ContactAdded(contact.clone())));
            }
            Admission::Waiting { probe: Some(old) } => self.probe(now, old, out),
            Admission::Waiting { probe: None } | Admission::Updated | Admission::Refused(_) => {}
        }
    }

    /// A contact could not be reached. Two such failures in a row end its place in the table, and the second attempt is
    /// made at once, so that dead contacts do not wait for the next lookup that passes.
    fn blame(&mut self, now: Now, flight: &Flight<A>, out: &mut Outbox<A>) {
        self.shunned
            .add(&flight.contact, now.monotonic + self.config.shun);
        match self.table.failed(&flight.contact) {
            Removal::Kept => self.probe(now, flight.contact.clone(), out),
            Removal::Removed { promoted } => self.removed(now, flight.contact.id, promoted, out),
            Removal::Unknown => {}
        }
    }

    pub(super) fn drop_contact(&mut self, now: Now, id: NodeId, out: &mut Outbox<A>) {
        if let Removal::Removed { promoted } = self.table.remove(id) {
            self.removed(now, id, promoted, out);
        }
    }

    fn removed(&mut self, now: Now, id: NodeId, promoted: Option<Contact<A>>, out: &mut Outbox<A>) {
        self.stats.contacts_removed += 1;
        out.push(Output::Event(Event::ContactRemoved(id)));
        if let Some(promoted) = promoted {
            self.stats.contacts_added += 1;
            out.push(Output::Event(Event::ContactAdded(promoted.clone())));
            self.probe(now, promoted, out);
        }
        if self.table.is_empty() {
            self.stats.isolated = true;
            out.push(Output::Event(Event::Isolated));
        }
    }
}
