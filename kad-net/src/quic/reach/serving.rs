//! What a node does for others who want to be reached.

use std::net::SocketAddr;

use kad_core::{Duration, NodeId};

use super::Knock;
use super::asking::{NotHeard, ask};
use super::driver::{Driver, Heard};
use super::sessions::{Arrival, Closing, Told, begin};
use crate::nat::coordinator::Party;
use crate::nat::dial_back::{self, Action as Help};
use crate::nat::reachability::Role;
use crate::nat::relay::{self, Action, Event, SessionId};
use crate::quic::address::canonical;
use crate::quic::mux::{Packet, Side};
use crate::quic::pool::InUse;
use crate::quic::relayed::is_fake;
use crate::wire::reach::{ReachAnswer, ReachRefusal, ReachRequest, SessionLimits};

/// How long a target may take to say that it probes, and an end of a session that it has heard: a round trip, and packets lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What a relay says to a request.
enum Granted {
    Reserved(Duration),
    Opened { session: SessionId, to: NodeId },
    Refused(relay::Refusal),
}

impl Driver {
    /// A request of a peer.
    pub(super) fn on_knock(&mut self, knock: Knock) {
        let request = match ReachRequest::decode(&knock.frame, self.config.scope) {
            Ok(request) => request,
            Err(error) => return self.refuse(knock, ReachRefusal::of_error(&error)),
        };
        let bytes = knock.frame.len();
        let peer = knock.link().link().peer;
        let from = canonical(knock.link().link().connection.remote_address());
        let serves = self.role() == Role::Server;
        let answer = match request {
            ReachRequest::Hello => Ok(ReachAnswer::Hello {
                observed: from,
                serves,
                relays: self.relays_for_others(),
            }),
            ReachRequest::Check { .. } | ReachRequest::DialBack { .. } if !serves => {
                Err(ReachRefusal::Unsupported)
            }
            ReachRequest::Check { address, nonce } => {
                let check = dial_back::Event::Check {
                    request: 0,
                    client: peer,
                    observed: from.ip(),
                    address,
                    nonce,
                    bytes,
                };
                match self.help(check) {
                    Some(Help::Pass { target, .. }) => {
                        return self.pass_on(knock, request, target, address, nonce);
                    }
                    Some(Help::Refuse { why, .. }) => Err(of_helper(why)),
                    _ => Err(ReachRefusal::Busy),
                }
            }
            ReachRequest::DialBack { address, nonce } => {
                let dial_back = dial_back::Event::DialBack {
                    request: 0,
                    helper: peer,
                    address,
                    nonce,
                    bytes,
                };
                match self.help(dial_back) {
                    Some(Help::Accept { .. }) => Ok(ReachAnswer::Done),
                    Some(Help::Refuse { why, .. }) => Err(of_helper(why)),
                    _ => Err(ReachRefusal::Busy),
                }
            }
            ReachRequest::Reserve => self.on_reserve(knock.link(), peer, from),
            ReachRequest::Keep => self.on_keep(knock.link(), peer, from),
            ReachRequest::Release => {
                self.account(Event::Release { peer });
                Ok(ReachAnswer::Done)
            }
            ReachRequest::Open { to } => self.on_open(knock.link(), peer, from, to),
            ReachRequest::Incoming { .. } => self.on_incoming(knock.link(), &request),
            ReachRequest::Close { session } => {
                if !self.reach_of().sessions.end(peer, session) {
                    self.close_session(session, peer);
                }
                Ok(ReachAnswer::Done)
            }
            ReachRequest::Meet { session } => self.on_meet(peer, session),
            ReachRequest::Go { session, wait } => {
                let relay = peer;
                let sessions = &self.reach_of().sessions;
                match sessions.has(relay, session) {
                    false => Err(ReachRefusal::NoSession),
                    true if sessions.arrive(Arrival::Go { relay, session, wait }) => Ok(ReachAnswer::Done),
                    true => Err(ReachRefusal::Busy),
                }
            }
            // Only end to end.
            ReachRequest::Candidates { .. } => Err(ReachRefusal::Unsupported),
        };
        match answer {
            Ok(answer) => self.answer(knock, &request, &answer),
            Err(why) => self.refuse(knock, why),
        }
    }

