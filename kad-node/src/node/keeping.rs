//! What this node keeps as its own.

use kad_core::{Key, Kind, NodeId, Record, Slot, UnixTime};
use kad_net::WireAddress;
use tokio::sync::oneshot;

use super::Node;
use crate::NodeError;
use crate::driver::{Order, unix_now};

impl<A: WireAddress> Node<A> {
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
        match kept.await {
            Ok(true) => Ok(()),
            _ => Err(NodeError::NotKept),
        }
    }
}
