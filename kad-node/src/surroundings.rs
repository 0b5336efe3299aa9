//! What a node has to do with the network that its machine is in: its addresses, its router, its neighbours.

use std::net::{IpAddr, SocketAddr};

use kad_core::{Command, NetworkId, NodeId};
use kad_net::wire::Scope;
use kad_net::{Transport, WireAddress as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[cfg(feature = "mdns")]
use crate::discovery::{Announcement, Discovery, Meet, Neighbour, Neighbourhood};
use crate::interfaces::Interfaces;
use crate::join::{Company, identify_at};
#[cfg(feature = "port-mapping")]
use crate::mapping::{PortMapping, Wanted};
use crate::node::WeakAsker;
use crate::peer::Peer;
use crate::role::Role;

/// Whether a node announces itself over mDNS in its network, and begins with those who do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mdns {
    /// Neither announce nor hear.
    Off,
    /// Hear, and do not announce: for a node that is gone in a moment.
    Hear,
    /// Both, unless the node is for this machine only: it listens on loopback, or all that it begins with are there.
    #[default]
    Auto,
    /// Both, and on loopback as well.
    Always,
}

impl Mdns {
    /// Whether to hear at all. A network on one machine, as tests have them, must not meet others by chance.
    fn is_wanted(self, asked: &[SocketAddr], peers: &[Peer]) -> bool {
        let loopback = |peer: &Peer| match peer.host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => peer.host == "localhost",
        };
        let here = asked.iter().all(|address| address.ip().is_loopback())
            || !peers.is_empty() && peers.iter().all(loopback);
        match self {
            Self::Off => false,
            Self::Hear | Self::Auto => !here,
            Self::Always => true,
        }
    }
}

/// What becomes known of the surroundings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// The addresses of the machine, for the first time or because it is in another network.
    Moved(Vec<IpAddr>),
    /// Where a router says that it forwards to this node.
    Mapped(Option<SocketAddr>),
}

/// How a node is set in its surroundings.
pub(crate) struct Setting {
    pub(crate) id: NodeId,
    pub(crate) network: NetworkId,
    /// Where it was told to listen.
    pub(crate) asked: Vec<SocketAddr>,
    /// Where it listens.
    pub(crate) bound: Vec<SocketAddr>,
    pub(crate) scope: Scope,
    pub(crate) peers: Vec<Peer>,
    pub(crate) port_mapping: bool,
    pub(crate) mdns: Mdns,
    /// Who is told what becomes known.
    pub(crate) tell: Box<dyn Fn(News) + Send + Sync>,
}

impl Setting {
    /// A node that listens on loopback only has no surroundings.
    fn is_loopback(&self) -> bool {
        self.asked.iter().all(|address| address.ip().is_loopback())
    }

    /// Whether neighbours are heard.
    pub(crate) fn hears(&self) -> bool {
        cfg!(feature = "mdns") && self.mdns.is_wanted(&self.asked, &self.peers)
    }
}

/// The tasks that know the surroundings.
pub(crate) struct Surroundings {
    interfaces: Option<Interfaces>,
    teller: Option<JoinHandle<()>>,
    #[cfg(feature = "port-mapping")]
    mapping: Option<PortMapping>,
    #[cfg(feature = "mdns")]
    discovery: Option<Discovery>,
}

impl Surroundings {
    /// Begins to look, to ask and to hear, as far as the setting wants that.
    pub(crate) fn start<T: Transport>(setting: Setting, host: Host<T>, role: watch::Receiver<Role>) -> Self {
        let interfaces = (!setting.is_loopback()).then(|| Interfaces::watch(&setting.asked));
        #[cfg(feature = "mdns")]
        let discovery = setting.hears().then(|| {
            let announcement = Announcement {
                id: setting.id,
                network: setting.network,
                asked: setting.asked.clone(),
                bound: setting.bound.clone(),
                serves: *role.borrow() == Role::Server,
                announces: setting.mdns != Mdns::Hear,
            };
            let company = host.company.clone();
            Discovery::start(announcement, role, company, std::sync::Arc::new(host))
        });
        #[cfg(not(feature = "mdns"))]
        let _ = (host, role, setting.id, setting.network);
        #[cfg(feature = "port-mapping")]
        let mapping = match &interfaces {
            Some(interfaces) if setting.port_mapping => {
                let wanted = Wanted::of(&setting.asked, &setting.bound, setting.scope);
                wanted.map(|wanted| PortMapping::start(wanted, interfaces.moves()))
            }
            _ => None,
        };
        #[cfg(feature = "port-mapping")]
        let mapped = mapping.as_ref().map(PortMapping::mapped);
        #[cfg(not(feature = "port-mapping"))]
        let mapped = None;
        let teller = interfaces.as_ref().map(|interfaces| {
            let (addresses, moves) = (interfaces.addresses(), interfaces.moves());
            tokio::spawn(tell(addresses, moves, mapped, setting.tell))
        });
        Self {
            interfaces,
            teller,
            #[cfg(feature = "port-mapping")]
            mapping,
            #[cfg(feature = "mdns")]
            discovery,
        }
    }

