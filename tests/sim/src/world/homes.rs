//! Nodes behind NATs: what stands in front of each, and the machines of `kad_net::nat` that decide what it does about
//! it.
//!
//! A world has none of this until [`World::settle`] is called for its first node, and then for all of them. From then
//! on each message goes through the NATs of both ends (`packets.rs`); who talks to whom tells the machines where they
//! are and who could help (`reach.rs`); and nodes can be told to connect (`meet.rs`, `punches.rs`).

mod meet;
mod packets;
mod places;
mod punches;
mod reach;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use kad_core::{Input, Instant, NodeId};
use kad_net::nat::contacted::Contacted;
use kad_net::nat::coordinator::Coordinator;
use kad_net::nat::dial_back::{self, DialBack};
use kad_net::nat::model::{Nat, PORT};
use kad_net::nat::observation::{Family, NatClass, Observations, Place as Observed};
use kad_net::nat::reachability::{self, Reachability, ReachabilityConfig};
use kad_net::nat::relay::{Relay, RelayConfig, RelayStats};
use kad_net::nat::reservations::Reservations;
use kad_net::wire::Scope;

pub(super) use self::meet::{Errand, Talk};
use self::punches::Attempt;
pub(super) use self::words::Word;
use super::{Arrival, Mind, World};
use crate::Dice;
use crate::nat::{Front, MAX_HOSTS, Meeting, Role, RoleChoice, host};

/// The one socket of every node, in the family that all of them have.
const SOCKET: Observed = Observed {
    port: PORT,
    family: Family::V4,
};

/// Addresses of all nodes are such as the internet has.
const SCOPE: Scope = Scope::Global;

/// One node's place behind its NAT.
pub(super) struct Home {
    nat: Nat,
    front: Front,
    choice: RoleChoice,
    observations: Observations,
    reachability: Reachability,
    dial_back: DialBack,
    reservations: Reservations,
    relay: Relay,
    coordinator: Coordinator,
    contacted: Contacted,
    /// To whom it has a connection that it has opened itself, when they were asked, and those of them that help.
    dialled: BTreeSet<u32>,
    asked: BTreeMap<u32, Instant>,
    observers: BTreeSet<u32>,
    /// The addresses that it last took for its own.
    addresses: Vec<SocketAddr>,
    /// Checks that it has passed on, and for whom.
    passed: BTreeMap<[u8; 16], (u32, u16)>,
    /// Relays at which it has a place, when they last answered, and the how manieth place that is.
    kept: BTreeMap<NodeId, (Instant, u32)>,
    keeps: u32,
    /// Where those who have a place here, or want one, are seen.
    legs: BTreeMap<NodeId, SocketAddr>,
    attempts: BTreeMap<u32, Attempt>,
    timer: Instant,
    served: Served,
}

/// What a node has been to others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// When it came up.
    pub up: Instant,
    /// When it first became a server.
    pub server: Option<Instant>,
    /// When it last ceased to be one.
    pub client: Option<Instant>,
    /// How often its role changed.
    pub changes: u32,
    /// Sessions that were opened through it.
    pub sessions: u32,
    /// The most of them at a time.
    pub most_sessions: usize,
    /// The most places that it gave at a time.
    pub most_places: usize,
}

impl World {
    /// Puts something in front of a node, which is there already and has not talked to anybody.
    ///
    /// # Panics
    /// If nodes are not settled in the order of their numbers, if there are too many, or if the world's links have no
    /// connections: bugs of the experiment.
    pub fn settle(&mut self, number: usize, front: Front, choice: RoleChoice) {
        assert_eq!(number, self.homes.len(), "nodes are settled one after the other");
        assert!((number as u32) < MAX_HOSTS, "there are {MAX_HOSTS} hosts");
        assert!(!self.pools.is_empty(), "nodes behind NATs have connections");
        let home = self.make_home(number as u32, front, choice);
        self.numbers.insert(self.nodes[number].id, number as u32);
        self.homes.push(home);
        self.adopt(number as u32);
    }

