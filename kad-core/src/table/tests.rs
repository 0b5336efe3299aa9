//! One test for each rule of the table.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

/// An address whose groups are its upper bytes, or none if they are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Street(u32);

impl Address for Street {
    fn groups(&self) -> Option<AddressGroups> {
        (self.0 >= 1 << 16).then_some(AddressGroups {
            wide: u64::from(self.0 >> 24),
            narrow: u64::from(self.0 >> 16),
        })
    }
}

const LOCAL: NodeId = NodeId::from_limbs([0; 4]);

/// The nth contact of bucket 0, at a private address.
fn far(n: u64) -> Contact<Street> {
    Contact::new(NodeId::from_limbs([1 << 63, 0, 0, n]), Street(n as u32))
}

fn at(micros: u64) -> Instant {
    Instant::from_micros(micros)
}

fn table_of(k: usize) -> RoutingTable<Street> {
    RoutingTable::new(LOCAL, TableConfig::new(k, 0))
}

/// A table whose bucket 0 holds the contacts 0..k, seen in that order.
fn full(k: u64) -> RoutingTable<Street> {
    let mut table = table_of(k as usize);
    for n in 0..k {
        assert_eq!(table.answered(at(n), &far(n), None), Admission::Added);
    }
    table
}

fn ids(table: &RoutingTable<Street>) -> Vec<u64> {
    table
        .contacts()
        .map(|entry| entry.contact.id.to_limbs()[3])
        .collect()
}

#[test]
fn a_failure_at_an_address_from_hearsay_counts_against_nobody() {
    let mut table = full(2);
    assert_eq!(
        table.answered(at(9), &far(2), None),
        Admission::Waiting { probe: Some(far(0)) }
    );
    for n in [0, 2] {
        let lie = Contact::new(far(n).id, Street(99));
        assert_eq!(table.failed(&lie), Removal::Unknown);
        assert_eq!(table.failed(&lie), Removal::Unknown);
    }
    let promoted = Some(far(2));
    assert_eq!(table.remove(far(0).id), Removal::Removed { promoted });
}

/// The nth contact of bucket 0 in a group of addresses.
fn placed(n: u64, wide: u32, narrow: u32) -> Contact<Street> {
    Contact::new(far(n).id, Street(wide << 24 | narrow << 16 | n as u32))
}

#[test]
fn a_bucket_takes_two_of_a_narrow_group_and_five_of_a_wide_one() {
    let mut table = table_of(20);
    let refused = Admission::Refused(Refusal::Diversity);
    for (n, wide, narrow, takes) in [
        (0, 1, 1, true),
        (1, 1, 1, true),
        (2, 1, 1, false),
        (3, 1, 2, true),
        (4, 1, 3, true),
        (5, 1, 4, true),
        (6, 1, 5, false),
        (7, 2, 1, true),
    ] {
        let contact = placed(n, wide, narrow);
        assert_eq!(table.wants(&contact), takes, "contact {n}");
        let expected = if takes { Admission::Added } else { refused.clone() };
        assert_eq!(table.answered(at(n), &contact, None), expected, "contact {n}");
    }
}

#[test]
fn a_contact_that_moves_into_a_full_group_stays_where_it_was() {
    let mut table = table_of(20);
    for (n, narrow) in [(0, 1), (1, 1), (2, 2)] {
        assert_eq!(
            table.answered(at(n), &placed(n, 1, narrow), None),
            Admission::Added
        );
    }
    let moved = placed(2, 1, 1);
    assert!(!table.wants(&moved));
    assert_eq!(
        table.answered(at(9), &moved, None),
        Admission::Refused(Refusal::Diversity)
    );
    assert_eq!(
        table.get(moved.id).map(|entry| *entry.contact),
        Some(placed(2, 1, 2))
    );
    // Within its own group it may move.
    assert_eq!(table.answered(at(9), &placed(0, 1, 1), None), Admission::Updated);
    assert_eq!(table.answered(at(9), &placed(2, 1, 3), None), Admission::Updated);
}

