//! Sybils that were ground next to a key, to be all that those find who look for it.

use kad_core::{Contact, Distance, Duration, Key, MAX_CLOSER, NodeId, Request, Response};

use crate::adversary::{Act, Adversary, Lying, View};
use crate::{Dice, Place};

/// What sybils do when they are asked for anything but a PING.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Nothing.
    Silent,
    /// They take every record and keep none, hold nothing, and know nobody but each other.
    Lying,
}

impl Behaviour {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Lying => "lying",
        }
    }
}

/// The nodes around one key. They answer PINGs, or no table would take them, and call on the honest nodes nearest to
/// the key until these know them.
#[derive(Debug)]
pub(super) struct Sybils {
    pub(super) behaviour: Behaviour,
    pub(super) crowd: Vec<Contact<Place>>,
    /// Whom to call on.
    pub(super) neighbours: Vec<Contact<Place>>,
    /// How often still.
    pub(super) calls: usize,
}

/// Between two rounds of calls.
pub(super) const PAUSE: Duration = Duration::from_secs(2);

impl Adversary for Sybils {
    fn answer(
        &mut self,
        view: &mut View<'_>,
        me: &Contact<Place>,
        from: &Contact<Place>,
        request: &Request,
    ) -> Option<Response<Place>> {
        match (self.behaviour, request) {
            (Behaviour::Silent, Request::FindNode { .. } | Request::FindValue(_) | Request::Store { .. }) => {
                None
            }
            (Behaviour::Silent | Behaviour::Lying, _) => {
                Lying { told: MAX_CLOSER }.answer(view, me, from, request)
            }
        }
    }

    fn act(&mut self, view: &mut View<'_>, out: &mut Vec<Act>) -> Option<Duration> {
        self.calls = self.calls.checked_sub(1)?;
        // In another order each time: who probes only so many at once takes others the next time.
        view.dice.shuffle(&mut self.crowd);
        for &to in &self.neighbours {
            for &from in &self.crowd {
                let request = Request::Ping;
                out.push(Act { from, to, request });
            }
        }
        Some(PAUSE)
    }
}

/// An id nearer to the key than `nearest`, the distance of the nearest honest node.
pub(super) fn ground(key: Key, nearest: Distance, dice: &mut Dice) -> NodeId {
    let mask = u64::MAX.checked_shr(nearest.leading_zeros()).unwrap_or(0);
    loop {
        let [first, second, third, fourth] = dice.key().to_limbs();
        let distance = Distance::from_limbs([first & mask, second, third, fourth]);
        if distance < nearest {
            return key.at(distance).to_node_id();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ground_ids_are_nearer_than_the_nearest() {
        let mut dice = Dice::new(2);
        for _ in 0..100 {
            let (key, nearest) = (dice.key(), dice.key().to_node_id().distance(dice.key()));
            assert!(ground(key, nearest, &mut dice).distance(key) < nearest);
        }
    }
}
