//! The seam between a node and whatever carries its bytes.
//!
//! A transport moves opaque frames between nodes whose identity it proves. It knows nothing of Kademlia: no message, no
//! routing, no retry policy, no request timeout (the core's deadline is the only one). Two implementations live in this
//! crate, [`memory`](crate::memory) and `quic`; [`conformance`](crate::conformance) proves these and anyone's own.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use kad_core::{Address, Contact, Failure};

/// The largest frame in bytes, header included: one record of the largest size, a full list of contacts, and room for
/// the rest. A transport refuses larger ones in both directions before it allocates for them.
pub const MAX_FRAME: usize = 80 * 1024;

/// An address that the wire codec can carry: a bounded list of IP socket addresses.
pub trait WireAddress: Address + Eq + Hash + Ord + Send + Sync + fmt::Debug + fmt::Display + 'static {
    /// The most socket addresses that one address holds.
    const MAX_SOCKETS: usize = 4;

    /// From what came over the wire; `None` if no usable address can be made of it.
    fn from_sockets(sockets: &[SocketAddr]) -> Option<Self>;

    /// As it goes over the wire: at least one and at most [`MAX_SOCKETS`](Self::MAX_SOCKETS).
    fn sockets(&self) -> &[SocketAddr];
}

/// A single socket address, for transports that need no more.
impl WireAddress for SocketAddr {
    fn from_sockets(sockets: &[SocketAddr]) -> Option<Self> {
        sockets.first().copied()
    }

    fn sockets(&self) -> &[SocketAddr] {
        std::slice::from_ref(self)
    }
}

/// Carries requests between nodes and proves who they are.
///
/// # Duties of an implementation
/// - `request` resolves to an answer only if the peer at the address proved that it is `to.id`.
/// - [`Inbound::from`] is proven in the same way; its address is where the peer really was.
/// - Futures are cancel-safe: dropping one leaves no half-sent request that the peer could take for a whole one.
/// - [`Answer::took`] begins when the connection stands; after a second dial it begins anew.
/// - A pooled connection that dies before the first byte of the answer is dialled again once; otherwise nothing is
///   retried.
/// - A frame is at most [`MAX_FRAME`] bytes, both ways; a larger one is refused without being read.
/// - Everything is bounded. Under load `accept` may refuse or let peers wait; it never grows.
/// - After [`close`](Self::close) every future resolves, and tasks that the transport spawned have ended.
pub trait Transport: Send + Sync + 'static {
    /// Where nodes are, in this transport's words.
    type Address: WireAddress;
    /// How to answer one inbound request.
    type Reply: Reply;
    /// Why a request failed.
    type Error: TransportError;

    /// This node, as others may reach it.
    fn local(&self) -> Contact<Self::Address>;

    /// Learns who is at an address, by a handshake: how a bare `HOST:PORT` becomes a contact.
    ///
    /// # Errors
    /// When nobody answers there, or what answers is not a member of this network.
    fn identify(
        &self,
        address: &Self::Address,
    ) -> impl Future<Output = Result<Contact<Self::Address>, Self::Error>> + Send;

    /// Sends a frame and waits for the answer.
    ///
    /// # Errors
    /// When the peer cannot be reached, is not `to.id`, or the exchange breaks. [`TransportError::failure`] says which.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the request.
    fn request(
        &self,
        to: &Contact<Self::Address>,
        frame: Bytes,
    ) -> impl Future<Output = Result<Answer, Self::Error>> + Send;

    /// Where a peer that has just answered is for certain, if that is another address than the one that was asked: an
    /// address may name several hosts, and one of them has answered. `None` if nothing better is known.
    fn proven(&self, to: &Contact<Self::Address>) -> Option<Self::Address> {
        let _ = to;
        None
    }

    /// The next request of a peer, or `None` once the transport is closed.
    ///
    /// # Cancel safety
    /// Dropping the future loses no request.
    fn accept(&self) -> impl Future<Output = Option<Inbound<Self::Address, Self::Reply>>> + Send;

    /// Closes all connections and waits until nothing of this transport runs any more. Idempotent.
    fn close(&self) -> impl Future<Output = ()> + Send;

    /// What the transport has counted so far.
    fn stats(&self) -> TransportStats;
}

/// An answer, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The frame.
    pub frame: Bytes,
    /// Whether the connection was already open when the request was made.
    pub warm: bool,
    /// How long the answer took once the connection stood: from the moment at which the request could be sent to the
    /// last byte of the answer. Dialling and waiting for a dial of somebody else are no part of it, so it is a round
    /// trip and the time that the peer needed, over a new connection as over an old one.
    pub took: Duration,
}

