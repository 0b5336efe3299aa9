//! Queries: from a command to its outcome.

use alloc::vec;
use alloc::vec::Vec;

use super::Kademlia;
use super::lookups::{FAR_OF_UPKEEP, FAR_OF_WRITES};
use crate::lookup::Lookup;
use crate::query::{
    Again, Ask, Bootstrap, FindNode, FindValueTask, Ownership, Ping, Query, Role, StoreMany, StoreTask, Task,
    Todo,
};
use crate::rpc::Purpose;
use crate::slab::Handle;
use crate::timers::Owner;
use crate::{
    Address, Command, Duration, Effort, Event, FindValue, Found, Key, Kind, MAX_BULK, MAX_SEEDS, NodeId, Now,
    Outbox, Outcome, Output, QueryError, QueryId, Read, Record, Source, StoreEntry, StoreId, StoreOp,
    StoreReply, Want,
};

/// A record that too few took is stored once more after so long.
const SOON: Duration = Duration::from_secs(600);

impl<A: Address> Kademlia<A> {
    pub(super) fn on_command(&mut self, now: Now, id: QueryId, command: Command<A>, out: &mut Outbox<A>) {
        if self
            .queries
            .iter()
            .filter(|(_, query)| query.id.is_some() && !query.released)
            .count()
            >= self.config.max_queries
        {
            let outcome = Outcome::Failed(QueryError::TooMany);
            out.push(Output::Event(Event::QueryFinished {
                query: id,
                outcome,
                effort: Effort::default(),
            }));
            return;
        }
        let (task, lookup) = match command {
            Command::FindNode { target } => (
                Task::FindNode(FindNode::contacts()),
                Some(self.lookup(now, target, (self.config.alpha, self.config.k), Vec::new())),
            ),
            Command::Locate { id } => {
                let ways = (self.config.alpha, self.config.k);
                let lookup = self.lookup(now, id.to_key(), ways, Vec::new());
                (Task::FindNode(FindNode::with_card()), Some(lookup))
            }
            Command::FindValue { key, kind, read } => {
                let want = if read == Read::Census {
                    Want::Digest
                } else {
                    Want::Record
                };
                // Whoever began with the first would find those with the smallest ids most.
                let anywhere = || NodeId::from_limbs([(); 4].map(|()| self.rng.next_u64()));
                let ask = FindValue {
                    key,
                    kind,
                    min_seq: 0,
                    after: (kind == Kind::Provider).then(anywhere),
                    want,
                };
                // A value that comes from several holders at once is waste, but one more finds a fast one; a census
                // asks all.
                let near = if read == Read::Census {
                    self.config.k
                } else {
                    self.config.alpha + 1
                };
                (
                    Task::FindValue(FindValueTask::new(ask, read, self.region(key))),
                    Some(self.lookup(now, key, (self.config.alpha, near), Vec::new())),
                )
            }
            Command::Store {
                record,
                expected,
                keep,
                enough,
            } => {
                let lookup = self.lookup(
                    now,
                    record.key(),
                    (FAR_OF_WRITES.min(self.config.alpha), self.config.k),
                    Vec::new(),
                );
                (
                    self.store_task(record, expected, Role::Publish { keep }, enough),
                    Some(lookup),
                )
            }
            Command::StoreMany { mut records, keep } => {
                records.truncate(MAX_BULK);
                let (placing, enough) = (self.placing(), self.config.write_quorum);
                let first = records.first().map_or_else(Key::default, Record::key);
                let (region, lookup) = self.bulk_lookup(now, first);
                (
                    Task::StoreMany(StoreMany::new(region, records, keep, placing, enough)),
                    Some(lookup),
                )
            }
            Command::Bootstrap { mut contacts } => {
                contacts.truncate(MAX_SEEDS);
                let lookup = self.own_lookup(now, self.config.alpha, contacts);
                (Task::Bootstrap(Bootstrap::default()), Some(lookup))
            }
            Command::Ping { contact } => (
                Task::Ping(Ping {
                    contact,
                    asked: false,
                    answer: None,
                    why: QueryError::Unanswered,
                }),
                None,
            ),
            Command::HandOver => (Task::Reconcile(self.handing_over()), None),
            Command::Ask { contact, target } => (Task::Ask(Ask::new(self.local_id(), contact, target)), None),
        };
        self.start(now, Some(id), task, lookup, out);
    }

