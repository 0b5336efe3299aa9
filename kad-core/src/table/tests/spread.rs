//! Who may take whose place for coming from elsewhere, and what an attacker gets out of it.

use proptest::prelude::*;

use super::proximity::{K, honest, moves, ms, of_bucket, play, settled, waits};
use super::{LOCAL, Street, at};
use crate::table::*;

/// The nth contact of a region of a bucket; buckets of 4 have four regions.
fn from(region: u64, bucket: u32, n: u64) -> Contact<Street> {
    let [top, _, _, low] = of_bucket(bucket, n).id.to_limbs();
    let id = NodeId::from_limbs([top | region << (61 - bucket), 0, 0, low]);
    Contact::new(id, Street(n as u32))
}

fn apart(out: &Contact<Street>) -> Admission<Street> {
    let (out, merit) = (out.id, Merit::Apart);
    Admission::Replaced { out, merit }
}

/// How many contacts each region of a bucket has.
fn spread(table: &RoutingTable<Street>, bucket: u32) -> [usize; 4] {
    let mut counts = [0; 4];
    for known in table.live.bucket(bucket) {
        counts[(known.contact.id.to_limbs()[0] << (bucket + 1) >> 62) as usize] += 1;
    }
    counts
}

#[test]
fn who_comes_from_a_region_without_contacts_takes_the_place_of_one_of_a_crowd() {
    let mut table = settled();
    assert_eq!(spread(&table, 0), [4, 0, 0, 0]);
    // Once the places that wait are taken, a stranger of a region that is there is not worth a PING any more.
    for n in 20..24 {
        assert!(waits(&table.answered(at(n), &from(0, 0, n), None)));
    }
    assert!(!table.wants(&from(0, 0, 30)) && table.wants(&from(2, 0, 31)));
    assert_eq!(
        table.answered(at(31), &from(2, 0, 31), None),
        apart(&from(0, 0, 3))
    );
    assert_eq!(spread(&table, 0), [3, 0, 1, 0]);
    // Of 100, 110 and 120 ms.
    assert_eq!(
        table.answered(at(33), &from(3, 0, 33), None),
        apart(&from(0, 0, 2))
    );
}

#[test]
fn who_made_room_for_another_region_waits_and_comes_back() {
    let mut table = settled();
    assert_eq!(
        table.answered(at(31), &from(2, 0, 31), None),
        apart(&from(0, 0, 3))
    );
    let promoted = Some(from(0, 0, 3));
    assert_eq!(
        table.remove(Instant::ZERO, from(0, 0, 0).id),
        Removal::Removed { promoted }
    );
}

#[test]
fn who_shows_up_all_the_time_is_not_safer_for_it() {
    let mut table = RoutingTable::new(LOCAL, TableConfig::new(K as usize, 0));
    for (bucket, n) in (0..4).flat_map(|bucket| (0..K).map(move |n| (bucket, n))) {
        let _ = table.answered(at(n), &of_bucket(bucket, n), None);
    }
    let _ = table.answered(at(32), &from(0, 0, 1), None);
    assert_eq!(
        table.answered(at(33), &from(3, 0, 33), None),
        apart(&from(0, 0, 1))
    );
}

#[test]
fn of_several_crowds_one_that_failed_makes_room_first_then_one_of_the_largest() {
    let mut table = RoutingTable::new(LOCAL, TableConfig::new(8, 0));
    let region = |region: u64, n: u64| from(region, 0, n);
    for bucket in 1..4 {
        for n in 0..8 {
            let _ = table.answered(at(n), &of_bucket(bucket, n), None);
        }
    }
    // Buckets of eight have eight regions; these are 0, 2 and 4.
    for (n, of) in [0, 0, 0, 0, 1, 1, 1, 2].into_iter().enumerate() {
        assert_eq!(
            table.answered(at(n as u64), &region(of, n as u64), None),
            Admission::Added
        );
    }
    assert_eq!(table.failed(Instant::ZERO, &region(1, 5)), Removal::Kept);
    assert_eq!(table.failed(Instant::ZERO, &region(2, 7)), Removal::Kept);
    assert_eq!(table.answered(at(20), &region(3, 20), None), apart(&region(1, 5)));
    let odd = |n| Contact::new(NodeId::from_limbs([0b1001 << 60, 0, 0, n]), Street(1));
    assert_eq!(table.answered(at(21), &odd(21), None), apart(&region(0, 3)));
    assert!(waits(&table.answered(at(22), &odd(22), None)));
}

