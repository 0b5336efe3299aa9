//! Every pair of NATs comes out as it did in the laboratory.

use proptest::prelude::*;

use super::model::Pair;
use super::*;
use crate::nat::model::KINDS;
use crate::nat::model::Kind::{self, Addr, Block, Cone, Full, Fw, Leaky, Open, Sym};

const SECOND: Duration = Duration::from_secs(1);

/// What was measured with real routers of these types.
fn works(one: Kind, other: Kind) -> bool {
    let blocked = [one, other].contains(&Block);
    // A new port for each destination, and somebody who lets in only the port that was advertised.
    let strict = |kind| [Sym, Cone, Fw, Leaky].contains(&kind);
    let hidden = one == Sym && strict(other) || other == Sym && strict(one);
    !(blocked || hidden)
}

#[test]
fn each_pair_of_nats_comes_out_as_in_the_laboratory() {
    for one in KINDS {
        for other in KINDS {
            for swap in [false, true] {
                let took = Pair::new([one, other], swap, 1)
                    .ok()
                    .and_then(|mut pair| pair.run(200 * SECOND));
                assert_eq!(took.is_some(), works(one, other), "{one:?} {other:?} {swap}");
                assert!(
                    took.is_none_or(|took| took < SECOND),
                    "{one:?} {other:?}: {took:?}"
                );
            }
        }
    }
}

#[test]
fn two_symmetric_nats_do_not_try() {
    assert_eq!(
        Pair::new([Sym, Sym], false, 1).err(),
        Some(Hopeless::BothEndpointDependent)
    );
}

#[test]
fn routers_that_are_poisoned_by_a_late_start_are_punched_after_silence() {
    let mut pair = Pair::new([Leaky, Leaky], false, 1).unwrap();
    pair.late = SECOND / 2;
    let took = pair.run(200 * SECOND).expect("the second round is in step");
    assert_eq!(pair.missed, 1);
    assert!(took > 35 * SECOND && took < 45 * SECOND, "{took:?}");
}

#[test]
fn without_delay_two_leaky_routers_do_not_meet_and_the_tries_become_seldom() {
    let mut pair = Pair::new([Leaky, Leaky], false, 1).unwrap();
    // One is always the first, and its packet is there before the other's is sent.
    (pair.delay, pair.late, pair.late_rounds) = (Duration::ZERO, Duration::from_millis(1), usize::MAX);
    assert_eq!(pair.run(3600 * SECOND), None);
    // Three rounds, ten minutes of silence, and so on.
    assert!((14..=18).contains(&pair.missed), "{}", pair.missed);
}

#[test]
fn a_late_start_does_not_matter_where_nothing_leaks() {
    for pair in [[Cone, Cone], [Fw, Cone], [Full, Sym], [Open, Leaky], [Addr, Sym]] {
        let mut pair = Pair::new(pair, false, 1).unwrap();
        pair.late = SECOND;
        assert!(pair.run(4 * SECOND).is_some());
    }
}

#[test]
fn rounds_are_silent_between() {
    let mut pair = Pair::new([Cone, Sym], false, 1).unwrap();
    assert_eq!(pair.run(130 * SECOND), None);
    for end in 0..2 {
        let of_end: Vec<_> = pair
            .punches
            .iter()
            .filter(|(_, by)| *by == end)
            .map(|(at, _)| *at)
            .collect();
        let gaps: Vec<_> = of_end
            .windows(2)
            .map(|two| two[1].since(two[0]))
            .filter(|gap| *gap > SECOND)
            .collect();
        assert_eq!(gaps.len(), 2, "three rounds: {gaps:?}");
        assert!(gaps.iter().all(|gap| *gap >= 35 * SECOND), "{gaps:?}");
    }
}

#[test]
fn both_ends_keep_the_same_connection() {
    for swap in [false, true] {
        let mut pair = Pair::new([Cone, Cone], swap, 1).unwrap();
        pair.run(SECOND).unwrap();
        let expected = if swap {
            [Dialler::Peer, Dialler::Us]
        } else {
            [Dialler::Us, Dialler::Peer]
        };
        assert_eq!(pair.settle(), expected.map(Some));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// With 5 % of loss and a start out of step the same pairs work, within three seconds and a round; both ends agree
    /// on the connection, and no round has more packets than it may.
    #[test]
    fn loss_and_skew_change_no_outcome(
        one in 0usize..8, other in 0usize..8, swap: bool, seed: u8, late in 0u64..35, loss in 0usize..6,
    ) {
        let (one, other) = (KINDS[one], KINDS[other]);
        let Ok(mut pair) = Pair::new([one, other], swap, seed) else {
            return Ok(());
        };
        (pair.loss, pair.late) = (loss, Duration::from_millis(late));
        let took = pair.run(120 * SECOND);
        prop_assert_eq!(took.is_some(), works(one, other), "{:?} {:?}", one, other);
        // A loss of the first punches of a leaky pair is a late start, which the next round makes up for.
        if let Some(took) = took && ![one, other].contains(&Leaky) {
            prop_assert!(took < 3 * SECOND, "{:?} {:?}: {:?}", one, other, took);
        }
        for end in 0..2 {
            let of_end = pair.punches.iter().filter(|(_, by)| *by == end).count();
            prop_assert!(of_end <= MAX_PUNCHES * (pair.missed + 1));
        }
        if took.is_some() {
            let used = pair.settle();
            let agreed = matches!(
                used[..],
                [Some(Dialler::Us), Some(Dialler::Peer)] | [Some(Dialler::Peer), Some(Dialler::Us)]
            );
            prop_assert!(agreed, "{:?}", used);
        }
    }
}
