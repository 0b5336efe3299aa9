//! The QUIC transport under the suite, over real sockets of the loopback interface.

use std::net::{SocketAddr, UdpSocket};

use kad_core::{Keypair, NetworkId, Parameters};
use kad_net::conformance::{self, Factory};
use kad_net::quic::{QuicAddress, QuicConfig, QuicTransport};

struct Quic {
    network: NetworkId,
    /// A port that is taken, and at which nobody answers.
    silent: UdpSocket,
}

impl Quic {
    fn new() -> Self {
        Self {
            network: NetworkId::new("conformance", &Parameters::default()),
            silent: UdpSocket::bind(LOOPBACK).unwrap(),
        }
    }
}

impl Factory for Quic {
    type Transport = QuicTransport;

    async fn open(&self, keypair: Keypair) -> QuicTransport {
        QuicTransport::bind(QuicConfig::new(keypair, self.network, vec![LOOPBACK])).unwrap()
    }

    async fn nowhere(&self) -> QuicAddress {
        self.silent.local_addr().unwrap().into()
    }
}

#[tokio::test]
async fn quic_does_its_duties() {
    assert_eq!(conformance::run(&Quic::new()).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_does_its_duties_on_several_threads() {
    assert_eq!(conformance::run(&Quic::new()).await, Ok(()));
}

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
