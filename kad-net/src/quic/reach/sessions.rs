//! Sessions at relays, from their ends: how one is opened, arrives, and is over.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kad_core::{Contact, NodeId};
use tokio::sync::{Notify, mpsc};

use super::asking::{NotHeard, ask};
use crate::nat::relay::SessionId;
use crate::quic::mux::Side;
use crate::quic::pool::{InUse, Link};
use crate::quic::relayed::Route;
use crate::quic::shared::Shared;
use crate::quic::{QuicAddress, QuicError, connect};
use crate::wire::reach::{ReachAnswer, ReachRefusal, ReachRequest, SessionLimits};

/// Sessions that others opened to this node, and calls to punch, that wait to be looked at. A relay lets eight be
/// opened to a peer, and there are three relays. Full: refused as busy.
const MAX_ARRIVALS: usize = 32;

/// Sessions that were given up and of which the relay is not told yet: as many as there can be. Full: it is not told,
/// and they run out of time there.
const MAX_CLOSING: usize = 64;

/// Sessions that one relay may say that others have opened to this node: as many as a relay lets it have. Full:
/// refused.
const MAX_PER_RELAY: usize = 8;

/// How long a relay may take to open a session, or to call for a meeting: a round trip, with a packet lost on the way.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A session at a relay, and the way through it. Dropped, it is closed at the relay.
pub(in super::super) struct Opened {
    pub(in super::super) route: Route,
    pub(in super::super) session: SessionId,
    /// With whom: the word of whoever opened it, or of the relay. The handshake through it proves it.
    pub(in super::super) peer: NodeId,
    /// Which end this is.
    pub(in super::super) side: Side,
    /// The relay; proven.
    pub(in super::super) relay: NodeId,
    /// The host at which the relay sees the peer.
    pub(in super::super) peer_host: IpAddr,
    /// Where the relay sees this node.
    pub(in super::super) seen: SocketAddr,
    /// What the relay says that it forwards.
    pub(in super::super) limits: SessionLimits,
    link: InUse,
    over: Arc<Over>,
    shared: Arc<Shared>,
}

impl Opened {
    /// Resolves when the relay says that the session is over, or its connection is gone.
    pub(in super::super) async fn over(&self) {
        tokio::select! {
            () = self.over.wait() => {}
            _ = self.link.link().connection.closed() => {}
        }
    }

    /// The connection to the relay.
    pub(super) const fn link(&self) -> &InUse {
        &self.link
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("session", &self.session)
            .field("peer", &self.peer)
            .field("relay", &self.relay)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let sessions = &self.shared.reach.sessions;
        sessions.forget(self.relay, self.session);
        if !self.over.is_so() {
            // Without a word, if too many are closed at a time.
            let _ = sessions.closing.try_send(Closing {
                link: self.link.clone(),
                session: self.session,
            });
        }
    }
}

/// A session that its relay is to be told of.
pub(super) struct Closing {
    pub(super) link: InUse,
    pub(super) session: SessionId,
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum NotOpened {
    /// There is no connection to the relay.
    #[error("the relay cannot be reached: {0}")]
    NoRelay(QuicError),
    /// The relay does not want to.
    #[error("{0}")]
    Refused(ReachRefusal),
    /// The relay did not answer, or not with sense.
    #[error("the relay did not answer")]
    Silent,
    /// This node has as many as it may have.
    #[error("this node has too many relayed connections")]
    TooMany,
}

impl From<NotHeard> for NotOpened {
    fn from(why: NotHeard) -> Self {
        match why {
            NotHeard::Refused(why) => Self::Refused(why),
            NotHeard::Nothing => Self::Silent,
        }
    }
}

/// What comes from relays, unasked.
#[derive(Debug)]
pub(in super::super) enum Arrival {
    /// Somebody has opened a session to this node.
    Session(Opened),
    /// It is time to punch.
    Go {
        /// The relay that says so.
        relay: NodeId,
        /// In which session.
        session: SessionId,
        /// After how long.
        wait: Duration,
    },
}

/// The sessions of this node.
pub(super) struct Sessions {
    /// By relay and session, as long as the [`Opened`] of it lives.
    open: Mutex<BTreeMap<(NodeId, SessionId), Running>>,
    closing: mpsc::Sender<Closing>,
    closed: Mutex<Option<mpsc::Receiver<Closing>>>,
    arriving: mpsc::Sender<Arrival>,
    arrivals: Mutex<Option<mpsc::Receiver<Arrival>>>,
    /// Who gets what arrives in their place.
    #[cfg(test)]
    intercepted: Mutex<Option<mpsc::Sender<Arrival>>>,
}

impl Sessions {
    pub(super) fn new() -> Self {
        let (closing, closed) = mpsc::channel(MAX_CLOSING);
        let (arriving, arrivals) = mpsc::channel(MAX_ARRIVALS);
        Self {
            open: Mutex::default(),
            closing,
            closed: Mutex::new(Some(closed)),
            arriving,
            arrivals: Mutex::new(Some(arrivals)),
            #[cfg(test)]
            intercepted: Mutex::default(),
        }
    }

