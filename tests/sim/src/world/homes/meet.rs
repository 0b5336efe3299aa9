//! Two nodes that are told to connect: over the address where the other is reached, else over a relay at once, and
//! beside that by punching.
//!
//! ```text
//!   asks ──OPEN──► relay ──► both have a session ──► a handshake and the first request through it ──► CANDIDATES known
//!                                                                                                     │
//!                  both ◄──GO── relay ◄──MEET── asks ◄─────────────── a machine at each end ◄─────────┘
//! ```

use std::net::{IpAddr, SocketAddr};

use kad_core::Duration;
use kad_net::nat::model::PORT;
use kad_net::nat::punch::{Dialler, Event};
use kad_net::nat::relay::{self, SessionId, Verdict};

use super::World;
use super::words::{Flight, Word};
use crate::nat::{Meeting, Role, host};
use crate::world::Arrival;

/// How long one who dials an address waits for it alone before relays are asked as well.
const ALONE: Duration = Duration::from_millis(500);

/// The first time that a datagram of a handshake waits for an answer; then twice as long, and so on.
const RESEND: Duration = Duration::from_millis(300);

/// The longest of these.
const RESEND_AT_MOST: Duration = Duration::from_secs(5);

/// What applications say while there is only the relay: so many datagrams, so long after one another.
const DATAGRAMS: u32 = 32;
const BETWEEN: Duration = Duration::from_millis(100);

/// Bytes of a full QUIC packet, and with the relay's header.
const FULL: u16 = 1_209;

/// When applications that got no direct path hang up: after three rounds of punches.
const HANG_UP: Duration = Duration::from_secs(150);

/// How far two are that talk through a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asking,
    Shaking,
    Requesting,
    Talking,
}

/// What the two of a meeting have between them.
pub(in crate::world) struct Talk {
    /// Relays that the card names, and how many of them were asked.
    relays: Vec<u32>,
    asked: usize,
    stage: Stage,
    pub(super) session: Option<(u32, SessionId)>,
    /// What the relay told each end: where the other one is seen, and where it is itself.
    pub(super) told: [Option<(IpAddr, SocketAddr)>; 2],
}

/// Something that one of them does later.
#[derive(Debug, Clone, Copy)]
pub(in crate::world) enum Errand {
    Impatient,
    Resend {
        asking: bool,
        after: Duration,
    },
    Redial {
        node: u32,
        to: SocketAddr,
        after: Duration,
    },
    Data {
        left: u32,
    },
    HangUp,
}

impl World {
    /// A node connects to another, whose card it has: where that is reached, and at which relays it has places. What
    /// comes of it stands in [`meetings`](Self::meetings) under the number that is returned.
    ///
    /// # Panics
    /// If one of them has not been [settled](Self::settle): a bug of the experiment.
    pub fn connect(&mut self, from: usize, to: usize) -> usize {
        let card = &self.homes[to];
        let relays = card
            .reservations
            .held()
            .filter_map(|id| self.numbers.get(&id).copied());
        let talk = Talk {
            relays: relays.collect(),
            asked: 0,
            stage: Stage::Asking,
            session: None,
            told: [None; 2],
        };
        let verified = card.reachability.reachable().next();
        let chosen = (self.role(to) == Role::Server).then(|| SocketAddr::from((host(to as u32), PORT)));
        let leg = self.homes[from].legs.get(&self.nodes[to].id).copied();
        let number = self.meetings.len();
        self.meetings.push(Meeting {
            from,
            to,
            began: self.now,
            first_byte: None,
            relayed: false,
            direct: None,
            refused: 0,
            missed: 0,
            round_trip: Duration::ZERO,
        });
        self.talks.push(talk);
        let meeting = number as u32;
        // Who has a place at the one that asks has a connection to it, and is called over the same way.
        if let Some(address) = verified.or(chosen).or(leg) {
            self.post_to(from as u32, address, Word::Initial { meeting });
            self.later(meeting, ALONE, Errand::Impatient);
        } else {
            self.ask_relay(meeting);
        }
        number
    }

