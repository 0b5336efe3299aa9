//! What a QUIC transport is opened with, and why it could not be.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use kad_core::{Keypair, NetworkId};

use super::reach::ReachConfig;

/// What a QUIC transport is opened with.
#[derive(Debug, Clone)]
pub struct QuicConfig {
    /// The identity of the node.
    pub keypair: Keypair,
    /// The network that it belongs to; members of another one cannot connect.
    pub network: NetworkId,
    /// Where to listen: at most one address of each family. Port zero lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// Bounds.
    pub limits: QuicLimits,
    /// What it does in order to be reached.
    pub reach: ReachConfig,
}

impl QuicConfig {
    /// With the default limits.
    #[must_use]
    pub fn new(keypair: Keypair, network: NetworkId, listen: Vec<SocketAddr>) -> Self {
        Self {
            keypair,
            network,
            listen,
            limits: QuicLimits::default(),
            reach: ReachConfig::default(),
        }
    }
}

/// Bounds of a QUIC transport. Every one of them has an answer for "full", named with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuicLimits {
    /// Connections in the pool, dialled and accepted together. Default 128: about the contacts that a lookup-heavy node
    /// talks to within five minutes. Full: the least recently used one that is idle is closed; if none is, a peer is
    /// refused and our own dial fails. As many again may be finishing their last exchanges.
    pub connections: usize,
    /// Accepted connections, and handshakes of them, from one IPv4 address or one IPv6 /64. Default 16: several nodes
    /// may live behind one address. Full: refused.
    pub connections_per_ip: usize,
    /// Whether `connections_per_ip` also counts for loopback, where whole networks live on one address. Default no.
    pub limit_loopback: bool,
    /// Requests that one peer may have open on one connection. Default 64: more than any node asks another at once.
    /// Full: the peer's transport waits.
    pub streams_per_connection: u32,
    /// Whole requests of peers that wait for their answer, in all. Default 1024: at most 80 MiB of frames. Full: Busy.
    /// Busy also for a connection that has more than its even share of one half, two by default, and a seventh of what
    /// is free of the other half.
    pub inbound_requests: usize,
    /// Handshakes of peers under way. Default 256: about a quarter of a second of work for one core. Full: refused.
    pub pending_handshakes: usize,
    /// Handshakes of peers under way above which an address must first be proven by a stateless Retry. Default 32: a
    /// node at rest has one or two.
    pub retry_above: usize,
    /// Our own dials under way. Default 64. Full: further ones wait, within `handshake_timeout`.
    pub dials: usize,
    /// After how long without traffic a connection closes. Default 5 minutes. The smaller one of both ends counts.
    pub idle_timeout: Duration,
    /// How often an unused connection is kept alive. Default never.
    pub keep_alive: Option<Duration>,
    /// How long a dial may take in all, and a handshake of a peer. Default 5 seconds: three lost packets on a path of
    /// 300 ms.
    pub handshake_timeout: Duration,
    /// How long the frame of an inbound request may take, from the opening of its stream to its end, and how long an
    /// answer may wait for a peer that does not read. Default 10 seconds.
    pub stream_deadline: Duration,
    /// Whether connections look for a larger MTU than 1200 bytes. Default no: the probes of a short connection cost
    /// more than they bring.
    pub mtu_discovery: bool,
    /// How long connections of applications whose last path is lost wait for another one. Default 15 seconds: a changed
    /// network is noticed in some seconds, and a dead path in fifteen. Then they fail.
    pub path_patience: Duration,
    /// How long paths stay open to a peer with whom there is no connection of applications any more. Default 30
    /// seconds: the next one need not look for a path again.
    pub path_linger: Duration,
}

impl Default for QuicLimits {
    fn default() -> Self {
        Self {
            connections: 128,
            connections_per_ip: 16,
            limit_loopback: false,
            streams_per_connection: 64,
            inbound_requests: 1024,
            pending_handshakes: 256,
            retry_above: 32,
            dials: 64,
            idle_timeout: Duration::from_secs(300),
            keep_alive: None,
            handshake_timeout: Duration::from_secs(5),
            stream_deadline: Duration::from_secs(10),
            mtu_discovery: false,
            path_patience: Duration::from_secs(15),
            path_linger: Duration::from_secs(30),
        }
    }
}

/// Why a transport could not be opened. Nothing stays open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// No interface of this machine has the address.
    #[error("no network interface of this machine has the address {address}")]
    AddressNotAvailable {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// No certificate could be made of the key.
    #[error("no certificate can be made of the key: {reason}")]
    Certificate {
        /// What the library says.
        reason: String,
    },
    /// The system refused for another reason.
    #[error("cannot listen on {address}")]
    Io {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The list of addresses is empty.
    #[error("no address to listen on is given")]
    NoAddress,
    /// The system does not allow this address or port.
    #[error("no permission to listen on {address}")]
    NoPermission {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// Not called from within a tokio runtime.
    #[error("a QUIC transport must be opened from within a tokio runtime")]
    NoRuntime,
    /// Somebody else listens there.
    #[error("the port of {address} is already in use")]
    PortInUse {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// Two addresses of one family.
    #[error("{first} and {second} are of the same address family; one of each can be listened on")]
    TwoOfAFamily {
        /// One.
        first: SocketAddr,
        /// The other.
        second: SocketAddr,
    },
}

impl BindError {
    pub(super) fn of_io(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::PortInUse { address },
            io::ErrorKind::AddrNotAvailable => Self::AddressNotAvailable { address },
            io::ErrorKind::PermissionDenied => Self::NoPermission { address },
            _ => Self::Io { address, source },
        }
    }
}
