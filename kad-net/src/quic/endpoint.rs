//! How quinn is set up: small windows, no streams in one direction, reset tokens that survive a restart.

use std::hash::{BuildHasher, RandomState};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use kad_core::crypto::{Domain, hash};
use kad_core::{Keypair, NetworkId};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{
    AsyncUdpSocket, ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout,
    MtuDiscoveryConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use quinn::{NoneTokenStore, ValidationTokenConfig};

use super::config::{BindError, QuicLimits};
use super::mux::Mux;
use super::relayed::RelayedSocket;
use super::socket::OwnSocket;
use super::tasks::Alive;
use super::tls::Tls;
use crate::transport::MAX_FRAME;

/// Everything that the endpoints of one transport share.
pub(super) struct Setup {
    pub(super) client: ClientConfig,
    /// For connections of applications.
    pub(super) application: ClientConfig,
    server: ServerConfig,
    reset: ResetKey,
}

impl Setup {
    pub(super) fn new(keypair: &Keypair, network: NetworkId, limits: &QuicLimits) -> Result<Self, BindError> {
        let tls = Tls::new(keypair, network)?;
        let application_transport = Arc::new(application_transport());
        let transport = Arc::new(transport(limits));

        let mut client = ClientConfig::new(tls.client);
        client.transport_config(transport.clone());
        client.token_store(Arc::new(NoneTokenStore));

        let mut application = ClientConfig::new(tls.application);
        application.transport_config(application_transport);
        application.token_store(Arc::new(NoneTokenStore));

        let mut server = ServerConfig::with_crypto(tls.server);
        server.transport_config(transport);
        // Tokens for the next connection would save a Retry that is rarely asked for, at the price of a frame each
        // time.
        let mut tokens = ValidationTokenConfig::default();
        tokens.sent(0);
        server.validation_token_config(tokens);
        server.max_incoming(limits.pending_handshakes);
        server.incoming_buffer_size(INCOMING_BUFFER);
        server.incoming_buffer_size_total(INCOMING_BUFFER * limits.pending_handshakes as u64);

        Ok(Self {
            client,
            application,
            server,
            reset: ResetKey(hash(Domain::ConnectionReset, &[&keypair.secret()])),
        })
    }

    /// An endpoint over a socket of the system.
    pub(super) fn endpoint(
        &self,
        socket: UdpSocket,
        mux: Arc<Mux>,
        alive: Alive,
    ) -> std::io::Result<Endpoint> {
        self.endpoint_over(
            Arc::new(OwnSocket::wrap(socket, mux, alive)?),
            Some(self.server.clone()),
        )
    }

    /// An endpoint over one more socket of the system, at which nobody is accepted. It lives as long as it is held, or
    /// a connection that was dialled from it.
    pub(super) fn dialling_endpoint(
        &self,
        socket: UdpSocket,
        mux: Arc<Mux>,
        alive: Alive,
    ) -> std::io::Result<Endpoint> {
        self.endpoint_over(Arc::new(OwnSocket::wrap(socket, mux, alive)?), None)
    }

    /// The endpoint of the peers behind relays.
    pub(super) fn relayed_endpoint(&self, mux: Arc<Mux>, alive: Alive) -> std::io::Result<Endpoint> {
        let socket = Arc::new(RelayedSocket::new(mux, alive));
        self.endpoint_over(socket, Some(self.server.clone()))
    }

    fn endpoint_over(
        &self,
        socket: Arc<dyn AsyncUdpSocket>,
        server: Option<ServerConfig>,
    ) -> std::io::Result<Endpoint> {
        let mut config = EndpointConfig::new(Arc::new(self.reset.clone()));
        // Our sockets tell QUIC from other packets by this bit.
        config.grease_quic_bit(false);
        config.cid_generator(|| {
            Box::new(RandomIds {
                random: RandomState::new(),
                count: 0,
            })
        });
        Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))
    }
}

fn transport(limits: &QuicLimits) -> TransportConfig {
    let mut config = TransportConfig::default();
    // Longer than QUIC can say is no timeout at all; nobody means that.
    let idle = IdleTimeout::try_from(limits.idle_timeout).unwrap_or_else(|_| VarInt::MAX.into());
    config
        .max_concurrent_bidi_streams(limits.streams_per_connection.into())
        .max_concurrent_uni_streams(0u32.into())
        // A server says whether it takes datagrams before it knows whether the connection is one of applications. Those
        // of others are read at once, and thrown away.
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(limits.keep_alive)
        .crypto_buffer_size(CRYPTO_BUFFER)
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(limits.mtu_discovery.then(MtuDiscoveryConfig::default));
    config
}

