//! The pool: one connection for each peer, whoever opened it, and both sides ask over it.
//!
//! Of two connections to one peer one has to go, and both ends must agree on which. Two that were opened at the same
//! time are told apart by the ids: the lower one's dial survives. Otherwise the newer one is kept, because the peer has
//! a reason to open another: it restarted, or moved. The loser is retired: it finishes its exchanges and closes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kad_core::NodeId;
use tokio::sync::{Notify, watch};

use super::address::{QuicAddress, canonical};
use super::error::{QuicError, code};
use super::settled::{Seen, Settled, Whereabouts};
use super::socket::Line;

/// What came of a dial: the connection, held in use until all who waited for it have it.
pub(super) type Dialled = Option<Result<Arc<InUse>, QuicError>>;

/// One open connection to a peer whose identity is proven.
pub(super) struct Link {
    pub(super) peer: NodeId,
    pub(super) connection: quinn::Connection,
    /// Where the peer was when the connection was opened.
    pub(super) address: QuicAddress,
    /// Whether we opened it.
    pub(super) dialled: bool,
    opened: Instant,
    settled: Mutex<Settled>,
    /// Exchanges under way, both directions.
    users: AtomicUsize,
    /// Requests of the peer that wait for their answer.
    pub(super) waiting: AtomicUsize,
    /// Of these, questions about how to be reached.
    pub(super) knocks: AtomicUsize,
    /// The pool's clock when it was last used.
    used: AtomicU64,
    retired: AtomicBool,
    retire: Notify,
    /// When a request was last given up, and how many datagrams had come until then.
    given_up: Mutex<Option<(Instant, u64)>>,
}

impl Link {
    /// `at` is the address of the handshake.
    pub(super) fn new(
        peer: NodeId,
        connection: quinn::Connection,
        at: SocketAddr,
        address: QuicAddress,
        dialled: bool,
    ) -> Arc<Self> {
        let at = canonical(at);
        Arc::new(Self {
            settled: Mutex::new(Settled::new(at)),
            peer,
            connection,
            address,
            dialled,
            opened: Instant::now(),
            users: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            knocks: AtomicUsize::new(0),
            used: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            retire: Notify::new(),
            given_up: Mutex::new(None),
        })
    }

    /// Marks one exchange as under way until the guard is dropped.
    pub(super) fn in_use(self: &Arc<Self>) -> InUse {
        self.users.fetch_add(1, Ordering::AcqRel);
        InUse(self.clone())
    }

    /// Where the peer is, as far as it has proven it.
    pub(super) fn whereabouts(&self) -> Whereabouts {
        let before = self.connection.remote_address();
        let sent = self.connection.stats().frame_tx;
        let seen = Seen {
            at: canonical(before),
            challenges: sent.path_challenge,
            frames: sent.acks + sent.stream + sent.datagram,
        };
        let same = self.connection.remote_address() == before;
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.look(same.then_some(seen))
    }

