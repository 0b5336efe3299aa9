//! Whom to ask next on a walk over the whole network. Pure: it is told what became of each question, and sends nothing.
//!
//! ```text
//!   contacts to begin with ──► queue ──► an interview: one question after another ──► told: more for the queue
//!                                ▲             │ silence: once more, after all others
//!                                │             │ another address, if one was heard of
//!                                └─────────────┘ not sent: when something else has been answered
//! ```

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use kad_core::{Contact, NodeId, QueryError};

use super::CrawlProgress;
use super::interview::Interview;
use super::tally::{Tally, Tellings, note};

/// Questions in a row to one address that may go unanswered before nobody is there: as many as end a place in a table.
const ATTEMPTS: u8 = 2;

/// Addresses that are tried for one node; further ones that are told of it are ignored, so that nobody can have many
/// places dialled under one name.
const MAX_ADDRESSES: usize = 3;

/// What is known of one node. With its id 64 bytes and an address: there may be a million of them.
#[derive(Debug)]
pub(super) struct Heard<A> {
    pub(super) address: A,
    /// What waits for its state to be known.
    pending: Option<Box<Pending<A>>>,
    /// Microseconds of its fastest answer; the largest number while there is none.
    fastest: u32,
    /// How many addresses were told, at most [`MAX_ADDRESSES`].
    addresses: u8,
    pub(super) state: State,
}

/// What is forgotten about a node once it is known whether it is there.
#[derive(Debug)]
struct Pending<A> {
    /// Other addresses that were told, which nobody has tried yet.
    others: Vec<A>,
    tellings: Tellings,
}

impl<A> Heard<A> {
    /// The fastest of its answers.
    pub(super) fn fastest(&self) -> Option<Duration> {
        (self.fastest != u32::MAX).then(|| Duration::from_micros(self.fastest.into()))
    }

    fn pending(&mut self) -> &mut Pending<A> {
        let none = || {
            Box::new(Pending {
                others: Vec::new(),
                tellings: Tellings::new(),
            })
        };
        self.pending.get_or_insert_with(none)
    }
}

/// What was found out about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing yet; at the end of a walk, that it was never asked.
    Unknown,
    /// It answered.
    Answered,
    /// It is there, and refused or made no sense.
    Refused,
    /// Nobody answered where it should be.
    Dead,
}

/// A question that is to be asked, and is handed back with what became of it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Question<A>(pub(crate) Interview<A>);

/// A walk under way. Everything that waits is a node that was heard of, so [`max_nodes`](Self::new) bounds it all.
#[derive(Debug)]
pub(crate) struct Walk<A> {
    own: NodeId,
    max_nodes: usize,
    pub(super) nodes: HashMap<NodeId, Heard<A>>,
    /// Nodes that nobody has asked yet.
    queue: VecDeque<Contact<A>>,
    /// Interviews that go on: at most as many as there were questions in flight.
    open: VecDeque<Interview<A>>,
    /// Silent once; asked again when all others have been.
    again: VecDeque<Interview<A>>,
    /// Could not be asked when their turn came.
    postponed: VecDeque<Interview<A>>,
    in_flight: usize,
    pub(super) requests: u64,
    pub(super) unanswered: u64,
    pub(super) left_out: u64,
    /// Nodes whose state is known.
    settled: usize,
    pub(super) tally: Tally,
}

impl<A: Clone + PartialEq> Walk<A> {
    /// A walk of `own` that begins at these contacts. Of nodes beyond `max_nodes` it only counts how often they were
    /// told.
    pub(crate) fn new(own: NodeId, max_nodes: usize, contacts: impl IntoIterator<Item = Contact<A>>) -> Self {
        let mut walk = Self {
            own,
            max_nodes,
            nodes: HashMap::new(),
            queue: VecDeque::new(),
            open: VecDeque::new(),
            again: VecDeque::new(),
            postponed: VecDeque::new(),
            in_flight: 0,
            requests: 0,
            unanswered: 0,
            left_out: 0,
            settled: 0,
            tally: Tally::new(),
        };
        for contact in contacts {
            walk.hear(contact);
        }
        walk
    }

    /// The next question, or none until something was told; none while nothing is in flight is the end.
    pub(crate) fn next(&mut self) -> Option<Question<A>> {
        let mut next = self.open.pop_front();
        next = next.or_else(|| self.queue.pop_front().map(Interview::new));
        next = next.or_else(|| self.again.pop_front());
        if next.is_none() && self.in_flight == 0 {
            next = self.postponed.pop_front();
            if let Some(interview) = &mut next {
                interview.alone = true;
            }
        }
        self.in_flight += usize::from(next.is_some());
        next.map(Question)
    }

