//! Helping others to find out whether they can be reached, without being turned against anybody.
//!
//! ```text
//!   client ──CHECK{address, nonce}──► helper ──DIALBACK{address, nonce}──► target
//!     ▲                                                                      │
//!     └──────────────────── PROBE{nonce}, up to three ───────────────────────┘
//! ```
//!
//! Every server is helper and target. The target is at another site than both ends, or, if the helper knows none there,
//! on another host. The same address is probed from other sites each time, as a second probe from one says nothing new;
//! sites take turns, however many targets each of them has. A helper takes only addresses on the host at which it sees
//! who asks, so a client can aim nothing at others. A target has to believe the helper, so a helper that lies can have
//! it send three packets of 17 bytes; for that it has to send as many bytes itself, and rations of each helper, of each
//! host that is probed, and of all bound the rest. What is sent is never more than what came in.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use kad_core::{Duration, Instant, NodeId};

use super::draws::Draws;
use super::prefix::{Family, host, site};
use super::ration::Ration;
use crate::wire::Scope;

/// Bytes of a probe: its type and the nonce.
pub const PROBE_BYTES: usize = 1 + 16;

/// Bytes of the headers of IPv6 and UDP, which a small packet mostly consists of.
const HEADER_BYTES: usize = 40 + 8;

/// Probes for one request, and when: if the first two are lost, so will be others.
const PROBES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(300),
    Duration::from_millis(900),
];

/// The least bytes of a request to a target: as many as the probes that it causes.
pub const DIAL_BACK_BYTES: usize = PROBES.len() * (PROBE_BYTES + HEADER_BYTES);

/// The least bytes of a request to a helper: as many as the request that it causes.
pub const CHECK_BYTES: usize = DIAL_BACK_BYTES;

/// Nodes that may be asked to probe; as many as a table has nearby. A further one is not kept.
const MAX_TARGETS: usize = 64;

/// Requests of one peer that are granted in a minute, as go-libp2p does. More are refused.
const MAX_PER_PEER: usize = 12;

/// Requests that are granted in a minute in all, as go-libp2p does. More are refused.
const MAX_PER_MINUTE: usize = 60;

/// Times in a minute that one host is probed, whoever asks: some helpers for one client.
const MAX_PER_HOST: usize = 12;

/// Times in a minute that one site is probed, whoever asks: two hosts' worth.
const MAX_PER_SITE: usize = 24;

/// What the rations are counted over.
const MINUTE: Duration = Duration::from_secs(60);

/// What happens to a node that helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A server that this node is connected to, and that can be asked to probe.
    TargetKnown {
        /// Who.
        target: NodeId,
        /// Where it is.
        ip: IpAddr,
        /// Whether this node has dialled it. Who calls us may be anybody, and is asked only if nobody else can say
        /// something new.
        dialled: bool,
    },
    /// It is not connected any more.
    TargetGone {
        /// Who.
        target: NodeId,
    },
    /// The host at which others see this node.
    OwnHost {
        /// The host.
        ip: IpAddr,
    },
    /// It was in a private network and is in the internet now: who is not there is forgotten.
    WentPublic,
    /// A client asks for help. Owes it the answer of one [`Action::Pass`] or [`Action::Refuse`].
    Check {
        /// Names the request in the answer.
        request: u64,
        /// Who asks; proven.
        client: NodeId,
        /// Where its connection comes from.
        observed: IpAddr,
        /// What is to be probed.
        address: SocketAddr,
        /// What the probe has to carry.
        nonce: [u8; 16],
        /// Bytes of the request, with its padding.
        bytes: usize,
    },
    /// A helper asks this node to probe. Owes it the answer of one [`Action::Accept`] or [`Action::Refuse`].
    DialBack {
        /// Names the request in the answer.
        request: u64,
        /// Who asks; proven.
        helper: NodeId,
        /// What is to be probed.
        address: SocketAddr,
        /// What the probe has to carry.
        nonce: [u8; 16],
        /// Bytes of the request, with its padding.
        bytes: usize,
    },
    /// The time that [`DialBack::poll_timeout`] told has come.
    Timeout,
}

