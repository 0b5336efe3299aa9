//! The router of the own network, and the three ways to ask it.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use tokio::time::timeout;

use super::pcp::PcpMapping;
use super::upnp::{Device, UpnpMapping};

/// How long a router that is likely out of reach is waited for when its mapping is given back.
const PARTING: Duration = Duration::from_secs(1);

/// What a router has granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Granted {
    /// Where it says that others reach this node.
    pub(super) external: SocketAddr,
    pub(super) lifetime: Duration,
    /// How it was asked, for the log.
    pub(super) by: &'static str,
}

/// Something that can be asked to let others in.
pub(super) trait Router: Send + 'static {
    /// Asks for a UDP port, or for the same one for longer. An error is a sentence without its full stop.
    fn map(
        &mut self,
        port: NonZeroU16,
        lifetime: Duration,
    ) -> impl Future<Output = Result<Granted, String>> + Send;

    /// Gives back what was granted, as far as the router still answers.
    fn unmap(&mut self) -> impl Future<Output = ()> + Send;

    /// The machine was asleep, or may be in another network. Says whether what is held is still this router's to renew;
    /// what is not is given back as far as that router still answers, within a second.
    fn moved(&mut self) -> impl Future<Output = bool> + Send;

    /// What was granted has expired, or belongs to another network.
    fn forget(&mut self);
}

/// Where the router is, and where it sees this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) gateway: Ipv4Addr,
    pub(super) own: Ipv4Addr,
    /// Where UPnP devices are looked for.
    pub(super) ssdp: SocketAddr,
    /// Hosts of devices that are believed although nobody should be there; for tests on loopback.
    pub(super) trusted: Vec<IpAddr>,
}

/// Where UPnP devices listen (UPnP Device Architecture, section 1.3.2).
const SSDP: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 255, 255, 250), 1900);

impl Place {
    /// Reads the routing table. `listens` is the address that the node listens at, if it is a single one.
    pub(super) async fn find(listens: Option<Ipv4Addr>) -> Result<Self, String> {
        let found = tokio::task::spawn_blocking(netdev::get_default_interface).await;
        let interface = match found {
            Ok(found) => found.map_err(|why| format!("there is no default route: {why}"))?,
            Err(_) => return Err("the routing table could not be read".to_owned()),
        };
        let gateway = interface
            .gateway
            .as_ref()
            .and_then(|gateway| gateway.ipv4.first())
            .copied()
            .ok_or("the default route has no router with an IPv4 address")?;
        let near = interface.ipv4.iter().find(|net| net.contains(&gateway));
        let own = near.or_else(|| interface.ipv4.first()).map(|net| net.addr());
        let own = own.ok_or("the interface of the default route has no IPv4 address")?;
        match listens {
            Some(listens) if listens != own => Err(format!(
                "the node listens at {listens} only, and the router sees {own}"
            )),
            _ if !is_behind_nat(own) => Err(format!("{own} needs no router to be reached")),
            _ => Ok(Self {
                gateway,
                own,
                ssdp: SSDP.into(),
                trusted: Vec::new(),
            }),
        }
    }
}

/// Whether nobody can send to it from elsewhere: private addresses (RFC 1918) and those that providers share (RFC
/// 6598).
pub(super) fn is_behind_nat(ip: Ipv4Addr) -> bool {
    ip.is_private() || ip.is_link_local() || is_shared(ip)
}

/// 100.64.0.0/10: the inside of a provider's NAT.
fn is_shared(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && second & 0xc0 == 64
}

/// Whatever router there is, asked by PCP or NAT-PMP, and by UPnP if it knows neither.
#[derive(Debug, Default)]
pub(super) struct HomeRouter {
    listens: Option<Ipv4Addr>,
    /// Known beforehand in tests only.
    place: Option<Place>,
    /// What was granted, and where.
    held: Option<(Place, Held)>,
}

