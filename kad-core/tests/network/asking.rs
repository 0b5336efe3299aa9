//! One question to one contact, and what a series of them finds out about its table.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use kad_core::table::ClosestScratch;
use kad_core::{
    Command, Config, Contact, Duration, Event, Failure, Input, Kademlia, Key, NodeId, Now, Outbox, Outcome,
    Output, QueryError, QueryId, Rejection, RequestId, Response,
};

use crate::simulation::Simulation;

fn told(world: &mut Simulation, asker: u32, contact: Contact<u32>, target: Key) -> Vec<Contact<u32>> {
    let (outcome, effort) = world.ask(asker, Command::Ask { contact, target });
    let Outcome::Told { closer, took } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((effort.requests, effort.failures), (1, 0));
    assert!(took > Duration::ZERO && took <= 2 * world.longest_way, "{took:?}");
    closer
}

#[test]
fn the_contact_that_is_asked_tells_the_nearest_of_its_table_and_nobody_else_is_asked() {
    let mut world = Simulation::joined(201, 80, &Config::default());
    for round in 0..40 {
        let (asker, asked) = (round, 79 - round);
        let (contact, target) = (world.contact(asked), world.dice.key());
        let mut scratch = ClosestScratch::default();
        let table = world.nodes[asked as usize].machine.machine().table();
        let nearest = table.closest(target, 26, &mut scratch);
        let nearest = nearest
            .map(|entry| *entry.contact)
            .filter(|known| known.address != asker);
        let expected: Vec<_> = nearest.take(25).collect();
        // k and a quarter more, the fastest first from where it is.
        let mut nearest = told(&mut world, asker, contact, target);
        nearest.sort_by_key(|known| known.id.distance(target));
        assert_eq!(nearest, expected);
        // As whoever answers, it is in the table now, with its round trip, unless its bucket was full.
        let table = world.nodes[asker as usize].machine.machine().table();
        let bucket = contact.id.distance(world.id(asker).to_key()).leading_zeros();
        let entry = table.get(contact.id);
        assert!(entry.is_some() || !table.has_room(bucket));
        assert!(entry.is_none_or(|entry| entry.rtt.is_some()));
    }
}

/// The point at which an answer begins with bucket `index` of the table of `id`.
fn flipped(id: NodeId, index: u32) -> Key {
    let mut limbs = id.to_limbs();
    limbs[(index / 64) as usize] ^= 1 << (63 - index % 64);
    Key::from_limbs(limbs)
}

#[test]
fn bucket_by_bucket_a_contact_tells_its_whole_table() {
    let mut world = Simulation::joined(202, 200, &Config::default());
    for asked in 1..20 {
        let contact = world.contact(asked);
        let known = |world: &Simulation| -> BTreeSet<NodeId> {
            let table = world.nodes[asked as usize].machine.machine().table();
            let all = table.contacts().map(|entry| entry.contact.id);
            all.filter(|&id| id != world.id(0)).collect()
        };
        let before = known(&world);
        let mut found = BTreeSet::new();
        for index in 0..256 {
            let closer = told(&mut world, 0, contact, flipped(contact.id, index));
            let shares = |known: &Contact<u32>| known.id.distance(contact.id.to_key()).leading_zeros();
            let beyond = closer.iter().any(|known| shares(known) < index);
            found.extend(closer.iter().map(|known| known.id));
            if beyond {
                break; // All that share more bits were nearer.
            }
        }
        // Contacts take each other's places meanwhile, and what has just come in waits for its turn to be asked for.
        let after = known(&world);
        let stayed: BTreeSet<_> = &before & &after;
        assert!(found.is_superset(&stayed), "{:?} are missing", &stayed - &found);
        assert!(before.len() - stayed.len() <= 5 && found.len() - stayed.len() <= 10);
    }
}

#[test]
fn a_question_to_the_dead_ends_unanswered_and_one_to_itself_is_not_asked() {
    let mut world = Simulation::joined(203, 30, &Config::default());
    world.kill(4);
    world.kill(5);
    let stranger = Contact::new(world.dice.key().to_node_id(), 6);
    for contact in [world.contact(4), world.contact(5), stranger] {
        let target = world.dice.key();
        let (outcome, effort) = world.ask(1, Command::Ask { contact, target });
        assert_eq!(outcome, Outcome::Failed(QueryError::Unanswered));
        assert_eq!((effort.requests, effort.failures), (1, 1));
    }
    let (contact, target) = (world.contact(1), world.dice.key());
    let (outcome, effort) = world.ask(1, Command::Ask { contact, target });
    assert_eq!(outcome, Outcome::Failed(QueryError::NotAsked));
    assert_eq!(effort.requests, 0);
}

