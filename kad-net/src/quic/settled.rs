//! Where a peer is, as far as it has proven that it is there.
//!
//! QUIC follows a peer to where its newest packet came from, and asks for a proof afterwards; without one it goes back
//! to where the peer was. So who can forge the source of a packet can have its connection point at anybody for as long
//! as that takes, and again with the next forged packet. What is sent or said to third parties because of the address
//! of a peer has to wait until the address is proven.
//!
//! The library does not tell when it is. But each move has it send challenges, which are counted: an address that is
//! the same as before, with not one challenge sent in a time that is longer than a proof may take, has been proven.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A proof may take three probe timeouts: 3.1 s where no round trip is known yet. A little longer than that.
pub(super) const SETTLES: Duration = Duration::from_secs(4);

/// And for peers that are far away so many round trips: a probe timeout is one, and four times how much they vary,
/// which is at most as much as they take.
const ROUND_TRIPS: u32 = 15;

/// What a connection shows of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Where its newest packet came from.
    pub(super) at: SocketAddr,
    /// How many challenges were sent over it.
    pub(super) challenges: u64,
    pub(super) rtt: Duration,
}

/// Where a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whereabouts {
    /// The last address that it has proven.
    pub(super) at: SocketAddr,
    /// Whether it is still there, as far as its packets show.
    pub(super) settled: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Settled {
    at: SocketAddr,
    /// Measured there.
    rtt: Duration,
    newer: Option<(Seen, Instant)>,
}

impl Settled {
    /// The address of the handshake, which is a proof.
    pub(super) const fn new(at: SocketAddr, rtt: Duration) -> Self {
        Self { at, rtt, newer: None }
    }

    /// Looks at the connection, as often as anybody wants to know.
    pub(super) fn look(&mut self, seen: Seen, now: Instant) -> Whereabouts {
        if seen.at == self.at {
            (self.rtt, self.newer) = (seen.rtt, None);
        } else {
            match self.newer {
                Some((newer, since)) if newer.at == seen.at && newer.challenges == seen.challenges => {
                    if now.saturating_duration_since(since) >= self.settles() {
                        *self = Self::new(seen.at, seen.rtt);
                    }
                }
                _ => self.newer = Some((seen, now)),
            }
        }
        Whereabouts {
            at: self.at,
            settled: self.newer.is_none(),
        }
    }

    fn settles(&self) -> Duration {
        self.rtt.saturating_mul(ROUND_TRIPS).max(SETTLES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    fn host(n: u8) -> SocketAddr {
        SocketAddr::from(([8, 8, 8, n], 4001))
    }

    /// A peer that was at host 1, and a clock that began then.
    fn peer(rtt: Duration) -> impl FnMut(u64, u8, u64) -> (u8, bool) {
        let (mut settled, began) = (Settled::new(host(1), rtt), Instant::now());
        move |millis, n, challenges| {
            let at = host(n);
            let found = settled.look(
                Seen { at, challenges, rtt },
                began + Duration::from_millis(millis),
            );
            let n = (1..9).find(|&n| host(n) == found.at);
            (n.unwrap_or_default(), found.settled)
        }
    }

    #[test]
    fn a_peer_is_followed_once_it_has_had_time_to_prove_itself_and_not_before() {
        let mut look = peer(RTT);
        assert_eq!(look(0, 1, 0), (1, true));
        assert_eq!(look(1000, 2, 2), (1, false));
        assert_eq!(look(4999, 2, 2), (1, false));
        assert_eq!(look(5000, 2, 2), (2, true));
        assert_eq!(look(5001, 2, 2), (2, true));
    }

    #[test]
    fn who_goes_back_was_never_away() {
        let mut look = peer(RTT);
        assert_eq!(look(0, 2, 2), (1, false));
        assert_eq!(look(3200, 1, 2), (1, true));
        assert_eq!(look(5000, 2, 4), (1, false));
    }

    #[test]
    fn forged_packets_that_come_again_and_again_prove_nothing() {
        let mut look = peer(RTT);
        // Whenever the library has gone back it is led astray at once, and nobody looks in between.
        for second in 0..100 {
            assert_eq!(look(second * 1000, 2, 2 * (1 + second / 3)), (1, false));
        }
        // Nor does it help to be looked at rarely.
        assert_eq!(look(500_000, 2, 100), (1, false));
        assert_eq!(look(900_000, 2, 102), (1, false));
    }

    #[test]
    fn who_is_far_away_gets_more_time() {
        let mut look = peer(Duration::from_millis(600));
        look(0, 2, 2);
        assert_eq!(look(8999, 2, 2), (1, false));
        assert_eq!(look(9000, 2, 2), (2, true));
    }
}
