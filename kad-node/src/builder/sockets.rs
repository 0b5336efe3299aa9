//! What a node has more that runs over QUIC.

use std::sync::Arc;

use kad_net::quic::QuicTransport;

use crate::surroundings::{News, Setting};

/// Makes a transport fall silent.
pub(super) type Silence = Box<dyn Fn() + Send + Sync>;

/// What a node has more that runs over QUIC.
pub(crate) struct Sockets {
    pub(super) transport: Arc<QuicTransport>,
    pub(super) silence: Silence,
    pub(super) setting: Setting,
}

/// Tells the transport what becomes known of the network around the machine.
pub(super) fn teller(transport: Arc<QuicTransport>) -> Box<dyn Fn(News) + Send + Sync> {
    Box::new(move |news| match news {
        News::Moved(addresses) => {
            transport.network_changed();
            transport.reach().network_changed(addresses);
        }
        News::Mapped(address) => transport.reach().set_mapped(address.into_iter().collect()),
    })
}
