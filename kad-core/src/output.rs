//! What the state machine wants done.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::record::{Record, Verdict};
use crate::{
    Contact, Duration, FindValue, Fingerprint, NodeId, Prefix, QueryId, ReplyId, Request, RequestId,
    Response, Slot, Source, StoreEntry, StoreId, UnixTime,
};

/// One effect, as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output<A> {
    /// Ask a peer. Owes one [`Input::Response`](crate::Input::Response) or [`Input::Failure`](crate::Input::Failure),
    /// unless cancelled.
    Request {
        /// Names it in the answer.
        id: RequestId,
        /// Whom.
        to: Contact<A>,
        /// What.
        request: Request,
    },
    /// The answer is no longer waited for; nothing is owed.
    Cancel {
        /// The request.
        id: RequestId,
    },
    /// Answer a peer.
    Response {
        /// Which of its requests.
        reply_to: ReplyId,
        /// The answer.
        response: Response<A>,
    },
    /// Do something with the store. Owes one [`Input::Store`](crate::Input::Store).
    Store {
        /// Names it in the reply.
        id: StoreId,
        /// What.
        op: StoreOp,
    },
    /// Tell the application.
    Event(Event<A>),
}

/// What the store is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOp {
    /// Look something up.
    Get {
        /// What; for providers a page of at most [`MAX_RECORDS`](crate::MAX_RECORDS) and
        /// [`MAX_RECORD_BYTES`](crate::MAX_RECORD_BYTES).
        query: FindValue,
    },
    /// Keep records, each judged by [`judge`](crate::record::judge).
    Put {
        /// The records; only those that verified.
        entries: Vec<StoreEntry>,
        /// When they are due to be handed on. A put that is not `own` never moves an own record's due time to later, or
        /// others who hand it on would put off its renewal for ever.
        due: UnixTime,
        /// Whether this node published them. What is not `own` stays the node's own where it takes the place of an own
        /// record.
        own: bool,
        /// The peer that sent them, unasked or because this node fetches what it lacks; [`Source::UNKNOWN`] for what
        /// nobody sent: own records, and copies of what this node puts.
        source: Source,
        /// That peer's id: what it sends of its own counts for it, whoever has handed the same on before.
        sender: Option<NodeId>,
    },
    /// Records whose time has come, in the order of their slots. Those of the node's own that it can give a new life to
    /// have got it: a driver that holds the key of a signed record signs it anew here.
    Due(Due),
    /// What is held in each of these parts of the key space.
    Summarize {
        /// Which.
        prefixes: Vec<Prefix>,
    },
    /// How what is held differs from what somebody else holds.
    Compare {
        /// The parts, and what the other one holds there.
        parts: Vec<(Prefix, Fingerprint)>,
    },
    /// Which of these are not held.
    Missing {
        /// Where.
        prefix: Prefix,
        /// Their marks in [`short`](crate::summary::short) form.
        marks: Vec<u64>,
    },
    /// Records of a part: those with these marks, or those without.
    Fetch {
        /// Where.
        prefix: Prefix,
        /// Marks in [`short`](crate::summary::short) form, ascending.
        marks: Vec<u64>,
        /// Whether those that have one of the marks are wanted, or those that have none.
        listed: bool,
    },
    /// Remove expired records, at most `limit`.
    Expire {
        /// Now.
        now: UnixTime,
        /// How many at most.
        limit: usize,
    },
}

/// Which records are asked for that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Only keys with this prefix.
    pub within: Prefix,
    /// Only what comes after this slot.
    pub after: Option<Slot>,
    /// Only what this node published.
    pub own: bool,
    /// What is due at this time or before.
    pub by: UnixTime,
    /// How many at most.
    pub limit: usize,
}

/// Something the application may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<A> {
    /// A query has ended; each ends exactly once, unless it was cancelled.
    QueryFinished {
        /// The query.
        query: QueryId,
        /// What came of it.
        outcome: Outcome<A>,
        /// What it took.
        effort: Effort,
    },
    /// The node's neighbourhood answered: it can be found and can find others. Its far buckets may still be filling.
    Joined {
        /// Contacts in the table.
        contacts: usize,
    },
    /// The last contact is gone. The driver should bootstrap again, and go on trying.
    Isolated,
    /// A contact entered the table.
    ContactAdded(Contact<A>),
    /// A contact left the table.
    ContactRemoved(NodeId),
    /// A [`Command::Store`](crate::Command::Store) that ended when enough had acknowledged has told the others as well.
    Placed {
        /// The query, which has ended before.
        query: QueryId,
        /// What came of it in the end: an [`Outcome::Stored`].
        outcome: Outcome<A>,
        /// What it took, all in all.
        effort: Effort,
    },
    /// This node's wall clock is wrong, by what most of its contacts say: records may be refused, here or elsewhere.
    /// Told once, until [`ClockRight`](Self::ClockRight).
    ClockOff {
        /// As [`Stats::clock_offset`](crate::Stats::clock_offset).
        offset: i64,
    },
    /// The wall clock is right again.
    ClockRight,
    /// A signed record of this node's own nears its end and wants a new version.
    RepublishDue(Record),
}

