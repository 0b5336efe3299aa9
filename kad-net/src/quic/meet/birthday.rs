//! An attempt by many ports, as each end makes it: carries out what [`Birthday`] wants, with sockets that live no
//! longer than it.
//!
//! It follows a round of punching in vain, beside the relayed path, which goes on as before. Who opened the session
//! asks with CANDIDATES once more; both begin with the answer. The socket that a probe has met becomes an endpoint of
//! its own, from which one connection is dialled, and lives as long as that. Nobody is accepted there.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use kad_core::NodeId;
use quinn::Connection;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::OwnedPermit;
use tokio::time::Instant;

use super::direct::shake_hands;
use super::punching::{Attempt, Doing, maybe, until};
use super::session::Session;
use super::telling::{ask, own};
use crate::nat::birthday::{Action, Birthday, Event, Part, Turns};
use crate::nat::candidates::Candidate;
use crate::nat::observation::NatClass;
use crate::quic::error::QuicError;
use crate::quic::mux::{Mux, PUNCH_BYTES, Packet, PunchKey, Side};
use crate::quic::shared::Shared;
use crate::quic::socket::{self, Count};

/// Whether such attempts are made, and when.
pub(super) struct Birthdays {
    wanted: bool,
    turns: Mutex<Turns>,
}

impl Birthdays {
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            wanted,
            turns: Mutex::default(),
        }
    }

    pub(super) fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn for one attempt. Given back when dropped.
pub(super) struct Turn {
    shared: Arc<Shared>,
    peer: NodeId,
    begun: bool,
}

impl Turn {
    /// `None` if such attempts are not wanted here, or not now.
    fn take(shared: &Arc<Shared>, peer: NodeId) -> Option<Self> {
        let birthdays = &shared.meetings.birthdays;
        let granted = birthdays.wanted && birthdays.turns().take(shared.mux.now(), &peer);
        granted.then(|| Self {
            shared: shared.clone(),
            peer,
            begun: false,
        })
    }

    fn begin(&mut self) {
        self.begun = true;
        let mut turns = self.shared.meetings.birthdays.turns();
        turns.begin(self.shared.mux.now(), self.peer);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self.shared.meetings.birthdays.turns();
        turns.end(self.shared.mux.now(), self.begun);
    }
}

/// What both ends have agreed to begin.
pub(super) struct Begin {
    part: Part,
    turn: Turn,
}

/// A peer asks for an attempt, with the classes of the own NAT and its: what this end does in it, if it is to be, and
/// where that is to go.
pub(super) fn grant(
    shared: &Arc<Shared>,
    session: &Session,
    peer: NodeId,
    classes: (NatClass, NatClass),
    candidates: &[Candidate],
) -> Option<(OwnedPermit<Begin>, Begin)> {
    let place = session.may_begin()?;
    let part = Part::of(classes.0, classes.1, &session.meeting(shared), candidates)?;
    let turn = Turn::take(shared, peer)?;
    Some((place, Begin { part, turn }))
}

/// One attempt under way.
pub(super) struct Trying {
    machine: Birthday,
    _turn: Turn,
    began: Instant,
    /// After how many milliseconds a port was met.
    met: Option<u128>,
    doors: Doors,
    /// The one of them that was met, until it is dialled from.
    kept: Option<UdpSocket>,
    dial: Option<(SocketAddr, BoxFuture<'static, Result<Connection, QuicError>>)>,
}

/// What happens next in an attempt.
pub(super) enum Next {
    Event(Event),
    /// A connection stands that was dialled from the socket that was met.
    Dialled(Connection, SocketAddr),
}

impl Trying {
    /// What happens next.
    async fn next(&mut self, mux: &Mux) -> Next {
        let due = self.machine.poll_timeout().map(|due| mux.at(due));
        loop {
            return tokio::select! {
                (at, from) = poll_fn(|cx| self.doors.poll(cx, mux)) => Next::Event(Event::Heard { at: Some(at), from }),
                dialled = maybe(self.dial.as_mut().map(|(_, dial)| dial)) => match (dialled, self.dial.take()) {
                    (Ok(connection), Some((to, _))) => Next::Dialled(connection, to),
                    // The attempt ends in time.
                    _ => continue,
                },
                () = until(due) => Next::Event(Event::Timeout),
            };
        }
    }

    /// How the path came to be that it has found, in a sentence.
    pub(super) fn why(&self) -> Option<String> {
        let (met, sent) = (self.met?, self.machine.sent());
        Some(match self.machine.part() {
            Part::Opens { .. } => format!("punched through one of {sent} open ports after {met} ms"),
            Part::Probes { .. } => {
                format!("punched through the last of {sent} random ports after {met} ms; the peer dialled")
            }
        })
    }
}

/// What happens next in an attempt, if one is under way.
pub(super) async fn next(trying: Option<&mut Trying>, mux: &Mux) -> Next {
    match trying {
        Some(trying) => trying.next(mux).await,
        None => std::future::pending().await,
    }
}

/// The sockets that were opened for an attempt.
struct Doors {
    sockets: Vec<UdpSocket>,
    session: Arc<Session>,
    key: PunchKey,
    /// Whose punches count.
    peer: Side,
}

impl Doors {
    /// Opens one more, beside the socket that the node has for such addresses.
    fn open(&mut self, beside: IpAddr) -> Option<&UdpSocket> {
        let socket = socket::open(SocketAddr::new(beside, 0));
        let socket = socket.inspect_err(|error| tracing::debug!(%error, "no further socket"));
        // Within the runtime: no error but that of a process with too many files.
        self.sockets.push(UdpSocket::from_std(socket.ok()?).ok()?);
        self.sockets.last()
    }

