//! All peers with whom applications have connections, and who listens for which protocol.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use kad_core::NodeId;
use tokio::sync::{mpsc, watch};

use super::{Hold, Peering};
use crate::quic::application::OnReach;
use crate::quic::application::header::ConnectionId;
use crate::quic::config::QuicLimits;
use crate::quic::connection::{ConnectError, Connection, ConnectionError, Protocol};
use crate::quic::error::code;
use crate::quic::listener::ListenError;
use crate::quic::path::Path;
use crate::quic::stream::Buffered;
use crate::quic::tasks::Alive;

/// Peers with paths or connections. Full: one with whom there is no connection makes room, or the newcomer is refused.
pub(in crate::quic) const MAX_PEERS: usize = 128;

/// As many peers make one that has come by itself be refused, unless there is one with whom there is no connection.
const MAX_CALLERS: usize = 96;

/// Protocols that somebody listens for. Full: no further one can be listened for.
const MAX_LISTENERS: usize = 256;

/// Paths that are about to come in and of which more is known than their address tells: as many as routes through
/// relays, twice. Full: a path that comes in is told by its address alone.
const MAX_EXPECTED: usize = 128;

/// See the module.
pub(in crate::quic) struct Peerings {
    pub(in crate::quic) local: NodeId,
    /// These three as `QuicLimits` says.
    pub(in crate::quic) path_patience: Duration,
    pub(in crate::quic) path_linger: Duration,
    pub(in crate::quic) stream_deadline: Duration,
    inner: Mutex<Inner>,
    /// What handles requests of reaching that come over connections of applications.
    pub(in crate::quic) on_reach: OnceLock<OnReach>,
    /// Streams of peers that were refused.
    pub(in crate::quic) refused_streams: AtomicU64,
    /// What waits in the streams of all peers.
    pub(super) buffered: Buffered,
    /// Streams that peers have opened, all together.
    pub(in crate::quic) streams: Arc<AtomicUsize>,
    /// How often a path has fallen silent.
    doubts: watch::Sender<u64>,
    /// Each with its number, so that a guard forgets only its own.
    expected: Mutex<HashMap<SocketAddr, (u64, Path)>>,
    /// `None` once the transport is closed.
    alive: Mutex<Option<Alive>>,
    random: RandomState,
    drawn: AtomicU64,
}

#[derive(Default)]
struct Inner {
    peers: HashMap<NodeId, Arc<Peering>>,
    listeners: HashMap<Protocol, mpsc::Sender<Connection>>,
}

impl Peerings {
    pub(in crate::quic) fn new(local: NodeId, limits: &QuicLimits, alive: Option<Alive>) -> Arc<Self> {
        Arc::new(Self {
            local,
            path_patience: limits.path_patience,
            path_linger: limits.path_linger,
            stream_deadline: limits.stream_deadline,
            inner: Mutex::default(),
            on_reach: OnceLock::new(),
            refused_streams: AtomicU64::new(0),
            buffered: Buffered::default(),
            streams: Arc::default(),
            doubts: watch::Sender::new(0),
            expected: Mutex::default(),
            alive: Mutex::new(alive),
            random: RandomState::new(),
            drawn: AtomicU64::new(0),
        })
    }

    /// The peering with this peer, made if there is none, and kept as long as the guard is held.
    ///
    /// # Errors
    /// [`ConnectError::TooMany`], [`ConnectError::Ourselves`], [`ConnectError::Closed`].
    pub(in crate::quic) fn with(self: &Arc<Self>, peer: NodeId) -> Result<Hold, ConnectError> {
        self.with_at_most(peer, MAX_PEERS)
    }

    /// The same for a peer that has come by itself: those leave room for the ones that we want.
    pub(in crate::quic) fn with_caller(self: &Arc<Self>, peer: NodeId) -> Result<Hold, ConnectError> {
        self.with_at_most(peer, MAX_CALLERS)
    }

    fn with_at_most(self: &Arc<Self>, peer: NodeId, most: usize) -> Result<Hold, ConnectError> {
        if peer == self.local {
            return Err(ConnectError::Ourselves);
        }
        let Some(alive) = self.token() else {
            return Err(ConnectError::Closed);
        };
        let mut inner = self.lock();
        if let Some(hold) = inner.peers.get(&peer).and_then(Peering::hold) {
            return Ok(hold);
        }
        if inner.peers.len() >= most && !inner.peers.contains_key(&peer) {
            // The one that has been so for longest: a peer that has just come may be about to open a connection.
            let unused = inner
                .peers
                .values()
                .filter_map(|peering| Some((peering.lock().unused()?, peering)))
                .min_by_key(|(unused, _)| *unused)
                .map(|(_, peering)| peering.clone());
            let Some(unused) = unused else {
                return Err(ConnectError::TooMany);
            };
            unused.end(&ConnectionError::ClosedHere, code::UNUSED);
            inner.peers.remove(&unused.peer);
        }
        let peering = Peering::new(peer, self.clone());
        let Some(hold) = peering.hold() else {
            return Err(ConnectError::Closed);
        };
        inner.peers.insert(peer, peering.clone());
        drop(inner);
        tokio::spawn(peering.tend(alive));
        Ok(hold)
    }