/// A request of a peer.
#[derive(Debug)]
pub struct Inbound<A, R> {
    /// Who asks; the id is proven.
    pub from: Contact<A>,
    /// What they ask.
    pub frame: Bytes,
    /// How to answer.
    pub reply: R,
}

/// How to answer one inbound request. Dropping it tells the peer [`Failure::Busy`].
pub trait Reply: Send + fmt::Debug + 'static {
    /// Sends the answer. A peer that has gone away is not an error: there is nobody left to be told.
    fn send(self, frame: Bytes) -> impl Future<Output = ()> + Send;
}

/// An error of a transport, and what it means for the contact that was asked.
pub trait TransportError: std::error::Error + Send + Sync + 'static {
    /// Whose fault it was.
    fn failure(&self) -> Failure;
}

/// Counters of a transport, all since it was opened except those that say otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportStats {
    /// Connections open now.
    pub connections: u64,
    /// Connections that we opened.
    pub dialled: u64,
    /// Connections that peers opened.
    pub accepted: u64,
    /// Connections refused: a limit was reached, or the handshake failed.
    pub refused: u64,
    /// Handshakes in which the peer was not who it had to be.
    pub wrong_identity: u64,
    /// Requests of peers that were refused: too many at once, or too large.
    pub requests_refused: u64,
    /// Bytes of frames sent.
    pub bytes_sent: u64,
    /// Bytes of frames received.
    pub bytes_received: u64,
}

/// A future in a box, as [`DynTransport`] returns it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A [`Reply`] whose type is erased.
pub struct BoxReply(Box<dyn ErasedReply>);

impl BoxReply {
    /// Sends the answer.
    pub async fn send(self, frame: Bytes) {
        self.0.send(frame).await;
    }
}

impl fmt::Debug for BoxReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

trait ErasedReply: Send + fmt::Debug {
    fn send(self: Box<Self>, frame: Bytes) -> BoxFuture<'static, ()>;
}

impl<R: Reply> ErasedReply for R {
    fn send(self: Box<Self>, frame: Bytes) -> BoxFuture<'static, ()> {
        Box::pin(Reply::send(*self, frame))
    }
}

/// A [`TransportError`] whose type is erased.
#[derive(Debug)]
pub struct BoxError(Box<dyn TransportError>);

impl fmt::Display for BoxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for BoxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl TransportError for BoxError {
    fn failure(&self) -> Failure {
        self.0.failure()
    }
}

/// The twin of [`Transport`] for `Arc<dyn DynTransport<A>>`: reply and error are erased, the address is not.
///
/// Every [`Transport`] is one. It costs one allocation for each call.
pub trait DynTransport<A>: Send + Sync + 'static {
    /// See [`Transport::local`].
    fn local(&self) -> Contact<A>;
    /// See [`Transport::identify`].
    fn identify<'a>(&'a self, address: &'a A) -> BoxFuture<'a, Result<Contact<A>, BoxError>>;
    /// See [`Transport::request`].
    fn request<'a>(&'a self, to: &'a Contact<A>, frame: Bytes) -> BoxFuture<'a, Result<Answer, BoxError>>;
    /// See [`Transport::accept`].
    fn accept(&self) -> BoxFuture<'_, Option<Inbound<A, BoxReply>>>;
    /// See [`Transport::close`].
    fn close(&self) -> BoxFuture<'_, ()>;
    /// See [`Transport::stats`].
    fn stats(&self) -> TransportStats;
}

impl<T: Transport> DynTransport<T::Address> for T {
    fn local(&self) -> Contact<T::Address> {
        Transport::local(self)
    }

    fn identify<'a>(
        &'a self,
        address: &'a T::Address,
    ) -> BoxFuture<'a, Result<Contact<T::Address>, BoxError>> {
        Box::pin(async move {
            Transport::identify(self, address)
                .await
                .map_err(|e| BoxError(Box::new(e)))
        })
    }

    fn request<'a>(
        &'a self,
        to: &'a Contact<T::Address>,
        frame: Bytes,
    ) -> BoxFuture<'a, Result<Answer, BoxError>> {
        Box::pin(async move {
            Transport::request(self, to, frame)
                .await
                .map_err(|e| BoxError(Box::new(e)))
        })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Inbound<T::Address, BoxReply>>> {
        Box::pin(async move {
            let Inbound { from, frame, reply } = Transport::accept(self).await?;
            Some(Inbound {
                from,
                frame,
                reply: BoxReply(Box::new(reply)),
            })
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(Transport::close(self))
    }

    fn stats(&self) -> TransportStats {
        Transport::stats(self)
    }
}
