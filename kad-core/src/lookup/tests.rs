//! One test for each rule of the walk, and walks through networks that know everything or lie.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use proptest::prelude::*;

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
    Lookup::new(
        LOCAL,
        TARGET,
        LookupConfig::new(results, 3, paths),
        seeds.map(Seed::from),
    )
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

#[test]
fn alpha_are_asked_at_once_nearest_first() {
    let mut lookup = lookup(20, 1, nodes(1..30));
    assert_eq!(asked(&mut lookup), [1, 2, 3]);
    assert_eq!(lookup.next(), Step::Wait);
}

#[test]
fn alpha_answers_without_progress_widen_to_k() {
    let mut lookup = lookup(8, 1, nodes(1..30));
    assert_eq!(asked(&mut lookup), [1, 2, 3]);
    answer(&mut lookup, 1, 0..0);
    answer(&mut lookup, 2, 0..0);
    assert_eq!(asked(&mut lookup), [4, 5]);
    assert!(!lookup.is_near());
    answer(&mut lookup, 3, 0..0);
    assert!(lookup.is_near());
    assert_eq!(asked(&mut lookup), [6, 7, 8]);
}

#[test]
fn progress_narrows_to_alpha_again() {
    let mut lookup = lookup(8, 1, nodes(10..30));
    for id in asked(&mut lookup) {
        answer(&mut lookup, id, 0..0);
    }
    assert_eq!(asked(&mut lookup).len(), 5);
    answer(&mut lookup, 13, 1..4);
    assert_eq!(asked(&mut lookup), []);
    assert_eq!(lookup.next(), Step::Wait);
}

#[test]
fn a_slow_question_is_hedged_and_its_answer_still_counts() {
    let mut lookup = lookup(3, 1, nodes(1..30));
    assert_eq!(asked(&mut lookup), [1, 2, 3]);
    lookup.on_slow(node(2).id);
    lookup.on_slow(node(2).id);
    // Its place among those in flight is free, and should it be dead somebody will have to answer for it.
    assert_eq!(asked(&mut lookup), [4]);
    lookup.on_failure(node(1).id);
    assert_eq!(asked(&mut lookup), [5]);
    for id in [2, 3, 4, 5] {
        answer(&mut lookup, id, 0..0);
    }
    assert_eq!(lookup.next(), Step::Done);
    assert_eq!(lookup.results().collect::<Vec<_>>(), [node(2), node(3), node(4)]);
}

#[test]
fn whoever_is_slow_counts_among_the_nearest_but_not_among_those_in_time() {
    let mut lookup = lookup(3, 1, nodes(1..30));
    assert_eq!(asked(&mut lookup), [1, 2, 3]);
    lookup.on_slow(node(2).id);
    let nearest = |lookup: &Lookup<u32>, n| {
        let id = node(n).id;
        (lookup.is_among_nearest(id), lookup.is_among_nearest_in_time(id))
    };
    assert_eq!(nearest(&lookup, 3), (true, true));
    assert_eq!(nearest(&lookup, 4), (false, true));
    assert_eq!(nearest(&lookup, 5), (false, false));
    lookup.on_overdue(node(2).id);
    assert_eq!(nearest(&lookup, 4), (true, true));
    answer(&mut lookup, 2, 0..0);
    assert_eq!(nearest(&lookup, 4), (false, false));
}

#[test]
fn among_the_nearest_the_fastest_are_asked_first() {
    let rtt = |n: u64| Some(Duration::from_millis(if n < 6 { 10 * (10 - n) } else { 1 }));
    let seeds = nodes(1..9).map(|contact| Seed {
        rtt: rtt(contact.id.to_limbs()[3]),
        contact,
    });
    let mut lookup = Lookup::new(LOCAL, TARGET, LookupConfig::new(5, 3, 1), seeds);
    // Of the five nearest; 6 to 8 are faster still, and none of their business yet.
    assert_eq!(asked(&mut lookup), [5, 4, 3]);
}

