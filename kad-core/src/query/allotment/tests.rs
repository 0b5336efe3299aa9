//! Who gets which record, and what becomes of it.

use alloc::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::lookup::{LookupConfig, Step};
use crate::rng::Rng;
use crate::{NetworkId, Parameters, Rules, UnixTime};

const K: usize = 4;

fn record(number: u64, bytes: usize) -> Record {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("test", &parameters), &parameters);
    let (now, end) = (UnixTime::from_secs(100), UnixTime::from_secs(200));
    let mut value = alloc::vec![0; bytes.max(8)];
    value[..8].copy_from_slice(&number.to_be_bytes());
    Record::immutable(&value, end, &rules, now).expect("a small value")
}

fn allotment(seed: u64, nodes: usize, me: bool) -> Allotment<u32> {
    let mut rng = Rng::new(seed);
    let mut id = || NodeId::from_limbs([(); 4].map(|()| rng.next_u64()));
    let placing = Placing {
        k: K,
        me: me.then(&mut id),
        population: None,
    };
    let contacts: Vec<_> = (0..nodes as u32).map(|n| Contact::new(id(), n)).collect();
    Allotment::of(contacts.into_iter(), Prefix::ALL, placing)
}

proptest! {
    #[test]
    fn the_nearest_that_live_get_each_record_once_in_stores_that_are_small_enough(
        seed: u64,
        nodes in 0_usize..12,
        me: bool,
        dead in prop::collection::vec(any::<bool>(), 12),
        sizes in prop::collection::vec(prop_oneof![1_usize..100, 20_000_usize..60_000], 1..100),
    ) {
        let mut allotment = allotment(seed, nodes, me);
        for (number, size) in sizes.iter().enumerate() {
            prop_assert!(allotment.add(record(number as u64, *size)).is_ok());
        }
        let mut got: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
        let mut stores = 0;
        while let Some((contact, entries)) = allotment.next() {
            stores += 1;
            let records: Vec<Record> = entries.into_iter().filter_map(|entry| entry.record.ok()).collect();
            let bytes: usize = records.iter().map(|record| record.as_bytes().len()).sum();
            prop_assert!(!records.is_empty() && records.len() <= MAX_RECORDS);
            prop_assert!(bytes <= MAX_RECORD_BYTES || records.len() == 1);
            if dead[contact.address as usize] {
                allotment.on_failure(contact.id);
            } else {
                allotment.on_verdicts(contact.id, &alloc::vec![Verdict::Stored; records.len()]);
                got.entry(contact.address).or_default().extend(records);
            }
        }
        prop_assert!(allotment.is_sent() && stores <= nodes * sizes.len());
        let living: Vec<(u32, NodeId)> = allotment.nodes.iter()
            .map(|node| (node.contact.address, node.contact.id))
            .filter(|(address, _)| !dead[*address as usize])
            .collect();
        for (place, held) in allotment.records().iter().enumerate() {
            let key = held.record.key();
            let mut nearest = living.clone();
            nearest.sort_by_key(|(_, id)| id.distance(key));
            // Dead nodes that are nearer still count where it is asked whether this node is one of the k nearest.
            nearest.truncate(held.wanted);
            let mut wanted: Vec<u32> = nearest.iter().map(|(address, _)| *address).collect();
            wanted.sort_unstable();
            let mut holders: Vec<u32> = allotment.said_of(place).holders.iter().map(|holder| holder.address).collect();
            holders.sort_unstable();
            prop_assert_eq!(&holders, &wanted);
            prop_assert_eq!(held.acknowledged(), wanted.len());
            for (address, records) in &got {
                let times = records.iter().filter(|record| **record == held.record).count();
                prop_assert_eq!(times, usize::from(wanted.contains(address)));
            }
        }
    }
}

#[test]
fn of_a_region_with_more_nodes_than_were_found_only_the_part_around_the_point_is_known() {
    let placing = Placing {
        k: K,
        me: None,
        population: None,
    };
    let id = |top: u64| NodeId::from_limbs([top << 56, 0, 0, 1]);
    let known = |tops: &[u64], length| {
        let seeds = tops.iter().map(|&top| Contact::new(id(top), top as u32).into());
        let config = LookupConfig::new(2 * K, 3, 1);
        let mut lookup = Lookup::new(NodeId::default(), Key::from_limbs([0, 0, 0, 2]), config, seeds);
        while let Step::Ask(contact) = lookup.next() {
            lookup.on_response(contact.id, core::iter::empty());
        }
        Allotment::new(&lookup, Prefix::new(0, length), placing, &[])
            .known()
            .len()
    };
    let eight = [1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(
        known(&eight, 3),
        5,
        "all eight begin with 0000, and some with 00001"
    );
    assert_eq!(known(&eight, 4), 5);
    assert_eq!(
        known(&eight, 5),
        5,
        "one lies outside, so those inside are all known"
    );
    assert_eq!(
        known(&eight[..7], 3),
        3,
        "fewer than were looked for are all that there are"
    );
}

#[test]
fn a_node_has_one_store_at_a_time_and_its_late_answer_counts() {
    let mut allotment = allotment(1, 2, false);
    (0..100).for_each(|number| allotment.add(record(number, 8)).expect("nobody is a crowd"));
    let (first, entries) = allotment.next().expect("two nodes");
    let (second, _) = allotment.next().expect("two nodes");
    assert!(first.id != second.id && entries.len() == MAX_RECORDS);
    assert!(allotment.next().is_none() && !allotment.is_sent());
    allotment.on_failure(first.id);
    allotment.on_verdicts(first.id, &[Verdict::Stored, Verdict::Full]);
    assert_eq!(allotment.records()[0].acknowledged(), 1);
    assert_eq!(allotment.said_of(1).refused, [(first, Verdict::Full)]);
    allotment.on_verdicts(second.id, &[Verdict::Stored; MAX_RECORDS]);
    let (next, rest) = allotment.next().expect("36 records are left");
    assert_eq!((next.id, rest.len()), (second.id, 100 - MAX_RECORDS));
}

#[test]
fn unknown_nodes_and_too_many_verdicts_change_nothing() {
    let mut allotment = allotment(2, 1, false);
    allotment.add(record(1, 8)).expect("nobody is a crowd");
    allotment.on_failure(NodeId::default());
    allotment.on_verdicts(NodeId::default(), &[Verdict::Stored]);
    let (node, _) = allotment.next().expect("one node");
    allotment.on_verdicts(node.id, &[Verdict::Stored; 9]);
    allotment.on_verdicts(node.id, &[Verdict::Full]);
    assert_eq!(allotment.records()[0].acknowledged(), 1);
}
