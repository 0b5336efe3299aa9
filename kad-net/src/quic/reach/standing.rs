//! What a node knows about how it is reached, and what of it goes into its card.

use std::net::SocketAddr;

use kad_core::Contact;

use crate::nat::candidates::{Candidate, CandidateKind, MAX_CANDIDATES};
use crate::nat::observation::{Family, NatClass};
use crate::nat::reachability::{Prospect, Role};
use crate::quic::QuicAddress;
use crate::wire::card::Card;

/// Addresses of interfaces that a card names; the others are left out. One of each family.
const MAX_LAN: usize = 2;

/// How a node is reached, as far as it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// Whether it serves.
    pub role: Role,
    /// How the NAT in front of it chooses ports of IPv4.
    pub class: NatClass,
    /// The same of IPv6, where there is hardly ever a NAT.
    pub class_v6: NatClass,
    /// Where several peers see it, the one with the most votes first.
    pub observed: Vec<SocketAddr>,
    /// The addresses at which strangers reached it.
    pub reachable: Vec<SocketAddr>,
    /// What there is to wait for while there are none.
    pub prospect: Prospect,
    /// Those that a router says it forwards.
    pub mapped: Vec<SocketAddr>,
    /// Those of its interfaces, and those that its sockets are bound to.
    pub lan: Vec<SocketAddr>,
    /// The relays at which it has a place, the nearest first. At most
    /// [`MAX_RESERVED`](crate::nat::reservations::MAX_RESERVED).
    pub relays: Vec<Contact<QuicAddress>>,
}

impl Standing {
    pub(super) const fn new(role: Role) -> Self {
        Self {
            role,
            class: NatClass::Unknown,
            class_v6: NatClass::Unknown,
            observed: Vec::new(),
            reachable: Vec::new(),
            prospect: Prospect::Unclear,
            mapped: Vec::new(),
            lan: Vec::new(),
            relays: Vec::new(),
        }
    }

    /// How ports of this family are chosen in front of it.
    pub(in super::super) const fn class_of(&self, family: Family) -> NatClass {
        match family {
            Family::V4 => self.class,
            Family::V6 => self.class_v6,
        }
    }

    /// The addresses at which it may be, each once and as the best that it is known for. At most [`MAX_CANDIDATES`],
    /// the best first.
    #[must_use]
    pub fn candidates(&self) -> Vec<Candidate> {
        let of = |list: &[SocketAddr], kind| {
            let candidate = move |&address: &SocketAddr| Candidate { address, kind };
            list.iter().map(candidate).collect::<Vec<_>>()
        };
        let proven = of(&self.reachable, CandidateKind::Verified);
        let mapped = of(&self.mapped, CandidateKind::Mapped);
        let observed = of(&self.observed, CandidateKind::Observed);
        let mut lan = of(&self.lan, CandidateKind::Lan);
        let known = |candidate: &Candidate| {
            let mut others = proven.iter().chain(&mapped).chain(&observed);
            others.any(|other| other.address == candidate.address)
        };
        lan.retain(|candidate| !known(candidate));
        lan.truncate(MAX_LAN);
        let mut all: Vec<Candidate> = Vec::new();
        for candidate in lan.into_iter().chain(proven).chain(mapped).chain(observed) {
            if all.len() < MAX_CANDIDATES && all.iter().all(|one| one.address != candidate.address) {
                all.push(candidate);
            }
        }
        all
    }

    /// What the card of the node says.
    #[must_use]
    pub fn card(&self) -> Card<QuicAddress> {
        Card {
            candidates: self.candidates(),
            // Of the family in which NATs are.
            class: match self.class {
                NatClass::Unknown => self.class_v6,
                known => known,
            },
            relays: self.relays.clone(),
            serves: self.role == Role::Server,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_names_each_address_once_and_as_the_best_that_it_is_known_for() {
        let socket = |text: &str| text.parse::<SocketAddr>().unwrap();
        let standing = Standing {
            observed: vec![socket("8.8.8.8:4001"), socket("8.8.8.8:4002")],
            reachable: vec![socket("8.8.8.8:4002")],
            mapped: vec![socket("8.8.8.8:4002"), socket("8.8.8.8:4003")],
            lan: vec![
                socket("8.8.8.8:4001"),
                socket("192.168.0.7:4001"),
                socket("10.0.0.1:4001"),
                socket("10.0.0.2:4001"),
            ],
            ..Standing::new(Role::Client)
        };
        let card = standing.card();
        let told: Vec<_> = card
            .candidates
            .iter()
            .map(|candidate| (candidate.kind, candidate.address.to_string()))
            .collect();
        let expected = [
            (CandidateKind::Lan, "192.168.0.7:4001"),
            (CandidateKind::Lan, "10.0.0.1:4001"),
            (CandidateKind::Verified, "8.8.8.8:4002"),
            (CandidateKind::Mapped, "8.8.8.8:4003"),
            (CandidateKind::Observed, "8.8.8.8:4001"),
        ];
        assert_eq!(told, expected.map(|(kind, text)| (kind, text.to_owned())));
        assert!(!card.serves);
        assert!(Card::decode(&card.encode().unwrap(), crate::wire::Scope::Any).unwrap() == card);
    }
}