    pub(super) fn on_cancel(&mut self, now: Now, id: QueryId, out: &mut Outbox<A>) {
        let found = self
            .queries
            .iter()
            .find(|(_, query)| query.id == Some(id) && !query.released)
            .map(|(handle, _)| handle);
        if let Some(handle) = found
            && let Some(query) = self.end(now, handle, out)
        {
            self.after_end(now, &query, out);
        }
    }

    pub(super) fn on_query_timer(&mut self, now: Now, place: u32, out: &mut Outbox<A>) {
        let Some(handle) = self.queries.handle_at(place) else {
            return;
        };
        if let Some(query) = self.queries.get_mut(handle) {
            query.effort.timed_out = true;
        }
        self.finish(now, handle, out);
    }

    /// Stores a record of this node's own at the k nearest to it.
    pub(super) fn replicate(&mut self, now: Now, record: Record, out: &mut Outbox<A>) {
        let lookup = self.lookup(now, record.key(), (FAR_OF_UPKEEP, self.config.k), Vec::new());
        let task = self.store_task(record, None, Role::Replicate, usize::MAX);
        self.stats.replications += 1;
        self.start(now, None, task, Some(lookup), out);
    }

    /// Looks up a random point of a bucket, or the own id where that serves the bucket and all nearer ones. Where it
    /// serves the whole table, a random point does so as well, and tells how many nodes there are.
    pub(super) fn refresh(&mut self, now: Now, bucket: u32, out: &mut Outbox<A>) {
        let lookup = match self.edge() {
            Some(edge) if edge > 0 && bucket >= edge => {
                self.stats.refreshes += 1;
                self.own_lookup(now, FAR_OF_UPKEEP, Vec::new())
            }
            _ => self.bucket_lookup(now, bucket),
        };
        let task = Task::FindNode(FindNode::contacts());
        self.start(now, None, task, Some(lookup), out);
    }

    fn store_task(&self, record: Record, expected: Option<u64>, role: Role, enough: usize) -> Task<A> {
        let me = self.holder();
        let region = self.region(record.key());
        let entry = StoreEntry {
            record: Ok(record),
            expected,
        };
        Task::Store(StoreTask::new(entry, role, me, self.config.k, enough, region))
    }

    pub(super) fn start(
        &mut self,
        now: Now,
        id: Option<QueryId>,
        task: Task<A>,
        lookup: Option<Lookup<A>>,
        out: &mut Outbox<A>,
    ) {
        let (started, effort, flights) = (now.monotonic, Effort::default(), Vec::new());
        let handle = self.queries.insert(Query {
            id,
            released: false,
            started,
            effort,
            flights,
            lookup,
            task,
        });
        self.timers.set(
            Owner::Query(handle.place),
            now.monotonic + self.config.query_timeout,
        );
        self.pump(now, handle, out);
    }