#[test]
fn a_hop_less_outweighs_a_faster_contact() {
    let seed = |n, millis| Seed {
        contact: node(n),
        rtt: Some(Duration::from_millis(millis)),
    };
    let config = LookupConfig {
        usual: Duration::from_millis(100),
        ..LookupConfig::new(4, 1, 1)
    };
    // Ten bits are two hops of 100 ms.
    let mut lookup = Lookup::new(
        LOCAL,
        TARGET,
        config,
        [seed(2, 150), seed(2 << 10, 10)].into_iter(),
    );
    assert_eq!(asked(&mut lookup), [2]);
    let mut lookup = Lookup::new(
        LOCAL,
        TARGET,
        config,
        [seed(2, 250), seed(2 << 10, 10)].into_iter(),
    );
    assert_eq!(asked(&mut lookup), [2 << 10]);
}

#[test]
fn into_the_region_all_are_asked_at_once() {
    let radius = Distance::from_limbs([0, 0, 0, 7]);
    let config = LookupConfig {
        radius,
        near: 8,
        ..LookupConfig::new(8, 3, 1)
    };
    let mut lookup = Lookup::new(LOCAL, TARGET, config, nodes(5..30).map(Seed::from));
    assert_eq!(asked(&mut lookup), [5, 6, 7]);
    answer(&mut lookup, 5, 1..5);
    assert_eq!(asked(&mut lookup), [1, 2, 3, 4]);
    assert_eq!(lookup.depth(node(4).id), Some(2));
}

#[test]
fn the_next_place_goes_to_another_when_one_is_slow() {
    let mut lookup = lookup(20, 1, nodes(1..30));
    assert_eq!(asked(&mut lookup), [1, 2, 3]);
    lookup.on_slow(node(1).id);
    assert_eq!(asked(&mut lookup), [4]);
}

#[test]
fn a_failed_contact_is_asked_at_the_next_address_it_has() {
    let other = Contact::new(node(1).id, 99);
    let mut lookup = lookup(2, 1, [node(1), other, node(2)].into_iter());
    assert_eq!(asked(&mut lookup), [1, 2]);
    lookup.on_failure(node(1).id);
    assert_eq!(lookup.next(), Step::Ask(other));
    lookup.on_response(other.id, nodes(0..0));
    answer(&mut lookup, 2, 0..0);
    assert_eq!(lookup.next(), Step::Done);
    assert_eq!(lookup.results().collect::<Vec<_>>(), [other, node(2)]);
}

#[test]
fn disjoint_paths_share_no_node() {
    let mut lookup = lookup(4, 2, nodes(10..12));
    let mut all = asked(&mut lookup);
    assert_eq!(all, [10, 11]);
    // Both tell of the same nodes: each of those is asked once, on the path that heard of it first.
    answer(&mut lookup, 10, 1..5);
    answer(&mut lookup, 11, 1..9);
    loop {
        let now = asked(&mut lookup);
        if now.is_empty() {
            break;
        }
        now.iter().for_each(|&id| answer(&mut lookup, id, 1..9));
        all.extend(now);
    }
    assert_eq!(lookup.next(), Step::Done);
    let once: BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!(once.len(), all.len());
    assert_eq!(
        lookup.results().collect::<Vec<_>>(),
        nodes(1..5).collect::<Vec<_>>()
    );
}

/// The node at distance n from the target in units of which the region has 64.
fn far(n: u64) -> Contact<u32> {
    Contact::new(NodeId::from_limbs([n << 32, 0, 0, n]), n as u32)
}

/// A walk to 4 nodes that are likely within 64, from ten contacts at 1000 to 1009.
fn doubting(max_paths: usize) -> Lookup<u32> {
    let mut config = LookupConfig::new(4, 3, 1);
    config.max_paths = max_paths;
    config.radius = Distance::from_limbs([64 << 32, 0, 0, 0]);
    Lookup::new(LOCAL, TARGET, config, (1000..1010).map(far).map(Seed::from))
}

/// Walks to the end, where liars know only four of their own; says who was asked.
fn walk_among_liars(lookup: &mut Lookup<u32>, honest: impl Fn(u64) -> bool) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let now = asked(lookup);
        if now.is_empty() {
            assert_eq!(lookup.next(), Step::Done);
            return all;
        }
        for id in now {
            let told = if honest(id) {
                [10, 20, 30, 40]
            } else {
                [200, 202, 204, 206]
            };
            lookup.on_response(far(id).id, told.map(far).into_iter());
            all.push(id);
        }
    }
}

