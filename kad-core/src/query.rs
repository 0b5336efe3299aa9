//! What the application asked for, or the node itself: a lookup and what is done on its way.
//!
//! A query never sends. It is asked [`Query::next`] what to do, again and again until it says [`Todo::Wait`] or
//! [`Todo::Finish`], and is told what became of it. An input names its query, so only that one is asked; nothing ever
//! walks over all queries.

mod allotment;
mod ask;
mod find_node;
mod find_value;
mod reconcile;
mod region;
mod store;
mod store_many;
mod sweep;

use alloc::vec::Vec;

pub(crate) use self::allotment::Placing;
pub(crate) use self::ask::Ask;
pub(crate) use self::find_node::{FindNode, card_of};
pub(crate) use self::find_value::FindValueTask;
pub(crate) use self::reconcile::{Direction, Reconcile, Visit};
pub(crate) use self::region::Region;
pub(crate) use self::store::{Role, StoreTask};
pub(crate) use self::store_many::StoreMany;
pub(crate) use self::sweep::{Again, Sweep, Sweeping};
use crate::lookup::{Lookup, Step};
use crate::slab::Handle;
use crate::{
    Address, Contact, Duration, Effort, FindValue, Instant, Key, NodeId, Outcome, QueryError, QueryId,
    Request, Response, StoreEntry, StoreOp, StoreReply, UnixTime, Verdict,
};

/// One query under way.
#[derive(Debug)]
pub(crate) struct Query<A> {
    /// Whom to tell of its end; `None` for the node's own queries.
    pub(crate) id: Option<QueryId>,
    /// The application was told that enough hold its record; it is told once more when all were asked.
    pub(crate) released: bool,
    pub(crate) started: Instant,
    pub(crate) effort: Effort,
    /// The requests in flight, at most twice k.
    pub(crate) flights: Vec<Handle>,
    pub(crate) lookup: Option<Lookup<A>>,
    pub(crate) task: Task<A>,
}

/// What the query is for.
#[derive(Debug)]
pub(crate) enum Task<A> {
    FindNode(FindNode),
    FindValue(FindValueTask<A>),
    Store(StoreTask<A>),
    StoreMany(StoreMany<A>),
    Bootstrap(Bootstrap),
    Ping(Ping<A>),
    Ask(Ask<A>),
    Reconcile(Reconcile<A>),
    Sweep(Sweep<A>),
}

/// Joining: first the own id, then the buckets, from the far half inwards.
#[derive(Debug, Default)]
pub(crate) struct Bootstrap {
    /// The next bucket to look at; `None` while the own id is looked up.
    pub(crate) bucket: Option<u32>,
    /// Contacts that this bucket had when its lookup began.
    held: usize,
    /// Lookups of this bucket in a row that brought next to nothing.
    barren: usize,
}

/// A joining node looks up points of a wide bucket until it is full, or so many in a row brought next to nothing:
/// points fall near to each other by chance, and a third of the bucket may be known.
const BARREN_LOOKUPS: usize = 4;

impl Bootstrap {
    /// The first bucket that may be looked at next, now that the one before has so many contacts of `capacity`. A wide
    /// one takes more than the k that a lookup tells of, so it gets further ones.
    pub(crate) fn next_bucket(&mut self, contacts: usize, capacity: usize, k: usize) -> u32 {
        let Some(bucket) = self.bucket else { return 0 };
        let brought = contacts.saturating_sub(self.held);
        self.barren = if brought > k / 4 { 0 } else { self.barren + 1 };
        bucket + u32::from(capacity <= k || self.barren >= BARREN_LOOKUPS)
    }

    /// A lookup of a bucket begins, which has so many contacts.
    pub(crate) fn begin(&mut self, bucket: u32, contacts: usize) {
        if self.bucket != Some(bucket) {
            self.barren = 0;
        }
        (self.bucket, self.held) = (Some(bucket), contacts);
    }
}

#[derive(Debug)]
pub(crate) struct Ping<A> {
    pub(crate) contact: Contact<A>,
    pub(crate) asked: bool,
    pub(crate) answer: Option<(UnixTime, A)>,
    /// Why there is no answer; silence unless something else was seen.
    pub(crate) why: QueryError,
}

