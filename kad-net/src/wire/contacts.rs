//! Contacts and their addresses on the wire.
//!
//! ```text
//! contact  id:32  address
//! address  count  (0 ipv4:4 | 1 ipv6:16) port …
//! ```
//!
//! The codec has an address of its own: that of the standard library is written differently by different codecs, and
//! carries scope ids that mean nothing to another host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bincode::{Decode, Encode};
use kad_core::{Contact, ID_BYTES, MAX_CLOSER, NodeId};

use super::body::{BodyReader, BodyWriter};
use super::{Codec, DecodeError, EncodeError, Scope};
use crate::WireAddress;

/// The most sockets of one address on the wire: v4 and v6, twice each.
pub const MAX_SOCKETS: usize = 4;

/// Bytes of the largest socket on the wire, for estimates.
const SOCKET_BYTES: usize = 1 + 16 + 3;

/// Bytes of the smallest contact on the wire: an id and no socket.
pub(super) const SMALLEST_CONTACT: usize = ID_BYTES + 1;

/// Bytes of the smallest socket on the wire.
pub(super) const SMALLEST_SOCKET: usize = 1 + 4 + 1;

/// The first port that a host gives to anyone; nobody needs to run a node on those of well-known services.
const FIRST_FREE_PORT: u16 = 1024;

#[derive(Clone, Copy, Encode, Decode)]
pub(super) enum Socket {
    V4([u8; 4], u16),
    V6([u8; 16], u16),
}

impl From<SocketAddr> for Socket {
    fn from(socket: SocketAddr) -> Self {
        match socket.ip().to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets(), socket.port()),
            IpAddr::V6(ip) => Self::V6(ip.octets(), socket.port()),
        }
    }
}

impl From<Socket> for SocketAddr {
    fn from(socket: Socket) -> Self {
        match socket {
            Socket::V4(ip, port) => Self::from((Ipv4Addr::from(ip), port)),
            Socket::V6(ip, port) => Self::from((Ipv6Addr::from(ip).to_canonical(), port)),
        }
    }
}

pub(super) fn write_address<A: WireAddress>(body: &mut BodyWriter, address: &A) -> Result<(), EncodeError> {
    let sockets = address.sockets();
    if sockets.len() > MAX_SOCKETS {
        return Err(EncodeError::TooManySockets);
    }
    body.count(sockets.len())?;
    sockets
        .iter()
        .try_for_each(|&socket| body.value(&Socket::from(socket)))
}

/// An address, of whose sockets those outside of the scope are dropped; `None` if none is left.
pub(super) fn read_address<A: WireAddress>(
    body: &mut BodyReader<'_>,
    scope: Scope,
) -> Result<Option<A>, DecodeError> {
    let mut sockets = [SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0); MAX_SOCKETS];
    let mut kept = 0;
    for _ in 0..body.count("sockets", MAX_SOCKETS, SMALLEST_SOCKET)? {
        let socket = body.value::<Socket>()?.into();
        if scope == Scope::Any || is_global(socket) {
            sockets[kept] = socket;
            kept += 1;
        }
    }
    let sockets = &sockets[..kept.min(A::MAX_SOCKETS)];
    Ok(match sockets {
        [] => None,
        _ => A::from_sockets(sockets),
    })
}

pub(super) fn size_hint<A: WireAddress>(contacts: &[Contact<A>]) -> usize {
    let contact = |contact: &Contact<A>| SMALLEST_CONTACT + SOCKET_BYTES * contact.address.sockets().len();
    1 + contacts.iter().map(contact).sum::<usize>()
}

pub(super) fn write<A: WireAddress>(
    body: &mut BodyWriter,
    contacts: &[Contact<A>],
) -> Result<(), EncodeError> {
    if contacts.len() > MAX_CLOSER {
        return Err(EncodeError::TooManyContacts);
    }
    body.count(contacts.len())?;
    for contact in contacts {
        body.value(&contact.id.to_bytes())?;
        write_address(body, &contact.address)?;
    }
    Ok(())
}

