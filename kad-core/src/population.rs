//! How many nodes the network has, as far as one node can tell.
//!
//! Ids are hashes, so nodes lie evenly in the space: whoever finds the n nearest to a random point has measured how
//! dense the space is. Each lookup of a random point gives one sample, and the estimate is their median.
//!
//! # Which lookups count
//!
//! Only those whose target this node has drawn itself: what joining looks up in each bucket, and refreshes. Targets of
//! the application and of records are chosen by others, who could fill the surroundings of a popular key with made-up
//! nodes. And buckets do not count alike. Each gets as many lookups as any other one, so most targets lie near to the
//! own id, in a small region that an attacker of this node fills first. Of the lookups in bucket b one in 2^b is a
//! sample, so samples lie evenly in the space, as the parts of it that buckets stand for do. Which ones is told by bits
//! of the random target.
//!
//! # One sample
//!
//! With M other nodes, the distance of the n-th nearest to a random point is the n-th smallest of M numbers drawn
//! evenly. The median of the space's share up to there is (n - 1/3) / (M + 1/3), nearly whatever n and M are. So the
//! sample is M = (n - 1/3) / d - 1/3, too small as often as it is too large, which is what a median of samples wants.
//! The often seen (n - 1) / d has the right mean and is right for averages. Nothing is gained by the n - 1 nearer
//! distances: given the last one, they say nothing about the density (it is a sufficient statistic); a median over all
//! of them spreads by a fifth more. A lookup that found fewer than it wanted has seen everybody, and its sample is
//! exact.
//!
//! # What the interval says
//!
//! [`Population::low`] and [`Population::high`] hold the true number in at least nine of ten cases. They are the wider
//! one of two intervals. One comes from the samples alone, whatever their distribution is: ranks around the median that
//! miss it in fewer than one of twenty cases. The other comes from theory and is what remains when there are few
//! samples: twice the standard deviation of a median of m samples of n nodes, together with that of the number of nodes
//! in the part of the space that was looked at.
//!
//! # What an attacker can do
//!
//! Made-up nodes around one point move the samples that land there, which are few. The median leaves the spread of
//! honest samples when half of all are moved, so it takes made-up nodes as dense as the real ones in half of the space,
//! and then the network has that many. Everything here is whole numbers: the same samples give the same estimate on
//! every machine.

use alloc::vec::Vec;

use crate::{Distance, Duration, Instant, Key, NodeId};

/// Samples that are kept; the oldest makes room. The median of 32 samples of 20 nodes each spreads by 5 %, and at one
/// or two samples an hour they are a day old at most, young enough to follow a network that grows.
const MAX_SAMPLES: usize = 32;

/// Samples for which there is more room when there is none: most nodes of a simulated network never take many.
const GROWTH: usize = 4;

/// Fewer samples than this are few: every round of upkeep takes one more, five in the first half hour and then up to
/// four an hour. Those of the join are as old as the node, and a young network may have grown since; with twelve they
/// are outvoted.
const FEW_SAMPLES: usize = 12;

/// An estimate of the number of nodes, this one included. See [`Stats::population`](crate::Stats::population).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Population {
    /// The likely number.
    pub nodes: u64,
    /// There are hardly fewer. With `high` it holds the true number in nine of ten cases.
    pub low: u64,
    /// There are hardly more.
    pub high: u64,
    /// Lookups on which this rests, at most 32; 0 if it is only a guess from the contacts nearest to this node.
    pub samples: u32,
}

impl Population {
    /// From what is known of the own neighbourhood: the distance of the n-th nearest contact. It is one sample, of a
    /// place that others can choose, and from contacts that may not be all: hence twice and half.
    pub(crate) fn guess(nth: usize, distance: Distance) -> Self {
        let nodes = from_density(nth, distance);
        Self {
            nodes,
            low: nodes / 2,
            high: nodes.saturating_mul(2),
            samples: 0,
        }
    }

    /// How many nodes are likely to be nearer to a point than this distance.
    #[must_use]
    pub fn rank(&self, distance: Distance) -> u64 {
        // nodes * distance / 2^256, limb by limb from the least significant one; what is carried fits, and ends as the
        // result.
        let limbs = distance.to_limbs().into_iter().rev();
        limbs.fold(0, |carry, limb| {
            let product = u128::from(self.nodes) * u128::from(limb) + u128::from(carry);
            (product >> 64) as u64
        })
    }

    /// The distance from any point within which so many nodes are likely to be; the whole space if there are not as
    /// many.
    ///
    /// The least with this [`rank`](Self::rank).
    #[must_use]
    pub fn radius(&self, nodes: u64) -> Distance {
        if nodes >= self.nodes {
            return Distance::from_limbs([u64::MAX; 4]);
        }
        // nodes * 2^256 / self.nodes by long division, rounded up.
        let mut rest = nodes;
        let mut limbs = [0; 4].map(|_: u64| {
            let part = u128::from(rest) << 64;
            rest = (part % u128::from(self.nodes)) as u64;
            (part / u128::from(self.nodes)) as u64
        });
        let mut carry = rest > 0;
        for limb in limbs.iter_mut().rev() {
            (*limb, carry) = limb.overflowing_add(carry.into());
        }
        Distance::from_limbs(limbs)
    }
}

