//! One attempt to find a port between a NAT that gives every destination another one and a NAT that lets in only the
//! ports that were sent to.
//!
//! ```text
//!   Opens  (another port for each destination): 256 sockets, a punch from each ─► its NAT has 256 ports open
//!   Probes (one port for all):                  punches to random ports of that host, one in 5 ms
//!                                               ─► the first that meets an open port comes through, and is answered
//! ```
//!
//! Neither end can tell the other which port to aim at ([`punch`](super::punch) tries what can be told). But of 64,512
//! ports 256 are open, so that a random one is with a chance of 1 in 252, as somebody in a room soon shares a birthday
//! with somebody else. n probes meet one with the probability 1 - (1 - 256/64512)^n: one in two with 174, 98.3 % with
//! 1,024, 99.9 % with the 1,750 of an attempt. The socket that was met is kept, and the connection is dialled from it:
//! its port is open to this peer alone.
//!
//! It costs a router as many mappings as there are sockets, or probes, for half a minute. So it is made only when an
//! ordinary round was in vain, when the operators of both ends want it, and when [`Turns`] grants one to each.
//!
//! What it refuses to do: send to any host but the one at which a third party sees the peer; open or send anything
//! beyond its bounds, whatever the peer does; make up for what a late timer has missed.

mod turns;

use std::net::{IpAddr, SocketAddr};

use kad_core::{Duration, Instant};

pub use self::turns::{MAX_ATTEMPTS, MAX_PER_PEER, Turns};
use super::candidates::{Candidate, CandidateKind, Meeting};
use super::draws::Draws;
use super::observation::NatClass;

/// Sockets that are opened. More of them help less than they cost: a process may have a thousand files by default, and
/// a small router has some thousand mappings. HyperDHT and Tailscale take as many.
pub const MAX_SOCKETS: usize = 256;

/// Probes of one attempt: of a thousand attempts one is in vain.
pub const MAX_PROBES: usize = 1_750;

/// The ports that a NAT may give; those below are of the system (RFC 6335, section 6), and none of them is probed.
pub const PORTS: std::ops::RangeInclusive<u16> = 1_024..=u16::MAX;

/// Between two probes: 200 a second of 17 bytes take 9 kB of a line, headers included.
const EVERY: Duration = Duration::from_millis(5);

/// Sockets opened at a time, so that no queue on the way overflows.
const OPENED_AT_ONCE: usize = 16;

/// An attempt is over after so long: all probes take 8.75 s, and what answers them some round trips. It is well below
/// the 30 s for which Linux remembers a UDP flow without an answer, so that one packet from each socket is enough.
const LASTS: Duration = Duration::from_secs(11);

/// After a hit, for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// How many punches answer the first one that is heard; as in an ordinary round.
const ANSWERS: usize = 3;

/// What an end does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its own NAT gives every destination another port: it opens many.
    Opens {
        /// Where the peer is, on the host at which a third party sees it.
        to: SocketAddr,
    },
    /// Its own NAT has one port for all: it probes.
    Probes {
        /// The host at which a third party sees the peer.
        host: IpAddr,
    },
}

impl Part {
    /// The part of an end, by the classes of both NATs and what the peer says of where it is. `None` where it would not
    /// help: two of one kind either meet by themselves or never do.
    #[must_use]
    pub fn of(own: NatClass, peer: NatClass, meeting: &Meeting, candidates: &[Candidate]) -> Option<Self> {
        let host = meeting.peer_host.to_canonical();
        match (own, peer) {
            (NatClass::EndpointDependent, NatClass::EndpointIndependent) => {
                // Probes come from where the peer is seen. A port that is forwarded to it is another one.
                let seen = candidates
                    .iter()
                    .filter(|candidate| candidate.kind != CandidateKind::Mapped);
                let seen: Vec<_> = seen.copied().collect();
                let targets = meeting.targets(&meeting.rank(&seen));
                let to = targets.into_iter().find(|target| target.ip() == host)?;
                Some(Self::Opens { to })
            }
            (NatClass::EndpointIndependent, NatClass::EndpointDependent) => Some(Self::Probes { host }),
            _ => None,
        }
    }

    fn host(&self) -> IpAddr {
        match self {
            Self::Opens { to } => to.ip().to_canonical(),
            Self::Probes { host } => host.to_canonical(),
        }
    }

    /// How many packets it sends until it hears something.
    const fn most(&self) -> usize {
        match self {
            Self::Opens { .. } => MAX_SOCKETS,
            Self::Probes { .. } => MAX_PROBES,
        }
    }
}

