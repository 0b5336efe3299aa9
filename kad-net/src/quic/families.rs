//! IPv4 and IPv6 beside each other: which of them leads anywhere from here, which one is tried first, and where a peer
//! was reached in each.
//!
//! A machine may have a socket of a family and no way out in it, and that changes while it runs. What is sent then is
//! lost without a word, so the system is asked for a route before something is dialled. Peers that are known in both
//! families are dialled in the one or in the other, half of them each: a node has to be seen, and helped, in both.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kad_core::{Duration, Instant, NodeId};

use super::address::QuicAddress;
use crate::nat::prefix::Family;

/// Peers of which both families are remembered: those of a table, several times over. Full: the one that was reached
/// longest ago is forgotten.
const MAX_PEERS: usize = 2048;

/// Addresses that peers are said to have in the other family, and that wait to be dialled. Full: a further one is not
/// looked at, until it is said again.
const MAX_CLAIMS: usize = 64;

/// How long a peer is taken to be where it was reached.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

impl Family {
    /// The other one.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// Whether the system knows a way there. Nothing is sent: connecting a UDP socket only looks up the route.
pub(super) fn has_route(to: IpAddr) -> bool {
    let any: IpAddr = match Family::of(to) {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let looked_up = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((to.to_canonical(), 9)));
    looked_up.is_ok()
}

/// Whether there is a way to the internet in this family. The targets are of documentation (RFC 5737, RFC 3849), and
/// lie behind the default route if anything does.
pub(super) fn has_way_out(family: Family) -> bool {
    has_route(match family {
        Family::V4 => Ipv4Addr::new(198, 51, 100, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    })
}

/// Whether something sent there leads nowhere, while the other family works. A machine without any network just waits
/// for it.
pub(super) fn leads_nowhere(to: IpAddr) -> bool {
    !has_route(to) && has_way_out(Family::of(to).other())
}

/// The family in which a peer that is known in both is dialled first. Both ends choose the same, so that they meet on
/// one connection.
pub(super) fn first_for(local: NodeId, peer: NodeId) -> Family {
    match (local.to_bytes()[31] ^ peer.to_bytes()[31]) & 1 {
        0 => Family::V4,
        _ => Family::V6,
    }
}

/// Where peers were reached by this node, in each family. It has dialled each of these addresses and found the peer
/// there, so it may tell others of them. What peers, or others, only say waits to be dialled.
#[derive(Default)]
pub(super) struct Reached(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    peers: BTreeMap<NodeId, Places>,
    claims: VecDeque<(NodeId, SocketAddr)>,
}

#[derive(Default)]
struct Places {
    v4: Option<(SocketAddr, Instant)>,
    v6: Option<(SocketAddr, Instant)>,
}

impl Places {
    const fn of(&self, family: Family) -> Option<(SocketAddr, Instant)> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    fn last(&self) -> Option<Instant> {
        let at = |place: Option<(SocketAddr, Instant)>| place.map(|(_, at)| at);
        at(self.v4).max(at(self.v6))
    }
}

impl Reached {
    /// A peer was dialled there, and has shown who it is.
    pub(super) fn note(&self, now: Instant, peer: NodeId, at: SocketAddr) {
        let mut inner = self.lock();
        let peers = &mut inner.peers;
        if peers.len() >= MAX_PEERS && !peers.contains_key(&peer) {
            let oldest = peers.iter().min_by_key(|(_, places)| places.last());
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                peers.remove(&oldest);
            }
        }
        let places = peers.entry(peer).or_default();
        match Family::of(at.ip()) {
            Family::V4 => places.v4 = Some((at, now)),
            Family::V6 => places.v6 = Some((at, now)),
        }
    }

    /// Nobody answers there any more, or somebody else does.
    pub(super) fn forget(&self, peer: NodeId, at: SocketAddr) {
        if let Some(places) = self.lock().peers.get_mut(&peer) {
            let there = |place: &mut (SocketAddr, Instant)| place.0 == at;
            // What was there is of no use to anybody.
            let _ = places.v4.take_if(there);
            let _ = places.v6.take_if(there);
        }
    }

    /// Where a peer was reached in this family.
    pub(super) fn place(&self, now: Instant, peer: &NodeId, family: Family) -> Option<SocketAddr> {
        let (at, since) = self.lock().peers.get(peer)?.of(family)?;
        (now.since(since) < LIFETIME).then_some(at)
    }

    /// The address of a peer that is met at this place, if it was reached in the other family: both.
    pub(super) fn address(&self, now: Instant, peer: &NodeId, met: SocketAddr) -> Option<QuicAddress> {
        let other = self.place(now, peer, Family::of(met.ip()).other())?;
        QuicAddress::new(&[met, other])
    }

    /// Somebody says that the peer is there too.
    pub(super) fn claim(&self, now: Instant, peer: NodeId, at: SocketAddr) {
        let known = self.place(now, &peer, Family::of(at.ip())).is_some();
        if known {
            return;
        }
        let claims = &mut self.lock().claims;
        if let Some(claim) = claims.iter_mut().find(|claim| claim.0 == peer) {
            claim.1 = at;
        } else if claims.len() < MAX_CLAIMS {
            claims.push_back((peer, at));
        }
    }

    /// Takes out some of what is said, what was said first before the rest.
    pub(super) fn take_claims(&self, most: usize) -> Vec<(NodeId, SocketAddr)> {
        let claims = &mut self.lock().claims;
        let taken = most.min(claims.len());
        claims.drain(..taken).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u64) -> NodeId {
        NodeId::from_limbs([n, 0, 0, n])
    }

    fn at(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    #[test]
    fn a_peer_has_the_addresses_at_which_it_was_reached_as_long_as_they_are_fresh() {
        let reached = Reached::default();
        let v4: SocketAddr = "8.8.8.8:4001".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:4001".parse().unwrap();
        let told = |secs, met: SocketAddr| {
            let both = reached.address(at(secs), &peer(1), met);
            both.unwrap_or_else(|| met.into()).to_string()
        };
        assert_eq!(told(0, v4), "8.8.8.8:4001");
        reached.note(at(0), peer(1), v6);
        assert_eq!(told(1, v4), "8.8.8.8:4001,[2001:db8::1]:4001");
        assert_eq!(told(1, v6), "[2001:db8::1]:4001", "nobody reached it over IPv4");
        reached.note(at(10), peer(1), v4);
        assert_eq!(told(11, v6), "8.8.8.8:4001,[2001:db8::1]:4001");
        assert_eq!(told(3_600, v4), "8.8.8.8:4001", "too long ago");
        let elsewhere = "[2001:db8::2]:4001".parse().unwrap();
        reached.note(at(20), peer(1), v6);
        reached.forget(peer(1), elsewhere);
        assert_eq!(told(21, v4), "8.8.8.8:4001,[2001:db8::1]:4001");
        reached.forget(peer(1), v6);
        assert_eq!(told(21, v4), "8.8.8.8:4001");
    }

    #[test]
    fn peers_that_are_remembered_are_bounded_and_the_oldest_are_forgotten_first() {
        let reached = Reached::default();
        let v6: SocketAddr = "[2001:db8::1]:4001".parse().unwrap();
        for n in 0..2 * MAX_PEERS as u64 {
            reached.note(at(n), peer(n), v6);
        }
        assert_eq!(reached.lock().peers.len(), MAX_PEERS);
        let newest = 2 * MAX_PEERS as u64 - 1;
        assert_eq!(reached.place(at(newest), &peer(newest), Family::V6), Some(v6));
        assert_eq!(reached.place(at(newest), &peer(0), Family::V6), None);
    }

    #[test]
    fn what_is_said_of_peers_is_looked_at_once_and_bounded() {
        let reached = Reached::default();
        let v6: SocketAddr = "[2001:db8::1]:4001".parse().unwrap();
        reached.note(at(0), peer(0), v6);
        let last = 2 * MAX_CLAIMS as u64;
        // Where the first one is, is known.
        for n in std::iter::once(0).chain((1..=last).rev()) {
            reached.claim(at(1), peer(n), v6);
        }
        assert_eq!(reached.take_claims(1), [(peer(last), v6)], "what was said first");
        assert_eq!(reached.take_claims(usize::MAX / 2).len(), MAX_CLAIMS - 1);
        assert!(reached.take_claims(1).is_empty());
    }

    #[test]
    fn both_ends_begin_with_the_same_family_and_each_is_the_first_for_half_of_the_peers() {
        let id = |n: u8| kad_core::Keypair::from_secret(&[n; 32]).node_id();
        let first: Vec<Family> = (2..130).map(|n| first_for(id(1), id(n))).collect();
        assert!((2..130).all(|n| first_for(id(n), id(1)) == first[usize::from(n) - 2]));
        let v6 = first.iter().filter(|family| **family == Family::V6).count();
        assert!((32..=96).contains(&v6), "{v6} of 128");
    }

    #[test]
    fn this_machine_reaches_itself() {
        assert!(has_route(Ipv4Addr::LOCALHOST.into()));
        assert!(!leads_nowhere(Ipv4Addr::LOCALHOST.into()));
    }
}
