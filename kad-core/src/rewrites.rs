//! How fast records are written anew.
//!
//! Each version of a record is a write and a flush, and its owner can sign versions without end. So a slot takes a
//! burst of versions at once and then one in a while: a token bucket, kept as the instant at which it will be full
//! again (what ATM calls the generic cell rate algorithm). Only versions that were stored count. Whoever sends one that
//! is held, or an old one, changes nothing, or somebody could use up the tokens of a record that is not theirs.

use alloc::collections::BTreeMap;

use crate::{Duration, Instant, Slot};

/// Slots whose buckets are not full that are remembered: those written within the last seconds. When there are more,
/// the one whose bucket would be full first is forgotten. A writer who wants to be forgotten has to keep a thousand
/// other records warm.
const MAX_REWRITTEN: usize = 1024;

/// When the bucket of each slot is full again.
#[derive(Debug)]
pub(crate) struct Rewrites(BTreeMap<Slot, Instant>);

impl Rewrites {
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// How many versions a slot takes now. One comes back `every` so often, up to `burst`; zero means no limit.
    pub(crate) fn room(&self, slot: &Slot, now: Instant, burst: usize, every: Duration) -> usize {
        let missing = self.0.get(slot).map_or(Duration::ZERO, |full| full.since(now));
        let Some(tokens) = missing
            .as_micros()
            .div_ceil(every.as_micros().max(1))
            .try_into()
            .ok()
        else {
            return 0;
        };
        match every {
            Duration::ZERO => usize::MAX,
            _ => burst.saturating_sub(tokens),
        }
    }

    /// A version was stored. Those that were on their way together may be more than there was room for; then the slot
    /// waits for longer, but not for more than a second burst: somebody may have replayed the whole history of a record
    /// that is not theirs to a node that held none of it.
    pub(crate) fn note(&mut self, slot: Slot, now: Instant, burst: usize, every: Duration) {
        if every == Duration::ZERO {
            return;
        }
        if self.0.len() >= MAX_REWRITTEN && !self.0.contains_key(&slot) {
            self.0.retain(|_, full| *full > now);
            if self.0.len() >= MAX_REWRITTEN {
                let first = self
                    .0
                    .iter()
                    .min_by_key(|(_, full)| **full)
                    .map(|(&slot, _)| slot);
                first.map(|slot| self.0.remove(&slot));
            }
        }
        let full = self.0.entry(slot).or_insert(now);
        let most = every.saturating_mul(u32::try_from(burst).unwrap_or(u32::MAX).saturating_mul(2));
        *full = ((*full).max(now) + every).min(now + most.max(every));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Kind, NodeId};

    const SECOND: Duration = Duration::from_secs(1);

    fn slot(n: usize) -> Slot {
        Slot {
            key: Key::from_limbs([n as u64, 0, 0, 0]),
            kind: Kind::Mutable,
            provider: NodeId::default(),
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_slot_takes_as_many_versions_as_a_bucket_of_tokens_has() {
        // The oracle counts tokens in thousandths.
        let mut state = 1u64;
        let (mut rewrites, mut tokens, mut before) = (Rewrites::new(), 16_000, 0);
        for _ in 0..10_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let now = before + (state >> 33) % 1_800;
            tokens = 16_000.min(tokens + (now - before));
            before = now;
            let room = rewrites.room(&slot(1), at(now), 16, SECOND);
            assert_eq!(room as u64, tokens / 1_000, "after {now} ms");
            if room > 0 {
                rewrites.note(slot(1), at(now), 16, SECOND);
                tokens -= 1_000;
            }
        }
        assert_eq!(
            rewrites.room(&slot(2), at(before), 16, SECOND),
            16,
            "another slot"
        );
    }

    #[test]
    fn versions_beyond_the_room_are_waited_for() {
        let mut rewrites = Rewrites::new();
        (0..25).for_each(|_| rewrites.note(slot(1), at(0), 16, SECOND));
        assert_eq!(rewrites.room(&slot(1), at(9_000), 16, SECOND), 0);
        assert_eq!(rewrites.room(&slot(1), at(10_000), 16, SECOND), 1);
    }

    #[test]
    fn whoever_replays_a_long_history_makes_its_owner_wait_for_a_burst_and_no_longer() {
        let mut rewrites = Rewrites::new();
        (0..1_000_000).for_each(|_| rewrites.note(slot(1), at(0), 16, SECOND));
        assert_eq!(rewrites.room(&slot(1), at(16_000), 16, SECOND), 0);
        assert_eq!(rewrites.room(&slot(1), at(17_000), 16, SECOND), 1);
        assert_eq!(rewrites.room(&slot(1), at(32_000), 16, SECOND), 16);
        for burst in [0, 1, usize::MAX] {
            rewrites.note(slot(2), at(0), burst, Duration::MAX);
            assert_eq!(rewrites.room(&slot(2), at(0), 1, Duration::MAX), 0);
        }
    }

    #[test]
    fn without_a_rate_there_is_no_limit_and_nothing_is_remembered() {
        let mut rewrites = Rewrites::new();
        (0..100).for_each(|_| rewrites.note(slot(1), at(0), 16, Duration::ZERO));
        assert_eq!(rewrites.room(&slot(1), at(0), 16, Duration::ZERO), usize::MAX);
        assert!(rewrites.0.is_empty());
    }

    #[test]
    fn a_full_list_forgets_what_would_be_forgotten_first() {
        let mut rewrites = Rewrites::new();
        (0..20).for_each(|_| rewrites.note(slot(0), at(0), 16, SECOND));
        for n in 1..=2 * MAX_REWRITTEN {
            rewrites.note(slot(n), at(1), 16, SECOND);
            assert!(rewrites.0.len() <= MAX_REWRITTEN);
        }
        assert_eq!(
            rewrites.room(&slot(0), at(1), 16, SECOND),
            0,
            "the one that writes most"
        );
        rewrites.note(slot(1), at(3_600_000), 16, SECOND);
        assert_eq!(rewrites.0.len(), 1, "what is over takes no room");
    }
}
