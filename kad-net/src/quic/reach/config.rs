//! What a node does in order to be reached, and to help others to be.

use std::time::Duration;

use crate::nat::reachability::{Reachability, ReachabilityConfig, Role};
use crate::nat::relay::RelayConfig;
use crate::wire::Scope;

/// What a node does in order to be reached, and to help others to be.
///
/// The default is for private networks and tests: everybody serves from the start, and asks nobody where it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachConfig {
    /// Where addresses mean something. In [`Scope::Global`] a node has to prove that strangers reach it before it
    /// serves.
    pub scope: Scope,
    /// How it proves that, and who decides about its role.
    pub reachability: ReachabilityConfig,
    /// How much it relays for others while it serves; `None`: nothing.
    pub relay: Option<RelayConfig>,
    /// Whether it knows nobody whom it could join: then it serves at once, as somebody has to be the first.
    pub alone: bool,
    /// Whether it asks nobody anything and takes no place at a relay: for a node that asks a few things and leaves.
    /// Default no.
    pub quiet: bool,
    /// Whether it tries many ports at once where punching was in vain because one of two NATs gives every destination
    /// another port and the other one lets in only ports that were sent to ([`birthday`](crate::nat::birthday)). Both
    /// ends have to. Default no: it takes up to 1,750 mappings of the router for half a minute.
    pub birthday_punching: bool,
    /// How often it tells a relay that it is still there. Default 15 seconds: Linux forgets a UDP flow without an
    /// answer after 30, and routers that follow RFC 4787 (REQ-5) after two minutes at least.
    pub keep: Duration,
    /// Whether sessions that arrive are left to the test.
    #[cfg(test)]
    pub unattended: bool,
}

impl ReachConfig {
    /// Whether nobody looks at the sessions that arrive; in tests that do so themselves.
    #[cfg(not(test))]
    pub(in super::super) const fn is_unattended(&self) -> bool {
        false
    }

    /// Whether nobody looks at the sessions that arrive; in tests that do so themselves.
    #[cfg(test)]
    pub(in super::super) const fn is_unattended(&self) -> bool {
        self.unattended
    }

    /// What a node is before anything is known.
    pub(in super::super) fn first_role(&self) -> Role {
        // No nonce is drawn, so the seed does not matter.
        Reachability::new(self.reachability.clone(), self.scope, self.alone, &[0; 32]).role()
    }
}

impl Default for ReachConfig {
    fn default() -> Self {
        Self {
            scope: Scope::Any,
            reachability: ReachabilityConfig::default(),
            relay: Some(RelayConfig::default()),
            alone: false,
            quiet: false,
            birthday_punching: false,
            keep: Duration::from_secs(15),
            #[cfg(test)]
            unattended: false,
        }
    }
}
