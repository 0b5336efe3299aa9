//! One attempt to punch, as both ends make it: carries out what [`Punch`] wants, beside the relayed path that brought
//! them together.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kad_core::NodeId;
use quinn::Connection;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::birthday::{self, Begin, Next, Trying};
use super::direct::{discard, shake_hands};
use super::session::Session;
use super::telling::own;
use crate::nat::birthday as many;
use crate::nat::candidates::Candidate;
use crate::nat::coordinator::ONCE_IN;
use crate::nat::observation::{Family, NatClass};
use crate::nat::punch::{Action, Dialler, Event, Punch, Setup};
use crate::quic::error::QuicError;
use crate::quic::mux::{Heard, Packet, PunchKey, Punches};
use crate::quic::path::{Path, PathKind};
use crate::quic::peering::{Best, Expected, Peering};
use crate::quic::reach::{self, NotOpened};
use crate::quic::shared::Shared;
use crate::wire::reach::ReachRefusal;

/// What the key of punches is exported for, from the relayed connection (RFC 9846, section 7.5). The session id is the
/// context.
const PUNCH_LABEL: &[u8] = b"nautilus-kad 2026-11 punch";

/// A relayed path, and what is tried beside it.
pub(super) struct Attempt {
    pub(super) shared: Arc<Shared>,
    pub(super) peering: Arc<Peering>,
    pub(super) session: Arc<Session>,
    /// The connection through the relay.
    pub(super) relayed: Connection,
}

/// What is under way.
pub(super) struct Doing {
    pub(super) punch: Punch,
    /// Whether this end asks for rounds.
    asks: bool,
    punches: Punches,
    gos: mpsc::Receiver<Duration>,
    best: Best,
    changes: watch::Receiver<u64>,
    /// What every punch of this end carries.
    pub(super) mac: [u8; 8],
    pub(super) key: PunchKey,
    /// A round was asked for.
    meet: Option<BoxFuture<'static, Result<Duration, NotOpened>>>,
    dial: Option<(SocketAddr, BoxFuture<'static, Result<Connection, QuicError>>)>,
    /// An attempt by many ports: asked for, granted, under way.
    proposed: Option<BoxFuture<'static, Option<Begin>>>,
    begun: mpsc::Receiver<Begin>,
    pub(super) birthday: Option<Trying>,
    /// The direct connections: the one that we dialled, the one that the peer dialled.
    ours: Option<Connection>,
    theirs: Option<Connection>,
    /// When both were told to begin, the last time.
    began: Instant,
    /// The peer may come from there.
    expected: Option<Expected>,
    /// Whether a punch was sent.
    sent: bool,
}

impl Attempt {
    pub(super) const fn new(
        shared: Arc<Shared>,
        peering: Arc<Peering>,
        session: Arc<Session>,
        relayed: Connection,
    ) -> Self {
        Self {
            shared,
            peering,
            session,
            relayed,
        }
    }

    /// The peer, in the family in which it may be punched here.
    fn whom(&self) -> (NodeId, Family) {
        (self.peering.peer, Family::of(self.session.opened.peer_host))
    }

    /// What comes of a future, unless the session or its connection is over before.
    pub(super) async fn unless_over<F: Future>(&self, future: F) -> Option<F::Output> {
        tokio::select! {
            output = future => Some(output),
            _ = self.relayed.closed() => None,
            () = self.session.opened.over() => {
                // Whatever is sent now is lost; another path has to be found.
                discard(&self.relayed);
                None
            }
        }
    }

    /// Waits for the end of the session.
    pub(super) async fn idle(self) {
        let _: Option<()> = self.unless_over(std::future::pending()).await;
    }

    /// Tries to get a direct path, as long as the relayed one is there.
    pub(super) async fn run(self, peer_class: NatClass, candidates: Vec<Candidate>, asks: bool) {
        let begun = self.unless_over(self.begin(peer_class, &candidates, asks)).await;
        let Some(mut doing) = begun.flatten() else {
            return self.idle().await;
        };
        let _: Option<()> = self.unless_over(self.carry_on(&mut doing)).await;
        if doing.sent && !doing.punch.is_direct() {
            let now = self.shared.mux.now();
            let mut silences = self.shared.meetings.silences();
            silences.note(now, self.whom(), now + ONCE_IN);
        }
    }

