//! For tests: what a NAT lets in of one peer.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

/// As a NAT that lets in only addresses that were sent to, towards a peer behind one that gives every destination another port.
pub(in super::super) struct Narrow {
    host: IpAddr,
    /// The port that everybody else sees the peer at.
    advertised: u16,
    opened: HashSet<u16>,
    /// The ports that the peer has sent from, whether it was let in or not.
    pub(in super::super) seen: HashSet<u16>,
}

impl Narrow {
    pub(in super::super) fn towards(peer: SocketAddr) -> Self {
        Self {
            host: peer.ip(),
            advertised: peer.port(),
            opened: HashSet::new(),
            seen: HashSet::new(),
        }
    }

    pub(super) fn sent(&mut self, to: SocketAddr) {
        if to.ip() == self.host && to.port() != self.advertised {
            self.opened.insert(to.port());
        }
    }

    pub(super) fn lets_in(&mut self, from: SocketAddr) -> bool {
        if from.ip() != self.host {
            return true;
        }
        if from.port() != self.advertised {
            self.seen.insert(from.port());
        }
        self.opened.contains(&from.port())
    }
}
