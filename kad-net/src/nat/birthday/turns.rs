//! How often a node makes such an attempt: routers have to bear it.

use kad_core::{Duration, Instant, NodeId};

use crate::nat::ration::Ration;

/// Attempts with one peer in ten minutes: one, and one more when that was in vain.
pub const MAX_PER_PEER: usize = 2;

/// Attempts in ten minutes with all peers: with as much silence as an attempt takes between two, a router forgets the
/// mappings of one while the next ones are made.
pub const MAX_ATTEMPTS: usize = 10;

/// In which so many are granted.
const SPAN: Duration = Duration::from_secs(600);

/// From the end of one attempt to the next: as in HyperDHT.
const APART: Duration = Duration::from_secs(20);

/// Who may make an attempt. One at a time; full: no attempt is made, and the relayed path stays until the next round.
#[derive(Debug)]
pub struct Turns {
    granted: Ration<NodeId>,
    taken: bool,
    ended: Option<Instant>,
    made: u64,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            granted: Ration::new(SPAN, MAX_ATTEMPTS),
            taken: false,
            ended: None,
            made: 0,
        }
    }
}

impl Turns {
    /// Takes the turn for an attempt with this peer. Whether it was granted; then it is to be given back by
    /// [`end`](Self::end).
    #[must_use]
    pub fn take(&mut self, now: Instant, peer: &NodeId) -> bool {
        let rested = self.ended.is_none_or(|ended| now.since(ended) >= APART);
        let granted = !self.taken && rested && self.granted.has(now, peer, MAX_PER_PEER);
        self.taken |= granted;
        granted
    }

    /// The attempt begins: from here on it counts. A turn that is given back before costs nothing.
    pub fn begin(&mut self, now: Instant, peer: NodeId) {
        self.granted.take(now, peer);
        self.made += 1;
    }

    /// Gives the turn back. `begun`: something was sent.
    pub fn end(&mut self, now: Instant, begun: bool) {
        self.taken = false;
        if begun {
            self.ended = Some(now);
        }
    }

    /// How many attempts have begun until now.
    #[must_use]
    pub const fn made(&self) -> u64 {
        self.made
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    fn peer(n: u64) -> NodeId {
        NodeId::from_limbs([n, 0, 0, 0])
    }

    #[test]
    fn one_attempt_is_made_at_a_time_and_the_next_one_after_a_rest() {
        let mut turns = Turns::default();
        assert!(turns.take(at(0), &peer(1)));
        assert!(!turns.take(at(0), &peer(2)), "one at a time");
        turns.begin(at(0), peer(1));
        turns.end(at(11), true);
        assert!(!turns.take(at(30), &peer(2)), "routers rest");
        assert!(turns.take(at(31), &peer(2)));
    }

    #[test]
    fn a_turn_that_is_given_back_unused_costs_nothing() {
        let mut turns = Turns::default();
        for _ in 0..100 {
            assert!(turns.take(at(0), &peer(1)));
            turns.end(at(0), false);
        }
        assert_eq!(turns.made(), 0);
    }

    proptest! {
        /// Against a list of all that were granted.
        #[test]
        fn no_ten_minutes_hold_more_attempts_than_may_be(asks in prop::collection::vec((0u64..60, 0u64..4, 0u64..12), 0..200)) {
            let (mut turns, mut now, mut granted) = (Turns::default(), 0, Vec::new());
            for (wait, of, lasts) in asks {
                now += wait;
                if turns.take(at(now), &peer(of)) {
                    turns.begin(at(now), peer(of));
                    granted.push((now, of));
                    now += lasts;
                    turns.end(at(now), true);
                }
            }
            for (place, (begin, of)) in granted.iter().enumerate() {
                let window = || granted[..=place].iter().filter(|(at, _)| begin - at < 600);
                prop_assert!(window().count() <= MAX_ATTEMPTS);
                prop_assert!(window().filter(|(_, other)| other == of).count() <= MAX_PER_PEER);
                prop_assert!(place == 0 || begin - granted[place - 1].0 >= 20);
            }
        }
    }
}