#[derive(Debug)]
enum Held {
    Pcp(PcpMapping),
    Upnp(UpnpMapping),
}

impl HomeRouter {
    /// The router of the default route. `listens` is the address that the node listens at, if it is a single one.
    pub(super) fn new(listens: Option<Ipv4Addr>) -> Self {
        Self {
            listens,
            ..Self::default()
        }
    }

    #[cfg(test)]
    pub(super) fn at(place: Place) -> Self {
        Self {
            place: Some(place),
            ..Self::default()
        }
    }

    /// The machine is elsewhere from now on.
    #[cfg(test)]
    pub(super) fn move_to(&mut self, place: Place) {
        self.place = Some(place);
    }

    async fn find(&self) -> Result<Place, String> {
        match &self.place {
            Some(place) => Ok(place.clone()),
            None => Place::find(self.listens).await,
        }
    }

    async fn ask(&mut self, port: NonZeroU16, lifetime: Duration) -> Result<Granted, String> {
        let place = self.find().await?;
        let pcp = PcpMapping::new(&place, port, lifetime);
        let device = Device::find(&place);
        tokio::pin!(pcp, device);
        // UPnP devices take their time to be found, so they are looked for meanwhile; what is found is asked only if it
        // is needed, or there would be two mappings.
        let mut found = None;
        let refused = loop {
            tokio::select! {
                biased;
                mapped = &mut pcp => match mapped {
                    Ok((mapping, granted)) => {
                        self.held = Some((place.clone(), Held::Pcp(mapping)));
                        return Ok(granted);
                    }
                    Err(why) => break why,
                },
                device = &mut device, if found.is_none() => found = Some(device),
            }
        };
        let device = match found {
            Some(device) => device,
            None => device.await,
        };
        let mapped = match device {
            Ok(device) => UpnpMapping::new(device, &place, port, lifetime).await,
            Err(why) => Err(why),
        };
        match mapped {
            Ok((mapping, granted)) => {
                self.held = Some((place.clone(), Held::Upnp(mapping)));
                Ok(granted)
            }
            Err(why) => Err(format!("{refused}; {why}")),
        }
    }
}

impl Router for HomeRouter {
    async fn map(&mut self, port: NonZeroU16, lifetime: Duration) -> Result<Granted, String> {
        match &mut self.held {
            Some((_, Held::Pcp(mapping))) => mapping.renew().await,
            Some((_, Held::Upnp(mapping))) => mapping.renew(lifetime).await,
            None => self.ask(port, lifetime).await,
        }
    }

    async fn unmap(&mut self) {
        match self.held.take() {
            Some((_, Held::Pcp(mapping))) => mapping.remove().await,
            Some((_, Held::Upnp(mapping))) => mapping.remove().await,
            None => {}
        }
    }

    /// A lease of PCP is renewed under its nonce only: a router refuses another one for as long as the lease lives (RFC
    /// 6887, section 11.3). So what is held is kept where the gateway and the own address are the same, and where
    /// neither can be told yet, as just after a machine has woken up: it is a move as well when they can.
    async fn moved(&mut self) -> bool {
        let Some((granted_at, _)) = &self.held else {
            return false;
        };
        let stays = match self.find().await {
            Ok(place) => (place.gateway, place.own) == (granted_at.gateway, granted_at.own),
            Err(_) => true,
        };
        if !stays && timeout(PARTING, self.unmap()).await.is_err() {
            tracing::debug!("the router of the last network kept a mapping, which expires");
        }
        stays
    }

    fn forget(&mut self) {
        self.held = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inside_of_a_providers_nat_is_no_place_to_be_reached_at() {
        for inside in [
            "10.0.0.1",
            "172.16.3.4",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.254",
        ] {
            assert!(is_behind_nat(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["8.8.8.8", "100.63.255.255", "100.128.0.1", "203.0.113.7"] {
            assert!(!is_behind_nat(outside.parse().unwrap()), "{outside}");
        }
    }
}
