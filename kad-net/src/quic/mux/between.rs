//! What lies between a node and the others in tests: a NAT or a firewall, and whoever looks on.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

/// See the module.
#[derive(Default)]
pub(in crate::quic) struct Between {
    /// Whether only hosts that were sent to are let in, as by a NAT.
    pub(in crate::quic) walled: AtomicBool,
    /// Hosts that are never let in, as if no packet could pass between the two.
    pub(in crate::quic) barred: Mutex<Vec<IpAddr>>,
    /// A host of which only ports that were punched are let in.
    pub(in crate::quic) narrow: Mutex<Option<Narrow>>,
    /// Packets of ours that left, for those who send them again.
    pub(in crate::quic) tapped: Mutex<Vec<(SocketAddr, Vec<u8>)>>,
}

impl Between {
    /// Whether what comes from there is taken in.
    pub(super) fn lets_in(&self, from: SocketAddr, was_contacted: bool) -> bool {
        let mut narrow = self.narrow.lock().unwrap_or_else(PoisonError::into_inner);
        let barred = self.barred.lock().unwrap_or_else(PoisonError::into_inner);
        narrow.as_mut().is_none_or(|narrow| narrow.lets_in(from))
            && !barred.contains(&from.ip())
            && (was_contacted || !self.walled.load(Relaxed))
    }

    /// Whether a packet of ours has left for there.
    pub(in crate::quic) fn has_sent_to(&self, at: SocketAddr) -> bool {
        let tapped = self.tapped.lock().unwrap_or_else(PoisonError::into_inner);
        tapped.iter().any(|(to, _)| *to == at)
    }

    /// A packet of ours leaves.
    pub(super) fn note(&self, to: SocketAddr, packet: &[u8]) {
        let mut tapped = self.tapped.lock().unwrap_or_else(PoisonError::into_inner);
        tapped.push((to, packet.to_vec()));
        let mut narrow = self.narrow.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(narrow) = &mut *narrow {
            narrow.sent(to);
        }
    }
}

/// As a NAT that lets in only addresses that were sent to, towards a peer behind one that gives every destination
/// another port.
pub(in crate::quic) struct Narrow {
    host: IpAddr,
    /// The port that everybody else sees the peer at.
    advertised: u16,
    opened: HashSet<u16>,
    /// The ports that the peer has sent from, whether it was let in or not.
    pub(in crate::quic) seen: HashSet<u16>,
}

impl Narrow {
    pub(in crate::quic) fn towards(peer: SocketAddr) -> Self {
        Self {
            host: peer.ip(),
            advertised: peer.port(),
            opened: HashSet::new(),
            seen: HashSet::new(),
        }
    }

    fn sent(&mut self, to: SocketAddr) {
        if to.ip() == self.host && to.port() != self.advertised {
            self.opened.insert(to.port());
        }
    }

    fn lets_in(&mut self, from: SocketAddr) -> bool {
        if from.ip() != self.host {
            return true;
        }
        if from.port() != self.advertised {
            self.seen.insert(from.port());
        }
        self.opened.contains(&from.port())
    }
}
