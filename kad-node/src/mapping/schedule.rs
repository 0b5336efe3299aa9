//! When to ask the router: at once, at half of the life of what it granted, and ever more rarely while it refuses.

use std::time::Duration;

use kad_core::Instant;

/// What is asked for (RFC 6886, section 3.3).
pub(super) const LIFETIME: Duration = Duration::from_secs(2 * 3600);

/// A router that grants less is asked as if it had granted so much, or it could have us ask it all the time.
const SHORTEST: Duration = Duration::from_secs(120);

/// The least pause between two attempts to renew (RFC 6887, section 11.2.1).
const LEAST_PAUSE: Duration = Duration::from_secs(4);

/// After the first refusal; it doubles up to [`LONGEST_PAUSE`]. Most routers that refuse do so for ever.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// Somebody may turn it on in the router's settings, and should not have to wait for a day.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The clock of one mapping.
#[derive(Debug)]
pub(super) struct Schedule {
    due: Instant,
    /// Until when what was granted holds.
    until: Option<Instant>,
    pause: Duration,
}

impl Schedule {
    /// Nothing is granted, and it is time to ask.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            due: now,
            until: None,
            pause: FIRST_PAUSE,
        }
    }

    /// When to ask next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The router has granted a mapping, or the same one for longer.
    pub(super) fn granted(&mut self, now: Instant, lifetime: Duration) {
        let lifetime = lifetime.clamp(SHORTEST, LIFETIME);
        *self = Self {
            due: now + lifetime / 2,
            until: Some(now + lifetime),
            pause: FIRST_PAUSE,
        };
    }

    /// The router has refused, or did not answer. Says whether what it granted before still holds.
    pub(super) fn refused(&mut self, now: Instant) -> bool {
        let left = self.until.map_or(Duration::ZERO, |until| until.since(now));
        if left < LEAST_PAUSE {
            self.until = None;
            self.due = now + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            return false;
        }
        self.due = now + (left / 2).max(LEAST_PAUSE);
        true
    }

    /// What was granted may have expired meanwhile: it is time to renew it.
    pub(super) fn renew_now(&mut self, now: Instant) {
        self.due = now;
    }

    /// The machine is in another network: what was granted means nothing, and it is time to ask.
    pub(super) fn start_over(&mut self, now: Instant) {
        *self = Self::new(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn a_mapping_is_renewed_at_half_of_its_life() {
        let mut schedule = Schedule::new(at(5));
        assert_eq!(schedule.due(), at(5));
        schedule.granted(at(6), Duration::from_secs(3600));
        assert_eq!(schedule.due(), at(6 + 1800));
        schedule.granted(at(1806), Duration::from_secs(7200));
        assert_eq!(schedule.due(), at(1806 + 3600));
    }

    #[test]
    fn a_renewal_that_fails_is_tried_again_until_the_mapping_has_expired() {
        let mut schedule = Schedule::new(at(0));
        schedule.granted(at(0), Duration::from_secs(7200));
        let mut attempts = 0;
        loop {
            let now = schedule.due();
            attempts += 1;
            if !schedule.refused(now) {
                assert!(now <= at(7200) && now > at(7190), "{now:?}");
                assert_eq!(schedule.due(), now + FIRST_PAUSE);
                break;
            }
        }
        assert!((8..20).contains(&attempts), "{attempts}");
    }

    #[test]
    fn a_router_that_refuses_is_asked_ever_more_rarely_and_at_once_in_another_network() {
        let mut schedule = Schedule::new(at(0));
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let now = schedule.due();
            assert!(!schedule.refused(now));
            pauses.push(schedule.due().since(now).as_secs());
        }
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        schedule.start_over(at(100));
        assert_eq!(schedule.due(), at(100));
    }

    proptest! {
        #[test]
        fn whatever_a_router_answers_it_is_not_asked_more_often_than_every_four_seconds(
            answers in proptest::collection::vec(proptest::option::of(0_u64..100_000), 1..200),
        ) {
            let mut schedule = Schedule::new(at(0));
            for answer in answers {
                let now = schedule.due();
                match answer {
                    Some(secs) => schedule.granted(now, Duration::from_secs(secs)),
                    None => { schedule.refused(now); }
                }
                prop_assert!(schedule.due().since(now) >= LEAST_PAUSE);
                prop_assert!(schedule.due().since(now) <= LONGEST_PAUSE);
            }
        }
    }
}
