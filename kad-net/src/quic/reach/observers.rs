//! Servers that say where they see this node, and what they do for others.
//!
//! They are asked on demand: while too few have voted lately, or too few are known who could help. Only those are asked
//! to whom this node has a connection anyway, and which it has opened itself: who calls us may be anybody. They are
//! looked for once a second, and at once while nothing is known of whether strangers reach this node. A node at
//! rest so asks eight servers in ten minutes. A server behind a NAT asks one of them every quarter of a minute, as
//! otherwise the NAT could forget it.
//!
//! A server has to know others who probe for those that join, also in a network at rest, and the first node of a
//! network, to which all come, has dialled hardly anybody. So it says hello again to those that it knows before their
//! connections end unused, and with too few of them it asks callers as well; those it has probe, and believes
//! nothing that they say of this node.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kad_core::{Duration, Instant, NodeId};

use super::asking::{NotHeard, ask};
use super::driver::{Driver, Heard};
use crate::nat::dial_back;
use crate::nat::observation::{self, Family};
use crate::nat::reachability::{self, Role};
use crate::quic::address::canonical;
use crate::quic::pool::Link;
use crate::wire::reach::{ReachAnswer, ReachRefusal, ReachRequest};

/// Peers that were asked; as many as may be asked to probe for others. Full: a caller makes room for somebody who was
/// dialled; else nobody is asked until one of them is gone.
const MAX_OBSERVERS: usize = 64;

/// Votes, and servers that could help, of one family that are enough: twice what a class and a proof take.
const ENOUGH: usize = 8;

/// Peers that are asked at a time, and so in a second.
pub(super) const ASKED_AT_ONCE: usize = 3;

/// How long what a peer said is fresh.
const FRESH: Duration = Duration::from_secs(600);

/// A peer that said nothing is asked again after so long: its answer may have been lost.
const AGAIN: Duration = Duration::from_secs(20);

/// How long a peer may take to say hello: a round trip, with packets lost on the way.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// A helper asks another node before it answers, within its own deadline.
const CHECK_WITHIN: Duration = Duration::from_secs(9);

/// One peer that was asked.
struct Observer {
    link: Arc<Link>,
    ip: IpAddr,
    /// When it may be asked again.
    again: Instant,
    /// When its connection is about to end unused.
    wake_at: Instant,
    serves: bool,
}

/// Those that were asked.
#[derive(Default)]
pub(super) struct Observers {
    asked: BTreeMap<NodeId, Observer>,
    /// When the NAT is to see something again.
    remind_at: Instant,
}

impl Observers {
    /// Everybody says again where they see us.
    pub(super) fn ask_again(&mut self) {
        for observer in self.asked.values_mut() {
            observer.again = Instant::ZERO;
        }
    }

    /// Takes out those whose connection has ended.
    pub(super) fn ended(&mut self) -> Vec<(NodeId, IpAddr)> {
        let over = |observer: &Observer| observer.link.connection.close_reason().is_some();
        let ended = self.asked.extract_if(.., |_, observer| over(observer));
        ended.map(|(id, observer)| (id, observer.ip)).collect()
    }

    /// How many serve.
    pub(super) fn serving(&self) -> usize {
        self.asked.values().filter(|observer| observer.serves).count()
    }

    /// Whether fewer serve than could be of use.
    pub(super) fn are_few(&self) -> bool {
        self.serving() < ENOUGH
    }

    /// Some server that was dialled, with a connection that stands.
    fn any(&self) -> Option<(Arc<Link>, IpAddr)> {
        let stands =
            |observer: &&Observer| observer.link.dialled && observer.link.connection.close_reason().is_none();
        let observer = self
            .asked
            .values()
            .filter(stands)
            .find(|observer| observer.serves)?;
        Some((observer.link.clone(), observer.ip))
    }

    /// How many of a family serve that this node has dialled.
    fn serving_of(&self, family: Family) -> usize {
        let fits = |observer: &&Observer| {
            observer.serves && observer.link.dialled && Family::of(observer.ip) == family
        };
        self.asked.values().filter(fits).count()
    }

