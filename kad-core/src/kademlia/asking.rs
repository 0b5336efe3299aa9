//! Asking peers, and what their answers and their silence mean for the table.

use alloc::vec::Vec;

use super::Kademlia;
use crate::query::Misfit;
use crate::rpc::{Asked, Flight, Lateness, Purpose, Stage};
use crate::slab::Handle;
use crate::table::{Admission, Merit, Removal};
use crate::timers::Owner;
use crate::{
    Address, Contact, Duration, Event, Failure, Instant, NodeId, Now, Outbox, Output, QueryError, Rejection,
    Request, RequestId, Response,
};

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
        let limits = self
            .lateness
            .limits(&self.config.patience, asked, known.as_ref(), now.monotonic);
        let suspected = self.can_spare(purpose) && self.suspects.contains(&contact, now.monotonic);
        let limits = if suspected { limits.of_suspect() } else { limits };
        let flight = Flight {
            contact: contact.clone(),
            purpose,
            asked,
            sent: now.monotonic,
            limits,
            suspected,
            stage: Stage::Waiting,
            declined: false,
        };
        let next = flight.next();
        let handle = self.flights.insert(flight);
        self.timers.set(Owner::Rpc(handle.place), next);
        self.stats.requests_sent += 1;
        out.push(Output::Request {
            id: RequestId(handle.to_u64()),
            to: contact,
            request,
        });
        handle
    }

    /// PINGs a contact that may enter the table or may be gone, unless it is a stranger and enough are being probed.
    /// One of the table is probed in any case, or strangers who let PINGs wait could keep the dead there.
    pub(super) fn probe(&mut self, now: Now, contact: Contact<A>, out: &mut Outbox<A>) {
        let known = self.has_proven(&contact);
        let room = known || self.probing.len() < self.config.max_probes;
        let probed = match known {
            true => self.is_probed(&contact),
            false => self.probing.contains(&contact.id),
        };
        if room && !probed {
            self.probing.push(contact.id);
            self.send(now, contact, Request::Ping, Purpose::Probe, out);
        }
    }

    /// Whether a contact is being PINGed at this address. A PING to another one, from which the peer has asked
    /// something, says nothing of this one, or whoever knocks there again and again would never be asked here.
    pub(super) fn is_probed(&self, contact: &Contact<A>) -> bool {
        let is_probe = |flight: &Flight<A>| flight.purpose == Purpose::Probe && flight.contact == *contact;
        self.probing.contains(&contact.id) && self.flights.iter().any(|(_, flight)| is_probe(flight))
    }

    /// The address at which the peer answers is the one that counts from here on, whatever its teller said.
    pub(super) fn on_proven(&mut self, handle: Handle, address: A) {
        if let Some(flight) = self.flights.get_mut(handle) {
            flight.contact.address = address;
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
        self.suspects.forgive(flight.contact.id);
        if !flight.asked.waits_for_disk() {
            // A STORE waits for a disk and says little of the way there.
            let known = self.table.get(flight.contact.id);
            let expected = Lateness::expected(known.as_ref(), flight.sent);
            self.lateness.sample(now.monotonic.since(flight.sent), expected);
        }
        match response {
            Response::Rejected(Rejection::ReadOnly) => {
                self.explain(&flight, QueryError::Refused);
                // It serves nobody, so it has no business in a table.
                self.drop_contact(now, flight.contact.id, out);
                self.fail_query(now, &flight, out);
            }
            Response::Rejected(_) => {
                self.explain(&flight, QueryError::Refused);
                self.fail_query(now, &flight, out);
            }
            response => {
                if !flight.declined {
                    self.admit(now, &flight.contact, rtt, out);
                }
                if let Response::Pong { unix, .. } = response
                    && self.table.get(flight.contact.id).is_some()
                {
                    let took = rtt.unwrap_or_else(|| now.monotonic.since(flight.sent));
                    // It read its clock half of the way ago.
                    let at = Instant::ZERO + now.monotonic.since(Instant::ZERO + took / 2);
                    let site = flight.contact.address.groups().map(|groups| groups.narrow);
                    self.clocks.read(flight.contact.id, site, unix, at);
                }
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
                let took = rtt.unwrap_or_else(|| now.monotonic.since(flight.sent));
                match asking.on_response(&flight.contact, response, took, alive) {
                    Ok(()) => {
                        asking.note_nearest(flight.contact.id, now.monotonic);
                        self.pump(now, query, out);
                    }
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
            Failure::Busy => self.explain(&flight, QueryError::Refused),
            Failure::Local => self.explain(&flight, QueryError::NotAsked),
            Failure::Malformed => {
                self.stats.misfits += 1;
                self.explain(&flight, QueryError::Refused);
            }
        }
        self.fail_query(now, &flight, out);
    }

    /// Forgets a request; nobody is to blame.
    pub(super) fn cancel_flight(&mut self, handle: Handle, out: &mut Outbox<A>) {
        if let Some(flight) = self.flights.remove(handle) {
            self.timers.clear(Owner::Rpc(handle.place));
            self.declined -= u32::from(flight.declined);
            self.judging -= usize::from(flight.stage == Stage::GivenUp);
            out.push(Output::Cancel {
                id: RequestId(handle.to_u64()),
            });
        }
    }

    pub(super) fn settle(&mut self, handle: Handle) -> Option<Flight<A>> {
        let flight = self.flights.remove(handle)?;
        self.timers.clear(Owner::Rpc(handle.place));
        self.declined -= u32::from(flight.declined);
        self.judging -= usize::from(flight.stage == Stage::GivenUp);
        match flight.purpose {
            Purpose::Probe => {
                // Once: the same peer may be probed at another address.
                let place = self.probing.iter().position(|&id| id == flight.contact.id);
                place.map(|place| self.probing.swap_remove(place));
                if self.probing.is_empty() {
                    self.probing = Vec::new(); // As the slabs do: idle nodes are small.
                }
            }
            Purpose::Query(query) => self.forsake(query, handle),
        }
        Some(flight)
    }

    /// A query no longer waits for a request.
    pub(super) fn forsake(&mut self, query: Handle, flight: Handle) {
        if let Some(query) = self.queries.get_mut(query) {
            query.flights.retain(|&other| other != flight);
        }
    }

    fn misfit(&mut self, now: Now, flight: &Flight<A>, out: &mut Outbox<A>) {
        self.stats.misfits += 1;
        self.explain(flight, QueryError::Refused);
        self.fail_query(now, flight, out);
    }

    /// Tells the query of a request why it is about to fail, where that is not silence.
    fn explain(&mut self, flight: &Flight<A>, why: QueryError) {
        if let Purpose::Query(handle) = flight.purpose
            && let Some(query) = self.queries.get_mut(handle)
        {
            query.explain(why);
        }
    }

    /// A request has failed, and its query is told.
    pub(super) fn fail_query(&mut self, now: Now, flight: &Flight<A>, out: &mut Outbox<A>) {
        // What was given up has been counted.
        let first = flight.stage != Stage::GivenUp;
        self.stats.failures += u64::from(first);
        if let Purpose::Query(handle) = flight.purpose
            && let Some(query) = self.queries.get_mut(handle)
        {
            query.effort.failures += u32::from(first);
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
    pub(super) fn blame(&mut self, now: Now, flight: &Flight<A>, out: &mut Outbox<A>) {
        self.suspects.forgive(flight.contact.id);
        self.shunned
            .add(&flight.contact, now.monotonic + self.config.shun);
        match self.table.failed(self.long_ago(now), &flight.contact) {
            Removal::Kept => self.probe(now, flight.contact.clone(), out),
            Removal::Removed { promoted } => self.removed(now, flight.contact.id, promoted, out),
            Removal::Unknown => self.fill(now, flight.contact.id, out),
        }
    }

    pub(super) fn drop_contact(&mut self, now: Now, id: NodeId, out: &mut Outbox<A>) {
        if let Removal::Removed { promoted } = self.table.remove(self.long_ago(now), id) {
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
        } else {
            self.fill(now, id, out);
        }
        if self.table.is_empty() {
            self.stats.isolated = true;
            out.push(Output::Event(Event::Isolated));
        }
    }

    /// PINGs the next of those that wait for a place of a bucket that has room, where all were silent for too long to
    /// be believed.
    fn fill(&mut self, now: Now, id: NodeId, out: &mut Outbox<A>) {
        if let Some(candidate) = self.table.candidate(id).cloned() {
            self.probe(now, candidate, out);
        }
    }
}
