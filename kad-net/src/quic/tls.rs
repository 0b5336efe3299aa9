//! Who is at the other end: TLS 1.3 with one Ed25519 key on each side, and nothing else.
//!
//! The certificate is a bare self-signed envelope of which only the key counts: no names, no dates, no chains are
//! looked at, because the id of a node *is* a hash of its key. Kept in this one file, so that raw public keys could
//! replace it. There is no resumption and no 0-RTT: both would let something happen before the identity is proven anew.

use std::sync::Arc;

use kad_core::{Keypair, NetworkId, NodeId, PublicKey};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::version::TLS13;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme,
};

use super::config::BindError;

/// The name that every node asks for. It is the same for all, so that it tells an observer nothing; no server reads it.
pub(super) const SERVER_NAME: &str = "nkad";

/// What the protocol name of connections of applications begins with; the network follows.
const APPLICATION_PREFIX: &[u8] = b"nkad-app/1/";

/// The halves of a node's TLS configuration: as a client of requests, as one of applications, and as the server of
/// both.
pub(super) struct Tls {
    pub(super) client: Arc<QuicClientConfig>,
    pub(super) application: Arc<QuicClientConfig>,
    pub(super) server: Arc<QuicServerConfig>,
}

impl Tls {
    pub(super) fn new(keypair: &Keypair, network: NetworkId) -> Result<Self, BindError> {
        let broken = |e: &dyn std::fmt::Display| BindError::Certificate {
            reason: e.to_string(),
        };
        let pkcs8 = pkcs8(keypair);
        let certificate = certificate(&pkcs8).map_err(|e| broken(&e))?;
        let key = || PrivateKeyDer::Pkcs8(pkcs8.clone_key());
        let provider = Arc::new(provider());
        let verifier = Arc::new(Ed25519Only {
            provider: provider.clone(),
        });
        let requests = format!("nkad/1/{network}").into_bytes();
        let applications = [APPLICATION_PREFIX, network.to_string().as_bytes()].concat();

        let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| broken(&e))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_auth_cert(vec![certificate.clone()], key())
            .map_err(|e| broken(&e))?;
        client.alpn_protocols = vec![requests.clone()];
        client.resumption = Resumption::disabled();
        client.enable_early_data = false;
        let mut application = client.clone();
        application.alpn_protocols = vec![applications.clone()];

        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| broken(&e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], key())
            .map_err(|e| broken(&e))?;
        server.alpn_protocols = vec![requests, applications];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.max_early_data_size = 0;

        Ok(Self {
            client: Arc::new(QuicClientConfig::try_from(client).map_err(|e| broken(&e))?),
            application: Arc::new(QuicClientConfig::try_from(application).map_err(|e| broken(&e))?),
            server: Arc::new(QuicServerConfig::try_from(server).map_err(|e| broken(&e))?),
        })
    }
}

/// The node at the other end of a connection whose handshake is complete.
pub(super) fn peer_id(connection: &quinn::Connection) -> Option<NodeId> {
    let identity = connection
        .peer_identity()?
        .downcast::<Vec<CertificateDer<'static>>>()
        .ok()?;
    let key = public_key(identity.first()?).ok()?;
    Some(NodeId::from_public_key(&key))
}

/// Whether a connection whose handshake is complete is one of applications; else it is one of requests.
pub(super) fn is_of_applications(connection: &quinn::Connection) -> bool {
    let data = connection.handshake_data();
    let protocol = data
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .and_then(|data| data.protocol);
    protocol.is_some_and(|protocol| protocol.starts_with(APPLICATION_PREFIX))
}

/// The key in a certificate, if it is an Ed25519 key.
fn public_key(certificate: &CertificateDer<'_>) -> Result<PublicKey, Error> {
    let spki = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    let key = spki
        .as_ref()
        .strip_prefix(&SPKI_PREFIX)
        .and_then(|key| key.try_into().ok());
    key.map(PublicKey::from_bytes)
        .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

/// Ring, cut down to what a node of ours offers: one key exchange, two ciphers. AES with 128 bits comes first, because
/// it is the cheapest one where the processor helps; the other is for those where it does not.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    }
}

fn pkcs8(keypair: &Keypair) -> PrivatePkcs8KeyDer<'static> {
    PrivatePkcs8KeyDer::from([PKCS8_PREFIX.as_slice(), &keypair.secret()].concat())
}

fn certificate(pkcs8: &PrivatePkcs8KeyDer<'_>) -> Result<CertificateDer<'static>, rcgen::Error> {
    let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(pkcs8, &rcgen::PKCS_ED25519)?;
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    Ok(parameters.self_signed(&key)?.der().clone())
}

/// Accepts any certificate that holds an Ed25519 key, and proves that the peer has the secret of that key. Whether it
/// is the peer that was meant is compared after the handshake, where the expected id is known.
#[derive(Debug)]
struct Ed25519Only {
    provider: Arc<CryptoProvider>,
}

impl Ed25519Only {
    fn check(&self, certificate: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !chain.is_empty() {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        }
        public_key(certificate).map(|_| ())
    }

    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signed.scheme != SignatureScheme::ED25519 {
            return Err(Error::PeerIncompatible(
                PeerIncompatible::NoSignatureSchemesInCommon,
            ));
        }
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }
}

impl ServerCertVerifier for Ed25519Only {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Ed25519Only {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// A PKCS#8 version 1 envelope of an Ed25519 secret (RFC 8410, section 7): the 32 bytes follow.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The SubjectPublicKeyInfo of an Ed25519 key (RFC 8410, section 4): the 32 bytes follow.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_holds_the_key_of_the_node() {
        let keypair = Keypair::from_secret(&[7; 32]);
        let one = certificate(&pkcs8(&keypair)).unwrap();
        assert_eq!(public_key(&one).unwrap(), keypair.public());
        assert!(one.len() < 300, "{}", one.len());
    }

    #[test]
    fn certificate_of_another_kind_of_key_is_refused() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let der = rcgen::CertificateParams::default()
            .self_signed(&key)
            .unwrap()
            .der()
            .clone();
        let verifier = Ed25519Only {
            provider: Arc::new(provider()),
        };
        assert!(verifier.check(&der, &[]).is_err());
        assert!(
            verifier
                .check(&CertificateDer::from(vec![0x30, 3, 1, 2, 3]), &[])
                .is_err()
        );
    }

    #[test]
    fn chains_are_refused() {
        let one = certificate(&pkcs8(&Keypair::from_secret(&[7; 32]))).unwrap();
        let verifier = Ed25519Only {
            provider: Arc::new(provider()),
        };
        assert!(verifier.check(&one, &[]).is_ok());
        assert!(verifier.check(&one, std::slice::from_ref(&one)).is_err());
    }
}
