//! Where a node is, whether it is reached, and at which relays: who talks to whom tells its machines, and what they
//! want is carried out.
//!
//! As in the transport, those whom a node has dialled are asked where they see it (HELLO), three in a second while it
//! needs more of them. One that serves is a helper, a target and a relay from then on.

use std::net::SocketAddr;

use kad_core::{Duration, NodeId};
use kad_net::nat::dial_back::{self, CHECK_BYTES, DIAL_BACK_BYTES};
use kad_net::nat::model::PORT;
use kad_net::nat::observation::Family;
use kad_net::nat::{observation, reachability, relay, reservations};

use super::words::Word;
use super::{SOCKET, World};
use crate::nat::{Role, host};
use crate::world::Arrival;

/// Votes, and servers that help, that are enough; and the most of these, as the transport has it.
const ENOUGH: usize = 8;
const MAX_OBSERVERS: usize = 64;

/// Between two looks at whether more are needed, and how many are asked then.
pub(super) const TICK: Duration = Duration::from_secs(1);
const ASKED_AT_ONCE: usize = 3;

/// Where none are needed it is looked for less often here; the transport looks once a second all the same.
const SELDOM: Duration = Duration::from_secs(60);

/// How long a vote is fresh.
const FRESH: Duration = Duration::from_secs(600);

/// A target that has not answered its helper by then does not.
const DIAL_BACK_WITHIN: Duration = Duration::from_secs(5);

/// Who asked for help, from which port, with which nonce.
type Asked = (u32, u16, [u8; 16]);

impl World {
    /// A node has a connection that it has opened itself.
    pub(super) fn note_dialled(&mut self, by: u32, to: u32) {
        self.homes[by as usize].dialled.insert(to);
    }

    /// Asks a few that were not asked lately where they see this node, if more are needed.
    pub(in crate::world) fn on_tick(&mut self, number: u32, life: u32) {
        if self.nodes[number as usize].epoch != life {
            return;
        }
        self.forget_closed(number);
        let now = self.now;
        let home = &self.homes[number as usize];
        let needs = home.reservations.is_short()
            || home.observations.votes_within(now, Family::V4, FRESH) < ENOUGH
            || home.observers.len() < ENOUGH;
        let room = needs && home.asked.len() < MAX_OBSERVERS;
        let lately = |peer: &u32| home.asked.get(peer).is_some_and(|at| now.since(*at) < FRESH);
        let mut others: Vec<_> = home
            .dialled
            .iter()
            .copied()
            .filter(|peer| room && !lately(peer))
            .collect();
        self.dice.shuffle(&mut others);
        for peer in others.into_iter().take(ASKED_AT_ONCE) {
            self.homes[number as usize].asked.insert(peer, now);
            self.say_hello(number, peer);
        }
        self.tick_later(number, if needs { TICK } else { SELDOM });
    }

    pub(super) fn tick_later(&mut self, number: u32, after: Duration) {
        let life = self.nodes[number as usize].epoch;
        self.queue
            .push(self.now + after, Arrival::Tick { node: number, life });
    }

    /// One that was asked says where it sees a node. It is an observer, and if it serves a helper, a target and a
    /// relay.
    fn greet(&mut self, by: u32, to: u32, seen: u16, rtt: Duration) {
        self.note_dialled(by, to);
        self.vote(by, to, seen);
        if self.role(to as usize) == Role::Client {
            return;
        }
        self.homes[by as usize].observers.insert(to);
        let (id, ip) = (self.nodes[to as usize].id, host(to).into());
        let target = dial_back::Event::TargetKnown {
            target: id,
            ip,
            dialled: true,
        };
        self.tell_dial_back(by, target, None);
        self.tell_reservations(by, reservations::Event::RelayKnown { relay: id, ip, rtt });
        self.tell_reachability(by, reachability::Event::HelperKnown { helper: id, ip });
    }

    /// A node asks another where it is seen, before it has anything else to say to it.
    pub(in crate::world) fn say_hello(&mut self, by: u32, to: u32) {
        self.post(by, to, PORT, Word::Hello);
    }

