//! Whether strangers reach this node, and so whether it serves or only asks.
//!
//! A node cannot tell from inside: it has to be called. For each address that it may have it asks a *helper*, which
//! asks a *target* somewhere else, which sends a probe. Only a probe from a host that this node never sent anything to
//! says something: NATs let others in after that, some from any port of the host (RFC 4787, section 5), and a node that
//! believed those would be a contact that nobody reaches. Which hosts those are knows the socket; here each probe and
//! each call comes with the answer.
//!
//! - **Up** takes three probes from different sites, through helpers at two sites or more, and then to hold for
//!   [`ReachabilityConfig::hold`]. A stranger that connects of its own accord is as good as a probe. Where all servers
//!   lie at one or two sites, hosts count (`places.rs`).
//! - **Nothing** says a probe from a host that was contacted: another helper is asked soon, and no try is counted. Nor
//!   does a helper that refuses: it rests, and while nothing is proven another one is asked at once.
//! - **Down** takes three silences in a row, through helpers at two sites or more: a single helper that claims to have
//!   asked on can neither make a node serve nor keep it from it.
//! - **At once down** when the network changes.
//! - **Presumed** to be reached are the first node of a network, and one in a private network. That ends when the
//!   latter dials into the internet: behind a NAT it would be a contact there that nobody reaches. If strangers of the
//!   internet had called it before, it is one that serves until the contrary is proven.

mod address;
mod config;
mod events;
mod places;

use std::net::{IpAddr, SocketAddr};

use kad_core::{Duration, Instant, NodeId};

use self::address::{Change, Proving};
pub use self::config::{ReachabilityConfig, Role, RoleChoice};
pub use self::events::{Action, Event, Prospect};
use self::places::Places;
use super::draws::Draws;
use super::prefix::Family;
use super::ration::Ration;
use crate::wire::Scope;

/// Addresses that are checked: three observed ones of each family. Further ones are not looked at.
const MAX_CHECKED: usize = 6;

/// Peers that may be asked to help; more do not make a proof better. A further one is not kept.
const MAX_HELPERS: usize = 16;

/// Checks that one helper is asked for in a minute: two less than helpers grant, so that none has to refuse.
const ASKED_OF_EACH: usize = 10;

/// Checks in a minute, of all helpers.
const ASKED_OF_ALL: usize = 60;

/// What [`ASKED_OF_EACH`] is counted over.
const MINUTE: Duration = Duration::from_secs(60);

/// A helper that refused, or was silent, is left alone for so long.
const REST: Duration = Duration::from_secs(60);

/// When there is nobody to ask, this is how long to wait for somebody.
const WAIT_FOR_HELPERS: Duration = Duration::from_secs(10);

/// A helper asks another node before it answers, so this is some round trips and a dial.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The last probe is sent 900 ms after the first; the rest is for two slow paths.
const PROBE_WITHIN: Duration = Duration::from_secs(4);

#[derive(Debug)]
struct Helper {
    id: NodeId,
    ip: IpAddr,
    rests_until: Instant,
}

/// Whether this node can be reached.
#[derive(Debug)]
pub struct Reachability {
    config: ReachabilityConfig,
    scope: Scope,
    draws: Draws,
    helpers: Vec<Helper>,
    addresses: Vec<Proving>,
    asked: Ration<NodeId>,
    role: Role,
    /// Nobody has asked for a proof yet: of the first node of a network, and of one that is not in the internet.
    presumed: bool,
    /// Whether a stranger in the internet has called.
    hailed: bool,
    void: u64,
}

impl Reachability {
    /// Nothing is proven. The seed must be secret. A node serves at once if the operator says so, if it is `alone`, as
    /// somebody has to be the first, and where addresses are [not global](Scope::Any), unless
    /// [`presume`](ReachabilityConfig::presume) says otherwise.
    #[must_use]
    pub fn new(config: ReachabilityConfig, scope: Scope, alone: bool, seed: &[u8; 32]) -> Self {
        let presumed = alone || scope == Scope::Any && config.presume;
        let role = match config.role {
            RoleChoice::Client => Role::Client,
            RoleChoice::Server => Role::Server,
            RoleChoice::Auto if presumed => Role::Server,
            RoleChoice::Auto => Role::Client,
        };
        Self {
            config,
            scope,
            draws: Draws::new(seed, "nautilus-kad 2026-11 reachability"),
            helpers: Vec::new(),
            addresses: Vec::new(),
            asked: Ration::new(MINUTE, ASKED_OF_ALL),
            role,
            presumed,
            hailed: false,
            void: 0,
        }
    }

