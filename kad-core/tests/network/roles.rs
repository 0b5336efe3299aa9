//! Nodes that serve, only ask, and serve again.

use std::sync::Arc;

use kad_core::{
    Command, Config, Contact, Duration, Fingerprint, Input, Instant, Kademlia, Key, NodeId, Now, Outbox,
    Outcome, Output, Prefix, QueryError, Record, Rejection, ReplyId, Request, RequestId, Response, UnixTime,
};

use crate::records::{DAY, holds, immutable, put};
use crate::repair::smuggle;
use crate::simulation::Simulation;

const K: usize = 20;

fn turn(world: &mut Simulation, node: u32, read_only: bool) {
    world.feed(node, Input::Role { read_only });
}

fn knows(world: &Simulation, node: u32, id: NodeId) -> bool {
    world.nodes[node as usize]
        .machine
        .machine()
        .table()
        .get(id)
        .is_some()
}

/// A node of many that changes its role ten times, now and then while answers are on their way, and ends as one or the
/// other.
fn restless(seed: u64, ends_read_only: bool) -> (Simulation, u32) {
    let mut world = Simulation::joined(seed, 50, &Config::default());
    let node = world.dice.below(50) as u32;
    for change in 0..10 {
        let read_only = (change % 2 == 0) != ends_read_only;
        turn(&mut world, node, read_only);
        let (target, other) = (world.dice.key(), world.dice.below(50) as u32);
        world.command(node, Command::FindNode { target });
        world.command(other, Command::Locate { id: world.id(node) });
        // From a moment, in which nothing has arrived, to a minute.
        let pause = [1, 20, 150, 5_000, 60_000][world.dice.below(5) as usize];
        world.run_for(Duration::from_millis(pause));
    }
    (world, node)
}

#[test]
fn after_ten_changes_nobody_routes_through_a_node_that_only_asks() {
    for seed in 700..706 {
        let (mut world, node) = restless(seed, true);
        let id = world.id(node);
        world.run_for(Duration::from_secs(4000));
        let knowing: Vec<u32> = (0..50).filter(|&other| knows(&world, other, id)).collect();
        assert_eq!(knowing, [], "seed {seed}");
        let target = world.dice.key();
        let Outcome::Closest(closest) = world.ask(node, Command::FindNode { target }).0 else {
            panic!("it does not find anybody")
        };
        assert_eq!(closest.len(), K);
    }
}

#[test]
fn after_ten_changes_its_neighbourhood_knows_a_node_that_serves() {
    for seed in 710..716 {
        let (mut world, node) = restless(seed, false);
        let id = world.id(node);
        world.run_for(Duration::from_secs(10));
        let nearest = world
            .nearest(id.to_key())
            .into_iter()
            .filter(|&other| other != node);
        for other in nearest.take(K / 2) {
            assert!(
                knows(&world, other, id),
                "seed {seed}: {other} does not know {node}"
            );
        }
        let asker = (node + 1) % 50;
        let Outcome::Closest(closest) = world.ask(asker, Command::FindNode { target: id.to_key() }).0 else {
            panic!("nobody was found")
        };
        assert_eq!(closest[0].id, id, "seed {seed}");
    }
}

#[test]
fn the_same_seed_and_the_same_changes_give_the_same_run() {
    let run = |seed| restless(seed, true).0.trace();
    assert_eq!(run(720), run(720));
    assert_ne!(run(720), run(721));
}

#[test]
fn who_only_asks_answers_every_request_with_that_word() {
    let mut world = Simulation::joined(721, 30, &Config::default());
    let now = world.unix();
    let requests = || {
        let record = immutable(b"a value", now, DAY);
        let ask = kad_core::FindValue {
            key: record.key(),
            kind: record.kind(),
            min_seq: 0,
            after: None,
            want: kad_core::Want::Record,
        };
        let target = record.key();
        let (prefix, parts) = (Prefix::ALL, vec![(Prefix::ALL, Fingerprint::default())]);
        [
            Request::Ping,
            Request::FindNode { target, card: false },
            Request::FindNode { target, card: true },
            Request::FindValue(ask),
            Request::Store {
                entries: vec![record.into()],
            },
            Request::Compare { parts },
            Request::Fetch {
                prefix,
                marks: vec![1],
            },
        ]
    };
    turn(&mut world, 4, true);
    for request in requests() {
        let answer = world.serve(4, request);
        assert_eq!(answer, Response::Rejected(Rejection::ReadOnly));
    }
    assert_eq!(world.nodes[4].shelf.len(), 0);
    turn(&mut world, 4, false);
    for request in requests() {
        let answer = world.serve(4, request);
        assert!(!matches!(answer, Response::Rejected(_)), "{answer:?}");
    }
}

