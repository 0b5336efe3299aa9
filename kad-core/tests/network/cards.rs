//! Nodes that nobody can dial are found by the cards that they leave with those nearest to their ids.

use std::sync::Arc;

use kad_core::{
    Command, Config, Contact, Keypair, MAX_CARD_BYTES, MutableVersion, Outcome, Record, Request, Response,
    Source, StoreEntry, StoreOp,
};

use crate::records::{DAY, holds, put, rules};
use crate::simulation::Simulation;

fn card(owner: &Keypair, world: &Simulation, seq: u64, value: &[u8]) -> Record {
    let now = world.unix();
    let version = MutableVersion {
        salt: b"",
        seq,
        issued: now,
        expiry: now + DAY,
        value: Some(value),
    };
    Record::mutable(owner, &version, &rules(), now).expect("a fair record")
}

/// A network, and a node that only asks and has joined it.
fn with_asker(seed: u64, nodes: usize) -> (Simulation, u32, Keypair) {
    let mut world = Simulation::joined(seed, nodes, &Config::default());
    let owner = Keypair::from_secret(&[seed as u8; 32]);
    let mut config = Config::default();
    config.read_only = true;
    let (node, first) = (world.add(owner.node_id(), &Arc::new(config)), world.contact(0));
    let contacts = vec![first];
    world.ask(node, Command::Bootstrap { contacts });
    (world, node, owner)
}

fn located(world: &mut Simulation, asker: u32, of: &Keypair) -> (Vec<Contact<u32>>, Option<Record>) {
    match world.ask(asker, Command::Locate { id: of.node_id() }).0 {
        Outcome::Located { closest, card } => (closest, card),
        other => panic!("{other:?}"),
    }
}

/// Puts a record into one store, past everybody.
fn smuggle(world: &mut Simulation, node: u32, record: &Record) {
    let now = world.unix();
    let op = StoreOp::Put {
        entries: vec![StoreEntry::from(record.clone())],
        due: now + DAY,
        own: false,
        source: Source::UNKNOWN,
        sender: None,
    };
    world.nodes[node as usize].shelf.carry_out(op, now);
}

#[test]
fn a_node_in_nobodys_table_is_found_by_its_id_from_everywhere() {
    let (mut world, node, owner) = with_asker(801, 120);
    let card = card(&owner, &world, 5, b"behind relay 7");
    put(&mut world, node, &card, true);
    for asker in (0..120).step_by(7) {
        let (closest, found) = located(&mut world, asker, &owner);
        assert_eq!(found.as_ref(), Some(&card), "asked by {asker}");
        assert!(closest.iter().all(|contact| contact.id != owner.node_id()));
    }
    // It finds itself as well: its own store has the card.
    assert_eq!(located(&mut world, node, &owner).1, Some(card));
}

#[test]
fn of_several_versions_of_a_card_the_newest_is_told() {
    let (mut world, _, owner) = with_asker(802, 60);
    let (old, new) = (card(&owner, &world, 5, b"old"), card(&owner, &world, 6, b"new"));
    let nearest: Vec<u32> = world
        .nearest(owner.node_id().to_key())
        .into_iter()
        .take(20)
        .collect();
    for &holder in &nearest {
        smuggle(&mut world, holder, &old);
    }
    assert_eq!(located(&mut world, 1, &owner).1, Some(old));
    // One of all of them knows better.
    smuggle(&mut world, nearest[11], &new);
    for asker in 0..10 {
        assert_eq!(located(&mut world, asker, &owner).1.as_ref(), Some(&new));
    }
    let deleted = MutableVersion {
        salt: b"",
        seq: 7,
        issued: world.unix(),
        expiry: world.unix() + rules().max_lifetime,
        value: None,
    };
    let deleted = Record::mutable(&owner, &deleted, &rules(), world.unix()).unwrap();
    smuggle(&mut world, nearest[3], &deleted);
    assert_eq!(
        located(&mut world, 5, &owner).1,
        Some(deleted),
        "a deletion is a version"
    );
}

#[test]
fn a_card_is_told_with_its_exact_id_only_and_to_those_who_want_it() {
    let (mut world, _, owner) = with_asker(803, 30);
    let card = card(&owner, &world, 5, b"here");
    smuggle(&mut world, 3, &card);
    let key = owner.node_id().to_key();
    let mut ask = |target, card| match world.serve(3, Request::FindNode { target, card }) {
        Response::Nodes { closer, card } => {
            assert!(!closer.is_empty());
            card
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(ask(key, true), Some(card));
    assert_eq!(ask(key, false), None);
    let mut beside = key.to_bytes();
    beside[31] ^= 1;
    assert_eq!(ask(kad_core::Key::from_bytes(beside), true), None);
}

#[test]
fn what_is_too_large_to_be_a_card_is_not_told_as_one() {
    let (mut world, _, owner) = with_asker(804, 20);
    let overhead = card(&owner, &world, 5, b"").as_bytes().len();
    let largest = card(&owner, &world, 5, &vec![1; MAX_CARD_BYTES - overhead]);
    for &holder in &[2, 3, 4] {
        smuggle(&mut world, holder, &largest);
    }
    assert_eq!(located(&mut world, 9, &owner).1, Some(largest));
    let larger = card(&owner, &world, 6, &vec![1; MAX_CARD_BYTES - overhead + 1]);
    for node in 0..20 {
        smuggle(&mut world, node, &larger);
        assert!(holds(&world, node, &larger));
    }
    assert_eq!(
        located(&mut world, 10, &owner).1,
        Some(larger),
        "its own store says what it has"
    );
    world.nodes[11].shelf = crate::shelf::Shelf::default();
    assert_eq!(located(&mut world, 11, &owner).1, None);
}

#[test]
fn where_too_much_waits_for_the_store_contacts_are_told_and_no_card() {
    let mut config = Config::default();
    config.max_pending_requests = 0;
    let mut world = Simulation::joined(805, 5, &config);
    let owner = Keypair::from_secret(&[9; 32]);
    let card = card(&owner, &world, 5, b"here");
    smuggle(&mut world, 3, &card);
    let target = owner.node_id().to_key();
    let answer = world.serve(3, Request::FindNode { target, card: true });
    assert!(matches!(answer, Response::Nodes { closer, card: None } if !closer.is_empty()));
}