/// What the query wants done.
#[derive(Debug)]
pub(crate) enum Todo<A> {
    /// Ask a peer.
    Ask(Contact<A>, Request),
    /// Ask the own store.
    Get(FindValue),
    /// Keep a record in the own store.
    Put(StoreEntry, Ownership),
    /// Keep records of others in the own store; from whom they are, unless they are copies of what this node puts.
    Keep(Vec<StoreEntry>, Option<Contact<A>>),
    /// Note in the own store that these records of its own were stored again, and when they are due next.
    Note { entries: Vec<StoreEntry>, again: Again },
    /// Something else of the own store.
    Store(StoreOp),
    /// Start the lookup of the next bucket, if there is one.
    NextBucket,
    /// Start the lookup of a random point in a part of the region: in this bucket, seen from the key.
    LookInto {
        /// Its index.
        bucket: u32,
    },
    /// Start the lookup of the region of this key.
    WalkTo(Key),
    /// Nothing until something is told.
    Wait,
    /// End.
    Finish,
}

/// Whose a record in the own store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    Own,
    Others,
}

/// An answer did not fit its question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit;

impl<A: Address> Query<A> {
    pub(crate) fn next(&mut self) -> Todo<A> {
        match (&mut self.task, &mut self.lookup) {
            (Task::FindNode(task), Some(lookup)) => {
                let target = lookup.target();
                if let Some(todo) = task.ask_own_store(target) {
                    return todo;
                }
                let card = task.wants_card();
                match lookup.next() {
                    Step::Ask(contact) => Todo::Ask(contact, Request::FindNode { target, card }),
                    Step::Wait => Todo::Wait,
                    Step::Done if task.waits_for_own_store() => Todo::Wait,
                    Step::Done => Todo::Finish,
                }
            }
            (Task::Bootstrap(_), Some(lookup)) => match lookup.next() {
                Step::Ask(contact) => Todo::Ask(
                    contact,
                    Request::FindNode {
                        target: lookup.target(),
                        card: false,
                    },
                ),
                Step::Wait => Todo::Wait,
                Step::Done => Todo::NextBucket,
            },
            (Task::FindValue(task), Some(lookup)) => task.next(lookup, self.flights.is_empty()),
            (Task::Store(task), lookup) => task.next(lookup.as_mut(), self.flights.is_empty()),
            (Task::StoreMany(task), lookup) => task.next(lookup.as_mut(), self.flights.is_empty()),
            (Task::Ping(ping), _) if !ping.asked => {
                ping.asked = true;
                Todo::Ask(ping.contact.clone(), Request::Ping)
            }
            (Task::Ask(ask), _) if self.flights.is_empty() => match ask.next() {
                Some((contact, request)) => Todo::Ask(contact, request),
                None => Todo::Finish,
            },
            (Task::Reconcile(task), _) => task.next(),
            (Task::Sweep(task), lookup) => task.next(lookup.as_mut(), self.flights.is_empty()),
            (Task::Ping(_) | Task::Ask(_), _) if !self.flights.is_empty() => Todo::Wait,
            (
                Task::Ping(_) | Task::Ask(_) | Task::FindNode(_) | Task::FindValue(_) | Task::Bootstrap(_),
                _,
            ) => Todo::Finish,
        }
    }

    /// A peer answered. The caller has checked that the kind of answer fits the kind of question.
    /// Of the contacts that it told, only those for which `alive` holds are believed. It took so long.
    pub(crate) fn on_response(
        &mut self,
        from: &Contact<A>,
        response: Response<A>,
        took: Duration,
        alive: impl Fn(&Contact<A>) -> bool,
    ) -> Result<(), Misfit> {
        match (&mut self.task, response) {
            (Task::Ping(ping), Response::Pong { unix, observed }) => ping.answer = Some((unix, observed)),
            (Task::FindValue(task), Response::Values { found, next, closer }) => {
                task.on_values(Some(from), found, next)?;
                self.extend(from.id, closer, alive);
            }
            (Task::Store(task), Response::Stored { verdicts, closer }) => {
                let verdict = *verdicts.first().ok_or(Misfit)?;
                task.on_verdict(from.id, verdict);
                self.extend(from.id, closer, alive);
                if let Some(lookup) = self.lookup.as_mut().filter(|_| verdict.is_no_holder()) {
                    // Somebody else must be the holder.
                    lookup.exclude(from.id);
                }
            }
            (Task::Reconcile(task), Response::Compared { differences }) => {
                task.on_compared(from.id, differences);
            }
            (Task::Reconcile(task), Response::Fetched { records }) => task.on_fetched(from.id, records),
            (Task::Reconcile(task), Response::Stored { verdicts, .. }) => {
                task.on_verdicts(from.id, &verdicts);
            }
            (Task::Sweep(task), Response::Stored { verdicts, .. }) => task.on_verdicts(from.id, &verdicts),
            (Task::StoreMany(task), Response::Stored { verdicts, .. }) => {
                task.on_verdicts(from.id, &verdicts);
            }
            (Task::Ask(ask), Response::Nodes { closer, .. }) => ask.on_told(closer, took),
            (Task::FindNode(task), Response::Nodes { closer, card }) => {
                if let (Some(card), Some(lookup)) = (card, &self.lookup) {
                    task.on_card(lookup.target(), card)?;
                }
                self.extend(from.id, closer, alive);
            }
            (_, Response::Nodes { closer, card: None }) => self.extend(from.id, closer, alive),
            _ => return Err(Misfit),
        }
        Ok(())
    }

