//! What shares the UDP port of a node with QUIC: punches, relayed datagrams, probes.
//!
//! ```text
//!   UDP ─► OwnSocket ─ fixed bit set ───────────────────────────────────► quinn
//!              │ clear                          ┌─ a route of ours ─► virtual endpoint
//!              └──► Mux ── RELAY ───────────────┤
//!                    ├──── PUNCH ─► whoever      └─ a session of others ─► UDP, one to one
//!                    └──── PROBE    waits for it
//! ```
//!
//! Packets of ours have the bit clear that every QUIC packet has set (RFC 9000, section 17.2: the *fixed bit*, which
//! our endpoints do not grease). They are told apart in the receive path, for every segment of a batch, and what they
//! cause is bounded there: a RELAY packet leaves at most one other, a PUNCH or PROBE none. Nothing that arrives makes
//! state; what nobody waits for is counted and dropped.
//!
//! The mux also knows which hosts this node has sent something to, since everything that leaves passes here: what comes
//! from such a host says nothing about whether strangers reach us.

#[cfg(test)]
pub(super) mod between;
mod packet;
mod punches;
mod sift;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use kad_core::{Duration, Instant};
use tokio::sync::mpsc;

use super::address::canonical;
use super::relayed::{Relayed, Route, is_fake};
use super::socket::{Count, Line};
use crate::nat::contacted::Contacted;
use crate::nat::relay::{MAX_DATAGRAM, Relay, SessionId, Verdict};

pub(super) use self::packet::{PUNCH_BYTES, Packet, PunchKey, Side};
pub(super) use self::punches::{Heard, Punches};
pub(super) use self::sift::sift;

use self::packet::MAX_PACKET;
use self::punches::Awaited;

/// Probes, and calls, that wait to be looked at. A node asks for sixty probes in a minute and gets three for each;
/// calls are as many as handshakes. Full: dropped and counted; the prover asks again.
const MAX_PROBES: usize = 256;

/// A probe that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probed {
    pub(super) from: SocketAddr,
    pub(super) nonce: [u8; 16],
    /// Whether this node had sent nothing to that host.
    pub(super) stranger: bool,
}

/// A peer that has opened a connection to us, and has proven who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Called {
    pub(super) from: SocketAddr,
    /// Whether this node had sent nothing to that host before.
    pub(super) stranger: bool,
}

/// See the module.
pub(super) struct Mux {
    line: Arc<Line>,
    born: tokio::time::Instant,
    /// Of IPv4 and of IPv6. Held by what quinn holds; the port is free when quinn lets go.
    sockets: [OnceLock<Weak<UdpSocket>>; 2],
    hosts: Mutex<Hosts>,
    relay: OnceLock<Mutex<Relay>>,
    relayed: Arc<Relayed>,
    awaited: Arc<Awaited>,
    probed: mpsc::Sender<Probed>,
    probes: Mutex<Option<mpsc::Receiver<Probed>>>,
    called: mpsc::Sender<Called>,
    calls: Mutex<Option<mpsc::Receiver<Called>>>,
    #[cfg(test)]
    pub(super) between: between::Between,
}

/// Hosts that something was sent to.
#[derive(Default)]
struct Hosts {
    contacted: Contacted,
    /// The last one and when it was noted: a connection sends many packets in a row.
    last: Option<(IpAddr, Instant)>,
}

/// A host that was noted is not noted again for so long: a small part of the time for which it counts.
const NOTED_FOR: Duration = Duration::from_secs(10);

impl Mux {
    pub(super) fn new(line: Arc<Line>) -> Self {
        let (probed, probes) = mpsc::channel(MAX_PROBES);
        let (called, calls) = mpsc::channel(MAX_PROBES);
        Self {
            relayed: Arc::new(Relayed::new(line.clone())),
            awaited: Arc::new(Awaited::default()),
            line,
            born: tokio::time::Instant::now(),
            sockets: [const { OnceLock::new() }; 2],
            hosts: Mutex::default(),
            relay: OnceLock::new(),
            probed,
            probes: Mutex::new(Some(probes)),
            called,
            calls: Mutex::new(Some(calls)),
            #[cfg(test)]
            between: between::Between::default(),
        }
    }

