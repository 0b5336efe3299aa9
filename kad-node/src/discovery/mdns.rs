//! Announcing the node in its network, and hearing of others: mDNS (RFC 6762) and DNS-SD (RFC 6763).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kad_core::{NetworkId, NodeId};
use mdns_sd::{IfKind, Receiver, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};

use super::neighbours::Neighbour;

/// The name of the service.
const SERVICE: &str = "_nkad._udp.local.";

/// How long goodbyes may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// Keys of the TXT record: who it is, in which network, whether others may begin with it, and its IPv6 port.
const ID: &str = "id";
const NETWORK: &str = "net";
const SERVES: &str = "serves";
const PORT_V6: &str = "port6";

/// Names of neighbours that a goodbye can be matched with; whoever comes later is forgotten when it does not answer.
const MAX_NAMES: usize = 256;

/// What is told of the own node.
#[derive(Debug, Clone)]
pub(crate) struct Announcement {
    pub(crate) id: NodeId,
    pub(crate) network: NetworkId,
    /// Where it was told to listen.
    pub(crate) asked: Vec<SocketAddr>,
    /// Where it listens.
    pub(crate) bound: Vec<SocketAddr>,
    pub(crate) serves: bool,
    /// False for a node that is gone in a moment: it only listens.
    pub(crate) announces: bool,
}

impl Announcement {
    /// Whether it listens on this machine only.
    pub(crate) fn is_loopback(&self) -> bool {
        self.asked.iter().all(|address| address.ip().is_loopback())
    }

    fn port(&self, v4: bool) -> Option<u16> {
        let same = self.bound.iter().find(|address| address.is_ipv4() == v4);
        same.map(SocketAddr::port)
    }

    fn service(&self) -> Result<ServiceInfo, mdns_sd::Error> {
        let id = self.id.to_string();
        // A label has 63 octets at most, and the id 64 digits; the record has all of them.
        let name = &id[..32];
        let port_v6 = self.port(false);
        let port = self.port(true).or(port_v6).unwrap_or_default();
        let mut properties = vec![
            (ID, id.clone()),
            (NETWORK, self.network.to_string()),
            (SERVES, u8::from(self.serves).to_string()),
        ];
        if let Some(port) = port_v6 {
            properties.push((PORT_V6, port.to_string()));
        }
        let host = format!("nkad-{name}.local.");
        let mut service =
            ServiceInfo::new(SERVICE, name, &host, "", port, &properties[..])?.enable_addr_auto();
        service.set_interfaces(self.interfaces());
        Ok(service)
    }

    /// Those on which the node listens.
    fn interfaces(&self) -> Vec<IfKind> {
        let kind = |address: &SocketAddr| match address.ip() {
            ip if ip.is_loopback() => match ip {
                IpAddr::V4(_) => IfKind::LoopbackV4,
                IpAddr::V6(_) => IfKind::LoopbackV6,
            },
            ip if !ip.is_unspecified() => IfKind::Addr(ip),
            IpAddr::V4(_) => IfKind::IPv4,
            IpAddr::V6(_) => IfKind::IPv6,
        };
        self.asked.iter().map(kind).collect()
    }
}

/// What was heard.
#[derive(Debug)]
pub(super) enum Heard {
    Found(Neighbour),
    Gone(NodeId),
}

/// The daemon that speaks mDNS; a thread of its own.
pub(super) struct Mdns {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
    announced: Option<String>,
    network: String,
    names: BTreeMap<String, NodeId>,
}

impl Mdns {
    /// Listens, and announces if that is wanted. `port` is that of mDNS but in tests.
    pub(super) fn start(announcement: &Announcement, port: u16) -> Result<Self, mdns_sd::Error> {
        let daemon = ServiceDaemon::new_with_port(port)?;
        // By default it speaks on all interfaces, loopback included.
        daemon.disable_interface(IfKind::All)?;
        daemon.enable_interface(announcement.interfaces())?;
        let mut mdns = Self {
            events: daemon.browse(SERVICE)?,
            daemon,
            announced: None,
            network: announcement.network.to_string(),
            names: BTreeMap::new(),
        };
        mdns.announce(announcement)?;
        Ok(mdns)
    }

    /// Announces the node anew, in the place of what was announced before.
    pub(super) fn announce(&mut self, announcement: &Announcement) -> Result<(), mdns_sd::Error> {
        if announcement.announces {
            let service = announcement.service()?;
            self.announced = Some(service.get_fullname().to_owned());
            self.daemon.register(service)?;
        }
        Ok(())
    }

    /// The next thing that is of interest; `None` when the daemon has ended, or had to tell more at once than it could.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        loop {
            match self.events.recv_async().await.ok()? {
                ServiceEvent::ServiceResolved(service) => {
                    if let Some(neighbour) = read(&service, &self.network) {
                        if self.names.len() < MAX_NAMES {
                            self.names.insert(service.fullname.clone(), neighbour.id);
                        }
                        return Some(Heard::Found(neighbour));
                    }
                }
                ServiceEvent::ServiceRemoved(_, name) => {
                    if let Some(id) = self.names.remove(&name) {
                        return Some(Heard::Gone(id));
                    }
                }
                _ => {}
            }
        }
    }

    /// Says goodbye, as far as that is quick.
    pub(super) async fn close(self) {
        let farewell = async {
            if let Some(Ok(done)) = self.announced.map(|name| self.daemon.unregister(&name)) {
                // The answer tells nothing that anybody could act on.
                let _ = done.recv_async().await;
            }
            if let Ok(done) = self.daemon.shutdown() {
                let _ = done.recv_async().await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}

/// A node of the same network, if that is what the service says it is.
fn read(service: &ResolvedService, network: &str) -> Option<Neighbour> {
    let property = |key| service.get_property_val_str(key);
    if property(NETWORK)? != network {
        return None;
    }
    let port_v6 = property(PORT_V6).and_then(|port| port.parse().ok());
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, service.port),
        IpAddr::V6(_) => SocketAddr::new(ip, port_v6.unwrap_or(service.port)),
    };
    Some(Neighbour {
        id: property(ID)?.parse().ok()?,
        addresses: (service.addresses.iter())
            .map(|ip| address(ip.to_ip_addr()))
            .collect(),
        serves: property(SERVES) == Some("1"),
    })
}
