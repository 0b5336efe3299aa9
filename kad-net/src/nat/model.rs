//! NATs as state machines: mapping, filtering, expiry, and poisoning.

use std::net::{Ipv4Addr, SocketAddr};

use kad_core::{Duration, Instant};

use super::observation::NatClass;

/// The types of the laboratory in which the rules of this module were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
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

pub(super) const KINDS: [Kind; 8] = [
    Kind::Full,
    Kind::Addr,
    Kind::Cone,
    Kind::Leaky,
    Kind::Sym,
    Kind::Fw,
    Kind::Open,
    Kind::Block,
];

/// How long Linux keeps a UDP flow that saw no answer. Flows with answers live longer, which no test here waits for.
const EXPIRY: Duration = Duration::from_secs(30);

/// The port of each node, and the one that a NAT keeps for it if it can.
pub(super) const PORT: u16 = 4001;

#[derive(Debug)]
struct Flow {
    remote: SocketAddr,
    port: u16,
    until: Instant,
}

#[derive(Debug)]
pub(super) struct Nat {
    pub(super) kind: Kind,
    pub(super) ip: Ipv4Addr,
    flows: Vec<Flow>,
    /// What came uninvited, and the port that it wanted.
    poison: Vec<Flow>,
    next_port: u16,
}

impl Nat {
    pub(super) const fn new(kind: Kind, ip: Ipv4Addr) -> Self {
        Self {
            kind,
            ip,
            flows: Vec::new(),
            poison: Vec::new(),
            next_port: 30_000,
        }
    }

    /// The source that a packet to this destination gets; `None` if it is not let out.
    pub(super) fn send(&mut self, now: Instant, remote: SocketAddr) -> Option<SocketAddr> {
        if self.kind == Kind::Block {
            return None;
        }
        self.flows.retain(|flow| now < flow.until);
        self.poison.retain(|flow| now < flow.until);
        let known = self.flows.iter_mut().find(|flow| flow.remote == remote);
        let port = if let Some(flow) = known {
            flow.until = now + EXPIRY;
            flow.port
        } else {
            let occupied = self
                .poison
                .iter()
                .any(|flow| flow.remote == remote && flow.port == PORT);
            let port = if self.kind == Kind::Sym || occupied {
                self.next_port += 7;
                self.next_port
            } else {
                PORT
            };
            let until = now + EXPIRY;
            self.flows.push(Flow { remote, port, until });
            port
        };
        Some(SocketAddr::from((self.ip, port)))
    }

    /// Whether a packet gets in.
    pub(super) fn receive(&mut self, now: Instant, from: SocketAddr, port: u16) -> bool {
        self.flows.retain(|flow| now < flow.until);
        let passes = match self.kind {
            Kind::Block => false,
            Kind::Open | Kind::Full if port == PORT => true,
            Kind::Addr => self
                .flows
                .iter()
                .any(|flow| flow.port == port && flow.remote.ip() == from.ip()),
            _ => self
                .flows
                .iter()
                .any(|flow| flow.port == port && flow.remote == from),
        };
        if !passes && self.kind == Kind::Leaky {
            self.poison
                .retain(|flow| flow.remote != from || flow.port != port);
            let until = now + EXPIRY;
            self.poison.push(Flow {
                remote: from,
                port,
                until,
            });
        }
        passes
    }

    pub(super) fn class(&self) -> NatClass {
        match self.kind {
            Kind::Sym => NatClass::EndpointDependent,
            Kind::Block => NatClass::Unknown,
            _ => NatClass::EndpointIndependent,
        }
    }
}
