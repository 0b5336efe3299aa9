//! Who may send to a port.

use std::net::SocketAddr;

use kad_core::Instant;

use super::PORT;
use super::expiry::Flows;

/// Who may send to a port (RFC 4787, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filtering {
    /// Everybody, always.
    None,
    /// Everybody, as long as there is a flow from this port to anywhere.
    EndpointIndependent,
    /// Hosts that there is a flow to from this port.
    AddressDependent,
    /// Addresses that there is a flow to from this port.
    AddressAndPortDependent,
    /// Nobody, and nothing goes out.
    All,
}

impl Filtering {
    pub(super) fn admits(self, flows: &Flows, now: Instant, from: SocketAddr, port: u16) -> bool {
        match self {
            Self::None => port == PORT,
            Self::EndpointIndependent => {
                port == PORT && flows.has_open(now) || flows.port(now, from) == Some(port)
            }
            Self::AddressDependent => flows.to_host(now, from.ip(), port),
            Self::AddressAndPortDependent => flows.port(now, from) == Some(port),
            Self::All => false,
        }
    }
}
