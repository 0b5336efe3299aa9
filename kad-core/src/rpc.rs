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
    /// When it fails.
    pub(crate) deadline: Instant,
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

/// How long answers took lately, over all contacts; says when one is late.
#[derive(Debug, Default)]
pub(crate) struct Lateness {
    /// Of all answers.
    took: Percentile,
    /// How much longer than the contact's smoothed round trip they took.
    excess: Percentile,
}

/// An estimate of a 95th percentile in microseconds.
///
/// Frugal estimation (Ma, Muthukrishnan and Sandler 2013): a step up for each sample above, a small one down for each
/// below; in balance when one sample in twenty lies above.
#[derive(Debug, Default)]
struct Percentile(u64);

impl Percentile {
    fn sample(&mut self, sample: Duration) {
        let sample = u64::try_from(sample.as_micros()).unwrap_or(u64::MAX);
        let step = (self.0 / 16).max(20);
        if sample > self.0 {
            self.0 = self.0.saturating_add(step.saturating_mul(19) / 20).min(sample);
        } else {
            self.0 = self.0.saturating_sub(step / 20).max(1);
        }
    }

    const fn get(&self) -> Option<Duration> {
        match self.0 {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }
}

impl Lateness {
    /// An answer over an open connection took so long; `expected` is the smoothed round trip of the contact.
    pub(crate) fn sample(&mut self, took: Duration, expected: Option<Duration>) {
        self.took.sample(took);
        if let Some(expected) = expected {
            self.excess.sample(took.saturating_sub(expected));
        }
    }

    /// When a request becomes late.
    pub(crate) fn after(&self, patience: &Patience) -> Duration {
        self.took.get().unwrap_or_default().max(patience.hedge_floor)
    }

    /// How long an answer to a request may take.
    pub(crate) fn deadline<A: Address>(
        &self,
        patience: &Patience,
        asked: Asked,
        known: Option<&Entry<'_, A>>,
        now: Instant,
    ) -> Duration {
        let slack = (4 * self.excess.get().unwrap_or_default()).max(patience.floor);
        let measured = known.and_then(|entry| {
            let fresh = now.since(entry.last_seen) < DIALLED_ANEW;
            entry
                .rtt
                .filter(|_| fresh)
                .map(|rtt| (rtt + 4 * entry.deviation).max(4 * rtt) + slack)
        });
        let cold = self.took.get().map_or(patience.initial, |took| {
            (8 * took + 2 * slack).min(patience.initial)
        });
        let base = measured.unwrap_or(cold).min(patience.cap);
        match asked {
            Asked::Store { .. } => base.max(patience.store_floor),
            Asked::Ping => base.max(patience.store_floor / 8),
            Asked::FindNode | Asked::FindValue(_) => base,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn the_estimate_settles_near_the_95th_percentile() {
        let (mut percentile, mut rng) = (Percentile::default(), Rng::new(3));
        for _ in 0..20_000 {
            percentile.sample(Duration::from_micros(1_000 + rng.next_u64() % 1_000));
        }
        assert!((1_850..=2_000).contains(&percentile.0), "{}", percentile.0);
    }
}
