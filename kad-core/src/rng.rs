//! A small deterministic generator for jitter and refresh targets. Nothing that must be secret comes from here.

use crate::{Distance, Duration};

/// SplitMix64 (Steele, Lea and Flood 2014): 64 bits of state, full period, good enough to spread timers.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A random distance whose first set bit is `index`: a point of that bucket, seen from the local id.
    pub(crate) fn distance_in_bucket(&mut self, index: u32) -> Distance {
        let mut limbs = [self.next_u64(), self.next_u64(), self.next_u64(), self.next_u64()];
        for (i, limb) in limbs.iter_mut().enumerate() {
            let first = 64 * i as u32;
            if index >= first + 64 {
                *limb = 0;
            } else if index >= first {
                let bit = 1u64 << (63 - (index - first));
                *limb = (*limb & (bit - 1)) | bit;
            }
        }
        Distance::from_limbs(limbs)
    }

    /// The span, shortened at random by up to an eighth, so that timers armed together do not fire together.
    pub(crate) fn shortened(&mut self, span: Duration) -> Duration {
        let eighth = u64::try_from(span.as_micros() / 8).unwrap_or(u64::MAX);
        match eighth {
            0 => span,
            _ => span - Duration::from_micros(self.next_u64() % eighth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refresh_targets_fall_into_the_bucket_that_was_asked_for() {
        let mut rng = Rng::new(7);
        for index in 0..crate::ID_BITS {
            assert_eq!(rng.distance_in_bucket(index).leading_zeros(), index);
        }
    }

    #[test]
    fn shortening_keeps_seven_eighths() {
        let mut rng = Rng::new(1);
        for _ in 0..1000 {
            let short = rng.shortened(Duration::from_secs(8));
            assert!(short > Duration::from_secs(7) && short <= Duration::from_secs(8));
        }
        assert_eq!(rng.shortened(Duration::ZERO), Duration::ZERO);
    }
}
