//! Honest networks as order statistics, and crowds that were ground into them.

extern crate std;

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::Instant;
use crate::population::Samples;
use crate::rng::Rng;

const K: usize = 20;

/// Between 0 and 1, neither of them.
fn uniform(rng: &mut Rng) -> f64 {
    ((rng.next_u64() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

/// How far the nearest of so many nodes are from a random point, as shares of the space, nearest first: the least of
/// numbers drawn evenly, each drawn given the one before.
fn nearest(rng: &mut Rng, nodes: u64, count: usize) -> Vec<f64> {
    let mut share = 0.0;
    let left = (1..=nodes).rev().take(count);
    left.map(|left| {
        share += (1.0 - share) * -(uniform(rng).ln() / left as f64).exp_m1();
        share
    })
    .collect()
}

fn distance(share: f64) -> Distance {
    Distance::from_limbs([(share * (1u128 << 64) as f64) as u64, 0, 0, 0])
}

/// What a node makes of so many lookups of random points.
fn estimate(rng: &mut Rng, nodes: u64, lookups: usize) -> Population {
    let mut samples = Samples::new();
    for _ in 0..lookups {
        let found = nearest(rng, nodes - 1, K);
        let farthest = distance(found[K - 1]);
        samples.take(Instant::ZERO, found.len(), K, farthest, K);
    }
    samples.population(K).expect("it has looked")
}

/// Of so many random keys in networks of this size: how often the k nearest are a crowd, and how often there seems to
/// be one among the 2 k nearest. `sybils` of them are nearer than every other node.
fn crowds(rng: &mut Rng, nodes: u64, lookups: usize, keys: usize, sybils: usize) -> (usize, usize) {
    let (mut crowds, mut suspects) = (0, 0);
    for _ in 0..keys {
        let population = estimate(rng, nodes, lookups);
        let region = Region::new(Key::default(), K, Some(population));
        let mut found = nearest(rng, nodes - 1, 2 * K);
        let first = found[0];
        found.extend((0..sybils).map(|_| first * uniform(rng)));
        found.sort_unstable_by(f64::total_cmp);
        let found: Vec<Distance> = found.into_iter().map(distance).collect();
        crowds += usize::from(region.is_crowd(K as u64, found[K - 1]));
        suspects += usize::from(region.is_suspicious(found.into_iter()));
    }
    (crowds, suspects)
}

/// Sizes that lie evenly on a logarithmic scale.
fn sizes(from: f64, to: f64) -> impl Strategy<Value = u64> {
    (from.ln()..to.ln()).prop_map(|size| size.exp() as u64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn honest_nodes_are_taken_for_a_crowd_once_in_a_hundred_keys_at_most(
        nodes in sizes(100.0, 1e6),
        lookups in 1usize..=32,
        seed: u64,
    ) {
        let (crowds, suspects) = crowds(&mut Rng::new(seed), nodes, lookups, 1_000, 0);
        prop_assert!(crowds <= 10, "{crowds} of 1,000 keys");
        // These cost some requests and no STORE: one in a hundred, of a node that has taken all of its samples.
        prop_assert!(suspects <= 40, "{suspects} of 1,000 keys");
    }

    #[test]
    fn a_crowd_that_leaves_no_honest_node_among_the_nearest_is_found(
        nodes in sizes(100.0, 1e6),
        lookups in 1usize..=32,
        sybils in K..=60,
        seed: u64,
    ) {
        let (crowds, suspects) = crowds(&mut Rng::new(seed), nodes, lookups, 200, sybils);
        prop_assert!(crowds >= 190, "{crowds} of 200 keys");
        prop_assert!(suspects >= crowds);
    }
}

#[test]
fn order_statistics_have_the_means_that_theory_says() {
    let mut rng = Rng::new(9);
    let (nodes, draws) = (500, 2_000);
    let mut sums = [0.0; K];
    for _ in 0..draws {
        for (sum, share) in sums.iter_mut().zip(nearest(&mut rng, nodes, K)) {
            *sum += share;
        }
    }
    for (nth, sum) in (1..).zip(sums) {
        let expected = f64::from(nth) / (nodes + 1) as f64;
        let mean = sum / f64::from(draws);
        assert!(
            (mean / expected - 1.0).abs() < 0.1,
            "{nth}: {mean}, expected {expected}"
        );
    }
}
