//! What becomes of many records whose holders are late, or not there.

use alloc::vec;

use super::*;
use crate::lookup::LookupConfig;
use crate::{Contact, Key, NetworkId, Parameters, Rules, UnixTime};

const K: usize = 4;

/// A record whose key begins with this bit.
fn record(first_bit: u64) -> Record {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("test", &parameters), &parameters);
    let (now, end) = (UnixTime::from_secs(100), UnixTime::from_secs(200));
    let any =
        (0_u64..).map(|n| Record::immutable(&n.to_be_bytes(), end, &rules, now).expect("a small value"));
    let mut fits = any.filter(|record| record.key().to_limbs()[0] >> 63 == first_bit);
    fits.next().expect("half of all do")
}

fn region(record: &Record) -> Prefix {
    Prefix::new(record.key().to_limbs()[0], 1)
}

fn task(records: Vec<Record>, keep: bool) -> StoreMany<u32> {
    let placing = Placing {
        k: K,
        me: None,
        population: None,
    };
    StoreMany::new(region(&records[0]), records, keep, placing, K)
}

fn node(n: u32) -> Contact<u32> {
    Contact::new(NodeId::from_limbs([u64::from(n), 0, 0, 0]), n)
}

/// A walk on which these nodes answer.
fn walk(target: Key, nodes: u32) -> Lookup<u32> {
    let seeds = (1..=nodes).map(|n| node(n).into());
    let mut lookup = Lookup::new(NodeId::default(), target, LookupConfig::new(2 * K, 3, 1), seeds);
    while let Step::Ask(contact) = lookup.next() {
        lookup.on_response(contact.id, core::iter::empty());
    }
    lookup
}

/// Who is sent a STORE, until there is nothing more to be sent.
fn sent(task: &mut StoreMany<u32>, mut lookup: Lookup<u32>) -> Vec<u32> {
    let mut sent = Vec::new();
    while let Todo::Ask(contact, Request::Store { .. }) = task.next(Some(&mut lookup), false) {
        sent.push(contact.address);
    }
    sent.sort_unstable();
    sent
}

fn placements(task: &StoreMany<u32>) -> Vec<Placement<u32>> {
    match task.outcome() {
        Some(Outcome::StoredMany { placements }) => placements,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_late_answer_of_one_walk_is_not_taken_for_that_to_a_store_of_the_next() {
    let records = vec![record(0), record(1)];
    let mut task = task(records.clone(), false);
    assert_eq!(sent(&mut task, walk(records[0].key(), 2)), [1, 2]);
    task.on_verdicts(node(1).id, &[Verdict::Stored]);
    task.on_failure(node(2).id);
    let Todo::WalkTo(key) = task.next(None, true) else {
        panic!("the other region is left");
    };
    assert_eq!(key, records[1].key());
    task.begin(region(&records[1]));
    assert_eq!(
        sent(&mut task, walk(key, 2)),
        [1],
        "the other one has been given up"
    );
    task.on_verdicts(node(2).id, &[Verdict::Stored]);
    task.on_verdicts(node(1).id, &[Verdict::Stored]);
    for placement in placements(&task) {
        assert_eq!(placement.holders, [node(1)]);
    }
}

#[test]
fn of_nodes_that_have_failed_so_many_are_remembered() {
    let mut task = task(vec![record(0)], false);
    assert_eq!(sent(&mut task, walk(record(0).key(), 1)), [1]);
    for n in 0..2 * MAX_GONE as u32 {
        task.on_failure(node(n).id);
        task.on_failure(node(n).id);
        assert_eq!(task.gone.len(), MAX_GONE.min(n as usize + 1));
    }
    assert_eq!(task.gone[0], node(MAX_GONE as u32).id);
}
