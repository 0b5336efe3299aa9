//! Putting a node together.

mod assemble;
mod directory;
mod ending;
mod scope;
mod sockets;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kad_core::{Config, Keypair, NetworkId, Parameters};
use kad_net::nat::{reachability::ReachabilityConfig, relay::RelayConfig};
use kad_net::quic::{QuicAddress, QuicConfig, QuicLimits, QuicTransport, ReachConfig};
use kad_net::wire::Scope;
use kad_net::{Transport, WireAddress as _};
use kad_store::memory::MemoryStore;
use kad_store::redb::{RedbConfig, RedbStore};
use kad_store::{Limits, RecordStore};

pub(crate) use self::assemble::Assembly;
pub(crate) use self::directory::DataDirectory;
use self::scope::automatic_scope;
use self::sockets::{Silence, Sockets, teller};
use crate::join::PROOF_WITHIN;
use crate::policy::Registered;
use crate::role::Presence;
use crate::surroundings::Setting;
use crate::{DenyList, Mdns, Node, Peer, RoleChoice, SpawnError, TableMode, Validator, identity, snapshot};

/// The network that nodes belong to unless told otherwise.
pub const DEFAULT_NETWORK: &str = "nautilus";

/// A builder of nodes; see [`Node::builder`].
#[derive(Debug, Clone)]
pub struct Builder {
    keypair: Option<Keypair>,
    network: String,
    parameters: Parameters,
    listen: Vec<SocketAddr>,
    peers: Vec<Peer>,
    data: Option<PathBuf>,
    role: RoleChoice,
    card: bool,
    reach: bool,
    relay: bool,
    birthday_punching: bool,
    stores: bool,
    validator: Registered,
    deny: Option<DenyList>,
    scope: Option<Scope>,
    limits: Limits,
    quic: QuicLimits,
    config: Option<Config>,
    table: TableMode,
    port_mapping: bool,
    mdns: Mdns,
    /// How long a node that has to prove itself waits for that before it joins.
    pub(crate) proof_within: Duration,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            keypair: None,
            network: DEFAULT_NETWORK.to_owned(),
            parameters: Parameters::default(),
            listen: Vec::new(),
            peers: Vec::new(),
            data: None,
            role: RoleChoice::Auto,
            card: true,
            reach: true,
            relay: true,
            birthday_punching: false,
            stores: true,
            validator: Registered::default(),
            deny: None,
            scope: None,
            limits: Limits::default(),
            quic: QuicLimits::default(),
            config: None,
            table: TableMode::default(),
            port_mapping: true,
            mdns: Mdns::default(),
            proof_within: PROOF_WITHIN,
        }
    }
}

impl Builder {
    /// The identity. Default: the one in the data directory, made if there is none; without a data directory a new one.
    #[must_use]
    pub fn keypair(mut self, keypair: Keypair) -> Self {
        self.keypair = Some(keypair);
        self
    }

    /// The name of the network. Default [`DEFAULT_NETWORK`].
    #[must_use]
    pub fn network(mut self, name: impl Into<String>) -> Self {
        self.network = name.into();
        self
    }

    /// What the members of the network agree on. Other parameters make another network, even under the same name.
    #[must_use]
    pub fn parameters(mut self, parameters: Parameters) -> Self {
        self.parameters = parameters;
        self
    }