    /// Feeds the dial-backs. What is to be answered, if anything was asked.
    pub(super) fn help(&mut self, event: dial_back::Event) -> Option<Help> {
        let mut out = Vec::new();
        self.dial_back.handle(self.now(), event, &mut out);
        self.probe(&out);
        let answers = |action: &Help| !matches!(action, Help::Probe { .. });
        out.into_iter().find(answers)
    }

    /// Sends the probes among these.
    pub(super) fn probe(&self, actions: &[Help]) {
        for action in actions {
            if let &Help::Probe { to, nonce } = action {
                self.shared.mux.send(to, Packet::Probe { nonce });
            }
        }
    }

    /// Asks the target, and tells the client whether it probes.
    fn pass_on(
        &mut self,
        knock: Knock,
        request: ReachRequest,
        target: NodeId,
        address: SocketAddr,
        nonce: [u8; 16],
    ) {
        let Some(link) = self.shared.pool.open(&target) else {
            return self.refuse(knock, ReachRefusal::NoTarget);
        };
        let shared = self.shared.clone();
        // Without room for it the client is told that we are busy, as the reply is dropped.
        self.start(async move {
            let dial_back = ReachRequest::DialBack { address, nonce };
            let answer = match ask(&shared, &link, &dial_back, ANSWER_WITHIN).await {
                Ok(ReachAnswer::Done) => ReachAnswer::Done,
                Err(NotHeard::Refused(ReachRefusal::Busy)) => ReachAnswer::Refused(ReachRefusal::Busy),
                _ => ReachAnswer::Refused(ReachRefusal::NoTarget),
            };
            if let Ok(frame) = answer.encode(&request) {
                crate::Reply::send(knock.reply, frame).await;
            }
            Heard::Nothing
        });
    }

    fn relays_for_others(&self) -> bool {
        let places = self.config.relay.as_ref().map_or(0, |relay| relay.reservations);
        places > 0 && self.role() == Role::Server
    }

    fn limits(&self) -> SessionLimits {
        SessionLimits::of(&self.config.relay.clone().unwrap_or_default())
    }

    fn on_reserve(
        &mut self,
        link: &InUse,
        peer: NodeId,
        from: SocketAddr,
    ) -> Result<ReachAnswer, ReachRefusal> {
        if !self.relays_for_others() {
            return Err(ReachRefusal::Unsupported);
        }
        let reserve = Event::Reserve {
            peer,
            leg: from,
            relayed: is_fake(from.ip()),
        };
        match self.account(reserve) {
            Some(Granted::Reserved(lifetime)) => {
                self.legs.insert(peer, link.clone());
                let limits = self.limits();
                Ok(ReachAnswer::Reserved { lifetime, limits })
            }
            Some(Granted::Refused(why)) => Err(of_relay(why)),
            _ => Err(ReachRefusal::Busy),
        }
    }

    fn on_keep(&mut self, link: &InUse, peer: NodeId, from: SocketAddr) -> Result<ReachAnswer, ReachRefusal> {
        if !self.relay().is_some_and(|relay| relay.has_place(peer)) {
            return Err(ReachRefusal::NoReservation);
        }
        self.account(Event::Moved { peer, leg: from });
        self.legs.insert(peer, link.clone());
        Ok(ReachAnswer::Kept { observed: from })
    }

