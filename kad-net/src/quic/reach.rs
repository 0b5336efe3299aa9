//! How a node finds out whether it can be reached, and has itself reached if not: the machines of [`nat`](crate::nat),
//! fed.
//!
//! ```text
//!   probes, calls ◄── mux        streams of kind 0x02 ◄── peers
//!        │                              │
//!        └────────────►  driver  ◄──────┘──► answers
//!                          │ │
//!      standing ◄──────────┘ └──► requests to peers, over connections of the pool
//! ```
//!
//! One task owns observations, reachability, dial-backs, reservations and meetings, carries what one of them says to
//! the next, and keeps their timers. The accounts of relaying it shares with the mux, which asks them about every
//! datagram.
//!
//! - **Observers** (`observers.rs`): a few servers that this node has dialled are asked where they see it. They become
//!   helpers, targets, and relays to choose from.
//! - **Relays** (`relays.rs`): where those are, and where servers are reached in the other family of IP.
//! - **Places** (`places.rs`): a node that cannot be dialled reserves at up to three relays, and tells them every 15
//!   seconds that it is still there.
//! - **Serving** (`serving.rs`, `relaying.rs`): what others ask. Nothing is dialled for them, and nothing sent but what
//!   the machines grant.
//! - **Whereabouts** (`whereabouts.rs`): what the node knows of itself, for the machines and for its card.
//! - **Sessions** (`sessions.rs`): opened at a relay by this node or to it. What becomes of them is the business of
//!   others.
//!
//! What it refuses to do: ask more than is needed for what is not known yet; believe one peer; keep a connection for
//! anybody who has no place here.

mod asking;
mod config;
mod driver;
mod observers;
mod places;
mod relaying;
mod relays;
mod serving;
mod sessions;
mod standing;
mod whereabouts;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};

pub use self::config::ReachConfig;
pub use self::standing::Standing;

pub(super) use self::driver::{Driver, Start, seed};
pub(super) use self::sessions::{Arrival, NotOpened, Opened, meet, open};

use self::sessions::Sessions;
use super::exchange::QuicReply;
use super::pool::{InUse, Link};
use crate::nat::observation::Family;
use crate::nat::reachability::Role;
use crate::wire::Scope;

/// Requests of one peer under way: a client has a few checks, a renewal and an opening at a time. One more is refused
/// as busy.
const MAX_KNOCKS_PER_PEER: usize = 8;

/// Requests that wait for the driver, which answers most of them at once. Full: refused as busy.
const MAX_KNOCKS: usize = 256;

/// Addresses of interfaces, or mappings, that a node is told of; the others are left out.
const MAX_TOLD: usize = 16;

/// How a node is reached.
pub struct Reach {
    standing: watch::Sender<Standing>,
    told: Mutex<Told>,
    /// Something was told, a connection has ended, or one was made that is waited for.
    news: Notify,
    /// Whether whom this node dials is asked at once, and not with the next look.
    eager: AtomicBool,
    /// Whether this node is in a private network, as far as it knows.
    private: AtomicBool,
    knocks: Mutex<Option<mpsc::Sender<Knock>>>,
    sessions: Sessions,
}

/// What those say who know the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    mapped: Vec<SocketAddr>,
    lan: Vec<IpAddr>,
    /// How often the network was said to have changed.
    changes: u64,
}

impl Told {
    /// The family whose addresses are others than before, if those of the other one are not. A machine that has slept
    /// has the same addresses, perhaps in another network.
    fn only_change(&self, before: &Self) -> Option<Family> {
        let same = |family| {
            let of = |lan: &[IpAddr]| -> Vec<IpAddr> {
                let fits = |ip: &&IpAddr| Family::of(**ip) == family;
                lan.iter().filter(fits).copied().collect()
            };
            of(&self.lan) == of(&before.lan)
        };
        match (same(Family::V4), same(Family::V6)) {
            (true, false) => Some(Family::V6),
            (false, true) => Some(Family::V4),
            _ => None,
        }
    }
}

/// What the driver takes out, once.
pub(super) struct Inbox {
    knocks: mpsc::Receiver<Knock>,
}

