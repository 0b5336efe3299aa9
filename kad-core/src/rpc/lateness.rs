//! How long answers take, and so how long to wait for one.

use super::Asked;
use super::percentile::Percentile;
use crate::table::Entry;
use crate::{Address, Duration, Instant, Patience};

/// How long a request may take, from its sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Then somebody else is asked as well.
    pub(crate) late: Duration,
    /// Then whoever waits for it goes on without it.
    pub(crate) given_up: Duration,
    /// Then the contact is blamed. Later than the above: a query must not wait for the slow, and the slow must not be
    /// taken for dead.
    pub(crate) lost: Duration,
}

impl Limits {
    /// The same for a contact that is suspected to be dead: somebody else is asked at once, and it is given up when a
    /// healthy one would be late.
    pub(crate) fn of_suspect(self) -> Self {
        Self {
            late: AT_ONCE,
            given_up: self.late.max(AT_ONCE),
            lost: self.lost,
        }
    }
}

/// The next thing that happens: a timer never fires at the instant at which it is set.
const AT_ONCE: Duration = Duration::from_micros(1);

/// A contact that was silent for so long may have to be dialled anew, so that its round trips no longer say how long an
/// answer takes. Half of the default idle time of the QUIC transport would do; a minute also survives a busy pool.
const DIALLED_ANEW: Duration = Duration::from_secs(60);

/// Answers of strangers that must have come before these say how long a stranger may take: by then the 95th percentile
/// has had the time to find its place.
const ENOUGH: u32 = 32;

/// A stranger's answer is late after so many times what half of them take, whatever the slowest took a while ago:
/// joining, with its rush and its handshakes, says little of what comes later.
const HEDGED_AFTER: u32 = 8;

/// How long answers took lately; says when one is late, and when it is too late.
///
/// Contacts with a known round trip are judged by it. Of the others, *strangers*, one knows only what other strangers
/// took, dialling included.
#[derive(Debug, Default)]
pub(crate) struct Lateness {
    /// How much longer than their smoothed round trip the answers of known contacts took.
    excess: Percentile<95>,
    /// Their answers, all in all.
    known: Percentile<95>,
    /// The answers of strangers.
    strangers: Percentile<95>,
    usual: Percentile<50>,
    /// How many, up to [`ENOUGH`].
    seen: u32,
}

impl Lateness {
    /// An answer took so long; `expected` is the round trip of the contact if it is known.
    pub(crate) fn sample(&mut self, took: Duration, expected: Option<Duration>) {
        match expected {
            Some(expected) => {
                // One that fell at once would forget how busy it can get.
                self.excess.sample_calmly(took.saturating_sub(expected));
                self.known.sample(took);
            }
            None => {
                self.strangers.sample(took);
                // Lookups price candidates by it: it must not jump.
                self.usual.sample_calmly(took);
                self.seen = (self.seen + 1).min(ENOUGH);
            }
        }
    }

    /// The round trip of a contact, if it is still worth anything.
    pub(crate) fn expected<A: Address>(known: Option<&Entry<'_, A>>, now: Instant) -> Option<Duration> {
        let entry = known.filter(|entry| now.since(entry.last_seen) < DIALLED_ANEW)?;
        entry.rtt
    }

    /// What the answer of a stranger usually takes.
    pub(crate) fn usual(&self, patience: &Patience) -> Duration {
        match self.seen {
            0 => patience.initial / 8,
            _ => self.usual.get(),
        }
    }

