//! One peer as applications see it: all paths to it, and all connections with it, which share the best path.
//!
//! ```text
//!   Connection ─┐                       ┌─ path: relayed      closed once nothing runs over it
//!   Connection ─┼─ Peering ─ the best ──┼─ path: punched  ◄── what runs now
//!   Stream ─────┘      │                └─ path: ...
//!                      └─ tend: one task that closes, waits, fails and forgets in time
//! ```
//!
//! A path is a QUIC connection of its own, opened by either side, with the key of the peer proven. Paths come from
//! whoever finds them ([`Peering::add_path`]), and go when they die, or a better one has taken over. Streams notice by
//! themselves ([`Peering::best`]) and go on where they were.
//!
//! Both ends should agree on the best path. The kind decides, which the one who dialled it says; of two of a kind the
//! newer one, because there was a reason to look for another, unless both dialled at once: then the lower id's dial.
//! Paths that are not needed are closed at once by the lower id only, so that no two ends each close what the other one
//! keeps.

mod all;
mod paths;
mod tend;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kad_core::NodeId;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::application;
use super::application::header::{Answer, ConnectionId, Header};
use super::connection::{ConnectError, Connection, ConnectionError, Protocol, State};
use super::error::code;
use super::path::{Path, PathReport};
use super::stream::Buffered;

pub(super) use self::all::{Expected, Peerings};
pub(super) use self::paths::{Attached, LivePath};

/// Connections with one peer, those included that it opened. Full: a further one is refused.
pub(super) const MAX_CONNECTIONS: usize = 32;

/// Paths to one peer at a time: each kind, and one of each to come. Full: the oldest that nothing runs over is closed,
/// or the newcomer.
const MAX_PATHS: usize = 8;

/// How long two dials in opposite directions may lie apart to count as made at once; as in the pool.
const SIMULTANEOUS: Duration = Duration::from_secs(2);

/// The best path, if there is one.
pub(super) type Best = watch::Receiver<Option<Arc<LivePath>>>;

/// See the module.
pub(super) struct Peering {
    pub(super) peer: NodeId,
    pub(super) all: Arc<Peerings>,
    inner: Mutex<Inner>,
    best: watch::Sender<Option<Arc<LivePath>>>,
    report: watch::Sender<PathReport>,
    wanted: watch::Sender<bool>,
    trusted: watch::Sender<bool>,
    /// Streams that the peer has opened, of all its connections.
    pub(super) streams: Arc<AtomicUsize>,
    /// What waits in streams with the peer.
    pub(super) buffered: Buffered,
    /// Something has changed that the tending task should look at.
    news: Notify,
}

struct Inner {
    paths: Vec<Arc<LivePath>>,
    /// How many there have been.
    numbered: u64,
    connections: HashMap<ConnectionId, Arc<State>>,
    /// Connections of which the peer is to be told that they are closed.
    closed: Vec<ConnectionId>,
    /// Those who are about to connect, or look for a path.
    holds: usize,
    pathless_since: Option<Instant>,
    unused_since: Option<Instant>,
    /// Nothing is taken in any more.
    ended: bool,
}

/// Keeps a peering from being forgotten.
pub(super) struct Hold(Arc<Peering>);

impl Hold {
    pub(super) const fn peering(&self) -> &Arc<Peering> {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.lock().holds -= 1;
        self.0.news.notify_one();
    }
}

impl Peering {
    fn new(peer: NodeId, all: Arc<Peerings>) -> Arc<Self> {
        Arc::new(Self {
            peer,
            buffered: all.buffered.of_another(),
            all,
            inner: Mutex::new(Inner {
                paths: Vec::new(),
                numbered: 0,
                connections: HashMap::new(),
                closed: Vec::new(),
                holds: 0,
                pathless_since: None,
                unused_since: None,
                ended: false,
            }),
            best: watch::Sender::new(None),
            report: watch::Sender::new(PathReport {
                kind: None,
                remote: None,
                relay: None,
                rtt: None,
                why: "no path yet: looking for one".into(),
                changes: 0,
            }),
            wanted: watch::Sender::new(false),
            trusted: watch::Sender::new(false),
            streams: Arc::default(),
            news: Notify::new(),
        })
    }

    /// Keeps it until the guard is dropped; `None` if it has ended already.
    fn hold(self: &Arc<Self>) -> Option<Hold> {
        let mut inner = self.lock();
        if inner.ended {
            return None;
        }
        inner.holds += 1;
        Some(Hold(self.clone()))
    }