/// The contacts that have an address in scope; the others are counted and dropped.
pub(super) fn read<A: WireAddress>(
    codec: &Codec,
    body: &mut BodyReader<'_>,
) -> Result<Vec<Contact<A>>, DecodeError> {
    let count = body.count("contacts", MAX_CLOSER, SMALLEST_CONTACT)?;
    let mut contacts = Vec::with_capacity(count);
    for _ in 0..count {
        let id = NodeId::from_bytes(body.value()?);
        if let Some(address) = read_address(body, codec.scope)? {
            contacts.push(Contact::new(id, address));
        }
    }
    codec.count_dropped((count - contacts.len()) as u64);
    Ok(contacts)
}

/// Whether any host on the internet could reach this: what is special by RFC 6890 and would aim at somebody is not.
pub(super) fn is_global(socket: SocketAddr) -> bool {
    if socket.port() < FIRST_FREE_PORT {
        return false;
    }
    match socket.ip().to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let carrier_shared = first == 100 && second & 0xc0 == 64;
            // 0/8 is this network; from 224/4 on come multicast, reserved addresses and the broadcast.
            let out_of_range = first == 0 || first >= 224;
            !(out_of_range || carrier_shared || ip.is_loopback() || ip.is_private() || ip.is_link_local())
        }
        IpAddr::V6(ip) => {
            let v4_compatible = ip.to_bits() >> 32 == 0;
            !(v4_compatible || ip.is_multicast() || ip.is_unique_local() || ip.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_to_everybody_in_any_scope() {
        for nobody in [
            "10.0.0.1:0",
            "0.0.0.0:4000",
            "224.0.0.1:4000",
            "255.255.255.255:4000",
            "[ff02::1]:4000",
        ] {
            let socket = nobody.parse().unwrap();
            assert!(
                !Scope::Any.admits(socket) && !Scope::Global.admits(socket),
                "{nobody}"
            );
        }
        let private = "10.0.0.1:53".parse().unwrap();
        assert!(Scope::Any.admits(private) && !Scope::Global.admits(private));
    }

    #[test]
    fn only_addresses_that_everybody_can_reach_are_global() {
        for global in [
            "8.8.8.8:1024",
            "100.63.0.1:4000",
            "203.0.113.7:65535",
            "[2001:db8::1]:4000",
        ] {
            assert!(is_global(global.parse().unwrap()), "{global}");
        }
        for local in [
            "8.8.8.8:1023",
            "8.8.8.8:0",
            "0.0.0.0:4000",
            "0.1.2.3:4000",
            "10.0.0.1:4000",
            "100.64.0.1:4000",
            "127.0.0.1:4000",
            "169.254.0.1:4000",
            "172.16.0.1:4000",
            "192.168.0.1:4000",
            "224.0.0.1:4000",
            "240.0.0.1:4000",
            "255.255.255.255:4000",
            "[::]:4000",
            "[::1]:4000",
            "[::ffff:127.0.0.1]:4000",
            "[::ffff:192.168.1.1]:4000",
            "[::7f00:1]:4000",
            "[fe80::1]:4000",
            "[fd00::1]:4000",
            "[ff02::1]:4000",
            "[2001:db8::1]:80",
        ] {
            assert!(!is_global(local.parse().unwrap()), "{local}");
        }
    }

    #[test]
    fn a_v4_address_in_v6_clothes_is_the_v4_address() {
        let mapped: SocketAddr = "[::ffff:8.8.8.8]:4000".parse().unwrap();
        let plain: SocketAddr = "8.8.8.8:4000".parse().unwrap();
        assert_eq!(SocketAddr::from(Socket::from(mapped)), plain);
        let IpAddr::V6(ip) = mapped.ip() else {
            unreachable!()
        };
        assert_eq!(SocketAddr::from(Socket::V6(ip.octets(), 4000)), plain);
    }
}
