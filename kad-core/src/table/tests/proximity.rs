//! Who may take whose place for being faster, and what an attacker gets out of it.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::{LOCAL, Street, at, far, placed};
use crate::table::*;

pub(super) const K: u64 = 4;

pub(super) fn ms(millis: u64) -> Option<Duration> {
    Some(Duration::from_millis(millis))
}

/// The nth contact of a bucket.
pub(super) fn of_bucket(bucket: u32, n: u64) -> Contact<Street> {
    Contact::new(
        NodeId::from_limbs([1 << (63 - bucket), 0, 0, n]),
        Street(n as u32),
    )
}

/// A table whose buckets 0 to 3 are full; those of bucket 0 took 100 ms, 110 ms, 120 ms and 130 ms to answer.
pub(super) fn settled() -> RoutingTable<Street> {
    let mut table = RoutingTable::new(LOCAL, TableConfig::new(K as usize, 0));
    for bucket in 0..4 {
        for n in 0..K {
            let admission = table.answered(at(n), &of_bucket(bucket, n), ms(100 + 10 * n));
            assert_eq!(admission, Admission::Added);
        }
    }
    table
}

fn fast(out: NodeId) -> Admission<Street> {
    let merit = Merit::Fast;
    Admission::Replaced { out, merit }
}

pub(super) fn waits(admission: &Admission<Street>) -> bool {
    matches!(admission, Admission::Waiting { .. })
}

pub(super) fn held(table: &RoutingTable<Street>, bucket: u32) -> Vec<u64> {
    let contacts = table.live.bucket(bucket).iter();
    contacts.map(|known| known.contact.id.to_limbs()[3]).collect()
}

#[test]
fn a_clearly_faster_contact_takes_the_place_of_the_slowest_which_waits() {
    let mut table = settled();
    assert!(waits(&table.answered(at(10), &far(20), ms(98))));
    assert_eq!(table.answered(at(11), &far(21), ms(97)), fast(far(3).id));
    assert_eq!(held(&table, 0), [0, 1, 2, 21]);
    let promoted = Some(far(3));
    let _ = table.failed(Instant::ZERO, &far(20));
    assert_eq!(
        table.remove(Instant::ZERO, far(0).id),
        Removal::Removed { promoted }
    );
}

#[test]
fn who_was_not_measured_neither_replaces_nor_is_replaced() {
    let mut table = settled();
    assert!(waits(&table.answered(at(10), &far(20), None)));
    let mut table = RoutingTable::new(LOCAL, table.config.clone());
    for bucket in 0..4 {
        for n in 0..K {
            let _ = table.answered(at(n), &of_bucket(bucket, n), None);
        }
    }
    assert!(waits(&table.answered(at(10), &far(20), ms(1))));
    // A contact that has moved is measured anew.
    let moved = Contact::new(far(1).id, Street(77));
    let _ = table.answered(at(11), &far(1), ms(500));
    let _ = table.answered(at(11), &moved, None);
    assert!(waits(&table.answered(at(12), &far(20), ms(1))));
}

#[test]
fn the_neighbourhood_and_its_surroundings_do_not_ask_who_is_fast() {
    let mut table = settled();
    // Four are nearer than bucket 2, eight nearer than bucket 1.
    for bucket in [2, 3] {
        assert!(waits(&table.answered(at(10), &of_bucket(bucket, 20), ms(1))));
    }
    assert_eq!(
        table.answered(at(10), &of_bucket(1, 20), ms(1)),
        fast(of_bucket(1, 3).id)
    );
    // Nor does bucket 1 once there are seven.
    let _ = table.remove(Instant::ZERO, of_bucket(3, 0).id);
    let _ = table.failed(Instant::ZERO, &of_bucket(3, 20));
    let _ = table.remove(Instant::ZERO, of_bucket(3, 20).id);
    assert!(waits(&table.answered(at(10), &of_bucket(1, 21), ms(1))));
}

#[test]
fn half_of_a_bucket_keeps_its_places_however_fast_others_are() {
    let mut table = settled();
    for n in 20..30 {
        let _ = table.answered(at(n), &far(n), ms(50 - n));
    }
    // 0 and 1 are the fastest two of those who were there first. The other two places go to ever faster ones.
    assert_eq!(held(&table, 0), [0, 1, 28, 29]);
    assert_eq!(table.answered(at(40), &far(40), ms(1)), fast(far(28).id));
}