/// How connections of applications are dialled. The one who accepts gives them their windows after the handshake, and
/// the rest is as for all.
fn application_transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(FIRST_STREAMS.into())
        .max_concurrent_uni_streams(0u32.into())
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(Some(VarInt::from_u32(APPLICATION_IDLE_MS).into()))
        .keep_alive_interval(Some(APPLICATION_KEEP_ALIVE))
        .crypto_buffer_size(CRYPTO_BUFFER)
        .initial_rtt(APPLICATION_INITIAL_RTT)
        .mtu_discovery_config(Some(MtuDiscoveryConfig::default()));
    config
}

/// A message authentication code under a key that only this node has, and has again after a restart.
#[derive(Clone)]
struct ResetKey([u8; 32]);

impl ResetKey {
    fn mac(&self, data: &[u8]) -> [u8; 32] {
        hash(Domain::ConnectionReset, &[&self.0, data])
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let mac = self.mac(data);
        let length = signature_out.len().min(mac.len());
        signature_out[..length].copy_from_slice(&mac[..length]);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // Only ever our own tokens, compared with what came over an authenticated connection.
        if self.mac(data) == signature {
            Ok(())
        } else {
            Err(CryptoError)
        }
    }
}

/// Random connection ids. quinn's own generator refuses ids of an earlier run of the node, so peers of a restarted one
/// would never be told; with this one, whoever sends to an unknown id gets a reset. quinn sends at most fifty of those
/// in a second, each smaller than what caused it.
struct RandomIds {
    random: RandomState,
    count: u64,
}

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        // A keyed hash of a counter: unlinkable for whoever does not know the key.
        self.count += 1;
        ConnectionId::new(&self.random.hash_one(self.count).to_be_bytes())
    }

    fn cid_len(&self) -> usize {
        size_of::<u64>()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Bytes that a peer may send on one stream before we have read any. A server says so before it knows what a connection
/// is for, and a stream of an application needs a megabyte; of a request more than a frame is never taken, and what all
/// streams of a connection hold is bounded by [`CONNECTION_WINDOW`], so that this bounds nothing.
const STREAM_WINDOW: u32 = 1024 * 1024 + MAX_FRAME as u32;

/// Bytes that a peer may have under way on one connection: four of the largest frames and their type bytes, so that no
/// exchange waits for a window. A hundred connections full of half requests cost 32 MiB.
const CONNECTION_WINDOW: u32 = 4 * (MAX_FRAME as u32 + 1024);

/// Bytes that we hold for one peer until it acknowledges them: eight of the largest frames.
const SEND_WINDOW: u64 = 8 * (MAX_FRAME as u64 + 1024);

/// Bytes of datagrams that wait in QUIC, each way: some forty of the largest. Full: the oldest is lost.
const DATAGRAM_BUFFER: usize = 64 * 1024;

/// Streams that a peer may open before a connection that we dialled is taken into use.
const FIRST_STREAMS: u32 = 64;

/// After how long without a packet a path of applications is dead, in milliseconds: three keep-alives. The smaller one
/// of both ends counts, so the dialler's does.
const APPLICATION_IDLE_MS: u32 = 15_000;

/// How often the one who dialled keeps a path of applications alive: NATs forget a flow after 30 s at the earliest.
const APPLICATION_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// What the round trip of a path of applications is taken for before it is measured: one lost first packet costs 300
/// ms.
const APPLICATION_INITIAL_RTT: Duration = Duration::from_millis(100);

/// Bytes of handshake messages out of order: a certificate of ours has 300.
const CRYPTO_BUFFER: usize = 8 * 1024;

/// Bytes kept of a handshake that waits for its turn: our first flights have one packet.
const INCOMING_BUFFER: u64 = 8 * 1024;

/// What a round trip is taken for before it is measured. quinn's 333 ms make one lost first packet cost a second.
const INITIAL_RTT: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_tokens_survive_a_restart_and_differ_between_nodes() {
        let token = |secret| {
            let key = ResetKey(hash(Domain::ConnectionReset, &[&[secret; 32]]));
            let mut token = [0; 32];
            key.sign(b"connection id", &mut token);
            assert!(key.verify(b"connection id", &token).is_ok());
            assert!(key.verify(b"another id", &token).is_err());
            token
        };
        assert_eq!(token(1), token(1));
        assert_ne!(token(1), token(2));
    }

    #[test]
    fn connection_ids_do_not_repeat() {
        let mut ids = RandomIds {
            random: RandomState::new(),
            count: 0,
        };
        let all: Vec<_> = (0..100).map(|_| ids.generate_cid()).collect();
        assert!(all.iter().enumerate().all(|(i, id)| !all[..i].contains(id)));
    }
}
