//! Which addresses a node wants to hear of, if nobody says so.

use std::net::SocketAddr;

use kad_net::wire::Scope;

use crate::Peer;

/// A node that listens or begins only in private or loopback networks wants to hear of such addresses.
pub(super) fn automatic_scope(listen: &[SocketAddr], peers: &[Peer]) -> Scope {
    let local = |address: &SocketAddr| {
        !address.ip().is_unspecified() && kad_core::AddressGroups::of_ip(address.ip()).is_none()
    };
    let private = |peer: &Peer| match peer.host.parse() {
        Ok(ip) => kad_core::AddressGroups::of_ip(ip).is_none(),
        Err(_) => peer.host == "localhost",
    };
    let everywhere = listen.iter().any(|address| !local(address));
    match (everywhere, peers.is_empty()) {
        (false, _) => Scope::Any,
        (true, false) if peers.iter().all(private) => Scope::Any,
        // The first of a network: what listens everywhere without knowing anybody cannot tell yet, and should work.
        (true, true) => Scope::Any,
        (true, false) => Scope::Global,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scope_follows_the_addresses() {
        let listen = |text: &str| vec![text.parse().unwrap()];
        let peers = |text: &str| vec![text.parse().unwrap()];
        assert_eq!(automatic_scope(&listen("127.0.0.1:0"), &[]), Scope::Any);
        assert_eq!(
            automatic_scope(&listen("192.168.1.2:0"), &peers("8.8.8.8:1")),
            Scope::Any
        );
        assert_eq!(
            automatic_scope(&listen("0.0.0.0:0"), &peers("127.0.0.1:1")),
            Scope::Any
        );
        assert_eq!(
            automatic_scope(&listen("0.0.0.0:0"), &peers("8.8.8.8:1")),
            Scope::Global
        );
        assert_eq!(
            automatic_scope(&listen("0.0.0.0:0"), &peers("example.org:1")),
            Scope::Global
        );
    }
}