#[test]
fn a_walk_that_ends_too_thin_gets_paths_until_one_leads_out() {
    // Liars all, but one that only the third of the further paths asks.
    let honest = |id: u64| id == 1005 || id < 100;
    let mut captured = doubting(1);
    walk_among_liars(&mut captured, honest);
    assert_eq!(
        captured.results().collect::<Vec<_>>(),
        [200, 202, 204, 206].map(far)
    );
    let mut lookup = doubting(MAX_PATHS);
    let all = walk_among_liars(&mut lookup, honest);
    assert_eq!(lookup.results().collect::<Vec<_>>(), [10, 20, 30, 40].map(far));
    assert!(all.contains(&1005));
    let once: BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!(once.len(), all.len(), "nobody is asked twice");
}

#[test]
fn a_walk_that_ends_as_it_should_gets_no_other_path() {
    let mut lookup = doubting(MAX_PATHS);
    let all = walk_among_liars(&mut lookup, |_| true);
    assert_eq!(lookup.flights.len(), 1);
    assert_eq!(all.len(), 7, "three seeds and the four nearest: {all:?}");
}

#[test]
fn as_many_paths_must_agree_as_the_end_is_too_thin() {
    // The four nearest reach to 206 where 64 were expected: 3.2 times as far.
    let mut lookup = doubting(MAX_PATHS);
    walk_among_liars(&mut lookup, |_| false);
    assert_eq!(lookup.flights.len(), 1 + 4);
    let mut bounded = doubting(3);
    walk_among_liars(&mut bounded, |_| false);
    assert_eq!(bounded.flights.len(), 3);
}

#[test]
fn the_dead_explain_a_thin_end_only_up_to_a_half() {
    let mut lookup = doubting(MAX_PATHS);
    for id in asked(&mut lookup) {
        // The liars tell of ids that nobody has as well.
        let told = (50..80).chain([200, 202, 204, 206]).map(far);
        lookup.on_response(far(id).id, told);
    }
    loop {
        let now = asked(&mut lookup);
        if now.is_empty() {
            break;
        }
        for id in now {
            match id {
                50..80 => lookup.on_failure(far(id).id),
                _ => lookup.on_response(far(id).id, [200, 202, 204, 206].map(far).into_iter()),
            }
        }
    }
    // 206 of 64 and a half: more than twice.
    assert_eq!(lookup.flights.len(), 1 + 3);
}

#[test]
fn whoever_is_excluded_is_no_result() {
    let mut lookup = lookup(2, 1, nodes(1..4));
    for id in asked(&mut lookup) {
        answer(&mut lookup, id, 0..0);
    }
    lookup.exclude(node(1).id);
    for id in asked(&mut lookup) {
        answer(&mut lookup, id, 0..0);
    }
    assert_eq!(lookup.results().collect::<Vec<_>>(), [node(2), node(3)]);
}

#[test]
fn answers_that_nobody_asked_for_change_nothing() {
    let mut lookup = lookup(2, 1, nodes(1..4));
    answer(&mut lookup, 3, 0..50);
    lookup.on_failure(node(2).id);
    lookup.on_slow(node(1).id);
    assert_eq!(lookup.known(), 3);
    assert_eq!(asked(&mut lookup), [1, 2]);
}

/// A network in which everybody knows everybody, as one walk sees it.
#[derive(Debug, Clone)]
struct World {
    ids: Vec<NodeId>,
    /// 0 lives, 1 is dead, 2 lies.
    fates: Vec<u8>,
    target: Key,
    k: usize,
    paths: usize,
    seeds: usize,
    rolls: Vec<u16>,
}

fn worlds(fates: core::ops::Range<u8>) -> impl Strategy<Value = World> {
    let small = (0..64u64).prop_map(|low| NodeId::from_limbs([0, 0, 0, low]));
    let wide = any::<[u8; 32]>().prop_map(NodeId::from_bytes);
    let ids = prop_oneof![
        prop::collection::vec(small, 1..50),
        prop::collection::vec(wide, 1..50)
    ];
    let target = prop_oneof![
        (0..64u64).prop_map(|low| Key::from_limbs([0, 0, 0, low])),
        any::<[u8; 32]>().prop_map(Key::from_bytes)
    ];
    let rolls = prop::collection::vec(any::<u16>(), 40);
    (
        ids,
        prop::collection::vec(fates, 50),
        target,
        1..8usize,
        1..4usize,
        1..6usize,
        rolls,
    )
        .prop_map(|(mut ids, fates, target, k, paths, seeds, rolls)| {
            ids.sort();
            ids.dedup();
            World {
                ids,
                fates,
                target,
                k,
                paths,
                seeds,
                rolls,
            }
        })
}