    /// Takes one event and appends what follows to `out`: at most two actions for each address, and one for the role.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Addresses(addresses) => self.on_addresses(now, &addresses),
            Event::HelperKnown { helper, ip } => self.on_helper(now, helper, ip),
            Event::HelperGone { helper } => self.helpers.retain(|known| known.id != helper),
            Event::Answered { nonce, passed_on } => self.on_answer(now, nonce, passed_on),
            Event::Probed {
                from,
                nonce,
                stranger,
            } => self.on_probe(now, from, nonce, stranger, out),
            Event::Called { from, stranger } => self.on_call(now, from, stranger, out),
            Event::Dialled { to } => self.on_dialled(to, out),
            Event::FamilyChanged(family) => {
                self.forget(|address| Family::of(address.ip()) == family, out);
            }
            Event::NetworkChanged => {
                self.forget(|_| true, out);
                // Somebody who was alone is so in the new network as well, or has peers who will tell.
                self.presumed &= self.needs_no_proof();
            }
            Event::Timeout => self.on_timeout(now, out),
        }
        self.decide(now, out);
    }

    /// When [`Event::Timeout`] is due. After a timeout at t it is later than t.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let hold = self.config.hold;
        let waits = self.role == Role::Client && self.config.role == RoleChoice::Auto;
        let held = |proving: &Proving| {
            proving
                .reachable_since()
                .filter(|_| waits)
                .map(|since| since + hold)
        };
        let due = |proving: &Proving| held(proving).into_iter().chain([proving.due()]).min();
        self.addresses.iter().filter_map(due).min()
    }

    /// What the node is to others.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Where addresses mean something to this node, now: [`Scope::Global`] once it has dialled into the internet.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// The addresses at which strangers reach this node.
    pub fn reachable(&self) -> impl Iterator<Item = SocketAddr> {
        let proven = self.addresses.iter().filter(|proving| proving.is_reachable());
        proven.map(|proving| proving.address)
    }

    /// Probes and calls that proved nothing: they came from hosts that this node had sent something to.
    #[must_use]
    pub const fn void(&self) -> u64 {
        self.void
    }

    /// Whether anything was found out, one way or the other.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        let decided = |proving: &Proving| proving.is_reachable() || proving.is_unreachable();
        self.addresses.iter().any(decided)
    }

    /// What there is to wait for, where nothing is proven yet: the best of all addresses.
    #[must_use]
    pub fn prospect(&self, now: Instant) -> Prospect {
        let prospects = self.addresses.iter().map(|proving| proving.prospect(now));
        prospects.max().unwrap_or_default()
    }

    fn forget(&mut self, is_void: impl Fn(SocketAddr) -> bool, out: &mut Vec<Action>) {
        let gone = self.addresses.extract_if(.., |proving| is_void(proving.address));
        out.extend(gone.filter(Proving::is_reachable).map(|proving| Action::Proven {
            address: proving.address,
            reachable: false,
        }));
    }

    fn needs_no_proof(&self) -> bool {
        self.scope == Scope::Any && self.config.presume
    }

    fn on_addresses(&mut self, now: Instant, addresses: &[SocketAddr]) {
        self.addresses
            .retain(|proving| proving.is_reachable() || addresses.contains(&proving.address));
        for &address in addresses {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            let known = self.addresses.iter().any(|proving| proving.address == address);
            if !known && self.addresses.len() < MAX_CHECKED && self.scope.admits(address) {
                self.addresses.push(Proving::new(address, now));
            }
        }
    }

    fn on_helper(&mut self, now: Instant, helper: NodeId, ip: IpAddr) {
        let ip = ip.to_canonical();
        if let Some(known) = self.helpers.iter_mut().find(|known| known.id == helper) {
            known.ip = ip;
        } else if self.helpers.len() < MAX_HELPERS {
            self.helpers.push(Helper {
                id: helper,
                ip,
                rests_until: Instant::ZERO,
            });
            let family = Family::of(ip);
            let addresses = self.addresses.iter_mut();
            for proving in addresses.filter(|proving| Family::of(proving.address.ip()) == family) {
                proving.wait_no_longer(now);
            }
        }
    }

    fn on_answer(&mut self, now: Instant, nonce: [u8; 16], passed_on: bool) {
        let Some(proving) = self.addresses.iter_mut().find(|proving| proving.awaits(nonce)) else {
            return;
        };
        if passed_on {
            proving.await_probe(now + PROBE_WITHIN);
        } else if let Some(helper) = proving.give_up(now, &mut self.draws) {
            self.rest(now, helper);
        }
    }

    fn on_probe(
        &mut self,
        now: Instant,
        from: SocketAddr,
        nonce: [u8; 16],
        stranger: bool,
        out: &mut Vec<Action>,
    ) {
        let places = self.places(Family::of(from.ip()));
        let Some(proving) = self.addresses.iter_mut().find(|proving| proving.awaits(nonce)) else {
            return;
        };
        let helper = proving.helper_at().map(|helper| places.of(helper));
        // A target beside the helper proves no more than the helper itself.
        if !stranger || helper == Some(places.of(from.ip())) {
            self.void += 1;
            proving.void(now, &mut self.draws);
            return;
        }
        let change = proving.proven(now, from.ip(), places, &mut self.draws);
        tell(proving.address, change, out);
    }

    /// A stranger has found the way in. If there are several addresses, nobody knows by which.
    fn on_call(&mut self, now: Instant, from: SocketAddr, stranger: bool, out: &mut Vec<Action>) {
        let family = Family::of(from.ip());
        self.hailed |= stranger && Scope::Global.admits_host(from.ip());
        if !stranger || !self.scope.admits_host(from.ip()) {
            self.void += 1;
            return;
        }
        let places = self.places(family);
        let mut of_family = self
            .addresses
            .iter_mut()
            .filter(|proving| Family::of(proving.address.ip()) == family);
        if let (Some(proving), None) = (of_family.next(), of_family.next()) {
            let change = proving.called(now, from.ip(), places, &mut self.draws);
            tell(proving.address, change, out);
        }
    }

    /// What was found out about addresses of the own network says nothing about the internet.
    fn on_dialled(&mut self, to: IpAddr, out: &mut Vec<Action>) {
        if self.scope == Scope::Global || !Scope::Global.admits_host(to) {
            return;
        }
        self.scope = Scope::Global;
        let private = |proving: &mut Proving| !Scope::Global.admits(proving.address);
        let gone = self
            .addresses
            .extract_if(.., private)
            .filter(Proving::is_reachable);
        out.extend(gone.map(|proving| Action::Proven {
            address: proving.address,
            reachable: false,
        }));
        self.helpers.retain(|helper| Scope::Global.admits_host(helper.ip));
        self.presumed &= self.hailed;
    }

    fn on_timeout(&mut self, now: Instant, out: &mut Vec<Action>) {
        for place in 0..self.addresses.len() {
            if self.addresses[place].due() > now {
                continue;
            }
            if self.addresses[place].is_checking() {
                let places = self.places(Family::of(self.addresses[place].address.ip()));
                let (change, silent) = self.addresses[place].silence(now, places, &mut self.draws);
                tell(self.addresses[place].address, change, out);
                if let Some(helper) = silent {
                    self.rest(now, helper);
                }
                continue;
            }
            let Some(helper) = self.choose_helper(now, place) else {
                self.addresses[place].wait(now + WAIT_FOR_HELPERS);
                continue;
            };
            let (id, ip) = (self.helpers[helper].id, self.helpers[helper].ip);
            self.asked.take(now, id);
            let nonce = self.draws.nonce();
            self.addresses[place].check(nonce, id, ip, now + ANSWER_WITHIN);
            out.push(Action::Check {
                helper: id,
                address: self.addresses[place].address,
                nonce,
            });
        }
    }

    /// What counts as one place for addresses of a family.
    fn places(&self, family: Family) -> Places {
        let servers = self.helpers.iter().map(|helper| helper.ip);
        Places::among(servers, family, self.scope)
    }

    /// One of those that said least about this address so far; another one than the last, if its target said nothing.
    fn choose_helper(&mut self, now: Instant, place: usize) -> Option<usize> {
        let proving = &self.addresses[place];
        let family = Family::of(proving.address.ip());
        let places = self.places(family);
        let asked = |helper: &Helper| proving.heard_of(helper.ip, places);
        let mut free: Vec<_> = (0..self.helpers.len())
            .filter(|&place| {
                let helper = &self.helpers[place];
                Family::of(helper.ip) == family
                    && helper.rests_until <= now
                    && self.asked.has(now, &helper.id, ASKED_OF_EACH)
            })
            .collect();
        if let Some(avoid) = proving.avoids()
            && free.iter().any(|&place| self.helpers[place].id != avoid)
        {
            free.retain(|&place| self.helpers[place].id != avoid);
        }
        let least = free.iter().map(|&place| asked(&self.helpers[place])).min()?;
        let best: Vec<_> = free
            .into_iter()
            .filter(|&place| asked(&self.helpers[place]) == least)
            .collect();
        Some(best[self.draws.pick(best.len())?])
    }

    fn rest(&mut self, now: Instant, helper: NodeId) {
        if let Some(known) = self.helpers.iter_mut().find(|known| known.id == helper) {
            known.rests_until = now + REST;
        }
    }

    fn decide(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.config.role != RoleChoice::Auto || self.needs_no_proof() {
            return;
        }
        let since = self.addresses.iter().filter_map(Proving::reachable_since).min();
        // Whoever was presumed to be reachable is so until the contrary is proven.
        self.presumed &= since.is_none() && !self.addresses.iter().any(Proving::is_unreachable);
        let role = match since {
            _ if self.presumed => Role::Server,
            Some(since) if now.since(since) >= self.config.hold => Role::Server,
            // What serves goes on while there is still a way in.
            Some(_) => self.role,
            None => Role::Client,
        };
        if role != self.role {
            self.role = role;
            out.push(Action::Role(role));
        }
    }
}

fn tell(address: SocketAddr, change: Option<Change>, out: &mut Vec<Action>) {
    out.extend(change.map(|change| Action::Proven {
        address,
        reachable: change == Change::Up,
    }));
}

#[cfg(test)]
mod tests;
