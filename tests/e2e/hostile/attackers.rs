//! Members of a daemon's network that are no nodes, and plain clients: whoever sends what no node would.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use kad_core::{Contact, Key, Keypair, NetworkId, Parameters, Request, Response, Rules, UnixTime};
use kad_net::quic::{QuicAddress, QuicConfig, QuicTransport};
use kad_net::wire::{Codec, Scope};
use kad_net::{Reply as _, Transport as _};
use kad_node::DEFAULT_NETWORK;

use super::nodes;
use crate::process::Daemon;

pub(crate) const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub(crate) fn network() -> NetworkId {
    NetworkId::new(DEFAULT_NETWORK, &Parameters::default())
}

pub(crate) fn rules() -> Rules {
    Rules::new(network(), &Parameters::default())
}

pub(crate) fn codec() -> Codec {
    Codec::new(rules(), Scope::Any)
}

pub(crate) fn now() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixTime::from_secs(since.unwrap().as_secs())
}

/// Identities without end.
pub(crate) fn key(number: u64) -> Keypair {
    let mut secret = [0xa7; 32];
    secret[..8].copy_from_slice(&number.to_be_bytes());
    Keypair::from_secret(&secret)
}

pub(crate) fn member(number: u64) -> QuicTransport {
    QuicTransport::bind(QuicConfig::new(key(number), network(), vec![LOOPBACK])).unwrap()
}

/// Who and where a daemon is.
pub(crate) fn target(daemon: &Daemon) -> Contact<QuicAddress> {
    Contact::new(daemon.id.parse().unwrap(), daemon.address.parse().unwrap())
}

pub(crate) fn frame(request: &Request) -> Bytes {
    codec().encode_request(now(), false, request).unwrap()
}

pub(crate) fn ping() -> Bytes {
    frame(&Request::Ping)
}

pub(crate) fn find_node(number: u64) -> Bytes {
    let target = Key::from_limbs([number.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0, 0, number]);
    frame(&Request::FindNode { target, card: false })
}

/// What an honest node that knows nobody and holds nothing says.
pub(crate) fn fair_answer(asked: &Bytes) -> Bytes {
    let (closer, unix) = (Vec::new(), now());
    let answer: Response<QuicAddress> = match codec().decode_request(unix, asked.clone()) {
        Ok(incoming) => match incoming.request {
            Request::Ping => Response::Pong {
                unix,
                observed: QuicAddress::from(SocketAddr::from(([127, 0, 0, 1], 1))),
            },
            Request::FindNode { .. } => Response::Nodes { closer, card: None },
            Request::FindValue(_) => Response::Values {
                found: Vec::new(),
                next: None,
                closer,
            },
            Request::Store { entries } => Response::Stored {
                verdicts: vec![kad_core::Verdict::Full; entries.len()],
                closer,
            },
            Request::Compare { parts } => Response::Compared {
                differences: vec![kad_core::Difference::Same; parts.len()],
            },
            Request::Fetch { .. } => Response::Fetched { records: Vec::new() },
        },
        Err(error) => Response::Rejected(error.rejection()),
    };
    codec().encode_response(unix, &answer).unwrap()
}

/// Answers all that a member is asked, for as long as it is open.
pub(crate) fn answer_fairly(node: &Arc<QuicTransport>) -> tokio::task::JoinHandle<()> {
    let serving = node.clone();
    tokio::spawn(async move {
        while let Some(inbound) = serving.accept().await {
            inbound.reply.send(fair_answer(&inbound.frame)).await;
        }
    })
}

/// Asks, and reads the answer as one to a request.
pub(crate) async fn answer_to(
    from: &QuicTransport,
    to: &Contact<QuicAddress>,
    sent: Bytes,
    asked: &Request,
) -> Response<QuicAddress> {
    let answer = nodes::soon(from.request(to, sent)).await.unwrap();
    codec().decode_response(now(), answer.frame, asked).unwrap()
}

/// A plain client of many identities on one socket, which never answers and reads only what it wants to.
pub(crate) struct Crowd {
    endpoint: quinn::Endpoint,
    transport: Arc<quinn::TransportConfig>,
}

impl Crowd {
    pub(crate) fn new(transport: quinn::TransportConfig) -> Self {
        Self {
            endpoint: quinn::Endpoint::client(LOOPBACK).unwrap(),
            transport: Arc::new(transport),
        }
    }

    /// Connects as one of them.
    pub(crate) async fn connect(
        &self,
        number: u64,
        to: &Contact<QuicAddress>,
    ) -> Result<quinn::Connection, quinn::ConnectionError> {
        let mut config = nodes::client(Some(&key(number)), &format!("nkad/1/{}", network()));
        config.transport_config(self.transport.clone());
        let address = kad_net::WireAddress::sockets(&to.address)[0];
        self.endpoint.connect_with(config, address, "nkad").unwrap().await
    }
}

/// The code with which a daemon refuses a stream, or what it sent instead.
pub(crate) async fn reset_code(recv: &mut quinn::RecvStream) -> Result<u64, Vec<u8>> {
    match nodes::soon(recv.read_to_end(kad_net::MAX_FRAME)).await {
        Ok(answer) => Err(answer),
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => Ok(code.into_inner()),
        Err(error) => panic!("neither an answer nor a refusal: {error}"),
    }
}
