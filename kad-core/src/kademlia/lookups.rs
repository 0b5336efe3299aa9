//! Where lookups start, how many questions they have in flight, and what their ends tell.

use alloc::vec::Vec;

use super::Kademlia;
use crate::lookup::{Lookup, LookupConfig, Seed};
use crate::population::Samples;
use crate::{Address, Contact, Distance, Key, Now};

/// Contacts of the table that a lookup starts with for each result. The nearest k would do if all were alive; where a
/// quarter has just died, everybody asked still tells of the same dead, and the walk must not run out of candidates.
const SEEDS_PER_RESULT: usize = 2;

/// Questions in flight on the way to the region of a record that is being published: with two, and a hedge where an
/// answer is late, it costs half as many requests to get there as with alpha and hardly more time (`publish` in
/// `docs/simulation.md`).
pub(super) const FAR_OF_WRITES: usize = 2;
/// The same for what nobody waits for: refreshing buckets, and handing records on.
pub(super) const FAR_OF_UPKEEP: usize = 1;

impl<A: Address> Kademlia<A> {
    /// A lookup that starts from the nearest contacts of the table, after those given.
    pub(super) fn lookup(
        &mut self,
        now: Now,
        target: Key,
        ways: (usize, usize),
        given: Vec<Contact<A>>,
    ) -> Lookup<A> {
        self.lookup_of(now, target, ways, self.config.k, given)
    }

    /// The same for so many results.
    pub(super) fn lookup_of(
        &mut self,
        now: Now,
        target: Key,
        (far, near): (usize, usize),
        results: usize,
        given: Vec<Contact<A>>,
    ) -> Lookup<A> {
        let mut config = LookupConfig::new(results, self.config.alpha, self.config.paths);
        config.radius = self.radius_of(results as u64);
        config.near = near;
        config.far = far;
        config.eager = far == self.config.alpha;
        config.max_paths = self.config.max_paths;
        config.usual = self.lateness.usual(&self.config.patience);
        let bucket = self.local_id().distance(target).leading_zeros();
        if let (Some(edge), Some(deepest)) = (self.edge(), self.table.deepest()) {
            self.maintenance.note_lookup(bucket, now.monotonic, edge, deepest);
        }
        let local = self.local_id();
        // Flagged contacts are being probed. Should all be flagged, our own network was down, and they are as good as
        // any.
        let all_flagged = self.table.contacts().all(|entry| entry.failures > 0);
        let seeds = config.results.saturating_mul(SEEDS_PER_RESULT);
        let known = self
            .table
            .closest(target, seeds, &mut self.scratch)
            .filter(|entry| all_flagged || entry.failures == 0)
            .map(|entry| Seed {
                contact: entry.contact.clone(),
                rtt: entry.rtt,
            });
        Lookup::new(
            local,
            target,
            config,
            given.into_iter().map(Seed::from).chain(known),
        )
    }

    /// Within this distance of a point there are likely so many nodes.
    fn radius_of(&self, nodes: u64) -> Distance {
        self.population()
            .map_or(Distance::ZERO, |population| population.radius(nodes))
    }

    /// The first bucket that has, with all nearer ones, fewer than k contacts: a lookup of the own id finds whoever
    /// belongs there. Should there be more than we know, it brings k, and the edge moves inwards. `None` if we know
    /// nobody.
    pub(super) fn edge(&self) -> Option<u32> {
        let deepest = self.table.deepest()?;
        let (mut edge, mut near) = (deepest, 0);
        for bucket in (0..=deepest).rev() {
            near += self.table.bucket_len(bucket);
            if near >= self.config.k {
                break;
            }
            edge = bucket;
        }
        Some(edge)
    }

    /// A lookup of the own id with so many questions in flight on the way.
    pub(super) fn own_lookup(&mut self, now: Now, far: usize, given: Vec<Contact<A>>) -> Lookup<A> {
        let me = self.local_id().to_key();
        self.lookup(now, me, (far, self.config.k), given).without_doubts()
    }

    /// A walk that nobody waits for.
    pub(super) fn upkeep_lookup(&mut self, now: Now, target: Key, results: usize) -> Lookup<A> {
        self.lookup_of(now, target, (FAR_OF_UPKEEP, results), results, Vec::new())
            .without_doubts()
    }

    pub(super) fn bucket_lookup(&mut self, now: Now, bucket: u32) -> Lookup<A> {
        self.stats.refreshes += 1;
        let target = self.local_id().to_key().at(self.rng.distance_in_bucket(bucket));
        self.lookup(now, target, (FAR_OF_UPKEEP, self.config.k), Vec::new())
            .without_doubts()
    }

    /// A lookup of a random point that this node drew has come to its end: it may tell how many nodes there are.
    pub(super) fn take_sample(&mut self, now: Now, lookup: &Lookup<A>) {
        let target = lookup.target();
        if !Samples::is_one(self.local_id(), target) {
            return;
        }
        if let Some((before, farthest)) = lookup.results().enumerate().last() {
            let (k, distance) = (self.config.k, farthest.id.distance(target));
            self.samples
                .take(now.monotonic, before + 1, k, distance, self.table.len());
        }
    }
}