#[test]
fn a_full_bucket_keeps_its_old_live_contacts() {
    let mut table = full(3);
    for newcomer in 3..50 {
        let probe = Some(far(0));
        assert_eq!(
            table.answered(at(newcomer), &far(newcomer), None),
            Admission::Waiting { probe }
        );
    }
    assert_eq!(ids(&table), [0, 1, 2]);
}

#[test]
fn two_failures_in_a_row_end_a_place_and_the_freshest_that_waits_takes_it() {
    let mut table = full(3);
    for waiting in 3..6 {
        let _ = table.answered(at(waiting), &far(waiting), None);
    }
    assert_eq!(table.failed(&far(1)), Removal::Kept);
    let promoted = Some(far(5));
    assert_eq!(table.failed(&far(1)), Removal::Removed { promoted });
    assert_eq!(ids(&table), [0, 2, 5]);
}

#[test]
fn an_answer_clears_the_failures() {
    let mut table = full(2);
    for _ in 0..5 {
        assert_eq!(table.failed(&far(0)), Removal::Kept);
        assert_eq!(table.answered(at(9), &far(0), None), Admission::Updated);
    }
    assert_eq!(table.len(), 2);
}

#[test]
fn whoever_answers_becomes_the_most_recently_seen() {
    let mut table = full(3);
    let _ = table.answered(at(5), &far(0), None);
    assert_eq!(ids(&table), [1, 2, 0]);
    let probe = Some(far(1));
    assert_eq!(table.answered(at(6), &far(7), None), Admission::Waiting { probe });
}

#[test]
fn a_contact_seen_this_very_moment_is_not_probed() {
    let mut table = table_of(1);
    let _ = table.answered(at(5), &far(0), None);
    assert_eq!(
        table.answered(at(5), &far(1), None),
        Admission::Waiting { probe: None }
    );
}

#[test]
fn the_own_id_is_refused() {
    let mut table = table_of(3);
    let own = Contact::new(LOCAL, Street(1));
    assert!(!table.wants(&own));
    assert_eq!(
        table.answered(at(1), &own, None),
        Admission::Refused(Refusal::Own)
    );
    assert_eq!(table.failed(&own), Removal::Unknown);
}

#[test]
fn an_id_without_its_work_is_refused() {
    let mut table = RoutingTable::new(LOCAL, TableConfig::new(20, 4));
    for n in 0..100 {
        let worked = far(n).id.puzzle_bits() >= 4;
        let admitted = table.answered(at(n), &far(n), None);
        assert_eq!(admitted == Admission::Refused(Refusal::Puzzle), !worked);
    }
    assert!(!table.is_empty() && table.len() < 30);
}

#[test]
fn wide_buckets_take_more() {
    let mut config = TableConfig::new(2, 0);
    config.wide = alloc::vec![5];
    let mut table = RoutingTable::new(LOCAL, config);
    for n in 0..10 {
        let _ = table.answered(at(n), &far(n), None);
        let _ = table.answered(
            at(n),
            &Contact::new(NodeId::from_limbs([1 << 62, 0, 0, n]), Street(1)),
            None,
        );
    }
    assert_eq!((table.bucket_len(0), table.bucket_len(1)), (5, 2));
}

#[test]
fn round_trips_are_smoothed_and_forgotten_with_the_address() {
    let mut table = table_of(2);
    let ms = Duration::from_millis;
    let _ = table.answered(at(1), &far(0), Some(ms(80)));
    let entry = table.get(far(0).id).unwrap();
    assert_eq!((entry.rtt, entry.deviation), (Some(ms(80)), ms(40)));
    let _ = table.answered(at(2), &far(0), Some(ms(160)));
    let entry = table.get(far(0).id).unwrap();
    assert_eq!((entry.rtt, entry.deviation), (Some(ms(90)), ms(50)));
    let _ = table.answered(at(3), &far(0), Some(Duration::MAX));
    assert!(table.get(far(0).id).unwrap().deviation < Duration::from_secs(17));
    let _ = table.answered(at(4), &Contact::new(far(0).id, Street(77)), None);
    assert_eq!(table.get(far(0).id).unwrap().rtt, None);
}

