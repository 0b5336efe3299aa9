//! Relaying for others: who may have what forwarded, and how much.
//!
//! A peer that cannot be dialled *reserves* a place over its own connection, and others open *sessions* to it. A session has two
//! legs, each the address of an authenticated connection; datagrams between them are forwarded one to one, unread.
//!
//! Nobody can make an amplifier or an open proxy of it. A datagram creates nothing: it is forwarded if its session exists and it
//! comes from one of the two legs, or else dropped without an answer. A leg moves only when the peer's own connection does.
//! Everything else, the number of places, of sessions, of bytes, and how many of them in a second, is limited for each peer,
//! each host and all together; what is over a limit is dropped, never queued.

mod bucket;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use kad_core::{Duration, Instant, NodeId};

use self::bucket::Bucket;
use super::draws::Draws;
use super::prefix::{host, site};
use crate::wire::Scope;

/// Places at most, whatever is configured: each is a connection that is kept.
const MAX_RESERVATIONS: usize = 1024;

/// Sessions at most, whatever is configured: each forwarded datagram looks its own up.
const MAX_SESSIONS: usize = 256;

/// The largest datagram that is forwarded, without the header of the relay. Larger ones do not fit through the internet, and
/// are dropped.
const MAX_DATAGRAM: usize = 1500;

/// How much a node relays for others. Sizes of libp2p's circuit relay v2, but for the rates, which it does not limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayConfig {
    /// Peers that have a place; 0: the node relays for nobody.
    pub reservations: usize,
    /// Of them on one host.
    pub reservations_per_host: usize,
    /// Of them at one site (IPv4 /24, IPv6 /48).
    pub reservations_per_site: usize,
    /// How long a place is kept before it has to be renewed.
    pub reservation: Duration,
    /// Sessions at a time.
    pub sessions: usize,
    /// Of them with one peer, at either end.
    pub sessions_per_peer: usize,
    /// Of them opened from one host.
    pub sessions_per_host: usize,
    /// How long a session lasts at most: for lookups, and until a direct connection stands.
    pub session: Duration,
    /// Bytes of one session in each direction.
    pub session_bytes: u64,
    /// Bytes of one session in a second, both directions together.
    pub session_rate: u64,
    /// Bytes of all sessions in a second: a quarter of what they could have together, some 2 Mbit/s.
    pub rate: u64,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            reservations: 128,
            reservations_per_host: 8,
            reservations_per_site: 16,
            reservation: Duration::from_secs(60 * 60),
            sessions: 16,
            sessions_per_peer: 4,
            sessions_per_host: 4,
            session: Duration::from_secs(5 * 60),
            session_bytes: 1024 * 1024,
            session_rate: 64_000,
            rate: 256_000,
        }
    }
}

/// Names a session on the wire. Drawn at random, so that nobody who is not in it can name one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What happens to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A peer asks for a place, or for its place to be kept. Owes it one [`Action::Reserved`] or [`Action::Refused`].
    Reserve {
        /// Who; proven.
        peer: NodeId,
        /// Where its connection comes from.
        leg: SocketAddr,
        /// Whether that connection is itself relayed by somebody.
        relayed: bool,
    },
    /// A peer wants its place no more.
    Release {
        /// Who.
        peer: NodeId,
    },
    /// A peer asks for a session with one that has a place. Owes it one [`Action::Opened`] or [`Action::Refused`].
    Open {
        /// Who; proven.
        peer: NodeId,
        /// Where its connection comes from.
        leg: SocketAddr,
        /// Whether that connection is itself relayed by somebody.
        relayed: bool,
        /// With whom.
        to: NodeId,
    },
    /// One of the two ends it, over its own connection.
    Close {
        /// Which.
        session: SessionId,
        /// Who.
        peer: NodeId,
    },
    /// The connection of a peer has another address than before, and has proven it.
    Moved {
        /// Who.
        peer: NodeId,
        /// The new address.
        leg: SocketAddr,
    },
    /// The connection of a peer is gone.
    Gone {
        /// Who.
        peer: NodeId,
    },
    /// The time that [`Relay::poll_timeout`] told has come.
    Timeout,
}

