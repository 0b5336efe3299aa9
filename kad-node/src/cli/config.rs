//! The config file: TOML, every field optional, unknown ones refused.
//!
//! It gives defaults and nothing else: flags and the environment count more. `docs/kad-node.toml` shows every field.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use kad_core::table::MAX_FULL_CONTACTS;
use kad_core::{Config, MAX_CLOSER, MAX_VALUE, Parameters};
use kad_net::quic::QuicLimits;
use kad_node::{FullTable, Peer, RoleChoice, TableMode};
use kad_store::Limits;
use serde::Deserialize;

use super::arguments::parse_span;
use super::reply::Failure;

/// A file larger than this is no config file: the example with all its comments has some 5 KB.
const MAX_BYTES: u64 = 1 << 20;

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConfigFile {
    pub(crate) listen: Vec<SocketAddr>,
    bootstrap: Vec<Parsed<Peer>>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) network: Option<String>,
    role: Option<Parsed<ChosenRole>>,
    read_only: Option<bool>,
    card: Option<bool>,
    stores: Option<bool>,
    pub(crate) deny: Option<PathBuf>,
    pub(crate) log: Option<String>,
    table: Option<Parsed<TableMode>>,
    pub(crate) mdns: Option<bool>,
    port_mapping: Option<bool>,
    relay: Option<bool>,
    birthday_punching: Option<bool>,
    parameters: ParametersTable,
    limits: LimitsTable,
    intervals: IntervalsTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ParametersTable {
    k: Option<u16>,
    puzzle_bits: Option<u8>,
    max_lifetime: Option<Parsed<Span>>,
    max_value: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsTable {
    records: Option<u64>,
    bytes: Option<u64>,
    records_per_source: Option<u64>,
    bytes_per_source: Option<u64>,
    own_records: Option<u64>,
    own_bytes: Option<u64>,
    providers_per_key: Option<u32>,
    connections: Option<usize>,
    connections_per_ip: Option<usize>,
    queries: Option<usize>,
    cache_bytes: Option<usize>,
    table_contacts: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct IntervalsTable {
    refresh: Option<Parsed<Span>>,
    look_after: Option<Parsed<Span>>,
    repair: Option<Parsed<Span>>,
    first_repair: Option<Parsed<Span>>,
    hand_over: Option<Parsed<Span>>,
    republish: Option<Parsed<Span>>,
    expire: Option<Parsed<Span>>,
    walk: Option<Parsed<Span>>,
}

/// Service managers wait for longer than this before they kill.
const HAND_OVER: Duration = Duration::from_secs(5);

/// A span as people write it.
#[derive(Debug, Clone, Copy)]
struct Span(Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_span(text).map(Self)
    }
}

/// Who decides whether the node serves.
#[derive(Debug, Clone, Copy)]
struct ChosenRole(RoleChoice);

impl FromStr for ChosenRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self(RoleChoice::Auto)),
            "server" => Ok(Self(RoleChoice::Server)),
            "client" => Ok(Self(RoleChoice::Client)),
            _ => Err(format!(
                "{text:?} is no role; it is \"auto\", \"server\" or \"client\""
            )),
        }
    }
}

/// Something that is read from a string, so that what is wrong with it is told with its line.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String", bound = "T: FromStr<Err = String>")]
struct Parsed<T>(T);