    /// Servers whose connections would end soon, as nobody has used them.
    fn sleepy(&self, now: Instant) -> Vec<(Arc<Link>, IpAddr)> {
        let fits = |observer: &&Observer| observer.serves && observer.wake_at <= now;
        let sleepy = self.asked.values().filter(fits);
        sleepy
            .map(|observer| (observer.link.clone(), observer.ip))
            .collect()
    }

    /// A full list forgets a caller for somebody who was dialled, one that does not serve first: callers may be
    /// anybody, and are not to be all that there is. Returns whom.
    fn make_room(&mut self, newcomer: &NodeId) -> Option<NodeId> {
        if self.asked.len() < MAX_OBSERVERS || self.asked.contains_key(newcomer) {
            return None;
        }
        let callers = self.asked.iter().filter(|(_, observer)| !observer.link.dialled);
        let gone = callers.min_by_key(|(_, observer)| observer.serves);
        let gone = gone.map(|(id, _)| *id)?;
        self.asked.remove(&gone);
        Some(gone)
    }

    /// Whether this peer was asked, and its connection stands.
    pub(super) fn knows(&self, id: &NodeId) -> bool {
        self.asked.contains_key(id)
    }

    /// Whether this connection was asked lately.
    fn was_asked(&self, now: Instant, link: &Arc<Link>) -> bool {
        let asked = self.asked.get(&link.peer);
        asked.is_some_and(|observer| now < observer.again && Arc::ptr_eq(&observer.link, link))
    }
}

impl Driver {
    /// Asks a few that were not asked yet, if more are needed.
    pub(super) fn greet(&mut self, now: Instant) {
        let mut chosen = Vec::new();
        let lacking = self.lacking();
        let without_relay =
            [Family::V4, Family::V6].map(|family| self.lacks_relay(now, family).then_some(family));
        for link in self.shared.pool.links() {
            let ip = link.whereabouts().at.ip();
            let family = Family::of(ip);
            let elsewhere = || {
                let (reached, other) = (&self.shared.reached, family.other());
                let unknown = lacking.contains(&other) && reached.place(now, &link.peer, other).is_none();
                unknown || without_relay.contains(&Some(other))
            };
            let wanted = match link.dialled {
                true => elsewhere() || self.needs(now, family),
                false => self.role() == Role::Server && self.observers.serving_of(family) < ENOUGH,
            };
            if wanted && !self.observers.was_asked(now, &link) {
                let voted = self.observations.has_vote_of(now, ip, FRESH);
                chosen.push((!link.dialled, voted, link, ip));
            }
        }
        // Callers last, and other households first; among them in whatever order the pool has them.
        chosen.sort_by_key(|(called, voted, ..)| (*called, *voted));
        for (.., link, ip) in chosen.into_iter().take(ASKED_AT_ONCE) {
            if link.dialled
                && let Some(gone) = self.observers.make_room(&link.peer)
            {
                self.no_helper(gone);
            }
            self.greet_one(now, link, ip);
        }
    }

    /// A server keeps those that it could ask to probe for others: whoever joins a network at rest needs them.
    pub(super) fn stay_in_touch(&mut self, now: Instant) {
        if self.role() != Role::Server {
            return;
        }
        for (link, ip) in self.observers.sleepy(now) {
            self.greet_one(now, link, ip);
        }
    }

    /// A server that strangers reach through a NAT, at an address that is not its own, is reached for as long as the
    /// NAT keeps that address; who only asks says to its relays that it is there.
    pub(super) fn remind_nat(&mut self, now: Instant) {
        let own = self.own_addresses();
        let behind = self
            .reachability
            .reachable()
            .any(|address| !own.contains(&address));
        if !behind || !self.places.is_empty() || now < self.observers.remind_at {
            return;
        }
        self.observers.remind_at = now + self.config.keep;
        if let Some((link, ip)) = self.observers.any() {
            self.greet_one(now, link, ip);
        }
    }

