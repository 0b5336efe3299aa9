//! What several commands take, and how it is read.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use kad_core::{Key, Keypair, NodeId, PublicKey, UnixTime};
use kad_node::{DEFAULT_LIFETIME, DEFAULT_NETWORK, Mdns, Peer, PutOptions, identity};

use super::config::ConfigFile;
use super::reply::Failure;

/// Which network, and how to get into it.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct NetworkArgs {
    /// A node to begin with; give several in case one is down [default: KAD_BOOTSTRAP, then the config file]
    #[arg(long, value_name = "[ID@]HOST:PORT", value_delimiter = ',')]
    pub(crate) bootstrap: Vec<Peer>,
    /// The name of the network [default: the config file's, then nautilus]
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<String>,
    /// A TOML file with defaults; flags and the environment count more
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Neither hear nodes in the own network over mDNS, nor be heard
    #[arg(long)]
    pub(crate) no_mdns: bool,
}

/// Which network, and who to be in it.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ClientArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Take part under the identity in this key file, which no other node may use meanwhile [default: a new one]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

/// How paths to peers are looked for.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct PathArgs {
    /// Where punching fails because one NAT gives each destination another port, try many ports at once, if the peer
    /// does too: 256 sockets, or up to 1,750 small packets, and as many mappings in the router [default: the config
    /// file's, then no]
    #[arg(long)]
    birthday_punching: bool,
}

impl PathArgs {
    /// Whether many ports are tried.
    pub(crate) fn birthday_punching(self, file: &ConfigFile) -> bool {
        self.birthday_punching || file.birthday_punching()
    }
}

impl NetworkArgs {
    /// The config file, or an empty one.
    pub(crate) fn config(&self) -> Result<ConfigFile, Failure> {
        self.config
            .as_deref()
            .map_or_else(|| Ok(ConfigFile::default()), ConfigFile::read)
    }

    /// Flags before environment before file.
    pub(crate) fn bootstrap(&self, file: &ConfigFile) -> Result<Vec<Peer>, Failure> {
        if !self.bootstrap.is_empty() {
            return Ok(self.bootstrap.clone());
        }
        let named = std::env::var("KAD_BOOTSTRAP").unwrap_or_default();
        let named = parse_peers(&named).map_err(|e| Failure::usage(format!("KAD_BOOTSTRAP: {e}")))?;
        Ok(if named.is_empty() { file.bootstrap() } else { named })
    }

    /// `wanted`, unless the flag or the file says no.
    pub(crate) fn mdns(&self, file: &ConfigFile, wanted: Mdns) -> Mdns {
        match self.no_mdns || file.mdns == Some(false) {
            true => Mdns::Off,
            false => wanted,
        }
    }

    /// Flag before file before default.
    pub(crate) fn name(&self, file: &ConfigFile) -> String {
        let named = self.network.clone().or_else(|| file.network.clone());
        named.unwrap_or_else(|| DEFAULT_NETWORK.to_owned())
    }
}

/// How long, and how many.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    /// How long it lives, such as 90s, 10m, 24h or 7d
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "24h")]
    pub(crate) ttl: Duration,
    /// How many nodes must acknowledge
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=32))]
    pub(crate) quorum: u16,
}

impl Default for StoreArgs {
    fn default() -> Self {
        Self {
            ttl: DEFAULT_LIFETIME,
            quorum: 1,
        }
    }
}

impl StoreArgs {
    pub(crate) fn options(&self) -> PutOptions {
        // The command ends with its answer, and the node with the command.
        PutOptions::default()
            .settle(true)
            .ttl(self.ttl)
            .quorum(usize::from(self.quorum))
    }
}

fn parse_peers(text: &str) -> Result<Vec<Peer>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|peer| !peer.is_empty())
        .map(str::parse)
        .collect()
}

/// A span of at least a second, which is how finely lives are told.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|e| format!("{e} (as in 90s, 10m, 24h or 7d)"))?;
    match span < Duration::from_secs(1) {
        true => Err("a second is the least".to_owned()),
        false => Ok(span),
    }
}

/// 64 hexadecimal digits that name what is stored. The secret of an encrypted file, behind a #, is nobody's business
/// here.
pub(crate) fn parse_key(text: &str) -> Result<Key, String> {
    let key = text.split_once('#').map_or(text, |(key, _)| key);
    key.parse().map_err(|e| format!("{e}, as 'kad-node put' prints"))
}

/// 64 hexadecimal digits that name a node.
pub(crate) fn parse_node_id(text: &str) -> Result<NodeId, String> {
    text.parse()
        .map_err(|e| format!("{e}, as 'kad-node key show' prints for an id"))
}

/// 64 hexadecimal digits that name an owner.
pub(crate) fn parse_public_key(text: &str) -> Result<PublicKey, String> {
    text.parse()
        .map_err(|e| format!("{e}, as 'kad-node key show' prints for a public key"))
}

/// The key that signs. Without one a command that must sign says how to get one.
pub(crate) fn signing_key(file: Option<&PathBuf>) -> Result<Keypair, Failure> {
    let Some(path) = file else {
        return Err(Failure::usage(
            "this must be signed; give a key file with --key FILE (make one with 'kad-node key new')",
        ));
    };
    read_key(path)
}

/// Reads a key file.
pub(crate) fn read_key(path: &std::path::Path) -> Result<Keypair, Failure> {
    identity::read(path).map_err(|error| {
        Failure::usage(format!(
            "{error}; make one with 'kad-node key new' and give its name with --key"
        ))
    })
}

/// What this machine's wall clock says.
pub(crate) fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::from_secs(since.as_secs())
}

/// RFC 3339 in UTC. Times beyond the year 9999, which no network allows, are told as seconds.
pub(crate) fn date(time: UnixTime) -> String {
    /// The last second of the year 9999.
    const LAST: u64 = 253_402_300_799;
    match time.as_secs() > LAST {
        true => format!("{} seconds after 1970", time.as_secs()),
        false => {
            let at = UNIX_EPOCH + Duration::from_secs(time.as_secs());
            humantime::format_rfc3339_seconds(at).to_string()
        }
    }
}

/// A date for people: when, and how far away that is.
pub(crate) fn until(time: UnixTime) -> String {
    let left = Duration::from_secs(time.secs_since(now()));
    let date = date(time).replace('T', " ").replace('Z', " UTC");
    format!("{date} (in {})", humantime::format_duration(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, secs) in [("90s", 90), ("10m", 600), ("24h", 86_400), ("7d", 604_800)] {
            assert_eq!(parse_span(text), Ok(Duration::from_secs(secs)));
        }
        for text in ["", "24", "0s", "10ms", "-1h", "soon"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_key_of_an_encrypted_file_is_what_comes_before_its_secret() {
        let key = "ab".repeat(32);
        assert_eq!(parse_key(&format!("{key}#{}", "5e".repeat(32))), parse_key(&key));
        assert!(parse_key(&key).is_ok() && parse_key(&format!("#{key}")).is_err());
    }

    #[test]
    fn lists_of_peers_may_be_empty() {
        assert_eq!(parse_peers(" , "), Ok(Vec::new()));
        assert_eq!(parse_peers("a:1, b:2,").unwrap().len(), 2);
        assert!(parse_peers("a:1,b").is_err());
    }

    #[test]
    fn dates_are_told_in_utc_and_never_panic() {
        assert_eq!(date(UnixTime::from_secs(1_000_000_000)), "2001-09-09T01:46:40Z");
        assert!(date(UnixTime::from_secs(u64::MAX)).contains("seconds"));
    }
}