    /// How long an answer to a request may take.
    pub(crate) fn limits<A: Address>(
        &self,
        patience: &Patience,
        asked: Asked,
        known: Option<&Entry<'_, A>>,
        now: Instant,
    ) -> Limits {
        let slack = (4 * self.excess.get()).max(patience.floor);
        let of_strangers = if self.seen < ENOUGH {
            (patience.initial / 4, patience.initial)
        } else {
            let most = self.strangers.get();
            (
                most.min(HEDGED_AFTER * self.usual.get()) + patience.hedge_floor,
                // With twice as much, one lookup in a hundred missed one of the nearest who had to be dialled across
                // the world.
                (3 * most + slack).min(patience.initial),
            )
        };
        let (late, silent, given_up) = match (Self::expected(known, now), known) {
            // Four round trips leave room for one lost packet (RFC 9002, section 6.2).
            (Some(rtt), Some(entry)) => {
                let spread = (4 * entry.deviation).max(2 * self.excess.get());
                let late = rtt + spread.max(patience.hedge_floor);
                let given_up = (rtt + 4 * entry.deviation).max(4 * rtt) + slack;
                let silent = rtt + self.excess.get().max(patience.hedge_floor / 2);
                // What was measured once, in the rush of joining, is no reason to wait longer than most answers take.
                let (most, longest) = match self.known.get() {
                    Duration::ZERO => (Duration::MAX, Duration::MAX),
                    most => (2 * most + patience.hedge_floor, 4 * most + slack),
                };
                (late.min(most), silent.min(most), given_up.min(longest))
            }
            _ => (of_strangers.0, of_strangers.0, of_strangers.1),
        };
        let given_up = given_up.min(patience.cap);
        let lost = given_up.max(patience.initial);
        match asked {
            Asked::Store { .. } | Asked::Compare { .. } | Asked::Fetch => {
                let given_up = given_up.max(patience.store_floor);
                Limits {
                    late,
                    given_up,
                    lost: given_up,
                }
            }
            // It decides about a contact. When it is late, those who wait for that contact go on: half of the usual
            // patience will do, as something else was late before. Nobody waits for the PING itself, so it is lost when
            // it is given up.
            Asked::Ping => {
                let lost = given_up.max(patience.store_floor / 8);
                Limits {
                    late: silent,
                    given_up: lost,
                    lost,
                }
            }
            // One answer is enough and somebody else may have it sooner: a hedge costs a request only where the value
            // has not come by then.
            Asked::FindValue(_) => {
                let twice = (2 * self.usual(patience)).max(patience.hedge_floor);
                Limits {
                    late: late.min(twice),
                    given_up,
                    lost,
                }
            }
            Asked::FindNode => Limits { late, given_up, lost },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Contact, NodeId};

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn limits(lateness: &Lateness, asked: Asked, known: Option<(u64, u64)>) -> Limits {
        let contact = Contact::new(NodeId::default(), 1u32);
        let known = known.map(|(rtt, deviation)| Entry {
            contact: &contact,
            last_seen: Instant::ZERO,
            rtt: Some(ms(rtt)),
            deviation: ms(deviation),
            failures: 0,
        });
        lateness.limits(&Patience::default(), asked, known.as_ref(), Instant::ZERO)
    }

    #[test]
    fn a_few_fast_answers_do_not_make_a_young_node_impatient() {
        let (mut lateness, patience) = (Lateness::default(), Patience::default());
        for _ in 0..ENOUGH - 1 {
            lateness.sample(ms(2), None);
        }
        let given_up = |lateness: &Lateness| {
            let limits = limits(lateness, Asked::FindNode, None);
            assert_eq!(limits.lost, patience.initial);
            limits.given_up
        };
        assert_eq!(given_up(&lateness), patience.initial);
        lateness.sample(ms(2), None);
        assert!(given_up(&lateness) < patience.initial / 4);
    }

    #[test]
    fn the_rush_of_joining_makes_nobody_patient_for_long() {
        let (mut lateness, floor) = (Lateness::default(), Patience::default().hedge_floor);
        for _ in 0..50 {
            lateness.sample(ms(400), None);
            lateness.sample(ms(400), Some(ms(300)));
        }
        for _ in 0..300 {
            lateness.sample(ms(3), None);
            lateness.sample(ms(3), Some(ms(2)));
        }
        let stranger = limits(&lateness, Asked::FindNode, None);
        assert!(stranger.late < ms(30) + floor, "{stranger:?}");
        // One whose only round trip was measured in that rush.
        let slow = limits(&lateness, Asked::FindNode, Some((200, 100)));
        assert!(slow.late < ms(60) + floor, "{slow:?}");
        assert!(slow.given_up < ms(250), "{slow:?}");
    }

    #[test]
    fn who_is_busy_becomes_patient() {
        let mut lateness = Lateness::default();
        for _ in 0..200 {
            lateness.sample(ms(3), None);
            lateness.sample(ms(3), Some(ms(2)));
        }
        for _ in 0..100 {
            lateness.sample(ms(200), Some(ms(2)));
        }
        for asked in [Asked::FindNode, Asked::Ping, Asked::Store { entries: 1 }] {
            let limits = limits(&lateness, asked, Some((2, 1)));
            assert!(limits.late > ms(100), "{asked:?} {limits:?}");
        }
    }

    #[test]
    fn a_ping_decides_slowly_and_is_soon_late() {
        let mut lateness = Lateness::default();
        for _ in 0..200 {
            lateness.sample(ms(12), Some(ms(10)));
        }
        let patience = Patience::default();
        let (ping, store) = (
            limits(&lateness, Asked::Ping, Some((10, 2))),
            limits(&lateness, Asked::Store { entries: 1 }, Some((10, 2))),
        );
        let late = ms(10) + patience.hedge_floor;
        assert_eq!(ping.late, late - patience.hedge_floor / 2);
        assert_eq!(ping.lost, patience.store_floor / 8);
        assert_eq!((store.late, store.lost), (late, patience.store_floor));
        let suspect = store.of_suspect();
        assert_eq!(
            (suspect.late, suspect.given_up, suspect.lost),
            (AT_ONCE, late, store.lost)
        );
    }
}
