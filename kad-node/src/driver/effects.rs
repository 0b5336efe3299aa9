//! Carrying out what the machine wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kad_core::{
    Announcement, Contact, DueRecord, Event, Input, Keypair, Kind, MAX_SEEDS, MutableVersion, Now, Output,
    Record, Request, RequestId, Rules, Slot, Source, StoreId, StoreOp, StoreReply, UnixTime, Verdict,
};
use kad_net::{Failure, Reply as _, Transport, TransportError as _, wire::Codec};
use kad_store::{
    RecordReader, StoreError,
    answer::{self, Damage},
};
use tokio::sync::{mpsc, oneshot};

use super::{Completion, Driver, unix_now};
use crate::join::Company;
use crate::policy::Policy;

impl<T: Transport, R: RecordReader> Driver<T, R> {
    pub(super) fn drain(&mut self, now: Now) {
        while let Some(output) = self.outbox.pop() {
            match output {
                Output::Request { id, to, request } => self.request(id, to, request),
                Output::Cancel { id } => {
                    if let Some(request) = self.requests.remove(&id) {
                        request.abort();
                    }
                }
                Output::Response { reply_to, response } => {
                    let Some(reply) = self.replies.remove(&reply_to) else {
                        continue;
                    };
                    let codec = self.parts.codec.clone();
                    tokio::spawn(async move {
                        match codec.encode_response(unix_now(), &response) {
                            Ok(frame) => reply.send(frame).await,
                            Err(error) => tracing::error!(%error, "an answer could not be encoded"),
                        }
                    });
                }
                Output::Store { id, op } => self.store(now, id, op),
                Output::Event(event) => self.tell(event),
            }
        }
    }

    fn request(&mut self, id: RequestId, to: Contact<T::Address>, request: Request) {
        let asking = Asking {
            transport: self.parts.transport.clone(),
            codec: self.parts.codec.clone(),
            repair_bytes: self.parts.repair_bytes.clone(),
            policy: self.parts.policy.clone(),
        };
        let (read_only, completions) = (self.parts.read_only, self.completions.clone());
        let task = tokio::spawn(async move {
            let completion = asking.ask(id, &to, read_only, &request).await;
            // A driver that has gone away no longer wants to know.
            let _ = completions.send(completion).await;
        });
        self.requests.insert(id, task.abort_handle());
    }

    fn store(&mut self, now: Now, id: StoreId, op: StoreOp) {
        let completions = self.completions.clone();
        match op {
            StoreOp::Get { query }
                if !self.parts.held.may_contain(query.key) || self.parts.policy.denies_key(query.key) =>
            {
                let reply = StoreReply::Found {
                    found: Vec::new(),
                    next: None,
                };
                self.parts
                    .machine
                    .handle(now, Input::Store { id, reply }, &mut self.outbox);
            }
            StoreOp::Get { query } => {
                let (reader, rules) = (self.parts.reader.clone(), *self.parts.codec.rules());
                let damaged = self.damaged();
                self.read(id, move || {
                    answer::found(&reader, &rules, &query, now.unix, damaged)
                });
            }
            StoreOp::Due(asked) => {
                let (reader, renewing) = (self.parts.reader.clone(), self.renewing(now.unix));
                let damaged = self.damaged();
                self.read(id, move || {
                    let mut reply = answer::due(&reader, &renewing.rules, &asked, now.unix, damaged)?;
                    if let StoreReply::Due(due) = &mut reply {
                        due.iter_mut().for_each(|due| renewing.renew(due));
                    }
                    Ok(reply)
                });
            }
            StoreOp::Summarize { prefixes } => {
                let reader = self.parts.reader.clone();
                self.read(id, move || answer::summaries(&reader, &prefixes));
            }
            StoreOp::Compare { parts } => {
                let reader = self.parts.reader.clone();
                self.read(id, move || answer::compared(&reader, &parts));
            }
            StoreOp::Missing { prefix, marks } => {
                let reader = self.parts.reader.clone();
                self.read(id, move || answer::missing(&reader, prefix, &marks));
            }
            StoreOp::Fetch {
                prefix,
                marks,
                listed,
            } => {
                let (reader, rules) = (self.parts.reader.clone(), *self.parts.codec.rules());
                let damaged = self.damaged();
                self.read(id, move || {
                    let part = (prefix, &marks[..], listed);
                    answer::fetched(&reader, &rules, part, now.unix, damaged)
                });
            }
            StoreOp::Put {
                entries,
                due,
                own,
                source,
                sender,
            } => {
                for record in entries.iter().filter_map(|entry| entry.record.as_ref().ok()) {
                    self.parts.held.insert(record.key());
                }
                let done = answer(id, completions);
                if !self.parts.storage.put(entries, due, own, (source, sender), done) {
                    self.refuse(now, id);
                }
            }
            StoreOp::Expire { now: unix, limit } => {
                if !self.parts.storage.expire(unix, limit, answer(id, completions)) {
                    self.refuse(now, id);
                }
            }
        }
    }

