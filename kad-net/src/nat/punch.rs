//! One attempt of two peers to reach each other directly, while they talk through a relay.
//!
//! ```text
//!   Waiting ─ GO ─► Armed ─ wait is over ─► Punching ─ Connected ─► Direct ─ closed ─┐
//!      ▲                                       │                                     │
//!      └── the one who asks, after silence ── Silent ◄── nothing in 2.5 s ───────────┘
//! ```
//!
//! Both send small packets at the same time, so that each opens its own NAT before the other's packet arrives. Then one
//! dials over the hole. What the rules are for:
//!
//! - **The source of a punch counts**, not what was advertised: a NAT that gives every destination its own port can be
//!   heard, and can be answered.
//! - **Silence after a round.** Some routers take a packet that comes too early for their own and keep its ports for 30
//!   seconds; each further packet renews that. So rounds are 35 s apart, with not a packet in between.
//! - **Both may dial, one connection stays**: that whose client has the lower id. The other end dials only when it
//!   hears nothing of a dial for half a second.
//! - **Bounded**: three rounds, then a pause of ten minutes; some hundred packets of 17 bytes a round, all to the host
//!   at which a third party sees the peer ([`candidates`](super::candidates)).
//!
//! The driver checks the MAC of every punch before it tells of it, and the identity of every connection.

mod events;
mod round;

use std::net::SocketAddr;

use kad_core::{Duration, Instant, NodeId};

pub use self::events::{Action, Dialler, Event};
use self::round::Round;
use super::candidates::MAX_TARGETS;
use super::observation::NatClass;

/// How many punches answer the first one that is heard: it came through, so will one of these.
const ANSWERS: usize = 3;

/// The most punches of one round: up to four targets until something is heard, then one.
pub const MAX_PUNCHES: usize = 128;

/// Rounds without success before there is a long pause: nearly all successes are those of a first round.
pub const MAX_ROUNDS: u32 = 3;

/// From the last packet of a round to the next round. Linux forgets a UDP flow without an answer after 30 s.
const SILENCE: Duration = Duration::from_secs(35);

/// So much less is enough for whoever does not ask: the last packets of both are not of the same moment.
const TOLERANCE: Duration = Duration::from_secs(2);

/// After the last round, until there may be others.
const PAUSE: Duration = Duration::from_secs(600);

/// How long whoever asked for a round waits to be told to begin.
const GO_WITHIN: Duration = Duration::from_secs(10);

/// When the coordinator was busy, until it is asked again. Nothing was sent, so there is no need for silence.
const BUSY: Duration = Duration::from_secs(5);

/// Refusals in a row after which a further one counts as a round: a coordinator has time for each peer every 35 s,
/// unless others take it.
const MAX_REFUSED: u32 = 8;

/// The longest wait that a coordinator may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What to take for the round trip of a dial over a punched hole until it is known: with the 333 ms that RFC 9002
/// (section 6.2.2) has, one lost packet costs a second.
pub const DIAL_RTT: Duration = Duration::from_millis(100);

/// Two peers that try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// This node.
    pub local: NodeId,
    /// The other one.
    pub peer: NodeId,
    /// Whether this is the one who asks the coordinator for rounds: who asked for the connection.
    pub asks: bool,
    /// The class of this node's NAT.
    pub own_class: NatClass,
    /// That of the peer's, as it says.
    pub peer_class: NatClass,
    /// Where to punch ([`Meeting::targets`](super::candidates::Meeting::targets)); of more than [`MAX_TARGETS`], the
    /// first.
    pub targets: Vec<SocketAddr>,
}

/// Why two do not try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Hopeless {
    /// Nobody can tell the other where its packets will come from.
    #[error("both NATs give every destination another port")]
    BothEndpointDependent,
    /// There is no address that may be punched.
    #[error("the peer has no address that could be reached directly")]
    NoTarget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For a GO, the asking side not for ever.
    Waiting {
        until: Option<Instant>,
    },
    /// Told to begin.
    Armed {
        at: Instant,
    },
    Punching(Round),
    /// Until then not a packet is sent.
    Silent {
        until: Instant,
    },
    Direct,
}

