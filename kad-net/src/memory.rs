//! A network inside one process: for tests, for simulations on tokio's paused clock, and to show how small a transport
//! is.
//!
//! ```
//! # use std::time::Duration;
//! # use kad_net::{Transport as _, Reply as _, memory::{Conditions, Network}};
//! # use kad_core::NodeId;
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let network = Network::new(7, Conditions { delay: Duration::from_millis(20)..=Duration::from_millis(60), loss: 0.0 });
//! let alice = network.join(NodeId::from_bytes([1; 32]), "10.0.0.1:4000".parse().unwrap());
//! let bob = network.join(NodeId::from_bytes([2; 32]), "10.0.0.2:4000".parse().unwrap());
//! let serve = async {
//!     let inbound = bob.accept().await.unwrap();
//!     assert_eq!(inbound.from, alice.local());
//!     inbound.reply.send("yes".into()).await;
//! };
//! let to = bob.local();
//! let (answer, ()) = tokio::join!(alice.request(&to, "there?".into()), serve);
//! assert_eq!(answer.unwrap().frame, "yes");
//! # });
//! ```
//!
//! Delays and losses come from one seed, so a single-threaded run on the paused clock repeats itself. Members that have
//! not met yet shake hands first, as a real transport dials: that takes one more round trip. Nothing is spawned: a
//! request lives in the future that made it, and dropping that future is all it takes to forget it. It refuses to
//! pretend more than it does: there are no packets, so a loss loses a whole request or a whole answer.

mod member;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kad_core::{Contact, Failure, NodeId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::member::{Member, State, Warm};
use crate::{Answer, Inbound, MAX_FRAME, Reply, Transport, TransportError, TransportStats};

/// Requests that wait at one node to be accepted. Full: the newcomer is told [`Failure::Busy`].
///
/// Enough for the burst of a STORE to every holder from a dozen peers at once.
pub const INBOX: usize = 256;

/// After how long a request that nobody will answer fails as unreachable: as long as a QUIC handshake is worth waiting
/// for.
///
/// The time is tokio's, so it passes at once where that clock is paused.
pub const UNREACHABLE_AFTER: Duration = Duration::from_secs(5);

/// What the paths of a network do to what travels on them.
#[derive(Debug, Clone, PartialEq)]
pub struct Conditions {
    /// How long one way takes; each way of each exchange draws its own. Default none.
    pub delay: RangeInclusive<Duration>,
    /// The share of requests, and of answers, that never arrive, from 0 to 1. Default 0.
    pub loss: f64,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO..=Duration::ZERO,
            loss: 0.0,
        }
    }
}

/// A network of members in this process. Clones are the same network.
#[derive(Debug, Clone)]
pub struct Network(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    conditions: Conditions,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The state of the generator of delays and losses.
    random: u64,
    joined: u64,
    /// As many as joined and have not left: the bound is the caller's.
    members: HashMap<SocketAddr, Arc<Member>>,
    /// Addresses that are parted from all others.
    island: HashSet<SocketAddr>,
}

/// What one way of one exchange is going to suffer.
struct Way {
    delay: Duration,
    lost: bool,
}