    fn on_open(
        &mut self,
        link: &InUse,
        peer: NodeId,
        from: SocketAddr,
        to: NodeId,
    ) -> Result<ReachAnswer, ReachRefusal> {
        let open = Event::Open {
            peer,
            leg: from,
            relayed: is_fake(from.ip()),
            to,
        };
        let session = match self.account(open) {
            Some(Granted::Opened { session, .. }) => session,
            Some(Granted::Refused(why)) => return Err(of_relay(why)),
            _ => return Err(ReachRefusal::Unsupported),
        };
        self.legs.insert(peer, link.clone());
        let Some(other) = self.legs.get(&to).cloned() else {
            // Its connection has just ended.
            self.close_session(session, to);
            return Err(ReachRefusal::NoReservation);
        };
        let to_host = canonical(other.link().connection.remote_address()).ip();
        let (limits, from_host) = (self.limits(), from.ip());
        let incoming = ReachRequest::Incoming {
            session,
            from: peer,
            from_host,
            own_host: to_host,
            limits,
        };
        let shared = self.shared.clone();
        let told = self.start(async move {
            match ask(&shared, &other, &incoming, ANSWER_WITHIN).await {
                Ok(ReachAnswer::Done) => Heard::Nothing,
                _ => Heard::Declined { session, by: to },
            }
        });
        if !told {
            self.close_session(session, peer);
            return Err(ReachRefusal::Busy);
        }
        Ok(ReachAnswer::Opened {
            session,
            peer_host: to_host,
            own_host: from_host,
            limits,
        })
    }

    /// A relay says that somebody talks to this node.
    fn on_incoming(&self, link: &InUse, request: &ReachRequest) -> Result<ReachAnswer, ReachRefusal> {
        let &ReachRequest::Incoming {
            session,
            from,
            from_host,
            own_host,
            limits,
        } = request
        else {
            return Err(ReachRefusal::Unsupported);
        };
        if !self.places.contains_key(&link.link().peer) {
            return Err(ReachRefusal::NoReservation);
        }
        let told = Told {
            session,
            peer: from,
            side: Side::Answerer,
            peer_host: from_host,
            own_host,
            limits,
        };
        let opened = begin(&self.shared, link, &told).ok_or(ReachRefusal::Full)?;
        match self.reach_of().sessions.arrive(Arrival::Session(opened)) {
            true => Ok(ReachAnswer::Done),
            false => Err(ReachRefusal::Busy),
        }
    }

    fn on_meet(&mut self, peer: NodeId, session: SessionId) -> Result<ReachAnswer, ReachRefusal> {
        let between = self.relay().and_then(|relay| relay.between(session));
        let other = match between {
            Some([one, other]) if one == peer => other,
            Some([other, one]) if one == peer => other,
            _ => return Err(ReachRefusal::NoSession),
        };
        let (Some(own), Some(others)) = (self.legs.get(&peer), self.legs.get(&other).cloned()) else {
            return Err(ReachRefusal::NoSession);
        };
        let party = |id, link: &InUse| Party {
            id,
            host: link.link().connection.remote_address().ip(),
            rtt: link.link().connection.rtt(),
        };
        let (one, two) = (party(peer, own), party(other, &others));
        let now = self.now();
        let gos = self
            .coordinator
            .introduce(now, one, two)
            .map_err(|why| match why {
                crate::nat::coordinator::NoMeeting::Same => ReachRefusal::Same,
                _ => ReachRefusal::Busy,
            })?;
        let [own, theirs] = gos.map(|go| go.wait);
        self.tell_later(
            others,
            ReachRequest::Go {
                session,
                wait: theirs,
            },
        );
        Ok(ReachAnswer::Meet { wait: own })
    }

    /// Sessions whose time, or whose bytes, are over.
    pub(super) fn expire_sessions(&mut self) {
        self.account(Event::Timeout);
    }

    /// One end of a session does not want it any more.
    pub(super) fn close_session(&mut self, session: SessionId, peer: NodeId) {
        self.account(Event::Close { session, peer });
    }

    /// A session of this node was given up.
    pub(super) fn on_closing(&self, closing: Closing) {
        let Closing { link, session } = closing;
        self.tell_later(link, ReachRequest::Close { session });
    }

