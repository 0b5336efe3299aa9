//! Relaying for others: what the accounts of [`Relay`](crate::nat::relay::Relay) decide, carried out.

use std::net::SocketAddr;

use kad_core::{Duration, NodeId};

use super::asking::ask;
use super::driver::{Driver, Heard};
use crate::nat::coordinator::Party;
use crate::nat::reachability::Role;
use crate::nat::relay::{self, Action, Event, SessionId};
use crate::quic::pool::InUse;
use crate::quic::relayed::is_fake;
use crate::wire::reach::{ReachAnswer, ReachRefusal, ReachRequest, SessionLimits};

/// How long an end of a session may take to say that it has heard: a round trip, and packets lost.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// What a relay says to a request.
pub(super) enum Granted {
    Reserved(Duration),
    Opened(SessionId),
    Refused(relay::Refusal),
}

impl Driver {
    pub(super) fn relays_for_others(&self) -> bool {
        let places = self.config.relay.as_ref().map_or(0, |relay| relay.reservations);
        places > 0 && self.role() == Role::Server
    }

    fn limits(&self) -> SessionLimits {
        SessionLimits::of(&self.config.relay.clone().unwrap_or_default())
    }

    pub(super) fn on_reserve(
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
        let Granted::Reserved(lifetime) = self.grant(link, peer, reserve)? else {
            return Err(ReachRefusal::Busy);
        };
        let limits = self.limits();
        Ok(ReachAnswer::Reserved { lifetime, limits })
    }

    pub(super) fn on_keep(
        &mut self,
        link: &InUse,
        peer: NodeId,
        seen: SocketAddr,
    ) -> Result<ReachAnswer, ReachRefusal> {
        if !self.relays_for_others() {
            // Sessions that run end by themselves.
            self.account(Event::Release { peer });
            return Err(ReachRefusal::NoReservation);
        }
        if !self.relay().is_some_and(|relay| relay.has_place(peer)) {
            return Err(ReachRefusal::NoReservation);
        }
        self.legs.insert(peer, link.clone());
        self.look_at_leg(peer);
        Ok(ReachAnswer::Kept { observed: seen })
    }

    pub(super) fn on_open(
        &mut self,
        link: &InUse,
        peer: NodeId,
        from: SocketAddr,
        to: NodeId,
    ) -> Result<ReachAnswer, ReachRefusal> {
        if !self.relays_for_others() {
            return Err(ReachRefusal::NoReservation);
        }
        let open = Event::Open {
            peer,
            leg: from,
            relayed: is_fake(from.ip()),
            to,
        };
        let Granted::Opened(session) = self.grant(link, peer, open)? else {
            return Err(ReachRefusal::Busy);
        };
        let Some(other) = self.legs.get(&to).cloned() else {
            // Its connection has just ended.
            self.close_session(session, to);
            return Err(ReachRefusal::NoReservation);
        };
        let other_at = other.link().whereabouts().at;
        let limits = self.limits();
        let incoming = ReachRequest::Incoming {
            session,
            from: peer,
            from_host: from.ip(),
            seen: other_at,
            limits,
        };
        let shared = self.shared.clone();
        let told = self.start(async move {
            match ask(&shared, &other, &incoming, HEARD_WITHIN).await {
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
            peer_host: other_at.ip(),
            seen: from,
            limits,
        })
    }

    pub(super) fn on_meet(&mut self, peer: NodeId, session: SessionId) -> Result<ReachAnswer, ReachRefusal> {
        let between = self.relay().and_then(|relay| relay.between(session));
        let other = match between {
            Some([one, other]) if one == peer => other,
            Some([other, one]) if one == peer => other,
            _ => return Err(ReachRefusal::NoSession),
        };
        let (Some(own), Some(others)) = (self.legs.get(&peer), self.legs.get(&other).cloned()) else {
            return Err(ReachRefusal::NoSession);
        };
        if !others.link().whereabouts().settled {
            return Err(ReachRefusal::Busy);
        }
        let party = |id, link: &InUse| Party {
            id,
            host: link.link().whereabouts().at.ip(),
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

    /// Peers with a place or a session whose connection has ended, or comes from somewhere else than before.
    pub(super) fn look_at_legs(&mut self) {
        let peers: Vec<NodeId> = self.legs.keys().copied().collect();
        for peer in peers {
            self.look_at_leg(peer);
        }
    }

    /// The same for one of them, if it has something here.
    pub(super) fn look_at_leg(&mut self, peer: NodeId) {
        let Some(link) = self.legs.get(&peer).cloned() else {
            return;
        };
        if link.link().connection.close_reason().is_none() {
            let whereabouts = link.link().whereabouts();
            self.account(Event::Moved {
                peer,
                leg: whereabouts.at,
            });
            if !whereabouts.settled {
                self.wait_for_leg(peer, link);
            }
            return;
        }
        drop(link);
        // It may have opened another connection in the meantime.
        match self.shared.pool.open(&peer) {
            Some(other) if other.link().connection.close_reason().is_none() => {
                let leg = other.link().whereabouts().at;
                self.legs.insert(peer, other);
                self.account(Event::Moved { peer, leg });
            }
            _ => {
                self.legs.remove(&peer);
                self.account(Event::Gone { peer });
            }
        }
    }

    /// Has the accounts judge what a peer asks for; its connection is kept if it gets that.
    fn grant(&mut self, link: &InUse, peer: NodeId, asked: Event) -> Result<Granted, ReachRefusal> {
        match self.account(asked) {
            Some(Granted::Refused(why)) => Err(of_relay(why)),
            Some(granted) => {
                self.legs.insert(peer, link.clone());
                Ok(granted)
            }
            // Nothing else was asked for than what has an answer.
            None => Err(ReachRefusal::Busy),
        }
    }

    /// A leg moves as soon as its peer has proven that it has.
    pub(super) fn wait_for_leg(&mut self, peer: NodeId, link: InUse) {
        if !self.legs.contains_key(&peer) || !self.unproven.insert(peer) {
            return;
        }
        let started = self.start(async move {
            link.link().settles().await;
            Heard::LegWaited { peer }
        });
        if !started {
            // It is looked at again in a second.
            self.unproven.remove(&peer);
        }
    }

    pub(super) fn on_leg_waited(&mut self, peer: NodeId) {
        self.unproven.remove(&peer);
        self.look_at_leg(peer);
    }

    /// Feeds the accounts of relaying, and tells both ends of sessions that are over.
    pub(super) fn account(&mut self, event: Event) -> Option<Granted> {
        let (now, mut out) = (self.now(), Vec::new());
        self.relay()?.handle(now, event, &mut out);
        let mut granted = None;
        for action in out {
            match action {
                Action::Reserved { lifetime, .. } => granted = Some(Granted::Reserved(lifetime)),
                Action::Refused { why, .. } => granted = Some(Granted::Refused(why)),
                Action::Opened { session, .. } => granted = Some(Granted::Opened(session)),
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
}

const fn of_relay(why: relay::Refusal) -> ReachRefusal {
    match why {
        relay::Refusal::Full => ReachRefusal::Full,
        relay::Refusal::Relayed => ReachRefusal::Relayed,
        relay::Refusal::NoReservation => ReachRefusal::NoReservation,
        relay::Refusal::Same => ReachRefusal::Same,
        relay::Refusal::TooOften => ReachRefusal::Busy,
    }
}