    /// Waits until the peer has proven where it is, for [`PROOF_WITHIN`] at most; whether it has. A round trip and a
    /// few looks, after the peer was followed to where a packet of it came from.
    pub(super) async fn settles(&self) -> bool {
        let until = tokio::time::Instant::now() + PROOF_WITHIN;
        let mut reminded = None;
        loop {
            if self.whereabouts().settled {
                return true;
            }
            if tokio::time::Instant::now() >= until || self.connection.close_reason().is_some() {
                return false;
            }
            // So that frames leave, by which it shows whether a challenge does. One at a time waits to be sent.
            let left = self.connection.stats().frame_tx.datagram;
            if reminded != Some(left) {
                reminded = Some(left);
                // A peer that takes none proves itself with the answers to its next requests.
                let _ = self.connection.send_datagram(Bytes::from_static(&REMINDER));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.users.load(Ordering::Acquire) == 0
    }

    /// Closes it if no exchange is under way. A request that is taken off it in the same moment either keeps it open or
    /// is never delivered, so that the peer may safely ask once more.
    fn close_if_idle(&self) -> bool {
        let idle = self
            .users
            .compare_exchange(0, SHUT, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if idle {
            self.connection.close(code::UNUSED, b"");
        }
        idle
    }

    /// Lets it finish its exchanges and close.
    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.retire.notify_one();
    }

    /// Resolves once the link is retired.
    pub(super) async fn until_retired(&self) {
        while !self.retired.load(Ordering::Acquire) {
            self.retire.notified().await;
        }
    }

    /// Notes that a request was given up without an answer. Whether the connection looks dead: another one was given up
    /// a while ago, and nothing at all has come since.
    fn looks_dead(&self) -> bool {
        let heard = self.connection.stats().udp_rx.datagrams;
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        match *given_up {
            Some((when, then)) if then == heard => when.elapsed() >= SILENCE,
            _ => {
                *given_up = Some((Instant::now(), heard));
                false
            }
        }
    }
}

/// A datagram that means nothing: whoever gets it drops it. Longer than a challenge, which so finds room in any packet
/// in which this one does.
pub(super) const REMINDER: [u8; 16] = [0; 16];

/// How long a proof of a new address is waited for: as long as QUIC itself does where no round trip is known yet, three
/// probe timeouts, and a little longer.
const PROOF_WITHIN: Duration = Duration::from_secs(4);

/// Between two looks at whether an address is proven.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Added to a link's users when it was closed as idle: more than there can ever be.
const SHUT: usize = usize::MAX / 2 + 1;

/// A link with an exchange under way.
pub(super) struct InUse(Arc<Link>);

impl InUse {
    /// Whether it was closed as idle before this use began.
    pub(super) fn is_shut(&self) -> bool {
        self.0.users.load(Ordering::Acquire) >= SHUT
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.0
    }
}

impl Clone for InUse {
    fn clone(&self) -> Self {
        self.0.in_use()
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What became of a new connection.
pub(super) enum Admission {
    /// It is the one to use from now on.
    Admitted,
    /// An older one survives; the new one is retired.
    Retired(InUse),
    /// All connections are in use, or the transport is closed.
    Refused,
}

/// How a request gets its connection.
pub(super) enum Lookup {
    /// There is one.
    Open(InUse),
    /// Somebody dials already.
    Dialling(watch::Receiver<Dialled>),
    /// The caller has to dial, and to tell through the sender.
    Dial(watch::Sender<Dialled>, watch::Receiver<Dialled>),
    /// All connections are in use.
    Full,
}

/// See the module.
pub(super) struct Pool {
    local: NodeId,
    capacity: usize,
    clock: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    closed: bool,
    links: HashMap<NodeId, Arc<Link>>,
    /// Dials under way; removed by the one who dials.
    dials: HashMap<(NodeId, QuicAddress), watch::Receiver<Dialled>>,
}

impl Pool {
    pub(super) fn new(local: NodeId, capacity: usize) -> Self {
        Self {
            local,
            capacity: capacity.max(1),
            clock: AtomicU64::new(0),
            inner: Mutex::default(),
        }
    }

    /// The open connection to a peer.
    pub(super) fn open(&self, peer: &NodeId) -> Option<InUse> {
        let inner = self.lock();
        inner.links.get(peer).map(|link| self.touch(link))
    }

    /// The open connection to a peer, or how to get one.
    pub(super) fn lookup(&self, peer: NodeId, address: &QuicAddress) -> Lookup {
        let mut inner = self.lock();
        if let Some(link) = inner.links.get(&peer) {
            return Lookup::Open(self.touch(link));
        }
        if inner.links.len() >= self.capacity && !inner.links.values().any(|link| link.is_idle()) {
            return Lookup::Full;
        }
        if inner.dials.len() >= MAX_DIALS {
            return Lookup::Full;
        }
        match inner.dials.entry((peer, address.clone())) {
            Entry::Occupied(dial) => Lookup::Dialling(dial.get().clone()),
            Entry::Vacant(place) => {
                let (sender, receiver) = watch::channel(None);
                place.insert(receiver.clone());
                Lookup::Dial(sender, receiver)
            }
        }
    }

    /// Forgets a dial that has ended.
    pub(super) fn dial_ended(&self, peer: NodeId, address: &QuicAddress) {
        self.lock().dials.remove(&(peer, address.clone()));
    }

    /// Whether a new connection would find room now.
    pub(super) fn has_room(&self) -> bool {
        let inner = self.lock();
        !inner.closed
            && (inner.links.len() < self.capacity || inner.links.values().any(|link| link.is_idle()))
    }

    /// Takes a new connection in, if there is room or an idle one to give up for it.
    pub(super) fn admit(&self, new: &Arc<Link>) -> Admission {
        let mut inner = self.lock();
        if inner.closed {
            return Admission::Refused;
        }
        if let Some(old) = inner.links.get(&new.peer) {
            if old.connection.close_reason().is_none() && self.survives(old, new) {
                new.retire();
                return Admission::Retired(self.touch(old));
            }
            // Never closed at once, even if it is idle: its last answer may still wait to be sent.
            old.retire();
        } else if inner.links.len() >= self.capacity {
            let idle = inner.links.values().filter(|link| link.is_idle());
            let Some(oldest) = idle.min_by_key(|link| link.used.load(Ordering::Relaxed)).cloned() else {
                return Admission::Refused;
            };
            inner.links.remove(&oldest.peer);
            if !oldest.close_if_idle() {
                oldest.retire();
            }
        }
        new.used
            .store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        inner.links.insert(new.peer, new.clone());
        Admission::Admitted
    }

    /// Takes a connection out, because it is dead or has to die.
    pub(super) fn remove(&self, link: &Arc<Link>) {
        let mut inner = self.lock();
        if let Entry::Occupied(entry) = inner.links.entry(link.peer)
            && Arc::ptr_eq(entry.get(), link)
        {
            entry.remove();
        }
    }

    /// The connections that are open.
    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.lock().links.values().cloned().collect()
    }

    /// Takes a connection out that looks dead, and lets it finish what is under way.
    pub(super) fn discard(&self, link: &Arc<Link>) {
        self.remove(link);
        link.retire();
    }

    /// A request was given up without an answer: if its connection looks dead, the next request opens another.
    pub(super) fn given_up(&self, link: &Arc<Link>, line: &Line) {
        if !line.is_silent() && link.looks_dead() {
            self.discard(link);
        }
    }

    /// Admits nothing from now on and forgets everything.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.links.clear();
    }

    fn touch(&self, link: &Arc<Link>) -> InUse {
        link.used
            .store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        link.in_use()
    }

    fn survives(&self, old: &Link, new: &Link) -> bool {
        if old.dialled == new.dialled || old.opened.elapsed() > SIMULTANEOUS {
            return false;
        }
        old.dialled == (self.local < old.peer)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock; and if it did, every state in between is a valid one.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dials under way or waiting for their turn. Far beyond what lookups want at once; full: the request fails.
const MAX_DIALS: usize = 1024;

/// How long after one connection was opened another one in the opposite direction counts as opened at the same time.
/// The two handshakes lie a round trip or two apart; a peer that restarts takes longer. Should the two ends see it
/// differently, both connections close and the next request opens one.
const SIMULTANEOUS: Duration = Duration::from_secs(2);

/// How long nothing must have come from a peer between two requests that were given up, for its connection to count as
/// dead. Longer than a round trip to the far side of the world, so that cancelled requests alone mean nothing.
const SILENCE: Duration = Duration::from_secs(1);
