//! The handle: what an application holds of a running node.

mod answers;
mod asker;
mod connect;
mod keeping;
mod locate;
mod many;
mod mutable;
mod reach;
mod records;
mod seen;
mod watch;

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kad_core::{
    Command, Contact, Event, Key, Keypair, NetworkId, NodeId, Outcome, Rules, Slot, Stats, UnixTime,
};
use kad_net::quic::QuicAddress;
use kad_net::wire::Scope;
use kad_net::{BoxFuture, TransportStats};
use kad_store::{StoreError, StoredRecord};
use tokio::sync::watch::Receiver;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

pub use self::answers::{Closest, Mutable, Pong, Provider, Stored, Told, Value};
pub(crate) use self::asker::{Asker, WeakAsker};
pub(crate) use self::connect::Applications;
pub use self::connect::ConnectError;
pub use self::locate::Whereabouts;
pub use self::many::{ManyReport, OneOfMany};
pub use self::mutable::MutableOptions;
pub use self::records::PutOptions;
pub(crate) use self::seen::Seen;
pub use self::watch::{Change, Watch, WatchOptions};
use crate::card::Farewell;
use crate::driver::Order;
use crate::holdings::Listing;
use crate::join::JoinState;
use crate::policy::Policy;
use crate::storage::{Storage, StorageStats};
use crate::{Builder, DenyList, JoinError, NodeError, Peer, Role};

/// A running node. Clones share it; it stops with [`shutdown`](Self::shutdown) or when the last clone is dropped.
///
/// # Cancel safety
/// All methods are cancel-safe: dropping the future cancels the query and what it has in flight. A put that is dropped
/// may have been stored by some.
pub struct Node<A = QuicAddress> {
    inner: Arc<Inner<A>>,
}

impl<A> Clone for Node<A> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

pub(crate) struct Inner<A> {
    pub(crate) asker: Asker<A>,
    pub(crate) keypair: Keypair,
    pub(crate) network: NetworkId,
    pub(crate) rules: Rules,
    /// Acknowledgements that are enough for a write.
    pub(crate) write_quorum: usize,
    pub(crate) quorum: usize,
    pub(crate) role: Receiver<Role>,
    /// Takes back what the card of the node says, if it has one.
    pub(crate) farewell: Option<Farewell>,
    /// The newest versions of mutable records that this node has met.
    pub(crate) seen: Mutex<Seen>,
    pub(crate) stores: bool,
    pub(crate) policy: Arc<Policy>,
    /// Which addresses count.
    pub(crate) scope: Scope,
    pub(crate) local: Contact<A>,
    pub(crate) events: broadcast::Sender<Event<A>>,
    pub(crate) join: Receiver<JoinState>,
    pub(crate) storage: Arc<Storage>,
    pub(crate) repair_bytes: Arc<AtomicU64>,
    pub(crate) doors: Doors<A>,
    /// Taken by the first shutdown.
    pub(crate) running: Mutex<Option<Running>>,
}

/// What ends a node in order.
pub(crate) type Running = Box<dyn FnOnce() -> BoxFuture<'static, ShutdownReport> + Send>;

/// Finds out who is at a place, or says in one sentence why not.
pub(crate) type Identify<A> =
    Box<dyn Fn(Peer) -> BoxFuture<'static, Result<Contact<A>, String>> + Send + Sync>;

/// Removes what is denied from the store, whose type a handle does not know, and says how many records that were.
pub(crate) type Purge = Box<dyn Fn() -> JoinHandle<Result<u64, StoreError>> + Send + Sync>;

/// What a handle asks of the transport and the store, whose types it does not know.
pub(crate) struct Doors<A> {
    pub(crate) identify: Identify<A>,
    pub(crate) stats: Box<dyn Fn() -> TransportStats + Send + Sync>,
    pub(crate) silence: Option<Box<dyn Fn() + Send + Sync>>,
    /// What applications connect with, if the transport is QUIC.
    pub(crate) applications: Option<Applications>,
    /// What the own store has in a slot.
    pub(crate) stored: LookUp,
    pub(crate) purge: Purge,
    /// What the own store keeps, and of these files what is not there.
    pub(crate) listing: ListUp,
}

/// Tells of everything that is the node's own.
pub(crate) type ListUp = Box<dyn Fn(&[Key], UnixTime) -> Result<Listing, StoreError> + Send + Sync>;

/// Looks into the own store.
pub(crate) type LookUp = Box<dyn Fn(&Slot) -> Result<Option<StoredRecord>, StoreError> + Send + Sync>;

/// What a node reports when it has been shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Contacts that were known, and saved if the node has a data directory.
    pub contacts: usize,
    /// Records that the store holds.
    pub records: u64,
}

/// What a node has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStats {
    /// Of the state machine; [`Stats::isolated`] says whether the node has lost everyone.
    pub core: Stats,
    /// Of the transport.
    pub transport: TransportStats,
    /// Of the store.
    pub storage: StorageStats,
    /// Bytes of the frames in which this node compared what it holds with others and fetched what it lacked, and of
    /// their answers.
    pub repair_bytes: u64,
}

