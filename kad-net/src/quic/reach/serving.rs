//! What a node does for others who want to be reached.

use std::net::SocketAddr;

use kad_core::{Duration, NodeId};

use super::Knock;
use super::asking::{NotHeard, ask};
use super::driver::{Driver, Heard};
use super::sessions::{Arrival, Closing, Told, begin};
use crate::nat::dial_back::{self, Action as Help};
use crate::nat::reachability::Role;
use crate::nat::relay::Event;
use crate::quic::address::canonical;
use crate::quic::mux::{Packet, Side};
use crate::quic::pool::InUse;
use crate::wire::reach::{ReachAnswer, ReachRefusal, ReachRequest};

/// How long a target may take to say that it probes, and an end of a session that it has heard: a round trip, and
/// packets lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Requests of peers that have yet to prove where they are: a quarter of what may be under way, as those who prove
/// nothing keep their places for seconds. Full: refused as busy.
const MAX_UNPROVEN: usize = 128;

impl Driver {
    /// A request of a peer. One because of which others would be sent something waits until the peer has proven where
    /// it is.
    pub(super) fn on_knock(&mut self, knock: Knock) {
        let request = match ReachRequest::decode(&knock.frame, self.config.scope) {
            Ok(request) => request,
            Err(error) => return self.refuse(knock, ReachRefusal::of_error(&error)),
        };
        let link = knock.link();
        let settled = link.link().whereabouts().settled;
        if !settled {
            self.wait_for_leg(link.link().peer, link.clone());
        }
        if settled || !reaches_others(&request) {
            return self.on_request(knock, request);
        }
        if self.waiting >= MAX_UNPROVEN {
            return self.refuse(knock, ReachRefusal::Busy);
        }
        // Without room for it the client is told that we are busy, as the reply is dropped.
        let started = self.start(async move {
            knock.link().link().settles().await;
            Heard::Waited { knock, request }
        });
        self.waiting += usize::from(started);
    }

    /// The time is over in which a peer was to prove where it is. One that was led astray once more has to ask again.
    pub(super) fn on_waited(&mut self, knock: Knock, request: ReachRequest) {
        self.waiting -= 1;
        self.look_at_leg(knock.link().link().peer);
        match knock.link().link().whereabouts().settled {
            true => self.on_request(knock, request),
            false => self.refuse(knock, ReachRefusal::Busy),
        }
    }

    fn on_request(&mut self, knock: Knock, request: ReachRequest) {
        let bytes = knock.frame.len();
        let peer = knock.link().link().peer;
        // Where its packets come from, which only it is told; what others are told or sent has to be about the other
        // one.
        let seen = canonical(knock.link().link().connection.remote_address());
        let from = knock.link().link().whereabouts().at;
        let serves = self.role() == Role::Server;
        let answer = match request {
            ReachRequest::Hello => Ok(ReachAnswer::Hello {
                observed: seen,
                serves,
                relays: self.relays_for_others(),
                also: serves.then(|| self.other_way_in(from)).flatten(),
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
            ReachRequest::Keep => self.on_keep(knock.link(), peer, seen),
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
            let (answer, heard) = match ask(&shared, &link, &dial_back, ANSWER_WITHIN).await {
                Ok(ReachAnswer::Done) => (ReachAnswer::Done, Heard::Nothing),
                Err(NotHeard::Refused(ReachRefusal::Busy)) => {
                    (ReachAnswer::Refused(ReachRefusal::Busy), Heard::Nothing)
                }
                // Nobody else is to ask it in vain.
                _ => (
                    ReachAnswer::Refused(ReachRefusal::NoTarget),
                    Heard::NotProbed { target },
                ),
            };
            if let Ok(frame) = answer.encode(&request) {
                crate::Reply::send(knock.reply, frame).await;
            }
            heard
        });
    }

    /// A relay says that somebody talks to this node.
    fn on_incoming(&self, link: &InUse, request: &ReachRequest) -> Result<ReachAnswer, ReachRefusal> {
        let &ReachRequest::Incoming {
            session,
            from,
            from_host,
            seen,
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
            seen,
            limits,
        };
        let opened = begin(&self.shared, link, &told).ok_or(ReachRefusal::Full)?;
        match self.reach_of().sessions.arrive(Arrival::Session(opened)) {
            true => Ok(ReachAnswer::Done),
            false => Err(ReachRefusal::Busy),
        }
    }

    /// A session of this node was given up.
    pub(super) fn on_closing(&self, closing: Closing) {
        let Closing { link, session } = closing;
        self.tell_later(link, ReachRequest::Close { session });
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

/// Whether others are told, or sent, something because of where the one who asks is.
const fn reaches_others(request: &ReachRequest) -> bool {
    match request {
        ReachRequest::Check { .. }
        | ReachRequest::Reserve
        | ReachRequest::Open { .. }
        | ReachRequest::Meet { .. } => true,
        ReachRequest::Hello
        | ReachRequest::DialBack { .. }
        | ReachRequest::Keep
        | ReachRequest::Release
        | ReachRequest::Incoming { .. }
        | ReachRequest::Close { .. }
        | ReachRequest::Go { .. }
        | ReachRequest::Candidates { .. } => false,
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