impl World {
    fn alive(&self) -> Vec<NodeId> {
        let mut alive: Vec<NodeId> = self
            .ids
            .iter()
            .zip(&self.fates)
            .filter(|(_, fate)| **fate != 1)
            .map(|(id, _)| *id)
            .collect();
        alive.sort_by_key(|id| id.distance(self.target));
        alive
    }

    fn liars_answer(&self, roll: usize, asked: NodeId) -> Vec<Contact<u32>> {
        let mut lies = Vec::new();
        for lie in 0..32 {
            let id = match (roll + lie) % 5 {
                0 => LOCAL,
                1 => asked,
                2 => self.target.to_node_id(),
                3 => self.ids[(roll + lie) % self.ids.len()],
                _ => NodeId::from_limbs([0, 0, roll as u64, lie as u64]),
            };
            lies.push(Contact::new(id, (roll * lie) as u32));
        }
        lies
    }

    /// Walks to the end, answers in any order; the most questions there may be is a matter of the shortlist only.
    fn walk(&self) -> Result<Vec<NodeId>, TestCaseError> {
        let mut config = LookupConfig::new(self.k, 3, self.paths);
        // In most worlds the end is in doubt, in some far too thin.
        config.max_paths = MAX_PATHS;
        config.radius = Distance::from_limbs([u64::from(self.rolls[0]) << 47, 0, 0, 0]);
        let contact = |id: &NodeId| Contact::new(*id, 1);
        let seeds = self.ids.iter().rev().take(self.seeds).map(contact);
        let mut lookup = Lookup::new(LOCAL, self.target, config, seeds.map(Seed::from));
        // Each path may bring the whole list anew, but for those that were asked.
        let bound = MAX_ADDRESSES * SHORTLIST_FLOOR.max(SHORTLIST_PER_RESULT * self.k);
        let (mut in_flight, mut questions, mut asked) = (Vec::new(), 0, BTreeSet::new());
        let alive = self.alive();
        for step in 0.. {
            prop_assert!(step <= 3 * bound, "does not end");
            match lookup.next() {
                Step::Ask(contact) => {
                    prop_assert_ne!(contact.id, LOCAL);
                    prop_assert!(
                        asked.insert((contact.id, contact.address)),
                        "asked twice: {:?}",
                        contact
                    );
                    questions += 1;
                    prop_assert!(questions <= bound, "{} questions", questions);
                    in_flight.push(contact.id);
                    continue;
                }
                Step::Wait => prop_assert!(!in_flight.is_empty(), "waits for nobody"),
                Step::Done => break,
            }
            let roll = usize::from(self.rolls[step % self.rolls.len()]);
            if roll % 7 == 0 {
                lookup.on_slow(in_flight[roll % in_flight.len()]);
            }
            let id = in_flight.swap_remove(roll % in_flight.len());
            match self
                .ids
                .iter()
                .position(|known| *known == id)
                .map(|place| self.fates[place])
            {
                Some(0) => lookup.on_response(id, alive.iter().take(self.k).map(contact)),
                Some(2) => lookup.on_response(id, self.liars_answer(roll, id).into_iter()),
                _ => lookup.on_failure(id),
            }
        }
        Ok(lookup.results().map(|contact| contact.id).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn honest_networks_give_the_k_nearest(world in worlds(0..1)) {
        let mut nearest = world.alive();
        nearest.truncate(world.k);
        prop_assert_eq!(world.walk()?, nearest);
    }

    #[test]
    fn the_dead_among_the_seeds_change_nothing_while_one_lives(world in worlds(0..2)) {
        let found = world.walk()?;
        let mut nearest = world.alive();
        let one_lives = world.ids.iter().rev().take(world.seeds).any(|seed| nearest.contains(seed));
        nearest.truncate(world.k);
        let expected = if one_lives { nearest } else { Vec::new() };
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn liars_cost_a_bounded_number_of_questions(world in worlds(0..3)) {
        let found = world.walk()?;
        prop_assert!(found.is_sorted_by_key(|id| id.distance(world.target)));
        prop_assert!(found.len() <= world.k);
        let alive = world.alive();
        prop_assert!(found.iter().all(|id| alive.contains(id)), "somebody who never answered is a result");
    }
}
