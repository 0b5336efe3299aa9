//! Who of the table was silent for so long that it is time to ask, and when.
//!
//! Every contact that is not heard of for [`Config::refresh`](crate::Config::refresh) has been asked by then. Whatever
//! is answered in the meantime, to a lookup of the application as to a refresh, puts that off, so where there is
//! traffic hardly anybody is asked for this alone. What holds by construction:
//!
//! - A contact has to be asked when it was silent for the *span*: the interval less a sixty-fourth, which is left for a
//!   second attempt, so that who is dead is gone when the interval is over.
//! - Those that have to be asked are asked in *rounds*, whoever was silent for longest first: at most [`ROUND`] at
//!   once, and a *pace* lies between two rounds. So there are no bursts, also where a whole table was heard of in the
//!   same minute, as that of a node that has just joined.
//! - The pace is chosen so that full rounds of all contacts together take half a span. As few are asked in a round as
//!   leave nobody for whom the later rounds, if all of them are full, come too late: so most are asked when they have
//!   to be, and those that have to be at the same time some rounds before. Who comes later, or is heard of later, has
//!   to be asked within rounds that begin half a span after now at the earliest, so it delays nobody who is due before.
//!
//! Each contact is asked once, and then answers, or fails and is tried again at once, or is gone. One that does none of
//! these, because this node could not send, is asked again outside of the rounds (`kademlia/upkeep.rs`), or it would
//! stand in the way.

use crate::{Duration, Instant};

/// Contacts that are asked at once.
pub(crate) const ROUND: usize = 8;

/// Rounds for which half a span has room in any case: the pace is the same for all tables of up to 512 contacts, more
/// than one with buckets of 20 has in a network of a million.
const ROUNDS: usize = 64;

/// The next round, and whom the last ones have asked.
#[derive(Debug)]
pub(crate) struct Silence {
    next: Instant,
    /// Whoever was last heard of before was asked.
    unasked: Instant,
    /// The most contacts that there ever were. Never less, because rounds that were put off for a fast pace could not
    /// all be held at a slower one.
    most: u32,
}

impl Silence {
    pub(crate) fn new(refresh: Duration, now: Instant) -> Self {
        Self {
            next: later(now, span(refresh) / 2),
            unasked: Instant::ZERO,
            most: 0,
        }
    }

    /// When the next round may be due.
    pub(crate) const fn next(&self) -> Instant {
        self.next
    }

    /// Whoever was last heard of then or later was not asked yet.
    pub(crate) const fn unasked(&self) -> Instant {
        self.unasked
    }

    /// How many contacts are to be asked now: the first of those given, and at most [`ROUND`]. `heard` says when those
    /// were last heard of that were not asked yet, whoever was silent for longest first; `contacts` how many there are
    /// in all.
    pub(crate) fn plan(
        &mut self,
        refresh: Duration,
        now: Instant,
        contacts: usize,
        heard: &[Instant],
    ) -> usize {
        self.most = self.most.max(u32::try_from(contacts).unwrap_or(u32::MAX));
        let (span, pace) = (span(refresh), self.pace(refresh));
        // Who was not heard of yet can wait for longer.
        let (mut count, mut latest) = (0, now + span / 2);
        for (place, &heard) in heard.iter().enumerate() {
            let due = heard + span;
            let rounds_before = u32::try_from(place / ROUND).unwrap_or(u32::MAX);
            latest = latest.min(before(due, pace.saturating_mul(rounds_before)));
            let rounds_left = due.since(now).as_micros() / pace.as_micros().max(1);
            let asked_later =
                usize::try_from(rounds_left).map_or(usize::MAX, |left| left.saturating_mul(ROUND));
            count = count.max((place + 1).saturating_sub(asked_later));
        }
        // More only if this comes too late: the machine has slept.
        count = count.min(ROUND);
        let Some(last) = count.checked_sub(1) else {
            self.next = later(now, latest.since(now));
            return 0;
        };
        self.next = later(now, pace);
        // Of those that were heard of at the same moment some may be left.
        self.unasked = match heard.get(count) {
            Some(&next) if next == heard[last] => next,
            _ => later(heard[last], Duration::ZERO),
        };
        count
    }

    /// The pause between two rounds.
    fn pace(&self, refresh: Duration) -> Duration {
        let rounds = (self.most as usize).div_ceil(ROUND).max(ROUNDS);
        whole(span(refresh) / 2 / u32::try_from(rounds).unwrap_or(u32::MAX))
    }
}

/// For how long a contact may be silent until it is asked.
fn span(refresh: Duration) -> Duration {
    whole(refresh - refresh / 64)
}

/// In whole microseconds, as instants have them: with a part of one too many a round would be lost.
fn whole(span: Duration) -> Duration {
    Duration::from_micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}

fn before(at: Instant, span: Duration) -> Instant {
    Instant::ZERO + at.since(Instant::ZERO + span)
}

/// A time after `now`, whatever the interval was configured to be.
fn later(now: Instant, pause: Duration) -> Instant {
    now + pause.max(Duration::from_micros(1))
}

#[cfg(test)]
mod tests;