    /// Those to whom there is no connection any more help no more.
    fn forget_closed(&mut self, by: u32) {
        let (pool, now, idle) = (&self.pools[by as usize], self.now, self.links.idle);
        let home = &mut self.homes[by as usize];
        home.dialled.retain(|peer| pool.has(*peer, now, idle));
        home.asked.retain(|peer, _| home.dialled.contains(peer));
        let closed = home.observers.extract_if(.., |peer| !home.dialled.contains(peer));
        for peer in closed.collect::<Vec<_>>() {
            let id = self.nodes[peer as usize].id;
            self.tell_reachability(by, reachability::Event::HelperGone { helper: id });
            self.tell_dial_back(by, dial_back::Event::TargetGone { target: id }, None);
        }
    }

    pub(super) fn vote(&mut self, by: u32, observer: u32, seen: u16) {
        let vote = observation::Event::Vote {
            port: PORT,
            observer: host(observer).into(),
            seen: SocketAddr::from((host(by), seen)),
        };
        self.tell_observations(by, vote);
    }

    /// Somebody has connected to a node of its own accord.
    pub(super) fn on_call(&mut self, to: u32, by: u32) {
        let from = SocketAddr::from((host(by), PORT));
        let stranger = self.is_stranger(to, from);
        self.tell_reachability(to, reachability::Event::Called { from, stranger });
    }

    pub(super) fn note_sent(&mut self, from: u32, to: u32) {
        self.homes[from as usize]
            .contacted
            .note(self.now, host(to).into());
    }

    /// Whether a node has sent nothing to a host lately.
    fn is_stranger(&self, number: u32, at: SocketAddr) -> bool {
        !self.homes[number as usize].contacted.contains(self.now, at.ip())
    }

    pub(super) fn tell_observations(&mut self, number: u32, event: observation::Event) {
        let mut out = Vec::new();
        self.homes[number as usize]
            .observations
            .handle(self.now, event, &mut out);
        if !out.is_empty() {
            self.tell_addresses(number);
        }
        self.arm_home(number);
    }

    /// What observers see and what routers forward is what a node may be reached at.
    pub(super) fn tell_addresses(&mut self, number: u32) {
        let home = &mut self.homes[number as usize];
        let mut addresses = home.observations.candidates(SOCKET).to_vec();
        let mapped = SocketAddr::from((host(number), PORT));
        if home.front.forwarded && !addresses.contains(&mapped) {
            addresses.push(mapped);
        }
        if addresses != home.addresses {
            home.addresses.clone_from(&addresses);
            self.tell_reachability(number, reachability::Event::Addresses(addresses));
        }
    }

    pub(super) fn tell_reachability(&mut self, number: u32, event: reachability::Event) {
        let mut out = Vec::new();
        self.homes[number as usize]
            .reachability
            .handle(self.now, event, &mut out);
        for action in out {
            match action {
                reachability::Action::Check {
                    helper,
                    address,
                    nonce,
                } => self.post_to_node(number, helper, Word::Check { address, nonce }),
                reachability::Action::Proven { .. } => {}
                reachability::Action::Role(role) => self.change_role(number, role),
            }
        }
        self.arm_home(number);
    }

    fn change_role(&mut self, number: u32, role: Role) {
        self.trace
            .fold(u64::from(number) << 1 | u64::from(role == Role::Server));
        self.take_role(number, role);
        let now = self.now;
        let home = &mut self.homes[number as usize];
        home.served.changes += 1;
        if role == Role::Server {
            home.served.server.get_or_insert(now);
            self.on_remind(number, self.homes[number as usize].served.changes);
        } else {
            home.served.client = Some(now);
            // It relays for nobody any more; those who had a place hear it when they ask to keep it.
            for peer in std::mem::take(&mut home.legs).into_keys() {
                self.tell_relay(number, relay::Event::Release { peer });
            }
        }
        let needed = reservations::Event::Needed(role == Role::Client);
        self.tell_reservations(number, needed);
    }

