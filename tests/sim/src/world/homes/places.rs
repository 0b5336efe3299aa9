//! Places at relays: who cannot be reached asks for them and keeps them, and who serves gives them.

use std::net::SocketAddr;

use kad_core::{Duration, NodeId};
use kad_net::nat::model::{Mapping, PORT};
use kad_net::nat::{relay, reservations};

use super::World;
use super::words::Word;
use crate::nat::Role;
use crate::world::{Arrival, Mind};

/// Between two messages by which a client keeps its place, and the way to it, alive.
const KEEP_EVERY: Duration = Duration::from_secs(15);

/// A relay that was silent for so long is gone: two answers are missing.
const SILENT: Duration = Duration::from_secs(40);

impl World {
    pub(super) fn tell_reservations(&mut self, number: u32, event: reservations::Event) {
        let mut out = Vec::new();
        self.homes[number as usize]
            .reservations
            .handle(self.now, event, &mut out);
        for action in out {
            match action {
                reservations::Action::Reserve { relay } => self.post_to_node(number, relay, Word::Reserve),
                reservations::Action::Release { relay } => {
                    self.homes[number as usize].kept.remove(&relay);
                    self.post_to_node(number, relay, Word::Release);
                }
                reservations::Action::Changed => {}
            }
        }
        self.arm_home(number);
    }

    /// Tells the relay that a node is, and those whose sessions are over.
    pub(super) fn tell_relay(&mut self, number: u32, event: relay::Event) -> Vec<relay::Action> {
        let mut out = Vec::new();
        let home = &mut self.homes[number as usize];
        home.relay.handle(self.now, event, &mut out);
        let stats = home.relay.stats();
        home.served.most_places = home.served.most_places.max(stats.reservations);
        home.served.most_sessions = home.served.most_sessions.max(stats.sessions);
        self.arm_home(number);
        out
    }

    /// A client keeps a place, as long as it has one and the relay answers.
    pub(in crate::world) fn on_keep(&mut self, number: u32, relay: NodeId, life: u32) {
        let home = &mut self.homes[number as usize];
        let Some(&(heard, _)) = home.kept.get(&relay).filter(|(_, of)| *of == life) else {
            return;
        };
        if matches!(self.nodes[number as usize].mind, Mind::Down) {
            return;
        }
        if self.now.since(heard) > SILENT {
            home.kept.remove(&relay);
            self.tell_reservations(number, reservations::Event::RelayGone { relay });
            return;
        }
        self.post_to_node(number, relay, Word::Keep);
        self.keep_later(number, relay, life);
    }

    /// A server that strangers reach through a NAT is reached for as long as that keeps its port, so it says something
    /// to one of those who know it; who only asks does so to its relays.
    pub(in crate::world) fn on_remind(&mut self, number: u32, life: u32) {
        let home = &self.homes[number as usize];
        let translates = home.front.kind.mapping() != Mapping::None;
        if !translates || home.served.changes != life || self.role(number as usize) == Role::Client {
            return;
        }
        if let Some(&observer) = home.observers.first() {
            self.post(number, observer, PORT, Word::Hello);
        }
        self.queue
            .push(self.now + KEEP_EVERY, Arrival::Remind { node: number, life });
    }

    fn keep_later(&mut self, number: u32, relay: NodeId, life: u32) {
        let keep = Arrival::Keep {
            node: number,
            relay,
            life,
        };
        self.queue.push(self.now + KEEP_EVERY, keep);
    }

    pub(super) fn on_reserve(&mut self, from: u32, seen: SocketAddr, to: u32) {
        let peer = self.nodes[from as usize].id;
        let mut answer = Word::NoPlace;
        if self.role(to as usize) == Role::Server {
            let reserve = relay::Event::Reserve {
                peer,
                leg: seen,
                relayed: false,
            };
            for action in self.tell_relay(to, reserve) {
                if let relay::Action::Reserved { lifetime, .. } = action {
                    self.homes[to as usize].legs.insert(peer, seen);
                    answer = Word::Reserved { lifetime };
                }
            }
        }
        self.post(to, from, seen.port(), answer);
    }

    pub(super) fn on_reserved(&mut self, number: u32, relay: NodeId, lifetime: Duration) {
        let now = self.now;
        let home = &mut self.homes[number as usize];
        match home.kept.get_mut(&relay) {
            Some((heard, _)) => *heard = now,
            None => {
                home.keeps += 1;
                let life = home.keeps;
                home.kept.insert(relay, (now, life));
                self.keep_later(number, relay, life);
            }
        }
        self.tell_reservations(number, reservations::Event::Granted { relay, lifetime });
    }

    /// Somebody keeps its place here, and may be seen elsewhere than before.
    pub(super) fn on_kept_alive(&mut self, from: u32, seen: SocketAddr, to: u32) {
        let peer = self.nodes[from as usize].id;
        let Some(leg) = self.homes[to as usize].legs.get_mut(&peer) else {
            self.post(to, from, seen.port(), Word::NoPlace);
            return;
        };
        if *leg != seen {
            *leg = seen;
            self.tell_relay(to, relay::Event::Moved { peer, leg: seen });
        }
        self.post(to, from, seen.port(), Word::Kept { own: seen.port() });
    }
}
