//! The task that owns the machines.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard, PoisonError};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kad_core::{Duration, Instant, Keypair, NodeId};
use tokio::sync::mpsc;

use super::asking::NotHeard;
use super::observers::Observers;
use super::places::Place;
use super::relays::Relays;
use super::sessions::Closing;
use super::{Inbox, Knock, Reach, ReachConfig, Told};
use crate::nat::coordinator::Coordinator;
use crate::nat::dial_back::{self, DialBack};
use crate::nat::observation::{self, Family, Observations};
use crate::nat::reachability::{self, Reachability, Role, RoleChoice};
use crate::nat::relay::{Relay, SessionId};
use crate::nat::reservations::{self, Reservations};
use crate::quic::mux::{Called, Probed};
use crate::quic::pool::{InUse, Link};
use crate::quic::shared::Shared;
use crate::quic::tasks::Alive;
use crate::wire::Scope;
use crate::wire::reach::{ReachAnswer, ReachRequest};

/// Requests of this node under way. It asks a few at a time for itself; ends of sessions, of which a relay tells both,
/// are the most. Full: of an end nobody is told, and other requests count as not answered.
const MAX_ASKING: usize = 512;

/// Between two looks at who is connected, while there is something to look for.
const TICK: Duration = Duration::from_secs(1);

/// From one time that relays are told of this node because of silent paths to the next: peers that fall silent by
/// turns, on purpose perhaps, cost each relay a word in so long.
const DOUBTS_APART: Duration = Duration::from_secs(2);

/// A request of this node that is under way.
type Asking = Pin<Box<dyn Future<Output = Heard> + Send>>;

/// What came of one.
pub(super) enum Heard {
    /// HELLO.
    Hello {
        link: Arc<Link>,
        answer: Result<ReachAnswer, NotHeard>,
    },
    /// CHECK: whether the helper has asked a target.
    Checked { nonce: [u8; 16], passed_on: bool },
    /// RESERVE, and the connection that it went over.
    Reserved {
        relay: NodeId,
        answer: Result<(InUse, Duration), NotHeard>,
    },
    /// KEEP.
    Kept {
        relay: NodeId,
        answer: Result<SocketAddr, NotHeard>,
    },
    /// A peer was given time to prove where it is, before this request of it is looked at.
    Waited { knock: Knock, request: ReachRequest },
    /// The same, of one whose packets are forwarded.
    LegWaited { peer: NodeId },
    /// DIAL-BACK: the target does not probe.
    NotProbed { target: NodeId },
    /// INCOMING: the end that was told of a session does not want it.
    Declined { session: SessionId, by: NodeId },
    /// Nobody waits for it.
    Nothing,
}

/// See the module.
pub(in super::super) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) alive: Alive,
    pub(super) config: ReachConfig,
    /// Where the sockets are bound, one of each family.
    pub(super) bound: Vec<SocketAddr>,
    pub(super) observations: Observations,
    pub(super) reachability: Reachability,
    pub(super) dial_back: DialBack,
    pub(super) reservations: Reservations,
    pub(super) coordinator: Coordinator,
    pub(super) observers: Observers,
    pub(super) relays: Relays,
    /// The relays at which this node has a place.
    pub(super) places: BTreeMap<NodeId, Place>,
    /// The connections of peers that have a place or a session here, so that nobody closes them as unused.
    pub(super) legs: BTreeMap<NodeId, InUse>,
    /// Those of them that have yet to prove that they are where they were seen last.
    pub(super) unproven: BTreeSet<NodeId>,
    /// Requests of peers that have yet to prove where they are.
    pub(super) waiting: usize,
    asking: FuturesUnordered<Asking>,
    pub(super) told: Told,
    inbox: Inbox,
    closed: mpsc::Receiver<Closing>,
    probes: mpsc::Receiver<Probed>,
    calls: mpsc::Receiver<Called>,
    next_tick: Instant,
    /// When the relays of running sessions are told that this node is still here.
    pub(super) keep_sessions_at: Instant,
    /// When relays were last told because of a path that had fallen silent, or will be.
    doubted_at: Instant,
    pub(super) complained: bool,
}

