//! Perfect networks, drawn from a seed, and what one node makes of them.

extern crate std;

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

const K: usize = 20;

/// The upper 64 bits of the ids of a network, sorted.
struct Network(Vec<u64>);

impl Network {
    fn random(rng: &mut Rng, nodes: usize) -> Self {
        let mut ids: Vec<u64> = (0..nodes).map(|_| rng.next_u64()).collect();
        ids.sort_unstable();
        Self(ids)
    }

    /// The distances of the k nodes nearest to a point, nearest first, without `asker`.
    fn nearest(&self, target: u64, k: usize, asker: u64) -> Vec<u64> {
        let mut found = Vec::new();
        nearest(&self.0, 0, target, k + 1, &mut found);
        let mut distances: Vec<u64> = found
            .into_iter()
            .filter(|&id| id != asker)
            .map(|id| id ^ target)
            .collect();
        distances.sort_unstable();
        distances.truncate(k);
        distances
    }

    /// A node looks up a random point of a bucket.
    fn look_up(&self, rng: &mut Rng, samples: &mut Samples, asker: u64, bucket: u32) {
        let own = NodeId::from_limbs([asker, 0, 0, 0]);
        let target = own.to_key().at(rng.distance_in_bucket(bucket));
        if Samples::is_one(own, target) {
            let found = self.nearest(target.to_limbs()[0], K, asker);
            let farthest = found.last().map_or(Distance::ZERO, |&last| distance(last));
            samples.take(Instant::ZERO, found.len(), K, farthest, self.0.len().min(K) - 1);
        }
    }

    /// What a node has measured after so many samples: it joins, and then refreshes its buckets in turns.
    fn measured(&self, rng: &mut Rng, asker: u64, enough: usize) -> Samples {
        let mut samples = Samples::new();
        while samples.taken < enough {
            for bucket in (0..20).take_while(|&bucket| bucket == 0 || self.0.len() >> bucket > 0) {
                if samples.taken < enough {
                    self.look_up(rng, &mut samples, asker, bucket);
                }
            }
        }
        samples
    }
}

/// Collects at least the k ids nearest to a target, of ids that share their upper `bit` bits.
fn nearest(ids: &[u64], bit: u32, target: u64, k: usize, found: &mut Vec<u64>) {
    if ids.len() <= k || bit == 64 {
        return found.extend(ids);
    }
    let mask = 1 << (63 - bit);
    let (zeros, ones) = ids.split_at(ids.partition_point(|id| id & mask == 0));
    let (near, far) = if target & mask == 0 {
        (zeros, ones)
    } else {
        (ones, zeros)
    };
    nearest(near, bit + 1, target, k, found);
    if near.len() < k {
        nearest(far, bit + 1, target, k - near.len(), found);
    }
}

fn distance(upper: u64) -> Distance {
    Distance::from_limbs([upper, 0, 0, 0])
}

/// Estimates of many nodes in many networks of one size.
fn estimates(seed: u64, nodes: usize, lookups: usize) -> Vec<Population> {
    let mut rng = Rng::new(seed);
    let mut estimates = Vec::new();
    for _ in 0..(200_000 / nodes).clamp(20, 200) {
        let network = Network::random(&mut rng, nodes);
        for _ in 0..10 {
            let asker = network.0[(rng.next_u64() % nodes as u64) as usize];
            let samples = network.measured(&mut rng, asker, lookups);
            estimates.extend(samples.population(K));
        }
    }
    estimates
}

/// How far off from the truth those are that are farther off than so many of a hundred, in thousandths.
fn off_by(estimates: &[u64], truth: usize, percent: usize) -> i64 {
    let mut off: Vec<i64> = estimates
        .iter()
        .map(|&nodes| (i128::from(nodes) * 1000 / truth as i128) as i64 - 1000)
        .collect();
    off.sort_unstable();
    off[(off.len() - 1) * percent / 100]
}

