//! One test for each rule of the walk, and walks through networks that know everything or lie.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::shortlist::MAX_ADDRESSES;
use super::*;

const LOCAL: NodeId = NodeId::from_limbs([u64::MAX; 4]);
const TARGET: Key = Key::from_limbs([0; 4]);

/// The node at distance n from the target.
fn node(n: u64) -> Contact<u32> {
    Contact::new(NodeId::from_limbs([0, 0, 0, n]), n as u32)
}

fn nodes(range: core::ops::Range<u64>) -> impl Iterator<Item = Contact<u32>> {
    range.map(node)
}

fn lookup(results: usize, paths: usize, seeds: impl Iterator<Item = Contact<u32>>) -> Lookup<u32> {
    let config = LookupConfig {
        results,
        parallelism: 3,
        paths,
    };
    Lookup::new(LOCAL, TARGET, config, seeds)
}

/// All that the lookup wants to ask now, as distances.
fn asked(lookup: &mut Lookup<u32>) -> Vec<u64> {
    let mut asked = Vec::new();
    while let Step::Ask(contact) = lookup.next() {
        asked.push(contact.id.to_limbs()[3]);
    }
    asked
}

fn answer(lookup: &mut Lookup<u32>, from: u64, closer: core::ops::Range<u64>) {
    lookup.on_response(node(from).id, nodes(closer));
}

#[test]
fn no_id_is_asked_at_more_than_three_addresses() {
    let mut lookup = lookup(4, 1, nodes(1..2).chain(nodes(50..70)));
    let mut tries = 0;
    for liar in 50..70 {
        let mut waiting = asked(&mut lookup);
        tries += waiting.iter().filter(|&&id| id == 1).count();
        // Everybody tells another address of node 1; nobody answers there.
        let lies = (0..32).map(|lie| Contact::new(node(1).id, 1000 + 100 * liar as u32 + lie));
        if waiting.contains(&liar) {
            lookup.on_response(node(liar).id, lies);
        }
        waiting.retain(|&id| id == 1);
        for _ in waiting {
            lookup.on_failure(node(1).id);
        }
    }
    assert!(tries <= MAX_ADDRESSES, "{tries} tries");
}

#[test]
fn with_a_small_k_the_last_living_seed_is_found() {
    let mut lookup = lookup(2, 1, nodes(1..65));
    loop {
        let waiting = asked(&mut lookup);
        if waiting.is_empty() {
            break;
        }
        for id in waiting {
            match id {
                64 => answer(&mut lookup, 64, 0..0),
                _ => lookup.on_failure(node(id).id),
            }
        }
    }
    assert_eq!(lookup.results().collect::<Vec<_>>(), [node(64)]);
}
