//! What the node knows of itself, told to the machines and to those who want to know.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use kad_core::{Contact, Duration, Instant};

use super::Standing;
use super::driver::Driver;
use crate::nat::dial_back;
use crate::nat::observation::{Family, NatClass, Place as Socket};
use crate::nat::reachability::{self, Role};
use crate::quic::QuicAddress;
use crate::quic::address::canonical;
use crate::wire::Scope;

/// After so long without a proof or the contrary, the operator is told once.
const PATIENCE: Duration = Duration::from_secs(180);

impl Driver {
    /// The port of the socket of a family.
    pub(super) fn port_of(&self, family: Family) -> Option<u16> {
        let mut bound = self.bound.iter();
        let socket = bound.find(|socket| Family::of(socket.ip()) == family);
        socket.map(SocketAddr::port)
    }

    /// Tells the machines where the node may be.
    pub(super) fn tell_addresses(&mut self) {
        let observed = self.observed();
        let mut addresses = self.told.mapped.clone();
        addresses.extend(&observed);
        addresses.extend(self.own_addresses());
        if let Some(seen) = observed.first() {
            let own = dial_back::Event::OwnHost { ip: seen.ip() };
            self.dial_back.handle(self.now(), own, &mut Vec::new());
        }
        self.reach(reachability::Event::Addresses(addresses));
    }

    fn observed(&self) -> Vec<SocketAddr> {
        let places = self.observations.places();
        places
            .flat_map(|place| self.observations.candidates(place))
            .copied()
            .collect()
    }

    /// Those that sockets are bound to by name, and those of interfaces; best first.
    pub(super) fn own_addresses(&self) -> Vec<SocketAddr> {
        let named = self.bound.iter().copied();
        let named = named.filter(|socket| !socket.ip().is_unspecified());
        let interfaces = self.told.lan.iter().filter_map(|ip| {
            let listens = |bound: &&SocketAddr| {
                Family::of(bound.ip()) == Family::of(*ip) && bound.ip().is_unspecified()
            };
            let port = self.bound.iter().find(listens)?.port();
            Some(SocketAddr::new(*ip, port))
        });
        let far = |socket: &SocketAddr| self.config.scope == Scope::Any || !socket.ip().is_loopback();
        named.chain(interfaces).map(canonical).filter(far).collect()
    }

    fn class(&self) -> NatClass {
        let class = |family| {
            let port = self.port_of(family)?;
            Some(self.observations.class(Socket { port, family }))
        };
        let known = [class(Family::V4), class(Family::V6)].into_iter().flatten();
        known
            .into_iter()
            .find(|class| *class != NatClass::Unknown)
            .unwrap_or_default()
    }

    pub(super) fn publish(&self) {
        self.reach_of().eager.store(self.is_eager(), Ordering::Relaxed);
        let private = self.config.scope == Scope::Any;
        self.reach_of().private.store(private, Ordering::Relaxed);
        let relays = self.reservations.held().filter_map(|id| {
            let place = self.places.get(&id)?;
            let address = QuicAddress::from(place.link.link().whereabouts().at);
            Some(Contact::new(id, address))
        });
        let standing = Standing {
            role: self.role(),
            class: self.class(),
            observed: self.observed(),
            reachable: self.reachability.reachable().collect(),
            prospect: self.reachability.prospect(self.now()),
            mapped: self.told.mapped.clone(),
            lan: self.own_addresses(),
            relays: relays.collect(),
        };
        self.reach_of().standing.send_if_modified(|before| {
            let differs = *before != standing;
            if differs {
                *before = standing;
            }
            differs
        });
    }

    /// Tells the operator, once, that nothing could be found out.
    pub(super) fn complain(&mut self, now: Instant) {
        let waits = self.role() == Role::Client
            && self.config.reachability.role == reachability::RoleChoice::Auto
            && now.since(Instant::ZERO) >= PATIENCE;
        if self.complained || !waits || self.reachability.is_decided() {
            return;
        }
        self.complained = true;
        tracing::info!(
            servers = self.observers.serving(),
            "after {} minutes too few servers are known to find out whether this node can be reached, so it only asks; if \
             others can reach this machine, start it with --role server",
            PATIENCE.as_secs() / 60
        );
    }
}
