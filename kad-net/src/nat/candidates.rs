//! Addresses at which a peer may be, the best first, and those of them that may be punched.

use std::net::{IpAddr, SocketAddr};

use super::prefix::host;
use crate::wire::Scope;

/// Candidates of one peer: three of each family and two in its own network. The worst are left out.
pub const MAX_CANDIDATES: usize = 8;

/// Addresses that are punched in one round. Every further one would be sent two dozen packets in vain.
pub const MAX_TARGETS: usize = 4;

/// How an address of a peer came to be known. In the order in which they are tried, but for the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateKind {
    /// An address of an interface. It means something only to those behind the same NAT.
    Lan,
    /// Strangers were seen to reach it.
    Verified,
    /// A router said that it forwards it.
    Mapped,
    /// Several peers see the node there.
    Observed,
    /// A relay forwards to it. It always works, and costs others.
    Relayed,
}

/// An address of a peer. What it is said to be is the peer's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Where.
    pub address: SocketAddr,
    /// How that is known.
    pub kind: CandidateKind,
}

/// Two nodes, as somebody sees them who is connected to both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meeting {
    /// Where addresses mean something.
    pub scope: Scope,
    /// Where this node is seen.
    pub own_host: IpAddr,
    /// Where the peer is seen.
    pub peer_host: IpAddr,
}

impl Meeting {
    /// The candidates of a peer that are worth a try, the best first: LAN, verified IPv6, verified IPv4, mapped,
    /// observed, relayed. At most [`MAX_CANDIDATES`], each address once.
    ///
    /// Private addresses are left out unless both are seen at the same host: anywhere else they are somebody else's,
    /// and the peer could have any host of this network dialled.
    #[must_use]
    pub fn rank(&self, candidates: &[Candidate]) -> Vec<Candidate> {
        // Beyond this nothing honest is cut off, and sorting stays cheap whatever a peer says.
        let sane = candidates.iter().take(4 * MAX_CANDIDATES);
        let canonical = |candidate: &Candidate| Candidate {
            address: SocketAddr::new(candidate.address.ip().to_canonical(), candidate.address.port()),
            ..*candidate
        };
        let mut ranked: Vec<_> = sane
            .map(canonical)
            .filter(|candidate| self.admits(candidate))
            .collect();
        ranked.sort_by_key(|candidate| {
            let late = candidate.kind == CandidateKind::Verified && candidate.address.is_ipv4();
            (candidate.kind, late, candidate.address)
        });
        let mut seen = Vec::new();
        ranked.retain(|candidate| {
            let first = !seen.contains(&candidate.address);
            seen.push(candidate.address);
            first
        });
        ranked.truncate(MAX_CANDIDATES);
        ranked
    }

    /// Where to punch: of these candidates, in their order, those on the host at which the peer was seen, and those in
    /// the own network. So no peer can have packets sent to a third party. At most [`MAX_TARGETS`].
    #[must_use]
    pub fn targets(&self, ranked: &[Candidate]) -> Vec<SocketAddr> {
        let may_be_punched = |candidate: &&Candidate| {
            candidate.kind != CandidateKind::Relayed
                && self.admits(candidate)
                && self.may_be_peer(candidate.address)
        };
        let fit = ranked.iter().filter(may_be_punched);
        fit.map(|candidate| candidate.address).take(MAX_TARGETS).collect()
    }

    /// Whether both are in one network: behind one IPv4 address, or in one /64 of IPv6.
    #[must_use]
    pub fn is_together(&self) -> bool {
        host(self.own_host) == host(self.peer_host)
    }

    fn may_be_peer(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.scope == Scope::Any || ip == self.peer_host.to_canonical() || is_local(ip)
    }

    fn admits(&self, candidate: &Candidate) -> bool {
        let address = candidate.address;
        if self.scope == Scope::Global && is_local(address.ip()) {
            // Ports as everywhere else: nobody's router is dialled at its own services.
            return candidate.kind == CandidateKind::Lan && self.is_together() && address.port() >= 1024;
        }
        self.scope.admits(address)
    }
}