/// What a node that helps wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask a target, with a request of [`DIAL_BACK_BYTES`], and tell the client whether it accepted.
    Pass {
        /// Which request this answers.
        request: u64,
        /// Whom.
        target: NodeId,
        /// What is to be probed.
        address: SocketAddr,
        /// What the probe has to carry.
        nonce: [u8; 16],
    },
    /// Tell the helper that the probes are on their way.
    Accept {
        /// Which request this answers.
        request: u64,
    },
    /// Tell who asked that nothing comes of it.
    Refuse {
        /// Which request this answers.
        request: u64,
        /// Why not.
        why: Refusal,
    },
    /// Send one small packet.
    Probe {
        /// To where.
        to: SocketAddr,
        /// What it carries.
        nonce: [u8; 16],
    },
}

/// Why a node does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Fewer bytes than it would cause.
    TooSmall,
    /// Not an address of who asks, or one that nothing is sent to.
    BadAddress,
    /// A ration is used up. It is in a minute again.
    Busy,
    /// No target on another host than both ends.
    NoTarget,
}

/// A server that can be asked to probe.
#[derive(Debug, Clone, Copy)]
struct Target {
    id: NodeId,
    ip: IpAddr,
    dialled: bool,
}

/// A node that helps others.
#[derive(Debug)]
pub struct DialBack {
    scope: Scope,
    draws: Draws,
    own_host: Option<IpAddr>,
    targets: Vec<Target>,
    checked: Ration<NodeId>,
    /// Which address was probed from which host.
    passed: Ration<(SocketAddr, IpAddr)>,
    /// Whom this node has asked.
    asked: Ration<NodeId>,
    dialled: Ration<NodeId>,
    hosts: Ration<IpAddr>,
    sites: Ration<IpAddr>,
    /// Probes to be sent, in the order in which they are due; no more than the rations grant.
    due: VecDeque<(Instant, SocketAddr, [u8; 16])>,
}

impl DialBack {
    /// Knows nobody who could probe. The seed must be secret, or clients could tell who will.
    #[must_use]
    pub fn new(scope: Scope, seed: &[u8; 32]) -> Self {
        Self {
            scope,
            draws: Draws::new(seed, "nautilus-kad 2026-11 dial back"),
            own_host: None,
            targets: Vec::new(),
            checked: Ration::new(MINUTE, MAX_PER_MINUTE),
            passed: Ration::new(MINUTE, MAX_PER_MINUTE),
            asked: Ration::new(MINUTE, MAX_PER_MINUTE),
            dialled: Ration::new(MINUTE, MAX_PER_MINUTE),
            hosts: Ration::new(MINUTE, MAX_PER_MINUTE),
            sites: Ration::new(MINUTE, MAX_PER_MINUTE),
            due: VecDeque::new(),
        }
    }

