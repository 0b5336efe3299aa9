//! What counts as one place, so that nobody proves something twice.

use std::net::IpAddr;

use super::address::ENOUGH;
use crate::nat::prefix::{Family, host, site};
use crate::wire::Scope;

/// Whether proofs and helpers are told apart by their sites or by their hosts.
///
/// By sites, as whoever has one address of a /24 may have all of them; but a company or a laboratory has all its
/// servers in one, and nobody there would ever be proven. So where enough servers are known and they lie at too few
/// sites, hosts count. That is no worse: who owns the one or two sites in which all servers of a network lie owns the
/// network. While too few servers are known nobody can tell, and sites count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Places {
    Sites(Scope),
    Hosts,
}

impl Places {
    /// What counts for addresses of a family, where the servers that are known are on these hosts.
    pub(super) fn among(servers: impl Iterator<Item = IpAddr>, family: Family, scope: Scope) -> Self {
        let (mut hosts, mut sites) = (Vec::new(), Vec::new());
        for server in servers.filter(|server| Family::of(*server) == family) {
            let (host, site) = (host(server), site(server, scope));
            if !hosts.contains(&host) {
                hosts.push(host);
            }
            if !sites.contains(&site) {
                sites.push(site);
            }
        }
        match hosts.len() >= ENOUGH && sites.len() < ENOUGH {
            true => Self::Hosts,
            false => Self::Sites(scope),
        }
    }

    /// The place in which a host is.
    pub(super) fn of(self, ip: IpAddr) -> IpAddr {
        match self {
            Self::Sites(scope) => site(ip, scope),
            Self::Hosts => host(ip),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_count_only_where_enough_servers_lie_at_too_few_sites() {
        let among = |servers: &[&str]| {
            let servers = servers.iter().map(|ip| ip.parse().unwrap());
            Places::among(servers, Family::V4, Scope::Global)
        };
        let sites = Places::Sites(Scope::Global);
        assert_eq!(among(&[]), sites);
        assert_eq!(among(&["20.0.0.1", "20.0.0.2"]), sites);
        // The same host twice is one server, and another family says nothing about this one.
        assert_eq!(among(&["20.0.0.1", "20.0.0.2", "20.0.0.2", "2001:db8::1"]), sites);
        assert_eq!(among(&["20.0.0.1", "20.0.0.2", "20.0.0.3"]), Places::Hosts);
        assert_eq!(among(&["20.0.0.1", "20.0.0.2", "20.0.1.3"]), Places::Hosts);
        assert_eq!(among(&["20.0.0.1", "20.0.2.2", "20.0.1.3"]), sites);
    }
}