/// What a relay wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Tell a peer that it has a place.
    Reserved {
        /// Whom.
        peer: NodeId,
        /// For how long.
        lifetime: Duration,
    },
    /// Tell a peer that it does not get what it asked for.
    Refused {
        /// Whom.
        peer: NodeId,
        /// Why not.
        why: Refusal,
    },
    /// Tell both that they have a session, and its limits ([`RelayConfig`]).
    Opened {
        /// Which.
        session: SessionId,
        /// Who asked.
        from: NodeId,
        /// With whom.
        to: NodeId,
    },
    /// Tell both that it is over, as far as they are still connected.
    Closed {
        /// Which.
        session: SessionId,
        /// Who it was between.
        between: [NodeId; 2],
        /// Why.
        why: End,
    },
}

/// Why a peer does not get a place or a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no more room, for this peer, its host, its site, or anybody.
    Full,
    /// It comes through another relay: chains would make one datagram into several.
    Relayed,
    /// Whom it wants has no place here.
    NoReservation,
    /// It wants a session with itself, or both ends would have one address.
    Same,
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// One of the two said so.
    Closed,
    /// One of the two is gone, or has no place any more.
    Gone,
    /// Its time is over.
    Time,
    /// Its bytes are used up.
    Bytes,
}

/// What to do with a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it to this address, once.
    Forward {
        /// The other leg.
        to: SocketAddr,
    },
    /// Forget it, and tell nobody.
    Drop(Reason),
}

/// Why a datagram is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// There is no such session.
    NoSession,
    /// It comes from neither leg.
    Stranger,
    /// It is empty, or larger than what is forwarded.
    Size,
    /// The session has used up its bytes or its time.
    Spent,
    /// The session sends too fast.
    SessionRate,
    /// All sessions together send too fast.
    Rate,
}

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
            stats: RelayStats::default(),
            config,
            scope,
        }
    }

    /// Takes one event and appends what follows to `out`: an answer, and the end of each session that is over.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        // What has run out is over before anything else, whenever the timer comes.
        self.expire(now, out);
        match event {
            Event::Reserve { peer, leg, relayed } => self.on_reserve(now, peer, leg, relayed, out),
            Event::Release { peer } | Event::Gone { peer } => {
                self.reservations.remove(&peer);
                // Who opened a session needs no place, only its connection.
                let gone = matches!(event, Event::Gone { .. });
                let ends = |session: &Session| session.peers[1] == peer || gone && session.peers[0] == peer;
                self.end(|_, session| ends(session).then_some(End::Gone), out);
            }
            Event::Open {
                peer,
                leg,
                relayed,
                to,
            } => match self.may_open(peer, leg, relayed, to) {
                Ok(other) => self.open(now, [peer, to], [leg, other], out),
                Err(why) => self.refuse(peer, why, out),
            },
            Event::Close { session, peer } => {
                let ends = |id, it: &Session| id == session && it.peers.contains(&peer);
                self.end(|id, session| ends(id, session).then_some(End::Closed), out);
            }
            Event::Moved { peer, leg } => self.on_move(peer, leg, out),
            Event::Timeout => {}
        }
    }

    /// What to do with a datagram that came from somewhere and names a session. It changes counters and budgets, and creates
    /// nothing.
    #[must_use]
    pub fn forward(&mut self, now: Instant, session: SessionId, from: SocketAddr, bytes: usize) -> Verdict {
        let verdict = match self.judge(now, session, from, bytes) {
            Ok(to) => {
                self.stats.forwarded += 1;
                self.stats.bytes += bytes as u64;
                Verdict::Forward { to }
            }
            Err(reason) => {
                self.stats.dropped += 1;
                Verdict::Drop(reason)
            }
        };
        debug_assert!(self.sessions.len() <= MAX_SESSIONS);
        verdict
    }

    /// When the next place or session runs out.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let places = self.reservations.values().map(|reservation| reservation.until);
        places.chain(self.sessions.values().map(Session::ends)).min()
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
        if session.used[side] + size > self.config.session_bytes {
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

    /// The address of whom the session is to be with.
    fn may_open(
        &self,
        peer: NodeId,
        leg: SocketAddr,
        relayed: bool,
        to: NodeId,
    ) -> Result<SocketAddr, Refusal> {
        if relayed {
            return Err(Refusal::Relayed);
        }
        let other = self.reservations.get(&to).ok_or(Refusal::NoReservation)?.leg;
        if peer == to || canonical(leg) == other {
            return Err(Refusal::Same);
        }
        let count = |like: &dyn Fn(&Session) -> bool| self.sessions.values().filter(|it| like(it)).count();
        let from = host(leg.ip());
        let room = self.sessions.len() < self.config.sessions.min(MAX_SESSIONS)
            && [peer, to]
                .iter()
                .all(|end| count(&|session| session.peers.contains(end)) < self.config.sessions_per_peer)
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