#[test]
fn estimates_are_near_the_truth_and_their_intervals_hold_it() {
    for nodes in [100, 1_000, 10_000, 100_000] {
        for (lookups, most) in [
            (1, 550),
            (2, 450),
            (3, 380),
            (5, 350),
            (8, 300),
            (16, 260),
            (32, 250),
        ] {
            let estimates = estimates(lookups as u64, nodes, lookups);
            let held = estimates
                .iter()
                .filter(|estimate| (estimate.low..=estimate.high).contains(&(nodes as u64)));
            let held = 1000 * held.count() / estimates.len();
            let medians: Vec<u64> = estimates.iter().map(|estimate| estimate.nodes).collect();
            let [low, middle, high] = [5, 50, 95].map(|percent| off_by(&medians, nodes, percent));
            std::eprintln!(
                "{nodes:6} nodes, {lookups:2} samples: off by {low:+} to {high:+} of 1000, half below {middle:+}; held by {held}"
            );
            assert!(held >= 900, "{held} of 1000 intervals hold {nodes}");
            // Two estimates have a mean and no median, which is too large because they are skewed.
            let skew = if lookups < 8 { 60 } else { 25 };
            assert!(
                middle.abs() <= skew,
                "half of all estimates of {nodes} are off by {middle} of 1000"
            );
            // In a network of a hundred half of it is looked at, whose number is off by a tenth.
            let most = if nodes > 100 && lookups == 32 { 120 } else { most };
            assert!(
                -most <= low && high <= most,
                "{nodes} nodes, {lookups} samples: {low} to {high}"
            );
        }
    }
}

#[test]
fn a_network_that_one_lookup_sees_is_counted_exactly() {
    for nodes in 2..=K {
        let mut rng = Rng::new(nodes as u64);
        let network = Network::random(&mut rng, nodes);
        let exact = nodes as u64;
        let population = network.measured(&mut rng, network.0[0], 3).population(K);
        let expected = Population {
            nodes: exact,
            low: exact,
            high: exact,
            samples: 3,
        };
        assert_eq!(population, Some(expected));
    }
    for nodes in [K + 1, K + 5, 2 * K] {
        let estimates = estimates(7, nodes, 5);
        let held = estimates
            .iter()
            .filter(|e| (e.low..=e.high).contains(&(nodes as u64)));
        assert!(100 * held.count() >= 90 * estimates.len(), "{nodes} nodes");
    }
}

#[test]
fn the_last_distance_with_a_third_less_is_the_best_sample() {
    const NODES: usize = 10_000;
    let (mut rng, mut last, mut mean, mut all) = (Rng::new(5), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        let network = Network::random(&mut rng, NODES);
        for _ in 0..200 {
            let distances = network.nearest(rng.next_u64(), K, 0);
            let of = |nth: usize| from_density(nth, distance(distances[nth - 1]));
            last.push(of(K));
            mean.push((((K as u128 - 1) << 64) / u128::from(distances[K - 1])) as u64);
            let mut each: Vec<u64> = (4..=K).map(of).collect();
            each.sort_unstable();
            all.push(median(&each));
        }
    }
    let spread = |samples: &[u64]| off_by(samples, NODES, 95) - off_by(samples, NODES, 5);
    let middle = |samples: &[u64]| off_by(samples, NODES, 50).abs();
    std::eprintln!(
        "spread and middle: last {} {}, with the right mean {} {}, median of all {} {}",
        spread(&last),
        middle(&last),
        spread(&mean),
        middle(&mean),
        spread(&all),
        middle(&all)
    );
    assert!(middle(&last) < 10 && middle(&mean) > 20);
    assert!(spread(&last) * 11 < spread(&all) * 10);
}

