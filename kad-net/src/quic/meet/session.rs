//! Sessions at relays, and a path through one. The relay's word is needed for one thing, the host at which it sees the
//! other end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use kad_core::{Contact, NodeId};
use tokio::sync::mpsc;

use super::birthday::Begin;
use super::direct::{discard, shake_hands};
use super::finder::{NotThrough, Vain};
use super::punching::Attempt;
use super::telling::ask;
use crate::nat::candidates::Meeting;
use crate::nat::prefix::Family;
use crate::nat::relay::SessionId;
use crate::quic::address::QuicAddress;
use crate::quic::error::QuicError;
use crate::quic::path::{Path, PathKind};
use crate::quic::peering::Peering;
use crate::quic::reach::{self, NotOpened, Opened};
use crate::quic::shared::Shared;
use crate::transport::WireAddress;

/// Calls to punch that wait for their session: one, and one that comes again.
const MAX_GOS: usize = 2;

/// How long a peer that has opened a session may take for its handshake.
const COMES_WITHIN: Duration = Duration::from_secs(15);

/// The sessions of this node, by the fake address of the other end, as long as they live.
#[derive(Default)]
pub(super) struct Sessions {
    all: Mutex<HashMap<SocketAddr, Weak<Session>>>,
}

impl Sessions {
    /// The relay says that it is time to punch.
    pub(super) fn go(&self, relay: NodeId, session: SessionId, wait: Duration) {
        let all = self.alive();
        let meant = all
            .iter()
            .find(|one| one.opened.relay == relay && one.opened.session == session);
        if let Some(meant) = meant {
            // One that waits says the same.
            let _ = meant.go.try_send(wait);
        }
    }

    pub(super) fn of(&self, fake: SocketAddr) -> Option<Arc<Session>> {
        self.lock().get(&fake).and_then(Weak::upgrade)
    }

    /// Those that still live; never dropped under the lock, which they take when they end.
    fn alive(&self) -> Vec<Arc<Session>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// As many as there are routes.
    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Weak<Session>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session, as long as its path, or somebody who needs it.
pub(super) struct Session {
    pub(super) opened: Opened,
    pub(super) arrived: bool,
    go: mpsc::Sender<Duration>,
    gos: Mutex<Option<mpsc::Receiver<Duration>>>,
    /// Where attempts by many ports go that were granted, as long as this end punches.
    begins: Mutex<Option<mpsc::Sender<Begin>>>,
    /// Both ends have told each other where they are.
    pub(super) told: AtomicBool,
    sessions: Arc<Sessions>,
}

impl Session {
    fn new(shared: &Shared, opened: Opened, arrived: bool) -> Arc<Self> {
        let (go, gos) = mpsc::channel(MAX_GOS);
        let sessions = shared.meetings.sessions.clone();
        let fake = opened.route.fake();
        let session = Arc::new(Self {
            opened,
            arrived,
            go,
            gos: Mutex::new(Some(gos)),
            begins: Mutex::default(),
            told: AtomicBool::new(false),
            sessions: sessions.clone(),
        });
        sessions.lock().insert(fake, Arc::downgrade(&session));
        session
    }

    fn path(self: &Arc<Self>, shared: &Shared, dialled: bool) -> Path {
        let fake = self.opened.route.fake();
        let behind = shared.mux.relayed().behind(fake);
        Path {
            kind: PathKind::Relayed,
            relay: Some(self.opened.relay),
            remote: behind.map_or(fake, |(relay, _)| relay),
            dialled,
            why: "relayed while a direct path is looked for".into(),
            keep: Some(Box::new(self.clone())),
        }
    }

