//! Two ends, a NAT in front of each, and the wire between.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::nat::model::Kind::{self, Addr, Cone, Full, Fw, Leaky, Open, Sym};
use crate::nat::model::Nat;
use crate::wire::Scope;

const HOST: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 1);
const DELAY: Duration = Duration::from_millis(40);

fn meeting(own: Ipv4Addr, peer: Ipv4Addr) -> Meeting {
    Meeting {
        scope: Scope::Global,
        own_host: own.into(),
        peer_host: peer.into(),
    }
}

const fn candidate(kind: CandidateKind, address: SocketAddr) -> Candidate {
    Candidate { address, kind }
}

/// A punch on its way.
#[derive(Debug, Clone, Copy)]
struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    /// How many probes had been sent with it.
    probes: usize,
}

/// What came of an attempt.
#[derive(Debug, Default)]
struct Outcome {
    /// Which probe met an open port, counted from 1.
    met: Option<usize>,
    /// Whether each end was heard by the other.
    both: bool,
    probes: Vec<Instant>,
    opened: Vec<Instant>,
    ended: Duration,
}

/// One who opens, behind a NAT with one port for each of its sockets, and one who probes.
struct World {
    now: Instant,
    opens: Birthday,
    probes: Birthday,
    /// One for each socket that is open.
    doors: Vec<Nat>,
    /// Which of them has which port.
    by_port: BTreeMap<u16, usize>,
    home: Nat,
    wire: BTreeMap<(Instant, u64), Packet>,
    count: u64,
    outcome: Outcome,
    answered: bool,
}