/// The last samples.
#[derive(Debug)]
pub(crate) struct Samples {
    nodes: Vec<u64>,
    /// Samples ever taken; the next one goes to this place, modulo the size.
    taken: usize,
    last: Instant,
}

impl Samples {
    pub(crate) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            taken: 0,
            last: Instant::ZERO,
        }
    }

    /// Whether a lookup of this random point is a sample.
    pub(crate) fn is_one(own: NodeId, target: Key) -> bool {
        target.to_limbs()[3].trailing_zeros() >= own.distance(target).leading_zeros()
    }

    /// A lookup of a random point has found `found` of the `k` nodes that it wanted, the last one at this distance.
    /// `contacts` are in the table: if these are more than were found, the lookup has failed and says nothing.
    pub(crate) fn take(&mut self, now: Instant, found: usize, k: usize, distance: Distance, contacts: usize) {
        let nodes = match found {
            0 => return,
            _ if found >= k => from_density(found, distance),
            _ if contacts > found => return,
            _ => found as u64 + 1,
        };
        match self.nodes.get_mut(self.taken % MAX_SAMPLES) {
            Some(oldest) => *oldest = nodes,
            None => {
                if self.nodes.len() == self.nodes.capacity() {
                    self.nodes.reserve_exact(GROWTH);
                }
                self.nodes.push(nodes);
            }
        }
        self.taken += 1;
        self.last = now;
    }

    /// Whether it is time for one more: there are few, or the last one is older than `age`.
    pub(crate) fn want_another(&self, now: Instant, age: Duration) -> bool {
        self.taken < FEW_SAMPLES || self.last + age <= now
    }

    /// What they say together, if there are any. `k` is what a lookup finds.
    pub(crate) fn population(&self, k: usize) -> Option<Population> {
        let mut room = [0; MAX_SAMPLES];
        let sorted = self.sorted(&mut room);
        let nodes = median(sorted);
        let rank = trimmed(sorted.len());
        let (&first, &last) = (sorted.get(rank)?, sorted.iter().rev().nth(rank)?);
        let spread = u128::from(spread(sorted.len(), k, nodes));
        let scaled = |by: u128, of: u128| u64::try_from(u128::from(nodes) * by / of).unwrap_or(u64::MAX);
        Some(Population {
            nodes,
            low: first.min(scaled(1 << 16, (1 << 16) + spread)),
            high: last.max(scaled((1 << 16) + spread, 1 << 16)),
            samples: sorted.len() as u32,
        })
    }

    fn sorted<'r>(&self, room: &'r mut [u64; MAX_SAMPLES]) -> &'r [u64] {
        let taken = &mut room[..self.nodes.len()];
        taken.copy_from_slice(&self.nodes);
        taken.sort_unstable();
        taken
    }
}

/// The number of nodes of which the nth nearest to a random point lies at this distance, the one that asks included.
fn from_density(nth: usize, distance: Distance) -> u64 {
    // The upper 64 bits are exact enough for any network on earth.
    let share = u128::from(distance.to_limbs()[0].max(1));
    let others = ((3 * nth as u128 - 1) << 64) / (3 * share);
    // A third less, the one that asks, and half a node that the division cut off.
    u64::try_from(others + 1).unwrap_or(u64::MAX)
}

/// The middle one, or what lies halfway between the middle two.
fn median(sorted: &[u64]) -> u64 {
    let half = sorted.len() / 2;
    match sorted {
        [] => 0,
        _ if sorted.len() % 2 == 1 => sorted[half],
        _ => sorted[half - 1].midpoint(sorted[half]),
    }
}

/// How many of the least and of the greatest samples lie outside of an interval that misses the median of whatever they
/// were drawn from in fewer than one of twenty cases.
///
/// It misses it if that few of them lie on one side, each of which is as likely as a coin's. With fewer than six
/// samples even the least and the greatest miss it more often.
fn trimmed(samples: usize) -> usize {
    let (mut sum, mut binomial, mut rank) = (0u64, 1u64, 0);
    while 40 * (sum + binomial) <= 1 << samples {
        sum += binomial;
        rank += 1;
        binomial = binomial * (samples + 1 - rank) as u64 / rank as u64;
    }
    rank.saturating_sub(1)
}

/// Twice the relative standard deviation that theory expects of the median of so many samples, in parts of 65,536.
fn spread(samples: usize, k: usize, nodes: u64) -> u64 {
    /// Of a sample of k nodes the variance is 1 / k; of a median of m samples it is pi / 2 m of that of one sample.
    /// Four times this.
    const TWO_PI: u64 = 26_986_075_409;
    const FOUR: u64 = 4 << 32;
    if nodes <= k as u64 {
        return 0; // Every lookup has seen everybody.
    }
    // However many samples there are, they tell of the nodes that happen to be where was looked.
    (TWO_PI / (samples * k).max(1) as u64 + FOUR / nodes).isqrt()
}

#[cfg(test)]
mod tests;