    /// Whether there are too few of this family who have said something, or who could.
    fn needs(&self, now: Instant, family: Family) -> bool {
        let few_places = self.reservations.is_short();
        few_places
            || self.observations.votes_within(now, family, FRESH) < ENOUGH
            || self.observers.serving_of(family) < ENOUGH
    }

    fn greet_one(&mut self, now: Instant, link: Arc<Link>, ip: IpAddr) {
        let known = self.observers.asked.get(&link.peer);
        if known.is_none() && self.observers.asked.len() >= MAX_OBSERVERS {
            return;
        }
        let observer = Observer {
            link: link.clone(),
            ip,
            again: now + FRESH,
            wake_at: now + self.shared.limits.idle_timeout / 4 * 3,
            serves: known.is_some_and(|observer| observer.serves),
        };
        self.observers.asked.insert(link.peer, observer);
        let shared = self.shared.clone();
        self.start(async move {
            let answer = ask(&shared, &link.in_use(), &ReachRequest::Hello, HELLO_WITHIN).await;
            Heard::Hello { link, answer }
        });
    }

    pub(super) fn on_hello(&mut self, link: &Arc<Link>, answer: Result<ReachAnswer, NotHeard>) {
        let now = self.now();
        let Some(observer) = self.observers.asked.get_mut(&link.peer) else {
            return;
        };
        let (id, ip) = (link.peer, observer.ip);
        tracing::debug!(peer = %id, %ip, ?answer, "a peer was asked where it sees this node");
        let Ok(ReachAnswer::Hello {
            observed,
            serves,
            relays,
            also,
        }) = answer
        else {
            // It may not even have heard the question.
            if answer == Err(NotHeard::Nothing) {
                observer.again = now + AGAIN;
            }
            // Who is busy now is what it was.
            if answer != Err(NotHeard::Refused(ReachRefusal::Busy)) {
                observer.serves = false;
                self.no_helper(id);
            }
            return;
        };
        observer.serves = serves;
        let dialled = link.dialled;
        if dialled {
            self.vote(ip, observed);
        }
        if !serves {
            self.no_helper(id);
        } else {
            if dialled {
                self.reach(reachability::Event::HelperKnown { helper: id, ip });
            }
            let target = id;
            self.help(dial_back::Event::TargetKnown { target, ip, dialled });
        }
        if dialled {
            self.meet_in_both(link, relays, also);
        }
    }

    /// What a peer says of where it sees us.
    pub(super) fn vote(&mut self, observer: IpAddr, seen: SocketAddr) {
        let seen = canonical(seen);
        if let Some(port) = self.port_of(Family::of(observer)) {
            self.observe(observation::Event::Vote { port, observer, seen });
        }
    }

    /// It was asked to probe and does not serve any more, or does not answer. It is asked again what it is.
    pub(super) fn on_idle_target(&mut self, target: NodeId) {
        let again = self.now() + AGAIN;
        if let Some(observer) = self.observers.asked.get_mut(&target) {
            (observer.again, observer.serves) = (again, false);
        }
        self.no_helper(target);
    }

    /// It does not serve, or is not connected any more.
    pub(super) fn no_helper(&mut self, id: NodeId) {
        self.reach(reachability::Event::HelperGone { helper: id });
        self.help(dial_back::Event::TargetGone { target: id });
    }

    /// Asks a helper to have an address probed.
    pub(super) fn check(&mut self, helper: NodeId, address: SocketAddr, nonce: [u8; 16]) {
        let link = self.observers.asked.get(&helper).map(|known| known.link.clone());
        let shared = self.shared.clone();
        self.start(async move {
            let request = ReachRequest::Check { address, nonce };
            let answer = match link {
                Some(link) => ask(&shared, &link.in_use(), &request, CHECK_WITHIN).await,
                None => Err(NotHeard::Nothing),
            };
            let passed_on = matches!(answer, Ok(ReachAnswer::Done));
            tracing::debug!(%helper, %address, ?answer, "a helper was asked to have this address probed");
            Heard::Checked { nonce, passed_on }
        });
    }
}

#[cfg(test)]
mod tests;