#[test]
fn nobody_takes_the_place_of_who_stands_alone_however_fast() {
    let mut table = settled();
    assert_eq!(
        table.answered(at(10), &from(1, 0, 10), ms(500)),
        apart(&from(0, 0, 3))
    );
    // The slowest one is safe from others, but not from one of its own region.
    let merit = Merit::Fast;
    let out = from(0, 0, 2).id;
    assert_eq!(
        table.answered(at(11), &from(0, 0, 11), ms(1)),
        Admission::Replaced { out, merit }
    );
    // Places taken for either merit stay open; the two of the others are not.
    assert_eq!(
        table.answered(at(12), &from(2, 0, 12), None),
        apart(&from(0, 0, 11))
    );
    assert!(waits(&table.answered(at(12), &from(3, 0, 14), ms(1))));
    let out = from(1, 0, 10).id;
    assert_eq!(
        table.answered(at(13), &from(1, 0, 13), ms(1)),
        Admission::Replaced { out, merit }
    );
}

#[test]
fn the_neighbourhood_and_its_surroundings_need_not_spread() {
    let mut table = settled();
    for bucket in [2, 3] {
        assert!(waits(&table.answered(at(10), &from(1, bucket, 10), None)));
    }
    assert_eq!(
        table.answered(at(10), &from(1, 1, 10), None),
        apart(&of_bucket(1, 3))
    );
    table.config.spread = false;
    assert!(waits(&table.answered(at(11), &from(2, 1, 11), None)));
}

#[test]
fn a_bucket_of_one_has_one_region() {
    let mut table = RoutingTable::new(LOCAL, TableConfig::new(1, 0));
    for bucket in 0..4 {
        assert_eq!(
            table.answered(at(1), &of_bucket(bucket, 0), None),
            Admission::Added
        );
    }
    assert!(waits(&table.answered(at(2), &from(1, 0, 1), None)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_attacker_that_chooses_ids_and_is_fast_gets_its_share_of_a_far_bucket_and_no_more(
        moves in moves((0..4u64, 0..2u32, 100..160u64).prop_map(|(region, bucket, n)| from(region, bucket, n))),
        share in 0..=100u8,
    ) {
        let mut table = settled();
        table.config.proximity_share = share;
        play(&mut table, moves);
        for bucket in 0..2 {
            let open = K as usize * usize::from(share) / 100;
            let honest = honest(&table, bucket);
            prop_assert!(honest + open >= K as usize, "{} were left in bucket {}", honest, bucket);
        }
    }

    #[test]
    fn while_nobody_leaves_a_region_that_has_somebody_keeps_somebody(
        answers in prop::collection::vec((0..4u64, 0..2u32, 0..40u64, 1..50_000u64), 0..200),
    ) {
        let mut table = settled();
        let mut before = [[0; 4]; 2];
        for (step, (region, bucket, n, rtt)) in answers.into_iter().enumerate() {
            let rtt = Duration::from_micros(rtt);
            let _ = table.answered(at(100 + step as u64), &from(region, bucket, n), Some(rtt));
            let now = [0, 1].map(|bucket| spread(&table, bucket));
            for (before, now) in before.iter().flatten().zip(now.iter().flatten()) {
                prop_assert!(*before == 0 || *now > 0);
            }
            before = now;
        }
    }
}
