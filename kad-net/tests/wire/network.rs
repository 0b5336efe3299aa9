//! The network that all messages of these tests belong to.

use std::fmt;
use std::net::SocketAddr;

use kad_core::{Address, NetworkId, Parameters, Rules, UnixTime};
use kad_net::WireAddress;
use kad_net::wire::{Codec, Scope};

/// When all of this happens.
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// An address of several sockets, as QUIC has them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Sockets(pub(crate) Vec<SocketAddr>);

impl fmt::Display for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Address for Sockets {}

impl WireAddress for Sockets {
    fn from_sockets(sockets: &[SocketAddr]) -> Option<Self> {
        Some(Self(sockets.to_vec()))
    }

    fn sockets(&self) -> &[SocketAddr] {
        &self.0
    }
}

pub(crate) fn rules() -> Rules {
    let parameters = Parameters::default();
    Rules::new(NetworkId::new("nautilus", &parameters), &parameters)
}

pub(crate) fn codec() -> Codec {
    Codec::new(rules(), Scope::Any)
}