    /// The first punch of the peer that arrives at one of them. How much is read at a time the runtime bounds, which
    /// lets others work after some hundred reads.
    fn poll(&self, cx: &mut Context<'_>, mux: &Mux) -> Poll<(u16, SocketAddr)> {
        for (at, socket) in (0..).zip(&self.sockets) {
            loop {
                let mut bytes = [0; PUNCH_BYTES + 1];
                let mut buffer = ReadBuf::new(&mut bytes);
                match socket.poll_recv_from(cx, &mut buffer) {
                    Poll::Ready(Ok(from)) => {
                        let datagram = buffer.filled();
                        mux.line().received(datagram.len());
                        if !mux.line().is_silent()
                            && self
                                .key
                                .has_made(datagram, self.session.opened.session, self.peer)
                        {
                            mux.line().count(Count::Punch);
                            return Poll::Ready((at, from));
                        }
                        mux.line().count(Count::Stray);
                    }
                    // A port that is closed at the other end, say.
                    Poll::Ready(Err(_)) => mux.line().count(Count::Error),
                    Poll::Pending => break,
                }
            }
        }
        Poll::Pending
    }
}

impl Attempt {
    /// Asks the peer for an attempt, if it may be made here now.
    pub(super) fn propose(&self) -> Option<BoxFuture<'static, Option<Begin>>> {
        let (class, _) = own(&self.shared, &self.session.opened);
        if class == NatClass::Unknown {
            return None;
        }
        let turn = Turn::take(&self.shared, self.peering.peer)?;
        let (shared, session, relayed) = (self.shared.clone(), self.session.clone(), self.relayed.clone());
        let proposing = async move {
            let told = ask(&shared, &session, &relayed, true).await?;
            let part = Part::of(told.own, told.class, &session.meeting(&shared), &told.candidates)?;
            told.birthday.then_some(Begin { part, turn })
        };
        Some(proposing.boxed())
    }

    /// Begins what both have agreed on.
    pub(super) fn begin_birthday(&self, doing: &mut Doing, begin: Begin) {
        if doing.punch.is_direct() || doing.birthday.is_some() {
            return;
        }
        let Begin { part, mut turn } = begin;
        tracing::debug!(?part, peer = ?self.peering.peer, "an attempt by many ports");
        turn.begin();
        let now = self.shared.mux.now();
        // Other ports for each attempt of a session.
        let seed = blake3::keyed_hash(&doing.key.0, &now.as_micros().to_be_bytes());
        doing.birthday = Some(Trying {
            machine: Birthday::new(part, now, seed.as_bytes()),
            _turn: turn,
            began: Instant::now(),
            met: None,
            doors: Doors {
                sockets: Vec::new(),
                session: self.session.clone(),
                key: doing.key.clone(),
                peer: self.session.opened.side.other(),
            },
            kept: None,
            dial: None,
        });
    }

    /// Feeds the machine, if there is one, and does what it wants.
    pub(super) fn on_birthday(&self, doing: &mut Doing, event: Event) {
        let Some(trying) = &mut doing.birthday else { return };
        let mut out = Vec::new();
        trying.machine.handle(self.shared.mux.now(), event, &mut out);
        for action in out {
            self.act_on_birthday(doing, action);
        }
        if event == Event::Timeout && doing.birthday.is_none() {
            let why = "relayed: no packet came through directly, at none of many ports; that is tried again from time to time";
            self.peering.explain(&self.relayed, why);
        }
    }

    fn act_on_birthday(&self, doing: &mut Doing, action: Action) {
        let (mux, session) = (&self.shared.mux, self.session.opened.session);
        let packet = Packet::Punch {
            session,
            mac: doing.mac,
        };
        let Some(trying) = &mut doing.birthday else { return };
        match action {
            Action::Open { to } => {
                let endpoint = self.shared.endpoint_for(to.ip());
                let beside = endpoint.and_then(|endpoint| endpoint.local_addr().ok());
                if let Some(socket) = beside.and_then(|local| trying.doors.open(local.ip())) {
                    mux.send_from(socket, to, packet);
                }
            }
            Action::Probe { to } => mux.send(to, packet),
            Action::Keep { at } => {
                let mut sockets = std::mem::take(&mut trying.doors.sockets);
                let at = at.map(usize::from).filter(|&at| at < sockets.len());
                trying.kept = at.map(|at| sockets.swap_remove(at));
            }
            Action::Answer { to } => {
                let met = trying.began.elapsed().as_millis();
                trying.met.get_or_insert(met);
                match &trying.kept {
                    Some(socket) => mux.send_from(socket, to, packet),
                    None => mux.send(to, packet),
                }
                self.expect(doing, to);
            }
            Action::Dial { to } => {
                let kept = trying.kept.take();
                let endpoint = match kept.map(UdpSocket::into_std) {
                    Some(Ok(socket)) => self.shared.tasks.token().and_then(|alive| {
                        self.shared
                            .setup
                            .dialling_endpoint(socket, mux.clone(), alive)
                            .ok()
                    }),
                    Some(Err(_)) => None,
                    None => self.shared.endpoint_for(to.ip()),
                };
                let (shared, peer) = (self.shared.clone(), self.peering.peer);
                let dial = async move { shake_hands(&shared, endpoint, to, peer).await };
                trying.dial = Some((to, dial.boxed()));
            }
            Action::End => doing.birthday = None,
        }
    }
}
