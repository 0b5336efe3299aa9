//! How two nodes of which one has the other's card come to have a path, and to have a better one.
//!
//! ```text
//!   connect ─► finder ─┬─ direct: the addresses of the card, raced ─────────────► path
//!                      └─ through: a session at a relay of the card ─► handshake ─► path (relayed)
//!                                                                         │
//!                             candidates of both, end to end ◄────────────┘
//!                                        │
//!                                     punching, both at once ─► path (punched)
//! ```
//!
//! - **At once, beside each other** (`finder.rs`): what can be dialled is dialled, and the relayed path is opened
//!   meanwhile. The first path is used; better ones take its place while it is in use. When the last one is lost,
//!   whoever dialled looks again.
//! - **Sessions** (`session.rs`): of both ends, those that this node opened and those that arrived.
//! - **Telling** (`telling.rs`): where both ends are, end to end.
//! - **Punching** (`punching.rs`): carries out what [`Punch`](crate::nat::punch::Punch) wants; `birthday.rs` what is
//!   tried after that, where operators want it.
//!
//! What it refuses to do: dial or punch for somebody else. A card and the word of a relay name addresses, so dials to
//! each host are rationed, relays that a card names included, and so are attempts to punch. Addresses of the own
//! network are dialled where the peer was heard over mDNS, or others have met it behind the same NAT ([`Witnessed`]),
//! and punched where a relay sees both at one host; a card alone has nobody there dialled. Only the host is punched at
//! which the relay sees the peer.

mod birthday;
mod direct;
mod finder;
mod punching;
mod rations;
mod relays;
mod session;
mod telling;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kad_core::{Instant, NodeId};
use tokio::sync::{Semaphore, watch};

use super::QuicTransport;
use super::address::QuicAddress;
use super::connection::{ConnectError, Connection, Protocol};
use super::reach::{Arrival, ReachConfig};
use super::shared::Shared;
use crate::wire::Scope;
use crate::wire::card::Card;

use self::birthday::Birthdays;
use self::finder::Finder;
use self::rations::{Rations, Silences};
use self::session::Sessions;

/// Requests of peers over connections of applications that are read and answered at a time. Full: refused as busy.
const MAX_ASKED: usize = 64;

/// What others than a peer itself say of where it is. A card is the word of its owner alone, which could name any
/// address in the network of whoever reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Witnessed {
    /// Addresses in the own network at which the peer was heard, over mDNS say. They are dialled whatever its card
    /// says. Those that are not private are left out, and all but the first four.
    pub heard: Vec<SocketAddr>,
    /// Hosts at which other nodes have met the peer. If this node is seen at one of them, both are behind one NAT, and
    /// addresses of the own network that the card names are dialled too.
    pub hosts: Vec<IpAddr>,
}

/// What all meetings of a transport share.
pub(super) struct Meetings {
    /// Whether this node is in the internet, as far as it knows.
    public: AtomicBool,
    /// One for each peer that somebody here wants to be connected to: as many as there are peers of applications.
    finders: Mutex<HashMap<NodeId, Arc<Finder>>>,
    sessions: Arc<Sessions>,
    dials: Mutex<Rations>,
    attempts: Mutex<Rations>,
    silences: Mutex<Silences>,
    birthdays: Birthdays,
    asked: Arc<Semaphore>,
    /// How often the network has changed.
    changes: watch::Sender<u64>,
    /// What a test says of the NAT, in place of what observers say.
    #[cfg(test)]
    class: Mutex<Option<crate::nat::observation::NatClass>>,
}

impl Meetings {
    pub(super) fn new(config: &ReachConfig) -> Self {
        Self {
            public: AtomicBool::new(config.scope == Scope::Global),
            finders: Mutex::default(),
            sessions: Arc::default(),
            dials: Mutex::new(Rations::of_dials()),
            attempts: Mutex::new(Rations::of_attempts()),
            silences: Mutex::default(),
            birthdays: Birthdays::new(config.birthday_punching),
            asked: Arc::new(Semaphore::new(MAX_ASKED)),
            changes: watch::Sender::new(0),
            #[cfg(test)]
            class: Mutex::default(),
        }
    }

    /// Where addresses mean something.
    pub(super) fn scope(&self) -> Scope {
        match self.public.load(Ordering::Relaxed) {
            true => Scope::Global,
            false => Scope::Any,
        }
    }

    /// This node was in a private network, and is in the internet now: there others are to be protected.
    pub(super) fn went_public(&self) {
        self.public.store(true, Ordering::Relaxed);
    }

    /// Whether a host that somebody names may be dialled now; then it counts.
    pub(super) fn may_dial(&self, now: Instant, to: IpAddr) -> bool {
        self.dials().take(now, to, self.scope())
    }

    /// The network has changed: paths are looked for anew.
    pub(super) fn network_changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn finders(&self) -> MutexGuard<'_, HashMap<NodeId, Arc<Finder>>> {
        self.finders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dials(&self) -> MutexGuard<'_, Rations> {
        self.dials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempts(&self) -> MutexGuard<'_, Rations> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn silences(&self) -> MutexGuard<'_, Silences> {
        self.silences.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what comes from relays unasked, as long as the transport lives, and lets requests of peers be answered.
pub(super) fn begin(shared: &Arc<Shared>, config: &ReachConfig) {
    let weak = Arc::downgrade(shared);
    let on_reach = move |asked| {
        if let Some(shared) = weak.upgrade() {
            telling::asked(&shared, asked);
        }
    };
    // There is one handler, and this is it.
    let _ = shared.peerings.on_reach.set(Box::new(on_reach));
    if config.is_unattended() {
        return;
    }
    let Some(mut arrivals) = shared.reach.arrivals() else {
        return;
    };
    let weak = Arc::downgrade(shared);
    tokio::spawn(async move {
        while let Some(arrival) = arrivals.recv().await {
            let Some(shared) = weak.upgrade() else { break };
            match arrival {
                Arrival::Session(opened) => session::arrived(&shared, opened),
                Arrival::Go { relay, session, wait } => shared.meetings.sessions.go(relay, session, wait),
            }
        }
    });
}

impl QuicTransport {
    /// Connects to a peer by its id: over the path that there is, or by its card (see the record under its id).
    /// Addresses at which strangers reach it are dialled, and a path through one of its relays is opened beside that;
    /// the first one is used, and better ones take its place while it is in use, which [`Connection::path`] tells.
    ///
    /// # Errors
    /// [`ConnectError`]: [`Unreachable`](ConnectError::Unreachable) with what was tried, if no path is found within
    /// some fifteen seconds, or what the peer answered.
    ///
    /// # Cancel safety
    /// Dropping the future gives up; a path that was opened stays for half a minute.
    pub async fn connect(
        &self,
        to: NodeId,
        card: &Card<QuicAddress>,
        protocol: Protocol,
    ) -> Result<Connection, ConnectError> {
        self.connect_witnessed(to, card, &Witnessed::default(), protocol)
            .await
    }

    /// The same with what others say of where the peer is, which is needed to find it in the own network by its card.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    pub async fn connect_witnessed(
        &self,
        to: NodeId,
        card: &Card<QuicAddress>,
        witnessed: &Witnessed,
        protocol: Protocol,
    ) -> Result<Connection, ConnectError> {
        let hold = self.shared.peerings.with(to)?;
        let mut seeking = finder::seek(&self.shared, to, card, witnessed)?;
        tokio::select! {
            biased;
            connected = hold.peering().connect(protocol) => connected,
            reason = seeking.in_vain() => Err(ConnectError::Unreachable { reason }),
        }
    }
}

#[cfg(test)]
mod tests;
