//! Requests over QUIC: authenticated by the keys of both nodes, encrypted, one stream for each.
//!
//! ```text
//!  request ─► pool ─► exchange ─► quinn ─► OwnSocket ─► UDP
//!               │ none                        ▲
//!               └──► connect (dial, race) ────┤
//!  accept ◄── queue ◄── exchange ◄── serve ◄──┘
//! ```
//!
//! Every node is client and server with one Ed25519 key, shown in a bare certificate; the id of a node is a hash of
//! that key, so a handshake proves it. The application protocol name carries the network, so members of different
//! networks never get as far as a request. Of a stream, the first byte is its kind (1: a request), then comes one
//! frame, then the end; the answer is one frame and the end. quinn and rustls appear in no public signature.
//!
//! What it refuses to do: it knows no message, retries nothing except once on a pooled connection that turns out dead,
//! and has no timeout for requests (the one who asks has); it has no 0-RTT and no resumption, which are replayable.
//!
//! # Bounds
//! [`QuicLimits`] names them and what happens when one is reached. In addition a peer may have four of the largest
//! frames under way to us on a connection, and we hold eight for it.

mod address;
mod application;
mod config;
mod connect;
mod connection;
mod endpoint;
mod error;
mod exchange;
mod families;
mod listener;
mod meet;
mod mux;
mod path;
mod peering;
mod pool;
mod reach;
mod relayed;
mod serve;
mod settled;
mod shared;
mod socket;
mod stream;
mod tasks;
mod tls;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use kad_core::{Contact, NodeId};
use tokio::sync::mpsc;

pub use self::address::{ParseQuicAddressError, QuicAddress};
pub use self::config::{BindError, QuicConfig, QuicLimits};
pub use self::connection::{
    ConnectError, Connection, ConnectionError, DatagramError, InvalidProtocol, MAX_PROTOCOL, Protocol,
};
pub use self::error::QuicError;
pub use self::exchange::QuicReply;
pub use self::listener::{ListenError, Listener};
pub use self::meet::Witnessed;
pub use self::path::{PathKind, PathReport};
pub use self::reach::{Reach, ReachConfig, Standing};
pub use self::socket::SocketStats;
pub use self::stream::{Stream, StreamError};

use self::endpoint::Setup;
use self::meet::Meetings;
use self::mux::Mux;
use self::reach::{Driver, Start};
use self::shared::{Request, Shared};
use self::socket::Line;
use crate::nat::reachability::Role;
use crate::nat::relay::RelayStats;
use crate::transport::{Answer, Inbound, MAX_FRAME, Transport, TransportStats, WireAddress as _};
use crate::wire::Scope;

/// A [`Transport`] over QUIC.
///
/// Dropping it ends everything without waiting; [`close`](Transport::close) waits.
pub struct QuicTransport {
    shared: Arc<Shared>,
    id: NodeId,
    address: QuicAddress,
    requests: tokio::sync::Mutex<mpsc::Receiver<Request>>,
}

/// What a QUIC transport has counted beyond [`TransportStats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuicStats {
    /// Datagrams and errors of the sockets.
    pub socket: SocketStats,
    /// Streams of peers of a kind that we do not know.
    pub unknown_streams: u64,
    /// Requests of peers that did not arrive in time, and answers that a peer did not read in time.
    pub slow_streams: u64,
    /// Streams of peers on connections of applications that were refused: too many, too slow, or against the rules.
    pub refused_streams: u64,
    /// Handshakes that had to prove their address first.
    pub retries: u64,
    /// Requests of peers about how they can be reached.
    pub reach_requests: u64,
    /// What is relayed for others.
    pub relay: RelayStats,
}

