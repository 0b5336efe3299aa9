//! What uninvited packets do to routers that take them for their own.
//!
//! A router whose own filter accepts what comes from outside remembers it as a flow of its own, from that sender to the
//! port that a host behind it uses. What the host then sends there cannot have that port any more: it gets another one,
//! and whoever was told the old one waits in vain. Each further packet keeps it so.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kad_core::Instant;

use super::PORT;
use super::expiry::UNANSWERED;

/// Uninvited senders that are remembered; what comes from a further one leaves no trace.
const MAX_UNINVITED: usize = 1_024;

/// Who sent something to the host's own port uninvited, and until when that counts.
#[derive(Debug)]
pub(super) struct Uninvited(BTreeMap<SocketAddr, Instant>);

impl Uninvited {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn note(&mut self, now: Instant, from: SocketAddr, port: u16) {
        // Nothing else is ever in the way of anybody.
        if port != PORT {
            return;
        }
        if self.0.len() >= MAX_UNINVITED {
            self.0.retain(|_, until| now < *until);
        }
        if self.0.len() < MAX_UNINVITED || self.0.contains_key(&from) {
            self.0.insert(from, now + UNANSWERED);
        }
    }

    /// Whether the host's own port is taken towards an address.
    pub(super) fn occupies(&self, now: Instant, remote: SocketAddr) -> bool {
        self.0.get(&remote).is_some_and(|until| now < *until)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
