//! A connection with a peer as an application sees it: streams and datagrams for one protocol, whatever path they run
//! over.
//!
//! It has nothing to do with a connection of QUIC: it lives in two maps, one at each end ([`Peering`]), and is in use
//! as long as somebody holds it or one of its streams.

mod error;
mod protocol;
mod state;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kad_core::NodeId;
use tokio::sync::watch;

pub use self::error::{ConnectError, ConnectionError, DatagramError};
pub use self::protocol::{InvalidProtocol, MAX_PROTOCOL, Protocol};
pub(super) use self::state::State;

use super::application::header::ConnectionId;
use super::path::PathReport;
#[cfg(doc)]
use super::peering::Peering;
use super::peering::ended_with;
use super::stream::Stream;

/// An authenticated, encrypted connection with one peer, for one protocol.
///
/// It runs over the best path that there is, and moves to a better one while it is in use; streams notice nothing of
/// that. Clones are the same connection. It is closed when all clones and all its streams are dropped, or by
/// [`close`](Self::close).
#[derive(Clone)]
pub struct Connection {
    handle: Arc<Handle>,
}

/// In use by an application.
pub(super) struct Handle(pub(super) Arc<State>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.peering.forget(&self.0, ConnectionError::ClosedHere, true);
    }
}

impl Connection {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self {
            handle: Arc::new(Handle(state)),
        }
    }

    fn state(&self) -> &Arc<State> {
        &self.handle.0
    }

    /// The peer, whose key is proven.
    #[must_use]
    pub fn peer(&self) -> NodeId {
        self.state().peering.peer
    }

    /// What it is for.
    #[must_use]
    pub fn protocol(&self) -> &Protocol {
        &self.state().protocol
    }

    /// Whether this end opened it.
    #[must_use]
    pub fn is_dialled(&self) -> bool {
        self.state().dialled
    }

    /// Opens a stream. The peer learns of it with its first byte or at once, whichever the path brings; nothing is
    /// waited for but a place, while as many streams are open as may be (64 of each side).
    ///
    /// # Errors
    /// [`ConnectionError`] if the connection has ended.
    ///
    /// # Cancel safety
    /// Cancel-safe: no stream was opened then.
    pub async fn open(&self) -> Result<Stream, ConnectionError> {
        self.state().open(&self.handle).await
    }

    /// The next stream that the peer has opened. Of several that were opened at once any may come first.
    ///
    /// # Errors
    /// [`ConnectionError`] once the connection has ended and all streams that had come were accepted.
    ///
    /// # Cancel safety
    /// Cancel-safe: no stream is lost.
    pub async fn accept(&self) -> Result<Stream, ConnectionError> {
        self.state().accept(&self.handle).await
    }

    /// Sends a datagram: it arrives once or never, and in any order. It is lost while there is no path.
    ///
    /// # Errors
    /// [`DatagramError::TooLarge`] if the path in use takes no packet of its size.
    pub fn send_datagram(&self, datagram: &[u8]) -> Result<(), DatagramError> {
        self.state().send_datagram(datagram)
    }

    /// The next datagram of the peer. At most 128 wait, and further ones are lost.
    ///
    /// # Errors
    /// [`ConnectionError`] once the connection has ended and all datagrams were read.
    ///
    /// # Cancel safety
    /// Cancel-safe: no datagram is lost.
    pub async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        self.state().read_datagram().await
    }

    /// The most bytes that a datagram may have now; `None` while there is no path. It changes with the path.
    #[must_use]
    pub fn max_datagram_size(&self) -> Option<usize> {
        let best = self.state().peering.best();
        let path = best.borrow().clone()?;
        let most = path.connection.max_datagram_size()?;
        most.checked_sub(ConnectionId::SHORT)
    }

    /// Which path is in use and why, now and whenever it changes.
    #[must_use]
    pub fn path(&self) -> watch::Receiver<PathReport> {
        self.state().peering.report()
    }

    /// The round trip of the path in use, as measured last; `None` while there is no path.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        let best = self.state().peering.best();
        let path = best.borrow().clone()?;
        Some(path.connection.rtt())
    }

    /// Resolves once the connection has ended, with why.
    pub async fn closed(&self) -> ConnectionError {
        ended_with(&mut self.state().ended()).await
    }

    /// Closes it for good, once the peer has taken all of every stream that was shut down, or after five seconds.
    /// Streams that were not shut down are cut off.
    ///
    /// # Cancel safety
    /// If the future is dropped, the connection is as before, but for this handle.
    pub async fn close(self) {
        let state = self.state();
        let mut ended = state.ended();
        tokio::select! {
            _ = tokio::time::timeout(CLOSE_PATIENCE, state.until_delivered()) => {}
            _ = ended_with(&mut ended) => {}
        }
        state.peering.forget(state, ConnectionError::ClosedHere, true);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer())
            .field("protocol", self.protocol())
            .finish_non_exhaustive()
    }
}

/// How long closing waits for the peer to take what was written: some round trips and a retransmission on any path.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