    /// Keeps a record of the node's own without a word to anybody.
    pub(super) fn keep(&mut self, record: Record, due: UnixTime, answer: oneshot::Sender<Verdict>) {
        self.parts.held.insert(record.key());
        let (entries, source) = (vec![record.into()], Source::UNKNOWN);
        // If too much waits, the answer is dropped, which says no.
        let _ = self
            .parts
            .storage
            .put(entries, due, true, (source, None), move |reply| {
                let said = match reply {
                    StoreReply::Put(verdicts) => verdicts.first().copied(),
                    _ => None,
                };
                // Whoever asked may have gone away.
                let _ = answer.send(said.unwrap_or(Verdict::Failed));
            });
    }

    /// What is done with damage in the store: the operator is told, and what is not as it was written is forgotten, so
    /// that the next comparison with others fetches it again. What only does not keep the rules stays: it may be of
    /// another network, or the clock may be wrong.
    fn damaged(&self) -> impl FnMut(&Slot, Damage) + Send + use<T, R> {
        let storage = self.parts.storage.clone();
        move |slot, damage| {
            tracing::error!(key = %slot.key, %damage, "a stored record is damaged; it is ignored");
            if damage == Damage::Unreadable {
                storage.discard(*slot);
            }
        }
    }

    /// Too much waits for the disk: the machine is told at once.
    fn refuse(&mut self, now: Now, id: StoreId) {
        let reply = StoreReply::Failed;
        self.parts
            .machine
            .handle(now, Input::Store { id, reply }, &mut self.outbox);
    }

    /// A read is short (the database is cached by the operating system) and verifies what it finds, so it runs on a
    /// task and not here.
    fn read(&self, id: StoreId, read: impl FnOnce() -> Result<StoreReply, StoreError> + Send + 'static) {
        let (completions, policy) = (self.completions.clone(), self.parts.policy.clone());
        tokio::spawn(async move {
            let reply = read()
                .map(|reply| policy.of_reply(reply, unix_now()))
                .unwrap_or_else(|error| {
                    tracing::error!(%error, "the store could not be read");
                    StoreReply::Failed
                });
            let _ = completions.send(Completion::Store { id, reply }).await;
        });
    }

    fn tell(&mut self, event: Event<T::Address>) {
        match event {
            Event::QueryFinished {
                query,
                outcome,
                effort,
            } => {
                if let Some(answer) = self.queries.remove(&query) {
                    // Whoever asked may have gone away.
                    let _ = answer.send((outcome, effort));
                }
                return;
            }
            Event::Joined { contacts } => {
                tracing::info!(contacts, "joined the network");
                self.parts.company.send_replace(Company::Neighbours);
            }
            Event::Isolated => {
                tracing::warn!("lost all servers of the network; going on trying");
                self.parts.company.send_replace(Company::Nobody);
            }
            Event::ContactAdded(ref contact) => {
                tracing::debug!(id = %contact.id, address = %contact.address, "contact added");
                self.remember(contact.clone());
                self.parts.company.send_if_modified(|company| {
                    let first = *company == Company::Nobody;
                    *company = (*company).max(Company::Somebody);
                    first
                });
            }
            Event::ClockOff { offset } => {
                let (seconds, side) = (offset.unsigned_abs(), if offset > 0 { "ahead" } else { "behind" });
                tracing::warn!(
                    "this machine's clock is wrong: those of its contacts are {seconds} seconds {side}; set it, or records \
                     are refused, and forgotten too early or too late"
                );
            }
            Event::ClockRight => {
                tracing::info!("this machine's clock agrees with those of its contacts again");
            }
            Event::ContactRemoved(id) => tracing::debug!(%id, "contact removed"),
            _ => {}
        }
        // Nobody has to listen.
        let _ = self.parts.events.send(event);
    }
}