    /// Another thing is in front of a node from now on. `told`: it notices, as of a new network; otherwise it has to
    /// find out.
    pub fn move_behind(&mut self, number: usize, front: Front, told: bool) {
        let home = &mut self.homes[number];
        home.front = front;
        home.nat = Nat::new(front.kind, host(number as u32));
        home.nat.forward(front.forwarded);
        if told {
            home.addresses.clear();
            self.tell_observations(number as u32, kad_net::nat::observation::Event::NetworkChanged);
            self.tell_reachability(number as u32, reachability::Event::NetworkChanged);
            self.tell_reservations(number as u32, kad_net::nat::reservations::Event::NetworkChanged);
        }
    }

    /// What is in front of a node; open where nothing was said.
    #[must_use]
    pub fn front(&self, number: usize) -> Front {
        self.homes.get(number).map_or(Front::OPEN, |home| home.front)
    }

    /// What a node takes itself for.
    #[must_use]
    pub fn role(&self, number: usize) -> Role {
        match self.nodes[number].read_only {
            true => Role::Client,
            false => Role::Server,
        }
    }

    /// What a node has been to others.
    #[must_use]
    pub fn served(&self, number: usize) -> Served {
        self.homes.get(number).map(|home| home.served).unwrap_or_default()
    }

    /// What a node counts as a relay.
    #[must_use]
    pub fn relayed(&self, number: usize) -> RelayStats {
        self.homes
            .get(number)
            .map(|home| home.relay.stats())
            .unwrap_or_default()
    }

    /// Relays at which a node has a place, the nearest first.
    #[must_use]
    pub fn relays_of(&self, number: usize) -> Vec<usize> {
        let held = self
            .homes
            .get(number)
            .into_iter()
            .flat_map(|home| home.reservations.held());
        held.filter_map(|id| self.numbers.get(&id).map(|&relay| relay as usize))
            .collect()
    }

    /// What a node knows of its NAT.
    #[must_use]
    pub fn class_of(&self, number: usize) -> NatClass {
        self.homes
            .get(number)
            .map_or(NatClass::Unknown, |home| home.observations.class(SOCKET))
    }

    /// Nodes that were told to connect, and what came of it so far.
    #[must_use]
    pub fn meetings(&self) -> &[Meeting] {
        &self.meetings
    }

    /// A node begins a new life: what it knew of its NAT is gone, what is in front of it is not.
    pub(super) fn rehome(&mut self, number: u32) {
        let Some(old) = self.homes.get(number as usize) else {
            return;
        };
        let (front, choice, served) = (old.front, old.choice, old.served);
        let mut home = self.make_home(number, front, choice);
        home.served = Served {
            changes: served.changes,
            sessions: served.sessions,
            ..home.served
        };
        self.homes[number as usize] = home;
        self.numbers.insert(self.nodes[number as usize].id, number);
        self.adopt(number);
    }

    fn make_home(&mut self, number: u32, front: Front, choice: RoleChoice) -> Home {
        // Each place keeps a connection; half of them are left for everything else, as in the transport.
        let mut config = RelayConfig::default();
        let connections = self.links.connections.unwrap_or(usize::MAX);
        config.reservations = config.reservations.min(connections / 2);
        Home::new(number, front, choice, config, self.now, &mut self.dice)
    }

    /// The role with which the machines begin becomes that of the node.
    fn adopt(&mut self, number: u32) {
        let role = self.homes[number as usize].reachability.role();
        self.take_role(number, role);
        let needed = kad_net::nat::reservations::Event::Needed(role == Role::Client);
        self.tell_reservations(number, needed);
        self.tell_addresses(number);
        self.tick_later(number, reach::TICK);
    }

