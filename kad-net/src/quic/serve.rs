//! The other direction: connections that peers open, and requests that they make.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures::FutureExt;
use quinn::{Endpoint, Incoming};

use super::QuicAddress;
use super::application;
use super::error::code;
use super::exchange::Asked;
use super::pool::{Admission, Link, REMINDER};
use super::relayed::is_fake;
use super::shared::{Open, Shared, Source};
use super::tasks::Alive;
use super::tls;

/// Accepts connections of peers until the endpoint is closed.
pub(super) async fn listen(shared: Arc<Shared>, endpoint: Endpoint, alive: Alive) {
    while let Some(incoming) = endpoint.accept().await {
        // Nothing has been sent for it yet, but for a Retry: then the host counts as contacted, and proves nothing.
        let stranger = !shared.mux.has_contacted(incoming.remote_address().ip());
        shared.mux.tell_of_handshake(incoming.remote_address());
        let Some(incoming) = screen(&shared, incoming) else {
            continue;
        };
        let Some(source) = shared.source(incoming.remote_address().ip()) else {
            refuse(&shared, incoming);
            continue;
        };
        shared.handshakes.fetch_add(1, Relaxed);
        tokio::spawn(shake_hands(
            shared.clone(),
            incoming,
            stranger,
            source,
            alive.clone(),
        ));
    }
}

/// Turns away what would be too much, before anything is computed for it.
fn screen(shared: &Shared, incoming: Incoming) -> Option<Incoming> {
    let pending = shared.handshakes.load(Relaxed);
    if pending >= shared.limits.pending_handshakes || !shared.pool.has_room() {
        refuse(shared, incoming);
        return None;
    }
    // Retired connections are finishing; with as many as the pool holds, nobody new comes in.
    if shared.counters.connections.load(Relaxed) >= shared.open_limit() {
        refuse(shared, incoming);
        return None;
    }
    if pending >= shared.limits.retry_above && !incoming.remote_address_validated() {
        shared.counters.retries.fetch_add(1, Relaxed);
        // Allowed, since the address is not validated.
        if let Err(e) = incoming.retry() {
            e.into_incoming().ignore();
        }
        return None;
    }
    Some(incoming)
}

fn refuse(shared: &Shared, incoming: Incoming) {
    shared.counters.refused.fetch_add(1, Relaxed);
    incoming.refuse();
}

async fn shake_hands(shared: Arc<Shared>, incoming: Incoming, stranger: bool, source: Source, alive: Alive) {
    // The handshake is bound to it, and so proves it; whatever comes afterwards may be from elsewhere.
    let at = incoming.remote_address();
    let handshake = tokio::time::timeout(shared.limits.handshake_timeout, async {
        incoming.accept()?.await
    })
    .await;
    shared.handshakes.fetch_sub(1, Relaxed);
    let Ok(Ok(connection)) = handshake else {
        shared.counters.refused.fetch_add(1, Relaxed);
        return;
    };
    let peer = match tls::peer_id(&connection) {
        Some(peer) if peer != shared.local => peer,
        _ => {
            shared.counters.wrong_identity.fetch_add(1, Relaxed);
            shared.counters.refused.fetch_add(1, Relaxed);
            connection.close(code::WRONG_IDENTITY, b"");
            return;
        }
    };
    if !is_fake(at.ip()) {
        shared.mux.tell_of_call(at, stranger);
    }
    if tls::is_of_applications(&connection) {
        application::accepted(&shared, connection, peer, source);
        return;
    }
    if is_fake(at.ip()) {
        // A peer behind a relay can be connected to; requests go to those who can be reached.
        shared.counters.refused.fetch_add(1, Relaxed);
        connection.close(code::UNUSED, b"");
        return;
    }
    let link = Link::new(peer, connection, at, QuicAddress::from(at), false);
    let open = Open::accepted(&shared);
    let Some(open) = open.filter(|_| !matches!(shared.pool.admit(&link), Admission::Refused)) else {
        shared.counters.refused.fetch_add(1, Relaxed);
        link.connection.close(code::BUSY, b"");
        return;
    };
    shared.counters.accepted.fetch_add(1, Relaxed);
    serve(shared, link, open, Some(source), alive).await;
}

/// Serves a connection on a task of its own.
pub(super) fn spawn(shared: Arc<Shared>, link: Arc<Link>, alive: Alive) {
    let open = Open::dialled(&shared);
    tokio::spawn(serve(shared, link, open, None, alive));
}

/// Accepts the requests of one peer until its connection ends, or is retired and has nothing left to do.
async fn serve(shared: Arc<Shared>, link: Arc<Link>, _open: Open, _source: Option<Source>, alive: Alive) {
    let mut retiring = false;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = link.connection.accept_bi() => accepted,
            datagram = link.connection.read_datagram() => {
                // There are none among requests. Read, so that they take no memory, and counted unless they are known
                // to mean nothing.
                let Ok(datagram) = datagram else { break };
                if datagram[..] != REMINDER {
                    shared.counters.unknown_streams.fetch_add(1, Relaxed);
                }
                continue;
            }
            () = link.until_retired(), if !retiring => {
                retiring = true;
                continue;
            }
            () = tokio::time::sleep(LINGER), if retiring => {
                if link.is_idle() {
                    link.connection.close(code::UNUSED, b"");
                    break;
                }
                continue;
            }
        };
        let Ok((send, recv)) = accepted else {
            break;
        };
        let used = link.in_use();
        if used.is_shut() {
            break;
        }
        let mut asked = Asked::new(shared.clone(), used, send, recv);
        // A small request arrives with the packet that opens its stream: then no task is needed.
        match asked.read().now_or_never() {
            Some(true) => asked.deliver(),
            Some(false) => {}
            None => {
                tokio::spawn(read_on(asked, shared.limits.stream_deadline, alive.clone()));
            }
        }
    }
    shared.pool.remove(&link);
    shared.reach.link_ended();
}

/// Waits for the rest of a request, but not for ever. There are at most as many of these as streams that a peer may
/// open.
async fn read_on(mut asked: Asked, deadline: Duration, _alive: Alive) {
    match tokio::time::timeout(deadline, asked.read()).await {
        Ok(true) => asked.deliver(),
        Ok(false) => {}
        Err(_) => asked.refuse(code::TOO_SLOW),
    }
}

/// How long a retired connection stays open without exchanges, for requests of the peer that are on their way: some
/// round trips.
const LINGER: Duration = Duration::from_secs(1);
