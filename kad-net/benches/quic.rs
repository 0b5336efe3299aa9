//! What a request over QUIC costs, beside the same exchange over bare quinn with the same TLS.
//!
//! `cargo bench -p kad-net --bench quic` runs criterion; with `-- --cpu` it prints processor time and memory instead
//! (Linux), with `-- --streams` what a stream of an application costs beside a stream of bare quinn, in processor time
//! and bytes on the wire.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::Criterion;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kad_core::{Contact, Keypair, NetworkId, Parameters};
use kad_net::quic::{Protocol, QuicAddress, QuicConfig, QuicLimits, QuicTransport};
use kad_net::{Reply, Transport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

/// Bytes of a frame: the smallest requests, a full answer with contacts, a large record.
const SIZES: [usize; 3] = [100, 1_200, 60_000];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--cpu") {
        return processor_time(&runtime);
    }
    if arguments.iter().any(|argument| argument == "--streams") {
        return streams(&runtime);
    }
    let mut criterion = Criterion::default().configure_from_args();
    let ours = runtime.block_on(async { Ours::new(false) });
    let bare = runtime.block_on(Bare::new(false));
    for size in SIZES {
        let frame = Bytes::from(vec![7; size]);
        criterion.bench_function(&format!("transport/{size}"), |b| {
            b.iter(|| runtime.block_on(ours.ask(frame.clone())));
        });
        criterion.bench_function(&format!("bare quinn/{size}"), |b| {
            b.iter(|| runtime.block_on(bare.ask(frame.clone())));
        });
    }
    let frame = Bytes::from(vec![7; 100]);
    criterion.bench_function("transport/100, 32 in flight, 320 requests", |b| {
        b.iter(|| runtime.block_on(in_flight(32, 320, || ours.ask(frame.clone()))));
    });
    criterion.bench_function("bare quinn/100, 32 in flight, 320 requests", |b| {
        b.iter(|| runtime.block_on(in_flight(32, 320, || bare.ask(frame.clone()))));
    });
    criterion.final_summary();
}

/// Two transports, the second of which answers with what it was asked.
struct Ours {
    asking: Arc<QuicTransport>,
    to: Contact<QuicAddress>,
}

impl Ours {
    fn new(mtu_discovery: bool) -> Self {
        let limits = QuicLimits {
            mtu_discovery,
            ..QuicLimits::default()
        };
        let asking = Arc::new(node([1; 32], limits.clone()));
        let answering = Arc::new(node([2; 32], limits));
        let to = answering.local();
        tokio::spawn(async move {
            while let Some(inbound) = answering.accept().await {
                inbound.reply.send(inbound.frame).await;
            }
        });
        Self { asking, to }
    }

    async fn ask(&self, frame: Bytes) {
        black_box(self.asking.request(&self.to, frame).await.unwrap());
    }
}

fn node(secret: [u8; 32], limits: QuicLimits) -> QuicTransport {
    let network = NetworkId::new("bench", &Parameters::default());
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    QuicTransport::bind(QuicConfig {
        limits,
        ..QuicConfig::new(Keypair::from_secret(&secret), network, listen)
    })
    .unwrap()
}

/// A client and a server of quinn with nothing around them: no pool, no queue, no guards, no client certificate.
struct Bare {
    _client: quinn::Endpoint,
    connection: quinn::Connection,
}

