//! What this node keeps as its own.

use kad_core::{Key, Kind, NodeId, Record, Slot, UnixTime, Verdict};
use kad_net::WireAddress;
use tokio::sync::oneshot;

use super::Node;
use crate::NodeError;
use crate::driver::{Order, unix_now};
use crate::holdings::Listing;

impl<A: WireAddress> Node<A> {
    /// What this node keeps as its own: files, and records that belong to none. Of these files it is told too if their
    /// roots are not here. All records are read and checked, on a thread where that disturbs nobody.
    ///
    /// # Errors
    /// [`NodeError::Store`] if the store cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn holdings(&self, wanted: Vec<Key>) -> Result<Listing, NodeError> {
        let node = self.clone();
        let listing = move || (node.inner.doors.listing)(&wanted, unix_now());
        match tokio::task::spawn_blocking(listing).await {
            Ok(Ok(listing)) => Ok(listing),
            Ok(Err(error)) => Err(NodeError::Store(error.to_string())),
            Err(_) => Err(NodeError::Stopped),
        }
    }

    /// Whether this node keeps the immutable value with this key as its own. It is a short read, as for a peer.
    pub(crate) fn has_own(&self, key: Key) -> bool {
        let slot = Slot {
            key,
            kind: Kind::Immutable,
            provider: NodeId::default(),
        };
        match (self.inner.doors.stored)(&slot) {
            Ok(stored) => stored.is_some_and(|stored| stored.own && stored.raw.expiry() > unix_now()),
            Err(error) => {
                tracing::error!(%key, %error, "the store could not be read");
                false
            }
        }
    }

    /// Keeps a record as this node's own and sends it to nobody before it is due.
    pub(crate) async fn keep_own(&self, record: Record, due: UnixTime) -> Result<(), NodeError> {
        let (answer, kept) = oneshot::channel();
        self.inner
            .asker
            .order(Order::Keep { record, due, answer })
            .await?;
        not_kept(Some(kept.await.unwrap_or(Verdict::Failed))).map_or(Ok(()), Err)
    }
}

/// Why this node does not keep what it was to keep, by what its own store said; `None` if it does, or was not to.
pub(super) fn not_kept(said: Option<Verdict>) -> Option<NodeError> {
    match said? {
        Verdict::Stored | Verdict::Unchanged => None,
        Verdict::Full => Some(NodeError::NoRoom),
        Verdict::Stale { current } | Verdict::Conflict { current } => Some(NodeError::Conflict { current }),
        Verdict::Refused(why) => Some(NodeError::Record(why)),
        // The others are said of what others send, or of a disk.
        _ => Some(NodeError::NotKept),
    }
}