    /// Does what the query wants done until it waits or ends. What one call can do is bounded: a query has at most
    /// about 2 k requests in flight, and each turn sends one, starts one bucket, or stops.
    pub(super) fn pump(&mut self, now: Now, handle: Handle, out: &mut Outbox<A>) {
        self.release(now, handle, out);
        loop {
            let Some(query) = self.queries.get_mut(handle) else {
                return;
            };
            let todo = query.next();
            // Who answered on this walk has proven the address.
            let heard = matches!(&todo, Todo::Ask(contact, _) if query.has_heard_from(contact.id));
            match todo {
                Todo::Ask(contact, _) if !heard && !self.may_dial(now, &contact) => {
                    self.stats.rationed += 1;
                    if let Some(query) = self.queries.get_mut(handle) {
                        query.on_failure(contact.id);
                    }
                }
                Todo::Ask(contact, request) => {
                    let flight = self.send(now, contact, request, Purpose::Query(handle), out);
                    if let Some(query) = self.queries.get_mut(handle) {
                        query.flights.push(flight);
                        query.effort.requests += 1;
                    }
                }
                Todo::Get(ask) => match self.cached(now, &ask) {
                    Some(copy) => {
                        let (found, next) = (vec![Found::Record(copy)], None);
                        if let Some(query) = self.queries.get_mut(handle) {
                            query.on_store(StoreReply::Found { found, next });
                        }
                    }
                    None => self.ask_store(handle, StoreOp::Get { query: ask }, out),
                },
                Todo::Put(entry, ownership) => {
                    let own = ownership == Ownership::Own;
                    let due = match own {
                        true => self.due_of_own(now.unix, core::slice::from_ref(&entry)),
                        false => self.due_of_others(now.unix),
                    };
                    self.ask_store(
                        handle,
                        StoreOp::Put {
                            entries: vec![entry],
                            due,
                            own,
                            source: Source::UNKNOWN,
                            sender: None,
                        },
                        out,
                    );
                }
                Todo::Keep(entries, from) => {
                    let due = self.due_of_others(now.unix);
                    // Or a neighbour could fill this store past what one sender may, by telling of what it has.
                    let source = from.as_ref().map_or(Source::UNKNOWN, Source::of);
                    let sender = from.map(|from| from.id);
                    self.ask_store(
                        handle,
                        StoreOp::Put {
                            entries,
                            due,
                            own: false,
                            source,
                            sender,
                        },
                        out,
                    );
                }
                Todo::Note { entries, again } => {
                    let due = match again {
                        Again::Usual => self.due_of_own(now.unix, &entries),
                        Again::Ending => self.due_of_ending(now.unix, &entries),
                        Again::Refused => self.due_of_refused(now.unix),
                        Again::Soon => now.unix + self.rng.shortened(SOON),
                    };
                    self.ask_store(
                        handle,
                        StoreOp::Put {
                            entries,
                            due,
                            own: true,
                            source: Source::UNKNOWN,
                            sender: None,
                        },
                        out,
                    );
                }
                Todo::Store(op) => self.ask_store(handle, op, out),
                Todo::NextBucket => {
                    if !self.next_bucket(now, handle, out) {
                        return self.finish(now, handle, out);
                    }
                }
                Todo::LookInto { bucket } => self.look_into(now, handle, bucket),
                Todo::WalkTo(key) => {
                    let (region, lookup) = self.bulk_lookup(now, key);
                    if let Some(query) = self.queries.get_mut(handle)
                        && let Task::StoreMany(task) = &mut query.task
                    {
                        task.begin(region);
                        query.lookup = Some(lookup);
                    }
                }
                Todo::Wait => return,
                Todo::Finish => return self.finish(now, handle, out),
            }
        }
    }

    fn ask_store(&mut self, query: Handle, op: StoreOp, out: &mut Outbox<A>) {
        let id = self.pending.insert(super::Pending::Query(query));
        out.push(Output::Store {
            id: StoreId(id.to_u64()),
            op,
        });
    }

    /// Goes on to the next bucket with room that a joining node should fill; false if there is none.
    fn next_bucket(&mut self, now: Now, handle: Handle, out: &mut Outbox<A>) -> bool {
        let Some(edge) = self.edge() else {
            return false;
        };
        let Some(query) = self.queries.get_mut(handle) else {
            return false;
        };
        // The first lookup is that of the own id, the others are of random points.
        if matches!(query.task, Task::Bootstrap(Bootstrap { bucket: Some(_), .. }))
            && let Some(lookup) = query.lookup.take()
        {
            self.take_sample(now, &lookup);
        }
        let Some(query) = self.queries.get_mut(handle) else {
            return false;
        };
        let Task::Bootstrap(join) = &mut query.task else {
            return false;
        };
        if join.bucket.is_none() {
            out.push(Output::Event(Event::Joined {
                contacts: self.table.len(),
            }));
        }
        let before = join.bucket.unwrap_or_default();
        let (contacts, capacity) = (self.table.bucket_len(before), self.table.bucket_capacity(before));
        let first = join.next_bucket(contacts, capacity, self.config.k);
        // Those from the edge on were filled by looking up the own id, as far as there is anybody to fill them.
        let Some(bucket) = (first..edge).find(|&bucket| self.table.has_room(bucket)) else {
            return false;
        };
        join.begin(bucket, self.table.bucket_len(bucket));
        let lookup = self.bucket_lookup(now, bucket);
        if let Some(query) = self.queries.get_mut(handle) {
            query.lookup = Some(lookup);
        }
        true
    }

