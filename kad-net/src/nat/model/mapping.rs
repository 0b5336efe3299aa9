//! Which external port a flow gets.

use super::PORT;

/// Which external port a flow gets (RFC 4787, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// Nothing is translated.
    None,
    /// The same for every destination, and that of the host if it is free.
    EndpointIndependent,
    /// Another one for each destination.
    EndpointDependent,
}

/// The first of the ports that are given where the host's own is not kept.
const FIRST: u16 = 30_000;

/// So many ports are given in turn, far more than any flow lives for.
const PORTS: u16 = 30_000;

/// From one port to the next. It has no factor in common with their number, so that all get their turn.
const STEP: u16 = 7;

impl Mapping {
    /// The port of a new flow. `occupied`: something else has the host's own port towards this destination.
    pub(super) const fn choose(self, occupied: bool, given: &mut u16) -> u16 {
        match self {
            Self::None => PORT,
            Self::EndpointIndependent if !occupied => PORT,
            Self::EndpointIndependent | Self::EndpointDependent => {
                *given = (*given + STEP) % PORTS;
                FIRST + *given
            }
        }
    }
}
