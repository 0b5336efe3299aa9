//! `[ID@]HOST:PORT`: how a person names a node to begin with.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use kad_core::NodeId;

/// The most addresses of one host name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Name resolution may take so long: the default of common resolvers for two tries.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A node to begin with, by host name or address; with an id, nobody else will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it must be, if that is known.
    pub id: Option<NodeId>,
    /// A name, an IPv4 address, or an IPv6 address (without brackets).
    pub host: String,
    /// The UDP port.
    pub port: u16,
}

impl Peer {
    /// Looks the name up; at least one and at most eight addresses.
    ///
    /// # Errors
    /// One sentence that says which name could not be resolved, and why.
    pub async fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let lookup = tokio::net::lookup_host((self.host.as_str(), self.port));
        let found = match tokio::time::timeout(RESOLVE_TIMEOUT, lookup).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(format!("the name {} cannot be resolved: {error}", self.host)),
            Err(_) => {
                return Err(format!(
                    "the name {} cannot be resolved: no answer in time",
                    self.host
                ));
            }
        };
        let mut addresses: Vec<_> = found.take(MAX_ADDRESSES).collect();
        addresses.sort_unstable();
        addresses.dedup();
        match addresses.is_empty() {
            true => Err(format!("the name {} has no address", self.host)),
            false => Ok(addresses),
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self {
            id: None,
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("'{text}' is not [ID@]HOST:PORT: {why}");
        let (id, address) = match text.split_once('@') {
            None => (None, text),
            Some((id, address)) => (
                Some(
                    id.parse()
                        .map_err(|_| wrong("the part before @ must be 64 hexadecimal digits"))?,
                ),
                address,
            ),
        };
        let (host, port) = address
            .rsplit_once(':')
            .ok_or_else(|| wrong("the port is missing"))?;
        let port = port.parse().ok().filter(|&port| port != 0);
        let port = port.ok_or_else(|| wrong("the port must be a number from 1 to 65535"))?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if host.is_empty() || bare.is_none() && host.contains(':') {
            return Err(wrong("an IPv6 address needs brackets, as in [::1]:4000"));
        }
        Ok(Self {
            id,
            host: bare.unwrap_or(host).to_owned(),
            port,
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = self.id {
            write!(f, "{id}@")?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_was_read() {
        let id = "ab".repeat(32);
        for text in [
            "example.org:4000",
            "127.0.0.1:1",
            "[::1]:65535",
            &format!("{id}@host:9"),
        ] {
            assert_eq!(text.parse::<Peer>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (text, why) in [
            ("host", "port is missing"),
            ("host:0", "1 to 65535"),
            ("host:70000", "1 to 65535"),
            ("::1:4000", "brackets"),
            (":4000", "brackets"),
            ("xyz@host:1", "64 hexadecimal"),
        ] {
            let error = text.parse::<Peer>().unwrap_err();
            assert!(error.contains(why) && error.contains(text), "{error}");
        }
    }
}
