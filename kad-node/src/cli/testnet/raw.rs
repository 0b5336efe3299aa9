//! Bare quinn over as many endpoints with the same pattern of requests: what the network costs without a DHT on it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use serde::Serialize;

use super::measure;

/// Bytes of a FIND_NODE on the wire, stream type included.
const REQUEST_BYTES: usize = 38;
/// Bytes of its answer with 20 contacts.
const ANSWER_BYTES: usize = 848;
const REQUESTS: usize = 30_000;

/// What bare quinn did.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Raw {
    pub(crate) endpoints: usize,
    pub(crate) in_flight: usize,
    pub(crate) rpc_per_second: f64,
    pub(crate) cpu_ms_per_rpc: f64,
}

/// Drives requests between random pairs over connections that are open already.
pub(crate) async fn run(endpoints: usize, in_flight: usize, seed: u64) -> anyhow::Result<Raw> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (server, client) = configs()?;
    let endpoints: Vec<quinn::Endpoint> = (0..endpoints)
        .map(|_| {
            let mut endpoint =
                quinn::Endpoint::server(server.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            endpoint.set_default_client_config(client.clone());
            tokio::spawn(serve(endpoint.clone()));
            Ok(endpoint)
        })
        .collect::<std::io::Result<_>>()?;
    let pairs: Vec<(usize, usize)> = (0..REQUESTS)
        .map(|_| {
            let from = rng.random_range(0..endpoints.len());
            (
                from,
                (from + rng.random_range(1..endpoints.len())) % endpoints.len(),
            )
        })
        .collect();
    let distinct: std::collections::BTreeSet<_> = pairs.iter().map(|&(a, b)| (a.min(b), a.max(b))).collect();
    let connecting = stream::iter(distinct).map(|(a, b)| {
        let (from, to) = (&endpoints[a], &endpoints[b]);
        async move {
            let connection = from.connect(to.local_addr()?, "nkad")?.await?;
            anyhow::Ok(((a, b), connection))
        }
    });
    let connections: HashMap<_, _> = connecting
        .buffer_unordered(16)
        .try_collect()
        .await
        .context("bare quinn")?;

    let (cpu, started) = (measure::cpu_time(), Instant::now());
    let asking = stream::iter(pairs).map(|(a, b)| {
        let connection = connections[&(a.min(b), a.max(b))].clone();
        async move {
            let (mut send, mut receive) = connection.open_bi().await?;
            send.write_all(&[0; REQUEST_BYTES]).await?;
            send.finish()?;
            receive.read_to_end(ANSWER_BYTES).await?;
            anyhow::Ok(())
        }
    });
    asking
        .buffer_unordered(in_flight)
        .try_collect::<Vec<()>>()
        .await?;
    let (took, cpu) = (started.elapsed(), measure::cpu_time() - cpu);
    for endpoint in &endpoints {
        endpoint.close(0u32.into(), b"");
    }
    Ok(Raw {
        endpoints: endpoints.len(),
        in_flight,
        rpc_per_second: measure::per_second(REQUESTS, took),
        cpu_ms_per_rpc: measure::cpu_ms_per_rpc(cpu, REQUESTS as u64),
    })
}

async fn serve(endpoint: quinn::Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await?;
            while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                tokio::spawn(async move {
                    receive.read_to_end(REQUEST_BYTES).await?;
                    send.write_all(&[0; ANSWER_BYTES]).await?;
                    send.finish()?;
                    anyhow::Ok(())
                });
            }
            anyhow::Ok(())
        });
    }
}

/// A certificate that nobody checks: identities cost nothing per request.
fn configs() -> anyhow::Result<(quinn::ServerConfig, quinn::ClientConfig)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = rcgen::generate_simple_self_signed(["nkad".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked))
        .with_no_client_auth();
    let server = quinn::crypto::rustls::QuicServerConfig::try_from(server)?;
    let client = quinn::crypto::rustls::QuicClientConfig::try_from(client)?;
    Ok((
        quinn::ServerConfig::with_crypto(Arc::new(server)),
        quinn::ClientConfig::new(Arc::new(client)),
    ))
}

/// Believes everybody. Only for measuring on loopback.
#[derive(Debug)]
struct Unchecked;

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
