//! Where a node can be reached over QUIC: a short list of socket addresses that are raced.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use kad_core::{Address, AddressGroups, MAX_HOSTS};

use crate::nat::prefix::Family;
use crate::transport::WireAddress;

/// One to four socket addresses of one node, shared and cheap to clone.
///
/// Always in canonical form, so that equal places are equal addresses: sorted (IPv4 first), without repetitions,
/// IPv4-mapped IPv6 addresses as IPv4, flow labels and scope ids zero. Link-local IPv6 addresses can therefore not be
/// dialled. Port zero and unspecified addresses are nobody's place and never part of an address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuicAddress(Arc<[SocketAddr]>);

impl QuicAddress {
    /// From any number of socket addresses; `None` if none of them is usable. Of more than four, the first four in
    /// canonical order are kept.
    #[must_use]
    pub fn new(sockets: &[SocketAddr]) -> Option<Self> {
        if let [one] = sockets {
            return usable(one).then(|| Self(Arc::new([canonical(*one)])));
        }
        // Beyond this nothing honest is cut off, and sorting stays cheap whatever a caller passes in.
        let mut list: Vec<SocketAddr> = sockets
            .iter()
            .take(4 * Self::MAX_SOCKETS)
            .filter(|socket| usable(socket))
            .map(|socket| canonical(*socket))
            .collect();
        list.sort_unstable();
        list.dedup();
        list.truncate(Self::MAX_SOCKETS);
        (!list.is_empty()).then(|| Self(list.into()))
    }

    /// In the order in which they are dialled: the families take turns (RFC 8305, section 4), this one first.
    pub(super) fn racing_order(&self, first: Family) -> Vec<SocketAddr> {
        let (mut v4, mut v6): (Vec<_>, Vec<_>) = self.0.iter().copied().partition(SocketAddr::is_ipv4);
        v4.reverse();
        v6.reverse();
        let mut order = Vec::with_capacity(self.0.len());
        while !(v4.is_empty() && v6.is_empty()) {
            match first {
                Family::V6 => order.extend(v6.pop().into_iter().chain(v4.pop())),
                Family::V4 => order.extend(v4.pop().into_iter().chain(v6.pop())),
            }
        }
        order
    }
}

impl Address for QuicAddress {
    /// The groups of the first socket address.
    fn groups(&self) -> Option<AddressGroups> {
        self.0
            .first()
            .and_then(|socket| AddressGroups::of_ip(socket.ip()))
    }

    /// Those of each socket address, as all of them are dialled.
    fn all_groups(&self) -> [Option<AddressGroups>; MAX_HOSTS] {
        let mut all = [None; MAX_HOSTS];
        for (groups, socket) in all.iter_mut().zip(self.0.iter()) {
            *groups = AddressGroups::of_ip(socket.ip());
        }
        all
    }
}

impl WireAddress for QuicAddress {
    fn from_sockets(sockets: &[SocketAddr]) -> Option<Self> {
        Self::new(sockets)
    }

    fn sockets(&self) -> &[SocketAddr] {
        &self.0
    }
}

impl From<SocketAddr> for QuicAddress {
    /// Takes the address as it is, in canonical form; one that is not usable will not be reached.
    fn from(socket: SocketAddr) -> Self {
        Self(Arc::new([canonical(socket)]))
    }
}

/// The socket addresses, separated by commas.
impl fmt::Display for QuicAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, socket) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            socket.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for QuicAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not one to four usable socket addresses, separated by commas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected one to four IP:PORT, separated by commas, such as 192.0.2.7:4001")]
#[non_exhaustive]
pub struct ParseQuicAddressError;

impl FromStr for QuicAddress {
    type Err = ParseQuicAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut sockets = Vec::new();
        for part in text.split(',') {
            let socket: SocketAddr = part.trim().parse().map_err(|_| ParseQuicAddressError)?;
            if sockets.len() == Self::MAX_SOCKETS || !usable(&socket) {
                return Err(ParseQuicAddressError);
            }
            sockets.push(socket);
        }
        Self::new(&sockets).ok_or(ParseQuicAddressError)
    }
}

/// The one form in which sockets are compared, dialled and handed on.
pub(super) fn canonical(socket: SocketAddr) -> SocketAddr {
    SocketAddr::new(socket.ip().to_canonical(), socket.port())
}

fn usable(socket: &SocketAddr) -> bool {
    let ip: IpAddr = socket.ip().to_canonical();
    socket.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_places_are_equal_addresses() {
        let one: QuicAddress = "[::1]:2,127.0.0.1:1".parse().unwrap();
        let other: QuicAddress = "127.0.0.1:1, [::ffff:127.0.0.1]:1, [::1]:2".parse().unwrap();
        assert_eq!(one, other);
        assert_eq!(one.to_string(), "127.0.0.1:1,[::1]:2");
        assert_eq!(one.to_string().parse(), Ok(one.clone()));
        assert_eq!(QuicAddress::from_sockets(one.sockets()), Some(one));
        assert_eq!(size_of::<QuicAddress>(), 16);
    }

    #[test]
    fn what_nobody_can_be_reached_at_is_no_address() {
        for bad in [
            "",
            "1.2.3.4",
            "1.2.3.4:0",
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.1:5",
            "1.1.1.1:1,",
            "localhost:1",
        ] {
            assert_eq!(bad.parse::<QuicAddress>(), Err(ParseQuicAddressError), "{bad}");
        }
        assert_eq!(
            "1.1.1.1:1,1.1.1.1:2,1.1.1.1:3,1.1.1.1:4,1.1.1.1:5".parse::<QuicAddress>(),
            Err(ParseQuicAddressError)
        );
        assert_eq!(QuicAddress::from_sockets(&[]), None);
        assert_eq!(QuicAddress::from_sockets(&["0.0.0.0:1".parse().unwrap()]), None);
    }

    #[test]
    fn more_than_four_from_the_wire_are_cut() {
        let many: Vec<SocketAddr> = (1..=9)
            .map(|port| SocketAddr::from(([192, 0, 2, 1], port)))
            .collect();
        assert_eq!(QuicAddress::from_sockets(&many).unwrap().sockets(), &many[..4]);
    }

    #[test]
    fn families_take_turns_when_dialling() {
        let address: QuicAddress = "1.1.1.1:1,1.1.1.1:2,[::2]:1".parse().unwrap();
        let order = |first| -> Vec<String> {
            let order = address.racing_order(first);
            order.iter().map(ToString::to_string).collect()
        };
        assert_eq!(order(Family::V6), ["[::2]:1", "1.1.1.1:1", "1.1.1.1:2"]);
        assert_eq!(order(Family::V4), ["1.1.1.1:1", "[::2]:1", "1.1.1.1:2"]);
    }

    #[test]
    fn groups_are_those_of_the_first_socket() {
        let address: QuicAddress = "8.8.8.8:1,[2001:db8::1]:1".parse().unwrap();
        assert_eq!(address.groups(), AddressGroups::of_ip("8.8.8.8".parse().unwrap()));
        let both = ["8.8.8.8", "2001:db8::1"].map(|ip| AddressGroups::of_ip(ip.parse().unwrap()));
        assert_eq!(address.all_groups(), [both[0], both[1], None, None]);
        assert_eq!(
            QuicAddress::from(SocketAddr::from(([127, 0, 0, 1], 1))).groups(),
            None
        );
    }
}