    pub(super) fn tell_dial_back(&mut self, number: u32, event: dial_back::Event, asked: Option<Asked>) {
        let mut out = Vec::new();
        self.homes[number as usize]
            .dial_back
            .handle(self.now, event, &mut out);
        for action in out {
            match (action, asked) {
                (dial_back::Action::Probe { to, nonce }, _) => {
                    self.post_to(number, to, Word::Probe { nonce });
                }
                (dial_back::Action::Pass { target, address, .. }, Some((client, port, nonce))) => {
                    self.homes[number as usize].passed.insert(nonce, (client, port));
                    self.post_to_node(number, target, Word::DialBack { address, nonce });
                    let unanswered = Arrival::Unanswered {
                        node: number,
                        target,
                        nonce,
                    };
                    self.queue.push(self.now + DIAL_BACK_WITHIN, unanswered);
                }
                (dial_back::Action::Accept { .. }, Some((helper, port, nonce))) => {
                    let accepted = true;
                    self.post(number, helper, port, Word::DialledBack { nonce, accepted });
                }
                (dial_back::Action::Refuse { .. }, Some((who, port, nonce))) => {
                    let word = match event {
                        dial_back::Event::Check { .. } => Word::Checked {
                            nonce,
                            passed_on: false,
                        },
                        _ => Word::DialledBack {
                            nonce,
                            accepted: false,
                        },
                    };
                    self.post(number, who, port, word);
                }
                (_, None) => unreachable!("who asks is answered, and nobody else"),
            }
        }
        self.arm_home(number);
    }

    /// A target had its time.
    pub(in crate::world) fn on_unanswered(&mut self, number: u32, target: NodeId, nonce: [u8; 16]) {
        if let Some((client, port)) = self.homes[number as usize].passed.remove(&nonce) {
            self.tell_dial_back(number, dial_back::Event::TargetGone { target }, None);
            let passed_on = false;
            self.post(number, client, port, Word::Checked { nonce, passed_on });
        }
    }

    /// Says something to a server, which is where its address says.
    pub(super) fn post_to_node(&mut self, from: u32, to: NodeId, word: Word) {
        if let Some(&to) = self.numbers.get(&to) {
            self.post(from, to, PORT, word);
        }
    }

    pub(super) fn on_reach(&mut self, from: u32, seen: SocketAddr, to: u32, word: Word) {
        let (peer, port) = (self.nodes[from as usize].id, seen.port());
        match word {
            Word::Hello => self.post(to, from, port, Word::Heard { own: port }),
            Word::Heard { own } => {
                let (one, other) = (self.nodes[to as usize].place, self.nodes[from as usize].place);
                let rtt = 2 * self.one_way(one, other);
                self.meet(to, from);
                self.greet(to, from, own, rtt);
            }
            Word::Check { address, nonce } => {
                let check = dial_back::Event::Check {
                    request: 0,
                    client: peer,
                    observed: seen.ip(),
                    address,
                    nonce,
                    bytes: CHECK_BYTES,
                };
                self.tell_dial_back(to, check, Some((from, port, nonce)));
            }
            Word::DialBack { address, nonce } => {
                let dial_back = dial_back::Event::DialBack {
                    request: 0,
                    helper: peer,
                    address,
                    nonce,
                    bytes: DIAL_BACK_BYTES,
                };
                self.tell_dial_back(to, dial_back, Some((from, port, nonce)));
            }
            Word::DialledBack { nonce, accepted } => {
                if let Some((client, port)) = self.homes[to as usize].passed.remove(&nonce) {
                    let passed_on = accepted;
                    self.post(to, client, port, Word::Checked { nonce, passed_on });
                }
            }
            Word::Checked { nonce, passed_on } => {
                self.tell_reachability(to, reachability::Event::Answered { nonce, passed_on });
            }
            Word::Probe { nonce } => {
                let (from, stranger) = (seen, self.is_stranger(to, seen));
                self.tell_reachability(
                    to,
                    reachability::Event::Probed {
                        from,
                        nonce,
                        stranger,
                    },
                );
            }
            Word::Reserve => self.on_reserve(from, seen, to),
            Word::Reserved { lifetime } => self.on_reserved(to, peer, lifetime),
            Word::NoPlace => {
                self.homes[to as usize].kept.remove(&peer);
                self.tell_reservations(to, reservations::Event::Refused { relay: peer });
            }
            Word::Release => {
                self.homes[to as usize].legs.remove(&peer);
                self.tell_relay(to, relay::Event::Release { peer });
            }
            Word::Keep => self.on_kept_alive(from, seen, to),
            Word::Kept { own } => {
                let now = self.now;
                if let Some((heard, _)) = self.homes[to as usize].kept.get_mut(&peer) {
                    *heard = now;
                    self.vote(to, from, own);
                }
            }
            _ => {}
        }
    }
}
