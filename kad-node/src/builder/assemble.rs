//! The parts of a node, put together.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use kad_core::{Config, Kademlia, Keypair, NetworkId, Rules};
use kad_net::Transport;
use kad_net::wire::{Codec, Scope};
use kad_store::{RecordReader as _, RecordStore};
use tokio::sync::{broadcast, mpsc, watch};

use super::ending::{Ending, ending};
use super::sockets::{Silence, Sockets};
use super::{Builder, DataDirectory};
use crate::card::{CardKeeper, PAUSE};
use crate::driver::{Clock, Driver, Held, Parts};
use crate::full_table::Walker;
use crate::join::{Company, JoinState, Joiner, Proof, identify};
use crate::node::{Applications, Asker, Doors, Inner, ListUp, LookUp, Purge};
use crate::policy::Policy;
use crate::role::{Presence, RoleKeeper, first_role};
use crate::storage::{self, Storage};
use crate::surroundings::{Host, Surroundings};
use crate::{Node, Role, RoleChoice, SpawnError, TableMode, holdings, snapshot};

/// Commands that wait for the driver; a caller with one more waits.
const MAX_ORDERS: usize = 256;
/// Events that a slow listener may fall behind before it misses some.
const MAX_EVENTS: usize = 1024;

/// What a node is put together of, besides what its builder was told.
pub(crate) struct Assembly<T: Transport, S> {
    /// What the transport has proven itself to be.
    pub(crate) keypair: Keypair,
    pub(crate) transport: Arc<T>,
    pub(crate) store: S,
    pub(crate) files: Option<DataDirectory>,
    /// What the transport finds out, as it does; `None` if it finds out nothing.
    pub(crate) presence: Option<watch::Receiver<Presence<T::Address>>>,
    /// What there is more over QUIC.
    pub(crate) sockets: Option<Sockets>,
}

impl Builder {
    pub(crate) fn assemble<T: Transport, S: RecordStore>(
        self,
        assembly: Assembly<T, S>,
    ) -> Result<Node<T::Address>, SpawnError>
    where
        S::Reader: Sync,
    {
        let Assembly {
            keypair,
            transport,
            store,
            files,
            presence,
            sockets,
        } = assembly;
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

        let looks = Looks {
            stored,
            listing,
            purge,
        };
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
            doors: doors(&transport, quic, looks),
            running: Mutex::new(Some(running)),
        }))
    }
}

/// Ways into the store that do not go through the driver.
struct Looks {
    stored: LookUp,
    listing: ListUp,
    purge: Purge,
}

fn doors<T: Transport>(
    transport: &Arc<T>,
    quic: Option<(Silence, Applications)>,
    looks: Looks,
) -> Doors<T::Address> {
    let (identifying, counting) = (transport.clone(), transport.clone());
    let (silence, applications) = quic.unzip();
    let Looks {
        stored,
        listing,
        purge,
    } = looks;
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