    /// What comes from relays. `None` but for the first who asks.
    pub(super) fn arrivals(&self) -> Option<mpsc::Receiver<Arrival>> {
        self.arrivals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The sessions of which relays are to be told that they are over. `None` but for the first who asks.
    pub(super) fn closed(&self) -> Option<mpsc::Receiver<Closing>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// From now on what arrives comes here, and not to whoever connects peers.
    #[cfg(test)]
    pub(super) fn intercept(&self) -> mpsc::Receiver<Arrival> {
        let (arriving, arrivals) = mpsc::channel(MAX_ARRIVALS);
        let mut intercepted = self.intercepted.lock().unwrap_or_else(PoisonError::into_inner);
        *intercepted = Some(arriving);
        arrivals
    }

    /// Whether there was room for it.
    pub(super) fn arrive(&self, arrival: Arrival) -> bool {
        #[cfg(test)]
        if let Some(arriving) = &*self.intercepted.lock().unwrap_or_else(PoisonError::into_inner) {
            return arriving.try_send(arrival).is_ok();
        }
        self.arriving.try_send(arrival).is_ok()
    }

    /// Whether this node has this session at this relay.
    pub(super) fn has(&self, relay: NodeId, session: SessionId) -> bool {
        self.lock().contains_key(&(relay, session))
    }

    /// The relay says that it is over. Whether it was one of ours.
    pub(super) fn end(&self, relay: NodeId, session: SessionId) -> bool {
        let over = self.lock().get(&(relay, session)).map(|it| it.over.clone());
        over.is_some_and(|over| {
            over.tell();
            true
        })
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        !self.lock().is_empty()
    }

    /// The connections over which sessions run, by relay.
    pub(super) fn links(&self) -> BTreeMap<NodeId, Arc<Link>> {
        let all = self.lock();
        all.iter()
            .map(|((relay, _), it)| (*relay, it.link.clone()))
            .collect()
    }

    fn is_full_of(&self, relay: NodeId) -> bool {
        let first = (relay, SessionId(0));
        let all = self.lock();
        let mut told = all.range(first..=(relay, SessionId(u64::MAX)));
        told.nth(MAX_PER_RELAY - 1).is_some()
    }

    fn forget(&self, relay: NodeId, session: SessionId) {
        self.lock().remove(&(relay, session));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(NodeId, SessionId), Running>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session whose [`Opened`] lives, and which keeps the link in use.
struct Running {
    over: Arc<Over>,
    link: Arc<Link>,
}

/// What both ends are told of a session.
pub(super) struct Told {
    pub(super) session: SessionId,
    pub(super) peer: NodeId,
    pub(super) side: Side,
    pub(super) peer_host: IpAddr,
    pub(super) seen: SocketAddr,
    pub(super) limits: SessionLimits,
}

/// Makes a way through the session. `None` if there are too many, or it is one that this node has already. Of one that
/// this node has opened the relay is told then; to one that others have, it is refused.
pub(super) fn begin(shared: &Arc<Shared>, link: &InUse, told: &Told) -> Option<Opened> {
    let sessions = &shared.reach.sessions;
    let relay = link.link().peer;
    // What this node opens itself, it bounds itself.
    let may = told.side == Side::Opener || !sessions.is_full_of(relay);
    let route = may.then(|| shared.mux.route(link.link().whereabouts().at, told.session));
    let Some(route) = route.flatten() else {
        if told.side == Side::Opener {
            let _ = sessions.closing.try_send(Closing {
                link: link.clone(),
                session: told.session,
            });
        }
        return None;
    };
    let over = Arc::new(Over::default());
    // As many as there are routes.
    let running = Running {
        over: over.clone(),
        link: link.link().clone(),
    };
    sessions.lock().insert((relay, told.session), running);
    Some(Opened {
        route,
        session: told.session,
        peer: told.peer,
        side: told.side,
        relay,
        peer_host: told.peer_host,
        seen: told.seen,
        limits: told.limits,
        link: link.clone(),
        over,
        shared: shared.clone(),
    })
}

/// Asks a relay, at this address, for a session with a peer that has a place there.
///
/// # Errors
/// When there is none.
///
/// # Cancel safety
/// Dropped, the relay is told that the session is not wanted, once it has answered.
pub(in super::super) async fn open(
    shared: &Arc<Shared>,
    relay: &Contact<QuicAddress>,
    peer: NodeId,
) -> Result<Opened, NotOpened> {
    let alive = shared
        .tasks
        .token()
        .ok_or(NotOpened::NoRelay(QuicError::Closed))?;
    let (shared, relay) = (shared.clone(), relay.clone());
    // On a task of its own, or a session of somebody who lost interest would be counted until it runs out.
    let opening = tokio::spawn(async move {
        let _alive = alive;
        let link = connect::link_at(&shared, &relay)
            .await
            .map_err(NotOpened::NoRelay)?;
        match ask(&shared, &link, &ReachRequest::Open { to: peer }, ANSWER_WITHIN).await? {
            ReachAnswer::Opened {
                session,
                peer_host,
                seen,
                limits,
            } => {
                let told = Told {
                    session,
                    peer,
                    side: Side::Opener,
                    peer_host,
                    seen,
                    limits,
                };
                begin(&shared, &link, &told).ok_or(NotOpened::TooMany)
            }
            _ => Err(NotOpened::Silent),
        }
    });
    opening.await.unwrap_or(Err(NotOpened::Silent))
}

/// Asks the relay of a session to tell both ends when to punch, and learns how long this one has to wait.
///
/// # Errors
/// When it does not.
pub(in super::super) async fn meet(shared: &Shared, opened: &Opened) -> Result<Duration, NotOpened> {
    let request = ReachRequest::Meet {
        session: opened.session,
    };
    match ask(shared, opened.link(), &request, ANSWER_WITHIN).await? {
        ReachAnswer::Meet { wait } => Ok(wait),
        _ => Err(NotOpened::Silent),
    }
}

/// Whether a session is over.
#[derive(Default)]
struct Over {
    so: AtomicBool,
    told: Notify,
}

impl Over {
    fn is_so(&self) -> bool {
        self.so.load(Ordering::Acquire)
    }

    fn tell(&self) {
        self.so.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    async fn wait(&self) {
        let told = self.told.notified();
        tokio::pin!(told);
        // Listening before looking: it may come in between.
        told.as_mut().enable();
        if !self.is_so() {
            told.await;
        }
    }
}
