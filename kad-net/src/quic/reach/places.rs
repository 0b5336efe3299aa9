//! Places at relays, of a node that cannot be dialled: asked for, kept, given up.

use std::net::SocketAddr;

use kad_core::{Contact, Duration, Instant, NodeId};

use super::asking::{NotHeard, ask};
use super::driver::{Driver, Heard};
use crate::nat::reservations;
use crate::quic::connect;
use crate::quic::pool::InUse;
use crate::wire::reach::{ReachAnswer, ReachRefusal, ReachRequest};

/// A relay may take so long to say that it has us: some round trips.
const KEPT_WITHIN: Duration = Duration::from_secs(5);

/// Of one that was silent, or of which something was lost: so many in a row, and it is gone.
const MAX_MISSED: u32 = 2;

/// A dial and an answer; a little less than the reservations wait.
const RESERVED_WITHIN: Duration = Duration::from_secs(9);

/// A place at a relay.
pub(super) struct Place {
    /// Keeps the connection from being closed as unused.
    pub(super) link: InUse,
    /// When the relay is to be told that we are still here.
    pub(super) keep_at: Instant,
    /// It was told, and has not answered yet.
    asking: bool,
    missed: u32,
}

impl Driver {
    /// Feeds the reservations.
    pub(super) fn reserve(&mut self, event: reservations::Event) {
        let (now, mut out) = (self.now(), Vec::new());
        self.reservations.handle(now, event, &mut out);
        for action in out {
            match action {
                reservations::Action::Reserve { relay } => self.ask_for_place(relay),
                reservations::Action::Release { relay } => {
                    if let Some(place) = self.places.remove(&relay) {
                        self.tell_later(place.link, ReachRequest::Release);
                    }
                }
                reservations::Action::Changed => {
                    let held: Vec<NodeId> = self.reservations.held().collect();
                    tracing::debug!(
                        relays = held.len(),
                        "the relays of this node are others than before"
                    );
                }
            }
        }
    }

    /// When the next relay is to be told that we are still here.
    pub(super) fn next_keep(&self) -> Option<Instant> {
        let waiting = self.places.values().filter(|place| !place.asking);
        waiting.map(|place| place.keep_at).min()
    }

    pub(super) fn keep_places(&mut self, now: Instant) {
        let mut due = Vec::new();
        for (&relay, place) in &mut self.places {
            if !place.asking && place.keep_at <= now {
                place.asking = true;
                due.push((relay, place.link.clone()));
            }
        }
        for (relay, link) in due {
            let shared = self.shared.clone();
            let started = self.start(async move {
                let answer = match ask(&shared, &link, &ReachRequest::Keep, KEPT_WITHIN).await {
                    Ok(ReachAnswer::Kept { observed }) => Ok(observed),
                    Ok(_) => Err(NotHeard::Nothing),
                    Err(why) => Err(why),
                };
                Heard::Kept { relay, answer }
            });
            if let (false, Some(place)) = (started, self.places.get_mut(&relay)) {
                (place.asking, place.keep_at) = (false, now + self.config.keep);
            }
        }
    }

    /// Says a word to the relays of running sessions at which this node has no place: without any, their connections
    /// would end as unused after some minutes, and the sessions with them.
    pub(super) fn keep_sessions(&mut self, now: Instant) {
        if now < self.keep_sessions_at {
            return;
        }
        self.keep_sessions_at = now + self.config.keep;
        for (relay, link) in self.reach_of().sessions.links() {
            if !self.places.contains_key(&relay) {
                self.tell_later(link.in_use(), ReachRequest::Hello);
            }
        }
    }

    pub(super) fn on_kept(&mut self, relay: NodeId, answer: Result<SocketAddr, NotHeard>) {
        let now = self.now();
        let Some(place) = self.places.get_mut(&relay) else {
            return;
        };
        place.asking = false;
        match answer {
            Ok(observed) => {
                (place.missed, place.keep_at) = (0, now + self.config.keep);
                let from = place.link.link().whereabouts().at.ip();
                self.vote(from, observed);
            }
            Err(NotHeard::Nothing) => {
                place.missed += 1;
                // At once again: what was lost may have been one packet.
                place.keep_at = now;
                if place.missed >= MAX_MISSED {
                    self.lose_place(relay);
                }
            }
            // It has heard us all the same.
            Err(NotHeard::Refused(ReachRefusal::Busy)) => {
                (place.missed, place.keep_at) = (0, now + self.config.keep);
            }
            // It has forgotten us.
            Err(NotHeard::Refused(_)) => self.lose_place(relay),
        }
    }

    pub(super) fn on_reserved(&mut self, relay: NodeId, answer: Result<(InUse, Duration), NotHeard>) {
        match answer {
            Ok((link, lifetime)) => {
                let place = Place {
                    link,
                    keep_at: self.now() + self.config.keep,
                    asking: false,
                    missed: 0,
                };
                self.places.insert(relay, place);
                self.reserve(reservations::Event::Granted { relay, lifetime });
            }
            Err(NotHeard::Refused(ReachRefusal::Busy)) => self.reserve(reservations::Event::Busy { relay }),
            Err(_) => self.reserve(reservations::Event::Refused { relay }),
        }
        // Of one that came too late, or was not renewed, nothing is kept.
        let held: Vec<NodeId> = self.reservations.held().collect();
        self.places.retain(|id, _| held.contains(id));
    }

    /// Places whose connection has ended.
    pub(super) fn look_at_places(&mut self) {
        let over = |place: &Place| place.link.link().connection.close_reason().is_some();
        let ended = self.places.iter().filter(|(_, place)| over(place));
        let ended: Vec<NodeId> = ended.map(|(relay, _)| *relay).collect();
        for relay in ended {
            self.lose_place(relay);
        }
    }

    fn ask_for_place(&mut self, relay: NodeId) {
        let address = self.relays.at(relay).cloned();
        let shared = self.shared.clone();
        let asking = async move {
            let to = Contact::new(relay, address.ok_or(NotHeard::Nothing)?);
            let link = connect::link_at(&shared, &to)
                .await
                .map_err(|_| NotHeard::Nothing)?;
            match ask(&shared, &link, &ReachRequest::Reserve, RESERVED_WITHIN).await? {
                ReachAnswer::Reserved { lifetime, .. } => Ok((link, lifetime)),
                _ => Err(NotHeard::Nothing),
            }
        };
        self.start(async move {
            let answer = tokio::time::timeout(RESERVED_WITHIN, asking).await;
            let answer = answer.unwrap_or(Err(NotHeard::Nothing));
            Heard::Reserved { relay, answer }
        });
    }

    /// The relay does not forward to us any more. It has to say hello again before it is asked again.
    fn lose_place(&mut self, relay: NodeId) {
        if let Some(place) = self.places.remove(&relay) {
            tracing::debug!(%relay, "the place at this relay is lost");
            // A connection on which nothing comes back is not to be used for anything else either.
            if place.missed >= MAX_MISSED {
                self.shared.pool.discard(place.link.link());
            }
        }
        self.relays.forget(relay);
        self.reserve(reservations::Event::RelayGone { relay });
    }

    /// Says something to a peer that owes no answer worth waiting for.
    pub(super) fn tell_later(&self, link: InUse, request: ReachRequest) {
        let shared = self.shared.clone();
        self.start(async move {
            // What the peer says does not matter, and neither does whether it says anything.
            let _ = ask(&shared, &link, &request, KEPT_WITHIN).await;
            Heard::Nothing
        });
    }
}
