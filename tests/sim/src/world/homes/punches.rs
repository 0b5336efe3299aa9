//! Punching: both ends of a meeting have a machine that tries to get a direct path, beside the relayed one.

use std::net::SocketAddr;

use kad_core::{Duration, Instant, NodeId};
use kad_net::nat::candidates::{Candidate, CandidateKind, Meeting as Encounter};
use kad_net::nat::coordinator::Party;
use kad_net::nat::model::PORT;
use kad_net::nat::punch::{Action, DIAL_RTT, Dialler, Event, Punch, Setup};

use super::meet::Errand;
use super::words::Word;
use super::{SCOPE, SOCKET, World};
use crate::nat::host;

/// A session that is not needed any more is closed when its streams have ended.
const DRAINING: Duration = Duration::from_secs(1);

/// One end's attempt to get a direct path.
pub(super) struct Attempt {
    machine: Punch,
    peer: u32,
    /// Where it sends first packets of a handshake to.
    pub(super) dialling: bool,
}

impl Attempt {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }
}

impl World {
    /// Where a node may be, as it tells one whom it talks to.
    fn candidates(&self, number: u32, own: SocketAddr) -> Vec<Candidate> {
        let home = &self.homes[number as usize];
        let of = |kind| move |address| Candidate { address, kind };
        let verified = home.reachability.reachable().map(of(CandidateKind::Verified));
        let mapped = home
            .front
            .forwarded
            .then(|| SocketAddr::from((host(number), PORT)));
        let mapped = mapped.into_iter().map(of(CandidateKind::Mapped));
        // Also where only the relay has seen it: that is its host at least, whatever the port.
        let observed = home.observations.candidates(SOCKET).iter().copied().chain([own]);
        verified
            .chain(mapped)
            .chain(observed.map(of(CandidateKind::Observed)))
            .collect()
    }

    /// One end knows where the other may be, and begins. Says whether there is any hope.
    pub(super) fn attempt(&mut self, at: u32, meeting: u32, asks: bool) -> bool {
        let [from, to] = self.ends(meeting);
        let (peer, this, that) = if asks { (to, 0, 1) } else { (from, 1, 0) };
        let told = &self.talks[meeting as usize].told;
        let (Some((peer_host, own)), Some((_, peer_own))) = (told[this], told[that]) else {
            return false;
        };
        let encounter = Encounter {
            scope: SCOPE,
            own_host: own.ip(),
            peer_host,
        };
        let ranked = encounter.rank(&self.candidates(peer, peer_own));
        let setup = Setup {
            local: self.nodes[at as usize].id,
            peer: self.nodes[peer as usize].id,
            asks,
            own_class: self.homes[at as usize].observations.class(SOCKET),
            peer_class: self.homes[peer as usize].observations.class(SOCKET),
            targets: encounter.targets(&ranked),
        };
        let Ok(machine) = Punch::new(setup, self.now) else {
            return false;
        };
        let attempt = Attempt {
            machine,
            peer,
            dialling: false,
        };
        // A request that came twice changes nothing.
        self.homes[at as usize].attempts.entry(meeting).or_insert(attempt);
        self.arm_home(at);
        true
    }

    pub(super) fn ask_to_meet(&mut self, at: u32, meeting: u32) {
        let attempts = &self.homes[at as usize].attempts;
        let (Some((relay, _)), Some(attempt)) =
            (self.talks[meeting as usize].session, attempts.get(&meeting))
        else {
            return;
        };
        let peer = self.nodes[attempt.peer as usize].id;
        self.post(at, relay, PORT, Word::Meet { meeting, peer });
    }

    /// The relay tells both when to begin.
    pub(super) fn on_meet(&mut self, from: u32, seen: SocketAddr, at: u32, meeting: u32, peer: NodeId) {
        let (Some(&leg), Some(&other)) = (self.homes[at as usize].legs.get(&peer), self.numbers.get(&peer))
        else {
            return;
        };
        let place = |number: u32| self.nodes[number as usize].place;
        let (relay, one, two) = (place(at), place(from), place(other));
        let rtts = [one, two].map(|end| 2 * self.one_way(relay, end));
        let party = |id, leg: SocketAddr, rtt| Party {
            id,
            host: leg.ip(),
            rtt,
        };
        let parties = [
            party(self.nodes[from as usize].id, seen, rtts[0]),
            party(peer, leg, rtts[1]),
        ];
        let home = &mut self.homes[at as usize];
        if let Ok(gos) = home.coordinator.introduce(self.now, parties[0], parties[1]) {
            for (go, leg) in gos.into_iter().zip([seen, leg]) {
                self.post_to(
                    at,
                    leg,
                    Word::Go {
                        meeting,
                        wait: go.wait,
                    },
                );
            }
        }
    }

    /// The answer to the first packet of a handshake: a direct path stands.
    pub(super) fn on_answer(&mut self, seen: SocketAddr, at: u32, meeting: u32) {
        match self.homes[at as usize].attempts.get_mut(&meeting) {
            Some(attempt) if attempt.dialling => {
                attempt.dialling = false;
                self.post_to(at, seen, Word::Finished { meeting });
                self.tell_attempt(at, meeting, Event::Connected { by: Dialler::Us });
            }
            Some(_) => {}
            None => {
                let it = &mut self.meetings[meeting as usize];
                let took = self.now.since(it.began);
                it.direct.get_or_insert(self.now);
                // A request takes as long as the handshake did.
                it.first_byte.get_or_insert(self.now + took);
            }
        }
    }

    pub(super) fn on_attempts(&mut self, number: u32) {
        let attempts = self.homes[number as usize].attempts.iter();
        let due = attempts.filter(|(_, attempt)| attempt.poll_timeout().is_some_and(|at| at <= self.now));
        for meeting in due.map(|(&meeting, _)| meeting).collect::<Vec<_>>() {
            self.tell_attempt(number, meeting, Event::Timeout);
        }
    }

    pub(super) fn tell_attempt(&mut self, number: u32, meeting: u32, event: Event) {
        let mut out = Vec::new();
        let Some(attempt) = self.homes[number as usize].attempts.get_mut(&meeting) else {
            return;
        };
        attempt.machine.handle(self.now, event, &mut out);
        let asks = self.ends(meeting)[0] == number;
        for action in out {
            match action {
                Action::Ask => self.ask_to_meet(number, meeting),
                Action::Punch { to } => self.post_to(number, to, Word::Punch { meeting }),
                Action::Dial { to } => {
                    self.set_dialling(number, meeting, true);
                    self.post_to(number, to, Word::Initial { meeting });
                    let (node, after) = (number, DIAL_RTT * 3);
                    self.later(meeting, after, Errand::Redial { node, to, after });
                }
                Action::StopDial => self.set_dialling(number, meeting, false),
                Action::Use { .. } if asks => {
                    self.meetings[meeting as usize].direct.get_or_insert(self.now);
                    self.later(meeting, DRAINING, Errand::HangUp);
                }
                Action::Missed if asks => self.meetings[meeting as usize].missed += 1,
                Action::Use { .. } | Action::Missed | Action::Retire { .. } | Action::FallBack => {}
            }
        }
        self.arm_home(number);
    }

    fn set_dialling(&mut self, number: u32, meeting: u32, dialling: bool) {
        if let Some(attempt) = self.homes[number as usize].attempts.get_mut(&meeting) {
            attempt.dialling = dialling;
        }
    }
}
