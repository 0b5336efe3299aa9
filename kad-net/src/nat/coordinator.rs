//! Bringing two peers together: who is connected to both tells them when to punch.
//!
//! Punches have to cross on their way. If one comes too early, some routers take it for a connection to themselves,
//! keep its ports, and give another port to what the other side then sends. So both are told such that they begin at
//! the same moment, with no clock in common: whoever is nearer waits for half of the difference of the round trips.
//!
//! Whoever is introduced is so once in 35 seconds. A peer that asks for somebody all the time can keep others from
//! being introduced to them here; they have other relays, which are asked then.

use std::net::IpAddr;

use kad_core::{Duration, Instant, NodeId};

use super::ration::Ration;

/// Meetings in a minute; more are refused. A node introduces fewer than it relays for.
const MAX_MEETINGS: usize = 120;

/// A node is introduced once in so long, whoever asks: more often it could not punch with effect, and whoever asked for
/// it could keep it busy.
pub const ONCE_IN: Duration = Duration::from_secs(35);

/// The longest that one is told to wait. Nobody farther away than a second is worth waiting for.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// One of the two, as the coordinator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Party {
    /// Who; proven.
    pub id: NodeId,
    /// Where its connection comes from.
    pub host: IpAddr,
    /// Its round-trip time.
    pub rtt: Duration,
}

/// What one of the two is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Go {
    /// Who is told.
    pub to: NodeId,
    /// With whom it is to meet.
    pub peer: NodeId,
    /// The host at which the peer is; nothing else is to be punched.
    pub peer_host: IpAddr,
    /// How long to wait before the first punch.
    pub wait: Duration,
}

/// Why two are not brought together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoMeeting {
    /// They are one and the same.
    Same,
    /// One of them was introduced a moment ago, or too many were.
    Busy,
}

/// Introduces peers to each other.
#[derive(Debug)]
pub struct Coordinator {
    recent: Ration<NodeId>,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self::new()
    }
}

impl Coordinator {
    /// Has introduced nobody yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            // Each meeting has two parties.
            recent: Ration::new(ONCE_IN, 2 * MAX_MEETINGS),
        }
    }

    /// What to tell both, at once.
    ///
    /// # Errors
    /// When a ration is used up; nothing has changed, and nobody is to be told anything but who asked.
    pub fn introduce(&mut self, now: Instant, one: Party, other: Party) -> Result<[Go; 2], NoMeeting> {
        if one.id == other.id {
            return Err(NoMeeting::Same);
        }
        if ![one, other]
            .iter()
            .all(|party| self.recent.has(now, &party.id, 1))
        {
            return Err(NoMeeting::Busy);
        }
        self.recent.take(now, one.id);
        self.recent.take(now, other.id);
        let longest = one.rtt.max(other.rtt);
        let go = |to: Party, peer: Party| Go {
            to: to.id,
            peer: peer.id,
            peer_host: peer.host.to_canonical(),
            wait: ((longest - to.rtt) / 2).min(LONGEST_WAIT),
        };
        Ok([go(one, other), go(other, one)])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn party(n: u64, millis: u64) -> Party {
        Party {
            id: NodeId::from_limbs([n, 0, 0, 0]),
            host: [8, 8, 8, n as u8].into(),
            rtt: Duration::from_millis(millis),
        }
    }

    fn at(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    proptest! {
        #[test]
        fn both_begin_at_the_same_moment(near in 0u64..1000, far in 0u64..1000) {
            let gos = Coordinator::new().introduce(at(0), party(1, near), party(2, far)).unwrap();
            let begins = |rtt: u64, wait: Duration| Duration::from_millis(rtt) / 2 + wait;
            prop_assert_eq!(begins(near, gos[0].wait), begins(far, gos[1].wait));
            prop_assert_eq!((gos[0].peer_host, gos[1].peer_host), (party(2, 0).host, party(1, 0).host));
        }
    }

    #[test]
    fn who_is_absurdly_far_away_is_not_waited_for() {
        let gos = Coordinator::new()
            .introduce(at(0), party(1, 1), party(2, 3_600_000))
            .unwrap();
        assert_eq!(gos.map(|go| go.wait), [LONGEST_WAIT, Duration::ZERO]);
    }

    #[test]
    fn nobody_is_introduced_more_than_once_in_35_seconds_whoever_asks() {
        let mut coordinator = Coordinator::new();
        let victim = party(0, 10);
        let mut meetings = Vec::new();
        for secs in 0..200 {
            if coordinator
                .introduce(at(secs), party(1 + secs, 10), victim)
                .is_ok()
            {
                meetings.push(secs);
            }
        }
        assert_eq!(meetings, [0, 35, 70, 105, 140, 175]);
        assert_eq!(
            coordinator.introduce(at(500), victim, victim),
            Err(NoMeeting::Same)
        );
    }

    #[test]
    fn a_storm_of_strangers_is_refused() {
        let mut coordinator = Coordinator::new();
        let met = (0..1000).filter(|n| {
            coordinator
                .introduce(at(1), party(2 * n, 1), party(2 * n + 1, 1))
                .is_ok()
        });
        assert_eq!(met.count(), MAX_MEETINGS);
    }
}