/// An address in a private network. Loopback and link-local ones are nobody's candidates.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::CandidateKind::{Lan, Mapped, Observed, Relayed, Verified};
    use super::*;

    fn meeting(own: &str, peer: &str) -> Meeting {
        Meeting {
            scope: Scope::Global,
            own_host: own.parse().unwrap(),
            peer_host: peer.parse().unwrap(),
        }
    }

    fn candidate(kind: CandidateKind, address: &str) -> Candidate {
        Candidate {
            address: address.parse().unwrap(),
            kind,
        }
    }

    fn addresses(candidates: &[Candidate]) -> Vec<String> {
        candidates
            .iter()
            .map(|candidate| candidate.address.to_string())
            .collect()
    }

    #[test]
    fn what_costs_least_is_tried_first() {
        let all = [
            candidate(Relayed, "9.9.9.9:4000"),
            candidate(Observed, "8.8.8.8:4001"),
            candidate(Observed, "8.8.8.8:4002"),
            candidate(Mapped, "8.8.8.8:4002"),
            candidate(Verified, "8.8.8.8:4003"),
            candidate(Verified, "[2001:db8::1]:4001"),
            candidate(Lan, "192.168.0.7:4001"),
            candidate(Observed, "::ffff:8.8.8.8:4001".trim_start_matches("::ffff:")),
        ];
        let order = [
            "[2001:db8::1]:4001",
            "8.8.8.8:4003",
            "8.8.8.8:4002",
            "8.8.8.8:4001",
            "9.9.9.9:4000",
        ];
        assert_eq!(addresses(&meeting("7.7.7.7", "8.8.8.8").rank(&all)), order);
        let together = meeting("8.8.8.8", "::ffff:8.8.8.8").rank(&all);
        assert_eq!(addresses(&together)[0], "192.168.0.7:4001");
        assert_eq!(together.len(), 6);
    }

    #[test]
    fn a_peer_can_neither_have_a_third_party_punched_nor_a_network_that_it_is_not_in() {
        let all = [
            candidate(Verified, "6.6.6.6:4001"),
            candidate(Lan, "6.6.6.6:4001"),
            candidate(Observed, "8.8.8.8:4001"),
            candidate(Observed, "8.8.8.8:53"),
            candidate(Lan, "192.168.0.1:4001"),
            candidate(Observed, "192.168.0.1:4001"),
            candidate(Lan, "192.168.0.1:53"),
            candidate(Lan, "127.0.0.1:4001"),
            candidate(Lan, "169.254.0.1:4001"),
            candidate(Relayed, "8.8.8.8:4000"),
        ];
        let apart = meeting("7.7.7.7", "8.8.8.8");
        assert_eq!(
            apart.targets(&apart.rank(&all)),
            ["8.8.8.8:4001".parse().unwrap()]
        );
        let together = meeting("8.8.8.8", "8.8.8.8");
        let targets = together.targets(&together.rank(&all));
        assert_eq!(
            targets,
            [
                "192.168.0.1:4001".parse().unwrap(),
                "8.8.8.8:4001".parse().unwrap()
            ]
        );
    }

    proptest! {
        #[test]
        fn targets_are_few_and_all_on_the_host_of_the_peer(
            list in prop::collection::vec((0usize..5, 0u8..4, any::<u16>()), 0..100),
        ) {
            let kinds = [Lan, Verified, Mapped, Observed, Relayed];
            let all: Vec<_> = list
                .into_iter()
                .map(|(kind, last, port)| Candidate { address: ([8, 8, 8, last], port).into(), kind: kinds[kind] })
                .collect();
            let meeting = meeting("7.7.7.7", "8.8.8.1");
            let ranked = meeting.rank(&all);
            prop_assert!(ranked.len() <= MAX_CANDIDATES);
            prop_assert!(ranked.windows(2).all(|two| two[0].kind <= two[1].kind));
            let targets = meeting.targets(&ranked);
            prop_assert!(targets.len() <= MAX_TARGETS);
            // Also of candidates that were not ranked first.
            for target in targets.into_iter().chain(meeting.targets(&all)) {
                prop_assert!(target.ip() == meeting.peer_host && target.port() >= 1024);
            }
        }
    }
}