#[test]
fn a_contact_that_is_asked_by_somebody_and_only_asks_is_forgotten_at_once() {
    let mut world = Simulation::joined(722, 10, &Config::default());
    let (id, contact) = (world.id(3), world.contact(3));
    turn(&mut world, 3, true);
    world.run_for(Duration::from_secs(1));
    // Whoever was not told yet, because it was not asked.
    let asker = (0..10).find(|&node| node != 3 && knows(&world, node, id));
    let asker = asker.expect("a node does not tell everybody that it only asks");
    let outcome = world.ask(asker, Command::Ping { contact }).0;
    assert_eq!(outcome, Outcome::Failed(QueryError::Refused));
    assert!(!knows(&world, asker, id));
}

#[test]
fn a_node_that_only_asks_from_now_on_gives_others_what_it_alone_holds_and_keeps_its_own() {
    let mut world = Simulation::joined(723, 60, &Config::default());
    let now = world.unix();
    let records: Vec<_> = (0..60_u8).map(|n| immutable(&[n; 9], now, DAY)).collect();
    for record in &records {
        put(&mut world, 0, record, false);
    }
    let own = immutable(b"its own", now, DAY);
    put(&mut world, 7, &own, true);
    // Of one it has the only copy, as if all other holders had just gone.
    let nearest = |n: u64| world.nearest(immutable(&n.to_be_bytes(), now, DAY).key())[0] == 7;
    let last = (0..)
        .find(|&n| nearest(n))
        .expect("it is the nearest to some key");
    let last = immutable(&last.to_be_bytes(), now, DAY);
    smuggle(&mut world, 7, &last);
    turn(&mut world, 7, true);
    world.run_for(Duration::from_secs(30));
    assert!((0..60).any(|node| node != 7 && holds(&world, node, &last)));
    for record in &records {
        let nearest = world.nearest(record.key()).into_iter().take(K);
        let copies = nearest.filter(|&node| holds(&world, node, record)).count();
        assert!(copies >= K - 1, "{copies} copies");
    }
    assert!(holds(&world, 7, &own));
    // It takes nothing any more, and what it has kept is still published.
    let before = world.nodes[7].shelf.len();
    for n in 100..130_u8 {
        put(&mut world, 1, &immutable(&[n; 9], now, DAY), false);
    }
    assert_eq!(world.nodes[7].shelf.len(), before);
    world.run_for(Duration::from_secs(13 * 3600));
    assert!(world.nodes[7].machine.machine().stats().sweeps > 0);
}

#[test]
fn what_a_node_that_only_asks_still_holds_of_others_goes_to_those_nearest_to_it() {
    let mut world = Simulation::joined(725, 60, &Config::default());
    let now = world.unix();
    turn(&mut world, 7, true);
    world.run_for(Duration::from_secs(60));
    // It would be the nearest if it served: what it has not handed over when it ceased to.
    let near = |world: &Simulation, record: &Record| {
        let own = world.id(7).distance(record.key());
        let nearest = world.nearest(record.key())[0];
        own < world.id(nearest).distance(record.key())
    };
    let all = (0..u64::MAX).map(|n| immutable(&n.to_be_bytes(), now, DAY));
    let left = all
        .into_iter()
        .find(|record| near(&world, record))
        .expect("it is near to some key");
    smuggle(&mut world, 7, &left);
    world.run_for(Duration::from_secs(5 * 3600));
    assert!((0..60).any(|node| node != 7 && holds(&world, node, &left)));
}

