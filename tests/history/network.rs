//! Nodes in one process, and clients that write and read one record through them and tell the history.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::join_all;
use kad_core::{Config, Distance, Duration, Keypair, Parameters};
use kad_net::memory::{Conditions, Network};
use kad_node::Node;
use kad_store::RecordStore;

use crate::check::History;
use crate::client::{Client, key_of};

/// Holders of a record: of so many 6 must acknowledge, and a read asks 6.
const K: u16 = 8;

/// Rounds of reads after which all must read the same.
const MAX_ROUNDS: usize = 30;

/// A network, and the history of one record of it.
pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) nodes: Vec<Node<SocketAddr>>,
    pub(crate) history: Arc<History>,
    owner: Keypair,
}

pub(crate) fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (number / 256) as u8, (number % 256) as u8], 4000))
}

impl World {
    /// So many nodes, each with a store of its own.
    pub(crate) async fn new<S: RecordStore>(seed: u8, count: usize, store: impl Fn() -> S) -> Self
    where
        S::Reader: Sync,
    {
        let mut world = Self {
            network: Network::new(seed.into(), Conditions::default()),
            nodes: Vec::new(),
            history: Arc::default(),
            owner: Keypair::from_secret(&[seed; 32]),
        };
        for _ in 0..count {
            world.add(seed, store()).await;
        }
        world
    }

    /// One more node, which joins through the first.
    pub(crate) async fn add<S: RecordStore>(&mut self, seed: u8, store: S)
    where
        S::Reader: Sync,
    {
        let number = self.nodes.len();
        let mut secret = [seed; 32];
        secret[..8].copy_from_slice(&number.to_be_bytes());
        let keypair = Keypair::from_secret(&secret);
        let transport = self.network.join(keypair.node_id(), address(number));
        let parameters = Parameters {
            k: K,
            ..Parameters::default()
        };
        let mut config = Config::for_network(&parameters);
        // Those that are parted and come back are asked again soon.
        config.shun = Duration::from_secs(1);
        // Racers write as fast as they can.
        config.rewrite_every = Duration::ZERO;
        // There are no disks and no distances here, so the silent are dead sooner.
        config.patience.initial = Duration::from_millis(500);
        config.patience.store_floor = Duration::from_secs(1);
        let mut builder = Node::builder().parameters(parameters).config(config);
        if number > 0 {
            builder = builder.bootstrap(address(0));
        }
        let node = builder.spawn_with(keypair, transport, store).await.unwrap();
        if number > 0 {
            node.joined().await.unwrap();
        }
        self.nodes.push(node);
    }

    /// A client that acts through one of the nodes.
    pub(crate) fn client(&self, node: usize) -> Client<SocketAddr> {
        Client::new(node, &self.nodes[node], &self.owner, &self.history)
    }

    /// How far a node is from the key of the record.
    pub(crate) fn distance(&self, node: usize) -> Distance {
        self.nodes[node].id().distance(key_of(&self.owner))
    }

    /// Makes a node join again through another one.
    pub(crate) async fn meet(&self, node: usize, other: usize) {
        self.nodes[node]
            .bootstrap(&[address(other).into()])
            .await
            .unwrap();
    }

    /// Reads through each of the nodes until all has come to rest, and says when the last round of reads began; if they
    /// never agree, the beginning of everything, so that all that was ever read is held against them.
    pub(crate) async fn rest(&self, nodes: impl Iterator<Item = usize>) -> u64 {
        // Each read meets only some of the holders and repairs in the background, so it may take more than one.
        let clients: Vec<Client<SocketAddr>> = nodes.map(|node| self.client(node)).collect();
        let mut before = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let rest = self.history.now();
            let round = join_all(clients.iter().map(Client::read)).await;
            let round: Vec<_> = round
                .into_iter()
                .map(|found| found.expect("a node at rest reads"))
                .collect();
            if round == before && round.iter().all(|found| *found == round[0]) {
                return rest;
            }
            before = round;
        }
        0
    }
}
