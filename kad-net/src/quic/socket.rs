//! The UDP socket under the endpoint: it counts, it can be silenced, and it never gives up.
//!
//! quinn ends an endpoint when its socket reports an error on receiving, and a connection when it reports one on sending. On
//! UDP no error is final: one peer's closed port or a network that comes back in a minute must not cost all the others.
//! So errors are counted here and go no further. Punching and relaying will share this socket, hence it is our own.

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
use super::tasks::Alive;

/// What all sockets of a transport share.
#[derive(Debug, Default)]
pub(super) struct Line {
    silent: AtomicBool,
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    received: AtomicU64,
    received_bytes: AtomicU64,
    swallowed: AtomicU64,
    errors: AtomicU64,
}

impl Line {
    pub(super) fn silence(&self) {
        self.silent.store(true, Relaxed);
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Relaxed)
    }

    pub(super) fn stats(&self) -> SocketStats {
        SocketStats {
            sent: self.sent.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            received: self.received.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
            swallowed: self.swallowed.load(Relaxed),
            errors: self.errors.load(Relaxed),
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
    line: Arc<Line>,
    /// quinn's tasks hold the socket: while it lives, so do they.
    _alive: Alive,
}

impl OwnSocket {
    pub(super) fn wrap(socket: UdpSocket, line: Arc<Line>, alive: Alive) -> io::Result<Self> {
        Ok(Self {
            inner: TokioRuntime.wrap_udp_socket(socket)?,
            line,
            _alive: alive,
        })
    }
}

impl AsyncUdpSocket for OwnSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(OwnPoller {
            inner: self.inner.clone().create_io_poller(),
            line: self.line.clone(),
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let datagrams = match transmit.segment_size {
            Some(size) if size > 0 => transmit.contents.len().div_ceil(size),
            _ => 1,
        } as u64;
        if self.line.is_silent() {
            self.line.swallowed.fetch_add(datagrams, Relaxed);
            return Ok(());
        }
        match self.inner.try_send(transmit) {
            Ok(()) => {
                self.line.sent.fetch_add(datagrams, Relaxed);
                self.line
                    .sent_bytes
                    .fetch_add(transmit.contents.len() as u64, Relaxed);
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(e),
            // Refused ports, networks that are down, firewalls: a lost datagram, which QUIC sends again.
            Err(_) => {
                self.line.errors.fetch_add(1, Relaxed);
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
        for _ in 0..DISCARDS_AT_ONCE {
            match self.inner.poll_recv(cx, bufs, meta) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) => {
                    let datagrams: usize = meta
                        .iter()
                        .take(count)
                        .map(|m| m.len.div_ceil(m.stride.max(1)))
                        .sum();
                    if !self.line.is_silent() {
                        let bytes: usize = meta.iter().take(count).map(|m| m.len).sum();
                        self.line.received.fetch_add(datagrams as u64, Relaxed);
                        self.line.received_bytes.fetch_add(bytes as u64, Relaxed);
                        return Poll::Ready(Ok(count));
                    }
                    self.line.swallowed.fetch_add(datagrams as u64, Relaxed);
                }
                Poll::Ready(Err(_)) => {
                    self.line.errors.fetch_add(1, Relaxed);
                }
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
                self.line.errors.fetch_add(1, Relaxed);
                Poll::Pending
            }
            other => other,
        }
    }
}

/// Bytes of the receive buffer asked for: 64 connections that each send a window's first ten packets at once. The system
/// doubles or cuts it, and takes memory only for what waits, so a hundred endpoints in one process are no burden.
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// Bytes of the send buffer asked for: eight of the largest frames.
const SEND_BUFFER: usize = 640 * 1024;

/// Batches that a silenced socket throws away before it lets others work; each is at most 32 reads.
const DISCARDS_AT_ONCE: usize = 8;