/// One attempt.
#[derive(Debug)]
pub struct Punch {
    setup: Setup,
    state: State,
    /// Rounds in vain since there last was a reason to hope.
    missed: u32,
    /// How often the coordinator was busy since it last had time.
    refused: u32,
    /// The last packet of this attempt.
    sent: Option<Instant>,
    /// Direct connections that stand: the one that we dialled, the one that the peer dialled.
    ours: bool,
    theirs: bool,
    untimely: u64,
}

impl Punch {
    /// The asking side has asked for the first round when it makes this.
    ///
    /// # Errors
    /// When no round could have success. The relay is all that is left.
    pub fn new(mut setup: Setup, now: Instant) -> Result<Self, Hopeless> {
        if [setup.own_class, setup.peer_class] == [NatClass::EndpointDependent; 2] {
            return Err(Hopeless::BothEndpointDependent);
        }
        if setup.targets.is_empty() {
            return Err(Hopeless::NoTarget);
        }
        setup.targets.truncate(MAX_TARGETS);
        let until = setup.asks.then(|| now + GO_WITHIN);
        Ok(Self {
            setup,
            state: State::Waiting { until },
            missed: 0,
            refused: 0,
            sent: None,
            ours: false,
            theirs: false,
            untimely: 0,
        })
    }

