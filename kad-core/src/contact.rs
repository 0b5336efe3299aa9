//! A contact: a node and where to reach it.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::NodeId;

/// Where a node can be reached, in the words of some transport.
///
/// The core never looks inside: it keeps addresses, compares them, hands them out, and asks to which groups one
/// belongs. Addresses are cloned often; at most 16 bytes are a good size (an `Arc` of something larger, for instance).
pub trait Address: Clone + PartialEq + fmt::Debug {
    /// The groups that limit how many contacts one operator can place with us, or `None` where diversity makes no
    /// sense: on loopback, in private networks, in tests.
    fn groups(&self) -> Option<AddressGroups> {
        None
    }

    /// The groups of every host that is sent to when this address is dialled: of one that names several, the groups of
    /// each, at most [`MAX_HOSTS`]. The first are those of [`groups`](Self::groups).
    fn all_groups(&self) -> [Option<AddressGroups>; MAX_HOSTS] {
        let mut all = [None; MAX_HOSTS];
        all[0] = self.groups();
        all
    }
}

/// Hosts that one address may name: two of each family of IP.
pub const MAX_HOSTS: usize = 4;

/// The groups of an address, from wide to narrow: of IPv4 the /16, the /24 and the address, of IPv6 the /32, the /48
/// and the /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressGroups {
    /// What one organisation may well own.
    pub wide: u64,
    /// What one site may well own.
    pub narrow: u64,
    /// One host: the IPv4 address, of IPv6 the /64.
    pub host: u64,
}

impl AddressGroups {
    /// The groups of an IP address in global scope, `None` for loopback, private, link-local and unspecified ones.
    #[must_use]
    pub fn of_ip(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            IpAddr::V4(v4) => {
                let local = v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified();
                let bits = u64::from(v4.to_bits());
                // A marker in the top byte keeps the families and the widths apart.
                (!local).then_some(Self {
                    wide: 4 << 56 | bits >> 16,
                    narrow: 5 << 56 | bits >> 8,
                    host: 8 << 56 | bits,
                })
            }
            IpAddr::V6(v6) => {
                let local = v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_unique_local()
                    || v6.is_unicast_link_local();
                let top = (v6.to_bits() >> 64) as u64;
                (!local).then_some(Self {
                    wide: 6 << 56 | top >> 32,
                    narrow: 7 << 56 | top >> 16,
                    host: top,
                })
            }
        }
    }
}

impl Address for SocketAddr {
    fn groups(&self) -> Option<AddressGroups> {
        AddressGroups::of_ip(self.ip())
    }
}

/// A number as an address, for tests and simulators.
impl Address for u32 {}

/// A node and where to reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Contact<A> {
    /// Who it is.
    pub id: NodeId,
    /// Where it is.
    pub address: A,
}

impl<A> Contact<A> {
    /// A contact from its parts.
    pub const fn new(id: NodeId, address: A) -> Self {
        Self { id, address }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_global_addresses_have_groups() {
        for local in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "169.254.1.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "::",
        ] {
            assert_eq!(AddressGroups::of_ip(local.parse().unwrap()), None, "{local}");
        }
        let of = |ip: &str| AddressGroups::of_ip(ip.parse().unwrap()).unwrap();
        assert_eq!(of("8.8.8.8").narrow, of("8.8.8.9").narrow);
        assert_eq!(of("8.8.8.8").wide, of("8.8.9.9").wide);
        assert_ne!(of("8.8.8.8").narrow, of("8.8.9.9").narrow);
        assert_ne!(of("8.8.8.8").host, of("8.8.8.9").host);
        assert_eq!(of("2001:db8:1:2::1").host, of("2001:db8:1:2::9").host);
        assert_eq!(of("2001:db8:1::1").narrow, of("2001:db8:1:ffff::1").narrow);
        assert_ne!(of("2001:db8:1::1").narrow, of("2001:db8:2::1").narrow);
        assert_eq!(of("::ffff:8.8.8.8"), of("8.8.8.8"));
    }
}
