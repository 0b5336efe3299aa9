//! Relaying for others: who may have what forwarded, and how much.
//!
//! A peer that cannot be dialled *reserves* a place over its own connection, and others open *sessions* to it. A
//! session has two legs, each the address of an authenticated connection; datagrams between them are forwarded one to
//! one, unread.
//!
//! Nobody can make an amplifier or an open proxy of it. A datagram creates nothing: it is forwarded if its session
//! exists and it comes from one of the two legs, or else dropped without an answer. A leg moves only when the peer's
//! own connection does. Everything else, the number of places, of sessions, of bytes, and how many of them in a second,
//! is limited for each peer, each host and all together; what is over a limit is dropped, never queued.

mod bucket;
mod config;
mod events;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use kad_core::{Duration, Instant, NodeId};

use self::bucket::Bucket;
pub use self::config::RelayConfig;
pub use self::events::{Action, End, Event, Reason, Refusal, Verdict};
use super::draws::Draws;
use super::prefix::{host, site};
use super::ration::Ration;
use crate::wire::Scope;

/// Places at most, whatever is configured: each is a connection that is kept.
const MAX_RESERVATIONS: usize = 1024;

/// Sessions at most, whatever is configured: each forwarded datagram looks its own up.
const MAX_SESSIONS: usize = 256;

/// The largest datagram that is forwarded, without the header of the relay. Larger ones do not fit through the
/// internet, and are dropped.
pub const MAX_DATAGRAM: usize = 1500;

/// Sessions in a minute, of all peers; more are refused. Sixteen at a time, each of four seconds.
const MAX_OPENED: usize = 240;

/// Sessions that one peer opens in a minute. Who connects to somebody needs one, and one more when that is lost.
const MAX_OPENED_BY_PEER: usize = 20;

/// Sessions that are opened to one peer in a minute, whoever does: each makes it listen, so that sessions that are
/// opened and closed at once would keep it busy.
const MAX_OPENED_TO_PEER: usize = 60;

/// What these are counted over.
const MINUTE: Duration = Duration::from_secs(60);

/// Names a session on the wire. Drawn at random, so that nobody who is not in it can name one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Counters of a relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayStats {
    /// Peers that have a place now.
    pub reservations: usize,
    /// Sessions now.
    pub sessions: usize,
    /// Datagrams that were forwarded.
    pub forwarded: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Datagrams that were dropped.
    pub dropped: u64,
    /// Requests that were refused.
    pub refused: u64,
}

#[derive(Debug)]
struct Reservation {
    leg: SocketAddr,
    until: Instant,
}

#[derive(Debug)]
struct Session {
    /// Who opened it, and with whom.
    peers: [NodeId; 2],
    legs: [SocketAddr; 2],
    until: Instant,
    /// Bytes from each of them.
    used: [u64; 2],
    spent: bool,
    bucket: Bucket,
}

/// A node that relays for others.
#[derive(Debug)]
pub struct Relay {
    config: RelayConfig,
    scope: Scope,
    draws: Draws,
    reservations: BTreeMap<NodeId, Reservation>,
    sessions: BTreeMap<SessionId, Session>,
    openers: Ration<NodeId>,
    called: Ration<NodeId>,
    bucket: Bucket,
    stats: RelayStats,
}

impl Relay {
    /// Relays for nobody yet. The seed must be secret.
    #[must_use]
    pub fn new(config: RelayConfig, scope: Scope, seed: &[u8; 32], now: Instant) -> Self {
        Self {
            bucket: Bucket::new(config.rate, now),
            draws: Draws::new(seed, "nautilus-kad 2026-11 relay sessions"),
            reservations: BTreeMap::new(),
            sessions: BTreeMap::new(),
            openers: Ration::new(MINUTE, MAX_OPENED),
            called: Ration::new(MINUTE, MAX_OPENED),
            stats: RelayStats::default(),
            config,
            scope,
        }
    }

    /// This node was in a private network and is in the internet now: a site has no more places than elsewhere. Those
    /// that are granted run out by themselves.
    pub const fn went_public(&mut self) {
        self.scope = Scope::Global;
    }