/// The table as one would write it without a thought for memory: a list for each bucket.
#[derive(Default)]
struct Model {
    live: BTreeMap<u32, Vec<Held>>,
    waiting: BTreeMap<u32, Vec<Held>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Held {
    contact: Contact<Street>,
    seen: Instant,
    failures: u8,
}

impl Model {
    fn refusal(&self, config: &TableConfig, index: u32, contact: &Contact<Street>) -> bool {
        let Some(groups) = contact.address.groups() else {
            return false;
        };
        let count = |bucket: Option<u32>, same: &dyn Fn(AddressGroups) -> bool| {
            let held = self
                .live
                .iter()
                .filter(|(at, _)| bucket.is_none_or(|bucket| bucket == **at));
            let others = held
                .flat_map(|(_, held)| held)
                .filter(|held| held.contact.id != contact.id);
            others
                .filter(|held| held.contact.address.groups().is_some_and(same))
                .count()
        };
        let narrow = |other: AddressGroups| other.narrow == groups.narrow;
        let wide = |other: AddressGroups| other.wide == groups.wide;
        count(Some(index), &narrow) >= config.groups.narrow_per_bucket
            || count(None, &narrow) >= config.groups.narrow_per_table
            || count(Some(index), &wide) >= config.groups.wide_per_bucket
            || count(None, &wide) >= config.groups.wide_per_table
    }

    fn answered(&mut self, config: &TableConfig, now: Instant, contact: &Contact<Street>) {
        let index = LOCAL.distance(contact.id.to_key()).leading_zeros();
        if index == ID_BITS {
            return;
        }
        let refused = self.refusal(config, index, contact);
        let new = Held {
            contact: *contact,
            seen: now,
            failures: 0,
        };
        let live = self.live.entry(index).or_default();
        let waiting = self.waiting.entry(index).or_default();
        if let Some(place) = live.iter().position(|held| held.contact.id == contact.id) {
            if live[place].contact.address == contact.address || !refused {
                live.remove(place);
                live.push(new);
            }
        } else if !refused {
            waiting.retain(|held| held.contact.id != contact.id);
            if live.len() < config.bucket_size(index) {
                live.push(new);
            } else {
                waiting.push(new);
                if waiting.len() > config.replacements {
                    waiting.remove(0);
                }
            }
        }
    }

    fn failed(&mut self, config: &TableConfig, contact: &Contact<Street>) {
        for held in self.waiting.values_mut() {
            held.retain(|held| held.contact != *contact);
        }
        let held = self
            .live
            .values_mut()
            .flatten()
            .find(|held| held.contact == *contact);
        let Some(held) = held else { return };
        held.failures += 1;
        if held.failures >= config.failures {
            self.remove(config, contact.id);
        }
    }

