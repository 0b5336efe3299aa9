//! Places at relays, for a node that cannot be dialled.
//!
//! A few relays at different sites, the nearest by round-trip time. Not those with the nearest ids: an id can be made
//! to be near, and whoever relays for a node learns who calls it. A relay that is gone, or refuses, is replaced by the
//! next one; one that answers is asked again at half of the time that it granted. One that is busy is asked again soon,
//! as that passes, and the next one meanwhile; it keeps the place that it has granted until that runs out. Who meets
//! relays in both families of IP keeps a place in each: those that call have one of them, or both.

use std::net::IpAddr;

use kad_core::{Duration, Instant, NodeId};

use super::draws::Draws;
use super::prefix::{Family, site};
use crate::wire::Scope;

/// Places that a node keeps: two may fail at once. Its card names them all.
pub const MAX_RESERVED: usize = 3;

/// Servers that are kept in mind; when there are more, the slowest that has granted nothing is forgotten.
const MAX_RELAYS: usize = 32;

/// How long a relay may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A relay that refused, or was silent, is left alone for so long.
const REST: Duration = Duration::from_secs(600);

/// The first time that a relay is busy it is left alone for so long: what makes it busy are a queue of requests, which
/// is empty in a moment, rations of a minute, and an address of this node that it has yet to see proven, for which it
/// waits 4 s.
const BUSY: Duration = Duration::from_secs(10);

/// Each further time in a row it is left alone for twice as long, until it is as good as one that refused.
const DOUBLED_AT_MOST: u32 = 6;

/// What is granted counts as at least so much, so that a relay cannot be a reason for haste.
const SHORTEST: Duration = Duration::from_secs(120);

/// What is granted counts as at most so much, so that a relay that has forgotten it is noticed.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// When a place is to be renewed, another relay is taken if it is so many times as near.
const CLEARLY_NEARER: u32 = 2;

/// What happens to the reservations of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Whether the node needs relays: whether it [only asks](super::reachability::Role::Client).
    Needed(bool),
    /// A server that this node is connected to directly, or a new round-trip time of it.
    RelayKnown {
        /// Who.
        relay: NodeId,
        /// Where it is.
        ip: IpAddr,
        /// Measured on this connection.
        rtt: Duration,
    },
    /// The connection to it is gone, and with it what it granted.
    RelayGone {
        /// Who.
        relay: NodeId,
    },
    /// A relay answered an [`Action::Reserve`].
    Granted {
        /// Who.
        relay: NodeId,
        /// For how long.
        lifetime: Duration,
    },
    /// It has too much to do at the moment.
    Busy {
        /// Who.
        relay: NodeId,
    },
    /// It refused, or could not be asked.
    Refused {
        /// Who.
        relay: NodeId,
    },
    /// Interfaces came or went: connections will tell of themselves whether they still stand, and who had no time may
    /// have some for another address.
    NetworkChanged,
    /// The time that [`Reservations::poll_timeout`] told has come.
    Timeout,
}

/// What a node wants done about its reservations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask a relay for a place, or to keep one, and keep the connection alive from now on. Owes one [`Event::Granted`]
    /// or [`Event::Refused`].
    Reserve {
        /// Whom.
        relay: NodeId,
    },
    /// Tell a relay that its place is not needed any more.
    Release {
        /// Whom.
        relay: NodeId,
    },
    /// The relays at which the node can be reached are others than before; its card has to say so.
    Changed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle {
        rests_until: Instant,
    },
    Asked {
        until: Instant,
    },
    Held {
        renew: Instant,
        ends: Instant,
    },
    /// Held, and asked to go on.
    Renewing {
        until: Instant,
        ends: Instant,
    },
}

impl State {
    const fn is_held(self) -> bool {
        matches!(self, Self::Held { .. } | Self::Renewing { .. })
    }

    const fn is_idle(self) -> bool {
        matches!(self, Self::Idle { .. })
    }
}

#[derive(Debug)]
struct Relay {
    id: NodeId,
    site: IpAddr,
    rtt: Duration,
    state: State,
    /// How often in a row it was busy.
    busy: u32,
}

/// The reservations of a node.
#[derive(Debug)]
pub struct Reservations {
    scope: Scope,
    draws: Draws,
    needed: bool,
    relays: Vec<Relay>,
}

impl Reservations {
    /// None yet, and none are needed. The seed keeps those apart who were granted something at the same moment.
    #[must_use]
    pub fn new(scope: Scope, seed: &[u8; 32]) -> Self {
        Self {
            scope,
            draws: Draws::new(seed, "nautilus-kad 2026-11 reservations"),
            needed: false,
            relays: Vec::new(),
        }
    }

