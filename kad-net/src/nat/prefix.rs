//! Which addresses belong to one host, one household, one site.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::Scope;

/// An IP address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4, mapped addresses included.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

fn masked(ip: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & u32::MAX << (32 - v4_bits)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & u128::MAX << (128 - v6_bits)).into(),
    }
}

/// One host: the IPv4 address, of IPv6 the /64, in which a host takes whatever addresses it likes.
pub(crate) fn host(ip: IpAddr) -> IpAddr {
    masked(ip, 32, 64)
}

/// One household: the IPv4 address, of IPv6 the /56 that providers give to each.
pub(crate) fn household(ip: IpAddr) -> IpAddr {
    masked(ip, 32, 56)
}

/// One site: the IPv4 /24 and the IPv6 /48. Outside of the internet each host is one, as everybody has the same prefix.
pub(crate) fn site(ip: IpAddr, scope: Scope) -> IpAddr {
    match scope {
        Scope::Global => masked(ip, 24, 48),
        Scope::Any => host(ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_place_are_one_prefix() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(host(ip("2001:db8:1:2::1")), host(ip("2001:db8:1:2:ffff::")));
        assert_ne!(host(ip("8.8.8.8")), host(ip("8.8.8.9")));
        assert_eq!(host(ip("::ffff:8.8.8.8")), ip("8.8.8.8"));
        assert_eq!(
            household(ip("2001:db8:1:20ff::1")),
            household(ip("2001:db8:1:2000::"))
        );
        assert_ne!(
            household(ip("2001:db8:1:2100::")),
            household(ip("2001:db8:1:2000::"))
        );
        assert_eq!(
            site(ip("8.8.8.8"), Scope::Global),
            site(ip("8.8.8.9"), Scope::Global)
        );
        assert_ne!(site(ip("8.8.8.8"), Scope::Any), site(ip("8.8.8.9"), Scope::Any));
        assert_eq!(
            site(ip("2001:db8:1::"), Scope::Global),
            site(ip("2001:db8:1:f::"), Scope::Global)
        );
        assert_eq!(Family::of(ip("::ffff:8.8.8.8")), Family::V4);
        assert_eq!(Family::of(ip("2001:db8::1")), Family::V6);
    }
}
