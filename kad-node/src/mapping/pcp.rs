//! PCP (RFC 6887), and NAT-PMP (RFC 6886) at routers that know only that.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use crab_nat::{
    GatewayAddress, InternetProtocol, MappingFailure, PortMapping, PortMappingOptions, PortMappingType,
    TimeoutConfig, natpmp, pcp,
};

use super::router::{Granted, Place};

/// A router is one hop away: 250, 500 and 1000 ms, and then it knows neither.
const PATIENCE: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_secs(1)),
};

/// A mapping that the router has granted.
#[derive(Debug)]
pub(super) struct PcpMapping {
    mapping: PortMapping,
    /// What was asked for at first; a router that granted less may grant it later.
    lifetime: Duration,
}

impl PcpMapping {
    pub(super) async fn new(
        place: &Place,
        port: NonZeroU16,
        lifetime: Duration,
    ) -> Result<(Self, Granted), String> {
        let gateway = GatewayAddress::IpV4(place.gateway);
        let options = options(port, lifetime);
        let asked = PortMapping::new(gateway, place.own.into(), InternetProtocol::Udp, port, options);
        let mapping = match asked.await {
            // Some that know NAT-PMP only say nothing to what they do not know.
            Err(MappingFailure::Pcp(pcp::Failure::Timeout)) => {
                natpmp::port_mapping(gateway, InternetProtocol::Udp, port, options)
                    .await
                    .map_err(MappingFailure::from)
            }
            asked => asked,
        };
        let mapping = mapping.map_err(|why| format!("PCP and NAT-PMP: {why}"))?;
        let mapping = Self { mapping, lifetime };
        match mapping.granted().await {
            Ok(granted) => Ok((mapping, granted)),
            Err(why) => {
                mapping.remove().await;
                Err(why)
            }
        }
    }

    /// Asks for the same for longer, under the same nonce: that is also what brings it back to a router that was
    /// restarted.
    pub(super) async fn renew(&mut self) -> Result<Granted, String> {
        let asked = options(self.mapping.external_port(), self.lifetime);
        let gateway = self.mapping.gateway();
        let port = self.mapping.internal_port();
        let renewed = match self.mapping.mapping_type() {
            PortMappingType::NatPmp => natpmp::port_mapping(gateway, InternetProtocol::Udp, port, asked)
                .await
                .map_err(|why| format!("NAT-PMP: {why}")),
            PortMappingType::Pcp {
                client,
                nonce,
                external_ip,
            } => {
                let request = pcp::BaseMapRequest::new(gateway, client, InternetProtocol::Udp, port);
                pcp::port_mapping(request, Some(nonce), Some(external_ip), asked)
                    .await
                    .map_err(|why| format!("PCP: {why}"))
            }
        };
        self.mapping = renewed?;
        self.granted().await
    }

    pub(super) async fn remove(self) {
        if let Err((why, _)) = self.mapping.try_drop().await {
            tracing::debug!(%why, "the router kept a mapping, which expires");
        }
    }

    async fn granted(&self) -> Result<Granted, String> {
        let (ip, by): (IpAddr, _) = match self.mapping.mapping_type() {
            PortMappingType::Pcp { external_ip, .. } => (external_ip.to_canonical(), "PCP"),
            PortMappingType::NatPmp => {
                let asked = natpmp::external_address(self.mapping.gateway(), Some(PATIENCE));
                let ip = asked.await.map_err(|why| format!("NAT-PMP: {why}"))?;
                (ip.into(), "NAT-PMP")
            }
        };
        Ok(Granted {
            external: SocketAddr::new(ip, self.mapping.external_port().get()),
            lifetime: Duration::from_secs(u64::from(self.mapping.lifetime())),
            by,
        })
    }
}

fn options(external: NonZeroU16, lifetime: Duration) -> PortMappingOptions {
    PortMappingOptions {
        external_port: Some(external),
        lifetime_seconds: u32::try_from(lifetime.as_secs()).ok(),
        timeout_config: Some(PATIENCE),
    }
}
