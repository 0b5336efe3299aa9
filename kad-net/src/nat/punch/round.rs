//! The schedule of one round.

use std::net::SocketAddr;

use kad_core::{Duration, Instant};

/// When the first punches of a round are sent. A second one behind the first costs little, and 5 % of packets are lost.
const FIRST: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(30),
    Duration::from_millis(60),
    Duration::from_millis(90),
    Duration::from_millis(120),
];

/// Between two punches after the first ones.
const THEN: Duration = Duration::from_millis(150);

/// A round in which nothing was heard for so long is over.
const ROUND: Duration = Duration::from_millis(2500);

/// A round in which something was heard goes on for so long, for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// After hearing a punch, how long whoever dials second waits for the handshake of the other.
const YIELD: Duration = Duration::from_millis(500);

/// A round that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Round {
    began: Instant,
    /// Volleys sent.
    volleys: u32,
    /// Where the peer is, and since when that is known.
    pub(super) heard: Option<(SocketAddr, Instant)>,
    pub(super) dialled: bool,
    /// The peer's handshake has begun.
    pub(super) arriving: bool,
}

impl Round {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            began: now,
            volleys: 0,
            heard: None,
            dialled: false,
            arriving: false,
        }
    }

    /// When something is to be done next.
    pub(super) fn next(&self) -> Instant {
        let volley = self.began + volley(self.volleys);
        let first = self.dials_at().map_or(volley, |dial| dial.min(volley));
        first.min(self.ends())
    }

    /// When it is over, if there is no connection.
    pub(super) fn ends(&self) -> Instant {
        match self.heard {
            Some((_, at)) => at + HANDSHAKE,
            None => self.began + ROUND,
        }
    }

    /// When whoever dials second does.
    pub(super) fn dials_at(&self) -> Option<Instant> {
        let (_, heard) = self.heard?;
        (!self.dialled && !self.arriving).then(|| heard + YIELD)
    }

    /// Whether a volley is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.began + volley(self.volleys) <= now
    }

    /// It has been sent. After a late timer, what was missed is not made up for.
    pub(super) fn skip_to(&mut self, now: Instant) {
        while self.is_due(now) {
            self.volleys += 1;
        }
    }
}

/// When a volley is due, after the beginning of its round.
fn volley(n: u32) -> Duration {
    let last = FIRST[FIRST.len() - 1];
    let later = n.saturating_sub(FIRST.len() as u32 - 1);
    FIRST.get(n as usize).copied().unwrap_or(last + THEN * later)
}
