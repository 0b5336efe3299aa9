//! Who leaves a key that is full of providers when one more comes.
//!
//! Places go to senders evenly, and within a sender to the providers nearest to the key: one too many is let in, and
//! then the farthest of the sender that holds most leaves, which may be the newcomer. So whatever the order in which
//! they come, a sender with no more providers than its even share of the places keeps all of them, however many others
//! announce.
//!
//! Withdrawals leave before all others: a reader wants to know who provides, not who did. Whatever is still around of
//! what they withdrew can come back then, until it ends.
//!
//! Records of nobody in particular, copies of what this node puts, are each a sender of their own; but together they
//! are one as soon as they take more than half of the places, or an application that puts many could fill the key.

use std::collections::BTreeMap;

use kad_core::{Key, NodeId, Source};

/// Who has a place, or comes for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) provider: NodeId,
    pub(super) source: Source,
    /// Whether it only says that the provider is none any more.
    pub(super) has_withdrawn: bool,
}

/// The place of the one that leaves, `None` if it is the newcomer.
pub(super) fn leaver(key: Key, newcomer: Place, held: impl Iterator<Item = Place> + Clone) -> Option<usize> {
    let all = || std::iter::once(newcomer).chain(held.clone());
    let mut counts: BTreeMap<Source, usize> = BTreeMap::new();
    for place in all() {
        *counts.entry(place.source).or_default() += 1;
    }
    let places = all().count();
    if let Some(unknown) = counts.get_mut(&Source::UNKNOWN)
        && *unknown * 2 <= places
    {
        *unknown = 1;
    }
    let share = |source: Source| counts.get(&source).copied().unwrap_or_default();
    let first = all().enumerate().max_by_key(|(_, place)| {
        (
            place.has_withdrawn,
            share(place.source),
            place.provider.distance(key),
        )
    });
    first?.0.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACES: usize = 256;

    /// A key that providers come to.
    #[derive(Default)]
    struct Crowd(Vec<Place>);

    impl Crowd {
        fn come(&mut self, newcomer: Place) {
            if self.0.len() < PLACES {
                self.0.push(newcomer);
            } else if let Some(place) = leaver(Key::default(), newcomer, self.0.iter().copied()) {
                self.0[place] = newcomer;
            }
        }

        fn of(&self, senders: std::ops::Range<u64>) -> usize {
            let is_of = |place: &&Place| senders.contains(&place.source.to_u64());
            self.0.iter().filter(is_of).count()
        }
    }

    /// Numbers that look like chance, from 1 on without repetition.
    fn dice() -> impl FnMut() -> u64 {
        let mut state = 1u64;
        move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state.rotate_left(31)
        }
    }

    /// Announcements of so many providers from each of these senders. The ids are by chance, but for those of a flood,
    /// whose makers have searched for ids near to the key.
    fn announced(dice: &mut impl FnMut() -> u64, each: usize, senders: std::ops::Range<u64>) -> Vec<Place> {
        let is_flood = senders.start > 1000;
        let all = senders.flat_map(|sender| std::iter::repeat_n(Source::new(sender), each));
        let id = |bits: u64| NodeId::from_limbs([if is_flood { bits >> 8 } else { bits }, 0, 0, 0]);
        all.map(|source| Place {
            provider: id(dice()),
            source,
            has_withdrawn: false,
        })
        .collect()
    }

    #[test]
    fn a_flood_of_ten_thousand_from_a_few_sites_pushes_nobody_out() {
        for sites in [1, 5] {
            for order in 0..4 {
                let mut dice = dice();
                let honest = announced(&mut dice, 4, 1..51);
                let flood = announced(&mut dice, 10_000 / sites as usize, 2001..2001 + sites);
                let mut all = match order {
                    0 | 1 => [honest, flood].concat(),
                    _ => [flood, honest].concat(),
                };
                if order % 2 == 1 {
                    all.sort_by_cached_key(|_| dice());
                }
                let mut crowd = Crowd::default();
                all.into_iter().for_each(|newcomer| crowd.come(newcomer));
                assert_eq!(crowd.of(1..51), 200, "{sites} sites, order {order}");
                assert_eq!(crowd.of(2001..3000), PLACES - 200, "what is left is the flood's");
            }
        }
    }

    #[test]
    fn what_has_no_sender_is_each_its_own_but_together_no_more_than_half() {
        let mut dice = dice();
        let mut crowd = Crowd::default();
        for newcomer in announced(&mut dice, 300, 0..1) {
            crowd.come(newcomer);
        }
        assert_eq!(crowd.of(0..1), PLACES, "nobody else wants a place");
        for newcomer in announced(&mut dice, 1, 1..201) {
            crowd.come(newcomer);
        }
        assert_eq!(crowd.of(0..1), PLACES / 2);
        for newcomer in announced(&mut dice, 1000, 0..1) {
            crowd.come(newcomer);
        }
        assert!(crowd.of(0..1) <= PLACES / 2 + 1, "{}", crowd.of(0..1));
    }

    #[test]
    fn withdrawals_leave_first_and_keep_nobody_out() {
        let mut dice = dice();
        let mut withdrawn = announced(&mut dice, 4, 1..101);
        withdrawn.iter_mut().for_each(|place| place.has_withdrawn = true);
        let live = announced(&mut dice, 4, 101..151);
        for all in [[live.clone(), withdrawn.clone()], [withdrawn, live]] {
            let mut crowd = Crowd::default();
            all.concat().into_iter().for_each(|newcomer| crowd.come(newcomer));
            assert_eq!(crowd.of(101..151), 200);
            assert_eq!(
                crowd.of(1..101),
                PLACES - 200,
                "as long as nobody wants the place"
            );
        }
    }

    proptest! {
        #[test]
        fn who_stays_does_not_depend_on_the_order(
            counts in prop::collection::vec(1..40usize, 1..40),
            withdrawn in prop::collection::vec(prop::bool::weighted(0.1), 0..1600),
            seed in any::<u64>(),
        ) {
            let mut dice = dice();
            let mut all = Vec::new();
            for (sender, count) in counts.iter().enumerate() {
                let sender = sender as u64 + 1;
                all.extend(announced(&mut dice, *count, sender..sender + 1));
            }
            for (place, has_withdrawn) in all.iter_mut().zip(withdrawn) {
                place.has_withdrawn = has_withdrawn;
            }
            let stay = |all: &[Place]| {
                let mut crowd = Crowd::default();
                all.iter().for_each(|&newcomer| crowd.come(newcomer));
                // Which of the withdrawals stay may depend on it.
                crowd.0.retain(|place| !place.has_withdrawn);
                crowd.0.sort_unstable();
                crowd.0
            };
            let one = stay(&all);
            all.sort_by_cached_key(|place| place.provider.to_key().to_limbs()[0].wrapping_mul(seed | 1));
            prop_assert_eq!(stay(&all), one);
        }
    }
}
