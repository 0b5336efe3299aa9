//! Opening connections: our own dials, which race the addresses of a peer and are shared by all who want it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kad_core::{Contact, NodeId};
use quinn::{ClientConfig, Endpoint};
use tokio::sync::watch;

use super::QuicAddress;
use super::address::canonical;
use super::error::{QuicError, code};
use super::families;
use super::pool::{Admission, Dialled, InUse, Link, Lookup};
use super::serve;
use super::shared::Shared;
use super::tls;
use crate::nat::prefix::Family;
use crate::transport::WireAddress as _;

/// The connection to a peer, and whether it was open already. All who want the same peer at the same address share one
/// dial, which goes on if they lose interest: a connection that is nearly there is worth having.
pub(super) async fn link_to(
    shared: &Arc<Shared>,
    to: &Contact<QuicAddress>,
) -> Result<(InUse, bool), QuicError> {
    if let Some(open) = shared.pool.open(&to.id) {
        return Ok((open, true));
    }
    if to.id == shared.local {
        return Err(QuicError::Ourselves);
    }
    let wait = match shared.pool.lookup(to.id, &to.address) {
        Lookup::Open(open) => return Ok((open, true)),
        Lookup::Full => return Err(QuicError::PoolFull),
        Lookup::Dialling(wait) => wait,
        Lookup::Dial(tell, wait) => {
            let dial = Dial {
                shared: shared.clone(),
                to: to.clone(),
                tell,
            };
            // Given up before it began once the transport is closed.
            if let Some(alive) = shared.tasks.token() {
                tokio::spawn(async move {
                    dial.run().await;
                    drop(alive);
                });
            }
            wait
        }
    };
    outcome(wait).await.map(|link| (InUse::clone(&link), false))
}

async fn outcome(mut wait: watch::Receiver<Dialled>) -> Result<Arc<InUse>, QuicError> {
    // A dial that ends without a word was cut short by the end of the transport.
    let dialled = wait
        .wait_for(Option::is_some)
        .await
        .map_err(|_| QuicError::Closed)?;
    dialled.clone().unwrap_or(Err(QuicError::Closed))
}

/// A dial that others wait for. Dropped, it is taken off the list.
struct Dial {
    shared: Arc<Shared>,
    to: Contact<QuicAddress>,
    tell: watch::Sender<Dialled>,
}

impl Dial {
    async fn run(self) {
        let result = dial(&self.shared, &self.to.address, Some(self.to.id))
            .await
            .map(Arc::new);
        // Off the list first: whoever comes now finds the connection itself, or may try again.
        self.shared.pool.dial_ended(self.to.id, &self.to.address);
        self.tell.send_replace(Some(result));
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        if self.tell.borrow().is_none() {
            self.shared.pool.dial_ended(self.to.id, &self.to.address);
        }
    }
}

/// The same, over a connection in a family of this address: whoever is seen somewhere by the peer should be seen in
/// this family. One that stands in the other family finishes what is under way.
pub(super) async fn link_at(shared: &Arc<Shared>, to: &Contact<QuicAddress>) -> Result<InUse, QuicError> {
    let fits = |link: &InUse| {
        let family = Family::of(link.link().whereabouts().at.ip());
        let mut sockets = to.address.sockets().iter();
        sockets.any(|socket| Family::of(socket.ip()) == family)
    };
    match shared.pool.open(&to.id).filter(fits) {
        Some(open) => Ok(open),
        None if to.id == shared.local => Err(QuicError::Ourselves),
        None => dial(shared, &to.address, Some(to.id)).await,
    }
}

/// Opens a connection and takes it into the pool.
pub(super) async fn dial(
    shared: &Arc<Shared>,
    told: &QuicAddress,
    expected: Option<NodeId>,
) -> Result<InUse, QuicError> {
    let (connection, peer) = shake_hands(shared, &shared.setup.client, told, expected).await?;
    // A client does not follow its server, so it is where it was dialled.
    let at = canonical(connection.remote_address());
    let now = shared.mux.now();
    shared.reached.note(now, peer, at);
    // One that we may tell others of, once we have been there.
    let family = Family::of(at.ip());
    let other = told
        .sockets()
        .iter()
        .find(|other| Family::of(other.ip()) != family);
    if let Some(other) = other {
        shared.reached.claim(now, peer, *other);
    }
    let link = Link::new(peer, connection, at, QuicAddress::from(at), true);
    let Some(alive) = shared.tasks.token() else {
        return Err(QuicError::Closed);
    };
    let held = link.in_use();
    let usable = match shared.pool.admit(&link) {
        Admission::Admitted => held,
        Admission::Retired(survivor) => survivor,
        Admission::Refused => {
            link.connection.close(code::UNUSED, b"");
            return Err(QuicError::PoolFull);
        }
    };
    serve::spawn(shared.clone(), link, alive);
    shared.reach.link_dialled(at.ip());
    Ok(usable)
}

