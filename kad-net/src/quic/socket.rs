//! The UDP socket under the endpoint: it counts, it can be silenced, and it never gives up.
//!
//! quinn ends an endpoint when its socket reports an error on receiving, and a connection when it reports one on
//! sending. On UDP no error is final: one peer's closed port or a network that comes back in a minute must not cost all
//! the others. So errors are counted here and go no further. Punching and relaying share this socket
//! ([`mux`](super::mux)): what is not QUIC is taken out of what arrives, before quinn sees it.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};

use super::config::BindError;
use super::mux::{Mux, sift};
use super::relayed::is_fake;
use super::tasks::Alive;

/// What all sockets of a transport share.
#[derive(Debug, Default)]
pub(super) struct Line {
    silent: AtomicBool,
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    received: AtomicU64,
    received_bytes: AtomicU64,
    counts: [AtomicU64; Count::KINDS],
}

/// What happens to single datagrams.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    /// Swallowed by a silenced transport.
    Swallowed,
    /// An error of the system.
    Error,
    /// One of ours that could not be sent.
    Lost,
    /// A punch that was waited for.
    Punch,
    /// A probe.
    Probe,
    /// Through a relay, for us.
    Relayed,
    /// For others.
    Forwarded,
    /// Not QUIC, and nobody waits for it.
    Stray,
    /// Waited for, but there is no room.
    Overflow,
}

impl Count {
    const KINDS: usize = 9;
}

impl Line {
    pub(super) fn silence(&self) {
        self.silent.store(true, Relaxed);
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Relaxed)
    }

    pub(super) fn count(&self, what: Count) {
        self.add(what, 1);
    }

    fn add(&self, what: Count, datagrams: u64) {
        self.counts[what as usize].fetch_add(datagrams, Relaxed);
    }

    pub(super) fn sent(&self, datagrams: u64, bytes: usize) {
        self.sent.fetch_add(datagrams, Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(1, Relaxed);
        self.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn stats(&self) -> SocketStats {
        let count = |what: Count| self.counts[what as usize].load(Relaxed);
        SocketStats {
            sent: self.sent.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            received: self.received.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
            swallowed: count(Count::Swallowed),
            errors: count(Count::Error),
            lost: count(Count::Lost),
            punches: count(Count::Punch),
            probes: count(Count::Probe),
            relayed: count(Count::Relayed),
            forwarded: count(Count::Forwarded),
            strays: count(Count::Stray),
            overflowed: count(Count::Overflow),
        }
    }
}

/// What the sockets of a transport have counted, all families together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketStats {
    /// Datagrams given to the system.
    pub sent: u64,
    /// Bytes of these, without the headers of UDP and IP: 28 bytes each over IPv4, 48 over IPv6.
    pub sent_bytes: u64,
    /// Datagrams taken from the system.
    pub received: u64,
    /// Bytes of these.
    pub received_bytes: u64,
    /// Datagrams that a silenced transport swallowed, both ways.
    pub swallowed: u64,
    /// Errors of the system that were ignored.
    pub errors: u64,
    /// Punches, probes and relayed datagrams that could not be sent: no room in the socket, no socket of the family, no
    /// route.
    pub lost: u64,
    /// Punches of peers that were waited for.
    pub punches: u64,
    /// Probes that arrived.
    pub probes: u64,
    /// Datagrams that came through relays for this node.
    pub relayed: u64,
    /// Datagrams that were forwarded for others.
    pub forwarded: u64,
    /// Datagrams that were dropped because they are neither QUIC nor anything that somebody waits for.
    pub strays: u64,
    /// Datagrams, other than those of QUIC, that were dropped because there was no room for them.
    pub overflowed: u64,
}

/// Opens a UDP socket, not blocking, with the buffers that we want.
pub(super) fn open(address: SocketAddr) -> Result<UdpSocket, BindError> {
    let attempt = || -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // One socket for each family, so that a peer has one address, not two spellings of it.
            socket.set_only_v6(true)?;
        }
        // The system may grant less; that costs packets under load, not correctness.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    attempt().map_err(|e| BindError::of_io(address, e))
}

