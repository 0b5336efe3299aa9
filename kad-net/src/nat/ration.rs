//! So many in a span of time, and so many for each.

use std::collections::VecDeque;

use kad_core::{Duration, Instant};

/// Counts what was granted within the last span, exactly. It holds no more entries than it grants in all, so whoever
/// asks under many names costs no more than one name.
#[derive(Debug)]
pub(crate) struct Ration<K> {
    span: Duration,
    in_all: usize,
    granted: VecDeque<(Instant, K)>,
}

impl<K: PartialEq> Ration<K> {
    pub(crate) const fn new(span: Duration, in_all: usize) -> Self {
        Self {
            span,
            in_all,
            granted: VecDeque::new(),
        }
    }

    /// Whether one more would be granted to `key`, of which each gets `each`.
    pub(crate) fn has(&self, now: Instant, key: &K, each: usize) -> bool {
        let recent = || self.granted.iter().filter(|(at, _)| now.since(*at) < self.span);
        recent().count() < self.in_all && recent().filter(|(_, of)| of == key).count() < each
    }

    /// Whether one was granted within the last span to a key like that.
    pub(crate) fn recent(&self, now: Instant, is_like: impl Fn(&K) -> bool) -> bool {
        let mut recent = self.granted.iter().filter(|(at, _)| now.since(*at) < self.span);
        recent.any(|(_, of)| is_like(of))
    }

    /// Counts one that was granted.
    pub(crate) fn take(&mut self, now: Instant, key: K) {
        while self
            .granted
            .front()
            .is_some_and(|(at, _)| now.since(*at) >= self.span || self.granted.len() >= self.in_all)
        {
            self.granted.pop_front();
        }
        self.granted.push_back((now, key));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_window_holds_more_than_is_granted(asks in prop::collection::vec((0u64..4, 0u8..4), 0..200)) {
            let mut ration = Ration::new(Duration::from_secs(10), 6);
            let mut granted: Vec<(u64, u8)> = Vec::new();
            let mut secs = 0;
            for (wait, key) in asks {
                secs += wait;
                let now = Instant::from_micros(secs * 1_000_000);
                let recent: Vec<_> = granted.iter().filter(|(at, _)| secs - at < 10).collect();
                let expected = recent.len() < 6 && recent.iter().filter(|(_, of)| *of == key).count() < 3;
                prop_assert_eq!(ration.has(now, &key, 3), expected);
                if expected {
                    ration.take(now, key);
                    granted.push((secs, key));
                }
                prop_assert!(ration.granted.len() <= 6);
            }
        }
    }
}
