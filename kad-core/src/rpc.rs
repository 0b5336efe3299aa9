//! Requests in flight: what was asked of whom, and how long an answer may take.

use crate::slab::Handle;
use crate::table::Entry;
use crate::{Address, Contact, Duration, FindValue, Instant, Patience, Request, Response};

/// One request that has been sent and not settled.
#[derive(Debug)]
pub(crate) struct Flight<A> {
    pub(crate) contact: Contact<A>,
    pub(crate) purpose: Purpose,
    pub(crate) asked: Asked,
    pub(crate) sent: Instant,
    pub(crate) limits: Limits,
    pub(crate) stage: Stage,
}

/// How long a request may take, from its sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Then somebody else is asked as well.
    pub(crate) late: Duration,
    /// Then whoever waits for it goes on without it.
    pub(crate) given_up: Duration,
    /// Then the contact is blamed. Later than the above: a query must not wait for the slow, and the slow must not be taken
    /// for dead.
    pub(crate) lost: Duration,
}

/// How far a request has come towards its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Waiting,
    /// Somebody else was asked as well.
    Late,
    /// Its query goes on without it, or has ended. An answer still counts, and shows that the contact lives.
    GivenUp,
}

impl<A> Flight<A> {
    /// When its timer must fire next.
    pub(crate) fn next(&self) -> Instant {
        self.sent
            + match self.stage {
                Stage::Waiting => self.limits.late.min(self.limits.given_up),
                Stage::Late => self.limits.given_up,
                Stage::GivenUp => self.limits.lost,
            }
    }
}

/// Why it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For a query.
    Query(Handle),
    /// To see whether a contact is alive.
    Probe,
}

/// What was asked, as far as the answer must fit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Ping,
    FindNode,
    FindValue(FindValue),
    Store { entries: usize },
}

impl Asked {
    pub(crate) const fn of(request: &Request) -> Self {
        match request {
            Request::Ping => Self::Ping,
            Request::FindNode { .. } => Self::FindNode,
            Request::FindValue(ask) => Self::FindValue(*ask),
            Request::Store { entries } => Self::Store {
                entries: entries.len(),
            },
        }
    }

    /// Whether an answer is of the kind that was asked for. A rejection always is.
    pub(crate) const fn fits<A>(&self, response: &Response<A>) -> bool {
        match (self, response) {
            (_, Response::Rejected(_))
            | (Self::Ping, Response::Pong { .. })
            | (Self::FindNode, Response::Nodes { .. })
            | (Self::FindValue(_), Response::Values { .. }) => true,
            (Self::Store { entries }, Response::Stored { verdicts, .. }) => verdicts.len() == *entries,
            (Self::Ping | Self::FindNode | Self::FindValue(_) | Self::Store { .. }, _) => false,
        }
    }
}

/// A contact that was silent for so long may have to be dialled anew, so that its round trips no longer say how long an
/// answer takes. Half of the default idle time of the QUIC transport would do; a minute also survives a busy pool.
const DIALLED_ANEW: Duration = Duration::from_secs(60);

/// Answers of strangers that must have come before these say how long a stranger may take: by then the 95th percentile has
/// had the time to find its place.
const ENOUGH: u32 = 32;

/// How long answers took lately; says when one is late, and when it is too late.
///
/// Contacts with a known round trip are judged by it. Of the others, *strangers*, one knows only what other strangers took,
/// dialling included.
#[derive(Debug)]
pub(crate) struct Lateness {
    /// How much longer than their smoothed round trip the answers of known contacts took.
    excess: Percentile<95>,
    /// The answers of strangers.
    strangers: Percentile<95>,
    usual: Percentile<50>,
    /// How many, up to [`ENOUGH`].
    seen: u32,
}

/// An estimate of a percentile in microseconds.
///
/// Frugal estimation (Ma, Muthukrishnan and Sandler 2013): a step up for each sample above, one down for each below, in
/// balance when as many lie below as the percentile says. Steps are a share of the value, so that it follows a change of
/// scale within some tens of samples.
#[derive(Debug, Default)]
struct Percentile<const PERCENT: u64>(u64);