    /// The clock of the machines in [`nat`](crate::nat): time since the transport was opened. All of them read this
    /// one.
    pub(super) fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// When an instant of that clock is, for a timer.
    pub(super) fn at(&self, instant: Instant) -> tokio::time::Instant {
        self.born + std::time::Duration::from_micros(instant.as_micros())
    }

    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    pub(super) const fn relayed(&self) -> &Arc<Relayed> {
        &self.relayed
    }

    /// The socket to send over to addresses of its family; the same one that quinn has, without the runtime around it,
    /// so that a packet leaves at once. The first one of each family counts.
    pub(super) fn carry_over(&self, socket: &Arc<UdpSocket>) {
        if let Ok(local) = socket.local_addr() {
            let _ = self.sockets[usize::from(local.is_ipv6())].set(Arc::downgrade(socket));
        }
    }

    /// Lets peers have datagrams forwarded. The first one counts.
    pub(super) fn serve_relay(&self, relay: Relay) {
        let _ = self.relay.set(Mutex::new(relay));
    }

    /// What is relayed for others; `None` if this node does not.
    pub(super) fn relay(&self) -> Option<&Mutex<Relay>> {
        self.relay.get()
    }

    /// Sends one packet, once. Lost silently if it cannot be sent now. The host counts as contacted.
    pub(super) fn send(&self, to: SocketAddr, packet: Packet<'_>) {
        let mut bytes = [0; MAX_PACKET];
        if let Some(size) = packet.write(&mut bytes) {
            self.transmit(to, &bytes[..size]);
        } else {
            self.line.count(Count::Lost);
        }
    }

    /// The same from a socket that is not the node's own. At once: the runtime knows of a new socket only later that it
    /// can be written to.
    pub(super) fn send_from(&self, socket: &tokio::net::UdpSocket, to: SocketAddr, packet: Packet<'_>) {
        let mut bytes = [0; MAX_PACKET];
        match packet.write(&mut bytes) {
            Some(size) => self.hand_over(to, &bytes[..size], |bytes, to| {
                socket2::SockRef::from(socket).send_to(bytes, &to.into())
            }),
            None => self.line.count(Count::Lost),
        }
    }

    /// Whether something was sent to this host in the last ten minutes or more. Of IPv6, the /64 counts as one host.
    pub(super) fn has_contacted(&self, host: IpAddr) -> bool {
        let now = self.now();
        self.hosts().contacted.contains(now, host)
    }

    /// Whether what comes from there is taken in.
    #[cfg(not(test))]
    pub(super) const fn lets_in(&self, _: SocketAddr) -> bool {
        true
    }

    /// Whether what comes from there is taken in: in tests of what happens behind a NAT, not always.
    #[cfg(test)]
    pub(super) fn lets_in(&self, from: SocketAddr) -> bool {
        self.between.lets_in(from, self.has_contacted(from.ip()))
    }

    /// Notes that something leaves for this host.
    pub(super) fn note(&self, host: IpAddr) {
        let now = self.now();
        let mut hosts = self.hosts();
        if hosts
            .last
            .is_some_and(|(last, when)| last == host && now.since(when) < NOTED_FOR)
        {
            return;
        }
        hosts.contacted.note(now, host);
        hosts.last = Some((host, now));
    }

    /// A way to the other end of a session at a relay: what is sent to [`Route::fake`] over the virtual endpoint goes
    /// through the relay, and what comes from there through this session comes in as from that address. Ends when
    /// dropped. `None` if there are too many, or there is one for this session already.
    pub(super) fn route(&self, relay: SocketAddr, session: SessionId) -> Option<Route> {
        Relayed::route(&self.relayed, relay, session)
    }

    /// Punches of the other end of a session, from wherever they come, with a MAC that fits. `side` is the own side.
    /// `None` if too many sessions wait for theirs, or this one does already.
    pub(super) fn await_punches(&self, session: SessionId, key: PunchKey, side: Side) -> Option<Punches> {
        Awaited::begin(&self.awaited, session, key, side)
    }