/// quinn's tokio socket with segmentation offload, wrapped.
pub(super) struct OwnSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// The same socket, as the mux uses it.
    _same: Arc<UdpSocket>,
    mux: Arc<Mux>,
    /// quinn's tasks hold the socket: while it lives, so do they.
    _alive: Alive,
}

impl OwnSocket {
    pub(super) fn wrap(socket: UdpSocket, mux: Arc<Mux>, alive: Alive) -> io::Result<Self> {
        let same = Arc::new(socket.try_clone()?);
        mux.carry_over(&same);
        Ok(Self {
            inner: TokioRuntime.wrap_udp_socket(socket)?,
            _same: same,
            mux,
            _alive: alive,
        })
    }

    /// Leaves of what arrived in one buffer only what is QUIC, and gives the rest to the mux.
    pub(super) fn sift(&self, buf: &mut [u8], meta: &mut RecvMeta) {
        meta.len = if is_fake(meta.addr.ip()) || !self.mux.lets_in(meta.addr) {
            // Somebody speaks as a peer behind a relay would.
            self.mux.line().count(Count::Stray);
            0
        } else {
            let from = meta.addr;
            let end = meta.len.min(buf.len());
            sift(&mut buf[..end], meta.stride, |datagram| {
                self.mux.take(from, datagram);
            })
        };
    }
}

impl AsyncUdpSocket for OwnSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(OwnPoller {
            inner: self.inner.clone().create_io_poller(),
            line: self.mux.line().clone(),
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let line = self.mux.line();
        let datagrams = match transmit.segment_size {
            Some(size) if size > 0 => transmit.contents.len().div_ceil(size),
            _ => 1,
        } as u64;
        if line.is_silent() {
            line.add(Count::Swallowed, datagrams);
            return Ok(());
        }
        if is_fake(transmit.destination.ip()) {
            line.add(Count::Lost, datagrams);
            return Ok(());
        }
        // Before it is sent: the answer must not find us unaware.
        self.mux.note(transmit.destination.ip());
        match self.inner.try_send(transmit) {
            Ok(()) => {
                line.sent(datagrams, transmit.contents.len());
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(e),
            // Refused ports, networks that are down, firewalls: a lost datagram, which QUIC sends again.
            Err(_) => {
                line.count(Count::Error);
                Ok(())
            }
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let line = self.mux.line();
        for _ in 0..DISCARDS_AT_ONCE {
            match self.inner.poll_recv(cx, bufs, meta) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) => {
                    let datagrams: usize = meta
                        .iter()
                        .take(count)
                        .map(|m| m.len.div_ceil(m.stride.max(1)))
                        .sum();
                    if !line.is_silent() {
                        let bytes: usize = meta.iter().take(count).map(|m| m.len).sum();
                        line.received.fetch_add(datagrams as u64, Relaxed);
                        line.received_bytes.fetch_add(bytes as u64, Relaxed);
                        for (buf, meta) in bufs.iter_mut().zip(meta).take(count) {
                            self.sift(buf, meta);
                        }
                        // quinn passes over what is empty, and polls again until its own time is used up.
                        return Poll::Ready(Ok(count));
                    }
                    line.add(Count::Swallowed, datagrams as u64);
                }
                Poll::Ready(Err(_)) => line.count(Count::Error),
            }
        }
        // Others get their turn before the next batch is thrown away.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl fmt::Debug for OwnSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[derive(Debug)]
struct OwnPoller {
    inner: Pin<Box<dyn UdpPoller>>,
    line: Arc<Line>,
}

impl UdpPoller for OwnPoller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.inner.as_mut().poll_writable(cx) {
            Poll::Ready(Err(_)) => {
                // Only a runtime that shuts down does this: there is nothing left to wake.
                self.line.count(Count::Error);
                Poll::Pending
            }
            other => other,
        }
    }
}

/// Bytes of the receive buffer asked for: 64 connections that each send a window's first ten packets at once. The
/// system doubles or cuts it, and takes memory only for what waits, so a hundred endpoints in one process are no
/// burden.
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// Bytes of the send buffer asked for: eight of the largest frames.
const SEND_BUFFER: usize = 640 * 1024;

/// Batches that a silenced socket throws away before it lets others work; each is at most 32 reads.
const DISCARDS_AT_ONCE: usize = 8;