    /// The best path now, and every change of it: `None` while there is none.
    pub(super) fn best(&self) -> Best {
        self.best.subscribe()
    }

    /// Whether there are connections, which want a path: whoever looks for paths looks as long as this holds.
    pub(super) fn wanted(&self) -> watch::Receiver<bool> {
        self.wanted.subscribe()
    }

    /// Whether there is a path that is not doubted: while there is none, another one is worth to be looked for. A
    /// change is told within a second.
    pub(super) fn trusted(&self) -> watch::Receiver<bool> {
        self.trusted.subscribe()
    }

    /// The same, as of now.
    pub(super) fn is_trusted(&self) -> bool {
        self.best.borrow().as_ref().is_some_and(|best| !best.is_doubted())
    }

    pub(super) fn report(&self) -> watch::Receiver<PathReport> {
        self.report.subscribe()
    }

    /// Takes in a new way to the peer, whose key was proven on it, and serves it. Whether it was taken; else it is
    /// closed.
    pub(super) fn add_path(self: &Arc<Self>, connection: quinn::Connection, path: Path) -> bool {
        let Some(alive) = self.all.token() else {
            connection.close(code::SHUTDOWN, b"");
            return false;
        };
        application::widen(&connection);
        let dialled = path.dialled;
        let live = {
            let mut inner = self.lock();
            inner.drop_dead();
            let full = inner.paths.len() >= MAX_PATHS && !inner.make_room(self.best.borrow().as_ref());
            if inner.ended || full {
                drop(inner);
                connection.close(code::BUSY, b"");
                return false;
            }
            inner.numbered += 1;
            let live = Arc::new(LivePath::new(connection, path, inner.numbered));
            inner.paths.push(live.clone());
            live
        };
        if dialled {
            tokio::spawn(application::say_kind(live.clone(), alive.clone()));
        }
        tokio::spawn(application::serve(self.clone(), live, alive));
        self.news.notify_one();
        // Whoever added it may look at once.
        self.choose();
        true
    }

    /// Something about a path has changed: it died, or nothing runs over it any more.
    pub(super) fn look_again(&self) {
        self.news.notify_one();
    }

    /// The network has changed: what worked may be dead without a word, so whatever path comes next is taken for better
    /// than those of today.
    pub(super) fn doubt_paths(&self) {
        for path in &self.lock().paths {
            path.doubt();
        }
        self.choose();
    }

    /// Connects over the best path, or the first that comes. Waits for one until its connections would fail for want of
    /// it (`QuicLimits::path_patience`); whoever looks for paths may give up before, by dropping the future.
    ///
    /// # Errors
    /// [`ConnectError`] with what the peer answered. The connection is forgotten then.
    pub(super) async fn connect(self: &Arc<Self>, protocol: Protocol) -> Result<Connection, ConnectError> {
        let state = self.take_in(self.all.draw_id(), protocol.clone(), true)?;
        // From here on, dropping it closes it on both sides.
        let connection = Connection::new(state.clone());
        let header = Header::Connect {
            id: state.id,
            protocol: protocol.clone(),
        };
        let mut best = self.best();
        let mut ended = state.ended();
        let deadline = self.all.stream_deadline;
        loop {
            let path = tokio::select! {
                error = ended_with(&mut ended) => return Err(ConnectError::of_end(error)),
                path = some_path(&mut best) => path,
            };
            let answer = tokio::select! {
                error = ended_with(&mut ended) => return Err(ConnectError::of_end(error)),
                // Asked once more over the better one: the id says that it is the same connection.
                () = another_path(&mut best, &path) => continue,
                answer = tokio::time::timeout(deadline, application::ask(&path, &header)) => answer,
            };
            let Ok(answer) = answer else {
                if path.is_doubted() {
                    // It is the path that is silent: it recovers, or ends, or another one is found.
                    continue;
                }
                // It may have taken it in, and is to hear that it is over.
                self.forget(&state, ConnectionError::ClosedHere, true);
                return Err(ConnectError::Unreachable {
                    reason: "the peer did not answer when it was asked for a connection".to_owned(),
                });
            };
            let error = match answer {
                Ok(Some(Answer::Accepted)) => return Ok(connection),
                Ok(Some(Answer::NotListening)) => ConnectError::NotListening { protocol },
                Ok(Some(Answer::Busy)) => ConnectError::Busy,
                Ok(None) => ConnectError::Unreachable {
                    reason: "the peer does not understand what it was asked".to_owned(),
                },
                Err(quinn::ConnectionError::ApplicationClosed(close)) if close.error_code == code::BUSY => {
                    ConnectError::Busy
                }
                Err(_) => {
                    self.news.notify_one();
                    another_path(&mut best, &path).await;
                    continue;
                }
            };
            // Nothing to be told to a peer that never had it.
            self.forget(&state, ConnectionError::ClosedHere, false);
            return Err(error);
        }
    }