    /// A node has told its contacts near the point that it was asked for.
    pub(crate) fn on_told(&mut self, question: Question<A>, closer: Vec<Contact<A>>, took: Duration) {
        let Question(mut interview) = question;
        self.ended();
        self.requests += 1;
        let id = interview.contact.id;
        self.settle(id, State::Answered);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.address = interview.contact.address.clone();
            node.fastest = node
                .fastest
                .min(u32::try_from(took.as_micros()).unwrap_or(u32::MAX - 1));
        }
        let news = interview.on_told(closer);
        for (bucket, contact) in news.contacts {
            // Honest nodes leave out the one who asks, so it must not count where others do not.
            if contact.id != self.own {
                self.weigh(bucket, contact);
            }
        }
        interview.alone = false;
        if !news.complete {
            self.open.push_back(interview);
        }
        self.release();
    }

    /// A question was not answered.
    pub(crate) fn on_failed(&mut self, question: Question<A>, why: QueryError) {
        let Question(mut interview) = question;
        self.ended();
        let id = interview.contact.id;
        match why {
            QueryError::Refused => {
                self.requests += 1;
                // What it answered before counts more.
                self.settle(id, State::Refused);
                self.release();
            }
            QueryError::Unanswered => {
                self.requests += 1;
                self.unanswered += 1;
                interview.unanswered += 1;
                interview.alone = false;
                if interview.unanswered < ATTEMPTS {
                    self.again.push_back(interview);
                } else {
                    self.give_up(interview.contact);
                }
                self.release();
            }
            // The question was not sent. It waits until another one has come to its end, and if there is none in vain.
            _ if !interview.alone => self.postponed.push_back(interview),
            // Silent once, and too many others were silent there since.
            _ if interview.unanswered > 0 => self.give_up(interview.contact),
            _ => {}
        }
    }

    /// How far it has come.
    pub(crate) fn progress(&self) -> CrawlProgress {
        CrawlProgress {
            heard: self.nodes.len(),
            settled: self.settled,
            requests: self.requests,
        }
    }

    fn ended(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// One of those that could not be asked may try again.
    fn release(&mut self) {
        let waiting = self.postponed.pop_front();
        self.open.extend(waiting);
    }

    /// Somebody was told of, in this bucket of the teller.
    fn weigh(&mut self, bucket: u8, contact: Contact<A>) {
        let id = contact.id;
        self.tally.told(bucket);
        self.hear(contact);
        let Some(node) = self.nodes.get_mut(&id) else {
            return; // Left out.
        };
        match node.state {
            State::Unknown => note(&mut node.pending().tellings, bucket),
            State::Answered | State::Refused => self.tally.count(bucket, true, 1),
            State::Dead => self.tally.count(bucket, false, 1),
        }
    }

    /// A node was heard of, or another address of one.
    fn hear(&mut self, contact: Contact<A>) {
        if contact.id == self.own {
            return;
        }
        let full = self.nodes.len() >= self.max_nodes;
        let Some(node) = self.nodes.get_mut(&contact.id) else {
            if full {
                self.left_out += 1;
                return;
            }
            let heard = Heard {
                address: contact.address.clone(),
                pending: None,
                fastest: u32::MAX,
                addresses: 1,
                state: State::Unknown,
            };
            self.nodes.insert(contact.id, heard);
            self.queue.push_back(contact);
            return;
        };
        let alive = matches!(node.state, State::Answered | State::Refused);
        let others = node.pending.as_ref().map_or(&[][..], |pending| &pending.others);
        let known = node.address == contact.address || others.contains(&contact.address);
        if alive || known || usize::from(node.addresses) >= MAX_ADDRESSES {
            return;
        }
        node.addresses += 1;
        match node.state {
            State::Dead => {
                // It has moved, and this is the first to tell where.
                node.address = contact.address.clone();
                self.queue.push_back(contact);
            }
            _ => node.pending().others.push(contact.address),
        }
    }

    /// Nobody answers at this address of a node; another one is tried, if one was told.
    fn give_up(&mut self, contact: Contact<A>) {
        let Some(node) = self.nodes.get_mut(&contact.id) else {
            return;
        };
        if matches!(node.state, State::Answered | State::Refused) {
            return; // It fell silent in the middle of its interview.
        }
        match node.pending.as_mut().and_then(|pending| pending.others.pop()) {
            Some(address) => {
                node.address = address.clone();
                self.queue.push_back(Contact::new(contact.id, address));
            }
            None => self.settle(contact.id, State::Dead),
        }
    }

    fn settle(&mut self, id: NodeId, state: State) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let alive = state != State::Dead;
        match node.state {
            State::Answered | State::Refused => return,
            State::Unknown => self.settled += 1,
            // The dead come back to life where they have moved to.
            State::Dead => {}
        }
        node.state = state;
        if let Some(pending) = node.pending.take() {
            self.tally.settle(pending.tellings, alive);
        }
    }
}