    /// The probes that arrive. `None` but for the first who asks.
    pub(super) fn probes(&self) -> Option<mpsc::Receiver<Probed>> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The peers that call. `None` but for the first who asks.
    pub(super) fn calls(&self) -> Option<mpsc::Receiver<Called>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Tells of the first packet of a handshake.
    pub(super) fn tell_of_handshake(&self, from: SocketAddr) {
        self.awaited.arriving(canonical(from));
    }

    /// Tells of a peer that has connected to us. Whether it was a `stranger` is to be found out before it is answered
    /// at all.
    pub(super) fn tell_of_call(&self, from: SocketAddr, stranger: bool) {
        let from = canonical(from);
        if self.called.try_send(Called { from, stranger }).is_err() {
            self.line.count(Count::Overflow);
        }
    }

    /// One datagram that is not QUIC.
    pub(super) fn take(&self, from: SocketAddr, datagram: &[u8]) {
        let from = canonical(from);
        match Packet::parse(datagram) {
            Some(Packet::Relay {
                session,
                datagram: inner,
            }) => {
                if !self.relayed.take(from, session, inner) {
                    self.forward(session, from, inner.len(), datagram);
                }
            }
            Some(Packet::Punch { session, mac }) => {
                self.line.count(self.awaited.take(session, mac, from));
            }
            Some(Packet::Probe { nonce }) => {
                let stranger = !self.has_contacted(from.ip());
                let probed = Probed {
                    from,
                    nonce,
                    stranger,
                };
                let taken = self.probed.try_send(probed).is_ok();
                self.line
                    .count(if taken { Count::Probe } else { Count::Overflow });
            }
            None => self.line.count(Count::Stray),
        }
    }

    /// For others: as it came, to the other leg, if the relay says so.
    fn forward(&self, session: SessionId, from: SocketAddr, size: usize, whole: &[u8]) {
        let verdict = self.relay().map(|relay| {
            let now = self.now();
            let mut relay = relay.lock().unwrap_or_else(PoisonError::into_inner);
            relay.forward(now, session, from, size)
        });
        if let Some(Verdict::Forward { to }) = verdict {
            self.line.count(Count::Forwarded);
            self.transmit(to, whole);
        } else {
            self.line.count(Count::Stray);
        }
    }

    /// A datagram of a relayed connection, through its relay.
    pub(super) fn send_relayed(&self, fake: SocketAddr, datagram: &[u8]) {
        if datagram.len() <= MAX_DATAGRAM
            && let Some((relay, session)) = self.relayed.behind(fake)
        {
            self.send(relay, Packet::Relay { session, datagram });
        } else {
            self.line.count(Count::Lost);
        }
    }

    fn transmit(&self, to: SocketAddr, bytes: &[u8]) {
        let to = canonical(to);
        let socket = self.sockets[usize::from(to.is_ipv6())]
            .get()
            .and_then(Weak::upgrade);
        match socket {
            Some(socket) => self.hand_over(to, bytes, |bytes, to| socket.send_to(bytes, to)),
            None => self.line.count(Count::Lost),
        }
    }

    /// Gives a datagram to the system.
    fn hand_over(
        &self,
        to: SocketAddr,
        bytes: &[u8],
        send: impl FnOnce(&[u8], SocketAddr) -> std::io::Result<usize>,
    ) {
        let to = canonical(to);
        if self.line.is_silent() {
            self.line.count(Count::Swallowed);
            return;
        }
        if is_fake(to.ip()) {
            self.line.count(Count::Lost);
            return;
        }
        self.note(to.ip());
        #[cfg(test)]
        self.between.note(to, bytes);
        match send(bytes, to) {
            Ok(_) => self.line.sent(1, bytes.len()),
            // No room for it now is as good as lost on the way; so is whatever else the system says.
            Err(_) => self.line.count(Count::Lost),
        }
    }

    fn hosts(&self) -> std::sync::MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