#[test]
fn a_node_that_serves_from_now_on_fetches_what_it_is_responsible_for() {
    let mut world = Simulation::joined(724, 60, &Config::default());
    let mut config = Config::default();
    config.read_only = true;
    let (id, first) = (world.dice.key().to_node_id(), world.contact(0));
    let node = world.add(id, &Arc::new(config));
    let contacts = vec![first];
    world.ask(node, Command::Bootstrap { contacts });
    let now = world.unix();
    let records: Vec<_> = (0..60_u8).map(|n| immutable(&[n; 9], now, DAY)).collect();
    for record in &records {
        put(&mut world, 0, record, false);
    }
    world.run_for(Duration::from_secs(2 * 3600));
    assert_eq!(world.nodes[node as usize].shelf.len(), 0);
    turn(&mut world, node, false);
    world.run_for(Duration::from_secs(20 * 60));
    for record in &records {
        let is_holder = world
            .nearest(record.key())
            .into_iter()
            .take(K)
            .any(|near| near == node);
        assert!(!is_holder || holds(&world, node, record));
    }
    assert!(world.nodes[node as usize].shelf.len() > 10);
}

/// A machine alone, and a peer that asks it.
struct Alone {
    machine: Kademlia<u32>,
    out: Outbox<u32>,
    replies: u64,
}

impl Alone {
    fn new() -> Self {
        let local = NodeId::from_limbs([1, 0, 0, 0]);
        Self {
            machine: Kademlia::new(local, Arc::new(Config::default()), 1, Self::now()),
            out: Outbox::new(),
            replies: 0,
        }
    }

    const fn now() -> Now {
        Now {
            monotonic: Instant::from_micros(1_000_000),
            unix: UnixTime::from_secs(1_800_000_000),
        }
    }

    const fn peer() -> Contact<u32> {
        Contact::new(NodeId::from_limbs([u64::MAX, 0, 0, 0]), 9)
    }

    fn feed(&mut self, input: Input<u32>) {
        self.machine.handle(Self::now(), input, &mut self.out);
    }

    /// The peer asks, and its PING by this node, if there is one.
    fn asked(&mut self, read_only: bool) -> Option<RequestId> {
        self.replies += 1;
        let (from, reply_to, request) = (Self::peer(), ReplyId(self.replies), Request::Ping);
        self.feed(Input::Request {
            from,
            read_only,
            reply_to,
            request,
        });
        let mut probe = None;
        while let Some(output) = self.out.pop() {
            if let Output::Request { id, .. } = output {
                probe = Some(id);
            }
        }
        probe
    }

    fn pong(&mut self, id: RequestId) {
        let (unix, observed) = (Self::now().unix, 1);
        let response = Response::Pong { unix, observed };
        self.feed(Input::Response {
            id,
            response,
            rtt: None,
        });
    }

    fn knows_peer(&self) -> bool {
        self.machine.table().get(Self::peer().id).is_some()
    }
}

#[test]
fn what_was_on_its_way_when_a_peer_turned_read_only_does_not_bring_it_back() {
    let mut alone = Alone::new();
    let probe = alone.asked(false).expect("it is PINGed");
    assert_eq!(alone.asked(true), None);
    alone.pong(probe);
    assert!(!alone.knows_peer());
    // Its latest word counts, again and again.
    let probe = alone.asked(false).expect("it is PINGed");
    alone.asked(true);
    alone.asked(false);
    alone.pong(probe);
    assert!(alone.knows_peer());
    alone.asked(true);
    assert!(!alone.knows_peer());
}

#[test]
fn a_role_that_is_said_again_changes_nothing() {
    let mut alone = Alone::new();
    alone.feed(Input::Role { read_only: false });
    assert!(alone.out.is_empty() && !alone.machine.is_read_only());
    alone.feed(Input::Role { read_only: true });
    alone.feed(Input::Role { read_only: true });
    assert!(
        alone.out.is_empty() && alone.machine.is_read_only(),
        "it knows nobody"
    );
    let target = Key::default();
    alone.feed(Input::Request {
        from: Alone::peer(),
        read_only: true,
        reply_to: ReplyId(1),
        request: Request::FindNode { target, card: false },
    });
    let answer = alone.out.pop();
    let rejected = Response::Rejected(Rejection::ReadOnly);
    assert_eq!(
        answer,
        Some(Output::Response {
            reply_to: ReplyId(1),
            response: rejected
        })
    );
}