impl World {
    fn new(kind: Kind, seed: u64, late: Duration) -> Self {
        let mut seeds = [0; 32];
        seeds[..8].copy_from_slice(&seed.to_be_bytes());
        let mut home = Nat::new(kind, THERE);
        let observer = SocketAddr::from(([203, 0, 113, 1], 4000));
        let seen = home.send(Instant::ZERO, observer).expect("it lets packets out");
        let candidates = [candidate(CandidateKind::Observed, seen)];
        let part = |own: Kind, peer: Kind, meeting| {
            Part::of(own.class(), peer.class(), &meeting, &candidates).expect("it helps")
        };
        let opens = part(Sym, kind, meeting(HOST, THERE));
        let probes = part(kind, Sym, meeting(THERE, HOST));
        Self {
            now: Instant::ZERO,
            opens: Birthday::new(opens, Instant::ZERO + late, &seeds),
            probes: Birthday::new(probes, Instant::ZERO, &seeds),
            doors: Vec::new(),
            by_port: BTreeMap::new(),
            home,
            wire: BTreeMap::new(),
            count: 0,
            outcome: Outcome::default(),
            answered: false,
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr) {
        self.count += 1;
        let probes = self.probes.sent();
        self.wire
            .insert((self.now + DELAY, self.count), Packet { from, to, probes });
    }

    fn tell_opens(&mut self, event: Event) {
        let mut out = Vec::new();
        self.opens.handle(self.now, event, &mut out);
        assert!(out.len() <= 16);
        let mut kept = None;
        for action in out {
            match action {
                Action::Open { to } => {
                    let number = u16::try_from(self.doors.len()).expect("they are few");
                    let mut nat = Nat::beside(Sym, HOST, number);
                    let from = nat.send(self.now, to).expect("it lets packets out");
                    self.by_port.insert(from.port(), self.doors.len());
                    self.doors.push(nat);
                    self.outcome.opened.push(self.now);
                    self.send(from, to);
                }
                Action::Keep { at } => kept = at,
                Action::Answer { to } => {
                    let door = kept.expect("it is one that was opened");
                    let from = self.doors[usize::from(door)].send(self.now, to);
                    self.send(from.expect("it lets packets out"), to);
                }
                Action::Dial { .. } => {}
                Action::Probe { .. } => panic!("who opens does not probe"),
                Action::End => self.doors.clear(),
            }
        }
    }

    fn tell_probes(&mut self, event: Event) {
        let mut out = Vec::new();
        self.probes.handle(self.now, event, &mut out);
        assert!(out.len() <= 16);
        for action in out {
            match action {
                Action::Probe { to } | Action::Answer { to } => {
                    if let Action::Probe { .. } = action {
                        self.outcome.probes.push(self.now);
                    } else {
                        self.answered = true;
                    }
                    assert_eq!(to.ip(), HOST, "nobody else is sent anything");
                    assert!(to.port() >= 1024);
                    let from = self.home.send(self.now, to).expect("it lets packets out");
                    self.send(from, to);
                }
                Action::End => {}
                other => panic!("who probes does not {other:?}"),
            }
        }
    }

    fn arrive(&mut self, packet: Packet) {
        let Packet { from, to, probes } = packet;
        if to.ip() == THERE {
            if self.home.receive(self.now, from, to.port()) {
                self.tell_probes(Event::Heard { at: None, from });
            }
        } else if let Some(&door) = self.by_port.get(&to.port())
            && let Some(nat) = self.doors.get_mut(door)
            && nat.receive(self.now, from, to.port())
        {
            let at = u16::try_from(door).ok();
            self.outcome.met.get_or_insert(probes);
            self.tell_opens(Event::Heard { at, from });
        }
    }

    fn run(mut self) -> Outcome {
        loop {
            let timers = [self.opens.poll_timeout(), self.probes.poll_timeout()];
            let timer = timers.into_iter().flatten().min();
            let packet = self.wire.first_key_value().map(|(&(at, _), _)| at);
            let Some(next) = timer.into_iter().chain(packet).min() else {
                break;
            };
            self.now = next;
            if packet == Some(next) {
                let (_, packet) = self.wire.pop_first().expect("it was looked at");
                self.arrive(packet);
            } else if timers[0] == Some(next) {
                self.tell_opens(Event::Timeout);
                assert!(self.opens.poll_timeout().is_none_or(|due| due > self.now));
            } else {
                self.tell_probes(Event::Timeout);
                assert!(self.probes.poll_timeout().is_none_or(|due| due > self.now));
            }
        }
        assert!(self.opens.is_over() && self.probes.is_over());
        self.outcome.both = self.answered && self.outcome.met.is_some();
        self.outcome.ended = self.now.since(Instant::ZERO);
        self.outcome
    }
}

/// As the module says.
fn expected(probes: usize) -> f64 {
    1.0 - (1.0 - MAX_SOCKETS as f64 / PORTS.len() as f64).powi(i32::try_from(probes).unwrap())
}

#[test]
fn so_many_attempts_succeed_as_was_computed() {
    assert_eq!(PORTS.len(), 64_512);
    assert!(expected(MAX_PROBES) > 0.999);
    const RUNS: u64 = 4_000;
    let run = |seed| {
        let mut world = World::new(Cone, seed, Duration::ZERO);
        // Once all sockets are open, so that each probe may meet one.
        let begin = Instant::ZERO + Duration::from_millis(200);
        let mut seeds = [1; 32];
        seeds[..8].copy_from_slice(&seed.to_be_bytes());
        world.probes = Birthday::new(world.probes.part(), begin, &seeds);
        world.run().met
    };
    let met: Vec<usize> = (0..RUNS).filter_map(run).collect();
    for probes in [60, 174, 512, 1_024, MAX_PROBES] {
        let within = met.iter().filter(|&&met| met <= probes).count() as f64;
        let (share, runs) = (expected(probes), RUNS as f64);
        let deviation = (runs * share * (1.0 - share)).sqrt();
        assert!(
            (within - runs * share).abs() <= 4.0 * deviation,
            "{probes} probes: {within} of {runs}, where {} were expected",
            runs * share
        );
    }
}

#[test]
fn who_is_met_is_heard_by_both_and_a_late_start_does_not_matter() {
    for kind in [Cone, Fw, Addr, Full, Open] {
        for (seed, late) in [(1, 0), (2, 100), (3, 1500)] {
            let outcome = World::new(kind, seed, Duration::from_millis(late)).run();
            assert!(outcome.both, "{kind:?}, {late} ms late: {:?}", outcome.met);
        }
    }
}

#[test]
fn what_leaks_is_not_met_as_every_open_port_is_taken_from_it() {
    // All sockets are open before the first probe leaves: their packets came uninvited.
    let mut world = World::new(Leaky, 1, Duration::ZERO);
    let end = Instant::ZERO + Duration::from_secs(1);
    world.probes = Birthday::new(world.probes.part(), end, &[1; 32]);
    assert_eq!(world.run().met, None);
}

#[test]
fn an_attempt_in_vain_ends_in_time_and_within_its_bounds() {
    let mut world = World::new(Cone, 1, Duration::ZERO);
    // Nobody is there.
    world
        .opens
        .handle(Instant::ZERO, Event::Needless, &mut Vec::new());
    let outcome = world.run();
    assert_eq!((outcome.met, outcome.opened.len()), (None, 0));
    assert_eq!(outcome.probes.len(), MAX_PROBES);
    assert_eq!(outcome.ended, LASTS);
    let gaps = outcome.probes.windows(2).map(|two| two[1].since(two[0]));
    assert!(gaps.into_iter().all(|gap| gap == EVERY));

    let mut world = World::new(Cone, 1, Duration::ZERO);
    world
        .probes
        .handle(Instant::ZERO, Event::Needless, &mut Vec::new());
    let outcome = world.run();
    assert_eq!((outcome.met, outcome.opened.len()), (None, MAX_SOCKETS));
    let took = outcome.opened[MAX_SOCKETS - 1].since(outcome.opened[0]);
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert_eq!(outcome.ended, LASTS);
}

#[test]
fn two_of_one_class_or_of_an_unknown_one_do_not_try() {
    use CandidateKind::{Lan, Mapped, Observed, Verified};
    use NatClass::{EndpointDependent, EndpointIndependent, Unknown};
    let meeting = meeting(HOST, THERE);
    let there = SocketAddr::from((THERE, 4001));
    let elsewhere = SocketAddr::from(([7, 7, 7, 7], 4001));
    for (own, peer) in [
        (EndpointDependent, EndpointDependent),
        (EndpointIndependent, EndpointIndependent),
        (Unknown, EndpointDependent),
        (EndpointIndependent, Unknown),
    ] {
        let part = Part::of(own, peer, &meeting, &[candidate(Observed, there)]);
        assert_eq!(part, None, "{own:?} {peer:?}");
    }
    let opens =
        |candidates: &[Candidate]| Part::of(EndpointDependent, EndpointIndependent, &meeting, candidates);
    let told = [candidate(Verified, elsewhere), candidate(Observed, there)];
    assert_eq!(opens(&told), Some(Part::Opens { to: there }));
    assert_eq!(opens(&told[..1]), None, "the peer's word alone is not enough");
    let local = SocketAddr::from(([192, 168, 0, 7], 4001));
    let forwarded = SocketAddr::from((THERE, 5001));
    let others = [candidate(Mapped, forwarded), candidate(Lan, local)];
    assert_eq!(opens(&others), None, "no probe comes from there");
    // Without a NAT, what an interface has is what everybody sees.
    assert_eq!(opens(&[candidate(Lan, there)]), Some(Part::Opens { to: there }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, and however late timers are.
    #[test]
    fn nothing_is_sent_beyond_the_bounds_or_to_another_host(
        opens: bool, seed: u8,
        happens in prop::collection::vec((0u64..12_000, 0u8..8, any::<u16>()), 0..400),
    ) {
        let (to, host) = (SocketAddr::from((THERE, 4001)), IpAddr::from(THERE));
        let part = if opens { Part::Opens { to } } else { Part::Probes { host } };
        let mut machine = Birthday::new(part, Instant::ZERO, &[seed; 32]);
        let (mut now, mut out, mut sent) = (Instant::ZERO, Vec::new(), Vec::new());
        let (mut answers, mut dials, mut ends) = (0, 0, 0);
        for (wait, what, port) in happens {
            now = now + Duration::from_micros(wait);
            let event = match what {
                0 => Event::Heard { at: Some(port), from: SocketAddr::from((HOST, port)) },
                1 if port < 4_000 => Event::Heard { at: Some(port), from: SocketAddr::from((THERE, port)) },
                2 if port < 2_000 => Event::Needless,
                _ => Event::Timeout,
            };
            machine.handle(now, event, &mut out);
            prop_assert!(out.len() <= 16);
            if event == Event::Timeout {
                prop_assert!(machine.poll_timeout().is_none_or(|due| due > now));
            }
            for action in out.drain(..) {
                prop_assert_eq!(ends, 0, "nothing follows the end");
                let to = match action {
                    Action::Open { to } | Action::Probe { to } => { sent.push(now); to }
                    Action::Answer { to } => { answers += 1; to }
                    Action::Dial { to } => { dials += 1; to }
                    Action::Keep { .. } => continue,
                    Action::End => { ends += 1; continue }
                };
                prop_assert_eq!(to.ip(), host);
            }
        }
        prop_assert!(answers <= ANSWERS && dials <= usize::from(opens));
        prop_assert_eq!(sent.len(), machine.sent());
        prop_assert!(sent.len() <= part.most());
        // Of any two that many steps apart, more than that many spans lie between, but for the first one's lateness.
        let at_once = if opens { OPENED_AT_ONCE } else { 1 };
        for window in sent.windows(10 * at_once + 1) {
            prop_assert!(window[10 * at_once].since(window[0]) >= 9 * EVERY);
        }
    }
}