impl QuicTransport {
    /// Opens the sockets and begins to accept connections. Must be called from within a tokio runtime with IO and time
    /// enabled.
    ///
    /// # Errors
    /// When a socket cannot be opened; nothing stays open then.
    pub fn bind(config: QuicConfig) -> Result<Self, BindError> {
        let QuicConfig {
            keypair,
            network,
            listen,
            limits,
            reach: reach_config,
        } = config;
        tokio::runtime::Handle::try_current().map_err(|_| BindError::NoRuntime)?;
        let Some(first) = listen.first().copied() else {
            return Err(BindError::NoAddress);
        };
        for (i, one) in listen.iter().enumerate() {
            if let Some(other) = listen[..i].iter().find(|other| other.is_ipv4() == one.is_ipv4()) {
                return Err(BindError::TwoOfAFamily {
                    first: *other,
                    second: *one,
                });
            }
        }
        let sockets = listen
            .iter()
            .map(|address| socket::open(*address).map(|socket| (*address, socket)))
            .collect::<Result<Vec<_>, _>>()?;

        let id = keypair.node_id();
        let setup = Setup::new(&keypair, network, &limits)?;
        let mux = Arc::new(Mux::new(Arc::new(Line::default())));
        let (sender, requests) = mpsc::channel(limits.inbound_requests.max(1));
        let meetings = Meetings::new(&reach_config);
        let (reach, inbox) = Reach::new(reach_config.first_role());
        let shared = Arc::new(Shared::new(
            id,
            limits,
            setup,
            mux.clone(),
            reach,
            meetings,
            sender,
        ));
        let Some(alive) = shared.tasks.token() else {
            return Err(BindError::NoAddress);
        };

        let mut bound = Vec::with_capacity(sockets.len());
        let mut listening = Vec::with_capacity(sockets.len());
        let mut endpoints = Vec::with_capacity(sockets.len());
        for (address, socket) in sockets {
            let endpoint = shared.setup.endpoint(socket, mux.clone(), alive.clone());
            let endpoint = endpoint.map_err(|e| BindError::of_io(address, e))?;
            let local = endpoint.local_addr().map_err(|e| BindError::of_io(address, e))?;
            listening.push(local);
            bound.push(reachable(local));
            endpoints.push(endpoint);
        }
        let relayed = shared.setup.relayed_endpoint(mux, alive.clone());
        let relayed = relayed.map_err(|e| BindError::of_io(first, e))?;
        for endpoint in endpoints.iter().chain([&relayed]) {
            tokio::spawn(serve::listen(shared.clone(), endpoint.clone(), alive.clone()));
        }
        shared
            .endpoints
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .extend(endpoints);
        shared
            .relayed
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .replace(relayed);
        meet::begin(&shared, &reach_config);
        let driver = Driver::new(Start {
            shared: shared.clone(),
            alive,
            config: reach_config,
            bound: listening,
            inbox,
            seed: reach::seed(&keypair),
        });
        // There is one for each transport, and this is a new one.
        if let Some(driver) = driver {
            tokio::spawn(driver.run());
        }
        let address = QuicAddress::new(&bound).unwrap_or_else(|| first.into());
        Ok(Self {
            shared,
            id,
            address,
            requests: tokio::sync::Mutex::new(requests),
        })
    }

    /// Accepts the connections that peers open for this protocol, until the listener is dropped.
    ///
    /// # Errors
    /// [`ListenError`]; nothing has changed then.
    pub fn listen(&self, protocol: Protocol) -> Result<Listener, ListenError> {
        let (listener, queue) = Listener::new(protocol.clone());
        self.shared.peerings.listen(protocol, queue)?;
        Ok(listener)
    }

    /// Connects to a peer that can be dialled at these addresses, over the path that there is or a new one.
    ///
    /// # Errors
    /// [`ConnectError`]: [`Unreachable`](ConnectError::Unreachable) if no path there is found within
    /// [`QuicLimits::handshake_timeout`], or what the peer answered.
    ///
    /// # Cancel safety
    /// Dropping the future gives up; a path that was opened stays for half a minute.
    pub async fn connect_at(
        &self,
        to: &Contact<QuicAddress>,
        protocol: Protocol,
    ) -> Result<Connection, ConnectError> {
        let hold = self.shared.peerings.with(to.id)?;
        let peering = hold.peering();
        if peering.best().borrow().is_none() {
            let dialled = connect::dial_application(&self.shared, &to.address, to.id).await;
            let connection = dialled.map_err(|error| match error {
                QuicError::Busy => ConnectError::Busy,
                QuicError::Closed => ConnectError::Closed,
                QuicError::Ourselves => ConnectError::Ourselves,
                error => ConnectError::Unreachable {
                    reason: error.to_string(),
                },
            })?;
            let remote = address::canonical(connection.remote_address());
            peering.add_path(
                connection,
                path::Path {
                    kind: PathKind::of_address(remote),
                    relay: None,
                    remote,
                    dialled: true,
                    why: "dialled at a known address".into(),
                    keep: None,
                },
            );
        }
        peering.connect(protocol).await
    }

    /// The network of this machine has changed: paths that work today may be dead without a word, so others are looked
    /// for, and any new one replaces them, until something is heard on them.
    pub fn network_changed(&self) {
        self.shared.network_changed();
    }

    /// From now on no datagram leaves and none is taken in: to its peers the node looks as if its power had gone, with
    /// no word of farewell. For tests of what happens then; there is no way back.
    pub fn silence(&self) {
        self.shared.line.silence();
    }

    /// How this node is reached.
    #[must_use]
    pub fn reach(&self) -> &Reach {
        &self.shared.reach
    }

    /// What it has counted beyond [`TransportStats`].
    #[must_use]
    pub fn quic_stats(&self) -> QuicStats {
        let counters = &self.shared.counters;
        QuicStats {
            socket: self.shared.line.stats(),
            unknown_streams: counters.unknown_streams.load(Relaxed),
            slow_streams: counters.slow_streams.load(Relaxed),
            refused_streams: self.shared.peerings.refused_streams.load(Relaxed),
            retries: counters.retries.load(Relaxed),
            reach_requests: counters.reach_requests.load(Relaxed),
            relay: self.shared.mux.relay().map_or_else(RelayStats::default, |relay| {
                relay
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .stats()
            }),
        }
    }
}

