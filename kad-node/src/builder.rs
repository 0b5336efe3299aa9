//! Putting a node together.

mod directory;
mod ending;
mod scope;
mod sockets;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kad_core::{Config, Kademlia, Keypair, NetworkId, Parameters, Rules};
use kad_net::nat::{reachability::ReachabilityConfig, relay::RelayConfig};
use kad_net::quic::{QuicAddress, QuicConfig, QuicLimits, QuicTransport, ReachConfig};
use kad_net::wire::{Codec, Scope};
use kad_net::{Transport, WireAddress as _};
use kad_store::memory::MemoryStore;
use kad_store::redb::{RedbConfig, RedbStore};
use kad_store::{Limits, RecordReader as _, RecordStore};
use tokio::sync::{broadcast, mpsc, watch};

pub(crate) use self::directory::DataDirectory;
use self::ending::{Ending, ending};
use self::scope::automatic_scope;
use self::sockets::{Silence, Sockets, teller};
use crate::card::{CardKeeper, PAUSE};
use crate::driver::{Clock, Driver, Held, Parts};
use crate::full_table::Walker;
use crate::join::{Company, JoinState, Joiner, PROOF_WITHIN, Proof, identify};
use crate::node::{Applications, Asker, Doors, Inner, ListUp, LookUp, Purge};
use crate::policy::{Policy, Registered};
use crate::role::{Presence, RoleKeeper, first_role};
use crate::storage::{self, Storage};
use crate::surroundings::{Host, Setting, Surroundings};
use crate::{
    DenyList, Mdns, Node, Peer, Role, RoleChoice, SpawnError, TableMode, Validator, holdings, identity,
    snapshot,
};