#[test]
fn a_third_of_poisoned_samples_moves_the_median_no_farther_than_honest_ones_spread() {
    const NODES: usize = 10_000;
    let single: Vec<u64> = estimates(1, NODES, 1)
        .iter()
        .map(|estimate| estimate.nodes)
        .collect();
    let honest = off_by(&single, NODES, 5)..=off_by(&single, NODES, 95);
    let mut rng = Rng::new(9);
    let network = Network::random(&mut rng, NODES);
    for poison in [1, u64::MAX] {
        let mut medians = Vec::new();
        for _ in 0..200 {
            let asker = network.0[(rng.next_u64() % NODES as u64) as usize];
            let mut samples = network.measured(&mut rng, asker, MAX_SAMPLES);
            samples.nodes[..MAX_SAMPLES / 3].fill(poison);
            let population = samples.population(K).unwrap();
            medians.push(population.nodes);
            // Who looks at the interval sees that something is wrong.
            let wide = population.high - population.low > population.nodes / 2;
            assert!(wide, "{population:?}");
        }
        for percent in [1, 99] {
            let off = off_by(&medians, NODES, percent);
            assert!(
                honest.contains(&off),
                "off by {off} of 1000, honest samples by {honest:?}"
            );
        }
    }
}

#[test]
fn made_up_nodes_around_one_point_move_next_to_nothing() {
    const NODES: usize = 10_000;
    let mut rng = Rng::new(10);
    for around_self in [false, true] {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for _ in 0..50 {
            let mut network = Network::random(&mut rng, NODES);
            let asker = network.0[0];
            before.push(
                network
                    .measured(&mut rng, asker, MAX_SAMPLES)
                    .population(K)
                    .unwrap()
                    .nodes,
            );
            // As many made-up nodes as there are real ones, in one of 4,096 parts of the space.
            let centre = if around_self { asker } else { rng.next_u64() };
            let sybils: Vec<u64> = (0..NODES).map(|_| centre ^ (rng.next_u64() >> 12)).collect();
            network.0.extend(sybils);
            network.0.sort_unstable();
            after.push(
                network
                    .measured(&mut rng, asker, MAX_SAMPLES)
                    .population(K)
                    .unwrap()
                    .nodes,
            );
        }
        for percent in [10, 50, 90] {
            let (before, after) = (off_by(&before, NODES, percent), off_by(&after, NODES, percent));
            assert!(
                (before - after).abs() <= 60,
                "{before} of 1000 without, {after} with made-up nodes"
            );
        }
    }
}

#[test]
fn only_lookups_that_say_something_are_samples() {
    let mut samples = Samples::new();
    let take = |samples: &mut Samples, found, contacts| {
        samples.take(Instant::ZERO, found, K, distance(1 << 60), contacts);
        samples.taken
    };
    assert_eq!(samples.population(K), None);
    // Nobody was found; fewer than are known.
    assert_eq!(take(&mut samples, 0, 0), 0);
    assert_eq!(take(&mut samples, 3, 40), 0);
    assert_eq!(take(&mut samples, 3, 3), 1);
    assert_eq!(take(&mut samples, K, 40), 2);
}

#[test]
fn samples_lie_evenly_in_the_space() {
    let mut rng = Rng::new(11);
    let own = NodeId::from_limbs([rng.next_u64(), 0, 0, 0]);
    let mut counted = [0; 16];
    for _ in 0..16_384 {
        for bucket in 0..256 {
            let target = own.to_key().at(rng.distance_in_bucket(bucket));
            counted[bucket.min(15) as usize] += u32::from(Samples::is_one(own, target));
        }
    }
    assert_eq!(counted[0], 16_384);
    for (bucket, &counted) in counted.iter().enumerate().take(8) {
        let expected = 16_384u32 >> bucket;
        let off = counted.abs_diff(expected);
        assert!(off < expected / 4, "{counted} of bucket {bucket}");
    }
    assert!(counted[15] <= 8, "{} near to the own id", counted[15]);
}

#[test]
fn the_oldest_sample_makes_room() {
    let mut samples = Samples::new();
    for found in 1..=2 * MAX_SAMPLES {
        samples.take(Instant::ZERO, found.min(K - 1), K, Distance::ZERO, 0);
    }
    let population = samples.population(K).unwrap();
    assert_eq!(
        (population.samples, population.low, population.high),
        (32, 20, 20)
    );
}

