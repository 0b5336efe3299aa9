//! A token bucket: so many bytes in a second, and as many at once.

use kad_core::Instant;

/// Bytes are counted in millionths, so that no time is lost to rounding, however often it is asked.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: u64,
    level: u64,
    at: Instant,
}

const MILLION: u64 = 1_000_000;

impl Bucket {
    /// Full; it fills by `rate` bytes in a second, and holds as many.
    pub(super) const fn new(rate: u64, now: Instant) -> Self {
        Self {
            rate,
            level: rate.saturating_mul(MILLION),
            at: now,
        }
    }

    fn level_at(&self, now: Instant) -> u64 {
        let micros = now.as_micros().saturating_sub(self.at.as_micros());
        let came = micros.saturating_mul(self.rate);
        self.level
            .saturating_add(came)
            .min(self.rate.saturating_mul(MILLION))
    }

    pub(super) fn has(&self, now: Instant, bytes: u64) -> bool {
        self.level_at(now) >= bytes.saturating_mul(MILLION)
    }

    /// What was asked for before.
    pub(super) fn take(&mut self, now: Instant, bytes: u64) {
        self.level = self.level_at(now).saturating_sub(bytes.saturating_mul(MILLION));
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The oracle looks at every window: what was granted in it is what came in that time, and one bucket.
        #[test]
        fn no_window_has_more_than_its_time_and_one_bucket(
            asks in prop::collection::vec((0u64..400_000, 1u64..900), 1..80),
        ) {
            const RATE: u64 = 1000;
            let mut bucket = Bucket::new(RATE, Instant::ZERO);
            let (mut micros, mut granted) = (0, Vec::new());
            for (wait, bytes) in asks {
                micros += wait;
                let now = Instant::from_micros(micros);
                // Every window that ends now.
                let fits = (0..=granted.len()).all(|first| {
                    let window: &[(u64, u64)] = &granted[first..];
                    let began = window.first().map_or(micros, |(at, _)| *at);
                    let sum: u64 = window.iter().map(|(_, bytes)| bytes).sum::<u64>() + bytes;
                    sum * MILLION <= RATE * MILLION + (micros - began) * RATE
                });
                prop_assert_eq!(bucket.has(now, bytes), fits);
                if fits {
                    bucket.take(now, bytes);
                    granted.push((micros, bytes));
                }
            }
        }
    }

    #[test]
    fn the_end_of_time_overflows_nothing() {
        let mut bucket = Bucket::new(u64::MAX, Instant::ZERO);
        assert!(bucket.has(Instant::MAX, 1));
        bucket.take(Instant::MAX, u64::MAX);
        assert!(!Bucket::new(0, Instant::ZERO).has(Instant::MAX, 1));
    }
}