/// A machine that asks contacts of one address, whose answers are given by hand.
struct Asker {
    machine: Kademlia<SocketAddr>,
    out: Outbox<SocketAddr>,
    asked: u64,
}

impl Asker {
    fn new() -> Self {
        let machine = Kademlia::new(NodeId::default(), Arc::new(Config::default()), 1, Now::default());
        let (out, asked) = (Outbox::new(), 0);
        Self { machine, out, asked }
    }

    /// Asks the next contact of a host; its request, if one was sent.
    fn ask(&mut self, host: [u8; 4]) -> Option<RequestId> {
        self.asked += 1;
        let address = SocketAddr::from((host, 4000 + self.asked as u16));
        let contact = Contact::new(NodeId::from_limbs([self.asked, 0, 0, 1]), address);
        let target = Key::default();
        self.machine.handle(
            Now::default(),
            Input::Command {
                query: QueryId(self.asked),
                command: Command::Ask { contact, target },
            },
            &mut self.out,
        );
        self.out.iter().find_map(|output| match output {
            Output::Request { id, .. } => Some(*id),
            _ => None,
        })
    }

    /// What the last question came to, after an input if there is one.
    fn outcome(&mut self, input: Option<Input<SocketAddr>>) -> Option<Outcome<SocketAddr>> {
        if let Some(input) = input {
            self.machine.handle(Now::default(), input, &mut self.out);
        }
        let mut outcome = None;
        while let Some(output) = self.out.pop() {
            if let Output::Event(Event::QueryFinished { outcome: ended, .. }) = output {
                outcome = Some(ended);
            }
        }
        outcome
    }
}

#[test]
fn who_is_there_and_does_not_tell_is_told_from_who_is_silent() {
    let rejected = |reason| Response::Rejected(reason);
    let (unix, observed) = (Now::default().unix, SocketAddr::from(([10, 0, 0, 1], 1)));
    let refused = [
        rejected(Rejection::Busy),
        rejected(Rejection::ReadOnly),
        rejected(Rejection::Unsupported),
        Response::Pong { unix, observed },
    ];
    let mut asker = Asker::new();
    let failed = |error| Some(Outcome::Failed(error));
    for response in refused {
        let id = asker
            .ask([10, 0, 0, 1])
            .expect("private addresses are not rationed");
        let rtt = None;
        let outcome = asker.outcome(Some(Input::Response { id, response, rtt }));
        assert_eq!(outcome, failed(QueryError::Refused));
    }
    for (failure, error) in [
        (Failure::Unreachable, QueryError::Unanswered),
        (Failure::WrongIdentity, QueryError::Unanswered),
        (Failure::Busy, QueryError::Refused),
        (Failure::Malformed, QueryError::Refused),
        (Failure::Local, QueryError::NotAsked),
    ] {
        let id = asker
            .ask([10, 0, 0, 1])
            .expect("private addresses are not rationed");
        let outcome = asker.outcome(Some(Input::Failure { id, failure }));
        assert_eq!(outcome, failed(error), "{failure:?}");
    }
}

#[test]
fn questions_to_one_host_are_rationed_like_every_dial_on_hearsay() {
    let mut asker = Asker::new();
    let victim = [198, 18, 0, 1];
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(asker.ask(victim).expect("four at a time"));
        assert_eq!(asker.outcome(None), None);
    }
    assert_eq!(asker.ask(victim), None);
    assert_eq!(asker.outcome(None), Some(Outcome::Failed(QueryError::NotAsked)));
    assert_eq!(asker.machine.stats().rationed, 1);
    // One that answered has proven its address, and makes room.
    let response = Response::Nodes {
        closer: Vec::new(),
        card: None,
    };
    let rtt = Some(Duration::from_millis(3));
    let told = asker.outcome(Some(Input::Response {
        id: ids[0],
        response,
        rtt,
    }));
    let (closer, took) = (Vec::new(), Duration::from_millis(3));
    assert_eq!(told, Some(Outcome::Told { closer, took }));
    assert!(asker.ask(victim).is_some());
}