/// Commands that wait for the driver; a caller with one more waits.
const MAX_ORDERS: usize = 256;
/// Events that a slow listener may fall behind before it misses some.
const MAX_EVENTS: usize = 1024;

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

    /// One more UDP address to listen at, at most one for each family. Default `0.0.0.0:0`: any free port.
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

    /// Whether the node serves or only asks: one that only asks is in nobody's table and stores nothing for others. Default
    /// [`RoleChoice::Auto`]: it serves once strangers have reached it, and stops when they no longer do. In private networks
    /// ([`Scope::Any`]), and with a transport that does not find out, it serves from the start.
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

    /// Whether the node leaves a card with those nearest to its id, which says where it is. Default true. Without one, a node
    /// that nobody can dial is not found.
    #[must_use]
    pub fn card(mut self, card: bool) -> Self {
        self.card = card;
        self
    }

    /// Whether the node finds out how it can be reached, keeps places at relays while it cannot be dialled, and relays for
    /// others while it serves. Default true. One that asks a few things and leaves needs none of it; it has no card either.
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

    /// Which addresses to hear of. Default [`Scope::Any`] if every listen address is private or loopback, or if the first
    /// peers are; else [`Scope::Global`].
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

    /// Whom the node wants to know. Default [`TableMode::Kademlia`]. A full table widens the buckets and the limits of address
    /// groups that the core's config has.
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
        let listen = match self.listen.is_empty() {
            true => vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))],
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
        let transport = Arc::new(QuicTransport::bind(quic)?);
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
        match &files {
            Some(directory) => {
                let redb = RedbConfig {
                    limits,
                    ..RedbConfig::default()
                };
                let store = RedbStore::open(directory.path("records.redb"), &redb)?;
                self.assemble(keypair, transport, store, files, (presence, Some(sockets)))
            }
            None => {
                let store = MemoryStore::new(limits);
                self.assemble(keypair, transport, store, None, (presence, Some(sockets)))
            }
        }
    }

    /// Starts a node with a transport and a store of your own. The listen addresses, the data directory and the bounds of
    /// QUIC do not count; the transport must have proven itself to be `keypair`'s.
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
        self.assemble(keypair, Arc::new(transport), store, None, (None, None))
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
            ..ReachConfig::default()
        }
    }

    pub(crate) fn assemble<T: Transport, S: RecordStore>(
        self,
        keypair: Keypair,
        transport: Arc<T>,
        store: S,
        files: Option<DataDirectory>,
        (presence, sockets): (Option<Watched<T::Address>>, Option<Sockets>),
    ) -> Result<Node<T::Address>, SpawnError>
    where
        S::Reader: Sync,
    {
        let network = NetworkId::new(&self.network, &self.parameters);
        let rules = Rules::new(network, &self.parameters);
        let mut config = self
            .config
            .unwrap_or_else(|| Config::for_network(&self.parameters));
        let role = first_role(self.role, presence.as_ref());
        config.read_only = role == Role::Client;
        config.stores &= self.stores;
        let stores = config.stores;
        if config.k != usize::from(self.parameters.k) {
            return Err(SpawnError::Parameters(
                "k of the core's config is not k of the network, or is not 1 to 32",
            ));
        }
        if let TableMode::Full(full) = self.table {
            full.check()?;
            config.table = config.table.full(full.contacts);
        }
        let lifetime = config.lifetime;
        let quorum = config.read_quorum.clamp(1, config.k);
        let write_quorum = config.write_quorum.clamp(1, config.k);
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|e| SpawnError::System(std::io::Error::other(e.to_string())))?;

        let scope = self.scope.unwrap_or(Scope::Any);
        let reader = store.reader();
        let (held, damaged) = Held::read(&reader)?;
        let looking = reader.clone();
        let stored: LookUp = Box::new(move |slot| looking.get(slot));
        let looking = reader.clone();
        let listing: ListUp = Box::new(move |wanted, now| holdings::listing(&looking, &rules, wanted, now));
        let policy = Arc::new(Policy::new(rules, self.validator, self.deny.unwrap_or_default()));
        let storage = Storage::start(store, damaged, policy.clone()).map_err(SpawnError::System)?;
        let storage = Arc::new(storage);
        let removed = storage::purge(&reader, &storage, &policy)?;
        if removed > 0 {
            tracing::info!(removed, "records on the deny-list were removed");
        }
        let purge: Purge = {
            let (reader, storage, policy) = (reader.clone(), storage.clone(), policy.clone());
            Box::new(move || {
                let (reader, storage, policy) = (reader.clone(), storage.clone(), policy.clone());
                tokio::task::spawn_blocking(move || storage::purge(&reader, &storage, &policy))
            })
        };
        let clock = Clock::new();
        let machine = Kademlia::new(
            transport.local().id,
            Arc::new(config),
            u64::from_be_bytes(seed),
            clock.now(),
        );
        let (orders, waiting) = mpsc::channel(MAX_ORDERS);
        let (events, _) = broadcast::channel(MAX_EVENTS);
        let (company, has_company) = watch::channel(Company::Nobody);
        let saved: VecDeque<_> = match &files {
            Some(files) => snapshot::read(&files.path("contacts.json"), &network).into(),
            None => VecDeque::new(),
        };
        let remembered = Arc::new(Mutex::new(saved));
        let repair_bytes = Arc::new(AtomicU64::new(0));
        let parts = Parts {
            machine,
            clock,
            transport: transport.clone(),
            codec: Codec::new(rules, scope),
            read_only: role == Role::Client,
            policy: policy.clone(),
            storage: storage.clone(),
            reader,
            held,
            orders: waiting,
            events: events.clone(),
            company,
            remembered: remembered.clone(),
            keypair: keypair.clone(),
            lifetime,
            repair_bytes: repair_bytes.clone(),
        };
        let driver = tokio::spawn(Driver::run(parts));

        let asker = Asker::new(orders);
        let hears = sockets.as_ref().is_some_and(|sockets| sockets.setting.hears());
        let (told_role, has_role) = watch::channel(role);
        let (quic, surroundings) = match sockets {
            Some(sockets) => {
                let host = Host {
                    transport: transport.clone(),
                    asker: asker.downgrade(),
                    company: has_company.clone(),
                };
                let surroundings = Surroundings::start(sockets.setting, host, has_role.clone());
                let applications = Applications::new(
                    sockets.transport,
                    #[cfg(feature = "mdns")]
                    surroundings.neighbourhood(),
                );
                (Some((sockets.silence, applications)), Some(surroundings))
            }
            None => (None, None),
        };
        let (state, join) = watch::channel(JoinState::Joining);
        // Who serves anyway, or never will, has nothing to prove.
        let proves = self.role == RoleChoice::Auto && role == Role::Client;
        let proof = presence.clone().filter(|_| proves).map(|presence| Proof {
            presence,
            codec: Codec::new(rules, scope),
            within: self.proof_within,
        });
        let joiner = Joiner {
            transport: transport.clone(),
            asker: asker.downgrade(),
            peers: self.peers,
            hears,
            moves: surroundings.as_ref().and_then(Surroundings::moves),
            remembered,
            state,
            proof,
        };
        if let TableMode::Full(full) = self.table {
            let walker = Walker {
                own: transport.local().id,
                full,
                asker: asker.downgrade(),
                company: has_company.clone(),
                join: join.clone(),
            };
            tokio::spawn(walker.run());
        }
        tokio::spawn(joiner.run(has_company));
        if let (RoleChoice::Auto, Some(presence)) = (self.role, &presence) {
            let keeper = RoleKeeper {
                presence: presence.clone(),
                asker: asker.downgrade(),
                role: told_role,
            };
            tokio::spawn(keeper.run());
        }
        let farewell = presence.filter(|_| self.card).map(|presence| {
            let keeper = CardKeeper {
                keypair: keypair.clone(),
                rules,
                presence,
                join: join.clone(),
                asker: asker.downgrade(),
                enough: write_quorum,
                pause: PAUSE,
            };
            keeper.start()
        });

        let running = ending(Ending {
            driver,
            transport: transport.clone(),
            storage: storage.clone(),
            network,
            files,
            surroundings,
            asker: &asker,
        });
        Ok(Node::new(Inner {
            asker,
            local: transport.local(),
            keypair,
            network,
            rules,
            quorum,
            write_quorum,
            role: has_role,
            farewell,
            stores,
            policy,
            seen: Mutex::default(),
            scope,
            events,
            join,
            storage,
            repair_bytes,
            doors: doors(&transport, quic, (stored, listing, purge)),
            running: Mutex::new(Some(running)),
        }))
    }
}

/// What a transport finds out, as it does.
type Watched<A> = watch::Receiver<Presence<A>>;

/// Whether the last run has left somebody to begin with.
fn knows_somebody(files: &DataDirectory, network: &NetworkId) -> bool {
    !snapshot::read::<QuicAddress>(&files.path("contacts.json"), network).is_empty()
}

fn doors<T: Transport>(
    transport: &Arc<T>,
    quic: Option<(Silence, Applications)>,
    (stored, listing, purge): (LookUp, ListUp, Purge),
) -> Doors<T::Address> {
    let (identifying, counting) = (transport.clone(), transport.clone());
    let (silence, applications) = quic.unzip();
    Doors {
        identify: Box::new(move |peer| {
            let transport = identifying.clone();
            Box::pin(async move { identify(&*transport, &peer, transport.local().id).await })
        }),
        stats: Box::new(move || counting.stats()),
        silence,
        applications,
        stored,
        listing,
        purge,
    }
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
}