    fn finish(&mut self, now: Now, handle: Handle, out: &mut Outbox<A>) {
        let Some(query) = self.end(now, handle, out) else {
            return;
        };
        self.after_end(now, &query, out);
        if let Some(id) = query.id {
            let (outcome, effort) = (
                query.outcome(self.table.len(), now.monotonic),
                query.effort(now.monotonic),
            );
            out.push(Output::Event(if query.released {
                Event::Placed {
                    query: id,
                    outcome,
                    effort,
                }
            } else {
                Event::QueryFinished {
                    query: id,
                    outcome,
                    effort,
                }
            }));
        }
    }

    /// Tells the application that enough hold its record. The rest is told in the background, unless there is too much
    /// of that already.
    fn release(&mut self, now: Now, handle: Handle, out: &mut Outbox<A>) {
        let contacts = self.table.len();
        let Some(query) = self.queries.get_mut(handle) else {
            return;
        };
        let (Some(id), false) = (query.id, query.released) else {
            return;
        };
        if !query.has_enough() {
            return;
        }
        query.released = true;
        let (outcome, effort) = (
            query.outcome(contacts, now.monotonic),
            query.effort(now.monotonic),
        );
        out.push(Output::Event(Event::QueryFinished {
            query: id,
            outcome,
            effort,
        }));
        if self.queries.len() > self.config.max_queries.saturating_mul(2) {
            self.finish(now, handle, out);
        }
    }

    /// Takes a query out and cancels what it still has in flight.
    fn end(&mut self, now: Now, handle: Handle, out: &mut Outbox<A>) -> Option<Query<A>> {
        let query = self.queries.remove(handle)?;
        self.timers.clear(Owner::Query(handle.place));
        for &flight in &query.flights {
            self.leave_flight(now, flight, out);
        }
        Some(query)
    }

    /// What follows from the end of a query: repairs, and the next of a series.
    fn after_end(&mut self, now: Now, query: &Query<A>, out: &mut Outbox<A>) {
        match &query.task {
            Task::FindValue(task) => {
                // Reads that end quickly must not pile up repairs of holders that are slow; the next read repairs as
                // well.
                let room = self.queries.len() < self.config.max_queries.saturating_mul(2);
                if let Some((record, stale)) = task.repair().filter(|_| room) {
                    self.start(now, None, Task::Store(StoreTask::at(record, stale)), None, out);
                }
                match task.kind() {
                    _ if query.id.is_some() => {}
                    Kind::Mutable => {
                        self.maintenance.replicating = self.maintenance.replicating.saturating_sub(1);
                        self.kept_up(now, task, out);
                        self.scan_due(now, out);
                    }
                    Kind::Immutable => self.keep_copy(now, task),
                    Kind::Provider => {}
                }
            }
            Task::Store(task) if task.role() == Role::Replicate => {
                self.maintenance.replicating = self.maintenance.replicating.saturating_sub(1);
                // What is still due would be found again at once and handed on without end: the next scan is soon
                // enough.
                self.maintenance.more_due &= task.is_noted();
                self.scan_due(now, out);
            }
            Task::FindNode(_) if query.id.is_none() => {
                if let Some(lookup) = query.lookup.as_ref().filter(|_| !query.effort.timed_out) {
                    self.take_sample(now, lookup);
                }
                self.maintenance.refreshing = false;
                self.refresh_next(now, out);
            }
            Task::Sweep(task) => self.swept(now, task, out),
            Task::Reconcile(task) => self.reconciled(task, query.id.is_none()),
            Task::FindNode(_)
            | Task::Store(_)
            | Task::StoreMany(_)
            | Task::Bootstrap(_)
            | Task::Ping(_)
            | Task::Ask(_) => {}
        }
    }
}