impl Network {
    /// An empty network whose delays and losses are drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        let inner = Inner {
            random: seed,
            joined: 0,
            members: HashMap::new(),
            island: HashSet::new(),
        };
        Self(Arc::new(Shared {
            conditions,
            inner: Mutex::new(inner),
        }))
    }

    /// A new member. The network vouches for its id.
    ///
    /// Whoever had the address before is cut off, as when another process is given the port of a dead one.
    #[must_use]
    pub fn join(&self, id: NodeId, address: SocketAddr) -> MemoryTransport {
        let (sender, inbox) = mpsc::channel(INBOX);
        let mut inner = self.lock();
        inner.joined += 1;
        let member = Arc::new(Member::new(Contact::new(id, address), inner.joined, sender));
        let previous = inner.members.insert(address, Arc::clone(&member));
        drop(inner);
        if let Some(previous) = previous {
            previous.set(State::Cut);
        }
        MemoryTransport {
            network: self.clone(),
            member,
            inbox: tokio::sync::Mutex::new(inbox),
        }
    }

    /// Cuts a member off: what it sends and what is sent to it is lost until [`reconnect`](Self::reconnect).
    ///
    /// Returns whether there is such a member.
    pub fn disconnect(&self, address: SocketAddr) -> bool {
        self.find(address)
            .is_some_and(|member| member.change(State::Up, State::Cut))
    }

    /// Ends what [`disconnect`](Self::disconnect) began. Requests that were under way stay lost.
    ///
    /// Returns whether there is such a member, and it was cut off.
    pub fn reconnect(&self, address: SocketAddr) -> bool {
        self.find(address)
            .is_some_and(|member| member.change(State::Cut, State::Up))
    }

    /// Parts the network in two: between these addresses and all others everything is lost until
    /// [`heal`](Self::heal). A second call replaces the first.
    pub fn part(&self, island: impl IntoIterator<Item = SocketAddr>) {
        let island = island.into_iter().collect();
        self.lock().island = island;
    }

    /// Ends what [`part`](Self::part) began. What was under way between the parts stays lost.
    pub fn heal(&self) {
        self.part([]);
    }

    fn are_together(&self, one: SocketAddr, other: SocketAddr) -> bool {
        let inner = self.lock();
        inner.island.contains(&one) == inner.island.contains(&other)
    }

    fn find(&self, address: SocketAddr) -> Option<Arc<Member>> {
        self.lock().members.get(&address).cloned()
    }

    /// Forgets a member, unless another one has its address by now.
    fn leave(&self, member: &Member) {
        let mut inner = self.lock();
        let address = member.contact.address;
        if inner
            .members
            .get(&address)
            .is_some_and(|there| there.number == member.number)
        {
            inner.members.remove(&address);
        }
    }

    /// Draws both ways of an exchange at once, so that the order of draws is that in which requests begin.
    fn draw(&self) -> [Way; 2] {
        let Conditions { delay, loss } = &self.0.conditions;
        let mut inner = self.lock();
        std::array::from_fn(|_| {
            let spread = delay.end().saturating_sub(*delay.start());
            Way {
                delay: *delay.start() + spread.mul_f64(inner.share()),
                lost: inner.share() < *loss,
            }
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // No code that holds it panics half-way through a change.
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// A number from 0 up to 1. SplitMix64 (Steele, Lea and Flood 2014).
    fn share(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// One member of a [`Network`]. Dropping it is leaving without a word.
#[derive(Debug)]
pub struct MemoryTransport {
    network: Network,
    member: Arc<Member>,
    inbox: tokio::sync::Mutex<mpsc::Receiver<Inbound<SocketAddr, MemoryReply>>>,
}

impl MemoryTransport {
    /// Finds who is at an address, and waits as long as the way there takes.
    async fn dial(&self, address: SocketAddr, way: &Way) -> Result<Arc<Member>, MemoryError> {
        wait(way.delay).await;
        let arrives = !way.lost && self.member.is_up() && self.is_with(address);
        match self.network.find(address) {
            Some(peer) if arrives && peer.is_up() => Ok(peer),
            _ => Err(unreachable().await),
        }
    }

    async fn exchange(&self, to: &Contact<SocketAddr>, frame: Bytes) -> Result<Answer, MemoryError> {
        let [there, back] = self.network.draw();
        self.shake_hands(to.address).await;
        let started = Instant::now();
        let peer = self.dial(to.address, &there).await?;
        if peer.contact.id != to.id {
            wait(back.delay).await;
            self.member.count(|stats| stats.wrong_identity += 1);
            return Err(MemoryError::WrongIdentity);
        }
        let warm = self.meet(&peer);
        let (reply, answer) = oneshot::channel();
        let bytes = frame.len() as u64;
        let inbound = Inbound {
            from: self.member.contact,
            frame,
            reply: MemoryReply {
                answer: reply,
                member: Arc::clone(&peer),
            },
        };
        match peer.inbox.try_send(inbound) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                peer.count(|stats| stats.requests_refused += 1);
                wait(back.delay).await;
                return Err(MemoryError::Busy);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(MemoryError::Unreachable),
        }
        self.member.count(|stats| stats.bytes_sent += bytes);
        peer.count(|stats| stats.bytes_received += bytes);

        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            fate = apart(&self.member, &peer) => return Err(fate),
        };
        wait(back.delay).await;
        let arrives = !back.lost && self.member.is_up() && self.is_with(to.address);
        if !arrives || peer.state() == State::Cut {
            return Err(unreachable().await);
        }
        match answer {
            Ok(frame) => {
                self.member
                    .count(|stats| stats.bytes_received += frame.len() as u64);
                let took = started.elapsed();
                Ok(Answer { frame, warm, took })
            }
            Err(_) if peer.state() == State::Closed => Err(MemoryError::Unreachable),
            Err(_) => Err(MemoryError::Busy),
        }
    }

    fn is_with(&self, address: SocketAddr) -> bool {
        self.network.are_together(self.member.contact.address, address)
    }

    /// Takes as long as dialling, if there is somebody at the address whom this member has not met. Handshakes are sent
    /// again until they arrive, so they are never lost; that nobody is there is found out by the request.
    async fn shake_hands(&self, address: SocketAddr) {
        let stranger = |peer: &Arc<Member>| peer.is_up() && !self.member.knows(peer.number);
        if self.network.find(address).is_some_and(|peer| stranger(&peer)) {
            let [there, back] = self.network.draw();
            wait(there.delay + back.delay).await;
        }
    }

    /// Remembers that the two have met, as a pool remembers a connection. Returns whether they had before.
    fn meet(&self, peer: &Member) -> bool {
        let warm = self.member.warm(peer.number);
        if warm == Warm::New {
            self.member.count(|stats| stats.dialled += 1);
            if peer.warm(self.member.number) == Warm::New {
                peer.count(|stats| stats.accepted += 1);
            }
        }
        warm == Warm::Known
    }

    /// Runs a future until this transport is closed.
    async fn unless_closed<T>(
        &self,
        work: impl Future<Output = Result<T, MemoryError>>,
    ) -> Result<T, MemoryError> {
        if self.member.state() == State::Closed {
            return Err(MemoryError::Closed);
        }
        tokio::select! {
            biased;
            result = work => result,
            () = self.member.until(|state| state == State::Closed) => Err(MemoryError::Closed),
        }
    }
}

impl Transport for MemoryTransport {
    type Address = SocketAddr;
    type Reply = MemoryReply;
    type Error = MemoryError;

    fn local(&self) -> Contact<SocketAddr> {
        self.member.contact
    }

    async fn identify(&self, address: &SocketAddr) -> Result<Contact<SocketAddr>, MemoryError> {
        self.unless_closed(async {
            let [there, back] = self.network.draw();
            let peer = self.dial(*address, &there).await?;
            wait(back.delay).await;
            if back.lost {
                return Err(unreachable().await);
            }
            self.meet(&peer);
            Ok(peer.contact)
        })
        .await
    }

    async fn request(&self, to: &Contact<SocketAddr>, frame: Bytes) -> Result<Answer, MemoryError> {
        if frame.len() > MAX_FRAME {
            return Err(MemoryError::TooLarge);
        }
        self.unless_closed(self.exchange(to, frame)).await
    }

    async fn accept(&self) -> Option<Inbound<SocketAddr, MemoryReply>> {
        tokio::select! {
            biased;
            () = self.member.until(|state| state == State::Closed) => None,
            inbound = async { self.inbox.lock().await.recv().await } => inbound,
        }
    }

    async fn close(&self) {
        self.member.set(State::Closed);
        self.network.leave(&self.member);
        let mut inbox = self.inbox.lock().await;
        inbox.close();
        while inbox.try_recv().is_ok() {}
    }

    fn stats(&self) -> TransportStats {
        self.member.stats()
    }
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        self.member.set(State::Closed);
        self.network.leave(&self.member);
    }
}

/// How to answer a request that came in over memory.
#[derive(Debug)]
pub struct MemoryReply {
    answer: oneshot::Sender<Bytes>,
    /// Who answers.
    member: Arc<Member>,
}

impl Reply for MemoryReply {
    /// An answer larger than [`MAX_FRAME`] is not sent; the peer is told [`Failure::Busy`].
    async fn send(self, frame: Bytes) {
        let bytes = frame.len();
        if bytes <= MAX_FRAME && self.answer.send(frame).is_ok() {
            self.member.count(|stats| stats.bytes_sent += bytes as u64);
        }
    }
}

/// Why a request over memory failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// Nobody is there, or the request or its answer was lost.
    #[error("nobody answers there")]
    Unreachable,
    /// Somebody else is there.
    #[error("another node answers there")]
    WrongIdentity,
    /// The inbox of the peer is full, or it dropped the request.
    #[error("the node is busy")]
    Busy,
    /// Our own frame is larger than [`MAX_FRAME`]; nothing was sent.
    #[error("the frame is too large")]
    TooLarge,
    /// Our own transport is closed.
    #[error("the transport is closed")]
    Closed,
}

impl TransportError for MemoryError {
    fn failure(&self) -> Failure {
        match self {
            Self::Unreachable => Failure::Unreachable,
            Self::WrongIdentity => Failure::WrongIdentity,
            Self::Busy => Failure::Busy,
            Self::TooLarge | Self::Closed => Failure::Local,
        }
    }
}

async fn wait(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// The long silence of one who is not there.
async fn unreachable() -> MemoryError {
    tokio::time::sleep(UNREACHABLE_AFTER).await;
    MemoryError::Unreachable
}

/// Resolves when an answer can no longer come: at once if the peer closed, in silence if one of the two was cut off.
async fn apart(us: &Member, peer: &Member) -> MemoryError {
    tokio::select! {
        biased;
        () = peer.until(|state| state == State::Closed) => MemoryError::Unreachable,
        error = async {
            tokio::select! {
                () = peer.until(|state| state == State::Cut) => {}
                () = us.until(|state| state == State::Cut) => {}
            }
            unreachable().await
        } => error,
    }
}

#[cfg(test)]
mod tests;
