//! What nodes say to each other, as values. The bytes are the business of a codec.

use alloc::vec::Vec;

use crate::record::{Kind, Record, Verdict};
use crate::{Contact, Difference, Fingerprint, Key, NodeId, Prefix, UnixTime};

/// The most contacts in one answer. k is at most this.
pub const MAX_CLOSER: usize = 32;

/// The most records in one STORE or one answer.
pub const MAX_RECORDS: usize = 64;

/// The most bytes of records in one STORE or one answer: one record of the largest size always fits.
pub const MAX_RECORD_BYTES: usize = crate::MAX_RECORD;

/// The most bytes of a card in an answer to FIND_NODE, signature and all. A card is the mutable record of a node under
/// its own id, in which it says where it can be reached. The largest that a node makes has some 700; the rest is for
/// later versions. So nobody can make lookups carry large records by calling them cards.
pub const MAX_CARD_BYTES: usize = 2048;

/// What one node asks another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Are you there? (Kademlia paper, section 2.3.)
    Ping,
    /// Which contacts do you know nearest to this point?
    FindNode {
        /// The point.
        target: Key,
        /// Whether the [card](MAX_CARD_BYTES) of the node with exactly this id is wanted as well, of those who hold it.
        card: bool,
    },
    /// Do you hold this? If not, who is nearer?
    FindValue(FindValue),
    /// Keep these; a batch gets one verdict each, in order.
    Store {
        /// At most [`MAX_RECORDS`] and [`MAX_RECORD_BYTES`].
        entries: Vec<StoreEntry>,
    },
    /// Where does what you hold differ from what I hold? See [`summary`](crate::summary).
    Compare {
        /// Parts of the key space, none of which overlaps another, in ascending order, at most
        /// [`MAX_COMPARED`](crate::summary::MAX_COMPARED); and what the asker holds there.
        parts: Vec<(Prefix, Fingerprint)>,
    },
    /// Give me records that you told of in a [`Difference::Listed`].
    Fetch {
        /// Where they are.
        prefix: Prefix,
        /// Which, ascending, in their [`short`](crate::summary::short) form; at most [`MAX_RECORDS`].
        marks: Vec<u64>,
    },
}

/// The question of FIND_VALUE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FindValue {
    /// The key.
    pub key: Key,
    /// The kind of record wanted.
    pub kind: Kind,
    /// Mutable: only versions from this on; an older one counts as not held.
    pub min_seq: u64,
    /// Provider: where a page begins. Providers come in the order of their ids, first those with greater ones than
    /// this, and after the greatest it goes round to the smallest; this one itself is the last of all. `None` begins
    /// with the smallest.
    pub after: Option<NodeId>,
    /// The records themselves, or only their digests.
    pub want: Want,
}

impl FindValue {
    /// Where a provider comes among all that this asks for; smaller ones come first.
    #[must_use]
    pub fn turn_of(&self, provider: NodeId) -> (bool, NodeId) {
        (self.after.is_some_and(|after| provider <= after), provider)
    }
}

/// How much of a record is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// The whole record.
    Record,
    /// Its version and digest: enough to count copies or to compare.
    Digest,
}

/// One record of a STORE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreEntry {
    /// The record, verified.
    pub record: Result<Record, crate::RecordError>,
    /// Store only if the version held is this one (0: none). A check, not an election.
    pub expected: Option<u64>,
}

/// To be stored whatever is held.
impl From<Record> for StoreEntry {
    fn from(record: Record) -> Self {
        Self {
            record: Ok(record),
            expected: None,
        }
    }
}

/// What a node answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response<A> {
    /// To PING.
    Pong {
        /// The answering node's wall clock.
        unix: UnixTime,
        /// Where it sees the asker.
        observed: A,
    },
    /// To FIND_NODE: the contacts nearest to the target that it knows, k and a quarter more and at most
    /// [`MAX_CLOSER`]; those first that it reaches fastest.
    Nodes {
        /// The contacts.
        closer: Vec<Contact<A>>,
        /// The card of the node whose id is the target, if it was wanted, is held, and has at most [`MAX_CARD_BYTES`].
        card: Option<Record>,
    },
    /// To FIND_VALUE: what it holds, and who is nearer.
    Values {
        /// At most [`MAX_RECORDS`] and [`MAX_RECORD_BYTES`]; one at most unless providers were asked for.
        found: Vec<Found>,
        /// Providers: ask again after this one for more. `None` if these are all, however many there are.
        next: Option<NodeId>,
        /// Contacts nearer to the key; may be left out when something was found.
        closer: Vec<Contact<A>>,
    },
    /// To STORE.
    Stored {
        /// One for each entry, in order.
        verdicts: Vec<Verdict>,
        /// The contacts nearest to the key of the first entry.
        closer: Vec<Contact<A>>,
    },
    /// To COMPARE.
    Compared {
        /// One for each part, in order.
        differences: Vec<Difference>,
    },
    /// To FETCH.
    Fetched {
        /// Of the records that were asked for those that are there and fit into the answer, at most [`MAX_RECORDS`] and
        /// [`MAX_RECORD_BYTES`]. The first always fits, so whoever asks again for those that are missing comes to an
        /// end.
        records: Vec<Record>,
    },
    /// The request was not carried out.
    Rejected(Rejection),
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A verified record.
    Record(Record),
    /// A holder's claim of what it has.
    Digest {
        /// The version.
        seq: u64,
        /// As [`Record::digest`](crate::Record::digest) gives it.
        digest: [u8; 32],
    },
}

/// Why a request was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejection {
    /// A request of a kind that this node does not know. It never closes the connection.
    Unsupported,
    /// Too much to do; ask again later.
    Busy,
    /// The request could not be read.
    Malformed,
    /// This node is read-only: it stores nothing for others.
    ReadOnly,
    /// This node routes, and stores nothing for others.
    StoresNothing,
}

/// What a failed request says about the contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// Nobody answered there.
    Unreachable,
    /// Somebody else answered there.
    WrongIdentity,
    /// It is there and refused for now.
    Busy,
    /// What it sent makes no sense.
    Malformed,
    /// Our own side failed, or the transport is closed: says nothing about the contact.
    Local,
}
