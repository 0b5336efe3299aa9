//! Numbers that nobody can guess, from one seed.

use std::time::Duration;

/// A keyed hash over a counter. Unlike the generator of `kad-core` it may be shown: from some of its numbers nobody can
/// tell others.
pub(super) struct Draws {
    key: [u8; 32],
    count: u64,
}

impl Draws {
    /// `purpose` keeps machines with the same seed apart.
    pub(super) fn new(seed: &[u8; 32], purpose: &str) -> Self {
        Self {
            key: blake3::derive_key(purpose, seed),
            count: 0,
        }
    }

    fn next(&mut self) -> [u8; 32] {
        self.count += 1;
        *blake3::keyed_hash(&self.key, &self.count.to_be_bytes()).as_bytes()
    }

    pub(super) fn nonce(&mut self) -> [u8; 16] {
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&self.next()[..16]);
        nonce
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.next()[..8]);
        u64::from_be_bytes(bytes)
    }

    /// One of so many, `None` of none.
    pub(super) fn pick(&mut self, of: usize) -> Option<usize> {
        // A machine never chooses among so many that the remainder would favour some.
        self.next_u64().checked_rem(of as u64).map(|place| place as usize)
    }

    /// The span, lengthened at random by up to an eighth, so that what begins together does not go on together.
    pub(super) fn lengthened(&mut self, span: Duration) -> Duration {
        let eighth = u64::try_from(span.as_micros() / 8).unwrap_or(u64::MAX);
        span + Duration::from_micros(self.next_u64().checked_rem(eighth).unwrap_or(0))
    }
}

/// Without its key.
impl std::fmt::Debug for Draws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draws")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_repeat_with_the_seed_and_differ_by_purpose() {
        let draw = |seed, purpose| Draws::new(&[seed; 32], purpose).nonce();
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        let mut draws = Draws::new(&[1; 32], "a");
        assert_ne!(draws.nonce(), draws.nonce());
        assert!(!format!("{draws:?}").contains("key"));
    }

    #[test]
    fn a_pick_is_one_of_those_that_there_are() {
        let mut draws = Draws::new(&[1; 32], "a");
        assert_eq!(draws.pick(0), None);
        let picked: std::collections::BTreeSet<_> = (0..200).filter_map(|_| draws.pick(7)).collect();
        assert!(picked.into_iter().eq(0..7));
    }

    #[test]
    fn lengthening_adds_an_eighth_at_most() {
        let mut draws = Draws::new(&[1; 32], "a");
        for _ in 0..100 {
            let long = draws.lengthened(Duration::from_secs(8));
            assert!(long >= Duration::from_secs(8) && long < Duration::from_secs(9));
        }
        assert_eq!(draws.lengthened(Duration::ZERO), Duration::ZERO);
    }
}
