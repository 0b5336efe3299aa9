//! From whom a record came, as far as senders can be told apart.

use crate::{Address, Contact};

/// Marks a tag that was made of a node's id; the tags of address groups have other top bits.
const BY_ID: u64 = 1 << 63;

/// The sender of a record: a number that all nodes of one site share, so that a store can count what each site has
/// sent and keep one from taking the place of all others. A tag, not a name: two senders may happen to have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Source(u64);

impl Source {
    /// Nobody in particular: the node itself.
    pub const UNKNOWN: Self = Self(0);

    /// The sender with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number, to be written down; 0 is nobody.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The sender that a peer belongs to: the site of its address ([`AddressGroups::narrow`](crate::AddressGroups)), as
    /// ids cost nothing. Where addresses have no groups, on loopback and in private networks, each peer is one.
    #[must_use]
    pub fn of<A: Address>(peer: &Contact<A>) -> Self {
        match peer.address.groups() {
            Some(groups) => Self(groups.narrow),
            None => Self(BY_ID | peer.id.to_key().to_limbs()[0]),
        }
    }

    /// Whether it is nobody in particular.
    #[must_use]
    pub const fn is_unknown(self) -> bool {
        self.0 == Self::UNKNOWN.0
    }
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;

    use super::*;
    use crate::NodeId;

    fn source(id: u64, address: &str) -> Source {
        let address: SocketAddr = address.parse().unwrap();
        Source::of(&Contact::new(NodeId::from_limbs([id, 0, 0, 0]), address))
    }

    #[test]
    fn nodes_of_one_site_are_one_sender_whatever_their_ids() {
        assert_eq!(source(1, "8.8.8.8:1"), source(2, "8.8.8.9:2"));
        assert_ne!(source(1, "8.8.8.8:1"), source(1, "8.8.9.8:1"));
        assert_eq!(source(1, "[2001:db8:1::1]:1"), source(2, "[2001:db8:1:2::1]:1"));
    }

    #[test]
    fn nodes_without_a_site_are_told_apart_by_their_ids() {
        assert_ne!(source(1, "127.0.0.1:1"), source(2, "127.0.0.1:1"));
        assert_eq!(source(1, "127.0.0.1:1"), source(1, "10.0.0.1:7"));
        assert!(!source(0, "127.0.0.1:1").is_unknown());
        assert!(!source(0, "8.8.8.8:1").is_unknown());
    }
}