impl Node {
    /// A builder with the defaults: a memory store, any free port on all IPv4 interfaces, the network "nautilus".
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<A: kad_net::WireAddress> Node<A> {
    pub(crate) fn new(inner: Inner<A>) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.inner.local.id
    }

    /// Who it is and where it listens. For a wildcard address such as `0.0.0.0` only the port says something.
    #[must_use]
    pub fn local(&self) -> &Contact<A> {
        &self.inner.local
    }

    /// Whether it only asks at the moment: nobody routes through it, and it stores nothing for others.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        *self.inner.role.borrow() == Role::Client
    }

    /// Whether it serves or only asks, now and whenever that changes. It changes only if the node decides by itself
    /// ([`RoleChoice::Auto`](crate::RoleChoice)); the log says why.
    #[must_use]
    pub fn role(&self) -> Receiver<Role> {
        self.inner.role.clone()
    }

    /// Whether it stores records for others at the moment.
    #[must_use]
    pub fn stores(&self) -> bool {
        self.inner.stores && !self.is_read_only()
    }

    /// Another deny-list in the place of the one before: from now on its records are neither taken in nor handed out.
    /// What is held of them is then removed from the disk, which takes as long as reading the store. Says how many
    /// records that were. If this future is dropped, the list counts all the same and the removal goes on.
    ///
    /// # Errors
    /// [`NodeError::Store`] if the store could not be read or written: the list counts, and not all was removed.
    pub async fn deny(&self, list: DenyList) -> Result<u64, NodeError> {
        self.inner.policy.deny(list);
        match (self.inner.doors.purge)().await {
            Ok(removed) => removed.map_err(|error| NodeError::Store(error.to_string())),
            Err(_) => Err(NodeError::Stopped),
        }
    }

    /// The network it belongs to.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.inner.network
    }

    /// The key pair that is its identity, for [`put_mutable`](Self::put_mutable) under its own key.
    #[must_use]
    pub fn keypair(&self) -> &Keypair {
        &self.inner.keypair
    }

    /// What the network demands of records.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.inner.rules
    }

    /// How joining goes.
    #[must_use]
    pub fn join_state(&self) -> JoinState {
        self.inner.join.borrow().clone()
    }

    /// Waits until the node has joined.
    ///
    /// # Errors
    /// When an attempt has failed, with what was wrong with each bootstrap node, or when there is nobody to ask. The
    /// node itself goes on trying, so waiting again makes sense.
    pub async fn joined(&self) -> Result<(), JoinError> {
        let mut join = self.inner.join.clone();
        let decided = join
            .wait_for(|state| *state != JoinState::Joining)
            .await
            .map_err(|_| JoinError::Stopped)?;
        match &*decided {
            JoinState::Joined => Ok(()),
            JoinState::Alone => Err(JoinError::NobodyKnown),
            JoinState::Failed(error) => Err(error.clone()),
            JoinState::Joining => Err(JoinError::Stopped),
        }
    }

    /// Joins again through the contacts of the table and these peers: looks up the own id, then fills every bucket that
    /// has room. Returns the number of contacts.
    ///
    /// # Errors
    /// [`NodeError::Peer`] if a peer cannot be used, [`NodeError::Query`] if nobody answers.
    pub async fn bootstrap(&self, peers: &[Peer]) -> Result<usize, NodeError> {
        let found = futures::future::try_join_all(peers.iter().map(|peer| self.identify(peer))).await?;
        self.inner.asker.bootstrap(found).await
    }

    /// Finds out who is at a place.
    ///
    /// # Errors
    /// [`NodeError::Peer`] if nobody answers there, or somebody of another network, or not the one that was named.
    pub async fn identify(&self, peer: &Peer) -> Result<Contact<A>, NodeError> {
        (self.inner.doors.identify)(peer.clone())
            .await
            .map_err(NodeError::Peer)
    }

    /// The k nodes nearest to a point, nearest first, this one left out.
    ///
    /// # Errors
    /// [`NodeError::Query`] if nobody is known or nobody answered.
    pub async fn closest(&self, target: Key) -> Result<Closest<A>, NodeError> {
        match self.inner.asker.ask(Command::FindNode { target }).await? {
            (Outcome::Closest(contacts), effort) => Ok(Closest { contacts, effort }),
            _ => Err(NodeError::Stopped),
        }
    }

    /// Whether a node is there, its clock, and where it sees us.
    ///
    /// # Errors
    /// [`NodeError::Query`] if it does not answer.
    pub async fn ping(&self, contact: Contact<A>) -> Result<Pong<A>, NodeError> {
        match self.inner.asker.ask(Command::Ping { contact }).await?.0 {
            Outcome::Pong { unix, observed, took } => Ok(Pong { unix, observed, took }),
            _ => Err(NodeError::Stopped),
        }
    }

    /// One question to one node: which contacts does it know near a point? What it tells is hearsay, the dead included.
    ///
    /// # Errors
    /// [`NodeError::Query`]: with [`QueryError::Unanswered`](kad_core::QueryError) if it does not answer, with
    /// `Refused` if it is there and refuses, with `NotAsked` if it was not asked, because too many at its host are
    /// being dialled or were found dead.
    pub async fn ask(&self, contact: Contact<A>, target: Key) -> Result<Told<A>, NodeError> {
        Told::of(self.inner.asker.ask(Command::Ask { contact, target }).await?.0)
    }

    /// What happens from now on. A listener that falls more than 1024 events behind misses the oldest ones, and is told
    /// how many.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event<A>> {
        self.inner.events.subscribe()
    }

    /// The contacts of the routing table, each with its bucket (the length of the common prefix in bits).
    ///
    /// # Errors
    /// [`NodeError::Stopped`].
    pub async fn contacts(&self) -> Result<Vec<(u32, Contact<A>)>, NodeError> {
        self.look(|machine| {
            let local = machine.local_id().to_key();
            let bucket = |contact: &Contact<A>| contact.id.distance(local).leading_zeros();
            machine
                .table()
                .contacts()
                .map(|entry| (bucket(entry.contact), entry.contact.clone()))
                .collect()
        })
        .await
    }

    /// What it has counted.
    ///
    /// # Errors
    /// [`NodeError::Stopped`].
    pub async fn stats(&self) -> Result<NodeStats, NodeError> {
        let core = self.look(kad_core::Kademlia::stats).await?;
        Ok(NodeStats {
            core,
            transport: (self.inner.doors.stats)(),
            storage: self.inner.storage.stats(),
            repair_bytes: self.inner.repair_bytes.load(Ordering::Relaxed),
        })
    }

    /// Gives records of others that this node holds to the nodes that will be responsible for them when it is gone, as
    /// far as they lack them: what a node does that leaves for long, before its [`shutdown`](Self::shutdown). Says how
    /// many were given, or `None` if `within` was too short for all; those that were given stay given.
    ///
    /// Nothing is lost without it while one of the other holders lives. A few seconds are enough for thousands of
    /// records.
    ///
    /// # Errors
    /// [`NodeError::Stopped`], or [`NodeError::Query`] if too many queries are under way.
    pub async fn hand_over(&self, within: Duration) -> Result<Option<u64>, NodeError> {
        match tokio::time::timeout(within, self.inner.asker.ask(Command::HandOver)).await {
            Ok(outcome) => match outcome?.0 {
                Outcome::HandedOver { records } => Ok(Some(records)),
                _ => Err(NodeError::Stopped),
            },
            Err(_) => Ok(None),
        }
    }

    /// Stops in order: takes back its card if it has one, for which it waits a second at most, refuses new work,
    /// abandons queries, flushes the store, saves the contacts, closes the connections. Whoever calls it second waits
    /// for nothing and is told [`NodeError::Stopped`].
    ///
    /// # Errors
    /// [`NodeError::Stopped`].
    pub async fn shutdown(&self) -> Result<ShutdownReport, NodeError> {
        if let Some(farewell) = &self.inner.farewell {
            farewell.say().await;
        }
        // Then the order: a shutdown that is given up before it was sent can be tried again. That it cannot be sent is
        // no error: the driver may have stopped by itself.
        let _ = self.inner.asker.order(Order::Shutdown).await;
        let running = self
            .inner
            .running
            .lock()
            .ok()
            .and_then(|mut running| running.take());
        let stop = running.ok_or(NodeError::Stopped)?;
        Ok(stop().await)
    }

    /// Makes the node fall silent at once, as if its machine had been unplugged: from now on nothing leaves its sockets
    /// and nothing comes in. False if its transport cannot do that. For tests of what the others do.
    #[must_use]
    pub fn silence(&self) -> bool {
        let silence = self.inner.doors.silence.as_ref();
        silence.inspect(|silence| silence()).is_some()
    }

    /// For tasks that a test starts beside the node's own.
    #[cfg(test)]
    pub(crate) fn for_tasks(&self) -> (WeakAsker<A>, Receiver<JoinState>) {
        (self.inner.asker.downgrade(), self.inner.join.clone())
    }

    fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&kad_core::Kademlia<A>) -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, NodeError>> + Send {
        let asker = self.inner.asker.clone();
        async move {
            let (answer, seen) = oneshot::channel();
            let look = move |machine: &kad_core::Kademlia<A>| {
                // Whoever asked may have gone away.
                let _ = answer.send(look(machine));
            };
            asker.order(Order::Look(Box::new(look))).await?;
            seen.await.map_err(|_| NodeError::Stopped)
        }
    }
}

impl<A: kad_net::WireAddress> fmt::Debug for Node<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id())
            .field("address", &self.inner.local.address)
            .finish_non_exhaustive()
    }
}

/// The default life of records, 24 hours (Kademlia paper, section 2.5).
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 3600);
