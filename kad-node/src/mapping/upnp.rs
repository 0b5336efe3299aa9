//! UPnP: what most home routers speak (Internet Gateway Device, WANIPConnection).

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{AddPortError, PortMappingProtocol, SearchOptions};

use super::router::{Granted, Place};

/// Devices may take up to two seconds to answer a search (UPnP Device Architecture, section 1.3.2: MX), and then tell
/// of themselves by HTTP.
const SEARCH: Duration = Duration::from_secs(4);

/// What people see in the list of their router.
const DESCRIPTION: &str = "nautilus-kad";

/// A router that was found.
#[derive(Debug)]
pub(super) struct Device(Gateway<Tokio>);

impl Device {
    pub(super) async fn find(place: &Place) -> Result<Self, String> {
        let mut options = SearchOptions::default();
        options.bind_addr = SocketAddr::new(place.own.into(), 0);
        options.broadcast_address = place.ssdp;
        options.timeout = Some(SEARCH);
        options.single_search_timeout = Some(SEARCH);
        options.allowed_gateway_ips.clone_from(&place.trusted);
        let found = search_gateway(options).await;
        found.map(Self).map_err(|why| format!("UPnP: {why}"))
    }
}

/// A mapping that a router has granted.
#[derive(Debug)]
pub(super) struct UpnpMapping {
    gateway: Gateway<Tokio>,
    external: u16,
    local: SocketAddr,
}

impl UpnpMapping {
    pub(super) async fn new(
        device: Device,
        place: &Place,
        port: NonZeroU16,
        lifetime: Duration,
    ) -> Result<(Self, Granted), String> {
        let Device(gateway) = device;
        let local = SocketAddr::new(place.own.into(), port.get());
        let mut mapping = Self {
            gateway,
            external: port.get(),
            local,
        };
        match mapping.add(lifetime).await {
            Ok(()) => {}
            // Somebody else in this network has the same port.
            Err(AddPortError::PortInUse) => {
                let any = mapping.gateway.add_any_port(
                    PortMappingProtocol::UDP,
                    local,
                    seconds(lifetime),
                    DESCRIPTION,
                );
                mapping.external = any.await.map_err(|why| format!("UPnP: {why}"))?;
            }
            Err(why) => return Err(format!("UPnP: {why}")),
        }
        match mapping.granted(lifetime).await {
            Ok(granted) => Ok((mapping, granted)),
            Err(why) => {
                mapping.remove().await;
                Err(why)
            }
        }
    }

    pub(super) async fn renew(&mut self, lifetime: Duration) -> Result<Granted, String> {
        self.add(lifetime).await.map_err(|why| format!("UPnP: {why}"))?;
        self.granted(lifetime).await
    }

    pub(super) async fn remove(self) {
        let removed = self
            .gateway
            .remove_port(PortMappingProtocol::UDP, self.external)
            .await;
        if let Err(why) = removed {
            tracing::debug!(%why, "the router kept a mapping, which expires");
        }
    }

    async fn add(&self, lifetime: Duration) -> Result<(), AddPortError> {
        let add = |secs| {
            (self.gateway).add_port(
                PortMappingProtocol::UDP,
                self.external,
                self.local,
                secs,
                DESCRIPTION,
            )
        };
        match add(seconds(lifetime)).await {
            // It stays until it is removed, which happens at the end of this node unless its power goes.
            Err(AddPortError::OnlyPermanentLeasesSupported) => add(0).await,
            added => added,
        }
    }

    async fn granted(&self, lifetime: Duration) -> Result<Granted, String> {
        let ip = (self.gateway.get_external_ip().await).map_err(|why| format!("UPnP: {why}"))?;
        Ok(Granted {
            external: SocketAddr::new(ip, self.external),
            lifetime,
            by: "UPnP",
        })
    }
}

fn seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
}
