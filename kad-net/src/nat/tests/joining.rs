//! Many that join at once, in networks of all sizes: are those proven that strangers reach, and no others?
//!
//! Each does as `kad-node` does: meets two of four bootstrap nodes and two others, one more for each second in which
//! nobody can say anything, and joins when it is proven or when there is nothing to wait for. Who joins talks to
//! everybody, so that nobody is left who could prove it.

use std::net::IpAddr;

use proptest::prelude::*;

use super::super::draws::Draws;
use super::super::reachability::Prospect;
use super::*;

/// Nodes that begin in the same moment.
const NEWCOMERS: usize = 13;

/// As in `kad-node/src/join/proof.rs`.
const BOOTSTRAP: usize = 4;
const BEGIN_WITH: usize = 2;
const MET_BEFORE: usize = 4;
const MET_AT_MOST: usize = 8;
const STRANGERS: usize = 3;
const WITHIN: Duration = Duration::from_secs(5);
const AT_MOST: Duration = Duration::from_secs(20);
const ONE_MORE_AFTER: Duration = Duration::from_secs(1);

/// Servers that a server has dialled and said hello to.
const KNOWN: usize = 8;

const STEP: Duration = Duration::from_millis(50);

fn server_id(n: usize) -> NodeId {
    NodeId::from_limbs([n as u64 + 1, 0, 0, 0])
}

fn number(id: NodeId) -> usize {
    id.to_key().to_limbs()[0] as usize - 1
}

/// Some servers at each site; no two sites alike.
fn place(n: usize, per_site: usize) -> SocketAddr {
    let site = n / per_site;
    SocketAddr::from(([20, site as u8, 0, 1 + (n % per_site) as u8], 4001))
}

struct Newcomer {
    kind: Kind,
    nat: Nat,
    observations: Observations,
    reachability: Reachability,
    contacted: Contacted,
    /// Servers in the order in which it would meet them.
    order: Vec<usize>,
    met: usize,
    quiet_since: Instant,
    joined: bool,
    proven_before: bool,
    wrong: bool,
}

struct Crowd {
    now: Instant,
    per_site: usize,
    servers: Vec<DialBack>,
    /// Refuse whatever they are asked.
    useless: Vec<bool>,
    newcomers: Vec<Newcomer>,
}

impl Crowd {
    fn new(count: usize, per_site: usize, seed: u8) -> Self {
        let mut draws = Draws::new(&[seed; 32], "a crowd");
        let mut pick = |of: usize| draws.pick(of).expect("there are some");
        let mut servers = Vec::new();
        for n in 0..count {
            let mut machine = DialBack::new(Scope::Global, &[n as u8; 32]);
            // To the first one all have come, and it has dialled nobody.
            let dialled = n != 0;
            let known = (0..KNOWN).map(|_| pick(count)).filter(|other| *other != n);
            let known = known.map(|other| dial_back::Event::TargetKnown {
                target: server_id(other),
                ip: place(other, per_site).ip(),
                dialled,
            });
            let own = dial_back::Event::OwnHost {
                ip: place(n, per_site).ip(),
            };
            for event in known.collect::<Vec<_>>().into_iter().chain([own]) {
                machine.handle(Instant::ZERO, event, &mut Vec::new());
            }
            servers.push(machine);
        }
        // One in ten, but never a bootstrap node: those are there to help.
        let useless = (0..count).map(|n| n >= BOOTSTRAP && pick(10) == 0).collect();
        let newcomers = (0..NEWCOMERS).map(|n| {
            let kind = KINDS[n % KINDS.len()];
            let mut order: Vec<usize> = (0..count).collect();
            for place in (1..count).rev() {
                order.swap(place, pick(place + 1));
            }
            let mut begin: Vec<usize> = order.iter().copied().filter(|n| *n < BOOTSTRAP).collect();
            begin.truncate(BEGIN_WITH);
            order.retain(|n| !begin.contains(n));
            let host = Ipv4Addr::new(8, 8, n as u8, 8);
            Newcomer {
                kind,
                nat: Nat::new(kind, host),
                observations: Observations::new(Scope::Global),
                reachability: Reachability::new(
                    ReachabilityConfig::default(),
                    Scope::Global,
                    false,
                    &[seed ^ n as u8; 32],
                ),
                contacted: Contacted::default(),
                order: begin.into_iter().chain(order).collect(),
                met: 0,
                quiet_since: Instant::ZERO,
                joined: false,
                proven_before: false,
                wrong: false,
            }
        });
        let newcomers = newcomers.collect();
        Self {
            now: Instant::ZERO,
            per_site,
            servers,
            useless,
            newcomers,
        }
    }

    fn tell(&mut self, who: usize, event: reachability::Event) {
        let mut out = Vec::new();
        self.newcomers[who].reachability.handle(self.now, event, &mut out);
        for action in out {
            if let reachability::Action::Check {
                helper,
                address,
                nonce,
            } = action
            {
                self.check(who, number(helper), address, nonce);
            }
        }
    }