impl Transport for QuicTransport {
    type Address = QuicAddress;
    type Reply = QuicReply;
    type Error = QuicError;

    /// The id and the addresses that the sockets are bound to.
    ///
    /// A socket that listens on every interface (`0.0.0.0`, `::`) is reported as loopback with its port: which of the
    /// machine's addresses others can reach cannot be known here, only be learned from them.
    fn local(&self) -> Contact<QuicAddress> {
        Contact::new(self.id, self.address.clone())
    }

    /// Learns who is at an address, by a handshake of at most [`QuicLimits::handshake_timeout`]; the connection goes
    /// into the pool. The contact has the one socket address that answered first.
    async fn identify(&self, address: &QuicAddress) -> Result<Contact<QuicAddress>, QuicError> {
        let link = connect::dial(&self.shared, address, None).await?;
        let link = link.link();
        Ok(Contact::new(
            link.peer,
            if link.dialled {
                link.address.clone()
            } else {
                address.clone()
            },
        ))
    }

    async fn request(&self, to: &Contact<QuicAddress>, frame: Bytes) -> Result<Answer, QuicError> {
        if frame.len() > MAX_FRAME {
            return Err(QuicError::FrameTooLarge { size: frame.len() });
        }
        let (link, warm) = connect::link_to(&self.shared, to).await?;
        let broken = match exchange::ask(&self.shared, &link, exchange::STREAM_RPC, frame.clone()).await {
            Ok((frame, took)) => return Ok(Answer { frame, warm, took }),
            Err(broken) => broken,
        };
        if self.shared.tasks.token().is_none() {
            return Err(QuicError::Closed);
        }
        if !(warm && broken.before_answer) {
            return Err(broken.error);
        }
        // The peer restarted, or closed it while we were asking: one more time, over a connection that is new for sure.
        self.shared.pool.remove(link.link());
        drop(link);
        let (link, warm) = connect::link_to(&self.shared, to).await?;
        match exchange::ask(&self.shared, &link, exchange::STREAM_RPC, frame).await {
            Ok((frame, took)) => Ok(Answer { frame, warm, took }),
            Err(_) if self.shared.tasks.token().is_none() => Err(QuicError::Closed),
            Err(broken) => Err(broken.error),
        }
    }

    /// Of several addresses, those at which it was reached, and that at which it is met now, as far as it has proven
    /// it. Nothing for a node that tells nobody of others, as it only asks, and where there is nobody to protect from
    /// lies.
    fn proven(&self, to: &Contact<QuicAddress>) -> Option<QuicAddress> {
        let tells = self.shared.reach.standing().borrow().role == Role::Server;
        if !tells || self.shared.meetings.scope() == Scope::Any {
            return None;
        }
        let link = self.shared.pool.open(&to.id)?;
        let met = link.link().whereabouts().at;
        let asked = to.address.sockets();
        // A server that calls us may do so from another port than the one at which it was reached.
        let at = match asked {
            [one] if !link.link().dialled => *one,
            _ => met,
        };
        let address = self.shared.with_other_family(&to.id, at.into());
        (address != to.address).then_some(address)
    }

    async fn accept(&self) -> Option<Inbound<QuicAddress, QuicReply>> {
        self.requests.lock().await.recv().await
    }

    /// Closes all connections, tells the peers, and waits until all tasks have ended: at most two seconds, if a peer
    /// cannot be told or somebody still holds a [`QuicReply`]. The ports are free afterwards.
    async fn close(&self) {
        let endpoints = self.shared.shut();
        let all = async {
            for endpoint in endpoints {
                endpoint.wait_idle().await;
            }
            self.shared.tasks.all_gone().await;
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, all).await.is_err() {
            tracing::debug!("closed without waiting for the last connection to end");
        }
    }

    fn stats(&self) -> TransportStats {
        let counters = &self.shared.counters;
        TransportStats {
            connections: counters.connections.load(Relaxed),
            dialled: counters.dialled.load(Relaxed),
            accepted: counters.accepted.load(Relaxed),
            refused: counters.refused.load(Relaxed),
            wrong_identity: counters.wrong_identity.load(Relaxed),
            requests_refused: counters.requests_refused.load(Relaxed),
            bytes_sent: counters.bytes_sent.load(Relaxed),
            bytes_received: counters.bytes_received.load(Relaxed),
        }
    }
}

impl Drop for QuicTransport {
    fn drop(&mut self) {
        self.shared.shut();
    }
}

impl fmt::Debug for QuicTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicTransport")
            .field("id", &self.id)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Where a socket that listens on every interface can be reached for sure: from the same machine.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, bound.port())
}

/// How long closing may take. A farewell is sent at once and kept up for three probe timeouts, well below a second on
/// most paths.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