    /// The calls to punch. `None` but for the first who asks.
    pub(super) fn gos(&self) -> Option<mpsc::Receiver<Duration>> {
        self.gos.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// From now on this end punches: the attempts by many ports that are granted. One waits at most.
    pub(super) fn begun(&self) -> mpsc::Receiver<Begin> {
        let (begins, begun) = mpsc::channel(1);
        *self.begins.lock().unwrap_or_else(PoisonError::into_inner) = Some(begins);
        begun
    }

    /// A place for one that is to be granted. `None` if this end does not punch, or one waits already.
    pub(super) fn may_begin(&self) -> Option<mpsc::OwnedPermit<Begin>> {
        let begins = self.begins.lock().unwrap_or_else(PoisonError::into_inner);
        begins.clone()?.try_reserve_owned().ok()
    }

    /// Both ends, as the relay sees them.
    pub(super) fn meeting(&self, shared: &Shared) -> Meeting {
        Meeting {
            scope: shared.meetings.scope(),
            own_host: self.opened.seen.ip(),
            peer_host: self.opened.peer_host,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The route is dropped after this, so nobody else has the address yet.
        self.sessions.lock().remove(&self.opened.route.fake());
    }
}

/// Opens a path through a relay at which the peer has a place.
pub(super) async fn open(
    shared: &Arc<Shared>,
    peering: &Arc<Peering>,
    relay: &Contact<QuicAddress>,
) -> Result<(), Vain> {
    let vain = |why| Vain::Relay {
        relay: relay.clone(),
        why,
    };
    if !may_dial(shared, relay) {
        let reason = "the host was dialled too often".to_owned();
        return Err(vain(NotThrough::NotOpened(NotOpened::NoRelay(
            QuicError::Unreachable { reason },
        ))));
    }
    let opened = reach::open(shared, relay, peering.peer).await;
    let opened = opened.map_err(|why| match why {
        NotOpened::NoRelay(QuicError::Closed) => Vain::Closed,
        why => vain(NotThrough::NotOpened(why)),
    })?;
    let session = Session::new(shared, opened, false);
    let fake = session.opened.route.fake();
    let handshake = shake_hands(shared, shared.relayed_endpoint(), fake, peering.peer);
    let connection = tokio::select! {
        shaken = handshake => shaken.map_err(|error| match error {
            QuicError::Closed => Vain::Closed,
            QuicError::WrongIdentity { .. } | QuicError::OtherNetwork => vain(NotThrough::SomebodyElse),
            _ => vain(NotThrough::Silent),
        })?,
        // The peer did not want it, or is gone.
        () = session.opened.over() => return Err(vain(NotThrough::Silent)),
    };
    if peering.is_trusted() {
        // Through another relay, or directly.
        discard(&connection);
        return Ok(());
    }
    let Some(alive) = shared.tasks.token() else {
        return Err(Vain::Closed);
    };
    if !peering.add_path(connection.clone(), session.path(shared, true)) {
        return Err(Vain::TooMany);
    }
    let (shared, peering) = (shared.clone(), peering.clone());
    tokio::spawn(async move {
        let _alive = alive;
        let attempt = Attempt::new(shared, peering, session, connection);
        let asking = ask(&attempt.shared, &attempt.session, &attempt.relayed, false);
        if let Some(told) = attempt.unless_over(asking).await.flatten() {
            attempt.run(told.class, told.candidates, true).await;
        } else {
            attempt.idle().await;
        }
    });
    Ok(())
}

/// Whether a relay is there already, or may be dialled: that a card names it says nothing about who is there.
pub(super) fn may_dial(shared: &Shared, relay: &Contact<QuicAddress>) -> bool {
    let stands = |family| {
        let mut sockets = relay.address.sockets().iter();
        sockets.any(|socket| Family::of(socket.ip()) == family)
    };
    if let Some(link) = shared.pool.open(&relay.id)
        && stands(Family::of(link.link().whereabouts().at.ip()))
    {
        return true;
    }
    let now = shared.mux.now();
    let mut sockets = relay.address.sockets().iter();
    sockets.all(|socket| shared.meetings.may_dial(now, socket.ip()))
}

/// A peer has opened a session to this node, and will come through it.
pub(super) fn arrived(shared: &Arc<Shared>, opened: Opened) {
    let Some(alive) = shared.tasks.token() else {
        return;
    };
    let session = Session::new(shared, opened, true);
    let fake = session.opened.route.fake();
    let Some(expected) = shared.peerings.expect(fake, session.path(shared, false)) else {
        return;
    };
    tokio::spawn(async move {
        let _alive = alive;
        // Once it has come, this holds nothing any more; the path holds the session.
        let _ = tokio::time::timeout(COMES_WITHIN, session.opened.over()).await;
        drop(expected);
    });
}