    fn check(&mut self, who: usize, helper: usize, address: SocketAddr, nonce: [u8; 16]) {
        let newcomer = &mut self.newcomers[who];
        let to = place(helper, self.per_site);
        newcomer.contacted.note(self.now, to.ip());
        let Some(source) = newcomer.nat.send(self.now, to) else {
            return;
        };
        let check = dial_back::Event::Check {
            request: 0,
            client: NodeId::from_limbs([0, who as u64 + 1, 0, 0]),
            observed: source.ip(),
            address,
            nonce,
            bytes: CHECK_BYTES,
        };
        let mut out = Vec::new();
        if !self.useless[helper] {
            self.servers[helper].handle(self.now, check, &mut out);
        }
        let mut passed_on = false;
        if let Some(&dial_back::Action::Pass { target, .. }) = out.first() {
            let event = dial_back::Event::DialBack {
                request: 0,
                helper: server_id(helper),
                address,
                nonce,
                bytes: DIAL_BACK_BYTES,
            };
            passed_on = self.serve(number(target), event);
            if self.useless[number(target)] {
                let gone = dial_back::Event::TargetGone { target };
                self.servers[helper].handle(self.now, gone, &mut Vec::new());
            }
        }
        self.tell(who, reachability::Event::Answered { nonce, passed_on });
    }

    /// Whether it is done.
    fn serve(&mut self, n: usize, event: dial_back::Event) -> bool {
        let mut out = Vec::new();
        if !self.useless[n] {
            self.servers[n].handle(self.now, event, &mut out);
        }
        for action in &out {
            if let &dial_back::Action::Probe { to, nonce } = action {
                let from = place(n, self.per_site);
                let is_there = |newcomer: &Newcomer| IpAddr::V4(newcomer.nat.ip()) == to.ip();
                let who = self.newcomers.iter().position(is_there).expect("somebody asked");
                let newcomer = &mut self.newcomers[who];
                if newcomer.nat.receive(self.now, from, to.port()) {
                    let stranger = !newcomer.contacted.contains(self.now, from.ip());
                    let probed = reachability::Event::Probed {
                        from,
                        nonce,
                        stranger,
                    };
                    self.tell(who, probed);
                }
            }
        }
        out.contains(&dial_back::Action::Accept { request: 0 })
    }

    fn meet_next(&mut self, who: usize) {
        let newcomer = &mut self.newcomers[who];
        let Some(&n) = newcomer.order.get(newcomer.met) else {
            return;
        };
        newcomer.met += 1;
        let (at, now) = (place(n, self.per_site), self.now);
        newcomer.contacted.note(now, at.ip());
        let Some(seen) = newcomer.nat.send(now, at) else {
            return;
        };
        let vote = observation::Event::Vote {
            port: HERE.port,
            observer: at.ip(),
            seen,
        };
        newcomer.observations.handle(now, vote, &mut Vec::new());
        let candidates = newcomer.observations.candidates(HERE).to_vec();
        let (helper, ip) = (server_id(n), at.ip());
        self.tell(who, reachability::Event::HelperKnown { helper, ip });
        self.tell(who, reachability::Event::Addresses(candidates));
    }

    /// What a newcomer does before it joins, and that it joins.
    fn join(&mut self, who: usize) {
        let (now, all) = (self.now, self.servers.len());
        let newcomer = &mut self.newcomers[who];
        let reachable = newcomer.reachability.reachable().count() > 0;
        newcomer.wrong |= reachable && !matches!(newcomer.kind, Kind::Open | Kind::Full);
        if newcomer.joined {
            return;
        }
        let prospect = newcomer.reachability.prospect(now);
        let waits = matches!(prospect, Prospect::Asked | Prospect::Heard);
        let over = now.since(Instant::ZERO) >= if waits { AT_MOST } else { WITHIN };
        if reachable || over {
            (newcomer.joined, newcomer.proven_before) = (true, reachable);
            while self.newcomers[who].met < all {
                self.meet_next(who);
            }
        } else if prospect != Prospect::Unclear {
            newcomer.quiet_since = now;
        } else if now >= newcomer.quiet_since + ONE_MORE_AFTER
            && newcomer.met < MET_AT_MOST.min(all - STRANGERS)
        {
            newcomer.quiet_since = now;
            self.meet_next(who);
        }
    }

    fn run(&mut self, until: Duration) {
        for who in 0..NEWCOMERS {
            for _ in 0..MET_BEFORE {
                self.meet_next(who);
            }
        }
        while self.now < Instant::ZERO + until {
            self.now = self.now + STEP;
            let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= self.now);
            let servers = (0..self.servers.len()).filter(|n| is_due(self.servers[*n].poll_timeout()));
            for n in servers.collect::<Vec<_>>() {
                self.serve(n, dial_back::Event::Timeout);
            }
            for who in 0..NEWCOMERS {
                let due = self.newcomers[who].reachability.poll_timeout();
                if due.is_some_and(|due| due <= self.now) {
                    self.tell(who, reachability::Event::Timeout);
                }
                self.join(who);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_many_that_join_at_once_those_are_proven_that_strangers_reach_and_no_others(
        count in prop_oneof![10usize..16, 16usize..60, 60usize..200],
        per_site in 1usize..4,
        seed: u8,
    ) {
        // A network at two sites is another matter: there, hosts count.
        prop_assume!(count / per_site >= 6);
        let mut crowd = Crowd::new(count, per_site, seed);
        crowd.run(Duration::from_secs(180));
        for newcomer in &crowd.newcomers {
            let open = matches!(newcomer.kind, Kind::Open | Kind::Full);
            let role = if open { Role::Server } else { Role::Client };
            prop_assert!(newcomer.joined && !newcomer.wrong, "{:?}", newcomer.kind);
            prop_assert_eq!(newcomer.proven_before, open, "{:?}", newcomer.kind);
            prop_assert_eq!(newcomer.reachability.role(), role, "{:?}", newcomer.kind);
        }
    }
}