    /// Takes one event and appends what follows to `out`: at most two actions, and after a timeout the probes that are
    /// due, of which there are at most three for each request of the last second.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::TargetKnown { target, ip, dialled } => {
                self.targets.retain(|known| known.id != target);
                if self.targets.len() < MAX_TARGETS && self.scope.admits_host(ip) {
                    let (id, ip) = (target, ip.to_canonical());
                    self.targets.push(Target { id, ip, dialled });
                }
            }
            Event::TargetGone { target } => self.targets.retain(|known| known.id != target),
            Event::OwnHost { ip } => self.own_host = Some(ip),
            Event::WentPublic => {
                (self.scope, self.own_host) = (Scope::Global, None);
                self.targets.retain(|target| Scope::Global.admits_host(target.ip));
            }
            Event::Check {
                request,
                client,
                observed,
                address,
                nonce,
                bytes,
            } => {
                let target = self.may_pass(now, client, observed, address, bytes);
                out.push(match target {
                    Ok(target) => Action::Pass {
                        request,
                        target,
                        address,
                        nonce,
                    },
                    Err(why) => Action::Refuse { request, why },
                });
            }
            Event::DialBack {
                request,
                helper,
                address,
                nonce,
                bytes,
            } => match self.may_probe(now, helper, address, bytes) {
                Ok(()) => {
                    out.push(Action::Accept { request });
                    out.push(Action::Probe { to: address, nonce });
                    let later = PROBES.iter().skip(1).map(|after| (now + *after, address, nonce));
                    self.due.extend(later);
                    self.due.make_contiguous().sort_by_key(|(at, ..)| *at);
                }
                Err(why) => out.push(Action::Refuse { request, why }),
            },
            Event::Timeout => {
                while let Some((_, to, nonce)) = self.due.pop_front_if(|(at, ..)| *at <= now) {
                    out.push(Action::Probe { to, nonce });
                }
            }
        }
    }

    /// When the next probe is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.front().map(|(at, ..)| *at)
    }

    /// Whom to ask to probe, if this request deserves it.
    fn may_pass(
        &mut self,
        now: Instant,
        client: NodeId,
        observed: IpAddr,
        address: SocketAddr,
        bytes: usize,
    ) -> Result<NodeId, Refusal> {
        if bytes < CHECK_BYTES {
            return Err(Refusal::TooSmall);
        }
        if observed.to_canonical() != address.ip().to_canonical() || !self.scope.admits(address) {
            return Err(Refusal::BadAddress);
        }
        if !self.checked.has(now, &client, MAX_PER_PEER) {
            return Err(Refusal::Busy);
        }
        let target = self
            .choose_target(now, client, address)
            .ok_or(Refusal::NoTarget)?;
        self.checked.take(now, client);
        self.passed.take(now, (address, host(target.ip)));
        self.asked.take(now, target.id);
        Ok(target.id)
    }

    /// One of those that can say most about this address. A site is drawn first, so that whoever has many nodes at one
    /// is asked no oftener than others.
    fn choose_target(&mut self, now: Instant, client: NodeId, address: SocketAddr) -> Option<Target> {
        let scope = self.scope;
        let at = |ip: IpAddr| site(ip, scope);
        let ends = [Some(address.ip()), self.own_host];
        let is_end = |ip: IpAddr, place: &dyn Fn(IpAddr) -> IpAddr| {
            let mut ends = ends.iter().flatten();
            ends.any(|end| place(*end) == place(ip))
        };
        let lately = |ip: IpAddr, place: &dyn Fn(IpAddr) -> IpAddr| {
            let same = |known: &(SocketAddr, IpAddr)| known.0 == address && place(known.1) == place(ip);
            self.passed.recent(now, same)
        };
        let fits = |target: &&Target| {
            let is_family = Family::of(target.ip) == Family::of(address.ip());
            target.id != client && is_family && !is_end(target.ip, &host)
        };
        // The first reason to ask somebody else counts most. Where all servers lie at one site, others in it are all
        // that there are: what their probes are worth decides the client, who knows where servers lie.
        let reasons = |target: &Target| {
            [
                is_end(target.ip, &at),
                !self.asked.has(now, &target.id, MAX_PER_PEER),
                lately(target.ip, &host),
                lately(target.ip, &at),
                !target.dialled,
            ]
        };
        let fitting = self.targets.iter().filter(fits);
        let mut best: Vec<(Target, [bool; 5])> = fitting.map(|target| (*target, reasons(target))).collect();
        let least = best.iter().map(|(_, reasons)| *reasons).min()?;
        best.retain(|(_, reasons)| *reasons == least);
        let mut sites: Vec<IpAddr> = best.iter().map(|(target, _)| at(target.ip)).collect();
        sites.sort_unstable();
        sites.dedup();
        let drawn = sites[self.draws.pick(sites.len())?];
        best.retain(|(target, _)| at(target.ip) == drawn);
        Some(best[self.draws.pick(best.len())?].0)
    }

    fn may_probe(
        &mut self,
        now: Instant,
        helper: NodeId,
        address: SocketAddr,
        bytes: usize,
    ) -> Result<(), Refusal> {
        if bytes < DIAL_BACK_BYTES {
            return Err(Refusal::TooSmall);
        }
        if !self.scope.admits(address) {
            return Err(Refusal::BadAddress);
        }
        let (host, site) = (host(address.ip()), site(address.ip(), self.scope));
        let granted = self.dialled.has(now, &helper, MAX_PER_PEER)
            && self.hosts.has(now, &host, MAX_PER_HOST)
            && self.sites.has(now, &site, MAX_PER_SITE);
        if !granted {
            return Err(Refusal::Busy);
        }
        self.dialled.take(now, helper);
        self.hosts.take(now, host);
        self.sites.take(now, site);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