    /// One more UDP address to listen at, at most one for each family. Default `0.0.0.0:0` and `[::]:0`: any free port
    /// of each family that the machine has.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen.push(address);
        self
    }

    /// One more node to begin with.
    #[must_use]
    pub fn bootstrap(mut self, peer: impl Into<Peer>) -> Self {
        self.peers.push(peer.into());
        self
    }

    /// A directory for identity, records (redb) and contacts; made if it is not there. Default: everything in memory.
    #[must_use]
    pub fn data(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data = Some(directory.into());
        self
    }

    /// Whether the node serves or only asks: one that only asks is in nobody's table and stores nothing for others.
    /// Default [`RoleChoice::Auto`]: it serves once strangers have reached it, and stops when they no longer do. In
    /// private networks ([`Scope::Any`]), and with a transport that does not find out, it serves from the start; in the
    /// former until it dials into the internet.
    #[must_use]
    pub fn role(mut self, choice: RoleChoice) -> Self {
        self.role = choice;
        self
    }

    /// Only ask, as [`role`](Self::role) with [`RoleChoice::Client`]; `false` is [`RoleChoice::Auto`].
    #[must_use]
    pub fn read_only(self, read_only: bool) -> Self {
        self.role(match read_only {
            true => RoleChoice::Client,
            false => RoleChoice::Auto,
        })
    }

    /// Whether the node leaves a card with those nearest to its id, which says where it is. Default true. Without one,
    /// a node that nobody can dial is not found.
    #[must_use]
    pub fn card(mut self, card: bool) -> Self {
        self.card = card;
        self
    }

    /// Whether the node finds out how it can be reached, keeps places at relays while it cannot be dialled, and relays
    /// for others while it serves. Default true. One that asks a few things and leaves needs none of it; it has no card
    /// either.
    #[must_use]
    pub fn reach(mut self, reach: bool) -> Self {
        self.reach = reach;
        self
    }

    /// Whether the node relays for others while it serves, in small bounds: peers that nobody can dial have places at
    /// it, and connections of theirs pass through it until they are direct. Default true.
    #[must_use]
    pub fn relay(mut self, relay: bool) -> Self {
        self.relay = relay;
        self
    }

    /// Whether the node tries many ports where punching fails between a NAT that gives every destination another port
    /// and one that lets in only ports that were sent to. Both ends have to want it. Default false: it takes 256
    /// sockets and as many mappings of the router at the one end, up to 1,750 small packets and mappings at the other
    /// one, for half a minute.
    #[must_use]
    pub fn birthday_punching(mut self, birthday_punching: bool) -> Self {
        self.birthday_punching = birthday_punching;
        self
    }

    /// Whether the node stores records for others. Default true. One that does not still routes and keeps its own
    /// records; a network of such nodes stores nothing at all (`docs/guarantees.md`). `stores` of
    /// [`config`](Self::config) must not say no either.
    #[must_use]
    pub fn stores(mut self, stores: bool) -> Self {
        self.stores = stores;
        self
    }

    /// What judges the records of others, and those that this node publishes. Default: all that are valid are wanted.
    #[must_use]
    pub fn validator(mut self, validator: impl Validator) -> Self {
        self.validator = Registered(Some(Arc::new(validator)));
        self
    }

    /// Keys and publishers that this node does not serve; what it holds of them is removed before it starts. Default
    /// none. [`Node::deny`] gives another list later.
    #[must_use]
    pub fn deny(mut self, list: DenyList) -> Self {
        self.deny = Some(list);
        self
    }

    /// Which addresses to hear of. Default [`Scope::Any`] if every listen address is private or loopback, or if the
    /// first peers are; else [`Scope::Global`].
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// How much the store may hold. `Limits::around` is the node's own id, whatever is given.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The bounds of the QUIC transport.
    #[must_use]
    pub fn quic_limits(mut self, limits: QuicLimits) -> Self {
        self.quic = limits;
        self
    }

    /// The knobs of the core; start from [`Config::for_network`] with the same parameters. `role` of the builder
    /// counts.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// Whom the node wants to know. Default [`TableMode::Kademlia`]. A full table widens the buckets and the limits of
    /// address groups that the core's config has.
    #[must_use]
    pub fn table(mut self, table: TableMode) -> Self {
        self.table = table;
        self
    }

    /// Whether to ask the router for a port, so that others reach a node behind a NAT. Default true; it is asked only
    /// where the node listens at a private address, or everywhere, and hears of addresses of the internet
    /// ([`Scope::Global`]). Without the feature `port-mapping` of this crate nobody is asked.
    #[must_use]
    pub fn port_mapping(mut self, port_mapping: bool) -> Self {
        self.port_mapping = port_mapping;
        self
    }

    /// Whether to announce the node in its network and to begin with neighbours that do. Default [`Mdns::Auto`].
    /// Without the feature `mdns` of this crate it neither announces nor hears.
    #[must_use]
    pub fn mdns(mut self, mdns: Mdns) -> Self {
        self.mdns = mdns;
        self
    }

    /// Starts a node with QUIC, and redb if there is a data directory, else memory. Joining goes on in the background;
    /// wait for it with [`Node::joined`].
    ///
    /// # Errors
    /// One sentence about the port, the directory, the key or the store; see [`SpawnError`]. Nothing was overwritten.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn spawn(mut self) -> Result<Node, SpawnError> {
        let files = self.data.as_deref().map(DataDirectory::open).transpose()?;
        let bits = u32::from(self.parameters.puzzle_bits);
        let keypair = match (self.keypair.take(), &files) {
            (Some(keypair), _) => keypair,
            (None, Some(files)) => identity::read_or_create(&files.path("key"), bits)?,
            (None, None) => identity::generate(bits)?,
        };
        let mut listen = match self.listen.is_empty() {
            true => anywhere().to_vec(),
            false => self.listen.clone(),
        };
        let network = NetworkId::new(&self.network, &self.parameters);
        let scope = self
            .scope
            .unwrap_or_else(|| automatic_scope(&listen, &self.peers));
        self.scope = Some(scope);
        let quic = QuicConfig {
            limits: self.quic.clone(),
            reach: self.reaching(
                scope,
                files
                    .as_ref()
                    .is_some_and(|files| knows_somebody(files, &network)),
            ),
            ..QuicConfig::new(keypair.clone(), network, listen.clone())
        };
        let transport = match QuicTransport::bind(quic.clone()) {
            // Nobody has asked for a family that this machine does not have.
            Err(_) if self.listen.is_empty() => {
                listen.truncate(1);
                QuicTransport::bind(QuicConfig {
                    listen: listen.clone(),
                    ..quic
                })?
            }
            bound => bound?,
        };
        let transport = Arc::new(transport);
        let presence = self.reach.then(|| Presence::follow(transport.reach().standing()));
        let setting = Setting {
            id: keypair.node_id(),
            network,
            asked: listen,
            bound: transport.local().address.sockets().to_vec(),
            scope,
            peers: self.peers.clone(),
            port_mapping: self.port_mapping && self.reach,
            mdns: self.mdns,
            tell: teller(transport.clone()),
        };
        let silence = {
            let transport = transport.clone();
            Box::new(move || transport.silence()) as Silence
        };
        let sockets = Sockets {
            transport: transport.clone(),
            silence,
            setting,
        };
        let limits = Limits {
            around: Some(keypair.node_id()),
            ..self.limits
        };
        let redb = match &files {
            Some(directory) => {
                let redb = RedbConfig {
                    limits,
                    ..RedbConfig::default()
                };
                Some(RedbStore::open(directory.path("records.redb"), &redb)?)
            }
            None => None,
        };
        let sockets = Some(sockets);
        match redb {
            Some(store) => self.assemble(Assembly {
                keypair,
                transport,
                store,
                files,
                presence,
                sockets,
            }),
            None => self.assemble(Assembly {
                keypair,
                transport,
                store: MemoryStore::new(limits),
                files,
                presence,
                sockets,
            }),
        }
    }

    /// Starts a node with a transport and a store of your own. The listen addresses, the data directory and the bounds
    /// of QUIC do not count; the transport must have proven itself to be `keypair`'s.
    ///
    /// # Errors
    /// [`SpawnError::Store`] if the store cannot be read, [`SpawnError::System`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn spawn_with<T: Transport, S: RecordStore>(
        self,
        keypair: Keypair,
        transport: T,
        store: S,
    ) -> Result<Node<T::Address>, SpawnError>
    where
        S::Reader: Sync,
    {
        self.assemble(Assembly {
            keypair,
            transport: Arc::new(transport),
            store,
            files: None,
            presence: None,
            sockets: None,
        })
    }

    /// What the QUIC transport does in order to be reached. `remembers`: whether the last run has left contacts.
    fn reaching(&self, scope: Scope, remembers: bool) -> ReachConfig {
        let mut reachability = ReachabilityConfig::default();
        reachability.role = self.role;
        ReachConfig {
            scope,
            reachability,
            relay: (self.reach && self.relay).then(RelayConfig::default),
            alone: self.peers.is_empty() && !remembers,
            quiet: !self.reach,
            birthday_punching: self.birthday_punching,
            ..ReachConfig::default()
        }
    }
}

/// Where a node listens that is told nothing: any free port of both families, IPv4 first.
pub(crate) fn anywhere() -> [SocketAddr; 2] {
    [
        (Ipv4Addr::UNSPECIFIED, 0).into(),
        (Ipv6Addr::UNSPECIFIED, 0).into(),
    ]
}

/// Whether the last run has left somebody to begin with.
fn knows_somebody(files: &DataDirectory, network: &NetworkId) -> bool {
    !snapshot::read::<QuicAddress>(&files.path("contacts.json"), network).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_relays_unless_it_was_told_not_to_or_keeps_out_of_all_of_it() {
        let relays = |builder: Builder| builder.reaching(Scope::Global, false).relay.is_some();
        assert!(relays(Node::builder()));
        assert!(!relays(Node::builder().relay(false)));
        assert!(!relays(Node::builder().reach(false)));
    }

    #[test]
    fn a_node_tries_many_ports_only_when_it_was_told_to() {
        let tries = |builder: Builder| builder.reaching(Scope::Global, false).birthday_punching;
        assert!(!tries(Node::builder()));
        assert!(tries(Node::builder().birthday_punching(true)));
    }
}