impl<T: FromStr<Err = String>> TryFrom<String> for Parsed<T> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl ConfigFile {
    /// Reads and checks a file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let unreadable = |why: String| {
            Failure::usage(format!(
                "the config file {} cannot be used: {why}",
                path.display()
            ))
        };
        let size = fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
        if size > MAX_BYTES {
            return Err(unreadable(format!("it has {size} bytes, more than {MAX_BYTES}")));
        }
        let text = fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
        let file: Self = toml::from_str(&text).map_err(|e| unreadable(told(&text, &e)))?;
        file.check().map_err(|e| unreadable(e.to_owned()))?;
        Ok(file)
    }

    fn check(&self) -> Result<(), &'static str> {
        let serves = self
            .role
            .as_ref()
            .is_some_and(|role| role.0.0 != RoleChoice::Client);
        if self.read_only == Some(true) && serves {
            return Err("read_only = true is role = \"client\"; give only one of them");
        }
        let parameters = self.parameters();
        if parameters.k == 0 || usize::from(parameters.k) > MAX_CLOSER {
            return Err("parameters.k must be 1 to 32");
        }
        if parameters.max_value == 0 || parameters.max_value as usize > MAX_VALUE {
            return Err("parameters.max_value must be 1 to 65536");
        }
        let limits = &self.limits;
        let none = [
            limits.records == Some(0),
            limits.bytes == Some(0),
            limits.records_per_source == Some(0),
            limits.bytes_per_source == Some(0),
            limits.own_records == Some(0),
            limits.own_bytes == Some(0),
            limits.providers_per_key == Some(0),
            limits.connections == Some(0),
            limits.connections_per_ip == Some(0),
            limits.queries == Some(0),
        ];
        let places = limits.table_contacts.unwrap_or(1);
        if !(1..=MAX_FULL_CONTACTS).contains(&places) {
            return Err("limits.table_contacts must be 1 to 49152");
        }
        match none.contains(&true) {
            true => Err(
                "every field of limits must be at least 1; a node that stores nothing for others has stores = false",
            ),
            false => Ok(()),
        }
    }

    /// Who decides whether the node serves.
    pub(crate) fn role(&self) -> RoleChoice {
        match (&self.role, self.read_only) {
            (Some(role), _) => role.0.0,
            (None, Some(true)) => RoleChoice::Client,
            (None, _) => RoleChoice::Auto,
        }
    }

    /// Whether the node leaves its card with others.
    pub(crate) fn card(&self) -> bool {
        self.card.unwrap_or(true)
    }

    /// Whom the node wants to know.
    pub(crate) fn table(&self) -> TableMode {
        match self.table.as_ref().map_or(TableMode::Kademlia, |table| table.0) {
            TableMode::Full(_) => TableMode::Full(self.full_table()),
            other => other,
        }
    }

    /// How a full table is kept, whether or not the file asks for one.
    pub(crate) fn full_table(&self) -> FullTable {
        let default = FullTable::default();
        default
            .contacts(self.limits.table_contacts.unwrap_or(default.contacts))
            .walk(span(&self.intervals.walk, default.walk))
    }

    /// Whether the node relays for others while it serves.
    pub(crate) fn relay(&self) -> bool {
        self.relay.unwrap_or(true)
    }

    /// Whether many ports are tried where punching fails.
    pub(crate) fn birthday_punching(&self) -> bool {
        self.birthday_punching.unwrap_or(false)
    }

    /// Whether to ask the router for a port.
    pub(crate) fn port_mapping(&self) -> bool {
        self.port_mapping.unwrap_or(true)
    }

    pub(crate) fn bootstrap(&self) -> Vec<Peer> {
        self.bootstrap.iter().map(|peer| peer.0.clone()).collect()
    }

    /// What the members of the network agree on.
    pub(crate) fn parameters(&self) -> Parameters {
        let (default, table) = (Parameters::default(), &self.parameters);
        Parameters {
            k: table.k.unwrap_or(default.k),
            puzzle_bits: table.puzzle_bits.unwrap_or(default.puzzle_bits),
            max_lifetime: span(&table.max_lifetime, default.max_lifetime),
            max_value: table.max_value.unwrap_or(default.max_value),
        }
    }

    /// How much the store may hold.
    pub(crate) fn limits(&self) -> Limits {
        let default = Limits::default();
        let max_records = self.limits.records.unwrap_or(default.max_records);
        let max_bytes = self.limits.bytes.unwrap_or(default.max_bytes);
        Limits {
            max_records,
            max_bytes,
            max_records_per_source: self
                .limits
                .records_per_source
                .unwrap_or_else(|| max_records.div_ceil(2)),
            max_bytes_per_source: self
                .limits
                .bytes_per_source
                .unwrap_or_else(|| max_bytes.div_ceil(2)),
            max_providers_per_key: self
                .limits
                .providers_per_key
                .unwrap_or(default.max_providers_per_key),
            max_own_records: self.limits.own_records.unwrap_or(default.max_own_records),
            max_own_bytes: self.limits.own_bytes.unwrap_or(default.max_own_bytes),
            // The builder knows the id.
            around: None,
        }
    }

    /// The bounds of the transport.
    pub(crate) fn quic(&self) -> QuicLimits {
        let default = QuicLimits::default();
        QuicLimits {
            connections: self.limits.connections.unwrap_or(default.connections),
            connections_per_ip: self
                .limits
                .connections_per_ip
                .unwrap_or(default.connections_per_ip),
            ..default
        }
    }

    /// How long a node that is told to stop may give its records to others.
    pub(crate) fn hand_over(&self) -> Duration {
        span(&self.intervals.hand_over, HAND_OVER)
    }

    /// The knobs of the core.
    pub(crate) fn core(&self) -> Config {
        let mut core = Config::for_network(&self.parameters());
        core.refresh = span(&self.intervals.refresh, core.refresh);
        core.look_after = span(&self.intervals.look_after, core.look_after);
        core.repair = span(&self.intervals.repair, core.repair);
        core.first_repair = span(&self.intervals.first_repair, core.first_repair);
        core.republish = span(&self.intervals.republish, core.republish);
        core.expire = span(&self.intervals.expire, core.expire);
        core.cache_bytes = self.limits.cache_bytes.unwrap_or(core.cache_bytes);
        core.stores = self.stores.unwrap_or(core.stores);
        core.max_queries = self.limits.queries.unwrap_or(core.max_queries);
        core
    }
}

