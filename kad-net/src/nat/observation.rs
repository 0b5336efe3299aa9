//! Which addresses peers see this node at, and of which class its NAT is.
//!
//! Every peer that a handshake ended with says where it sees us. One peer may lie, so each household has one vote, and
//! an address counts when several agree. A stateful firewall sees the same address as everybody and lets nobody in, so
//! that an address is known says nothing about whether it can be reached: [`reachability`](super::reachability) finds
//! that out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use kad_core::{Duration, Instant};

pub use super::prefix::Family;
use super::prefix::household;
use crate::wire::Scope;

/// Sockets and families that votes are kept of: two sockets of each family, twice over. A further one is not counted.
const MAX_PLACES: usize = 8;

/// Votes of one place; the oldest makes room. Beyond three dozen, more observers say nothing new.
const MAX_VOTES: usize = 32;

/// Addresses of one place that are told of: go-libp2p keeps three external ones for each local one. Those with the
/// fewest votes are left out.
const MAX_CANDIDATES: usize = 3;

/// Observers that must agree on an address: HyperDHT asks for three, go-libp2p for four.
const QUORUM: usize = 3;

/// Votes that the class of a NAT is told from.
const ENOUGH: usize = 4;

/// How long a vote counts.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// One family of one bound socket: a dual-stack socket has two NATs in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The port that the socket is bound to.
    pub port: u16,
    /// The family.
    pub family: Family,
}

/// How the NAT in front of a socket chooses external ports (RFC 4787, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NatClass {
    /// Too few votes, or they contradict each other.
    #[default]
    Unknown,
    /// The same port for every destination: others can be told where to send. So is a host without a NAT.
    EndpointIndependent,
    /// Another port for each destination: nobody can tell which one the next will be.
    EndpointDependent,
}

/// What happens to the observations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A peer has proven who it is, and says where it sees this node.
    Vote {
        /// The local port over which it was met.
        port: u16,
        /// Its own address.
        observer: IpAddr,
        /// Where it sees us.
        seen: SocketAddr,
    },
    /// Interfaces came or went: what was seen is of another network.
    NetworkChanged,
    /// The same of one family: the other one is as it was.
    FamilyChanged(Family),
    /// The time that [`Observations::poll_timeout`] told has come.
    Timeout,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Candidates or class of this place are no longer what they were.
    Changed(Place),
    /// Most observers see another host than before: what was proven about the old one is void.
    Moved(Place),
}

#[derive(Debug, Clone, Copy)]
struct Vote {
    observer: IpAddr,
    seen: SocketAddr,
    at: Instant,
}

/// The votes of one place, oldest first, and what they say.
#[derive(Debug, Default)]
struct Votes {
    cast: Vec<Vote>,
    candidates: Vec<SocketAddr>,
    class: NatClass,
    /// Where most saw us when they last agreed.
    host: Option<IpAddr>,
}

/// The votes of peers on where this node is.
#[derive(Debug)]
pub struct Observations {
    scope: Scope,
    places: BTreeMap<Place, Votes>,
    ignored: u64,
}

impl Observations {
    /// Nothing is known yet. In global scope neither private observers nor private addresses count: they say something
    /// about another network.
    #[must_use]
    pub const fn new(scope: Scope) -> Self {
        Self {
            scope,
            places: BTreeMap::new(),
            ignored: 0,
        }
    }