/// What came of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<A> {
    /// To [`Command::FindNode`](crate::Command::FindNode): the nearest that answered, nearest first.
    Closest(Vec<Contact<A>>),
    /// To [`Command::Locate`](crate::Command::Locate).
    Located {
        /// The nearest that answered, nearest first; the node itself is the first if it serves.
        closest: Vec<Contact<A>>,
        /// The newest version of its card that any of those asked, or the own store, had; it may be a deletion.
        card: Option<Record>,
    },
    /// To [`Command::FindValue`](crate::Command::FindValue).
    Found {
        /// What was found: one record at most unless providers were gathered, none for a census.
        records: Vec<Record>,
        /// Who said to hold it.
        holders: Vec<Holder<A>>,
    },
    /// To [`Command::Store`](crate::Command::Store).
    Stored {
        /// Who acknowledged.
        holders: Vec<Contact<A>>,
        /// Whether this node is one of the nearest and keeps a copy itself.
        local: bool,
        /// What the own store said of the copy that this node was to keep as its own; `None` if it was to keep none, or
        /// has not been asked yet.
        kept: Option<Verdict>,
        /// Who refused, and why.
        refused: Vec<(Contact<A>, Verdict)>,
    },
    /// To [`Command::StoreMany`](crate::Command::StoreMany): one for each record, in order.
    StoredMany {
        /// What became of each.
        placements: Vec<Placement<A>>,
    },
    /// To [`Command::Bootstrap`](crate::Command::Bootstrap).
    Bootstrapped {
        /// Contacts in the table.
        contacts: usize,
    },
    /// To [`Command::Ping`](crate::Command::Ping).
    Pong {
        /// The peer's wall clock.
        unix: UnixTime,
        /// Where the peer sees us.
        observed: A,
        /// How long the answer took, dialling included.
        took: Duration,
    },
    /// To [`Command::Ask`](crate::Command::Ask).
    Told {
        /// What the contact told, in its order, at most [`MAX_CLOSER`](crate::MAX_CLOSER); hearsay, not filtered.
        closer: Vec<Contact<A>>,
        /// The round trip as the driver gave it, without the time to dial; if it gave none, since the request was sent.
        took: Duration,
    },
    /// To [`Command::HandOver`](crate::Command::HandOver).
    HandedOver {
        /// Records that were missing elsewhere and are not any more.
        records: u64,
    },
    /// It could not be done.
    Failed(QueryError),
}

/// What became of one of many records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement<A> {
    /// Who acknowledged.
    pub holders: Vec<Contact<A>>,
    /// Whether this node is one of the nearest and keeps a copy itself.
    pub local: bool,
    /// What the own store said of the copy that this node was to keep as its own; `None` if it was to keep none, or has
    /// not been asked yet.
    pub kept: Option<Verdict>,
    /// Who refused, and why.
    pub refused: Vec<(Contact<A>, Verdict)>,
    /// Whether nobody was sent it because it wants a lookup of its own, by [`Command::Store`](crate::Command::Store):
    /// the nodes nearest to it are a crowd, or the time was up before its turn came.
    pub alone: bool,
}

/// A node that said what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder<A> {
    /// The node; `None` if it is this one.
    pub contact: Option<Contact<A>>,
    /// The version it holds.
    pub seq: u64,
    /// The digest of what it holds.
    pub digest: [u8; 32],
}

/// Why a query failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueryError {
    /// The table is empty: this node has not joined, or has lost everyone.
    NoContacts,
    /// As many queries as [`Config::max_queries`](crate::Config::max_queries) are under way.
    TooMany,
    /// Nobody that was asked answered.
    Unanswered,
    /// The one that was asked is there, but was busy, refused, or said something else.
    Refused,
    /// The one contact was not asked: too many of its host or site are being dialled or were found dead, this node's
    /// own side failed, or it is this node itself. It says nothing about the contact.
    NotAsked,
}

impl core::fmt::Display for QueryError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoContacts => "this node knows no other node",
            Self::TooMany => "too many queries are under way",
            Self::Unanswered => "nobody answered",
            Self::Refused => "the node is there and refused",
            Self::NotAsked => "the node was not asked; it may be later",
        })
    }
}

impl core::error::Error for QueryError {}

/// What a query took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effort {
    /// Requests sent.
    pub requests: u32,
    /// Requests that failed.
    pub failures: u32,
    /// From the command to the end.
    pub took: Duration,
    /// From the command until the nearest of all that answered had done so. A lookup then goes on, because it is known
    /// only later that nobody is nearer. Zero where nobody answered, or nothing was looked up.
    pub nearest_after: Duration,
    /// Hops to the nearest node that answered, or to the holder that ended a read: 1 for a contact of the own table, 0
    /// if nobody answered.
    pub hops: u8,
    /// Whether it ran into [`Config::query_timeout`](crate::Config::query_timeout) and ended with what it had.
    pub timed_out: bool,
}

/// The effects of one input, in order. The caller owns it, so that any number of machines can share one.
#[derive(Debug, Clone)]
pub struct Outbox<A>(VecDeque<Output<A>>);

impl<A> Outbox<A> {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// The next effect to carry out.
    pub fn pop(&mut self) -> Option<Output<A>> {
        self.0.pop_front()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The effects, without taking them.
    pub fn iter(&self) -> impl Iterator<Item = &Output<A>> {
        self.0.iter()
    }

    pub(crate) fn push(&mut self, output: Output<A>) {
        self.0.push_back(output);
    }
}

impl<A> Default for Outbox<A> {
    fn default() -> Self {
        Self::new()
    }
}
