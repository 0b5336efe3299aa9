//! Percentiles of a stream in eight bytes each.

use crate::Duration;

/// An estimate of a percentile.
///
/// Frugal estimation (Ma, Muthukrishnan and Sandler 2013): a step up for each sample above, one down for each below, in
/// balance when as many lie below as the percentile says. Steps are a share of the value, so that it follows a change
/// of scale, and those down grow while more samples in a row lie below than chance explains. Without that a node that
/// joined in a rush would wait too long for the dead for an hour. Those up do not: a few slow links met in a row are no
/// change.
#[derive(Debug, Default)]
pub(super) struct Percentile<const PERCENT: u32> {
    /// In microseconds, 0 before the first sample.
    estimate: u32,
    /// Samples in a row that did not lie above.
    run: u32,
}

/// The largest step is so many usual ones: larger ones would overshoot, and the living would be late.
const MOST_HURRY: u32 = 8;

impl<const PERCENT: u32> Percentile<PERCENT> {
    /// The estimate goes on from this sample, without any hurry.
    pub(super) fn sample_calmly(&mut self, sample: Duration) {
        self.run = 0;
        self.sample(sample);
    }

    /// The estimate goes on from this sample.
    pub(super) fn sample(&mut self, sample: Duration) {
        let sample = u32::try_from(sample.as_micros()).unwrap_or(u32::MAX).max(1);
        if self.estimate == 0 {
            self.estimate = sample;
            return;
        }
        let above = sample > self.estimate;
        // Of a hundred samples, so many lie on the other side if the estimate is right.
        let others = if above { PERCENT } else { 100 - PERCENT };
        self.run = if above { 0 } else { self.run.saturating_add(1) };
        // One run in twelve is longer than this by chance.
        let long = 250 / others;
        let hurry = (1 + self.run.saturating_sub(long) / (long / 6).max(1)).min(MOST_HURRY);
        let step = u64::from((self.estimate / 16).max(20)) * u64::from(others) * u64::from(hurry) / 100;
        let step = u32::try_from(step).unwrap_or(u32::MAX);
        self.estimate = match above {
            true => self.estimate.saturating_add(step).min(sample),
            false => self.estimate.saturating_sub(step).max(sample),
        };
    }

    /// The estimate; zero before the first sample.
    pub(super) const fn get(&self) -> Duration {
        Duration::from_micros(self.estimate as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// The mean of an estimate over the second half of so many samples: a single one is a step or two off.
    fn settled<const PERCENT: u32>(samples: u64, mut sample: impl FnMut() -> u64) -> u64 {
        let (mut estimate, mut sum) = (Percentile::<PERCENT>::default(), 0);
        for n in 0..samples {
            estimate.sample(Duration::from_micros(sample()));
            if n >= samples / 2 {
                sum += u64::from(estimate.estimate);
            }
        }
        sum / (samples - samples / 2)
    }

    #[test]
    fn estimates_settle_near_their_percentile() {
        let mut rng = Rng::new(3);
        let mut even = || 1_000 + rng.next_u64() % 1_000;
        let p95 = settled::<95>(20_000, &mut even);
        let p50 = settled::<50>(20_000, &mut even);
        assert!((1_900..=2_000).contains(&p95), "{p95}");
        assert!((1_450..=1_550).contains(&p50), "{p50}");
    }

    #[test]
    fn an_estimate_follows_a_change_of_scale() {
        let mut estimate = Percentile::<95>::default();
        let mut all = |millis, count| {
            (0..count).for_each(|_| estimate.sample(Duration::from_millis(millis)));
            estimate.get()
        };
        all(5, 100);
        let busy = all(400, 70);
        assert!(busy > Duration::from_millis(200), "{busy:?}");
        let rested = all(5, 300);
        assert!(rested < Duration::from_millis(25), "{rested:?}");
    }
}
