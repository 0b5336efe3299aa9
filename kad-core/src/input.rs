//! What the driver tells the state machine.

use alloc::vec::Vec;

use crate::record::{RawRecord, Record, Verdict};
use crate::{
    Contact, Difference, Duration, Failure, Fingerprint, Found, Key, Kind, NodeId, Request, Response, Slot,
    UnixTime,
};

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Input<A> {
    /// The application wants something; `query` is an id that the driver never reuses.
    Command {
        /// Names the query in everything that follows.
        query: QueryId,
        /// What is wanted.
        command: Command<A>,
    },
    /// The application no longer wants the answer. Unknown ids are ignored.
    Cancel {
        /// The query.
        query: QueryId,
    },
    /// A peer asks us. It is owed exactly one [`Output::Response`](crate::Output::Response).
    Request {
        /// Who asks; the transport has proven that the id is theirs.
        from: Contact<A>,
        /// Whether they say that nobody should route through them. The latest word counts.
        read_only: bool,
        /// Names this request in the answer; the driver never reuses it.
        reply_to: ReplyId,
        /// What they ask.
        request: Request,
    },
    /// Whom an [`Output::Request`](crate::Output::Request) reached is for certain at this address, and perhaps not at
    /// all that was asked: an address may name several hosts, of which one has answered, or one host of several that
    /// are known to be that peer. Comes before the answer. What the table keeps, and tells others, is this. Unknown and
    /// settled ids are ignored.
    Proven {
        /// The request.
        id: RequestId,
        /// Where the peer is.
        address: A,
    },
    /// An answer to an [`Output::Request`](crate::Output::Request). Unknown and settled ids are ignored and counted.
    Response {
        /// The request.
        id: RequestId,
        /// The answer; its records are verified and belong to the question.
        response: Response<A>,
        /// The round trip, without the time to dial; given only where it was one: of PING and FIND_NODE, which a peer
        /// answers at once.
        rtt: Option<Duration>,
    },
    /// A request came to nothing.
    Failure {
        /// The request.
        id: RequestId,
        /// Whose fault it was.
        failure: Failure,
    },
    /// The answer to an [`Output::Store`](crate::Output::Store).
    Store {
        /// The operation.
        id: StoreId,
        /// What came of it.
        reply: StoreReply,
    },
    /// From now on this node only asks, or serves as well; said again it changes nothing. It begins as
    /// [`Config::read_only`](crate::Config::read_only) says. The driver marks the requests that it sends after this.
    Role {
        /// Whether it only asks.
        read_only: bool,
    },
    /// The time of [`Kademlia::poll_timeout`](crate::Kademlia::poll_timeout) has come.
    Timeout,
}

/// What the application wants.
#[derive(Debug, Clone)]
pub enum Command<A> {
    /// The k contacts nearest to a point. Ends in [`Outcome::Closest`](crate::Outcome::Closest).
    FindNode {
        /// The point.
        target: Key,
    },
    /// Where a node is: a lookup of its id, on which those who hold its card give it as well. Ends in
    /// [`Outcome::Located`](crate::Outcome::Located).
    Locate {
        /// The node.
        id: NodeId,
    },
    /// Records under a key. Ends in [`Outcome::Found`](crate::Outcome::Found).
    FindValue {
        /// The key.
        key: Key,
        /// The kind of record.
        kind: Kind,
        /// When to stop.
        read: Read,
    },
    /// Store at the k nearest to the record's key. Ends in [`Outcome::Stored`](crate::Outcome::Stored) when enough of
    /// them have acknowledged; the others are told after that, and [`Event::Placed`](crate::Event::Placed) tells how it
    /// went.
    Store {
        /// The record.
        record: Record,
        /// Only where the version held is this one.
        expected: Option<u64>,
        /// Whether this node keeps a copy as its own and keeps publishing it.
        keep: bool,
        /// Of the k nearest, how many must have acknowledged for the query to end; `usize::MAX` waits for all.
        /// [`Config::write_quorum`](crate::Config::write_quorum) is a good number.
        enough: usize,
    },
    /// Store many records together: for each region that they are of one lookup, then batches of STORE to its nodes.
    /// Ends in [`Outcome::StoredMany`](crate::Outcome::StoredMany) when all of them were asked. It pays where the keys
    /// begin alike: records that have the same [`Kademlia::region_of`](crate::Kademlia::region_of) take one lookup.
    StoreMany {
        /// At most [`MAX_BULK`]; the rest is ignored.
        records: Vec<Record>,
        /// Whether this node keeps copies as its own and keeps publishing them.
        keep: bool,
    },
    /// Join: look up the own id through these contacts and those already known, then fill the buckets. Ends in
    /// [`Outcome::Bootstrapped`](crate::Outcome::Bootstrapped).
    Bootstrap {
        /// At most [`MAX_SEEDS`]; the rest is ignored.
        contacts: Vec<Contact<A>>,
    },
    /// One PING. Ends in [`Outcome::Pong`](crate::Outcome::Pong).
    Ping {
        /// Whom.
        contact: Contact<A>,
    },
    /// One FIND_NODE to one contact, whether or not it is near the target: what a crawl is made of. Ends in
    /// [`Outcome::Told`](crate::Outcome::Told); without an answer in [`QueryError::Unanswered`](crate::QueryError),
    /// `Refused` or `NotAsked`.
    Ask {
        /// Whom. It is dialled within the rations of hearsay, and a node never asks itself.
        contact: Contact<A>,
        /// The point.
        target: Key,
    },
    /// This node is about to leave: whoever will hold its records then is given those that they do not have. Ends in
    /// [`Outcome::HandedOver`](crate::Outcome::HandedOver); cancel it when the time is up.
    HandOver,
}