#[test]
fn a_share_of_none_and_one_that_rounds_to_none_take_no_place() {
    for share in [0, 24] {
        let mut table = settled();
        table.config.proximity_share = share;
        assert!(waits(&table.answered(at(10), &far(20), ms(1))));
    }
    let mut table = settled();
    table.config.proximity_share = 25;
    assert_eq!(table.answered(at(10), &far(20), ms(1)), fast(far(3).id));
    assert!(waits(&table.answered(at(10), &far(21), ms(1))));
    assert_eq!(
        table.answered(at(10), &far(22), Some(Duration::from_micros(1))),
        fast(far(20).id)
    );
}

#[test]
fn who_lost_a_place_does_not_win_it_back_with_one_lucky_answer() {
    let mut table = settled();
    assert_eq!(table.answered(at(10), &far(20), ms(60)), fast(far(3).id));
    // Of 130 ms and 30 ms that makes 117, 106, 97 and 88 ms. The slowest in the bucket takes 120.
    let mut answers = 1;
    while waits(&table.answered(at(10 + answers), &far(3), ms(30))) {
        answers += 1;
    }
    assert_eq!(answers, 4);
}

#[test]
fn a_fast_contact_that_leaves_makes_no_tenured_place_of_its_own() {
    let mut table = settled();
    // One comes and goes again and again; whoever waits is one of its own as well.
    for n in 0..100 {
        let (comes, heir) = (far(100 + 2 * n), far(101 + 2 * n));
        let _ = table.answered(at(100 + n), &comes, ms(1));
        let _ = table.answered(at(100 + n), &heir, None);
        let _ = table.remove(Instant::ZERO, comes.id);
    }
    let honest = held(&table, 0).into_iter().filter(|&n| n < K);
    assert_eq!(honest.count(), 2);
}

/// What an attacker does, and what others do meanwhile.
#[derive(Debug, Clone)]
pub(super) enum Move {
    /// One of the attacker's nodes answers.
    Answers(Contact<Street>, Option<u64>),
    /// One of them is silent.
    Fails(Contact<Street>),
    /// One of them says that it wants nobody to route through it.
    Leaves(NodeId),
    /// One of the nodes that were there first answers as ever.
    Honest(u32, u64),
}

pub(super) fn moves(
    attacker: impl Strategy<Value = Contact<Street>> + Clone,
) -> impl Strategy<Value = Vec<Move>> {
    let rtt = prop_oneof![1 => Just(None), 9 => (1..50_000u64).prop_map(Some)];
    let one = prop_oneof![
        8 => (attacker.clone(), rtt).prop_map(|(contact, rtt)| Move::Answers(contact, rtt)),
        2 => attacker.clone().prop_map(Move::Fails),
        2 => attacker.prop_map(|contact| Move::Leaves(contact.id)),
        1 => (0..4u32, 0..K).prop_map(|(bucket, n)| Move::Honest(bucket, n)),
    ];
    prop::collection::vec(one, 0..300)
}

pub(super) fn play(table: &mut RoutingTable<Street>, moves: Vec<Move>) {
    for (step, next) in moves.into_iter().enumerate() {
        let now = at(100 + step as u64);
        match next {
            Move::Answers(contact, rtt) => {
                let _ = table.answered(now, &contact, rtt.map(Duration::from_micros));
            }
            Move::Fails(contact) => {
                let _ = table.failed(Instant::ZERO, &contact);
            }
            Move::Leaves(id) => {
                let _ = table.remove(Instant::ZERO, id);
            }
            Move::Honest(bucket, n) => {
                let _ = table.answered(now, &of_bucket(bucket, n), ms(100));
            }
        }
    }
}

/// Those of a bucket who were there first.
pub(super) fn honest(table: &RoutingTable<Street>, bucket: u32) -> usize {
    held(table, bucket).into_iter().filter(|&n| n < K).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_attacker_with_any_number_of_fast_nodes_gets_its_share_of_a_far_bucket_and_no_more(
        moves in moves((0..2u32, 100..160u64).prop_map(|(bucket, n)| of_bucket(bucket, n))),
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
        prop_assert_eq!((honest(&table, 2), honest(&table, 3)), (4, 4));
    }

    #[test]
    fn an_attacker_with_few_groups_of_addresses_gets_what_groups_get(
        moves in moves((100..160u64, 1..3u32, 0..3u32).prop_map(|(n, wide, narrow)| placed(n, wide, narrow))),
    ) {
        let mut table = settled();
        table.config.proximity_share = 100;
        table.config.groups = GroupLimits { narrow_per_bucket: 1, narrow_per_table: 1, wide_per_bucket: 1, ..GroupLimits::NONE };
        play(&mut table, moves);
        prop_assert!(honest(&table, 0) >= 2, "two wide groups hold more than two places");
    }
}
