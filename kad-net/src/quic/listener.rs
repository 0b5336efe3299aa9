//! Waits for connections of peers that are for one protocol.

use std::fmt;

use tokio::sync::{Mutex, mpsc};

use super::connection::{Connection, Protocol};

/// Connections that wait to be accepted, for each protocol. Full: the peer is told that this node is busy.
pub(super) const MAX_WAITING: usize = 32;

/// Accepts the connections that peers open for one protocol. Dropping it ends that, and closes those that wait.
pub struct Listener {
    protocol: Protocol,
    queue: Mutex<mpsc::Receiver<Connection>>,
}

impl Listener {
    /// The listener, and where its connections come from.
    pub(super) fn new(protocol: Protocol) -> (Self, mpsc::Sender<Connection>) {
        let (sender, queue) = mpsc::channel(MAX_WAITING);
        let queue = Mutex::new(queue);
        (Self { protocol, queue }, sender)
    }

    /// What it listens for.
    #[must_use]
    pub const fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// The next connection; `None` once the transport is closed.
    ///
    /// # Cancel safety
    /// Cancel-safe: no connection is lost.
    pub async fn accept(&self) -> Option<Connection> {
        self.queue.lock().await.recv().await
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// Why a protocol cannot be listened for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// This transport is closed.
    #[error("the transport is closed")]
    Closed,
    /// Somebody listens for it already.
    #[error("somebody listens for {protocol} already: choose another protocol")]
    Taken {
        /// The protocol.
        protocol: Protocol,
    },
    /// As many protocols are listened for as may be.
    #[error("this node listens for too many protocols: end some")]
    TooMany,
}