/// The most contacts that one [`Command::Bootstrap`] starts from.
pub const MAX_SEEDS: usize = 64;

/// The most records of one [`Command::StoreMany`]: with small ones, two STOREs to each of some forty nodes. The driver
/// should send no more bytes than can be on their way within [`Config::query_timeout`](crate::Config::query_timeout).
pub const MAX_BULK: usize = 256;

/// When a read has enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// At the first record: an immutable value proves itself.
    First,
    /// When so many holders have answered; the newest version wins, and holders of older ones are repaired.
    Quorum(usize),
    /// When so many different providers are known.
    Gather(usize),
    /// Never before all of the k nearest have been asked; they answer with digests only. Counts copies.
    Census,
}

/// What the store answered. Errors are [`StoreReply::Failed`]: the core needs no reasons.
#[derive(Debug, Clone)]
pub enum StoreReply {
    /// To [`StoreOp::Get`](crate::StoreOp::Get).
    Found {
        /// Verified; empty if there is nothing.
        found: Vec<Found>,
        /// Ask again after this provider for more; `None` if these are all that are held.
        next: Option<NodeId>,
    },
    /// To [`StoreOp::Put`](crate::StoreOp::Put): one for each entry, in order; durable when told.
    Put(Vec<Verdict>),
    /// To [`StoreOp::Due`](crate::StoreOp::Due): records that are due, verified again as they were read.
    Due(Vec<DueRecord>),
    /// To [`StoreOp::Expire`](crate::StoreOp::Expire): whether the limit was reached, so that more may be left.
    Expired {
        /// Whether to go on at once.
        more: bool,
    },
    /// To [`StoreOp::Summarize`](crate::StoreOp::Summarize): one for each part, in order.
    Summaries(Vec<Fingerprint>),
    /// To [`StoreOp::Compare`](crate::StoreOp::Compare): one for each part, in order.
    Compared(Vec<Difference>),
    /// To [`StoreOp::Missing`](crate::StoreOp::Missing): those that are not held.
    Missing(Vec<u64>),
    /// To [`StoreOp::Fetch`](crate::StoreOp::Fetch): at most [`MAX_RECORDS`](crate::MAX_RECORDS) and
    /// [`MAX_RECORD_BYTES`](crate::MAX_RECORD_BYTES), verified again as they were read.
    Fetched {
        /// The records.
        records: Vec<Record>,
        /// Whether there are more.
        more: bool,
    },
    /// It could not be done.
    Failed,
}

/// A record whose time has come to be handed to its region.
#[derive(Debug, Clone)]
pub struct DueRecord {
    /// The record.
    pub record: Record,
    /// Since when it is due.
    pub due: UnixTime,
    /// Whether this node published it.
    pub own: bool,
}

impl DueRecord {
    /// Where it is kept.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.record.slot()
    }

    /// As it is kept.
    #[must_use]
    pub const fn raw(&self) -> &RawRecord {
        self.record.as_raw()
    }
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);
    };
}

handle! {
    /// A query, named by the driver.
    QueryId
}
handle! {
    /// A peer's request, named by the driver.
    ReplyId
}
handle! {
    /// A request of ours, named by the core.
    RequestId
}
handle! {
    /// An operation on the store, named by the core.
    StoreId
}
