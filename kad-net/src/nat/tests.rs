//! Machines of several nodes together, and a NAT in front of one of them: does it find out the truth?

mod joining;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use kad_core::{Duration, Instant, NodeId};

use super::contacted::Contacted;
use super::dial_back::{self, CHECK_BYTES, DIAL_BACK_BYTES, DialBack};
use super::model::{KINDS, Kind, Nat};
use super::observation::{self, Family, NatClass, Observations, Place};
use super::reachability::{self, Reachability, ReachabilityConfig, Role};
use crate::wire::Scope;

const HERE: Place = Place {
    port: 4001,
    family: Family::V4,
};

/// Servers in all, and those that the node has a connection to.
const SERVERS: u8 = 12;
const CONNECTED: u8 = 4;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

fn server(n: u8) -> SocketAddr {
    SocketAddr::from(([20, n, 0, 1], 4001))
}

struct World {
    now: Instant,
    nat: Nat,
    observations: Observations,
    reachability: Reachability,
    contacted: Contacted,
    servers: BTreeMap<u8, DialBack>,
    keep_alive: Instant,
}

impl World {
    fn new(kind: Kind) -> Self {
        let mut servers = BTreeMap::new();
        for n in 0..SERVERS {
            let mut machine = DialBack::new(Scope::Global, &[n; 32]);
            let others = (0..SERVERS).filter(|other| *other != n);
            let known = others.map(|other| dial_back::Event::TargetKnown {
                target: id(other),
                ip: server(other).ip(),
                dialled: true,
            });
            let own = dial_back::Event::OwnHost { ip: server(n).ip() };
            for event in known.chain([own]) {
                machine.handle(Instant::ZERO, event, &mut Vec::new());
            }
            servers.insert(n, machine);
        }
        Self {
            now: Instant::ZERO,
            nat: Nat::new(kind, Ipv4Addr::new(8, 8, 8, 8)),
            observations: Observations::new(Scope::Global),
            reachability: Reachability::new(ReachabilityConfig::default(), Scope::Global, false, &[9; 32]),
            contacted: Contacted::default(),
            servers,
            keep_alive: Instant::ZERO,
        }
    }

    fn tell(&mut self, event: reachability::Event) {
        let mut out = Vec::new();
        self.reachability.handle(self.now, event, &mut out);
        for action in out {
            if let reachability::Action::Check {
                helper,
                address,
                nonce,
            } = action
            {
                let helper = helper.to_bytes()[0];
                let Some(source) = self.nat.send(self.now, server(helper)) else {
                    continue;
                };
                let check = dial_back::Event::Check {
                    request: 0,
                    client: id(100),
                    observed: source.ip(),
                    address,
                    nonce,
                    bytes: CHECK_BYTES,
                };
                self.ask(helper, check);
            }
        }
    }

    fn ask(&mut self, n: u8, event: dial_back::Event) {
        let mut out = Vec::new();
        let machine = self.servers.get_mut(&n).expect("only servers are asked");
        machine.handle(self.now, event, &mut out);
        let answered = |nonce, passed_on| reachability::Event::Answered { nonce, passed_on };
        for action in out {
            match action {
                dial_back::Action::Pass {
                    target,
                    address,
                    nonce,
                    request,
                } => {
                    self.tell(answered(nonce, true));
                    let dial_back = dial_back::Event::DialBack {
                        request,
                        helper: id(n),
                        address,
                        nonce,
                        bytes: DIAL_BACK_BYTES,
                    };
                    self.ask(target.to_bytes()[0], dial_back);
                }
                dial_back::Action::Probe { to, nonce } => {
                    let from = server(n);
                    if self.nat.receive(self.now, from, to.port()) {
                        let stranger = !self.contacted.contains(self.now, from.ip());
                        self.tell(reachability::Event::Probed {
                            from,
                            nonce,
                            stranger,
                        });
                    }
                }
                dial_back::Action::Accept { .. } => {}
                dial_back::Action::Refuse { why, .. } => panic!("{why:?}"),
            }
        }
    }

    /// Talks to the servers that it is connected to, and hears where they see it.
    fn keep_alive(&mut self) {
        self.keep_alive = self.now + KEEP_ALIVE;
        for n in 0..CONNECTED {
            let (helper, ip) = (id(n), server(n).ip());
            self.contacted.note(self.now, ip);
            let Some(seen) = self.nat.send(self.now, server(n)) else {
                continue;
            };
            self.tell(reachability::Event::HelperKnown { helper, ip });
            let vote = observation::Event::Vote {
                port: HERE.port,
                observer: ip,
                seen,
            };
            self.observations.handle(self.now, vote, &mut Vec::new());
        }
        // A NAT that gives every destination another port is asked about as well: it might still let everybody in.
        let mut candidates = self.observations.candidates(HERE).to_vec();
        candidates.extend(self.nat.send(self.now, server(0)));
        self.tell(reachability::Event::Addresses(candidates));
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let servers = self.servers.iter();
            let probes = servers
                .filter_map(|(n, it)| it.poll_timeout().map(|at| (at, Some(*n))))
                .min();
            let own = self.reachability.poll_timeout().map(|at| (at, None));
            let next = probes.into_iter().chain(own).min();
            let due = next.map_or(self.keep_alive, |(at, _)| at.min(self.keep_alive));
            if due > end {
                self.now = end;
                return;
            }
            self.now = due;
            match next {
                _ if self.keep_alive <= due => self.keep_alive(),
                Some((_, Some(n))) => self.ask(n, dial_back::Event::Timeout),
                _ => self.tell(reachability::Event::Timeout),
            }
        }
    }
}

#[test]
fn only_nodes_that_strangers_reach_are_servers_after_three_minutes() {
    for kind in KINDS {
        let mut world = World::new(kind);
        world.run(Duration::from_secs(180));
        let expected = match kind {
            Kind::Full | Kind::Open => Role::Server,
            _ => Role::Client,
        };
        assert_eq!(world.reachability.role(), expected, "{kind:?}");
        world.run(Duration::from_secs(6 * 3600));
        assert_eq!(world.reachability.role(), expected, "{kind:?}, later");
        // Hosts that it had talked to came through, and were not believed.
        assert!(kind != Kind::Addr || world.reachability.void() > 3);
    }
}

#[test]
fn each_kind_of_nat_is_of_its_class() {
    for kind in KINDS {
        let mut world = World::new(kind);
        world.run(Duration::from_secs(1));
        let expected = match kind {
            Kind::Sym => NatClass::EndpointDependent,
            Kind::Block => NatClass::Unknown,
            _ => NatClass::EndpointIndependent,
        };
        assert_eq!(world.observations.class(HERE), expected, "{kind:?}");
    }
}