    /// Peers with a place or a session whose connection has ended, or comes from somewhere else than before.
    pub(super) fn look_at_legs(&mut self) {
        let legs: Vec<(NodeId, InUse)> = self.legs.iter().map(|(id, link)| (*id, link.clone())).collect();
        for (peer, link) in legs {
            if link.link().connection.close_reason().is_none() {
                let leg = canonical(link.link().connection.remote_address());
                self.account(Event::Moved { peer, leg });
                continue;
            }
            drop(link);
            // It may have opened another connection in the meantime.
            match self.shared.pool.open(&peer) {
                Some(other) if other.link().connection.close_reason().is_none() => {
                    let leg = canonical(other.link().connection.remote_address());
                    self.legs.insert(peer, other);
                    self.account(Event::Moved { peer, leg });
                }
                _ => {
                    self.legs.remove(&peer);
                    self.account(Event::Gone { peer });
                }
            }
        }
    }

    /// Feeds the accounts of relaying, and tells both ends of sessions that are over.
    fn account(&mut self, event: Event) -> Option<Granted> {
        let (now, mut out) = (self.now(), Vec::new());
        self.relay()?.handle(now, event, &mut out);
        let mut granted = None;
        for action in out {
            match action {
                Action::Reserved { lifetime, .. } => granted = Some(Granted::Reserved(lifetime)),
                Action::Refused { why, .. } => granted = Some(Granted::Refused(why)),
                Action::Opened { session, to, .. } => granted = Some(Granted::Opened { session, to }),
                Action::Closed { session, between, .. } => {
                    // Who said so knows.
                    let knows = |id: NodeId| matches!(event, Event::Close { peer, .. } | Event::Gone { peer } if peer == id);
                    for end in between.into_iter().filter(|end| !knows(*end)) {
                        if let Some(link) = self.legs.get(&end).cloned() {
                            self.tell_later(link, ReachRequest::Close { session });
                        }
                    }
                }
            }
        }
        self.drop_legs();
        granted
    }

    /// Connections are kept for those who have something here, and for nobody else.
    fn drop_legs(&mut self) {
        let mut legs = std::mem::take(&mut self.legs);
        if let Some(relay) = self.relay() {
            legs.retain(|peer, _| relay.knows(*peer));
        }
        self.legs = legs;
    }

    fn answer(&self, knock: Knock, asked: &ReachRequest, answer: &ReachAnswer) {
        if let Ok(frame) = answer.encode(asked) {
            self.send(knock, frame);
        }
    }

    fn refuse(&self, knock: Knock, why: ReachRefusal) {
        if let Ok(frame) = ReachAnswer::refusal(why) {
            self.send(knock, frame);
        }
    }

    /// On a task of its own, as the peer may be slow to read. There are no more of them than requests are admitted.
    fn send(&self, knock: Knock, frame: bytes::Bytes) {
        let alive = self.alive.clone();
        tokio::spawn(async move {
            crate::Reply::send(knock.reply, frame).await;
            drop(alive);
        });
    }
}

const fn of_helper(why: dial_back::Refusal) -> ReachRefusal {
    match why {
        dial_back::Refusal::TooSmall => ReachRefusal::TooSmall,
        dial_back::Refusal::BadAddress => ReachRefusal::BadAddress,
        dial_back::Refusal::Busy => ReachRefusal::Busy,
        dial_back::Refusal::NoTarget => ReachRefusal::NoTarget,
    }
}

const fn of_relay(why: relay::Refusal) -> ReachRefusal {
    match why {
        relay::Refusal::Full => ReachRefusal::Full,
        relay::Refusal::Relayed => ReachRefusal::Relayed,
        relay::Refusal::NoReservation => ReachRefusal::NoReservation,
        relay::Refusal::Same => ReachRefusal::Same,
    }
}
