//! The ways on which a peer is reached, and what is told of the one in use.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kad_core::NodeId;

/// How a path to a peer came to be, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PathKind {
    /// Both are in one network, behind one router or none.
    Lan,
    /// The peer was dialled at an IPv6 address at which strangers reach it.
    DirectV6,
    /// The same over IPv4.
    DirectV4,
    /// The peer was dialled at a port that its router forwards.
    Mapped,
    /// Both sent at once, so that both their NATs let the other in.
    Punched,
    /// A third node passes every packet on. It cannot read them.
    Relayed,
}

impl PathKind {
    /// Its number in the protocol.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Lan => 0,
            Self::DirectV6 => 1,
            Self::DirectV4 => 2,
            Self::Mapped => 3,
            Self::Punched => 4,
            Self::Relayed => 5,
        }
    }

    pub(super) const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Lan,
            1 => Self::DirectV6,
            2 => Self::DirectV4,
            3 => Self::Mapped,
            4 => Self::Punched,
            5 => Self::Relayed,
            _ => return None,
        })
    }

    /// What an address alone tells of a path that was dialled.
    pub(super) fn of_address(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            std::net::IpAddr::V4(ip) if ip.is_private() || ip.is_loopback() || ip.is_link_local() => {
                Self::Lan
            }
            std::net::IpAddr::V4(_) => Self::DirectV4,
            std::net::IpAddr::V6(ip)
                if ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local() =>
            {
                Self::Lan
            }
            std::net::IpAddr::V6(_) => Self::DirectV6,
        }
    }
}

impl std::fmt::Display for PathKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Lan => "in the same network",
            Self::DirectV6 => "direct over IPv6",
            Self::DirectV4 => "direct over IPv4",
            Self::Mapped => "through a mapped port",
            Self::Punched => "punched",
            Self::Relayed => "relayed",
        })
    }
}

/// What is known of a path when it is added to a peering.
pub(super) struct Path {
    pub(super) kind: PathKind,
    /// Of a relayed path, who passes the packets on.
    pub(super) relay: Option<NodeId>,
    /// Where packets go: the peer, or the relay.
    pub(super) remote: SocketAddr,
    /// Whether we opened it.
    pub(super) dialled: bool,
    /// A sentence on how it was found.
    pub(super) why: Arc<str>,
    /// Kept as long as the path lives: the place at a relay, for example.
    pub(super) keep: Option<Box<dyn Any + Send + Sync>>,
}

/// Which path a connection uses now, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathReport {
    /// How the path came to be; none while there is no path, which lasts for at most `QuicLimits::path_patience`.
    pub kind: Option<PathKind>,
    /// Where packets go: the peer, or the relay.
    pub remote: Option<SocketAddr>,
    /// Of a relayed path, who passes the packets on.
    pub relay: Option<NodeId>,
    /// The round trip of the path when it was taken into use.
    pub rtt: Option<Duration>,
    /// Why it is this one, in a sentence for people.
    pub why: Arc<str>,
    /// How many paths there have been until now, this one included.
    pub changes: u64,
}