/// What there is to start a driver with.
pub(in super::super) struct Start {
    pub(in super::super) shared: Arc<Shared>,
    pub(in super::super) alive: Alive,
    pub(in super::super) config: ReachConfig,
    pub(in super::super) bound: Vec<SocketAddr>,
    pub(in super::super) inbox: Inbox,
    pub(in super::super) seed: [u8; 32],
}

/// A secret of this run: drawn anew each time, so that nothing that an earlier run has shown can be used again.
pub(in super::super) fn seed(keypair: &Keypair) -> [u8; 32] {
    // The keys of the standard library's hashers come from the operating system.
    let mut hasher = blake3::Hasher::new_derive_key("nautilus-kad 2026-11 reach seed");
    hasher.update(&keypair.secret());
    for part in 0..4_u64 {
        hasher.update(&RandomState::new().hash_one(part).to_be_bytes());
    }
    *hasher.finalize().as_bytes()
}

impl Driver {
    /// `None` if there is one already.
    pub(in super::super) fn new(start: Start) -> Option<Self> {
        let Start {
            shared,
            alive,
            config,
            bound,
            inbox,
            seed,
        } = start;
        let scope = config.scope;
        let reachability = Reachability::new(config.reachability.clone(), scope, config.alone, &seed);
        if let Some(relay) = &config.relay {
            let mut relay = relay.clone();
            // Each place keeps a connection; half of them are left for everything else.
            relay.reservations = relay.reservations.min(shared.limits.connections / 2);
            shared
                .mux
                .serve_relay(Relay::new(relay, scope, &seed, shared.mux.now()));
        }
        Some(Self {
            closed: shared.reach.sessions.closed()?,
            probes: shared.mux.probes()?,
            calls: shared.mux.calls()?,
            observations: Observations::new(scope),
            reachability,
            dial_back: DialBack::new(scope, &seed),
            reservations: Reservations::new(scope, &seed),
            coordinator: Coordinator::new(),
            observers: Observers::default(),
            relays: Relays::default(),
            places: BTreeMap::new(),
            legs: BTreeMap::new(),
            unproven: BTreeSet::new(),
            waiting: 0,
            asking: FuturesUnordered::new(),
            told: Told::default(),
            next_tick: Instant::ZERO,
            keep_sessions_at: Instant::ZERO,
            doubted_at: Instant::ZERO,
            complained: false,
            shared,
            alive,
            config,
            bound,
            inbox,
        })
    }

