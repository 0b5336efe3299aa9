//! NATs as state machines: mapping, filtering, expiry, and poisoning.
//!
//! Not a part of any node: what the tests of this module and simulators put in front of one, so that both mean the same
//! by a type of NAT. A [`Nat`] stands in front of one host with one socket, is told of each packet in either direction,
//! and says whether and as what it passes. The rules are those of the laboratory's routers, each in a file of its own:
//!
//! - `mapping`: which external port a flow gets;
//! - `filtering`: who may send to it;
//! - `expiry`: how long it is remembered;
//! - `poisoning`: what uninvited packets do to routers that take them for their own.

mod expiry;
mod filtering;
mod mapping;
mod poisoning;

use std::net::{Ipv4Addr, SocketAddr};

use kad_core::Instant;

use self::expiry::Flows;
pub use self::filtering::Filtering;
pub use self::mapping::Mapping;
use self::poisoning::Uninvited;
use super::observation::NatClass;

/// The types of the laboratory in which the rules of this module were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One port for all destinations, and whoever likes may send there.
    Full,
    /// One port; only hosts that were sent to may answer, from any port.
    Addr,
    /// One port; only addresses that were sent to may answer.
    Cone,
    /// As `Cone`, and what comes uninvited occupies its ports for a while.
    Leaky,
    /// Another port for each destination; only that may answer.
    Sym,
    /// No translation; only addresses that were sent to may answer.
    Fw,
    /// Neither NAT nor filter.
    Open,
    /// No UDP at all.
    Block,
}

/// All of them.
pub const KINDS: [Kind; 8] = [
    Kind::Full,
    Kind::Addr,
    Kind::Cone,
    Kind::Leaky,
    Kind::Sym,
    Kind::Fw,
    Kind::Open,
    Kind::Block,
];

/// The port of each node, and the one that a NAT keeps for it if it can.
pub const PORT: u16 = 4001;

impl Kind {
    /// Which external ports it gives (RFC 4787, section 4.1).
    #[must_use]
    pub const fn mapping(self) -> Mapping {
        match self {
            Self::Fw | Self::Open | Self::Block => Mapping::None,
            Self::Full | Self::Addr | Self::Cone | Self::Leaky => Mapping::EndpointIndependent,
            Self::Sym => Mapping::EndpointDependent,
        }
    }

    /// Whom it lets in (RFC 4787, section 5).
    #[must_use]
    pub const fn filtering(self) -> Filtering {
        match self {
            Self::Open => Filtering::None,
            Self::Full => Filtering::EndpointIndependent,
            Self::Addr => Filtering::AddressDependent,
            Self::Cone | Self::Leaky | Self::Sym | Self::Fw => Filtering::AddressAndPortDependent,
            Self::Block => Filtering::All,
        }
    }

    /// Whether it takes what comes uninvited for its own.
    #[must_use]
    pub const fn leaks(self) -> bool {
        matches!(self, Self::Leaky)
    }

    /// The class that observers find.
    #[must_use]
    pub const fn class(self) -> NatClass {
        match self.mapping() {
            Mapping::EndpointDependent => NatClass::EndpointDependent,
            _ if matches!(self, Self::Block) => NatClass::Unknown,
            Mapping::None | Mapping::EndpointIndependent => NatClass::EndpointIndependent,
        }
    }
}

/// What stands between one host and the internet.
#[derive(Debug)]
pub struct Nat {
    kind: Kind,
    ip: Ipv4Addr,
    /// A forwarded port: as the operator or a port mapping protocol has it.
    forwarded: bool,
    flows: Flows,
    uninvited: Uninvited,
    /// Ports given so far, where each destination gets another one.
    given: u16,
}

impl Nat {
    /// One that remembers nothing yet, seen from outside at this host.
    #[must_use]
    pub const fn new(kind: Kind, ip: Ipv4Addr) -> Self {
        Self {
            kind,
            ip,
            forwarded: false,
            flows: Flows::new(),
            uninvited: Uninvited::new(),
            given: 0,
        }
    }

    /// The same for one more socket of the host: where each destination gets another port, its first one is that of
    /// this number, and no other socket's.
    #[must_use]
    pub const fn beside(kind: Kind, ip: Ipv4Addr, number: u16) -> Self {
        let mut nat = Self::new(kind, ip);
        nat.given = number;
        nat
    }

    /// Of which type it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it is seen.
    #[must_use]
    pub const fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Forwards [`PORT`] from outside to the host from now on, or does so no more. Nothing gets through a router that
    /// blocks UDP all the same.
    pub const fn forward(&mut self, whether: bool) {
        self.forwarded = whether;
    }

    /// Whether anybody may send to [`PORT`] as long as the host says something itself now and then.
    #[must_use]
    pub const fn admits_strangers(&self) -> bool {
        match self.kind.filtering() {
            Filtering::None | Filtering::EndpointIndependent => true,
            Filtering::AddressDependent | Filtering::AddressAndPortDependent => self.forwarded,
            Filtering::All => false,
        }
    }

    /// The source that a packet to this destination gets; `None` if it is not let out.
    pub fn send(&mut self, now: Instant, remote: SocketAddr) -> Option<SocketAddr> {
        if self.kind.filtering() == Filtering::All {
            return None;
        }
        let port = match self.flows.port(now, remote) {
            Some(port) => port,
            None => {
                let occupied = self.uninvited.occupies(now, remote);
                self.kind.mapping().choose(occupied, &mut self.given)
            }
        };
        self.flows.sent(now, remote, port);
        Some(SocketAddr::from((self.ip, port)))
    }

    /// Whether a packet gets in that comes from somewhere to a port of this NAT's.
    pub fn receive(&mut self, now: Instant, from: SocketAddr, port: u16) -> bool {
        let forwarded = self.forwarded && port == PORT && self.kind.filtering() != Filtering::All;
        let passes = forwarded || self.kind.filtering().admits(&self.flows, now, from, port);
        if forwarded && self.flows.port(now, from).is_none() {
            // What the host answers is of this flow, and leaves from the port that was sent to.
            self.flows.sent(now, from, port);
        } else if passes {
            self.flows.answered(now, from, port);
        } else if self.kind.leaks() {
            self.uninvited.note(now, from, port);
        }
        passes
    }

    /// The external port of the flow to an address, if there is one.
    #[must_use]
    pub fn port_towards(&self, now: Instant, remote: SocketAddr) -> Option<u16> {
        self.flows.port(now, remote)
    }

    /// The class that observers find.
    #[must_use]
    pub const fn class(&self) -> NatClass {
        self.kind.class()
    }
}

#[cfg(test)]
mod tests;