impl Bare {
    async fn new(mtu_discovery: bool) -> Self {
        let generated = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let certificate = rcgen::CertificateParams::new(["nkad".to_owned()])
            .unwrap()
            .self_signed(&generated)
            .unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(generated.serialize_der());
        let provider = Arc::new(rustls::crypto::CryptoProvider {
            cipher_suites: vec![rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
            ..rustls::crypto::ring::default_provider()
        });
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        let mut transport = quinn::TransportConfig::default();
        transport.mtu_discovery_config(mtu_discovery.then(quinn::MtuDiscoveryConfig::default));
        let transport = Arc::new(transport);
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(
            quinn::crypto::rustls::QuicServerConfig::try_from(server).unwrap(),
        ));
        server.transport_config(transport.clone());
        let mut client = quinn::ClientConfig::new(Arc::new(
            quinn::crypto::rustls::QuicClientConfig::try_from(client).unwrap(),
        ));
        client.transport_config(transport);
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = quinn::Endpoint::server(server, loopback).unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(async move {
            let connection = server.accept().await.unwrap().await.unwrap();
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                tokio::spawn(async move {
                    let mut kind = [0];
                    if recv.read_exact(&mut kind).await.is_ok() && kind == [SINK] {
                        swallow(recv).await;
                        return send.finish().unwrap();
                    }
                    let frame = recv.read_to_end(1 << 20).await.unwrap();
                    send.write_chunk(frame.into()).await.unwrap();
                    send.finish().unwrap();
                });
            }
        });
        let endpoint = quinn::Endpoint::client(loopback).unwrap();
        let connection = endpoint
            .connect_with(client, address, "nkad")
            .unwrap()
            .await
            .unwrap();
        Self {
            _client: endpoint,
            connection,
        }
    }

    async fn ask(&self, frame: Bytes) {
        let (mut send, mut recv) = self.connection.open_bi().await.unwrap();
        send.write_all_chunks(&mut [Bytes::from_static(&[ECHO]), frame])
            .await
            .unwrap();
        send.finish().unwrap();
        black_box(recv.read_to_end(1 << 20).await.unwrap());
    }

    /// Sends so many bytes one way, and waits until they were read.
    async fn pour(&self, total: usize) {
        let (mut send, mut recv) = self.connection.open_bi().await.unwrap();
        send.write_all(&[SINK]).await.unwrap();
        for _ in 0..total / PIECE {
            send.write_all(&[7; PIECE]).await.unwrap();
        }
        send.finish().unwrap();
        recv.read_to_end(1).await.unwrap();
    }
}

/// What the server of bare quinn does with a stream: it has a first byte as ours has.
const ECHO: u8 = 1;
const SINK: u8 = 2;

/// Bytes written and read at once.
const PIECE: usize = 32 * 1024;

async fn swallow(mut from: impl AsyncRead + Unpin) {
    let mut buffer = vec![0; PIECE];
    while from.read(&mut buffer).await.unwrap() > 0 {
        black_box(&buffer);
    }
}

/// A stream of an application beside one of bare quinn, by turns, so that both meet the same machine.
fn streams(runtime: &Runtime) {
    const TOTAL: usize = 64 * 1024 * 1024;
    print("64 MiB one way", "wall us/MiB", "processor us/MiB, both ends");
    let bare = runtime.block_on(Bare::new(true));
    let (one, other) = runtime.block_on(async {
        (
            node([5; 32], QuicLimits::default()),
            node([6; 32], QuicLimits::default()),
        )
    });
    let protocol = Protocol::new("bench").unwrap();
    let listener = other.listen(protocol.clone()).unwrap();
    let to = other.local();
    let (connection, sink) =
        runtime.block_on(async { tokio::join!(one.connect_at(&to, protocol), listener.accept()) });
    let (connection, sink) = (connection.unwrap(), sink.unwrap());
    runtime.spawn(async move {
        while let Ok(mut stream) = sink.accept().await {
            tokio::spawn(async move {
                swallow(&mut stream).await;
                stream.shutdown().await.unwrap();
            });
        }
    });
    let pour = async || {
        let mut stream = connection.open().await.unwrap();
        for _ in 0..TOTAL / PIECE {
            stream.write_all(&[7; PIECE]).await.unwrap();
        }
        stream.shutdown().await.unwrap();
        swallow(stream).await;
    };
    let bare_wire = || {
        let stats = bare.connection.stats();
        stats.udp_tx.bytes + stats.udp_rx.bytes
    };
    let our_wire = || {
        let stats = one.quic_stats().socket;
        stats.sent_bytes + stats.received_bytes
    };
    for _ in 0..3 {
        let before = [bare_wire(), our_wire()];
        measure(runtime, "bare quinn", TOTAL >> 20, bare.pour(TOTAL));
        measure(runtime, "a stream of an application", TOTAL >> 20, pour());
        let wire = [bare_wire() - before[0], our_wire() - before[1]];
        let each = wire.map(|bytes| format!("{:.4}", bytes as f64 / TOTAL as f64));
        print(
            "bytes on the wire, both ways, for each byte: bare, ours",
            &each[0],
            &each[1],
        );
    }
}