    /// The peering with this peer, if there is one.
    #[cfg(test)]
    pub(in crate::quic) fn known(&self, peer: &NodeId) -> Option<Hold> {
        self.lock().peers.get(peer).and_then(Peering::hold)
    }

    /// Takes it off the list.
    pub(super) fn remove(&self, peering: &Arc<Peering>) {
        if let Entry::Occupied(entry) = self.lock().peers.entry(peering.peer)
            && Arc::ptr_eq(entry.get(), peering)
        {
            entry.remove();
        }
    }

    /// Hands connections for this protocol to whoever has the other end of the queue.
    pub(in crate::quic) fn listen(
        &self,
        protocol: Protocol,
        queue: mpsc::Sender<Connection>,
    ) -> Result<(), ListenError> {
        if self.token().is_none() {
            return Err(ListenError::Closed);
        }
        let mut inner = self.lock();
        inner.listeners.retain(|_, queue| !queue.is_closed());
        if inner.listeners.contains_key(&protocol) {
            return Err(ListenError::Taken { protocol });
        }
        if inner.listeners.len() >= MAX_LISTENERS {
            return Err(ListenError::TooMany);
        }
        inner.listeners.insert(protocol, queue);
        Ok(())
    }

    pub(super) fn listener(&self, protocol: &Protocol) -> Option<mpsc::Sender<Connection>> {
        self.lock().listeners.get(protocol).cloned()
    }

    /// How often a path has fallen silent, now and whenever one does: the peer may be somewhere else than before, or
    /// this node.
    pub(in crate::quic) fn doubts(&self) -> watch::Receiver<u64> {
        self.doubts.subscribe()
    }

    pub(in crate::quic) fn tell_of_doubt(&self) {
        self.doubts.send_modify(|doubts| *doubts += 1);
    }

    /// The network has changed: no path is trusted until something is heard on it.
    pub(in crate::quic) fn doubt_paths(&self) {
        let all: Vec<_> = self.lock().peers.values().cloned().collect();
        all.iter().for_each(|peering| peering.doubt_paths());
    }

    /// A path will come in from this address, and this is what it is. Forgotten when the guard is dropped, or once it
    /// has come; `None` if too many are expected.
    pub(in crate::quic) fn expect(self: &Arc<Self>, remote: SocketAddr, path: Path) -> Option<Expected> {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        if expected.len() >= MAX_EXPECTED && !expected.contains_key(&remote) {
            return None;
        }
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let before = expected.insert(remote, (number, path));
        drop(expected);
        // What it keeps may want to take locks when it ends.
        drop(before);
        Some(Expected {
            number,
            all: self.clone(),
            remote,
        })
    }

    /// What is known of a path that has come in from this address.
    pub(in crate::quic) fn expected(&self, remote: SocketAddr) -> Option<Path> {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.remove(&remote).map(|(_, path)| path)
    }

    /// An id that no other connection has. It need not be secret: only the peer whose key opened a connection may use
    /// it.
    pub(super) fn draw_id(&self) -> ConnectionId {
        let mut id = [0; ConnectionId::BYTES];
        for half in id.chunks_exact_mut(8) {
            let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
            half.copy_from_slice(&self.random.hash_one(drawn).to_be_bytes());
        }
        ConnectionId(id)
    }

    pub(in crate::quic) fn token(&self) -> Option<Alive> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends all of them: from here on their tasks end by themselves.
    pub(in crate::quic) fn close(&self) {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Inner { peers, listeners } = std::mem::take(&mut *self.lock());
        for peering in peers.into_values() {
            peering.end(&ConnectionError::TransportClosed, code::SHUTDOWN);
        }
        // Those that wait to be accepted are dropped with the queues, and want no lock that is held here.
        drop(listeners);
        let expected = std::mem::take(&mut *self.expected.lock().unwrap_or_else(PoisonError::into_inner));
        drop(expected);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A path that is expected, until it is dropped.
pub(in crate::quic) struct Expected {
    all: Arc<Peerings>,
    remote: SocketAddr,
    number: u64,
}

impl Expected {
    pub(in crate::quic) const fn remote(&self) -> SocketAddr {
        self.remote
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut expected = self.all.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let forgotten = match expected.entry(self.remote) {
            Entry::Occupied(entry) if entry.get().0 == self.number => Some(entry.remove()),
            _ => None,
        };
        drop(expected);
        drop(forgotten);
    }
}