    /// A peer has just answered: if it is the nearest so far, this is when it was reached.
    pub(crate) fn note_nearest(&mut self, from: NodeId, now: Instant) {
        let nearest = self.lookup.as_ref().and_then(|lookup| lookup.results().next());
        if nearest.is_some_and(|nearest| nearest.id == from) {
            self.effort.nearest_after = now.since(self.started);
        }
    }

    pub(crate) fn on_failure(&mut self, id: NodeId) {
        let refused = match &mut self.task {
            Task::Store(task) => task.on_failure(id),
            Task::Reconcile(task) => {
                task.on_failure(id);
                false
            }
            Task::Sweep(task) => {
                task.on_failure(id);
                false
            }
            Task::StoreMany(task) => {
                task.on_failure(id);
                false
            }
            Task::FindNode(_) | Task::FindValue(_) | Task::Bootstrap(_) | Task::Ping(_) | Task::Ask(_) => {
                false
            }
        };
        match &mut self.lookup {
            // It answered on the way and then did not take the record: somebody else must be the holder.
            Some(lookup) if refused && lookup.has_answered(id) => lookup.exclude(id),
            Some(lookup) => lookup.on_failure(id),
            None => {}
        }
    }

    /// The answer takes long: somebody else is asked as well.
    pub(crate) fn on_slow(&mut self, id: NodeId) {
        if let Some(lookup) = &mut self.lookup {
            lookup.on_slow(id);
        }
    }

    /// The query goes on without the answer, which still counts if it comes.
    pub(crate) fn on_overdue(&mut self, id: NodeId) {
        match (&mut self.task, &mut self.lookup) {
            (Task::Reconcile(task), _) => task.on_failure(id),
            (Task::Sweep(task), _) if !task.is_walking() => task.on_failure(id),
            (Task::StoreMany(task), _) if !task.is_walking() => task.on_failure(id),
            // It answered on the way and does not take the record: somebody else must.
            (Task::Store(_), Some(lookup)) if lookup.has_answered(id) => lookup.exclude(id),
            (_, Some(lookup)) => lookup.on_overdue(id),
            (_, None) => {}
        }
    }

    /// What is known of a failure beyond that there is no answer; it comes before [`on_failure`](Self::on_failure).
    pub(crate) const fn explain(&mut self, why: QueryError) {
        match &mut self.task {
            Task::Ask(ask) => ask.explain(why),
            Task::Ping(ping) => ping.why = why,
            _ => {}
        }
    }

    pub(crate) fn on_store(&mut self, reply: StoreReply) {
        match (&mut self.task, reply) {
            (Task::FindValue(task), reply) => task.on_store(reply),
            (Task::Store(task), StoreReply::Put(verdicts)) => {
                task.on_put(verdicts.first().copied().unwrap_or(Verdict::Failed));
            }
            (Task::Store(task), _) => task.on_put(Verdict::Failed),
            (Task::Reconcile(task), reply) => task.on_store(reply),
            (Task::Sweep(task), reply) => task.on_store(reply),
            (Task::StoreMany(task), reply) => task.on_store(&reply),
            (Task::FindNode(task), reply) => {
                if let Some(lookup) = &self.lookup {
                    task.on_store(lookup.target(), reply);
                }
            }
            (Task::Bootstrap(_) | Task::Ping(_) | Task::Ask(_), _) => {}
        }
    }

    /// Whether the application need not wait for the rest.
    pub(crate) fn has_enough(&self) -> bool {
        match &self.task {
            Task::Store(task) => task.has_enough(self.lookup.as_ref()),
            Task::FindNode(_)
            | Task::FindValue(_)
            | Task::Bootstrap(_)
            | Task::Ping(_)
            | Task::Ask(_)
            | Task::Reconcile(_)
            | Task::Sweep(_)
            | Task::StoreMany(_) => false,
        }
    }

