//! Whether the nearest contacts are kept, whoever came first.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::model::{Action, actions, configs};
use super::{LOCAL, Street, at, far, ids, placed, table_of};
use crate::table::*;

fn near(out: NodeId) -> Admission<Street> {
    let merit = Merit::Near;
    Admission::Replaced { out, merit }
}

/// A table with a full bucket 0 of these, seen in this order.
fn full_of<const K: usize>(contacts: [u64; K], neighbourhood: usize) -> RoutingTable<Street> {
    let mut table = table_of(K);
    table.config.neighbourhood = neighbourhood;
    for (seen, n) in contacts.into_iter().enumerate() {
        assert_eq!(table.answered(at(seen as u64), &far(n), None), Admission::Added);
    }
    table
}

#[test]
fn a_neighbour_enters_a_full_bucket_in_the_place_of_the_farthest_that_is_none() {
    let mut table = full_of([5, 6, 7], 3);
    // A neighbour stays, even one that failed lately.
    assert_eq!(table.failed(Instant::ZERO, &far(5)), Removal::Kept);
    assert!(table.wants(&far(1)));
    let out = far(7).id;
    assert_eq!(table.answered(at(8), &far(1), None), near(out));
    assert_eq!(ids(&table), [5, 6, 1]);
    // Three are nearer.
    assert_eq!(
        table.answered(at(9), &far(8), None),
        Admission::Waiting { probe: Some(far(5)) }
    );
}

#[test]
fn of_those_that_are_no_neighbours_one_that_failed_makes_room_first() {
    let mut table = full_of([5, 6, 7], 1);
    assert_eq!(table.failed(Instant::ZERO, &far(6)), Removal::Kept);
    let out = far(6).id;
    assert_eq!(table.answered(at(9), &far(0), None), near(out));
    assert_eq!(ids(&table), [5, 7, 0]);
}

#[test]
fn who_made_room_for_a_neighbour_waits_and_comes_back() {
    let mut table = full_of([1, 2, 3], 1);
    let out = far(3).id;
    assert_eq!(table.answered(at(5), &far(0), None), near(out));
    let promoted = Some(far(3));
    assert_eq!(
        table.remove(Instant::ZERO, far(1).id),
        Removal::Removed { promoted }
    );
    assert_eq!(ids(&table), [2, 3, 0]);
}

#[test]
fn a_bucket_of_neighbours_only_grows_to_their_number() {
    let mut table = full_of([0, 1, 2], 5);
    for n in [4, 5] {
        assert!(table.wants(&far(n)));
        assert_eq!(table.answered(at(n), &far(n), None), Admission::Added);
    }
    assert_eq!((table.bucket_len(0), table.has_room(0)), (5, false));
    assert!(matches!(
        table.answered(at(6), &far(6), None),
        Admission::Waiting { .. }
    ));
    let out = far(5).id;
    assert_eq!(table.answered(at(6), &far(3), None), near(out));
    // Two nearer ones elsewhere, and two of the five are no longer neighbours. The bucket does not refill beyond its
    // size.
    for n in [1, 2] {
        let near = Contact::new(NodeId::from_limbs([0, 0, 0, n]), Street(1));
        assert_eq!(table.answered(at(7), &near, None), Admission::Added);
    }
    assert_eq!(
        table.remove(Instant::ZERO, far(4).id),
        Removal::Removed { promoted: None }
    );
    assert_eq!(table.bucket_len(0), 4);
}

#[test]
fn nearness_is_no_way_around_the_limits_of_groups() {
    let mut table = table_of(3);
    for n in [5, 6, 7] {
        let _ = table.answered(at(n), &placed(n, 1, n as u32 / 2), None);
    }
    let third = placed(1, 1, 3);
    assert!(!table.wants(&third));
    let refused = Admission::Refused(Refusal::Diversity);
    assert_eq!(table.answered(at(8), &third, None), refused);
}

#[test]
fn among_those_that_wait_a_neighbour_comes_before_the_freshest() {
    let mut table = full_of([0, 1, 2], 3);
    for (seen, n) in [(5, 4), (6, 3), (7, 5)] {
        let _ = table.answered(at(seen), &far(n), None);
    }
    let promoted = Some(far(3));
    assert_eq!(
        table.remove(Instant::ZERO, far(1).id),
        Removal::Removed { promoted }
    );
}

/// Contacts of the table that are nearer than this one.
fn nearer(table: &RoutingTable<Street>, id: NodeId) -> usize {
    let distance = |id: NodeId| LOCAL.distance(id.to_key());
    let nearer = table
        .contacts()
        .filter(|entry| distance(entry.contact.id) < distance(id));
    nearer.count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn who_has_answered_is_in_the_table_unless_it_left_or_as_many_were_nearer(
        actions in actions(),
        config in configs(),
    ) {
        let mut table = RoutingTable::new(LOCAL, config.clone());
        // Those that must be there.
        let mut owed = BTreeSet::new();
        for (step, action) in actions.into_iter().enumerate() {
            let left = match action {
                Action::Answered(contact, rtt) => {
                    let rtt = rtt.map(|rtt| Duration::from_micros(rtt.into()));
                    let admission = table.answered(at(step as u64), &contact, rtt);
                    if !matches!(admission, Admission::Refused(_)) {
                        owed.insert(contact.id);
                    }
                    None
                }
                Action::Failed(contact) => {
                    matches!(table.failed(Instant::ZERO, &contact), Removal::Removed { .. }).then_some(contact.id)
                }
                Action::Remove(id) => {
                    let _ = table.remove(Instant::ZERO, id);
                    Some(id)
                }
            };
            left.map(|id| owed.remove(&id));
            owed.retain(|&id| nearer(&table, id) < config.neighbourhood);
            for &id in &owed {
                prop_assert!(table.get(id).is_some(), "{:?} is missing", id);
            }
            // Whoever is a neighbour stays one until it leaves or others are nearer.
            let ids = table.contacts().map(|entry| entry.contact.id);
            owed.extend(ids.filter(|&id| nearer(&table, id) < config.neighbourhood));
        }
    }

    #[test]
    fn while_nobody_leaves_the_table_has_the_nearest_of_all_that_ever_answered(
        seed in any::<u64>(),
        nodes in 1..400usize,
        k in 1..9usize,
        neighbourhood in 0..30usize,
    ) {
        let mut config = TableConfig::new(k, 0);
        config.neighbourhood = neighbourhood;
        let (mut table, mut rng) = (RoutingTable::new(LOCAL, config), crate::rng::Rng::new(seed));
        let mut ids: Vec<NodeId> = (0..nodes).map(|_| NodeId::from_limbs([rng.next_u64(), 0, 0, 0])).collect();
        for &id in &ids {
            let _ = table.answered(at(1), &Contact::new(id, Street(1)), None);
        }
        ids.sort_by_key(|id| LOCAL.distance(id.to_key()));
        ids.truncate(neighbourhood);
        let mut scratch = ClosestScratch::default();
        let closest = table.closest(LOCAL.to_key(), neighbourhood, &mut scratch);
        prop_assert_eq!(closest.map(|entry| entry.contact.id).collect::<Vec<_>>(), ids);
    }
}