    pub(super) fn later(&mut self, meeting: u32, after: Duration, errand: Errand) {
        self.queue
            .push(self.now + after, Arrival::Errand { meeting, errand });
    }

    pub(super) fn ends(&self, meeting: u32) -> [u32; 2] {
        let it = &self.meetings[meeting as usize];
        [it.from as u32, it.to as u32]
    }

    fn ask_relay(&mut self, meeting: u32) {
        let [from, to] = self.ends(meeting);
        let talk = &mut self.talks[meeting as usize];
        while let Some(&relay) = talk.relays.get(talk.asked) {
            talk.asked += 1;
            if relay != from {
                let to = self.nodes[to as usize].id;
                self.post(from, relay, PORT, Word::Open { meeting, to });
                self.later(meeting, 2 * ALONE, Errand::Impatient);
                return;
            }
        }
    }

    pub(in crate::world) fn on_errand(&mut self, meeting: u32, errand: Errand) {
        let [from, to] = self.ends(meeting);
        let stage = self.talks[meeting as usize].stage;
        match errand {
            Errand::Impatient => {
                let it = &mut self.meetings[meeting as usize];
                if it.direct.is_none() && stage == Stage::Asking {
                    // The first time nobody was asked, and nobody has failed to answer.
                    it.refused += u32::from(self.talks[meeting as usize].asked > 0);
                    self.ask_relay(meeting);
                }
            }
            Errand::Resend { asking, after } => {
                let flight = match (asking, stage) {
                    (false, Stage::Shaking) => Flight::Initial,
                    (true, Stage::Requesting) => Flight::Request,
                    _ => return,
                };
                self.send_flight(from, meeting, flight);
                if after < RESEND_AT_MOST {
                    let after = after * 2;
                    self.later(meeting, after, Errand::Resend { asking, after });
                }
            }
            Errand::Redial { node, to, after } => {
                let attempts = &self.homes[node as usize].attempts;
                if attempts.get(&meeting).is_some_and(|attempt| attempt.dialling) {
                    self.post_to(node, to, Word::Initial { meeting });
                    let after = after * 2;
                    self.later(meeting, after, Errand::Redial { node, to, after });
                }
            }
            Errand::Data { left } => {
                if self.meetings[meeting as usize].direct.is_none() && left > 0 {
                    self.send_flight(from, meeting, Flight::Data);
                    self.later(meeting, BETWEEN, Errand::Data { left: left - 1 });
                }
            }
            Errand::HangUp => {
                for end in [from, to] {
                    self.homes[end as usize].attempts.remove(&meeting);
                }
                if let Some((relay, session)) = self.talks[meeting as usize].session.take() {
                    self.post(from, relay, PORT, Word::Close { session });
                }
            }
        }
    }

    /// One end sends something to the other through the relay.
    fn send_flight(&mut self, from: u32, meeting: u32, flight: Flight) {
        let Some((relay, session)) = self.talks[meeting as usize].session else {
            return;
        };
        let word = Word::Relay {
            meeting,
            session,
            bytes: FULL,
            flight,
        };
        self.post(from, relay, PORT, word);
    }

