//! Roles, who decides about them, and when.

use kad_core::Duration;

/// What a node may be to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It asks, and nobody routes through it.
    Client,
    /// It can be reached, and serves.
    Server,
}

/// Who decides about the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RoleChoice {
    /// The node, by what is proven.
    #[default]
    Auto,
    /// The operator: never serve. What can be proven is found out all the same.
    Client,
    /// The operator: always serve. The same.
    Server,
}

/// How a node finds out whether it can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReachabilityConfig {
    /// Who decides about the role.
    pub role: RoleChoice,
    /// How long an address must have been reachable before the node serves. Nodes that are reached for moments only
    /// would come and go in everybody's tables. HyperDHT waits for 20 minutes, which a node that runs for an hour has
    /// not.
    pub hold: Duration,
    /// Whether a node takes itself for reachable where addresses are [not global](crate::wire::Scope::Any): most such
    /// networks are too small for a proof, which takes hosts that the node never sent anything to.
    pub presume: bool,
}

impl Default for ReachabilityConfig {
    fn default() -> Self {
        Self {
            role: RoleChoice::Auto,
            hold: Duration::from_secs(60),
            presume: true,
        }
    }
}