/// What happens to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A punch of the peer arrived; its MAC is right.
    Heard {
        /// At which of the sockets that were opened, counted from 0; `None`: at the node's own.
        at: Option<u16>,
        /// From where.
        from: SocketAddr,
    },
    /// It is of no use any more: there is a direct connection, or the network is another one.
    Needless,
    /// The time that [`Birthday::poll_timeout`] told has come.
    Timeout,
}

/// What an attempt wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open one more socket, and send one punch from it.
    Open {
        /// To where.
        to: SocketAddr,
    },
    /// Send one punch from the node's own socket.
    Probe {
        /// To where.
        to: SocketAddr,
    },
    /// Keep this one of the sockets that were opened, and close all others; `None`: all.
    Keep {
        /// Which; the others have no number any more.
        at: Option<u16>,
    },
    /// Send one punch from the socket that was kept, or from the node's own. From here the peer may come.
    Answer {
        /// To where.
        to: SocketAddr,
    },
    /// Dial the peer from the socket that was kept, or from the node's own.
    Dial {
        /// Where.
        to: SocketAddr,
    },
    /// It is over: close what is open and no connection uses.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Trying {
        /// When something is to be sent next; `None`: all was sent.
        due: Option<Instant>,
        until: Instant,
    },
    /// A port was met. Who opens dials; who probes is dialled.
    Met {
        until: Instant,
    },
    Over,
}

/// One attempt, of one end.
#[derive(Debug)]
pub struct Birthday {
    part: Part,
    state: State,
    sent: usize,
    draws: Draws,
}

impl Birthday {
    /// Begins at once: the first timeout is due now. Both ends begin within one flight of a packet.
    #[must_use]
    pub fn new(part: Part, now: Instant, seed: &[u8; 32]) -> Self {
        let due = Some(now);
        Self {
            part,
            state: State::Trying {
                due,
                until: now + LASTS,
            },
            sent: 0,
            draws: Draws::new(seed, "nautilus-kad 2026-11 ports to probe"),
        }
    }

    /// Takes one event and appends what follows to `out`: at most 16 actions.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Heard { at, from } => self.on_heard(now, at, from, out),
            Event::Needless => self.end(out),
            Event::Timeout => self.on_timeout(now, out),
        }
    }

    /// When [`Event::Timeout`] is due. After a timeout at t it is later than t.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Trying { due, until } => Some(due.map_or(until, |due| due.min(until))),
            State::Met { until } => Some(until),
            State::Over => None,
        }
    }

    /// What this end does.
    #[must_use]
    pub const fn part(&self) -> Part {
        self.part
    }

    /// Sockets opened, or probes sent, until now.
    #[must_use]
    pub const fn sent(&self) -> usize {
        self.sent
    }

    /// Whether there is nothing more to come of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn on_heard(&mut self, now: Instant, at: Option<u16>, from: SocketAddr, out: &mut Vec<Action>) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        // The first one counts: it was sent through a hole that stands. The peer may choose the port, never the host.
        let State::Trying { .. } = self.state else { return };
        if from.ip() != self.part.host() {
            return;
        }
        if let Part::Opens { .. } = self.part {
            out.push(Action::Keep { at });
        }
        out.extend([Action::Answer { to: from }; ANSWERS]);
        if let Part::Opens { .. } = self.part {
            out.push(Action::Dial { to: from });
        }
        self.state = State::Met {
            until: now + HANDSHAKE,
        };
    }

    fn on_timeout(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self.state {
            State::Trying { until, .. } | State::Met { until } if until <= now => self.end(out),
            State::Trying {
                due: Some(due),
                until,
            } if due <= now => {
                self.send(out);
                let next = due + EVERY;
                // A late timer sends no burst.
                let next = if next > now { next } else { now + EVERY };
                let due = (self.sent < self.part.most()).then_some(next);
                self.state = State::Trying { due, until };
            }
            State::Trying { .. } | State::Met { .. } | State::Over => {}
        }
    }

    fn send(&mut self, out: &mut Vec<Action>) {
        match self.part {
            Part::Opens { to } => {
                let count = OPENED_AT_ONCE.min(MAX_SOCKETS - self.sent);
                out.extend(std::iter::repeat_n(Action::Open { to }, count));
                self.sent += count;
            }
            Part::Probes { host } => {
                let place = self.draws.pick(PORTS.len()).unwrap_or(0);
                let port = PORTS.start().saturating_add(u16::try_from(place).unwrap_or(0));
                out.push(Action::Probe {
                    to: SocketAddr::new(host.to_canonical(), port),
                });
                self.sent += 1;
            }
        }
    }

    fn end(&mut self, out: &mut Vec<Action>) {
        if self.state != State::Over {
            self.state = State::Over;
            out.push(Action::End);
        }
    }
}

#[cfg(test)]
mod tests;