impl Reach {
    pub(super) fn new(role: Role) -> (Self, Inbox) {
        let (knocking, knocks) = mpsc::channel(MAX_KNOCKS);
        let reach = Self {
            standing: watch::Sender::new(Standing::new(role)),
            told: Mutex::default(),
            news: Notify::new(),
            eager: AtomicBool::new(false),
            // Until the driver says otherwise.
            private: AtomicBool::new(true),
            knocks: Mutex::new(Some(knocking)),
            sessions: Sessions::new(),
        };
        (reach, Inbox { knocks })
    }

    /// How this node is reached, now and whenever that changes. The receiver says so once the transport is closed.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Tells it of the addresses that routers forward to it, in place of those told before. They are believed once
    /// strangers have come in by them. Of more than 16 the first.
    pub fn set_mapped(&self, mut mapped: Vec<SocketAddr>) {
        mapped.truncate(MAX_TOLD);
        self.tell(|told| told.mapped = mapped);
    }

    /// Tells it that the interfaces of the machine have these addresses now, of more than 16 the first. With the second
    /// time, what was known of the network is void: votes, proofs and the role.
    pub fn network_changed(&self, mut lan: Vec<IpAddr>) {
        lan.truncate(MAX_TOLD);
        self.tell(|told| {
            told.lan = lan;
            told.changes += 1;
        });
    }

    /// A connection has ended.
    pub(super) fn link_ended(&self) {
        self.news.notify_one();
    }

    /// This node has dialled somebody on that host.
    pub(super) fn link_dialled(&self, host: IpAddr) {
        let leaves = self.private.load(Ordering::Relaxed) && Scope::Global.admits_host(host);
        if leaves || self.eager.load(Ordering::Relaxed) {
            self.news.notify_one();
        }
    }

    /// Queues a request of a peer; refused as busy if there are too many.
    pub(super) fn deliver(&self, knock: Knock) {
        let knocks = self.knocks.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = knocks.as_ref().map(|queue| queue.try_send(knock));
        drop(knocks);
        drop(refused);
    }

    /// Ends the driver.
    pub(super) fn end(&self) {
        self.knocks.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// What comes from relays, unasked. `None` but for the first who asks.
    pub(super) fn arrivals(&self) -> Option<mpsc::Receiver<Arrival>> {
        self.sessions.arrivals()
    }

    fn tell(&self, tell: impl FnOnce(&mut Told)) {
        tell(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_one();
    }

    fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reach")
            .field("standing", &*self.standing.borrow())
            .finish_non_exhaustive()
    }
}

/// A request of a peer.
pub(super) struct Knock {
    pub(super) frame: Bytes,
    pub(super) reply: QuicReply,
    _turn: Turn,
}

impl Knock {
    /// `None` if the peer has too many under way; then the reply tells it that we are busy.
    pub(super) fn new(frame: Bytes, reply: QuicReply) -> Option<Self> {
        let turn = Turn::new(reply.link())?;
        Some(Self {
            frame,
            reply,
            _turn: turn,
        })
    }

    fn link(&self) -> &InUse {
        self.reply.link()
    }
}

/// One request of a peer under way; counted until it is dropped.
struct Turn(Arc<Link>);

impl Turn {
    fn new(link: &InUse) -> Option<Self> {
        let link = link.link();
        let one_more = |count: usize| (count < MAX_KNOCKS_PER_PEER).then_some(count + 1);
        let granted = link
            .knocks
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        granted.is_ok().then(|| Self(link.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let knocks: &AtomicUsize = &self.0.knocks;
        knocks.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod changes {
    use super::*;

    #[test]
    fn a_change_is_of_one_family_if_the_addresses_of_the_other_are_as_they_were() {
        let told = |lan: &[&str]| Told {
            lan: lan.iter().map(|ip| ip.parse().unwrap()).collect(),
            ..Told::default()
        };
        let home = told(&["192.168.1.7", "2001:db8:1::7"]);
        let only = |lan: &[&str]| told(lan).only_change(&home);
        assert_eq!(only(&["192.168.1.7"]), Some(Family::V6));
        assert_eq!(only(&["192.168.1.7", "2001:db8:2::7"]), Some(Family::V6));
        assert_eq!(only(&["10.0.0.1", "2001:db8:1::7"]), Some(Family::V4));
        assert_eq!(only(&["10.0.0.1", "2001:db8:2::7"]), None);
        assert_eq!(only(&["192.168.1.7", "2001:db8:1::7"]), None, "it has slept");
    }
}

#[cfg(test)]
pub(super) mod tests;
