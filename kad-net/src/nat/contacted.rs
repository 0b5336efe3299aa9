//! Hosts that this node has sent something to.
//!
//! What comes from one of them proves nothing about strangers: the NAT lets it in because we sent there first, whatever
//! port it comes from.

use std::collections::BTreeSet;
use std::mem;
use std::net::IpAddr;

use kad_core::{Duration, Instant};

use super::prefix::host;

/// Hosts that are remembered of one span; a node that crawls meets some thousand in that time. With more, everybody
/// counts as contacted: to forget one would be to be wrong.
const MAX_CONTACTED: usize = 16_384;

/// A host counts as contacted for so long at least, and for twice as long at most. NATs forget a UDP flow after two
/// minutes on Linux, and after five where RFC 4787 (REQ-5) is followed.
const SPAN: Duration = Duration::from_secs(600);

/// Two spans of time, each with its hosts.
#[derive(Debug, Default)]
pub struct Contacted {
    began: Instant,
    current: BTreeSet<IpAddr>,
    last: BTreeSet<IpAddr>,
    last_until: Instant,
    /// Until then not all are known.
    blind_until: Instant,
}

impl Contacted {
    /// Something was sent to a host, of whatever kind, or is about to be.
    pub fn note(&mut self, now: Instant, ip: IpAddr) {
        if now.since(self.began) >= SPAN {
            self.last = mem::take(&mut self.current);
            self.last_until = self.began + SPAN * 2;
            self.began = now;
        }
        if self.current.len() >= MAX_CONTACTED && !self.current.contains(&host(ip)) {
            self.blind_until = now + SPAN;
            return;
        }
        self.current.insert(host(ip));
    }

    /// Whether this host may let us in for other reasons than that we can be reached.
    #[must_use]
    pub fn contains(&self, now: Instant, ip: IpAddr) -> bool {
        let host = host(ip);
        now < self.blind_until
            || now.since(self.began) < SPAN * 2 && self.current.contains(&host)
            || now < self.last_until && self.last.contains(&host)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    fn ip(n: u32) -> IpAddr {
        IpAddr::from((0x0800_0000 + n).to_be_bytes())
    }

    proptest! {
        #[test]
        fn a_host_counts_for_ten_minutes_and_not_for_twenty(
            notes in prop::collection::vec((0u64..400, 0u32..5), 0..40),
            asked in 0u32..5,
            later in 0u64..1500,
        ) {
            let (mut contacted, mut secs, mut last) = (Contacted::default(), 0, None);
            for (wait, n) in notes {
                secs += wait;
                contacted.note(at(secs), ip(n));
                if n == asked {
                    last = Some(secs);
                }
            }
            secs += later;
            let counts = contacted.contains(at(secs), ip(asked));
            match last.map(|last| secs - last) {
                Some(0..600) => prop_assert!(counts),
                Some(600..1200) => {}
                _ => prop_assert!(!counts),
            }
        }
    }

    #[test]
    fn a_full_list_takes_everybody_for_contacted_until_it_knows_them_all_again() {
        let mut contacted = Contacted::default();
        for n in 0..=MAX_CONTACTED as u32 {
            contacted.note(at(1), ip(n));
        }
        let stranger = ip(1 << 20);
        assert!(contacted.contains(at(1), ip(MAX_CONTACTED as u32)));
        assert!(contacted.contains(at(600), stranger));
        assert!(!contacted.contains(at(601), stranger));
        assert!(contacted.current.len() <= MAX_CONTACTED);
    }

    #[test]
    fn another_address_of_the_same_host_is_no_stranger() {
        let mut contacted = Contacted::default();
        contacted.note(at(1), "2001:db8::1".parse().unwrap());
        assert!(contacted.contains(at(2), "2001:db8::2".parse().unwrap()));
    }
}