    /// Gets ready. `None` if there is no hope.
    async fn begin(&self, peer_class: NatClass, candidates: &[Candidate], asks: bool) -> Option<Doing> {
        let (mux, opened) = (&self.shared.mux, &self.session.opened);
        // Another session may have tried in vain a moment ago.
        let silence = self.shared.meetings.silences().until(mux.now(), &self.whom());
        if let (Some(until), true) = (silence, asks) {
            tokio::time::sleep_until(mux.at(until)).await;
        }
        let meeting = self.session.meeting(&self.shared);
        let Some(targets) = granted(&self.shared, meeting.targets(&meeting.rank(candidates))) else {
            let why = "relayed: too many packets were sent to the peer's network in vain in the last minute";
            self.peering.explain(&self.relayed, why);
            return None;
        };
        if Family::of(opened.seen.ip()) != Family::of(opened.peer_host) {
            let why = "relayed: of the two ends one uses IPv4 there and the other IPv6";
            self.peering.explain(&self.relayed, why);
            return None;
        }
        let (own_class, _) = own(&self.shared, opened);
        let setup = Setup {
            local: self.shared.local,
            peer: self.peering.peer,
            asks,
            own_class,
            peer_class,
            targets,
        };
        tracing::debug!(?setup, "an attempt to punch");
        let punch = match Punch::new(setup, mux.now()) {
            Ok(punch) => punch,
            Err(why) => {
                self.peering.explain(&self.relayed, &format!("relayed: {why}"));
                return None;
            }
        };
        let mut key = [0; 32];
        let context = opened.session.0.to_be_bytes();
        self.relayed
            .export_keying_material(&mut key, PUNCH_LABEL, &context)
            .ok()?;
        let key = PunchKey(key);
        Some(Doing {
            punch,
            asks,
            mac: key.mac(opened.session, opened.side),
            punches: mux.await_punches(opened.session, key.clone(), opened.side)?,
            key,
            gos: self.session.gos()?,
            best: self.peering.best(),
            changes: self.shared.meetings.changes.subscribe(),
            meet: asks.then(|| self.meet()),
            dial: None,
            proposed: None,
            begun: self.session.begun(),
            birthday: None,
            ours: None,
            theirs: None,
            began: Instant::now(),
            expected: None,
            sent: false,
        })
    }

    /// Feeds the machine, and does what it wants. Never ends by itself.
    async fn carry_on(&self, doing: &mut Doing) {
        let mut out = Vec::new();
        loop {
            let event = self.next(doing).await;
            if let Event::Go { .. } = event {
                doing.began = Instant::now();
            }
            if let Event::Connected { .. } | Event::NetworkChanged = event {
                // A path by many ports is added already.
                self.on_birthday(doing, many::Event::Needless);
            }
            tracing::trace!(?event, "punching");
            doing.punch.handle(self.shared.mux.now(), event, &mut out);
            for action in out.drain(..) {
                tracing::trace!(?action, "punching");
                self.act(doing, action);
            }
        }
    }

    /// What happens next.
    async fn next(&self, doing: &mut Doing) -> Event {
        loop {
            let due = doing.punch.poll_timeout().map(|due| self.shared.mux.at(due));
            return tokio::select! {
                Some(heard) = doing.punches.next() => match heard {
                    // After its round it would count for nothing.
                    Heard::Punch(from) if doing.birthday.is_some() => {
                        self.on_birthday(doing, many::Event::Heard { at: None, from });
                        continue;
                    }
                    Heard::Punch(from) => Event::Heard { from },
                    Heard::Arriving => Event::Arriving,
                },
                Some(wait) = doing.gos.recv() => Event::Go { wait },
                met = maybe(doing.meet.as_mut()) => {
                    doing.meet = None;
                    match met {
                        Ok(wait) => Event::Go { wait },
                        Err(NotOpened::Refused(ReachRefusal::Busy)) => Event::Busy,
                        Err(why) => {
                            tracing::debug!(peer = ?self.peering.peer, %why, "no round of punching");
                            continue;
                        }
                    }
                }
                dialled = maybe(doing.dial.as_mut().map(|(_, dial)| dial)) => {
                    let to = doing.dial.take().map(|(to, _)| to);
                    match (dialled, to) {
                        (Ok(connection), Some(to)) if self.add(doing, &connection, to) => {
                            doing.ours = Some(connection);
                            Event::Connected { by: Dialler::Us }
                        }
                        // The round goes on, and ends in time.
                        _ => continue,
                    }
                }
                begin = maybe(doing.proposed.as_mut()) => {
                    doing.proposed = None;
                    if let Some(begin) = begin {
                        self.begin_birthday(doing, begin);
                    }
                    continue;
                }
                Some(begin) = doing.begun.recv() => {
                    self.begin_birthday(doing, begin);
                    continue;
                }
                next = birthday::next(doing.birthday.as_mut(), &self.shared.mux) => match next {
                    Next::Event(event) => {
                        self.on_birthday(doing, event);
                        continue;
                    }
                    Next::Dialled(connection, to) if self.add(doing, &connection, to) => {
                        doing.ours = Some(connection);
                        Event::Connected { by: Dialler::Us }
                    }
                    Next::Dialled(..) => continue,
                },
                Ok(()) = doing.best.changed() => match self.news_of(doing) {
                    Some(connection) => {
                        doing.theirs = Some(connection);
                        Event::Connected { by: Dialler::Peer }
                    }
                    None => continue,
                },
                () = closed(doing.ours.as_ref()) => {
                    doing.ours = None;
                    Event::Closed { by: Dialler::Us }
                }
                () = closed(doing.theirs.as_ref()) => {
                    doing.theirs = None;
                    Event::Closed { by: Dialler::Peer }
                }
                Ok(()) = doing.changes.changed() => Event::NetworkChanged,
                () = until(due) => Event::Timeout,
            };
        }
    }