    /// Takes one event and appends what follows to `out`: at most two actions a place.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Vote { port, observer, seen } => self.on_vote(now, port, observer, seen, out),
            Event::NetworkChanged => self.forget(|_| true, out),
            Event::FamilyChanged(family) => self.forget(|place| place.family == family, out),
            Event::Timeout => {
                for (&place, votes) in &mut self.places {
                    votes.cast.retain(|vote| now.since(vote.at) < LIFETIME);
                    votes.count(place, out);
                }
                self.places.retain(|_, votes| !votes.cast.is_empty());
            }
        }
    }

    /// When the next vote stops counting.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let oldest = |votes: &Votes| votes.cast.iter().map(|vote| vote.at + LIFETIME).min();
        self.places.values().filter_map(oldest).min()
    }

    /// Where several observers agree that this place is, the one with the most votes first. At most three.
    #[must_use]
    pub fn candidates(&self, place: Place) -> &[SocketAddr] {
        self.places.get(&place).map_or(&[], |votes| &votes.candidates)
    }

    /// The class of the NAT in front of this place.
    #[must_use]
    pub fn class(&self, place: Place) -> NatClass {
        self.places
            .get(&place)
            .map_or_else(NatClass::default, |votes| votes.class)
    }

    /// How many observers have voted on places of this family within the last `span`, and still count.
    #[must_use]
    pub fn votes_within(&self, now: Instant, family: Family, span: Duration) -> usize {
        let places = self.places.iter().filter(|(place, _)| place.family == family);
        let recent = |vote: &&Vote| now.since(vote.at) < span;
        places
            .map(|(_, votes)| votes.cast.iter().filter(recent).count())
            .sum()
    }

    /// Whether the household of this observer has voted within the last `span`.
    #[must_use]
    pub fn has_vote_of(&self, now: Instant, observer: IpAddr, span: Duration) -> bool {
        let observer = household(observer);
        let mut cast = self.places.values().flat_map(|votes| &votes.cast);
        cast.any(|vote| vote.observer == observer && now.since(vote.at) < span)
    }

    /// The places of which something is known.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.places.keys().copied()
    }

    /// Votes that did not count: of private observers, for addresses that nobody could have, or for too many sockets.
    #[must_use]
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }

    fn forget(&mut self, is_void: impl Fn(&Place) -> bool, out: &mut Vec<Action>) {
        let gone = self.places.extract_if(.., |place, _| is_void(place));
        let told = gone.filter(|(_, votes)| !votes.says_nothing());
        out.extend(told.map(|(place, _)| Action::Changed(place)));
    }

    fn on_vote(
        &mut self,
        now: Instant,
        port: u16,
        observer: IpAddr,
        seen: SocketAddr,
        out: &mut Vec<Action>,
    ) {
        let family = Family::of(seen.ip());
        let sensible = Family::of(observer) == family
            && seen.port() != 0
            && self.scope.admits_host(observer)
            && self.scope.admits_host(seen.ip());
        let place = Place { port, family };
        let has_room = self.places.contains_key(&place) || self.places.len() < MAX_PLACES;
        if !(sensible && has_room) {
            self.ignored += 1;
            return;
        }
        let votes = self.places.entry(place).or_default();
        let observer = household(observer);
        votes
            .cast
            .retain(|vote| vote.observer != observer && now.since(vote.at) < LIFETIME);
        if votes.cast.len() >= MAX_VOTES {
            votes.cast.remove(0);
        }
        votes.cast.push(Vote {
            observer,
            seen: SocketAddr::new(seen.ip().to_canonical(), seen.port()),
            at: now,
        });
        votes.count(place, out);
    }
}

impl Votes {
    fn says_nothing(&self) -> bool {
        self.candidates.is_empty() && self.class == NatClass::Unknown
    }

    /// Counts the votes anew.
    fn count(&mut self, place: Place, out: &mut Vec<Action>) {
        // Votes, and place of the newest one. Who is first stays first when another has as many.
        let mut tally: BTreeMap<SocketAddr, (usize, bool, usize)> = BTreeMap::new();
        for (newest, vote) in self.cast.iter().enumerate() {
            let (votes, first, last) = tally.entry(vote.seen).or_default();
            (*votes, *last) = (*votes + 1, newest);
            *first = self.candidates.first() == Some(&vote.seen);
        }
        let mut ranked: Vec<_> = tally.iter().map(|(&seen, &count)| (count, seen)).collect();
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        let class = match ranked.first() {
            // A liar in four changes nothing.
            Some(((most, ..), _)) if self.cast.len() >= ENOUGH && 4 * most >= 3 * self.cast.len() => {
                NatClass::EndpointIndependent
            }
            Some(_) if self.cast.len() >= ENOUGH && self.ports_all_differ() => NatClass::EndpointDependent,
            _ => NatClass::Unknown,
        };
        let agreed = ranked.into_iter().filter(|((votes, ..), _)| *votes >= QUORUM);
        let candidates: Vec<_> = agreed.map(|(_, seen)| seen).take(MAX_CANDIDATES).collect();
        let host = candidates.first().map(SocketAddr::ip).or(self.host);
        if self.host.is_some() && self.host != host {
            out.push(Action::Moved(place));
        }
        if candidates != self.candidates || class != self.class {
            out.push(Action::Changed(place));
        }
        (self.candidates, self.class, self.host) = (candidates, class, host);
    }

    fn ports_all_differ(&self) -> bool {
        let mut ports: Vec<u16> = self.cast.iter().map(|vote| vote.seen.port()).collect();
        ports.sort_unstable();
        ports.windows(2).all(|two| two[0] != two[1])
    }
}

#[cfg(test)]
mod tests;