    fn remove(&mut self, config: &TableConfig, id: NodeId) {
        let index = LOCAL.distance(id.to_key()).leading_zeros();
        self.waiting
            .entry(index)
            .or_default()
            .retain(|held| held.contact.id != id);
        let live = self.live.entry(index).or_default();
        let before = live.len();
        live.retain(|held| held.contact.id != id);
        if live.len() == before {
            return;
        }
        let waiting = self.waiting[&index].clone();
        let fresh = waiting
            .iter()
            .rposition(|held| !self.refusal(config, index, &held.contact));
        if let Some(place) = fresh {
            let promoted = self.waiting.entry(index).or_default().remove(place);
            let live = self.live.entry(index).or_default();
            live.push(promoted);
            live.sort_by_key(|held| held.seen);
        }
    }
}

/// Everything that must hold between two operations.
fn check(table: &RoutingTable<Street>, model: &Model) -> Result<(), TestCaseError> {
    let held = |known: &Known<Street>| Held {
        contact: known.contact,
        seen: known.last_seen,
        failures: known.failures,
    };
    for (real, naive) in [(&table.live, &model.live), (&table.waiting, &model.waiting)] {
        let expected: Vec<Held> = naive.values().flatten().copied().collect();
        prop_assert_eq!(real.iter().map(held).collect::<Vec<_>>(), expected);
        for index in 0..ID_BITS {
            let bucket = real.bucket(index);
            prop_assert_eq!(real.exists(index), !bucket.is_empty());
            prop_assert!(bucket.is_sorted_by_key(|known| known.last_seen));
            let fits =
                |known: &Known<Street>| LOCAL.distance(known.contact.id.to_key()).leading_zeros() == index;
            prop_assert!(bucket.iter().all(fits));
        }
    }
    for known in table.waiting.iter() {
        prop_assert!(table.get(known.contact.id).is_none(), "waits and is in the table");
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Action {
    Answered(Contact<Street>),
    Failed(Contact<Street>),
    Remove(NodeId),
}

fn contacts() -> impl Strategy<Value = Contact<Street>> {
    // Few ids and few addresses, so that they meet again and again; some outside of all groups.
    let id = (0..5u32, 0..8u64).prop_map(|(bucket, low)| {
        let top = if bucket == 4 { 0 } else { 1 << (63 - bucket) };
        NodeId::from_limbs([top, 0, 0, low])
    });
    let street = prop_oneof![
        Just(Street(1)),
        (1..3u32, 0..3u32).prop_map(|(w, n)| Street(w << 24 | n << 16))
    ];
    (id, street).prop_map(|(id, street)| Contact::new(id, street))
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        6 => contacts().prop_map(Action::Answered),
        3 => contacts().prop_map(Action::Failed),
        1 => contacts().prop_map(|contact| Action::Remove(contact.id)),
    ];
    prop::collection::vec(action, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn whatever_happens_the_table_is_the_naive_one(actions in actions(), k in 1..4usize, replacements in 0..4usize) {
        let mut config = TableConfig::new(k, 0);
        config.replacements = replacements;
        config.groups = GroupLimits { narrow_per_bucket: 1, narrow_per_table: 3, wide_per_bucket: 2, wide_per_table: 4 };
        let (mut table, mut model) = (RoutingTable::new(LOCAL, config.clone()), Model::default());
        for (step, action) in actions.into_iter().enumerate() {
            match action {
                Action::Answered(contact) => {
                    let now = at(step as u64 / 2);
                    let _ = table.answered(now, &contact, None);
                    model.answered(&config, now, &contact);
                }
                Action::Failed(contact) => {
                    let _ = table.failed(&contact);
                    model.failed(&config, &contact);
                }
                Action::Remove(id) => {
                    let _ = table.remove(id);
                    model.remove(&config, id);
                }
            }
            check(&table, &model)?;
        }
    }

    #[test]
    fn closest_is_a_full_sort(
        local in any::<[u8; 32]>(),
        ids in prop::collection::vec(any::<[u8; 32]>(), 0..80),
        narrow in prop::collection::vec(any::<u8>(), 0..40),
        target in any::<[u8; 32]>(),
        n in 0..30usize,
    ) {
        let local = NodeId::from_bytes(local);
        // Random ids, and ids that differ from the local one and each other in the last byte only.
        let near = narrow.iter().map(|&low| {
            let [a, b, c, d] = local.to_limbs();
            NodeId::from_limbs([a, b, c, d ^ u64::from(low)])
        });
        let all: Vec<NodeId> = ids.into_iter().map(NodeId::from_bytes).chain(near).collect();
        let mut table = RoutingTable::new(local, TableConfig::new(4, 0));
        for &id in &all {
            let _ = table.answered(at(1), &Contact::new(id, Street(1)), None);
        }
        let mut targets = alloc::vec![Key::from_bytes(target), local.to_key()];
        targets.extend(all.iter().take(3).map(|id| id.to_key()));
        let mut scratch = ClosestScratch::default();
        for target in targets {
            let mut sorted: Vec<NodeId> = table.contacts().map(|entry| entry.contact.id).collect();
            sorted.sort_by_key(|id| id.distance(target));
            sorted.truncate(n);
            let closest: Vec<NodeId> = table.closest(target, n, &mut scratch).map(|entry| entry.contact.id).collect();
            prop_assert_eq!(closest, sorted);
        }
    }
}