    /// Runs until the transport is closed.
    pub(in super::super) async fn run(mut self) {
        let shared = self.shared.clone();
        let mut doubts = shared.peerings.doubts();
        self.on_role();
        self.tell_addresses();
        loop {
            self.publish();
            let due = self.due().map(|due| shared.mux.at(due));
            tokio::select! {
                Some(heard) = self.asking.next(), if !self.asking.is_empty() => self.on_heard(heard),
                () = until(due) => self.on_time(),
                () = shared.reach.news.notified() => self.on_news(),
                Ok(()) = doubts.changed() => self.on_doubt(),
                Some(closing) = self.closed.recv() => self.on_closing(closing),
                Some(probe) = self.probes.recv() => {
                    let Probed { from, nonce, stranger } = probe;
                    tracing::debug!(%from, stranger, "a probe has come");
                    self.reach(reachability::Event::Probed { from, nonce, stranger });
                }
                Some(Called { from, stranger }) = self.calls.recv() => {
                    tracing::debug!(%from, stranger, "a peer has called");
                    self.reach(reachability::Event::Called { from, stranger });
                }
                knock = self.inbox.knocks.recv() => match knock {
                    Some(knock) => self.on_knock(knock),
                    None => return,
                },
            }
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.shared.mux.now()
    }

    pub(super) fn reach_of(&self) -> &Reach {
        &self.shared.reach
    }

    pub(super) fn role(&self) -> Role {
        self.reachability.role()
    }

    /// Whether this node asks others for anything. In a private network, where it takes itself for reachable, it does
    /// not.
    pub(super) fn asks(&self) -> bool {
        let presumed = self.config.scope == Scope::Any && self.config.reachability.presume;
        !self.config.quiet && (!presumed || self.role() == Role::Client)
    }

    /// Adds a request to those under way. Whether there was room.
    pub(super) fn start(&self, asking: impl Future<Output = Heard> + Send + 'static) -> bool {
        let room = self.asking.len() < MAX_ASKING;
        if room {
            self.asking.push(Box::pin(asking));
        }
        room
    }

    pub(super) fn relay(&self) -> Option<MutexGuard<'_, Relay>> {
        let relay = self.shared.mux.relay()?;
        Some(relay.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn due(&self) -> Option<Instant> {
        let relay = self.relay().and_then(|relay| relay.poll_timeout());
        let looks = self.asks() || !self.legs.is_empty() || !self.places.is_empty();
        let looks = looks || self.reach_of().sessions.any();
        [
            self.observations.poll_timeout(),
            self.reachability.poll_timeout(),
            self.dial_back.poll_timeout(),
            self.reservations.poll_timeout(),
            self.next_keep(),
            looks.then_some(self.next_tick),
            relay,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn on_time(&mut self) {
        let now = self.now();
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if is_due(self.observations.poll_timeout()) {
            self.observe(observation::Event::Timeout);
        }
        if is_due(self.reachability.poll_timeout()) {
            self.reach(reachability::Event::Timeout);
        }
        if is_due(self.dial_back.poll_timeout()) {
            let mut out = Vec::new();
            self.dial_back.handle(now, dial_back::Event::Timeout, &mut out);
            self.probe(&out);
        }
        if is_due(self.reservations.poll_timeout()) {
            self.reserve(reservations::Event::Timeout);
        }
        if is_due(self.relay().and_then(|relay| relay.poll_timeout())) {
            self.expire_sessions();
        }
        if is_due(self.next_keep()) {
            self.keep_places(now);
        }
        if self.next_tick <= now {
            self.next_tick = now + TICK;
            self.look_at_links();
            self.keep_sessions(now);
            if self.asks() {
                self.greet(now);
                self.stay_in_touch(now);
                self.look_up_claims(now);
                self.remind_nat(now);
            }
            self.complain(now);
        }
    }

    fn on_news(&mut self) {
        let told = self.reach_of().told();
        if told != self.told {
            // What a node is told first is no change.
            let changed = self.told.changes > 0 && told.changes > self.told.changes;
            let family = told.only_change(&self.told);
            self.told = told;
            if changed {
                self.forget_network(family);
            }
            self.tell_addresses();
        }
        self.look_at_links();
        self.look_where_it_dials();
        if self.is_eager() {
            self.greet(self.now());
        }
    }

    /// A node that knew nobody but neighbours, and has dialled into the internet.
    fn look_where_it_dials(&mut self) {
        if self.config.scope == Scope::Global {
            return;
        }
        let hosts = self.shared.pool.links().into_iter().filter(|link| link.dialled);
        let mut hosts = hosts.map(|link| link.connection.remote_address().ip().to_canonical());
        let Some(to) = hosts.find(|host| Scope::Global.admits_host(*host)) else {
            return;
        };
        tracing::info!(
            "this node has met nodes of the internet, and has to prove that others can reach it there"
        );
        self.config.scope = Scope::Global;
        self.observations = Observations::new(Scope::Global);
        self.shared.meetings.went_public();
        if let Some(mut relay) = self.relay() {
            relay.went_public();
        }
        self.help(dial_back::Event::WentPublic);
        self.reach(reachability::Event::Dialled { to });
        self.tell_addresses();
        self.next_tick = self.now();
    }

    /// Whether this node is about to find out whether it can be reached, and knows too few who could help: then those
    /// whom it dials are asked at once. Whoever joins waits for that.
    pub(super) fn is_eager(&self) -> bool {
        let open = self.config.reachability.role == RoleChoice::Auto && self.role() == Role::Client;
        open && self.asks() && !self.reachability.is_decided() && self.observers.are_few()
    }

    /// Interfaces came or went: of one family, or in any way.
    fn forget_network(&mut self, family: Option<Family>) {
        tracing::debug!(
            ?family,
            "the network has changed: addresses and role are to be proven anew"
        );
        match family {
            Some(family) => {
                self.observe(observation::Event::FamilyChanged(family));
                self.reach(reachability::Event::FamilyChanged(family));
            }
            None => {
                self.observe(observation::Event::NetworkChanged);
                self.reach(reachability::Event::NetworkChanged);
            }
        }
        self.reserve(reservations::Event::NetworkChanged);
        self.shared.network_changed();
        self.observers.ask_again();
        let now = self.now();
        for place in self.places.values_mut() {
            place.keep_at = now;
        }
    }

    /// A path of applications has fallen silent, perhaps because this node is seen somewhere else than before: then its
    /// relays forward to where it was, until it says a word to them.
    fn on_doubt(&mut self) {
        let now = self.now();
        if self.doubted_at > now {
            // They are about to be told.
            return;
        }
        let at = now.max(self.doubted_at + DOUBTS_APART);
        self.doubted_at = at;
        for place in self.places.values_mut() {
            place.keep_at = place.keep_at.min(at);
        }
        self.keep_sessions_at = self.keep_sessions_at.min(at);
        self.next_tick = self.next_tick.min(at);
    }

    /// Connections that have ended, and legs that are somewhere else than before.
    fn look_at_links(&mut self) {
        for (id, _) in self.observers.ended() {
            self.no_helper(id);
        }
        self.look_at_places();
        self.look_at_legs();
    }

    fn on_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Hello { link, answer } => self.on_hello(&link, answer),
            Heard::Checked { nonce, passed_on } => {
                self.reach(reachability::Event::Answered { nonce, passed_on });
            }
            Heard::Reserved { relay, answer } => self.on_reserved(relay, answer),
            Heard::Kept { relay, answer } => self.on_kept(relay, answer),
            Heard::Waited { knock, request } => self.on_waited(knock, request),
            Heard::LegWaited { peer } => self.on_leg_waited(peer),
            Heard::NotProbed { target } => self.on_idle_target(target),
            Heard::Declined { session, by } => self.close_session(session, by),
            Heard::Nothing => {}
        }
    }

    /// Feeds the observations.
    pub(super) fn observe(&mut self, event: observation::Event) {
        let (now, mut out) = (self.now(), Vec::new());
        self.observations.handle(now, event, &mut out);
        for action in out {
            match action {
                observation::Action::Changed(_) => self.tell_addresses(),
                observation::Action::Moved(place) => {
                    tracing::debug!(?place, "others see this node somewhere else than before");
                    self.shared.network_changed();
                    self.reach(reachability::Event::FamilyChanged(place.family));
                    self.reserve(reservations::Event::NetworkChanged);
                    self.tell_addresses();
                }
            }
        }
    }

    /// Feeds the reachability.
    pub(super) fn reach(&mut self, event: reachability::Event) {
        let (now, mut out) = (self.now(), Vec::new());
        self.reachability.handle(now, event, &mut out);
        for action in out {
            match action {
                reachability::Action::Check {
                    helper,
                    address,
                    nonce,
                } => self.check(helper, address, nonce),
                reachability::Action::Proven { address, reachable } => {
                    tracing::debug!(%address, reachable, "strangers were heard, or not, at this address");
                }
                reachability::Action::Role(role) => {
                    tracing::info!(?role, "what is proven decides about the role of this node");
                    self.on_role();
                }
            }
        }
    }

    fn on_role(&mut self) {
        let needed = self.role() == Role::Client && !self.config.quiet;
        self.reserve(reservations::Event::Needed(needed));
    }
}

/// Until then, or for ever.
async fn until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
