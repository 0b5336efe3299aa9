//! One test for each rule of the table.

use alloc::vec::Vec;

use super::*;

mod model;
mod neighbourhood;
mod proximity;
mod responsibility;
mod spread;

/// An address whose groups are its upper bytes, or none if they are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Street(u32);

impl Address for Street {
    fn groups(&self) -> Option<AddressGroups> {
        (self.0 >= 1 << 16).then_some(AddressGroups {
            wide: u64::from(self.0 >> 24),
            narrow: u64::from(self.0 >> 16),
            host: u64::from(self.0),
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
        assert_eq!(table.failed(Instant::ZERO, &lie), Removal::Unknown);
        assert_eq!(table.failed(Instant::ZERO, &lie), Removal::Unknown);
    }
    let promoted = Some(far(2));
    assert_eq!(
        table.remove(Instant::ZERO, far(0).id),
        Removal::Removed { promoted }
    );
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
    // A table of three is all neighbourhood, where the nearest counts more than the freshest.
    table.config.neighbourhood = 0;
    for waiting in 3..6 {
        let _ = table.answered(at(waiting), &far(waiting), None);
    }
    assert_eq!(table.failed(Instant::ZERO, &far(1)), Removal::Kept);
    let promoted = Some(far(5));
    assert_eq!(
        table.failed(Instant::ZERO, &far(1)),
        Removal::Removed { promoted }
    );
    assert_eq!(ids(&table), [0, 2, 5]);
}

#[test]
fn no_number_of_failures_is_beyond_counting() {
    let mut table = full(2);
    table.config.failures = u8::MAX;
    let failed = (1..200).find(|_| table.failed(Instant::ZERO, &far(0)) != Removal::Kept);
    assert_eq!(failed, Some(127));
}

#[test]
fn an_answer_clears_the_failures() {
    let mut table = full(2);
    for _ in 0..5 {
        assert_eq!(table.failed(Instant::ZERO, &far(0)), Removal::Kept);
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
    assert_eq!(table.failed(Instant::ZERO, &own), Removal::Unknown);
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
    let mut table = RoutingTable::new(LOCAL, TableConfig::new(2, 0).with_wide(&[5, 3]));
    for n in 0..10 {
        for bucket in 0..3 {
            let contact = Contact::new(NodeId::from_limbs([1 << (63 - bucket), 0, 0, n]), Street(1));
            let room = table.bucket_len(bucket) < [5, 3, 2][bucket as usize];
            assert_eq!(table.has_room(bucket), room);
            assert_eq!(table.answered(at(n), &contact, None) == Admission::Added, room);
        }
    }
    let lens = [0, 1, 2].map(|bucket| (table.bucket_len(bucket), table.bucket_capacity(bucket)));
    assert_eq!(lens, [(5, 5), (3, 3), (2, 2)]);
}

#[test]
fn a_table_takes_65535_contacts_and_no_more_whatever_its_buckets_would() {
    let mut table = RoutingTable::new(LOCAL, TableConfig::new(300, 0));
    let mut full = None;
    for n in 0..230 * 300 {
        let (bucket, low) = (n / 300, n % 300);
        let mut limbs = [0, 0, 0, u64::from(low)];
        limbs[bucket as usize / 64] |= 1 << (63 - bucket % 64);
        let contact = Contact::new(NodeId::from_limbs(limbs), Street(1));
        if full.is_none() && !table.has_room(bucket) {
            full = Some(table.len());
        }
        let _ = table.answered(at(n.into()), &contact, None);
    }
    assert_eq!((full, table.len()), (Some(65_535), 65_535));
    // Not even a neighbour enters: in its bucket there is nobody to make room.
    let near = Contact::new(NodeId::from_limbs([0, 0, 0, 1 << 34]), Street(1));
    assert!(matches!(
        table.answered(at(1 << 20), &near, None),
        Admission::Waiting { .. }
    ));
    let _ = table.remove(Instant::ZERO, far(0).id);
    assert_eq!(table.answered(at(1 << 20), &near, None), Admission::Added);
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

#[test]
fn who_waited_for_too_long_answers_before_it_takes_a_place() {
    let mut table = full(3);
    table.config.neighbourhood = 0;
    for waiting in 3..6 {
        let _ = table.answered(at(waiting), &far(waiting), None);
    }
    // Of those that wait the freshest was heard of at 5.
    let promoted = None;
    assert_eq!(table.remove(at(6), far(0).id), Removal::Removed { promoted });
    assert_eq!(ids(&table), [1, 2]);
    assert_eq!(table.candidate(far(0).id), Some(&far(5)));
    // It does not answer, so the next one is asked, and does.
    assert_eq!(table.failed(at(6), &far(5)), Removal::Unknown);
    assert_eq!(table.candidate(far(0).id), Some(&far(4)));
    assert_eq!(table.answered(at(7), &far(4), None), Admission::Added);
    assert_eq!(table.candidate(far(0).id), None);
    // Whoever was heard of lately is believed.
    let promoted = Some(far(3));
    assert_eq!(table.remove(at(3), far(1).id), Removal::Removed { promoted });
}
