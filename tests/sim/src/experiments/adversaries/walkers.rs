//! The model of the paper: greedy walkers that share no node.
//!
//! A walker steps to the contact nearest to the target that no walker has been at, and steps on from there. One that
//! steps on an adversary is lost. All have the same start and take turns, one step each; the lookup succeeds when one
//! of them is at a node that knows the target, which is honest. Whether walkers take turns or go one after another, and
//! whether they may step away from the target, changes no figure by more than a few tenths of a percent.

use std::collections::BTreeSet;

use kad_core::Key;

use crate::Dice;

/// Whom a node knows, nearest to a point first, by number; at most so many.
pub(super) trait Tables {
    fn nearest(&mut self, node: usize, target: Key, most: usize) -> Vec<usize>;
}

/// Whether so many walkers from `start` come to `goal`, which is where `target` points to.
pub(super) fn arrive(
    tables: &mut impl Tables,
    lost: impl Fn(usize) -> bool,
    start: usize,
    goal: usize,
    target: Key,
    walkers: usize,
) -> bool {
    let mut trodden = BTreeSet::from([start]);
    let mut at = vec![start; walkers];
    while !at.is_empty() {
        let mut moved = Vec::with_capacity(at.len());
        for from in at {
            // One of more than have been at must be new, if there are as many.
            let known = tables.nearest(from, target, trodden.len() + 1);
            if known.first() == Some(&goal) {
                return true;
            }
            if let Some(&next) = known.iter().find(|next| !trodden.contains(next)) {
                trodden.insert(next);
                if !lost(next) {
                    moved.push(next);
                }
            }
        }
        at = moved;
    }
    false
}

/// Tables without fault: each bucket holds as many random nodes as it takes. What the published figures were computed
/// with; here only to tell a fault of the model from one of the tables.
pub(super) struct Perfect<'k> {
    keys: &'k [Key],
    tables: Vec<Vec<u32>>,
}

impl<'k> Perfect<'k> {
    /// For the nodes with these ids.
    pub(super) fn new(keys: &'k [Key], k: usize, dice: &mut Dice) -> Self {
        let mut sorted: Vec<_> = (0..keys.len() as u32).collect();
        sorted.sort_unstable_by_key(|&node| keys[node as usize]);
        let first_limb = |node: &u32| keys[*node as usize].to_limbs()[0];
        let table = |own: u64, dice: &mut Dice| {
            let mut table = Vec::new();
            for bucket in 0..64 {
                // The nodes of a bucket are a range.
                let size = 63 - bucket;
                let low = (own ^ 1 << size) >> size << size;
                let high = low | ((1 << size) - 1);
                let first = sorted.partition_point(|node| first_limb(node) < low);
                let end = sorted.partition_point(|node| first_limb(node) <= high);
                let mut drawn = BTreeSet::new();
                while drawn.len() < k.min(end - first) {
                    drawn.insert(first + dice.below(end - first));
                }
                table.extend(drawn.into_iter().map(|place| sorted[place]));
            }
            table
        };
        let tables = keys.iter().map(|key| table(key.to_limbs()[0], dice)).collect();
        Self { keys, tables }
    }
}

impl Tables for Perfect<'_> {
    fn nearest(&mut self, node: usize, target: Key, most: usize) -> Vec<usize> {
        let distance = |&other: &u32| (self.keys[other as usize].distance(target), other as usize);
        let mut known: Vec<_> = self.tables[node].iter().map(distance).collect();
        if most < known.len() {
            known.select_nth_unstable(most);
            known.truncate(most);
        }
        known.sort_unstable();
        known.into_iter().map(|(_, other)| other).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With perfect tables the model gives what the published plots were computed to show, within a point and the error
    /// of 2,000 walks.
    #[test]
    fn walkers_on_perfect_tables_arrive_as_often_as_published() {
        let mut dice = Dice::new(1);
        let keys: Vec<_> = (0..10_000).map(|_| dice.key()).collect();
        let mut tables = Perfect::new(&keys, 16, &mut dice);
        for (walkers, share, published) in [(4, 0.2, 98.5), (4, 0.4, 85.5), (8, 0.3, 99.5), (8, 0.5, 88.3)] {
            let lost: Vec<bool> = (0..keys.len()).map(|_| dice.chance(share)).collect();
            let (mut tries, mut arrived) = (0, 0);
            while tries < 2000 {
                let (start, goal) = (dice.below(keys.len()), dice.below(keys.len()));
                if start != goal && !lost[start] && !lost[goal] {
                    tries += 1;
                    arrived += u32::from(arrive(
                        &mut tables,
                        |node| lost[node],
                        start,
                        goal,
                        keys[goal],
                        walkers,
                    ));
                }
            }
            let is = f64::from(arrived) / 20.0;
            assert!(
                (is - published).abs() < 2.5,
                "{walkers} walkers, {share}: {is} instead of {published}"
            );
        }
    }
}