fn span(given: &Option<Parsed<Span>>, default: Duration) -> Duration {
    given.as_ref().map_or(default, |span| span.0.0)
}

/// What is wrong, and in which line: one line where the parser would draw.
fn told(text: &str, error: &toml::de::Error) -> String {
    let words: Vec<&str> = error.message().split_whitespace().collect();
    match error.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
            format!("line {line}: {}", words.join(" "))
        }
        None => words.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../docs/kad-node.toml");

    #[test]
    fn the_example_is_a_config_file_that_changes_nothing() {
        let file: ConfigFile = toml::from_str(EXAMPLE).unwrap();
        assert_eq!(file.parameters(), Parameters::default());
        assert!(file.listen.is_empty() && file.bootstrap.is_empty() && file.data.is_none());
    }

    #[test]
    fn the_example_shows_every_field_with_its_default() {
        let all: Vec<&str> = EXAMPLE
            .lines()
            .filter_map(|line| match line.strip_prefix('#') {
                Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => Some(rest),
                Some(_) => None,
                None => Some(line),
            })
            .collect();
        let file: ConfigFile = toml::from_str(&all.join("\n")).unwrap();
        file.check().unwrap();
        assert_eq!(file.parameters(), Parameters::default());
        assert_eq!(format!("{:?}", file.limits()), format!("{:?}", Limits::default()));
        assert_eq!(
            format!("{:?}", file.quic()),
            format!("{:?}", QuicLimits::default())
        );
        assert_eq!(format!("{:?}", file.core()), format!("{:?}", Config::default()));
        assert!(file.port_mapping() && ConfigFile::default().port_mapping());
        assert!(file.relay() && ConfigFile::default().relay());
        assert!(!file.birthday_punching() && !ConfigFile::default().birthday_punching());
        assert_eq!(file.mdns, Some(true));
        assert_eq!(
            (file.table(), file.full_table()),
            (TableMode::Kademlia, FullTable::default())
        );
        // The one None that may be there is the id of the peer, which is part of no field's name.
        let named = format!("{file:?}").replace("id: None", "");
        assert!(
            !named.contains("None"),
            "a field is missing in the example: {named}"
        );
        assert!(!file.listen.is_empty() && !file.bootstrap.is_empty());
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let error = |text: &str| told(text, &toml::from_str::<ConfigFile>(text).unwrap_err());
        let unknown = error("read_only = true\nports = [1]\n");
        assert!(
            unknown.starts_with("line 2: ") && unknown.contains("listen"),
            "{unknown}"
        );
        let span = error("[intervals]\nrefresh = \"soon\"\n");
        assert!(span.starts_with("line 2: ") && span.contains("24h"), "{span}");
        assert!(error("bootstrap = [\"host\"]").contains("port is missing"));
    }

    #[test]
    fn a_full_table_has_the_room_and_the_time_that_the_file_gives() {
        let text = "table = \"full\"\n[limits]\ntable_contacts = 500\n[intervals]\nwalk = \"10m\"";
        let file: ConfigFile = toml::from_str(text).unwrap();
        let full = FullTable::default().contacts(500).walk(Duration::from_secs(600));
        assert_eq!(file.table(), TableMode::Full(full));
        let error = toml::from_str::<ConfigFile>("table = \"one-hop\"").unwrap_err();
        assert!(told("", &error).contains("\"kademlia\" or \"full\""), "{error}");
    }

    #[test]
    fn a_node_that_stores_nothing_for_others_need_not_be_read_only() {
        let file: ConfigFile = toml::from_str("stores = false").unwrap();
        assert!(!file.core().stores && file.role() == RoleChoice::Auto);
        assert!(ConfigFile::default().core().stores);
    }

    #[test]
    fn what_no_node_can_be_is_refused() {
        for text in [
            "[parameters]\nk = 33",
            "[parameters]\nk = 0",
            "[parameters]\nmax_value = 65537",
            "[limits]\nrecords = 0",
            "[limits]\ntable_contacts = 0",
            "[limits]\ntable_contacts = 49153",
        ] {
            assert!(
                toml::from_str::<ConfigFile>(text).unwrap().check().is_err(),
                "{text}"
            );
        }
    }
}
