//! By which relays a peer is come to, and at which of their addresses.
//!
//! A relay tells both ends at which host it sees the other one, and only there they may punch. So whoever comes to a
//! relay comes in the family in which the peer is there: over IPv6 both are seen at IPv6 addresses, before which there
//! is no NAT. A card names a relay as the peer has met it; both families are named by a peer that has one alone, for
//! those that have only the other.

use std::net::{IpAddr, SocketAddr};

use kad_core::Contact;

use crate::nat::prefix::Family;
use crate::quic::address::QuicAddress;
use crate::transport::WireAddress as _;
use crate::wire::card::Card;

/// The relays of a card, each in one family; `leads` says where this machine has a way. IPv6 comes first, as nothing
/// better can be punched, and the families take turns, as one of them may be dead. Those that cannot be reached from
/// here are left out.
pub(super) fn ways(card: &Card<QuicAddress>, leads: impl Fn(IpAddr) -> bool) -> Vec<Contact<QuicAddress>> {
    let mut families = card
        .candidates
        .iter()
        .map(|candidate| Family::of(candidate.address.ip()));
    // An interface may have an address of IPv6 that leads nowhere; one of IPv4 is only there if IPv4 is.
    let peer_has = match families.all(|family| family == Family::V6) && !card.candidates.is_empty() {
        true => Family::V6,
        false => Family::V4,
    };
    let (mut v6, mut v4) = (Vec::new(), Vec::new());
    for relay in &card.relays {
        let usable = |socket: &&SocketAddr| leads(socket.ip());
        let usable: Vec<SocketAddr> = relay.address.sockets().iter().filter(usable).copied().collect();
        let of = |family| {
            let fits = |socket: &&SocketAddr| Family::of(socket.ip()) == family;
            usable.iter().filter(fits).copied().collect::<Vec<_>>()
        };
        for family in [peer_has, peer_has.other()] {
            if let Some(address) = QuicAddress::new(&of(family)) {
                let way = Contact::new(relay.id, address);
                match family {
                    Family::V6 => v6.push(way),
                    Family::V4 => v4.push(way),
                }
                break;
            }
        }
    }
    let turns = v6.len().max(v4.len());
    let in_turn = (0..turns).flat_map(|n| [v6.get(n), v4.get(n)]);
    in_turn.flatten().cloned().collect()
}

#[cfg(test)]
mod tests {
    use kad_core::NodeId;

    use super::*;
    use crate::nat::candidates::{Candidate, CandidateKind};

    fn card(candidates: &[&str], relays: &[&str]) -> Card<QuicAddress> {
        let observed = |address: &&str| Candidate {
            address: address.parse().unwrap(),
            kind: CandidateKind::Observed,
        };
        let relay = |(n, address): (usize, &&str)| {
            let id = NodeId::from_limbs([n as u64 + 1, 0, 0, 0]);
            Contact::new(id, address.parse().unwrap())
        };
        Card {
            candidates: candidates.iter().map(observed).collect(),
            relays: relays.iter().enumerate().map(relay).collect(),
            ..Card::default()
        }
    }

    fn told(card: &Card<QuicAddress>, leads: impl Fn(IpAddr) -> bool) -> Vec<String> {
        let ways = ways(card, leads);
        ways.iter().map(|way| way.address.to_string()).collect()
    }

    const V4: [&str; 3] = ["9.0.0.1:1", "9.0.0.2:1", "9.0.0.3:1"];

    #[test]
    fn a_peer_of_both_families_is_come_to_over_ipv6_first_and_the_families_take_turns() {
        let both = card(
            &["8.8.8.8:4001", "[2001:db8::1]:4001"],
            &[V4[0], "[2001:db8:a::1]:1", V4[1], "[2001:db8:b::1]:1"],
        );
        let turns = ["[2001:db8:a::1]:1", V4[0], "[2001:db8:b::1]:1", V4[1]];
        assert_eq!(told(&both, |_| true), turns);
        assert_eq!(told(&both, |ip| ip.is_ipv4()), V4[..2]);
        assert_eq!(told(&both, |ip| ip.is_ipv6()), [turns[0], turns[2]]);
    }

    #[test]
    fn whoever_can_comes_in_the_family_that_the_peer_has_and_others_in_the_other() {
        let relays = ["9.0.0.1:1,[2001:db8:a::1]:1", "9.0.0.2:1,[2001:db8:b::1]:1"];
        let v6 = ["[2001:db8:a::1]:1", "[2001:db8:b::1]:1"];
        let only_v4 = card(&["8.8.8.8:4001", "[fd00::7]:4001"], &relays);
        let only_v6 = card(&["[2001:db8::1]:4001"], &relays);
        let unknown = card(&[], &relays);
        assert_eq!(told(&only_v4, |_| true), V4[..2]);
        assert_eq!(told(&unknown, |_| true), V4[..2]);
        assert_eq!(told(&only_v6, |_| true), v6);
        assert_eq!(told(&only_v4, |ip| ip.is_ipv6()), v6);
        assert_eq!(told(&only_v6, |ip| ip.is_ipv4()), V4[..2]);
        assert!(told(&card(&[], &V4), |ip| ip.is_ipv6()).is_empty());
    }
}
