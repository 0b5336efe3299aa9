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
use crate::quic::families::has_way_out;
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

    fn class(&self, family: Family) -> NatClass {
        let port = self.port_of(family);
        port.map_or(NatClass::Unknown, |port| {
            self.observations.class(Socket { port, family })
        })
    }

    /// Where this node can be reached in the family in which somebody does not come: as strangers have shown, or, if
    /// the operator says that it serves, where it listens.
    pub(super) fn other_way_in(&self, from: SocketAddr) -> Option<SocketAddr> {
        let scope = self.config.scope;
        let other = |address: &SocketAddr| {
            Family::of(address.ip()) != Family::of(from.ip()) && scope.admits(*address)
        };
        let by_order = self.config.reachability.role == reachability::RoleChoice::Server;
        let named = || self.own_addresses().into_iter().find(other).filter(|_| by_order);
        self.reachability.reachable().find(other).or_else(named)
    }

    /// Where the relays of this node are. Each is told of where this node meets it, so that whoever comes to it in the
    /// same family is seen by it as this node is, and both can be told where to punch. Where this machine has one
    /// family alone, those that have only the other one get the other addresses of the relays as well, as these say.
    fn relays(&self) -> Vec<Contact<QuicAddress>> {
        let met = |id| Some(self.places.get(&id)?.link.link().whereabouts().at);
        let has = |family: Family| self.port_of(family).is_some() && has_way_out(family);
        let contact = |id| {
            let at: SocketAddr = met(id)?;
            let also = self.relays.also(id);
            let also = also.filter(|also| !has(Family::of(also.ip())));
            let address = also.and_then(|also| QuicAddress::new(&[at, also]));
            Some(Contact::new(id, address.unwrap_or_else(|| at.into())))
        };
        self.reservations.held().filter_map(contact).collect()
    }

    pub(super) fn publish(&self) {
        self.reach_of().eager.store(self.is_eager(), Ordering::Relaxed);
        let private = self.config.scope == Scope::Any;
        self.reach_of().private.store(private, Ordering::Relaxed);
        let standing = Standing {
            role: self.role(),
            class: self.class(Family::V4),
            class_v6: self.class(Family::V6),
            observed: self.observed(),
            reachable: self.reachability.reachable().collect(),
            prospect: self.reachability.prospect(self.now()),
            mapped: self.told.mapped.clone(),
            lan: self.own_addresses(),
            relays: self.relays(),
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