    /// Takes one event and appends what follows to `out`: an answer, and the end of each session that is over.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        // What has run out is over before anything else, whenever the timer comes.
        self.expire(now, out);
        match event {
            Event::Reserve { peer, leg, relayed } => self.on_reserve(now, peer, leg, relayed, out),
            // Sessions that run need no place, only both connections: they may carry what has no better path.
            Event::Release { peer } => drop(self.reservations.remove(&peer)),
            Event::Gone { peer } => {
                self.reservations.remove(&peer);
                self.end(
                    |_, session| session.peers.contains(&peer).then_some(End::Gone),
                    out,
                );
            }
            Event::Open {
                peer,
                leg,
                relayed,
                to,
            } => self.on_open(now, [peer, to], leg, relayed, out),
            Event::Close { session, peer } => {
                let ends = |id, it: &Session| id == session && it.peers.contains(&peer);
                self.end(|id, session| ends(id, session).then_some(End::Closed), out);
            }
            Event::Moved { peer, leg } => self.on_move(peer, leg, out),
            Event::Timeout => {}
        }
    }

    /// What to do with a datagram that came from somewhere and names a session. It changes counters and budgets, and
    /// creates nothing.
    #[must_use]
    pub fn forward(&mut self, now: Instant, session: SessionId, from: SocketAddr, bytes: usize) -> Verdict {
        match self.judge(now, session, from, bytes) {
            Ok(to) => {
                self.stats.forwarded += 1;
                self.stats.bytes += bytes as u64;
                Verdict::Forward { to }
            }
            Err(reason) => {
                self.stats.dropped += 1;
                Verdict::Drop(reason)
            }
        }
    }

    /// When the next place or session runs out.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let places = self.reservations.values().map(|reservation| reservation.until);
        places.chain(self.sessions.values().map(Session::ends)).min()
    }

    /// Whether a peer has a place.
    #[must_use]
    pub fn has_place(&self, peer: NodeId) -> bool {
        self.reservations.contains_key(&peer)
    }

    /// Whether a peer has a place or is in a session: whether its connection has to be kept.
    #[must_use]
    pub fn knows(&self, peer: NodeId) -> bool {
        self.has_place(peer)
            || self
                .sessions
                .values()
                .any(|session| session.peers.contains(&peer))
    }

    /// Between whom a session is: who opened it, and with whom.
    #[must_use]
    pub fn between(&self, session: SessionId) -> Option<[NodeId; 2]> {
        self.sessions.get(&session).map(|session| session.peers)
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> RelayStats {
        RelayStats {
            reservations: self.reservations.len(),
            sessions: self.sessions.len(),
            ..self.stats
        }
    }

    fn judge(
        &mut self,
        now: Instant,
        id: SessionId,
        from: SocketAddr,
        bytes: usize,
    ) -> Result<SocketAddr, Reason> {
        let session = self.sessions.get_mut(&id).ok_or(Reason::NoSession)?;
        let side = session
            .legs
            .iter()
            .position(|leg| *leg == from)
            .ok_or(Reason::Stranger)?;
        if bytes == 0 || bytes > MAX_DATAGRAM {
            return Err(Reason::Size);
        }
        let size = bytes as u64;
        if session.ends() <= now {
            return Err(Reason::Spent);
        }
        if session.used[side].saturating_add(size) > self.config.session_bytes {
            session.spent = true;
            return Err(Reason::Spent);
        }
        if !session.bucket.has(now, size) {
            return Err(Reason::SessionRate);
        }
        if !self.bucket.has(now, size) {
            return Err(Reason::Rate);
        }
        session.bucket.take(now, size);
        self.bucket.take(now, size);
        session.used[side] += size;
        Ok(session.legs[1 - side])
    }

    fn on_reserve(
        &mut self,
        now: Instant,
        peer: NodeId,
        leg: SocketAddr,
        relayed: bool,
        out: &mut Vec<Action>,
    ) {
        let leg = canonical(leg);
        if relayed {
            return self.refuse(peer, Refusal::Relayed, out);
        }
        // It may have another connection than before.
        self.on_move(peer, leg, out);
        let others = || self.reservations.iter().filter(|(id, _)| **id != peer);
        let of = |group: &dyn Fn(IpAddr) -> IpAddr| {
            let same = |reservation: &Reservation| group(reservation.leg.ip()) == group(leg.ip());
            others().filter(|(_, reservation)| same(reservation)).count()
        };
        let room = others().count() < self.config.reservations.min(MAX_RESERVATIONS)
            && of(&host) < self.config.reservations_per_host
            // Where each host is a site of its own, the first limit is the only one.
            && (self.scope == Scope::Any || of(&|ip| site(ip, self.scope)) < self.config.reservations_per_site);
        if !room {
            return self.refuse(peer, Refusal::Full, out);
        }
        let lifetime = self.config.reservation;
        let until = now + lifetime;
        self.reservations.insert(peer, Reservation { leg, until });
        out.push(Action::Reserved { peer, lifetime });
    }

    fn on_open(
        &mut self,
        now: Instant,
        peers: [NodeId; 2],
        leg: SocketAddr,
        relayed: bool,
        out: &mut Vec<Action>,
    ) {
        let [peer, to] = peers;
        if relayed {
            return self.refuse(peer, Refusal::Relayed, out);
        }
        self.on_move(peer, leg, out);
        match self.may_open(now, peer, leg, to) {
            Ok(other) => self.open(now, peers, [leg, other], out),
            Err(why) => self.refuse(peer, why, out),
        }
    }

    /// The address of whom the session is to be with.
    fn may_open(
        &self,
        now: Instant,
        peer: NodeId,
        leg: SocketAddr,
        to: NodeId,
    ) -> Result<SocketAddr, Refusal> {
        let other = self.reservations.get(&to).ok_or(Refusal::NoReservation)?.leg;
        if peer == to || canonical(leg) == other {
            return Err(Refusal::Same);
        }
        let granted =
            self.openers.has(now, &peer, MAX_OPENED_BY_PEER) && self.called.has(now, &to, MAX_OPENED_TO_PEER);
        if !granted {
            return Err(Refusal::TooOften);
        }
        let count = |like: &dyn Fn(&Session) -> bool| self.sessions.values().filter(|it| like(it)).count();
        let from = host(leg.ip());
        let room = self.sessions.len() < self.config.sessions.min(MAX_SESSIONS)
            && count(&|session| session.peers == [peer, to]) < self.config.sessions_per_pair
            // Apart: else whoever has somebody called often would keep it from calling anybody.
            && count(&|session| session.peers[0] == peer) < self.config.sessions_per_opener
            && count(&|session| session.peers[1] == to) < self.config.sessions_per_target
            && count(&|session| host(session.legs[0].ip()) == from) < self.config.sessions_per_host;
        if room { Ok(other) } else { Err(Refusal::Full) }
    }

    fn open(&mut self, now: Instant, peers: [NodeId; 2], legs: [SocketAddr; 2], out: &mut Vec<Action>) {
        // One in use is drawn once in 2^56 times; then the next one is not.
        let mut id = SessionId(self.draws.next_u64());
        while self.sessions.contains_key(&id) {
            id = SessionId(self.draws.next_u64());
        }
        let session = Session {
            peers,
            legs: legs.map(canonical),
            until: now + self.config.session,
            used: [0; 2],
            spent: false,
            bucket: Bucket::new(self.config.session_rate, now),
        };
        self.sessions.insert(id, session);
        let [from, to] = peers;
        self.openers.take(now, from);
        self.called.take(now, to);
        out.push(Action::Opened {
            session: id,
            from,
            to,
        });
    }

    fn on_move(&mut self, peer: NodeId, leg: SocketAddr, out: &mut Vec<Action>) {
        let leg = canonical(leg);
        if let Some(reservation) = self.reservations.get_mut(&peer) {
            reservation.leg = leg;
        }
        for session in self.sessions.values_mut() {
            for (end, own) in session.peers.iter().zip(&mut session.legs) {
                if *end == peer {
                    *own = leg;
                }
            }
        }
        // Where both ends are at one address, nobody can tell who sends.
        self.end(
            |_, session| (session.legs[0] == session.legs[1]).then_some(End::Gone),
            out,
        );
    }

    fn expire(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.reservations.retain(|_, reservation| now < reservation.until);
        let over = |session: &Session| match session.spent {
            true => Some(End::Bytes),
            false => (session.until <= now).then_some(End::Time),
        };
        self.end(|_, session| over(session), out);
    }

    fn end(&mut self, over: impl Fn(SessionId, &Session) -> Option<End>, out: &mut Vec<Action>) {
        self.sessions.retain(|&id, session| {
            let end = over(id, session);
            out.extend(end.map(|why| Action::Closed {
                session: id,
                between: session.peers,
                why,
            }));
            end.is_none()
        });
    }

    fn refuse(&mut self, peer: NodeId, why: Refusal, out: &mut Vec<Action>) {
        self.stats.refused += 1;
        out.push(Action::Refused { peer, why });
    }
}

impl Session {
    /// One that is spent is to be ended at once.
    const fn ends(&self) -> Instant {
        if self.spent { Instant::ZERO } else { self.until }
    }
}

fn canonical(leg: SocketAddr) -> SocketAddr {
    SocketAddr::new(leg.ip().to_canonical(), leg.port())
}

#[cfg(test)]
mod tests;