    /// A node serves from now on, or only asks.
    fn take_role(&mut self, number: u32, role: Role) {
        let contact = self.nodes[number as usize].contact();
        let read_only = role == Role::Client;
        let node = &mut self.nodes[number as usize];
        node.read_only = read_only;
        if matches!(node.mind, Mind::Down) {
            return;
        }
        match role {
            Role::Client => self.serving.remove(contact.id),
            Role::Server => self.serving.insert(contact),
        }
        self.feed(number, Input::Role { read_only });
    }

    /// Arms the one timer of the machines of a node.
    fn arm_home(&mut self, number: u32) {
        let home = &mut self.homes[number as usize];
        let attempts = home.attempts.values().map(Attempt::poll_timeout);
        let next = [
            home.observations.poll_timeout(),
            home.reachability.poll_timeout(),
            home.dial_back.poll_timeout(),
            home.reservations.poll_timeout(),
            home.relay.poll_timeout(),
        ];
        let Some(at) = next.into_iter().chain(attempts).flatten().min() else {
            return;
        };
        let at = at.max(self.now);
        if at < home.timer {
            home.timer = at;
            self.queue.push(at, Arrival::Home { node: number });
        }
    }

    /// The time of some machine of a node may have come.
    pub(super) fn on_home(&mut self, number: u32) {
        let now = self.now;
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let down = matches!(self.nodes[number as usize].mind, Mind::Down);
        let home = &mut self.homes[number as usize];
        if home.timer != now {
            return; // Another one was armed since.
        }
        home.timer = Instant::MAX;
        if down {
            return;
        }
        if is_due(home.observations.poll_timeout()) {
            self.tell_observations(number, kad_net::nat::observation::Event::Timeout);
        }
        if is_due(self.homes[number as usize].reachability.poll_timeout()) {
            self.tell_reachability(number, reachability::Event::Timeout);
        }
        if is_due(self.homes[number as usize].dial_back.poll_timeout()) {
            self.tell_dial_back(number, dial_back::Event::Timeout, None);
        }
        if is_due(self.homes[number as usize].reservations.poll_timeout()) {
            self.tell_reservations(number, kad_net::nat::reservations::Event::Timeout);
        }
        if is_due(self.homes[number as usize].relay.poll_timeout()) {
            self.tell_relay(number, kad_net::nat::relay::Event::Timeout);
        }
        self.on_attempts(number);
        self.arm_home(number);
    }
}

impl Home {
    fn new(
        number: u32,
        front: Front,
        choice: RoleChoice,
        relay: RelayConfig,
        now: Instant,
        dice: &mut Dice,
    ) -> Self {
        let mut seed = [0; 32];
        for part in seed.chunks_exact_mut(8) {
            part.copy_from_slice(&dice.roll().to_be_bytes());
        }
        let mut nat = Nat::new(front.kind, host(number));
        nat.forward(front.forwarded);
        let mut config = ReachabilityConfig::default();
        config.role = choice;
        let mut dial_back = DialBack::new(SCOPE, &seed);
        let own = host(number).into();
        dial_back.handle(now, dial_back::Event::OwnHost { ip: own }, &mut Vec::new());
        Self {
            nat,
            front,
            choice,
            observations: Observations::new(SCOPE),
            reachability: Reachability::new(config, SCOPE, false, &seed),
            dial_back,
            reservations: Reservations::new(SCOPE, &seed),
            relay: Relay::new(relay, SCOPE, &seed, now),
            coordinator: Coordinator::new(),
            contacted: Contacted::default(),
            dialled: BTreeSet::new(),
            asked: BTreeMap::new(),
            observers: BTreeSet::new(),
            addresses: Vec::new(),
            passed: BTreeMap::new(),
            kept: BTreeMap::new(),
            keeps: 0,
            legs: BTreeMap::new(),
            attempts: BTreeMap::new(),
            timer: Instant::MAX,
            served: Served {
                up: now,
                ..Served::default()
            },
        }
    }
}
