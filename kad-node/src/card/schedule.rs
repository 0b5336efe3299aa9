//! When a card is written: at once, but not often, and before its life ends.

use std::time::Duration;

use tokio::time::Instant;

use super::LIFE;

/// The longest pause after failures, which doubles from the usual one on.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// When the next writing is due.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Between two writings.
    pause: Duration,
    /// Since when something is to be said that was not yet written.
    wanted: Option<Instant>,
    /// When it was tried last.
    tried: Option<Instant>,
    /// How often in a row it has failed.
    failures: u32,
    /// When what was written has to be written again.
    renewal: Option<Instant>,
}

impl Schedule {
    pub(super) const fn new(pause: Duration) -> Self {
        Self {
            pause,
            wanted: None,
            tried: None,
            failures: 0,
            renewal: None,
        }
    }

    /// Whether there is something to be said that is not what was written last.
    pub(super) fn wants(&mut self, differs: bool, now: Instant) {
        self.wanted = match (differs, self.wanted) {
            (false, _) => None,
            (true, Some(since)) => Some(since),
            (true, None) => Some(now),
        };
    }

    /// When to write; `None` while there is nothing to say.
    pub(super) fn due(&self) -> Option<Instant> {
        let wanted = match (self.wanted, self.renewal) {
            (Some(wanted), Some(renewal)) => wanted.min(renewal),
            (wanted, renewal) => wanted.or(renewal)?,
        };
        let pause = self
            .pause
            .saturating_mul(1 << self.failures.min(10))
            .min(LONGEST_PAUSE);
        Some(self.tried.map_or(wanted, |tried| wanted.max(tried + pause)))
    }

    pub(super) fn written(&mut self, now: Instant) {
        self.wanted = None;
        self.tried = Some(now);
        self.failures = 0;
        self.renewal = Some(now + LIFE / 2);
    }

    /// What made writings fail may be over.
    pub(super) const fn hope(&mut self) {
        self.failures = 0;
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.tried = Some(now);
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::PAUSE;
    use super::*;

    proptest! {
        /// Each step: the time until it, whether the card says something else then, whether a writing would succeed.
        #[test]
        fn every_change_is_written_soon_and_none_too_soon(
            steps in prop::collection::vec((0u64..4_000, any::<bool>(), prop::bool::weighted(0.8)), 1..200),
        ) {
            let start = Instant::now();
            let (mut now, mut schedule) = (start, Schedule::new(PAUSE));
            let (mut says, mut written) = (0u64, None);
            let (mut last_try, mut last_success) = (None::<Instant>, None::<Instant>);
            for (seconds, changes, succeeds) in steps {
                let until = now + Duration::from_secs(seconds);
                // All that is due before the step.
                loop {
                    schedule.wants(written != Some(says), now);
                    let Some(due) = schedule.due().filter(|due| *due <= until) else { break };
                    now = now.max(due);
                    prop_assert!(last_try.is_none_or(|last| now >= last + PAUSE));
                    last_try = Some(now);
                    if succeeds {
                        schedule.written(now);
                        (written, last_success) = (Some(says), Some(now));
                    } else {
                        schedule.failed(now);
                    }
                }
                // With no failure in between, nothing waits for longer than a pause, and no card comes near its end.
                if succeeds {
                    let waited = last_try.is_some_and(|last| until >= last + LONGEST_PAUSE);
                    prop_assert!(written == Some(says) || !waited);
                    let fresh = last_success.is_some_and(|last| until <= last + LIFE / 2 + LONGEST_PAUSE);
                    prop_assert!(fresh || !waited);
                }
                now = until;
                says += u64::from(changes);
            }
        }
    }

    #[test]
    fn the_first_card_is_written_at_once_and_the_next_after_a_pause() {
        let start = Instant::now();
        let mut schedule = Schedule::new(PAUSE);
        assert_eq!(schedule.due(), None);
        schedule.wants(true, start);
        assert_eq!(schedule.due(), Some(start));
        schedule.written(start);
        schedule.wants(false, start);
        assert_eq!(schedule.due(), Some(start + LIFE / 2));
        let later = start + Duration::from_secs(3);
        schedule.wants(true, later);
        schedule.wants(true, later + Duration::from_secs(1));
        assert_eq!(schedule.due(), Some(start + PAUSE));
        schedule.failed(start + PAUSE);
        assert_eq!(schedule.due(), Some(start + PAUSE + 2 * PAUSE));
        // It says again what was written: there is nothing to do but to renew it.
        schedule.wants(false, start + PAUSE);
        assert_eq!(schedule.due(), Some(start + LIFE / 2));
        for _ in 0..50 {
            schedule.failed(start);
        }
        schedule.wants(true, start);
        assert_eq!(schedule.due(), Some(start + LONGEST_PAUSE));
    }
}