async fn in_flight<F: Future<Output = ()>>(width: usize, total: usize, mut ask: impl FnMut() -> F) {
    let mut running = FuturesUnordered::new();
    for _ in 0..total {
        if running.len() == width {
            running.next().await;
        }
        running.push(ask());
    }
    while running.next().await.is_some() {}
}

fn processor_time(runtime: &Runtime) {
    print("case", "wall us", "processor us, both ends");
    let ours = runtime.block_on(async { Ours::new(false) });
    let probing = runtime.block_on(async { Ours::new(true) });
    let bare = runtime.block_on(Bare::new(false));
    for (size, width, total) in [
        (100, 1, 20_000),
        (100, 32, 100_000),
        (1_200, 1, 20_000),
        (1_200, 32, 50_000),
        (60_000, 1, 2_000),
        (60_000, 8, 4_000),
    ] {
        let frame = Bytes::from(vec![7; size]);
        let name = |of: &str| format!("{of}, {size} B, {width} in flight");
        measure(
            runtime,
            &name("bare quinn"),
            total,
            in_flight(width, total, || bare.ask(frame.clone())),
        );
        measure(
            runtime,
            &name("transport"),
            total,
            in_flight(width, total, || ours.ask(frame.clone())),
        );
        let name = name("transport with MTU discovery");
        measure(
            runtime,
            &name,
            total,
            in_flight(width, total, || probing.ask(frame.clone())),
        );
    }

    // Every connection has both ends in this process, and each peer its endpoint; the endpoints are made first.
    let limits = QuicLimits {
        connections: 4096,
        ..QuicLimits::default()
    };
    let hub = runtime.block_on(async { Arc::new(node([3; 32], limits)) });
    let address = hub.local().address;
    let peers: Vec<_> = runtime.block_on(async {
        (0..CONNECTIONS)
            .map(|i| {
                let mut secret = [4; 32];
                secret[..8].copy_from_slice(&(i as u64).to_be_bytes());
                Arc::new(node(secret, QuicLimits::default()))
            })
            .collect()
    });
    let before = resident_kib();
    measure(runtime, "handshake", CONNECTIONS, async {
        for peer in &peers {
            peer.identify(&address).await.unwrap();
        }
    });
    runtime.block_on(async {
        while hub.stats().connections < CONNECTIONS as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    });
    let each = resident_kib().saturating_sub(before) as f64 / (2.0 * CONNECTIONS as f64);
    print(
        "memory of an idle connection, one end",
        &format!("{each:.1} KiB"),
        "",
    );
}

fn measure(runtime: &Runtime, name: &str, total: usize, work: impl Future<Output = ()>) {
    let (wall, processor) = (Instant::now(), processor_nanos());
    runtime.block_on(work);
    let wall = wall.elapsed().as_nanos() as f64 / 1e3 / total as f64;
    let processor = (processor_nanos() - processor) as f64 / 1e3 / total as f64;
    print(name, &format!("{wall:.1}"), &format!("{processor:.1}"));
}

#[expect(clippy::print_stdout, reason = "a table for people")]
fn print(name: &str, one: &str, other: &str) {
    println!("{name:<58} {one:>10} {other:>10}");
}

/// Time that all threads of this process have had a processor.
fn processor_nanos() -> u64 {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        sum += text
            .split(' ')
            .next()
            .and_then(|nanos| nanos.parse::<u64>().ok())
            .unwrap_or(0);
    }
    sum
}

fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0)
}

/// Enough that the memory of one can be told from the noise of the allocator.
const CONNECTIONS: usize = 300;
