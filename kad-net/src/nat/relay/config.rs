//! How much a node relays for others.

use kad_core::Duration;

/// How much a node relays for others. Numbers as of libp2p's circuit relay v2, but sessions of 8 MiB and a quarter of
/// an hour in place of 128 KiB and two minutes, so that somebody can work through one, and rates, which it does not
/// limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayConfig {
    /// Peers that have a place; 0: the node relays for nobody.
    pub reservations: usize,
    /// Of them on one host.
    pub reservations_per_host: usize,
    /// Of them at one site (IPv4 /24, IPv6 /48).
    pub reservations_per_site: usize,
    /// How long a place is kept before it has to be renewed.
    pub reservation: Duration,
    /// Sessions at a time.
    pub sessions: usize,
    /// Of them that one peer has opened to one other.
    pub sessions_per_pair: usize,
    /// Of them that one peer has opened.
    pub sessions_per_opener: usize,
    /// Of them that were opened to one peer: more than one or two others may have, so that these cannot lock it.
    pub sessions_per_target: usize,
    /// Of them opened from one host.
    pub sessions_per_host: usize,
    /// How long a session lasts at most; whoever needs it longer opens another one.
    pub session: Duration,
    /// Bytes of one session in each direction.
    pub session_bytes: u64,
    /// Bytes of one session in a second, both directions together.
    pub session_rate: u64,
    /// Bytes of all sessions in a second: a quarter of what they could have together, some 4 Mbit/s.
    pub rate: u64,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            reservations: 128,
            reservations_per_host: 8,
            reservations_per_site: 16,
            reservation: Duration::from_secs(60 * 60),
            sessions: 16,
            sessions_per_pair: 2,
            sessions_per_opener: 4,
            sessions_per_target: 8,
            sessions_per_host: 4,
            session: Duration::from_secs(15 * 60),
            session_bytes: 8 * 1024 * 1024,
            session_rate: 128_000,
            rate: 512_000,
        }
    }
}