    /// Whether most of those who were sent a record have answered.
    pub(crate) fn is_mostly_told(&self) -> bool {
        match &self.task {
            Task::Store(task) => task.is_mostly_told(),
            Task::FindNode(_)
            | Task::FindValue(_)
            | Task::Bootstrap(_)
            | Task::Ping(_)
            | Task::Ask(_)
            | Task::Reconcile(_)
            | Task::Sweep(_)
            | Task::StoreMany(_) => true,
        }
    }

    /// Hops to the nearest that answered, or to the holder that was found last.
    fn hops(&self) -> u8 {
        let Some(lookup) = &self.lookup else { return 0 };
        let last = match &self.task {
            Task::FindValue(task) => task.last_holder(),
            Task::FindNode(_)
            | Task::Store(_)
            | Task::Bootstrap(_)
            | Task::Ping(_)
            | Task::Ask(_)
            | Task::Reconcile(_)
            | Task::Sweep(_)
            | Task::StoreMany(_) => None,
        };
        let reached = last.or_else(|| lookup.results().next().map(|contact| contact.id));
        reached.and_then(|id| lookup.depth(id)).unwrap_or_default()
    }

    /// What it took until now.
    pub(crate) fn effort(&self, now: Instant) -> Effort {
        Effort {
            took: now.since(self.started),
            hops: self.hops(),
            ..self.effort
        }
    }

    /// Whether a peer has answered on the walk.
    pub(crate) fn has_heard_from(&self, id: NodeId) -> bool {
        self.lookup.as_ref().is_some_and(|lookup| lookup.has_answered(id))
    }

    /// The surroundings of the key that it is for, if it is for one.
    pub(crate) const fn region(&self) -> Option<&Region> {
        match &self.task {
            Task::Store(task) => Some(task.region()),
            Task::FindValue(task) => Some(task.region()),
            Task::FindNode(_)
            | Task::Bootstrap(_)
            | Task::Ping(_)
            | Task::Ask(_)
            | Task::Reconcile(_)
            | Task::Sweep(_)
            | Task::StoreMany(_) => None,
        }
    }

    /// What came of it, with everything that is known by now.
    pub(crate) fn outcome(&self, contacts: usize, now: Instant) -> Outcome<A> {
        let nobody = match self.effort.requests {
            0 => QueryError::NoContacts,
            _ => QueryError::Unanswered,
        };
        match &self.task {
            Task::FindNode(task) => match self
                .lookup
                .as_ref()
                .map(|lookup| lookup.results().collect::<Vec<_>>())
            {
                Some(closest) if task.wants_card() && (!closest.is_empty() || task.card().is_some()) => {
                    let card = task.card().cloned();
                    Outcome::Located { closest, card }
                }
                Some(closest) if !closest.is_empty() => Outcome::Closest(closest),
                _ => Outcome::Failed(nobody),
            },
            Task::Bootstrap(_) => match contacts {
                0 => Outcome::Failed(nobody),
                contacts => Outcome::Bootstrapped { contacts },
            },
            Task::Ping(ping) => match &ping.answer {
                Some((unix, observed)) => Outcome::Pong {
                    unix: *unix,
                    observed: observed.clone(),
                    took: now.since(self.started),
                },
                None => Outcome::Failed(ping.why),
            },
            Task::Ask(ask) => ask.outcome(self.effort.requests > 0),
            Task::Reconcile(task) => Outcome::HandedOver {
                records: task.moved(),
            },
            // Nobody asked for it, so nobody is told.
            Task::Sweep(_) => Outcome::Failed(nobody),
            Task::FindValue(task) => {
                let anybody = self
                    .lookup
                    .as_ref()
                    .is_some_and(|lookup| lookup.results().next().is_some());
                match task.outcome() {
                    Some(found) => found,
                    None if anybody => Outcome::Found {
                        records: Vec::new(),
                        holders: Vec::new(),
                    },
                    None => Outcome::Failed(nobody),
                }
            }
            Task::Store(task) => task.outcome().unwrap_or(Outcome::Failed(nobody)),
            Task::StoreMany(task) => task.outcome().unwrap_or(Outcome::Failed(nobody)),
        }
    }

    fn extend(&mut self, from: NodeId, closer: Vec<Contact<A>>, alive: impl Fn(&Contact<A>) -> bool) {
        if let Some(lookup) = &mut self.lookup {
            lookup.on_response(from, closer.into_iter().take(crate::MAX_CLOSER).filter(alive));
        }
    }
}

#[cfg(test)]
mod tests;
