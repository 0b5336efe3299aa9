//! For which keys a node is one of the nearest, compared with asking of every key.

use alloc::vec::Vec;

use proptest::prelude::*;

use crate::rng::Rng;
use crate::table::responsibility::MAX_RESPONSIBILITIES;
use crate::table::{RoutingTable, TableConfig};
use crate::{Contact, Instant, Key, NodeId};

/// A table that has answers of `nodes` random contacts, and the generator that made them.
fn table(seed: u64, nodes: usize, k: usize) -> (RoutingTable<u32>, Vec<NodeId>, Rng) {
    let mut rng = Rng::new(seed);
    let mut id = || NodeId::from_limbs([0; 4].map(|_: u64| rng.next_u64()));
    let mut table = RoutingTable::new(id(), TableConfig::new(k, 0));
    let ids: Vec<_> = (0..nodes).map(|_| id()).collect();
    for &id in &ids {
        let _ = table.answered(Instant::ZERO, &Contact::new(id, 1), None);
    }
    (table, ids, rng)
}

fn is_responsible(table: &RoutingTable<u32>, key: Key, k: usize) -> bool {
    let own = table.local().distance(key);
    let nearer = table
        .contacts()
        .filter(|entry| entry.contact.id.distance(key) < own);
    nearer.count() < k
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_key_lies_in_a_prefix_exactly_if_fewer_than_k_contacts_are_nearer(
        seed: u64, nodes in 0usize..400, k in 1usize..24,
    ) {
        let (table, ids, mut rng) = table(seed, nodes, k);
        let found = table.responsibilities(k);
        prop_assert!(found.len() <= MAX_RESPONSIBILITIES);
        let own = table.local().to_key();
        for _ in 0..300 {
            // Points all around, most of them near to the own id or to that of somebody else.
            let near = ids.get(rng.next_u64() as usize % (ids.len() + 1)).map_or(own, |id| id.to_key());
            let near = if rng.next_u64().is_multiple_of(2) { own } else { near };
            let bits = rng.next_u64() >> (rng.next_u64() % 63);
            let [top, ..] = near.to_limbs();
            let key = Key::from_limbs([top ^ bits, rng.next_u64(), 0, 0]);
            let within = found.iter().filter(|prefix| prefix.contains(key)).count();
            let right = usize::from(is_responsible(&table, key, k));
            // With too many parts to tell, some are told as a whole.
            prop_assert!(within == right || found.len() == MAX_RESPONSIBILITIES && within == 1, "{:?}", key);
        }
    }
}

#[test]
fn with_buckets_of_twenty_nobody_has_too_many_parts_to_tell() {
    for seed in 0..200 {
        let (table, ..) = table(seed, 2_000, 20);
        let found = table.responsibilities(20);
        assert!(found.len() < MAX_RESPONSIBILITIES, "seed {seed}: {}", found.len());
    }
}

#[test]
fn among_few_nodes_each_is_responsible_for_everything_and_for_the_own_id_always() {
    let (few, ..) = table(1, 19, 20);
    assert_eq!(few.responsibilities(20), [crate::Prefix::ALL]);
    let (many, ..) = table(2, 20_000, 20);
    let found = many.responsibilities(20);
    let own = many.local().to_key();
    assert!(found.iter().any(|prefix| prefix.contains(own)), "{found:?}");
}
