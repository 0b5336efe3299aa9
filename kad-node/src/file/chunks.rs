//! Where chunks are put and got: the network, or in tests a map with faults.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use kad_core::record::Content;
use kad_core::{Key, Kind, QueryError, Record, RecordError, UnixTime};
use kad_net::WireAddress;

use super::ATTEMPTS;
use crate::driver::unix_now;
use crate::{Node, NodeError, PutOptions, Stored, Value};

/// Stores and finds immutable values.
pub(super) trait Chunks: Sync {
    /// Where holders are.
    type Address: Send;

    /// As [`Node::put`], for data or an index.
    fn put(
        &self,
        content: Content,
        value: &Bytes,
        options: PutOptions,
    ) -> impl Future<Output = Result<Stored<Self::Address>, NodeError>> + Send;

    /// As [`Node::get`].
    fn get(&self, key: Key) -> impl Future<Output = Result<Option<Value>, NodeError>> + Send;

    /// Whether there are fewer copies of a value than `wanted`, and fewer than there could be.
    fn is_rare(
        &self,
        content: Content,
        value: &Bytes,
        wanted: usize,
    ) -> impl Future<Output = Result<bool, NodeError>> + Send;

    /// Whether this node keeps the value with this key as its own.
    fn is_kept(&self, key: Key) -> impl Future<Output = bool> + Send;

    /// Keeps a value of which there are enough copies as this node's own, and sends it to nobody before half of the
    /// life is over that those have left, which end at `expires`. The own copy lives for `ttl`, or as long as those.
    fn keep(
        &self,
        content: Content,
        value: &Bytes,
        ttl: Duration,
        expires: UnixTime,
    ) -> impl Future<Output = Result<(), NodeError>> + Send;
}

impl<A: WireAddress> Chunks for Node<A> {
    type Address = A;

    async fn put(
        &self,
        content: Content,
        value: &Bytes,
        options: PutOptions,
    ) -> Result<Stored<A>, NodeError> {
        match content {
            Content::Plain => Self::put(self, value, options).await,
            Content::FileIndex => self.put_index(value, options).await,
        }
    }

    async fn get(&self, key: Key) -> Result<Option<Value>, NodeError> {
        Self::get(self, key).await
    }

    async fn is_rare(&self, content: Content, value: &Bytes, wanted: usize) -> Result<bool, NodeError> {
        let soon = unix_now() + Duration::from_secs(1);
        let (key, digest) =
            record(self, content, value, soon).map(|record| (record.key(), record.digest()))?;
        let holders = self.census(key, Kind::Immutable).await?;
        // Who holds something else holds nothing.
        let held = holders.iter().filter(|holder| holder.digest == digest).count();
        if held >= wanted {
            return Ok(false);
        }
        // A small network has no more nodes that could hold it: those that are told, and this one.
        let nearest = self.closest(key).await?.contacts.len();
        Ok(held < nearest + usize::from(self.stores()))
    }

    async fn is_kept(&self, key: Key) -> bool {
        self.has_own(key)
    }

    async fn keep(
        &self,
        content: Content,
        value: &Bytes,
        ttl: Duration,
        expires: UnixTime,
    ) -> Result<(), NodeError> {
        let now = unix_now();
        let record = record(self, content, value, expires.max(now + ttl))?;
        let half = Duration::from_secs(expires.secs_since(now)).min(ttl) / 2;
        self.keep_own(record, now + half).await
    }
}

fn record<A: WireAddress>(
    node: &Node<A>,
    content: Content,
    value: &Bytes,
    expiry: UnixTime,
) -> Result<Record, RecordError> {
    match content {
        Content::Plain => Record::immutable(value, expiry, node.rules(), unix_now()),
        Content::FileIndex => Record::file_index(value, expiry, node.rules(), unix_now()),
    }
}

/// [`Chunks::put`], [`ATTEMPTS`] times if that can help.
pub(super) async fn put_patiently<C: Chunks>(
    chunks: &C,
    content: Content,
    value: &Bytes,
    options: PutOptions,
    first_pause: Duration,
) -> Result<Stored<C::Address>, NodeError> {
    let mut pause = first_pause;
    for _ in 1..ATTEMPTS {
        match chunks.put(content, value, options).await {
            Err(error) if may_pass(&error) => tracing::debug!(%error, "storing a chunk again"),
            decided => return decided,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    chunks.put(content, value, options).await
}

/// [`Chunks::get`], [`ATTEMPTS`] times if that can help. A value that must be there, because a tree names it, may be
/// found by the next lookup; that nobody has another is an answer.
pub(super) async fn get_patiently<C: Chunks>(
    chunks: &C,
    key: Key,
    must_be_there: bool,
    first_pause: Duration,
) -> Result<Option<Value>, NodeError> {
    let mut pause = first_pause;
    for _ in 1..ATTEMPTS {
        match chunks.get(key).await {
            Ok(None) if must_be_there => tracing::debug!(%key, "looking for a chunk again"),
            Err(error) if may_pass(&error) => tracing::debug!(%error, %key, "looking for a chunk again"),
            decided => return decided,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    chunks.get(key).await
}

/// Whether the same may succeed a moment later.
pub(super) fn may_pass(error: &NodeError) -> bool {
    match error {
        NodeError::QuorumNotMet { .. } | NodeError::NotKept | NodeError::TooOften { .. } => true,
        NodeError::Query(query) => !matches!(query, QueryError::NoContacts),
        NodeError::Record(_)
        | NodeError::Denied(_)
        | NodeError::NoRoom
        | NodeError::Conflict { .. }
        | NodeError::Store(_)
        | NodeError::Stopped
        | NodeError::Peer(_) => false,
    }
}