    /// Takes one event and appends what follows to `out`: at most two actions for each place, and one more.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        let before = self.held_ids();
        match event {
            Event::Needed(needed) => self.needed = needed,
            Event::RelayKnown { relay, ip, rtt } => self.on_relay(relay, ip, rtt),
            Event::RelayGone { relay } => self.relays.retain(|known| known.id != relay),
            Event::Granted { relay, lifetime } => self.on_grant(now, relay, lifetime, out),
            Event::Busy { relay } => self.on_busy(now, relay),
            Event::Refused { relay } => {
                if let Some(known) = self.find(relay).filter(|known| !known.state.is_idle()) {
                    known.busy = 0;
                    known.state = State::Idle {
                        rests_until: now + REST,
                    };
                }
            }
            Event::NetworkChanged => {
                for relay in self.relays.iter_mut().filter(|relay| relay.state.is_idle()) {
                    relay.busy = 0;
                    relay.state = State::Idle { rests_until: now };
                }
            }
            Event::Timeout => self.on_timeout(now, out),
        }
        if self.needed {
            self.reserve(now, out);
        } else {
            self.release_all(out);
        }
        if self.held_ids() != before {
            out.push(Action::Changed);
        }
    }

    /// When [`Event::Timeout`] is due. After a timeout at t it is later than t.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        // Who rests is looked at again only if there is a place to fill.
        let wants = self.needed && self.taken().count() < MAX_RESERVED;
        let due = |relay: &Relay| match relay.state {
            State::Idle { rests_until } => (wants && self.is_elsewhere(relay.site)).then_some(rests_until),
            State::Asked { until } | State::Renewing { until, .. } => Some(until),
            State::Held { renew, .. } => Some(renew),
        };
        self.relays.iter().filter_map(due).min()
    }

    /// The relays at which this node can be reached, the nearest first. At most [`MAX_RESERVED`].
    pub fn held(&self) -> impl Iterator<Item = NodeId> {
        self.held_ids().into_iter()
    }

    /// Whether places are needed, and no relay of this family is known that grants one or could be asked. One that
    /// rests, as it refused or was not there, may have named an address that is not its own.
    #[must_use]
    pub fn lacks(&self, now: Instant, family: Family) -> bool {
        let rests = |relay: &Relay| matches!(relay.state, State::Idle { rests_until } if rests_until > now);
        let is_of_use = |relay: &Relay| Family::of(relay.site) == family && !rests(relay);
        self.needed && !self.relays.iter().any(is_of_use)
    }

    /// Whether so few relays are known that those that are lost could not be replaced: fewer than would fill all places
    /// twice.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.needed && self.relays.len() < 2 * MAX_RESERVED
    }

    fn held_ids(&self) -> Vec<NodeId> {
        let mut held: Vec<_> = self.relays.iter().filter(|relay| relay.state.is_held()).collect();
        held.sort_by_key(|relay| (relay.rtt, relay.id));
        held.into_iter().map(|relay| relay.id).collect()
    }

    /// Those that have granted a place, or are asked for one.
    fn taken(&self) -> impl Iterator<Item = &Relay> {
        self.relays.iter().filter(|relay| !relay.state.is_idle())
    }

    fn is_elsewhere(&self, site: IpAddr) -> bool {
        self.taken().all(|relay| relay.site != site)
    }

    fn has_family(&self, family: Family) -> bool {
        self.taken().any(|relay| Family::of(relay.site) == family)
    }

    fn find(&mut self, relay: NodeId) -> Option<&mut Relay> {
        self.relays.iter_mut().find(|known| known.id == relay)
    }

    fn on_relay(&mut self, id: NodeId, ip: IpAddr, rtt: Duration) {
        if !self.scope.admits_host(ip) {
            return;
        }
        let site = site(ip, self.scope);
        if let Some(known) = self.find(id) {
            (known.site, known.rtt) = (site, rtt);
            return;
        }
        if self.relays.len() >= MAX_RELAYS {
            let idle = (0..self.relays.len()).filter(|&place| self.relays[place].state.is_idle());
            match idle.max_by_key(|&place| self.relays[place].rtt) {
                Some(slowest) if rtt < self.relays[slowest].rtt => drop(self.relays.swap_remove(slowest)),
                _ => return,
            }
        }
        let state = State::Idle {
            rests_until: Instant::ZERO,
        };
        let busy = 0;
        self.relays.push(Relay {
            id,
            site,
            rtt,
            state,
            busy,
        });
    }

    fn on_grant(&mut self, now: Instant, relay: NodeId, lifetime: Duration, out: &mut Vec<Action>) {
        let lifetime = lifetime.clamp(SHORTEST, LONGEST);
        // A little later than half is as good, and spreads what began together.
        let renew = now + self.draws.lengthened(lifetime / 2);
        let ends = now + lifetime;
        match self.find(relay) {
            Some(known) if !known.state.is_idle() => {
                (known.state, known.busy) = (State::Held { renew, ends }, 0);
            }
            // It has answered after it was given up, and keeps a place for nothing.
            Some(_) => out.push(Action::Release { relay }),
            None => {}
        }
    }

    fn on_busy(&mut self, now: Instant, relay: NodeId) {
        let Some(place) = self.relays.iter().position(|known| known.id == relay) else {
            return;
        };
        let busy = self.relays[place].busy;
        // A little later is as good, and spreads those who were told at the same moment.
        let rests_until = now
            + self
                .draws
                .lengthened((BUSY * (1 << busy.min(DOUBLED_AT_MOST))).min(REST));
        let known = &mut self.relays[place];
        known.state = match known.state {
            State::Idle { .. } => return,
            State::Renewing { ends, .. } if rests_until < ends => State::Held {
                renew: rests_until,
                ends,
            },
            // Its time would be over before it is asked again.
            State::Asked { .. } | State::Renewing { .. } => State::Idle { rests_until },
            // An answer that came late.
            held @ State::Held { .. } => held,
        };
        known.busy = busy.saturating_add(1);
    }

    fn on_timeout(&mut self, now: Instant, out: &mut Vec<Action>) {
        for place in 0..self.relays.len() {
            let relay = &self.relays[place];
            let id = relay.id;
            match relay.state {
                State::Held { renew, ends } if renew <= now => {
                    if self.has_nearer(now, place) {
                        self.relays[place].state = State::Idle {
                            rests_until: now + REST,
                        };
                        out.push(Action::Release { relay: id });
                    } else {
                        let until = (now + ANSWER_WITHIN).min(ends);
                        self.relays[place].state = State::Renewing { until, ends };
                        out.push(Action::Reserve { relay: id });
                    }
                }
                State::Asked { until } | State::Renewing { until, .. } if until <= now => {
                    self.relays[place].state = State::Idle {
                        rests_until: now + REST,
                    };
                }
                State::Idle { .. } | State::Asked { .. } | State::Held { .. } | State::Renewing { .. } => {}
            }
        }
    }

    /// Whether another relay, which could take its place, is clearly nearer.
    fn has_nearer(&self, now: Instant, place: usize) -> bool {
        let this = &self.relays[place];
        let elsewhere = |site| {
            self.taken()
                .all(|relay| relay.site != site || relay.id == this.id)
        };
        self.relays.iter().any(|relay| {
            let free = matches!(relay.state, State::Idle { rests_until } if rests_until <= now);
            free && elsewhere(relay.site) && relay.rtt * CLEARLY_NEARER < this.rtt
        })
    }

    /// Gives up the farthest of places that are all in one family, if there is a relay of the other one.
    fn make_room(&mut self, now: Instant, out: &mut Vec<Action>) {
        let held = self.relays.iter().filter(|relay| relay.state.is_held()).count();
        let lacks = |relay: &Relay| !self.has_family(Family::of(relay.site));
        let free = |relay: &Relay| matches!(relay.state, State::Idle { rests_until } if rests_until <= now);
        if held < MAX_RESERVED || !self.relays.iter().any(|relay| lacks(relay) && free(relay)) {
            return;
        }
        let places = self.relays.iter_mut().filter(|relay| relay.state.is_held());
        if let Some(farthest) = places.max_by_key(|relay| (relay.rtt, relay.id)) {
            farthest.state = State::Idle {
                rests_until: now + REST,
            };
            out.push(Action::Release { relay: farthest.id });
        }
    }

    /// Fills the places with the nearest that are free, each at another site.
    fn reserve(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.make_room(now, out);
        while self.taken().count() < MAX_RESERVED {
            let free = (0..self.relays.len()).filter(|&place| {
                let relay = &self.relays[place];
                let rested = matches!(relay.state, State::Idle { rests_until } if rests_until <= now);
                rested && self.is_elsewhere(relay.site)
            });
            // A family that has no place comes first.
            let nearest = free.min_by_key(|&place| {
                let relay = &self.relays[place];
                (self.has_family(Family::of(relay.site)), relay.rtt, relay.id)
            });
            let Some(nearest) = nearest else {
                return;
            };
            let relay = &mut self.relays[nearest];
            relay.state = State::Asked {
                until: now + ANSWER_WITHIN,
            };
            out.push(Action::Reserve { relay: relay.id });
        }
    }

    fn release_all(&mut self, out: &mut Vec<Action>) {
        for relay in self.relays.iter_mut().filter(|relay| !relay.state.is_idle()) {
            relay.state = State::Idle {
                rests_until: Instant::ZERO,
            };
            out.push(Action::Release { relay: relay.id });
        }
    }
}

#[cfg(test)]
mod tests;