/// Opens a connection of applications, which is in no pool.
pub(super) async fn dial_application(
    shared: &Shared,
    address: &QuicAddress,
    expected: NodeId,
) -> Result<quinn::Connection, QuicError> {
    let dialled = shake_hands(shared, &shared.setup.application, address, Some(expected)).await;
    dialled.map(|(connection, _)| connection)
}

/// Dials, within its time and the bound on dials.
async fn shake_hands(
    shared: &Shared,
    config: &ClientConfig,
    address: &QuicAddress,
    expected: Option<NodeId>,
) -> Result<(quinn::Connection, NodeId), QuicError> {
    let race = async {
        let _permit = shared.dials.acquire().await.map_err(|_| QuicError::Closed)?;
        race(shared, config, address, expected).await
    };
    let limit = shared.limits.handshake_timeout;
    let won = tokio::time::timeout(limit, race).await.unwrap_or_else(|_| {
        Err(QuicError::Unreachable {
            reason: format!("no handshake within {limit:?}"),
        })
    })?;
    shared.counters.dialled.fetch_add(1, Relaxed);
    Ok(won)
}

/// Dials the socket addresses one after another, each a moment after the one before (RFC 8305, "Happy Eyeballs"), at
/// once when that one failed. The first to prove a fitting identity wins. Where this machine has no way in one family
/// and one in the other, the first is left out, as if there were no socket for it.
async fn race(
    shared: &Shared,
    config: &ClientConfig,
    address: &QuicAddress,
    expected: Option<NodeId>,
) -> Result<(quinn::Connection, NodeId), QuicError> {
    let first = expected.map_or(Family::V6, |peer| families::first_for(shared.local, peer));
    let mut order = address.racing_order(first);
    order.retain(|socket| !families::leads_nowhere(socket.ip()));
    let mut waiting = order.into_iter();
    let mut running = FuturesUnordered::new();
    let mut failure: Option<QuicError> = None;
    loop {
        if let Some(socket) = waiting.next() {
            running.push(async move { (socket, attempt(shared, config, socket, expected).await) });
        } else if running.is_empty() {
            return Err(failure.unwrap_or(QuicError::NoSocket));
        }
        let ended = if waiting.len() == 0 {
            running.next().await
        } else {
            tokio::time::timeout(STAGGER, running.next())
                .await
                .unwrap_or(None)
        };
        match ended {
            Some((_, Ok(won))) => return Ok(won),
            Some((socket, Err(error))) => {
                if let Some(peer) = expected {
                    shared.reached.forget(peer, socket);
                }
                failure = Some(more_telling(failure, error));
            }
            None => {}
        }
    }
}

async fn attempt(
    shared: &Shared,
    config: &ClientConfig,
    socket: SocketAddr,
    expected: Option<NodeId>,
) -> Result<(quinn::Connection, NodeId), QuicError> {
    attempt_over(shared, shared.endpoint_for(socket.ip()), config, socket, expected).await
}

/// One handshake, without a limit of time. Only a peer that proves to be the expected one, or any but ourselves, is a
/// success.
pub(super) async fn attempt_over(
    shared: &Shared,
    endpoint: Option<Endpoint>,
    config: &ClientConfig,
    socket: SocketAddr,
    expected: Option<NodeId>,
) -> Result<(quinn::Connection, NodeId), QuicError> {
    let endpoint = endpoint.ok_or_else(|| {
        if shared.tasks.token().is_none() {
            QuicError::Closed
        } else {
            QuicError::NoSocket
        }
    })?;
    let connecting = endpoint
        .connect_with(config.clone(), socket, tls::SERVER_NAME)
        .map_err(|e| match e {
            quinn::ConnectError::EndpointStopping => QuicError::Closed,
            other => QuicError::Unreachable {
                reason: other.to_string(),
            },
        })?;
    drop(endpoint);
    let connection = connecting.await.map_err(|e| QuicError::of_dial(&e))?;
    let Some(found) = tls::peer_id(&connection) else {
        connection.close(code::WRONG_IDENTITY, b"");
        return Err(QuicError::OtherNetwork);
    };
    let error = match expected {
        _ if found == shared.local => QuicError::Ourselves,
        Some(expected) if found != expected => QuicError::WrongIdentity { expected, found },
        _ => return Ok((connection, found)),
    };
    connection.close(code::WRONG_IDENTITY, b"");
    shared.counters.wrong_identity.fetch_add(1, Relaxed);
    Err(error)
}

/// Of several attempts that failed, what somebody said tells more than silence, and silence more than a missing socket.
fn more_telling(one: Option<QuicError>, other: QuicError) -> QuicError {
    let rank = |error: &QuicError| match error {
        QuicError::WrongIdentity { .. } => 4,
        QuicError::OtherNetwork => 3,
        QuicError::Busy => 5,
        QuicError::NoSocket => 0,
        _ => 1,
    };
    match one {
        Some(one) if rank(&one) >= rank(&other) => one,
        _ => other,
    }
}

/// How long one address has before the next one is tried too (RFC 8305, section 5: 250 ms; half a handshake to most
/// places).
const STAGGER: Duration = Duration::from_millis(250);