impl<const PERCENT: u64> Percentile<PERCENT> {
    fn sample(&mut self, sample: Duration) {
        let sample = u64::try_from(sample.as_micros()).unwrap_or(u64::MAX);
        if self.0 == 0 {
            self.0 = sample.max(1);
            return;
        }
        let step = (self.0 / 16).max(20);
        if sample > self.0 {
            self.0 = self
                .0
                .saturating_add(step.saturating_mul(PERCENT) / 100)
                .min(sample);
        } else {
            self.0 = self
                .0
                .saturating_sub(step.saturating_mul(100 - PERCENT) / 100)
                .max(1);
        }
    }

    const fn get(&self) -> Duration {
        Duration::from_micros(self.0)
    }
}

impl Default for Lateness {
    fn default() -> Self {
        Self {
            excess: Percentile(0),
            strangers: Percentile(0),
            usual: Percentile(0),
            seen: 0,
        }
    }
}

impl Lateness {
    /// An answer took so long; `expected` is the round trip of the contact if it is known.
    pub(crate) fn sample(&mut self, took: Duration, expected: Option<Duration>) {
        match expected {
            Some(expected) => self.excess.sample(took.saturating_sub(expected)),
            None => {
                self.strangers.sample(took);
                self.usual.sample(took);
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
        let (late, given_up) = match (Self::expected(known, now), known) {
            // Four round trips leave room for one lost packet (RFC 9002, section 6.2).
            (Some(rtt), Some(entry)) => {
                let spread = (4 * entry.deviation).max(2 * self.excess.get());
                (
                    rtt + spread.max(patience.hedge_floor),
                    (rtt + 4 * entry.deviation).max(4 * rtt) + slack,
                )
            }
            _ if self.seen < ENOUGH => (patience.initial / 4, patience.initial),
            _ => {
                // Three times what all but one of twenty take: with twice as much, one lookup in a hundred missed one of the
                // nearest who had to be dialled across the world.
                let usual = self.strangers.get();
                (
                    usual + patience.hedge_floor,
                    (3 * usual + slack).min(patience.initial),
                )
            }
        };
        let given_up = given_up.min(patience.cap);
        let lost = given_up.max(patience.initial);
        match asked {
            Asked::Store { .. } => {
                let given_up = given_up.max(patience.store_floor);
                Limits {
                    late,
                    given_up,
                    lost: given_up,
                }
            }
            // It decides about a contact: nobody waits for it, so it is lost when it is given up.
            Asked::Ping => {
                let lost = given_up.max(patience.store_floor / 8);
                Limits {
                    late: lost,
                    given_up: lost,
                    lost,
                }
            }
            // One answer is enough and somebody else may have it sooner: a hedge costs a request only where the value has not
            // come by then.
            Asked::FindValue(_) => {
                let soon = (2 * self.usual(patience)).max(patience.hedge_floor);
                Limits {
                    late: late.min(soon),
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
    use crate::rng::Rng;

    #[test]
    fn estimates_settle_near_their_percentile() {
        let (mut p95, mut p50, mut rng) = (
            Percentile::<95>::default(),
            Percentile::<50>::default(),
            Rng::new(3),
        );
        for _ in 0..20_000 {
            let sample = Duration::from_micros(1_000 + rng.next_u64() % 1_000);
            p95.sample(sample);
            p50.sample(sample);
        }
        assert!((1_850..=2_000).contains(&p95.0), "{}", p95.0);
        assert!((1_350..=1_650).contains(&p50.0), "{}", p50.0);
    }

    #[test]
    fn a_few_fast_answers_do_not_make_a_young_node_impatient() {
        let (mut lateness, patience) = (Lateness::default(), Patience::default());
        for _ in 0..ENOUGH - 1 {
            lateness.sample(Duration::from_millis(2), None);
        }
        let given_up = |lateness: &Lateness| {
            let limits = lateness.limits::<u32>(&patience, Asked::FindNode, None, Instant::ZERO);
            assert_eq!(limits.lost, patience.initial);
            limits.given_up
        };
        assert_eq!(given_up(&lateness), patience.initial);
        lateness.sample(Duration::from_millis(2), None);
        assert!(given_up(&lateness) < patience.initial / 4);
    }
}