    fn act(&self, doing: &mut Doing, action: Action) {
        let session = self.session.opened.session;
        match action {
            Action::Ask => doing.meet = Some(self.meet()),
            Action::Punch { to } => {
                let mac = doing.mac;
                self.shared.mux.send(to, Packet::Punch { session, mac });
                doing.sent = true;
                self.expect(doing, to);
            }
            Action::Dial { to } => {
                let (shared, peer) = (self.shared.clone(), self.peering.peer);
                let dial = async move { shake_hands(&shared, shared.endpoint_for(to.ip()), to, peer).await };
                doing.dial = Some((to, dial.boxed()));
            }
            Action::StopDial => doing.dial = None,
            Action::Missed => {
                let why = "relayed: no packet came through directly; that is tried again from time to time";
                self.peering.explain(&self.relayed, why);
                if doing.asks {
                    doing.proposed = self.propose();
                }
            }
            // The peering chooses the best path by the same rule, and closes what is not needed.
            Action::Use { .. } | Action::Retire { .. } | Action::FallBack => {}
        }
    }

    /// The peer may come from there, as soon as it has heard what was sent.
    pub(super) fn expect(&self, doing: &mut Doing, from: SocketAddr) {
        let known = doing.expected.as_ref();
        if known.is_none_or(|expected| expected.remote() != from) {
            let path = self.path(doing, from, false);
            // The old one is forgotten first: it may be for the same address.
            doing.expected = None;
            doing.expected = self.shared.peerings.expect(from, path);
        }
    }

    fn meet(&self) -> BoxFuture<'static, Result<Duration, NotOpened>> {
        let (shared, session) = (self.shared.clone(), self.session.clone());
        async move { reach::meet(&shared, &session.opened).await }.boxed()
    }

    /// Takes a connection that we dialled for a path.
    fn add(&self, doing: &Doing, connection: &Connection, to: SocketAddr) -> bool {
        self.peering
            .add_path(connection.clone(), self.path(doing, to, true))
    }

    /// A direct connection that is the best now and that we did not dial.
    fn news_of(&self, doing: &mut Doing) -> Option<Connection> {
        let best = doing.best.borrow_and_update();
        let path = best.as_ref().filter(|path| path.kind() != PathKind::Relayed)?;
        let known = |one: &Option<Connection>| {
            one.as_ref()
                .is_some_and(|one| one.stable_id() == path.connection.stable_id())
        };
        let news = !known(&doing.ours) && !known(&doing.theirs);
        news.then(|| path.connection.clone())
    }

    fn path(&self, doing: &Doing, remote: SocketAddr, dialled: bool) -> Path {
        let meeting = self.session.meeting(&self.shared);
        let kind = match PathKind::of_address(remote) {
            PathKind::Lan if meeting.is_together() => PathKind::Lan,
            _ => PathKind::Punched,
        };
        let by_many = doing.birthday.as_ref().and_then(Trying::why);
        let why = by_many.unwrap_or_else(|| match dialled {
            true => format!("punched through after {} ms", doing.began.elapsed().as_millis()),
            false => "punched through; the peer dialled".to_owned(),
        });
        Path {
            kind,
            relay: None,
            remote,
            dialled,
            why: why.into(),
            keep: None,
        }
    }
}

/// Those that may be punched now. `None` if it is too soon for all of them: who has a node meet one peer after another
/// could aim it at a third party.
pub(super) fn granted(shared: &Shared, mut targets: Vec<SocketAddr>) -> Option<Vec<SocketAddr>> {
    let none_asked = targets.is_empty();
    let (now, scope) = (shared.mux.now(), shared.meetings.scope());
    let mut attempts = shared.meetings.attempts();
    // An attempt is aimed at a host, whatever ports it tries there.
    let mut hosts: Vec<(IpAddr, bool)> = Vec::new();
    targets.retain(|target| {
        let ip = target.ip();
        let known = hosts.iter().find(|(host, _)| *host == ip).map(|known| known.1);
        known.unwrap_or_else(|| {
            let granted = attempts.take(now, ip, scope);
            hosts.push((ip, granted));
            granted
        })
    });
    (none_asked || !targets.is_empty()).then_some(targets)
}

/// What comes of a future, if there is one.
pub(super) async fn maybe<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn closed(connection: Option<&Connection>) {
    match connection {
        Some(connection) => {
            connection.closed().await;
        }
        None => std::future::pending().await,
    }
}

pub(super) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
