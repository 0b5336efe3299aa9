//! What happens to the reachability of a node, and what it wants done about it.

use std::net::{IpAddr, SocketAddr};

use kad_core::NodeId;

#[cfg(doc)]
use super::Reachability;
use super::Role;
use crate::nat::prefix::Family;

/// What happens to the reachability of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The addresses that the node may have, best first: observed, mapped and configured ones. They take the place of
    /// those given before, except for those that are proven.
    Addresses(Vec<SocketAddr>),
    /// A server that this node is connected to, over a direct path, and that can be asked for help.
    HelperKnown {
        /// Who.
        helper: NodeId,
        /// Where it is seen.
        ip: IpAddr,
    },
    /// It is not connected any more.
    HelperGone {
        /// Who.
        helper: NodeId,
    },
    /// A helper answered an [`Action::Check`], or could not be asked.
    Answered {
        /// Of the check.
        nonce: [u8; 16],
        /// Whether it has found a target and asked it to probe.
        passed_on: bool,
    },
    /// A probe arrived.
    Probed {
        /// From where.
        from: SocketAddr,
        /// What it carried.
        nonce: [u8; 16],
        /// Whether this node had sent nothing to that host for ten minutes at least, of whatever kind.
        stranger: bool,
    },
    /// A peer connected to this node, directly and outside of any punch session.
    Called {
        /// From where.
        from: SocketAddr,
        /// Whether this node had sent nothing to that host for ten minutes at least, before it answered.
        stranger: bool,
    },
    /// This node has opened a connection to somebody there. With the first one into the internet, a node that took its
    /// network for a private one is a node of the internet, and what it presumed about itself has to be proven.
    Dialled {
        /// The host of the peer.
        to: IpAddr,
    },
    /// Interfaces, or the host that most observers see, are others than before.
    NetworkChanged,
    /// The same of one family of IP: what is proven of the other one holds.
    FamilyChanged(Family),
    /// The time that [`Reachability::poll_timeout`] told has come.
    Timeout,
}

/// What somebody may wait for who wants to know whether a node can be reached. The better one is the greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Prospect {
    /// Nobody can be asked, or those who can could not say anything: others might.
    #[default]
    Unclear,
    /// Probes were sent, and none arrived.
    Silent,
    /// A helper is being asked, or will be within seconds, and nothing was silent yet.
    Asked,
    /// Strangers were heard; too few of them, or enough.
    Heard,
}

/// What a node wants done about its reachability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask a helper to have an address probed. Owes one [`Event::Answered`]. The request is padded to
    /// [`CHECK_BYTES`](crate::nat::dial_back::CHECK_BYTES).
    Check {
        /// Whom.
        helper: NodeId,
        /// The address; of the family at which the helper sees this node.
        address: SocketAddr,
        /// What the probe has to carry.
        nonce: [u8; 16],
    },
    /// Strangers reach this address, or do so no more.
    Proven {
        /// The address.
        address: SocketAddr,
        /// Whether they do.
        reachable: bool,
    },
    /// The node serves from now on, or only asks.
    Role(Role),
}