    /// Takes one event and appends what follows to `out`: at most eight actions.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Go { wait } => self.on_go(now, wait),
            Event::Busy => self.on_busy(now),
            Event::Heard { from } => self.on_heard(now, from, out),
            Event::Arriving => {
                if let State::Punching(round) = &mut self.state {
                    round.arriving = true;
                }
            }
            Event::Connected { by } => self.on_connected(by, out),
            Event::Closed { by } => self.on_closed(now, by, out),
            Event::NetworkChanged => self.on_network_change(now, out),
            Event::Targets(targets) => self.on_targets(now, targets),
            Event::Timeout => self.on_timeout(now, out),
        }
    }

    /// When [`Event::Timeout`] is due. After a timeout at t it is later than t.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => until,
            State::Armed { at } => Some(at),
            State::Punching(round) => Some(round.next()),
            State::Silent { until } => self.setup.asks.then_some(until),
            State::Direct => None,
        }
    }

    /// Whether a direct connection stands.
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.ours || self.theirs
    }

    /// What came at a time at which it was ignored, or from somewhere else than where the peer is.
    #[must_use]
    pub const fn untimely(&self) -> u64 {
        self.untimely
    }

    /// Whose connection stays.
    fn preferred(&self) -> Dialler {
        if self.setup.local < self.setup.peer {
            Dialler::Us
        } else {
            Dialler::Peer
        }
    }

    fn on_go(&mut self, now: Instant, wait: Duration) {
        let ready = match self.state {
            State::Waiting { .. } => true,
            // Whoever asks has become ready before it asked.
            State::Silent { until } => !self.setup.asks && now + TOLERANCE >= until,
            State::Armed { .. } | State::Punching(_) | State::Direct => false,
        };
        if ready {
            self.refused = 0;
            self.state = State::Armed {
                at: now + wait.min(LONGEST_WAIT),
            };
        } else {
            self.untimely += 1;
        }
    }

    /// Asks again soon. After too many times it waits in vain, as for a coordinator that says nothing.
    fn on_busy(&mut self, now: Instant) {
        if let State::Waiting { until: Some(_) } = self.state
            && self.refused < MAX_REFUSED
        {
            self.refused += 1;
            self.state = State::Silent { until: now + BUSY };
        }
    }

    fn on_heard(&mut self, now: Instant, from: SocketAddr, out: &mut Vec<Action>) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        // In a round of its own the peer may choose the port, never the host.
        let may_be_peer = self.setup.targets.iter().any(|target| target.ip() == from.ip());
        let mut round = match self.state {
            State::Punching(round) => round,
            // It came through although nothing was sent: an answer will, too.
            State::Waiting { .. } | State::Armed { .. } => Round::new(now),
            // Silence is silence, and a connection needs no punches.
            State::Silent { .. } | State::Direct => {
                self.untimely += 1;
                return;
            }
        };
        if !may_be_peer {
            self.untimely += 1;
            return;
        }
        if round.heard.is_none() {
            round.heard = Some((from, now));
            out.extend([Action::Punch { to: from }; ANSWERS]);
            self.sent = Some(now);
            if self.preferred() == Dialler::Us {
                round.dialled = true;
                out.push(Action::Dial { to: from });
            }
        }
        self.state = State::Punching(round);
    }

    fn on_connected(&mut self, by: Dialler, out: &mut Vec<Action>) {
        let preferred = self.preferred();
        let (this, other) = match by {
            Dialler::Us => (&mut self.ours, &mut self.theirs),
            Dialler::Peer => (&mut self.theirs, &mut self.ours),
        };
        let other_by = match by {
            Dialler::Us => Dialler::Peer,
            Dialler::Peer => Dialler::Us,
        };
        // A newer one of the same side takes the place of the older one; the transport has closed that.
        if by != preferred && *other {
            out.push(Action::Retire { by });
            return;
        }
        *this = true;
        out.push(Action::Use { by });
        if *other {
            *other = false;
            out.push(Action::Retire { by: other_by });
        }
        self.missed = 0;
        self.state = State::Direct;
    }

    fn on_closed(&mut self, now: Instant, by: Dialler, out: &mut Vec<Action>) {
        let was_direct = self.is_direct();
        match by {
            Dialler::Us => self.ours = false,
            Dialler::Peer => self.theirs = false,
        }
        if was_direct && !self.is_direct() {
            out.push(Action::FallBack);
            self.fall_silent(now, SILENCE);
        }
    }

    fn on_network_change(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.is_direct() {
            // If the connection does not outlive the change, its end will be told.
            return;
        }
        self.stop_dial(out);
        self.missed = 0;
        // Nothing that another network keeps can disturb here.
        self.sent = None;
        self.fall_silent(now, SILENCE);
    }

    fn on_targets(&mut self, now: Instant, targets: [Option<SocketAddr>; MAX_TARGETS]) {
        let targets: Vec<_> = targets.into_iter().flatten().collect();
        if targets.is_empty() || targets == self.setup.targets {
            return;
        }
        self.setup.targets = targets;
        self.missed = 0;
        // A long pause is over, the silence after a round is not.
        if let State::Silent { .. } = self.state {
            self.fall_silent(now, SILENCE);
        }
    }

    fn on_timeout(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self.state {
            State::Waiting { until: Some(until) } if until <= now => self.miss(now, out),
            State::Armed { at } if at <= now => {
                self.state = State::Punching(Round::new(now));
                self.on_timeout(now, out);
            }
            State::Punching(round) if round.ends() <= now => self.miss(now, out),
            State::Punching(round) => self.go_on(now, round, out),
            State::Silent { until } if until <= now && self.setup.asks => {
                out.push(Action::Ask);
                self.state = State::Waiting {
                    until: Some(now + GO_WITHIN),
                };
            }
            State::Waiting { .. } | State::Armed { .. } | State::Silent { .. } | State::Direct => {}
        }
    }

    /// Sends what is due, and dials if it is time.
    fn go_on(&mut self, now: Instant, mut round: Round, out: &mut Vec<Action>) {
        if round.is_due(now) {
            let heard = round.heard.map(|(from, _)| from);
            let targets = heard
                .as_ref()
                .map_or(&self.setup.targets[..], std::slice::from_ref);
            out.extend(targets.iter().map(|&to| Action::Punch { to }));
            self.sent = Some(now);
            round.skip_to(now);
        }
        if let (Some(at), Some((to, _))) = (round.dials_at(), round.heard)
            && at <= now
        {
            round.dialled = true;
            out.push(Action::Dial { to });
        }
        self.state = State::Punching(round);
    }

    fn miss(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.stop_dial(out);
        out.push(Action::Missed);
        self.missed += 1;
        self.refused = 0;
        // A handshake that was stopped may have sent until now.
        self.sent = Some(now);
        if self.missed >= MAX_ROUNDS {
            self.missed = 0;
            self.fall_silent(now, PAUSE);
        } else {
            self.fall_silent(now, SILENCE);
        }
    }

    fn stop_dial(&self, out: &mut Vec<Action>) {
        if let State::Punching(Round { dialled: true, .. }) = self.state {
            out.push(Action::StopDial);
        }
    }

    /// Until so long after the last packet.
    fn fall_silent(&mut self, now: Instant, span: Duration) {
        let until = self.sent.map_or(now, |sent| (sent + span).max(now));
        self.state = State::Silent { until };
    }
}

#[cfg(test)]
mod matrix;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
