//! What a person writes: which local port goes where, and what is allowed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// The longest target on the wire, in bytes: a host name has 253 at most (RFC 1035).
pub(super) const MAX_TARGET: usize = 255;

/// `[HOST:]PORT` at the far end; without a host, the far machine itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// A name or an address, without brackets.
    host: Option<String>,
    pub(super) port: u16,
}

impl Target {
    /// The host to connect to: the machine itself is reached over loopback.
    pub(super) fn host(&self) -> &str {
        self.host.as_deref().unwrap_or("127.0.0.1")
    }

    /// Whether both are the same place. Names are compared as they are written, or whoever answers for a name would
    /// decide what is allowed.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.port == other.port && self.host().eq_ignore_ascii_case(other.host())
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("'{text}' is not [HOST:]PORT: {why}");
        if text.len() > MAX_TARGET {
            return Err(wrong("it is too long"));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (Some(host), port),
            None => (None, text),
        };
        let port = port_of(port, 1).ok_or_else(|| wrong("the port must be a number from 1 to 65535"))?;
        let host = host.map(|host| host_of(host).map_err(wrong)).transpose()?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            None => write!(f, "{}", self.port),
            Some(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Some(host) => write!(f, "{host}:{}", self.port),
        }
    }
}

/// `[LOCAL_ADDRESS:]LOCAL_PORT:[HOST:]REMOTE_PORT`, as `ssh -L` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    /// Where to listen; port 0 is any free port.
    pub(super) local: SocketAddr,
    pub(super) target: Target,
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "'{text}' is not LOCAL_PORT:REMOTE_PORT or LOCAL_ADDRESS:LOCAL_PORT:HOST:REMOTE_PORT: {why}"
            )
        };
        let fields = fields(text).ok_or_else(|| wrong("a bracket is not closed"))?;
        // With three fields, the first one tells what the second one is.
        let (address, port, host, remote) = match fields.as_slice() {
            [port, remote] => (None, *port, None, *remote),
            [port, host, remote] if port_of(port, 0).is_some() => (None, *port, Some(*host), *remote),
            [address, port, remote] => (Some(*address), *port, None, *remote),
            [address, port, host, remote] => (Some(*address), *port, Some(*host), *remote),
            _ => {
                return Err(wrong(
                    "it has too few or too many parts; IPv6 addresses need brackets",
                ));
            }
        };
        let address: IpAddr = match address {
            None => Ipv4Addr::LOCALHOST.into(),
            Some("localhost") => Ipv4Addr::LOCALHOST.into(),
            Some(address) => {
                let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                let parsed = bare.unwrap_or(address).parse();
                parsed.map_err(|_| wrong("the address to listen at must be an IP address of this machine"))?
            }
        };
        let port =
            port_of(port, 0).ok_or_else(|| wrong("the local port must be a number from 0 to 65535"))?;
        let remote =
            port_of(remote, 1).ok_or_else(|| wrong("the remote port must be a number from 1 to 65535"))?;
        let host = host.map(|host| host_of(host).map_err(wrong)).transpose()?;
        Ok(Self {
            local: SocketAddr::new(address, port),
            target: Target { host, port: remote },
        })
    }
}

/// The parts between colons, of which those in brackets are one.
fn fields(text: &str) -> Option<Vec<&str>> {
    let (mut fields, mut rest) = (Vec::new(), text);
    loop {
        let from = match rest.starts_with('[') {
            true => rest.find(']')?,
            false => 0,
        };
        let Some(colon) = rest[from..].find(':') else {
            fields.push(rest);
            return Some(fields);
        };
        fields.push(&rest[..from + colon]);
        rest = &rest[from + colon + 1..];
    }
}

fn port_of(text: &str, least: u16) -> Option<u16> {
    // A sign is a number for the parser and not for people.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| digits && port >= least)
}

fn host_of(text: &str) -> Result<String, &'static str> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => Ok(address.to_owned()),
        Some(_) => Err("what is in brackets must be an IPv6 address"),
        None if text.is_empty() || text.len() > 253 => Err("the host is missing or too long"),
        None if text
            .bytes()
            .any(|byte| !byte.is_ascii_graphic() || b"[]:/@".contains(&byte)) =>
        {
            Err("the host must be a name, or an address (IPv6 in brackets)")
        }
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> (String, String) {
        let spec: Spec = text.parse().unwrap();
        (spec.local.to_string(), spec.target.to_string())
    }

    #[test]
    fn forwards_are_written_as_ssh_has_them() {
        for (text, local, target) in [
            ("2222:22", "127.0.0.1:2222", "22"),
            ("0:22", "127.0.0.1:0", "22"),
            ("127.0.0.1:2222:22", "127.0.0.1:2222", "22"),
            ("localhost:2222:22", "127.0.0.1:2222", "22"),
            ("0.0.0.0:2222:22", "0.0.0.0:2222", "22"),
            ("5432:db.internal:5432", "127.0.0.1:5432", "db.internal:5432"),
            ("[::1]:5432:db:5433", "[::1]:5432", "db:5433"),
            ("8080:[fd00::7]:80", "127.0.0.1:8080", "[fd00::7]:80"),
            ("10.0.0.1:1:10.0.0.2:2", "10.0.0.1:1", "10.0.0.2:2"),
        ] {
            assert_eq!(spec(text), (local.to_owned(), target.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_forward_is_refused_with_the_reason() {
        for (text, why) in [
            ("22", "too few"),
            ("", "too few"),
            ("a:b", "local port"),
            ("2222:0", "remote port"),
            ("2222:65536", "remote port"),
            ("2222:+22", "remote port"),
            ("example.org:2222:22", "IP address"),
            ("::1:2222:22", "parts"),
            ("[::1:2222:22", "bracket"),
            ("2222:[db]:22", "IPv6"),
            ("2222:a b:22", "name"),
            ("2222::22", "missing"),
        ] {
            let error = text.parse::<Spec>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!("x:0".parse::<Target>().is_err() && "0".parse::<Target>().is_err());
        assert!(format!("{}:22", "a".repeat(300)).parse::<Target>().is_err());
    }

    #[test]
    fn a_target_is_the_same_only_if_it_is_written_the_same() {
        let target = |text: &str| text.parse::<Target>().unwrap();
        assert!(target("22").is(&target("127.0.0.1:22")));
        assert!(target("DB.internal:22").is(&target("db.internal:22")));
        for other in ["localhost:22", "[::1]:22", "23", "10.0.0.1:22"] {
            assert!(!target("22").is(&target(other)), "{other}");
        }
        for text in ["22", "db.internal:5432", "[fd00::7]:80"] {
            assert_eq!(target(text).to_string(), text);
        }
    }
}