#[test]
fn one_more_sample_is_wanted_while_there_are_few_and_when_the_last_is_old() {
    let mut samples = Samples::new();
    let at = Instant::from_micros;
    let hour = Duration::from_secs(3600);
    for _ in 0..FEW_SAMPLES {
        assert!(samples.want_another(at(5), hour));
        samples.take(at(5), 1, K, Distance::ZERO, 1);
    }
    assert!(!samples.want_another(at(5), hour));
    assert!(samples.want_another(at(5) + hour, hour));
}

#[test]
fn intervals_of_ranks_miss_the_median_in_fewer_than_one_of_twenty_cases() {
    let ranks = [1, 5, 6, 9, 16, 32].map(trimmed);
    // The tables of order statistics for 95 % begin with the least and the greatest of six.
    assert_eq!(ranks, [0, 0, 0, 1, 3, 9]);
}

fn population(nodes: u64) -> Population {
    Population {
        nodes,
        low: nodes,
        high: nodes,
        samples: 1,
    }
}

#[test]
fn ranks_and_radii_of_simple_numbers() {
    let of_1000 = population(1000);
    assert_eq!(of_1000.rank(distance(1 << 63)), 500);
    assert_eq!(of_1000.rank(Distance::ZERO), 0);
    assert_eq!(of_1000.rank(Distance::from_limbs([u64::MAX; 4])), 999);
    assert_eq!(of_1000.radius(500), distance(1 << 63));
    assert_eq!(of_1000.radius(0), Distance::ZERO);
    for all in [1000, 1001, u64::MAX] {
        assert_eq!(of_1000.radius(all), Distance::from_limbs([u64::MAX; 4]));
    }
    assert_eq!(population(0).radius(0), Distance::from_limbs([u64::MAX; 4]));
    assert_eq!(
        population(u64::MAX).rank(Distance::from_limbs([u64::MAX; 4])),
        u64::MAX - 1
    );
}

fn any_distance() -> impl Strategy<Value = Distance> {
    let limbs = prop_oneof![
        any::<[u64; 4]>(),
        // Near to nothing, as distances in small regions are.
        any::<u64>().prop_map(|low| [0, 0, low, low]),
    ];
    limbs.prop_map(Distance::from_limbs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_radius_is_the_least_distance_of_its_rank(nodes in 1..u64::MAX, share in any::<u64>()) {
        let (population, k) = (population(nodes), ((u128::from(nodes) * u128::from(share)) >> 64) as u64);
        let radius = population.radius(k);
        prop_assert_eq!(population.rank(radius), k);
        let mut less = radius.to_limbs();
        for limb in less.iter_mut().rev() {
            let borrow;
            (*limb, borrow) = limb.overflowing_sub(1);
            if !borrow {
                break;
            }
        }
        prop_assert!(k == 0 || population.rank(Distance::from_limbs(less)) < k);
    }

    #[test]
    fn ranks_grow_with_distance(nodes in any::<u64>(), a in any_distance(), b in any_distance()) {
        let ranks = (population(nodes).rank(a), population(nodes).rank(b));
        prop_assert!(a.cmp(&b) == ranks.0.cmp(&ranks.1) || ranks.0 == ranks.1);
        prop_assert!(ranks.0 <= nodes);
    }

    #[test]
    fn no_distance_breaks_an_estimate(
        found in prop::collection::vec((0..40usize, any_distance(), 0..60usize), 0..70),
        k in 1..33usize,
    ) {
        let mut samples = Samples::new();
        for (found, distance, contacts) in found {
            samples.take(Instant::ZERO, found, k, distance, contacts);
        }
        if let Some(population) = samples.population(k) {
            prop_assert!(population.low <= population.nodes && population.nodes <= population.high);
            prop_assert!((1..=32).contains(&population.samples));
        }
    }
}