impl<T: Transport, R: RecordReader> Driver<T, R> {
    fn remember(&self, contact: Contact<T::Address>) {
        let Ok(mut remembered) = self.parts.remembered.lock() else {
            return;
        };
        remembered.retain(|known| known.id != contact.id);
        remembered.push_back(contact);
        while remembered.len() > MAX_SEEDS {
            remembered.pop_front();
        }
    }

    fn renewing(&self, now: UnixTime) -> Renewing {
        Renewing {
            keypair: self.parts.keypair.clone(),
            rules: *self.parts.codec.rules(),
            lifetime: self.parts.lifetime,
            now,
        }
    }
}

/// Signs records of this node's own anew before their lives end. What others signed only they can renew; an event tells
/// the application.
struct Renewing {
    keypair: Keypair,
    rules: Rules,
    lifetime: Duration,
    now: UnixTime,
}

impl Renewing {
    fn renew(&self, due: &mut DueRecord) {
        let record = &due.record;
        let (issued, expiry, value) = (self.now, self.now + self.lifetime, record.value());
        let is_ours = due.own && record.author() == Some(self.keypair.public()) && !record.is_tombstone();
        // One that was given a longer life keeps it.
        if !is_ours || record.expiry() >= expiry {
            return;
        }
        let renewed = match record.kind() {
            Kind::Immutable => return,
            Kind::Mutable => {
                let (salt, seq) = (record.salt(), record.seq());
                let version = MutableVersion {
                    salt,
                    seq,
                    issued,
                    expiry,
                    value: Some(&value),
                };
                Record::mutable(&self.keypair, &version, &self.rules, issued)
            }
            Kind::Provider => {
                let announcement = Announcement {
                    key: record.key(),
                    issued,
                    expiry,
                    payload: Some(&value),
                };
                Record::provider(&self.keypair, &announcement, &self.rules, issued)
            }
        };
        match renewed {
            Ok(record) => due.record = record,
            Err(error) => tracing::error!(key = %record.key(), %error, "a record could not be renewed"),
        }
    }
}

/// Answers the machine from the store's thread.
fn answer<A: Send + 'static>(
    id: StoreId,
    completions: mpsc::Sender<Completion<A>>,
) -> impl FnOnce(StoreReply) + Send + 'static {
    move |reply| {
        // A driver that has gone away no longer wants to know.
        let _ = completions.blocking_send(Completion::Store { id, reply });
    }
}

/// One request, from the message to the verified answer.
struct Asking<T> {
    transport: Arc<T>,
    codec: Codec,
    repair_bytes: Arc<AtomicU64>,
    policy: Arc<Policy>,
}

impl<T: Transport> Asking<T> {
    async fn ask(
        &self,
        id: RequestId,
        to: &Contact<T::Address>,
        read_only: bool,
        request: &Request,
    ) -> Completion<T::Address> {
        let frame = match self.codec.encode_request(unix_now(), read_only, request) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::debug!(%error, "a request could not be encoded");
                return Completion::Failure {
                    id,
                    failure: Failure::Local,
                };
            }
        };
        let repairs = matches!(request, Request::Compare { .. } | Request::Fetch { .. });
        let asked = frame.len();
        let answer = match self.transport.request(to, frame).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(peer = %to.id, address = %to.address, %error, "a request failed");
                return Completion::Failure {
                    id,
                    failure: error.failure(),
                };
            }
        };
        if repairs {
            let bytes = (asked + answer.frame.len()) as u64;
            self.repair_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        // A card may have to be read from a disk.
        let round_trip = matches!(request, Request::Ping | Request::FindNode { card: false, .. });
        let rtt: Option<Duration> = round_trip.then_some(answer.took);
        match self.codec.decode_response(unix_now(), answer.frame, request) {
            Ok(response) => Completion::Response {
                id,
                at: self.transport.proven(to),
                response: self.policy.of_response(response),
                rtt,
            },
            Err(error) => {
                tracing::debug!(peer = %to.id, %error, "an answer could not be read");
                Completion::Failure {
                    id,
                    failure: Failure::Malformed,
                }
            }
        }
    }
}
