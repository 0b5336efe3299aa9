//! Nodes for the tests, and plain QUIC peers that do not keep to the rules.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kad_core::{Contact, Keypair, NetworkId, Parameters};
use kad_net::quic::{QuicAddress, QuicConfig, QuicError, QuicTransport};
use kad_net::{Answer, Reply, Transport};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

/// Long enough for a machine that is busy with other things, short enough to notice that something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn network() -> NetworkId {
    NetworkId::new("test", &Parameters::default())
}

pub(crate) fn key(n: u8) -> Keypair {
    Keypair::from_secret(&[n; 32])
}

pub(crate) fn config(n: u8) -> QuicConfig {
    QuicConfig::new(key(n), network(), vec![SocketAddr::from(([127, 0, 0, 1], 0))])
}

pub(crate) fn bind(config: QuicConfig) -> Arc<QuicTransport> {
    Arc::new(QuicTransport::bind(config).unwrap())
}

pub(crate) fn node(n: u8) -> Arc<QuicTransport> {
    bind(config(n))
}

/// A node that answers every request with the same frame.
pub(crate) fn echo(n: u8) -> Arc<QuicTransport> {
    let node = node(n);
    serve_echo(&node);
    node
}

pub(crate) fn serve_echo(node: &Arc<QuicTransport>) {
    let serving = node.clone();
    tokio::spawn(async move {
        while let Some(inbound) = serving.accept().await {
            inbound.reply.send(inbound.frame).await;
        }
    });
}

pub(crate) async fn ask(
    from: &QuicTransport,
    to: &Contact<QuicAddress>,
    frame: &[u8],
) -> Result<Answer, QuicError> {
    soon(from.request(to, Bytes::copy_from_slice(frame))).await
}

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

/// Waits until something that other tasks bring about is true.
pub(crate) async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !is_true() {
        assert!(tokio::time::Instant::now() < end, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A plain QUIC client: with the certificate of a key or with none.
pub(crate) struct Plain(pub(crate) quinn::Endpoint);

/// What a plain client says in its handshake.
pub(crate) fn client(key: Option<&Keypair>, alpn: &str) -> quinn::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut tls = match key {
        None => builder.with_no_client_auth(),
        Some(key) => {
            let (certificate, key) = certificate(key);
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    };
    tls.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    quinn::ClientConfig::new(Arc::new(tls))
}

impl Plain {
    pub(crate) fn new(key: Option<&Keypair>, alpn: &str) -> Self {
        let mut endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        endpoint.set_default_client_config(client(key, alpn));
        Self(endpoint)
    }

    pub(crate) fn member(n: u8) -> Self {
        Self::new(Some(&key(n)), &format!("nkad/1/{}", network()))
    }

    pub(crate) async fn connect(&self, to: &QuicTransport) -> quinn::Connection {
        self.try_connect(to).await.unwrap()
    }

    pub(crate) async fn try_connect(
        &self,
        to: &QuicTransport,
    ) -> Result<quinn::Connection, quinn::ConnectionError> {
        let address = kad_net::WireAddress::sockets(&to.local().address)[0];
        soon(self.0.connect(address, "nkad").unwrap()).await
    }
}

pub(crate) fn certificate(key: &Keypair) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let mut der = vec![
        0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
    ];
    der.extend_from_slice(&key.secret());
    let der = PrivatePkcs8KeyDer::from(der);
    let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    (certificate.der().clone(), PrivateKeyDer::Pkcs8(der))
}

/// Believes everybody.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ED25519]
    }
}