    /// Counts how often the machine has moved; `None` if nobody looks.
    pub(crate) fn moves(&self) -> Option<watch::Receiver<u64>> {
        self.interfaces.as_ref().map(Interfaces::moves)
    }

    /// The neighbours, if they are heard.
    #[cfg(feature = "mdns")]
    pub(crate) fn neighbourhood(&self) -> Option<Neighbourhood> {
        self.discovery.as_ref().map(Discovery::neighbourhood)
    }

    /// Gives the router its port back and says goodbye; takes two seconds at most.
    pub(crate) async fn close(self) {
        if let Some(teller) = &self.teller {
            teller.abort();
        }
        let unmap = async {
            #[cfg(feature = "port-mapping")]
            if let Some(mapping) = self.mapping {
                mapping.close().await;
            }
        };
        let farewell = async {
            #[cfg(feature = "mdns")]
            if let Some(discovery) = self.discovery {
                discovery.close().await;
            }
        };
        tokio::join!(unmap, farewell);
    }
}

/// Tells the news as they come in.
async fn tell(
    mut addresses: watch::Receiver<Vec<IpAddr>>,
    mut moves: watch::Receiver<u64>,
    mut mapped: Option<watch::Receiver<Option<SocketAddr>>>,
    tell: Box<dyn Fn(News) + Send + Sync>,
) {
    if addresses.changed().await.is_err() {
        return;
    }
    tell(News::Moved(addresses.borrow_and_update().clone()));
    loop {
        let mapping = async {
            match &mut mapped {
                Some(mapped) => mapped.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            moved = moves.changed() => match moved {
                Ok(()) => tell(News::Moved(addresses.borrow().clone())),
                Err(_) => return,
            },
            told = mapping => match (told, &mapped) {
                (true, Some(now)) => tell(News::Mapped(*now.borrow())),
                _ => mapped = None,
            },
        }
    }
}

/// What neighbours are met with: with nobody else known they are the way in, and else one more contact.
#[cfg_attr(not(feature = "mdns"), allow(dead_code, reason = "nobody is met then"))]
pub(crate) struct Host<T: Transport> {
    pub(crate) transport: std::sync::Arc<T>,
    pub(crate) asker: WeakAsker<T::Address>,
    pub(crate) company: watch::Receiver<Company>,
}

#[cfg(feature = "mdns")]
impl<T: Transport> Meet for std::sync::Arc<Host<T>> {
    async fn meet(&self, neighbour: Neighbour) -> bool {
        let Some(address) = T::Address::from_sockets(&neighbour.addresses) else {
            return false;
        };
        let contact = match identify_at(&*self.transport, &address).await {
            Ok(contact) if contact.id == neighbour.id => contact,
            _ => return false,
        };
        let nobody = *self.company.borrow() == Company::Nobody;
        match nobody {
            true => self.asker.bootstrap(vec![contact]).await.is_ok(),
            // Who answers becomes a contact, if the table has room.
            false => self.asker.ask(Command::Ping { contact }).await.is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn peers(texts: &[&str]) -> Vec<Peer> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_network_of_one_machine_is_announced_only_if_somebody_asks_for_that() {
        let here = addresses(&["127.0.0.1:0", "[::1]:0"]);
        let everywhere = addresses(&["0.0.0.0:0"]);
        for (asked, begins, wanted) in [
            (&here, peers(&[]), false),
            (&here, peers(&["192.168.1.7:4001"]), false),
            (&everywhere, peers(&[]), true),
            (&everywhere, peers(&["127.0.0.1:4001", "localhost:4002"]), false),
            (&everywhere, peers(&["127.0.0.1:4001", "192.168.1.7:4001"]), true),
            (&everywhere, peers(&["example.org:4001"]), true),
        ] {
            assert_eq!(
                Mdns::Auto.is_wanted(asked, &begins),
                wanted,
                "{asked:?} {begins:?}"
            );
            assert_eq!(
                Mdns::Hear.is_wanted(asked, &begins),
                wanted,
                "{asked:?} {begins:?}"
            );
            assert!(Mdns::Always.is_wanted(asked, &begins) && !Mdns::Off.is_wanted(asked, &begins));
        }
    }

    #[tokio::test]
    async fn moves_and_mappings_are_told_and_bridges_are_not() {
        let (address, addresses) = watch::channel(Vec::new());
        let (moved, moves) = watch::channel(0);
        let (map, mapped) = watch::channel(None);
        let (told, mut telling) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(tell(
            addresses,
            moves,
            Some(mapped),
            Box::new(move |news| told.send(news).unwrap()),
        ));
        let home: Vec<IpAddr> = vec!["192.168.1.7".parse().unwrap()];
        let office: Vec<IpAddr> = vec!["10.1.2.3".parse().unwrap()];
        address.send_replace(home.clone());
        assert_eq!(telling.recv().await, Some(News::Moved(home)));
        // A bridge: other addresses and no move.
        address.send_replace(office.clone());
        let external = Some("8.8.8.8:4001".parse().unwrap());
        map.send_replace(external);
        assert_eq!(telling.recv().await, Some(News::Mapped(external)));
        moved.send_replace(1);
        assert_eq!(telling.recv().await, Some(News::Moved(office)));
    }
}
