//! Sessions at relays: a path through one, and what both ends tell each other over it.
//!
//! Both ends ask for nothing but addresses, over their own authenticated connection: neither the relay nor a stranger can say where
//! an end is. The relay's word is needed for one thing, the host at which it sees the other end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use kad_core::{Contact, NodeId};
use quinn::{RecvStream, SendStream};
use tokio::sync::mpsc;

use super::direct::{discard, shake_hands};
use super::finder::{NotThrough, Vain};
use super::punching::Attempt;
use crate::nat::candidates::{Candidate, CandidateKind, MAX_CANDIDATES};
use crate::nat::observation::{Family, NatClass};
use crate::nat::relay::SessionId;
use crate::quic::address::QuicAddress;
use crate::quic::application::{ReachStream, STREAM_REACH};
use crate::quic::error::{QuicError, code};
use crate::quic::path::{Path, PathKind};
use crate::quic::peering::Peering;
use crate::quic::reach::{self, NotOpened, Opened};
use crate::quic::shared::Shared;
use crate::transport::WireAddress;
use crate::wire::reach::{MAX_REACH_FRAME, ReachAnswer, ReachRefusal, ReachRequest};

/// Calls to punch that wait for their session: one, and one that comes again.
const MAX_GOS: usize = 2;

/// How long a peer that has opened a session may take for its handshake.
const COMES_WITHIN: Duration = Duration::from_secs(15);

/// How long the other end may take to say where it is: some round trips.
const TELLS_WITHIN: Duration = Duration::from_secs(5);

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

    fn of(&self, fake: SocketAddr) -> Option<Arc<Session>> {
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
    arrived: bool,
    go: mpsc::Sender<Duration>,
    gos: Mutex<Option<mpsc::Receiver<Duration>>>,
    /// Both ends have told each other where they are.
    told: AtomicBool,
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
        if let Some((class, candidates)) = attempt.unless_over(ask(&attempt)).await.flatten() {
            attempt.run(class, candidates, true).await;
        } else {
            attempt.idle().await;
        }
    });
    Ok(())
}

/// Whether a relay is there already, or may be dialled: that a card names it says nothing about who is there.
fn may_dial(shared: &Shared, relay: &Contact<QuicAddress>) -> bool {
    let stands = |family| {
        let mut sockets = relay.address.sockets().iter();
        sockets.any(|socket| Family::of(socket.ip()) == family)
    };
    if let Some(link) = shared.pool.open(&relay.id)
        && stands(Family::of(link.link().connection.remote_address().ip()))
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

/// A peer asks something over a connection of applications.
pub(super) fn asked(shared: &Arc<Shared>, asked: ReachStream) {
    let ReachStream {
        peering,
        path,
        mut send,
        mut recv,
    } = asked;
    let session = shared.meetings.sessions.of(path.connection.remote_address());
    let turn = shared.meetings.asked.clone().try_acquire_owned();
    let (Some(alive), Ok(turn)) = (shared.tasks.token(), turn) else {
        return refuse(&mut send, &mut recv, code::BUSY);
    };
    let Some(session) = session else {
        // Only who comes through a relay has to be told where we are.
        return refuse(&mut send, &mut recv, code::UNKNOWN_STREAM);
    };
    let (shared, connection) = (shared.clone(), path.connection.clone());
    tokio::spawn(async move {
        let _alive = alive;
        let deadline = shared.limits.stream_deadline;
        let answered =
            tokio::time::timeout(deadline, answer(&shared, &session.opened, &mut send, &mut recv)).await;
        drop(turn);
        let Ok(answered) = answered else {
            return refuse(&mut send, &mut recv, code::TOO_SLOW);
        };
        // One attempt for each session, and only for those that others have opened: who opens one asks.
        let first = session.arrived && !session.told.swap(true, Ordering::Relaxed);
        if let Some((class, candidates)) = answered.filter(|_| first) {
            let attempt = Attempt::new(shared, peering, session, connection);
            attempt.run(class, candidates, false).await;
        }
    });
}

/// Reads where the peer is, and says where we are.
async fn answer(
    shared: &Shared,
    opened: &Opened,
    send: &mut SendStream,
    recv: &mut RecvStream,
) -> Option<(NatClass, Vec<Candidate>)> {
    let Ok(frame) = recv.read_to_end(MAX_REACH_FRAME).await else {
        refuse(send, recv, code::TOO_LARGE);
        return None;
    };
    let request = ReachRequest::decode(&Bytes::from(frame), shared.meetings.scope);
    let (frame, told) = match request {
        Ok(request) => match &request {
            ReachRequest::Candidates { class, candidates } => {
                let (own, ours) = own(shared, opened);
                let answer = ReachAnswer::Candidates {
                    class: own,
                    candidates: ours,
                };
                (answer.encode(&request), Some((*class, candidates.clone())))
            }
            _ => (ReachAnswer::refusal(ReachRefusal::Unsupported), None),
        },
        Err(error) => (ReachAnswer::refusal(ReachRefusal::of_error(&error)), None),
    };
    // A peer that is gone needs no answer, and its connection tells of it.
    send.write_chunk(frame.ok()?).await.ok()?;
    send.finish().ok()?;
    told
}

/// Tells the other end where we are, and learns where it is.
async fn ask(attempt: &Attempt) -> Option<(NatClass, Vec<Candidate>)> {
    let (class, candidates) = own(&attempt.shared, &attempt.session.opened);
    let request = ReachRequest::Candidates { class, candidates };
    let frame = request.encode().ok()?;
    let asking = async {
        let (mut send, mut recv) = attempt.relayed.open_bi().await.ok()?;
        let mut chunks = [Bytes::from_static(&[STREAM_REACH]), frame];
        send.write_all_chunks(&mut chunks).await.ok()?;
        send.finish().ok()?;
        recv.read_to_end(MAX_REACH_FRAME).await.ok()
    };
    let answer = tokio::time::timeout(TELLS_WITHIN, asking).await.ok()??;
    match ReachAnswer::decode(&Bytes::from(answer), &request, attempt.shared.meetings.scope) {
        Ok(ReachAnswer::Candidates { class, candidates }) => Some((class, candidates)),
        // A peer that does not punch: the relay is what there is.
        _ => None,
    }
}

/// What this node says of itself to the other end of a session. Where the relay sees it comes first to be kept: a node that has just
/// started knows no other address, and behind a NAT that gives every destination another port it still tells the host.
pub(super) fn own(shared: &Shared, opened: &Opened) -> (NatClass, Vec<Candidate>) {
    let standing = shared.reach.standing();
    let standing = standing.borrow();
    let mut candidates = standing.candidates();
    if candidates
        .iter()
        .all(|candidate| candidate.address != opened.seen)
    {
        candidates.truncate(MAX_CANDIDATES - 1);
        candidates.push(Candidate {
            address: opened.seen,
            kind: CandidateKind::Observed,
        });
    }
    // Punches go where the relay sees the two, so it is the NAT of that family that matters.
    (standing.class_of(Family::of(opened.seen.ip())), candidates)
}

fn refuse(send: &mut SendStream, recv: &mut RecvStream, code: quinn::VarInt) {
    // Ended already is what we want.
    let _ = send.reset(code);
    let _ = recv.stop(code);
}
