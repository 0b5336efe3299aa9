//! Whole transports on hosts of the loopback network, each a site of its own, and peers that follow a script.

mod abuse;
mod families;
mod moves;
mod places;
mod roles;
mod sessions;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use kad_core::{Contact, Keypair, NetworkId, NodeId, Parameters};

use super::asking::{NotHeard, ask};
use super::{Opened, ReachConfig, Standing};
use crate::nat::reachability::{ReachabilityConfig, RoleChoice};
use crate::nat::relay::RelayConfig;
use crate::quic::endpoint::Setup;
use crate::quic::mux::Mux;
use crate::quic::pool::InUse;
use crate::quic::socket::{self, Line};
use crate::quic::tasks::Tasks;
use crate::quic::{QuicAddress, QuicConfig, QuicLimits, QuicTransport, connect};
use crate::wire::Scope;
use crate::wire::reach::{ReachAnswer, ReachRequest};
use crate::{Transport, WireAddress};

/// Long enough for a busy machine, and for checks that are seconds apart.
const PATIENCE: Duration = Duration::from_secs(60);

pub(in crate::quic) fn network() -> NetworkId {
    NetworkId::new("test", &Parameters::default())
}

pub(in crate::quic) fn host(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, n, 1], 0))
}

pub(in crate::quic) fn key(n: u8) -> Keypair {
    Keypair::from_secret(&[n; 32])
}

/// A node has to prove itself, and does so quickly.
pub(in crate::quic) fn config(role: RoleChoice) -> ReachConfig {
    ReachConfig {
        reachability: ReachabilityConfig {
            role,
            hold: Duration::from_millis(200),
            presume: false,
        },
        keep: Duration::from_millis(300),
        unattended: true,
        ..ReachConfig::default()
    }
}

/// The node on host `n`.
pub(in crate::quic) fn node(n: u8, reach: ReachConfig) -> Arc<QuicTransport> {
    let config = QuicConfig {
        reach,
        ..QuicConfig::new(key(n), network(), vec![host(n)])
    };
    Arc::new(QuicTransport::bind(config).unwrap())
}

pub(in crate::quic) fn server(n: u8) -> Arc<QuicTransport> {
    node(n, config(RoleChoice::Server))
}

/// Servers on these hosts, each of which has dialled the three behind it: helpers whose targets are known to them.
async fn servers(hosts: std::ops::Range<u8>) -> Vec<Arc<QuicTransport>> {
    let all: Vec<_> = hosts.map(server).collect();
    for (place, one) in all.iter().enumerate() {
        for other in all.iter().cycle().skip(place + 1).take(3) {
            dial(one, other).await;
        }
    }
    // Who has not said hello to them yet knows nobody to ask.
    eventually("they say hello to each other", || {
        all.iter().all(|one| one.quic_stats().reach_requests >= 3)
    })
    .await;
    all
}

pub(in crate::quic) async fn dial(from: &QuicTransport, to: &QuicTransport) {
    soon(from.identify(&to.local().address)).await.unwrap();
}

pub(in crate::quic) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

/// Waits until a node stands like that.
pub(in crate::quic) async fn stands(
    node: &QuicTransport,
    what: &str,
    is_so: impl FnMut(&Standing) -> bool,
) -> Standing {
    let mut standing = node.reach().standing();
    let waited = tokio::time::timeout(PATIENCE, standing.wait_for(is_so)).await;
    match waited {
        Ok(Ok(standing)) => standing.clone(),
        _ => panic!("it never {what}: {:?}", node.reach()),
    }
}

/// Waits until something that other tasks bring about is true.
pub(in crate::quic) async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !is_true() {
        assert!(tokio::time::Instant::now() < end, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Only hosts that the node has sent something to get through to it, as behind most NATs.
pub(in crate::quic) fn wall(node: &QuicTransport) {
    node.shared.mux.between.walled.store(true, Relaxed);
}

async fn link(from: &QuicTransport, to: &Contact<QuicAddress>) -> InUse {
    let linked = soon(connect::link_to(&from.shared, to)).await;
    linked.map(|(link, _)| link).unwrap()
}

async fn question(
    from: &QuicTransport,
    to: &Contact<QuicAddress>,
    request: &ReachRequest,
) -> Result<ReachAnswer, NotHeard> {
    let link = link(from, to).await;
    ask(&from.shared, &link, request, PATIENCE).await
}

pub(in crate::quic) fn socket_of(node: &QuicTransport) -> SocketAddr {
    node.local().address.sockets()[0]
}

/// A peer that answers as it is told, and does nothing of its own accord.
struct Scripted {
    contact: Contact<QuicAddress>,
    mux: Arc<Mux>,
    endpoint: quinn::Endpoint,
    _tasks: Tasks,
}

/// What a peer answers to a request that came from somewhere; `None`: nothing, ever.
type Script = Arc<dyn Fn(&ReachRequest, SocketAddr, &Arc<Mux>) -> Option<ReachAnswer> + Send + Sync>;

impl Scripted {
    fn new(n: u8, script: Script) -> Self {
        let (mux, tasks) = (Arc::new(Mux::new(Arc::new(Line::default()))), Tasks::new());
        let setup = Setup::new(&key(n), network(), &QuicLimits::default()).unwrap();
        let socket = socket::open(host(n)).unwrap();
        let endpoint = setup
            .endpoint(socket, mux.clone(), tasks.token().unwrap())
            .unwrap();
        let address = QuicAddress::from(endpoint.local_addr().unwrap());
        let (accepting, speaking) = (endpoint.clone(), mux.clone());
        tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                let (script, mux) = (script.clone(), speaking.clone());
                tokio::spawn(async move {
                    let connection = incoming.await.ok()?;
                    loop {
                        let (send, recv) = connection.accept_bi().await.ok()?;
                        let from = connection.remote_address();
                        tokio::spawn(one(script.clone(), mux.clone(), from, send, recv));
                    }
                    #[expect(unreachable_code, reason = "says what the block is")]
                    Some(())
                });
            }
        });
        Self {
            contact: Contact::new(key(n).node_id(), address),
            mux,
            endpoint,
            _tasks: tasks,
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.endpoint.close(0u32.into(), b"");
    }
}

async fn one(
    script: Script,
    mux: Arc<Mux>,
    from: SocketAddr,
    mut send: quinn::SendStream,
    mut recv: quinn::RecvStream,
) -> Option<()> {
    let mut frame = Bytes::from(recv.read_to_end(1 << 20).await.ok()?);
    if frame.split_to(1)[0] != 2 {
        return None;
    }
    let request = ReachRequest::decode(&frame, Scope::Any).ok()?;
    match script(&request, from, &mux) {
        Some(answer) => {
            send.write_all(&answer.encode(&request).ok()?).await.ok()?;
            send.finish().ok()
        }
        None => {
            send.stopped().await.ok()?;
            None
        }
    }
}

/// A server that sees everybody where they are, and does not relay.
fn honest(observed: SocketAddr) -> ReachAnswer {
    ReachAnswer::Hello {
        observed,
        serves: true,
        relays: false,
        also: None,
    }
}

/// The ids of the relays of a node.
pub(in crate::quic) fn relays(standing: &Standing) -> Vec<NodeId> {
    standing.relays.iter().map(|relay| relay.id).collect()
}

async fn arrival(arrivals: &mut tokio::sync::mpsc::Receiver<super::Arrival>) -> Opened {
    match soon(arrivals.recv()).await {
        Some(super::Arrival::Session(opened)) => opened,
        other => panic!("no session: {other:?}"),
    }
}
