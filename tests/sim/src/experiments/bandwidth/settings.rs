//! The settings of the core that experiment 5 tries.

use std::fmt;

use kad_core::{Config, Duration};

/// Knobs of the core that trade bytes for latency and success; everything else has its default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Setting {
    /// Results of a lookup, which is what an answer has and a quarter more.
    pub(super) k: usize,
    /// Questions in flight.
    pub(super) alpha: usize,
    /// Contacts of a bucket, and of the neighbourhood.
    pub(super) bucket: usize,
    /// Sizes of the first buckets.
    pub(super) wide: &'static [u16],
    /// Minutes until a bucket in which nothing was looked up gets a lookup.
    pub(super) refresh: u64,
}

/// From the cheapest to the dearest; the last is what nodes do that are told nothing else.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(3, 1, 8),
    Setting::new(4, 2, 8),
    Setting::new(4, 2, 16),
    Setting::new(5, 2, 16),
    Setting::new(4, 3, 24),
    Setting::new(5, 3, 20).wide(&[32, 24]),
    Setting::new(8, 3, 20),
    Setting::new(8, 3, 20).refresh(15),
    Setting::new(20, 3, 20),
];

impl Setting {
    const fn new(k: usize, alpha: usize, bucket: usize) -> Self {
        Self {
            k,
            alpha,
            bucket,
            wide: &[],
            refresh: 60,
        }
    }

    const fn wide(self, wide: &'static [u16]) -> Self {
        Self { wide, ..self }
    }

    const fn refresh(self, refresh: u64) -> Self {
        Self { refresh, ..self }
    }

    pub(super) fn config(&self) -> Config {
        let mut config = Config::default();
        (config.k, config.alpha) = (self.k, self.alpha);
        config.table.bucket_size = self.bucket;
        config.table.neighbourhood = self.bucket;
        config.table.wide = self.wide.to_vec();
        config.refresh = Duration::from_secs(60 * self.refresh);
        config
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { k, alpha, bucket, .. } = self;
        write!(f, "k {k}, alpha {alpha}, buckets of {bucket}")?;
        if !self.wide.is_empty() {
            write!(f, " (first {:?})", self.wide)?;
        }
        write!(f, ", refresh {} min", self.refresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_setting_is_the_default() {
        let last = SETTINGS.last().expect("there are some").config();
        let default = Config::default();
        assert_eq!(
            (last.k, last.alpha, last.refresh),
            (default.k, default.alpha, default.refresh)
        );
        assert_eq!(last.table, default.table);
    }
}
