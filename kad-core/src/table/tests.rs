//! One test for each rule of the table.

use alloc::vec::Vec;

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
