//! What a node answers.

use std::time::Duration;

use bytes::Bytes;
use kad_core::record::Content;
use kad_core::{Contact, Effort, Key, NodeId, Outcome, PublicKey, QueryId, Record, UnixTime, Verdict};

use crate::NodeError;

/// The nodes nearest to a point.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closest<A> {
    /// Nearest first, at most k.
    pub contacts: Vec<Contact<A>>,
    /// What it took.
    pub effort: Effort,
}

/// A peer's answer to PING.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pong<A> {
    /// The peer's wall clock.
    pub unix: UnixTime,
    /// Where the peer sees this node.
    pub observed: A,
    /// How long the answer took, dialling included.
    pub took: Duration,
}

/// A node's answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Told<A> {
    /// The contacts that it knows nearest to the point, nearest first unless it lies, at most
    /// [`MAX_CLOSER`](kad_core::MAX_CLOSER).
    pub contacts: Vec<Contact<A>>,
    /// The round trip, without the time to dial.
    pub took: Duration,
}

impl<A> Told<A> {
    /// What came of a [`Command::Ask`](kad_core::Command::Ask).
    pub(crate) fn of(outcome: Outcome<A>) -> Result<Self, NodeError> {
        match outcome {
            Outcome::Told { closer, took } => Ok(Self {
                contacts: closer,
                took,
            }),
            Outcome::Failed(why) => Err(why.into()),
            _ => Err(NodeError::Stopped),
        }
    }
}

/// An immutable value; its hash is its key, so it is what was put.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Value {
    /// The bytes.
    pub bytes: Bytes,
    /// Whether they are a value or an index of a file.
    pub content: Content,
    /// When the copy that answered ends.
    pub expires: UnixTime,
    /// What it took.
    pub effort: Effort,
}

impl Value {
    /// What an immutable record says.
    pub(super) fn of(record: &Record, effort: Effort) -> Self {
        Self {
            bytes: record.value(),
            content: record.content(),
            expires: record.expiry(),
            effort,
        }
    }
}

/// Where something was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored<A> {
    /// The key.
    pub key: Key,
    /// The nodes that acknowledged: it is on their disks.
    pub holders: Vec<Contact<A>>,
    /// Whether this node is one of the nearest and holds a copy too.
    pub local: bool,
    /// Nodes that refused.
    pub refused: usize,
    /// What the own store said, if this node was to keep it as its own. Who is told that it was stored need not ask.
    pub(crate) kept: Option<Verdict>,
    /// The version, for a mutable record.
    pub seq: u64,
    /// When it ends.
    pub expires: UnixTime,
    /// What it took until then.
    pub effort: Effort,
    /// The name of the write in [`Node::events`](super::Node::events): if it was done before all of the nearest were
    /// told, an [`Event::Placed`](kad_core::Event::Placed) with this name tells how that ended.
    pub query: QueryId,
}

impl<A> Stored<A> {
    /// How many copies were acknowledged, this node's own included.
    #[must_use]
    pub fn copies(&self) -> usize {
        self.holders.len() + usize::from(self.local)
    }
}

/// The newest version of a mutable record that a quorum, or this node itself, knew.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mutable {
    /// The bytes.
    pub value: Bytes,
    /// The version.
    pub seq: u64,
    /// Its owner.
    pub owner: PublicKey,
    /// When it ends.
    pub expires: UnixTime,
    /// How many holders answered. Some may have had an older version.
    pub holders: usize,
    /// What it took.
    pub effort: Effort,
}

/// Somebody who has what a key names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provider<A = kad_net::quic::QuicAddress> {
    /// Who.
    pub id: NodeId,
    /// Where they say they can be reached: signed by them, so nobody else has made it up. `None` if they do not say, or
    /// only places outside of this node's scope.
    pub address: Option<A>,
    /// Their public key.
    pub public_key: PublicKey,
    /// What their application added to the announcement.
    pub payload: Bytes,
    /// When the announcement ends.
    pub expires: UnixTime,
}

impl<A: Clone> Provider<A> {
    /// The provider as a node to ask, if it says where it is. The transport proves that it is the one.
    #[must_use]
    pub fn contact(&self) -> Option<Contact<A>> {
        let address = self.address.clone()?;
        Some(Contact::new(self.id, address))
    }
}