    pub(super) fn on_meeting(&mut self, from: u32, seen: SocketAddr, to: u32, word: Word) {
        match word {
            Word::Open { meeting, to: peer } => {
                let open = relay::Event::Open {
                    peer: self.nodes[from as usize].id,
                    leg: seen,
                    relayed: false,
                    to: peer,
                };
                let serves = self.role(to as usize) == Role::Server;
                let actions = if serves {
                    self.tell_relay(to, open)
                } else {
                    Vec::new()
                };
                let opened = actions.into_iter().find_map(|action| match action {
                    relay::Action::Opened { session, .. } => Some(session),
                    _ => None,
                });
                let leg = self.homes[to as usize].legs.get(&peer).copied();
                let (Some(session), Some(leg)) = (opened, leg) else {
                    self.post(to, from, seen.port(), Word::NotOpened { meeting });
                    return;
                };
                self.homes[to as usize].served.sessions += 1;
                for (own, other, asks) in [(seen, leg, true), (leg, seen, false)] {
                    let opened = Word::Opened {
                        meeting,
                        session,
                        peer: other.ip(),
                        own,
                        asks,
                    };
                    self.post_to(to, own, opened);
                }
            }
            Word::Opened {
                meeting,
                session,
                peer,
                own,
                asks,
            } => {
                let talk = &mut self.talks[meeting as usize];
                if !asks {
                    talk.told[1] = Some((peer, own));
                } else if talk.stage == Stage::Asking {
                    talk.told[0] = Some((peer, own));
                    (talk.stage, talk.session) = (Stage::Shaking, Some((from, session)));
                    self.measure(meeting, from);
                    self.send_flight(to, meeting, Flight::Initial);
                    let (asking, after) = (false, RESEND);
                    self.later(meeting, after, Errand::Resend { asking, after });
                    self.later(meeting, HANG_UP, Errand::HangUp);
                } else {
                    self.post(to, from, PORT, Word::Close { session });
                }
            }
            Word::NotOpened { meeting } if self.talks[meeting as usize].stage == Stage::Asking => {
                self.meetings[meeting as usize].refused += 1;
                self.ask_relay(meeting);
            }
            Word::Close { session } => {
                let peer = self.nodes[from as usize].id;
                self.tell_relay(to, relay::Event::Close { session, peer });
            }
            Word::Relay {
                meeting,
                session,
                bytes,
                flight,
            } => {
                if self.ends(meeting).contains(&to) {
                    self.on_flight(to, meeting, flight);
                } else if let Verdict::Forward { to: other } =
                    self.homes[to as usize]
                        .relay
                        .forward(self.now, session, seen, bytes.into())
                {
                    self.post_to(to, other, word);
                }
            }
            Word::Meet { meeting, peer } => self.on_meet(from, seen, to, meeting, peer),
            Word::Go { meeting, wait } => self.tell_attempt(to, meeting, Event::Go { wait }),
            Word::Punch { meeting } => self.tell_attempt(to, meeting, Event::Heard { from: seen }),
            Word::Initial { meeting } => {
                self.tell_attempt(to, meeting, Event::Arriving);
                self.post_to(to, seen, Word::Answer { meeting });
            }
            Word::Answer { meeting } => self.on_answer(seen, to, meeting),
            Word::Finished { meeting } => {
                self.tell_attempt(to, meeting, Event::Connected { by: Dialler::Peer });
            }
            _ => {}
        }
    }

    /// How long it takes through a relay from one end to the other and back.
    fn measure(&mut self, meeting: u32, relay: u32) {
        let [from, to] = self.ends(meeting);
        let place = |number: u32| self.nodes[number as usize].place;
        let (from, relay, to) = (place(from), place(relay), place(to));
        let one_way = self.one_way(from, relay) + self.one_way(relay, to);
        self.meetings[meeting as usize].round_trip = 2 * one_way;
    }

    /// Something came through the relay.
    fn on_flight(&mut self, at: u32, meeting: u32, flight: Flight) {
        let stage = self.talks[meeting as usize].stage;
        match flight {
            Flight::Initial => self.send_flight(at, meeting, Flight::Answer),
            Flight::Answer if stage == Stage::Shaking => {
                self.talks[meeting as usize].stage = Stage::Requesting;
                self.send_flight(at, meeting, Flight::Request);
                let (asking, after) = (true, RESEND);
                self.later(meeting, after, Errand::Resend { asking, after });
            }
            Flight::Request => {
                self.send_flight(at, meeting, Flight::Reply);
                self.attempt(at, meeting, false);
            }
            Flight::Reply if stage == Stage::Requesting => {
                self.talks[meeting as usize].stage = Stage::Talking;
                let it = &mut self.meetings[meeting as usize];
                if it.first_byte.is_none() {
                    (it.first_byte, it.relayed) = (Some(self.now), true);
                }
                self.later(meeting, BETWEEN, Errand::Data { left: DATAGRAMS });
                if self.attempt(at, meeting, true) {
                    self.ask_to_meet(at, meeting);
                }
            }
            Flight::Answer | Flight::Reply | Flight::Data => {}
        }
    }
}
