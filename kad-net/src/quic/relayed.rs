//! Connections through a relay: to quinn, an ordinary peer at an address that does not exist.
//!
//! ```text
//!   quinn ─ to a fake address ─► RelayedSocket ─► Mux ─ RELAY ─► the relay ─ RELAY ─► the peer
//! ```
//!
//! A second kind of endpoint has no socket of the system. What it sends to a *fake address* leaves over the real socket
//! in RELAY packets, and what comes in such packets from that relay for that session comes in as from the fake address.
//! So QUIC runs end to end, unread by the relay, and knows nothing of it. A datagram is a packet: no segmentation
//! offload, no question of families. What comes waits in a queue for each route (`waiting.rs`), so that a busy session
//! costs the others nothing.
//!
//! Fake addresses lie in one unique local prefix with a host part that is drawn at random for each route, so that no
//! peer can name one of somebody else's. What comes over a real socket from such an address is dropped, and nothing is
//! sent to one.

mod waiting;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use self::waiting::Waiting;
use super::address::canonical;
use super::mux::Mux;
use super::socket::{Count, Line};
use super::tasks::Alive;
use crate::nat::relay::SessionId;

/// Routes at a time: two relays for each of thirty peers, which are more than a node is meant to have through relays.
/// Full: no further relayed connection.
pub(super) const MAX_ROUTES: usize = 64;

/// The /64 of fake addresses: unique local (RFC 4193), drawn once at random, in no network.
const FAKE_PREFIX: u128 = 0xfd37_c2a8_91e5_0001 << 64;

/// The host part of this end.
const OWN_HOST: u128 = 1;

/// The port of every fake address.
const FAKE_PORT: u16 = 1;

/// Whether an address is one that nobody has: of a peer behind a relay.
pub(super) fn is_fake(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_bits() >> 64 == FAKE_PREFIX >> 64)
}

/// The routes through relays, and what came through them.
pub(super) struct Relayed {
    line: Arc<Line>,
    random: RandomState,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    drawn: u64,
    /// By the relay and the session, as packets come in.
    fakes: HashMap<(SocketAddr, SessionId), SocketAddr>,
    /// By the fake address, as they go out.
    behind: HashMap<SocketAddr, (SocketAddr, SessionId)>,
    /// Of routes that there are.
    waiting: Waiting,
    waker: Option<Waker>,
}

/// A way to one peer through a relay, until it is dropped.
pub(super) struct Route {
    fake: SocketAddr,
    relayed: Arc<Relayed>,
}

impl Route {
    /// What to dial, and where the peer's packets seem to come from.
    pub(super) const fn fake(&self) -> SocketAddr {
        self.fake
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("fake", &self.fake)
            .finish_non_exhaustive()
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        let mut inner = self.relayed.lock();
        if let Some(place) = inner.behind.remove(&self.fake) {
            inner.fakes.remove(&place);
            inner.waiting.forget(&self.fake);
        }
    }
}

impl Relayed {
    pub(super) fn new(line: Arc<Line>) -> Self {
        Self {
            line,
            random: RandomState::new(),
            inner: Mutex::default(),
        }
    }

    pub(super) fn route(this: &Arc<Self>, relay: SocketAddr, session: SessionId) -> Option<Route> {
        let place = (canonical(relay), session);
        let mut inner = this.lock();
        if inner.behind.len() >= MAX_ROUTES || inner.fakes.contains_key(&place) {
            return None;
        }
        let fake = loop {
            // A keyed hash of a counter: nobody who does not know the key can tell the next.
            inner.drawn += 1;
            let host = u128::from(this.random.hash_one(inner.drawn));
            let fake = SocketAddr::from((Ipv6Addr::from_bits(FAKE_PREFIX | host), FAKE_PORT));
            if host > OWN_HOST && !inner.behind.contains_key(&fake) {
                break fake;
            }
        };
        inner.fakes.insert(place, fake);
        inner.behind.insert(fake, place);
        drop(inner);
        Some(Route {
            fake,
            relayed: this.clone(),
        })
    }

    /// The relay and the session behind a fake address.
    pub(super) fn behind(&self, fake: SocketAddr) -> Option<(SocketAddr, SessionId)> {
        self.lock().behind.get(&fake).copied()
    }

    /// Takes what came in a RELAY packet, if it is from a relay of ours and for a session of ours.
    pub(super) fn take(&self, from: SocketAddr, session: SessionId, datagram: &[u8]) -> bool {
        let mut inner = self.lock();
        let Some(&fake) = inner.fakes.get(&(from, session)) else {
            return false;
        };
        if datagram.is_empty() || !inner.waiting.push(fake, Bytes::copy_from_slice(datagram)) {
            drop(inner);
            self.line.count(Count::Overflow);
            return true;
        }
        let waker = inner.waker.take();
        drop(inner);
        self.line.count(Count::Relayed);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    fn poll(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some((fake, datagram)) = inner.waiting.pop() else {
                break;
            };
            // quinn's buffers hold the largest datagram that it accepts; more would be none of its own.
            let size = datagram.len().min(buf.len());
            buf[..size].copy_from_slice(&datagram[..size]);
            *meta = RecvMeta {
                addr: fake,
                len: size,
                stride: size,
                ecn: None,
                dst_ip: None,
            };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket under the virtual endpoint.
pub(super) struct RelayedSocket {
    mux: Arc<Mux>,
    /// As for a real one: while quinn holds it, its tasks run.
    _alive: Alive,
}

impl RelayedSocket {
    pub(super) const fn new(mux: Arc<Mux>, alive: Alive) -> Self {
        Self { mux, _alive: alive }
    }
}

impl AsyncUdpSocket for RelayedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    /// A datagram that finds no room in the socket is lost, as any in a network: what a relay lets through is far less
    /// than what a socket holds.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.mux.send_relayed(transmit.destination, transmit.contents);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.mux.relayed().poll(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok((Ipv6Addr::from_bits(FAKE_PREFIX | OWN_HOST), FAKE_PORT).into())
    }

    /// The real sockets forbid it, too.
    fn may_fragment(&self) -> bool {
        false
    }
}

impl fmt::Debug for RelayedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayedSocket")
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker;

    use super::*;

    #[test]
    fn what_came_through_a_route_that_is_no_more_is_forgotten_with_it() {
        let relayed = Arc::new(Relayed::new(Arc::new(Line::default())));
        let relay = SocketAddr::from(([192, 0, 2, 1], 4001));
        let [gone, other] =
            [1, 2].map(|session| Relayed::route(&relayed, relay, SessionId(session)).unwrap());
        for (session, datagram) in [(1, b"lost"), (2, b"kept")] {
            assert!(relayed.take(relay, SessionId(session), datagram));
        }
        drop(gone);
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let mut bytes = [[0; 8]; 2];
        let mut bufs = bytes.each_mut().map(|buf| IoSliceMut::new(buf));
        let mut meta = [RecvMeta::default(); 2];
        let taken = relayed.poll(&mut cx, &mut bufs, &mut meta);
        assert!(matches!(taken, Poll::Ready(Ok(1))), "{taken:?}");
        assert_eq!((meta[0].addr, &bytes[0][..4]), (other.fake(), &b"kept"[..]));
        let mut bufs = bytes.each_mut().map(|buf| IoSliceMut::new(buf));
        assert!(relayed.poll(&mut cx, &mut bufs, &mut meta).is_pending());
    }
}