    /// The connection of this id.
    pub(super) fn connection(&self, id: &ConnectionId) -> Option<Arc<State>> {
        self.lock().connections.get(id).cloned()
    }

    /// Hands a datagram to its connection: its number is the beginning of the id.
    pub(super) fn datagram(&self, mut datagram: bytes::Bytes) {
        if datagram.len() < ConnectionId::SHORT {
            return;
        }
        let short = datagram.split_to(ConnectionId::SHORT);
        let inner = self.lock();
        let state = inner
            .connections
            .iter()
            .find(|(id, _)| id.short()[..] == short[..]);
        if let Some((_, state)) = state {
            state.take_datagram(datagram);
        }
    }

    /// A peer asks for a connection.
    pub(super) fn connected(self: &Arc<Self>, id: ConnectionId, protocol: Protocol) -> Answer {
        if let Some(state) = self.connection(&id) {
            // Asked once more over another path.
            return if !state.dialled && state.protocol == protocol {
                Answer::Accepted
            } else {
                Answer::Busy
            };
        }
        let Some(listener) = self.all.listener(&protocol) else {
            return Answer::NotListening;
        };
        let Ok(place) = listener.try_reserve() else {
            return if listener.is_closed() {
                Answer::NotListening
            } else {
                Answer::Busy
            };
        };
        match self.take_in(id, protocol, false) {
            Ok(state) => {
                place.send(Connection::new(state));
                Answer::Accepted
            }
            Err(_) => Answer::Busy,
        }
    }

    /// The connection is over, and forgotten. `tell`: the peer is told.
    pub(super) fn forget(&self, state: &Arc<State>, error: ConnectionError, tell: bool) {
        state.end(error);
        let mut inner = self.lock();
        let Some(known) = inner.connections.get(&state.id) else {
            return;
        };
        if !Arc::ptr_eq(known, state) {
            return;
        }
        inner.connections.remove(&state.id);
        if tell && inner.closed.len() < MAX_CONNECTIONS {
            inner.closed.push(state.id);
        }
        drop(inner);
        self.news.notify_one();
    }

    fn take_in(
        self: &Arc<Self>,
        id: ConnectionId,
        protocol: Protocol,
        dialled: bool,
    ) -> Result<Arc<State>, ConnectError> {
        let mut inner = self.lock();
        if inner.ended {
            return Err(ConnectError::Closed);
        }
        let taken = |known: &ConnectionId| known.short() == id.short();
        if inner.connections.len() >= MAX_CONNECTIONS || inner.connections.keys().any(taken) {
            return Err(ConnectError::TooMany);
        }
        let state = State::new(id, protocol, dialled, self.clone());
        inner.connections.insert(id, state.clone());
        inner.unused_since = None;
        // Told under the lock, so that the last word is the latest one.
        self.wanted.send_replace(true);
        drop(inner);
        Ok(state)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock; and if it did, every state in between is a valid one.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves once there is a path, with the best. Never once the peering is dropped.
pub(super) async fn some_path(best: &mut Best) -> Arc<LivePath> {
    match best.wait_for(Option::is_some).await.map(|path| path.clone()) {
        Ok(Some(path)) => path,
        _ => std::future::pending().await,
    }
}

/// Resolves once the best path is another than this one, or none is left.
pub(super) async fn another_path(best: &mut Best, than: &LivePath) {
    let other = |path: &Option<Arc<LivePath>>| path.as_ref().is_none_or(|path| path.number != than.number);
    if best.wait_for(other).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Resolves once a connection has ended, with why.
pub(super) async fn ended_with(ended: &mut watch::Receiver<Option<ConnectionError>>) -> ConnectionError {
    match ended.wait_for(Option::is_some).await.map(|error| error.clone()) {
        Ok(Some(error)) => error,
        _ => ConnectionError::TransportClosed,
    }
}

/// Streams, counted in all until they are dropped.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// One more, unless there are as many as may be.
    pub(super) fn new(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let one_more = |count: usize| (count < most).then_some(count + 1);
        count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        Some(Self(count.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
