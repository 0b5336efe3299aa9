//! Chance, from a seed.

use kad_core::Key;
use rand::{RngExt as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A generator with a fixed algorithm. Each part of a world forks one of its own, so that a roll more in one part does
/// not change what happens in another.
#[derive(Debug, Clone)]
pub struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// A generator of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// A generator that goes its own way from here.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.roll())
    }

    /// Any 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0.random()
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound)
    }

    /// A number from 0 up to 1.
    pub fn share(&mut self) -> f64 {
        self.0.random()
    }

    /// Whether something happens that happens in this share of all cases.
    pub fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.share() < share
    }

    /// A random point.
    pub fn key(&mut self) -> Key {
        Key::from_limbs([self.roll(), self.roll(), self.roll(), self.roll()])
    }

    /// A draw from a distribution.
    pub fn draw<T>(&mut self, from: &impl rand_distr::Distribution<T>) -> T {
        from.sample(&mut self.0)
    }

    /// Puts a list into random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        rand::seq::SliceRandom::shuffle(list, &mut self.0);
    }
}
