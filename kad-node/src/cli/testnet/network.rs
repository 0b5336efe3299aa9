//! Many complete nodes in one process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kad_core::{Key, NodeId};
use kad_node::{Builder, Node, NodeStats, Peer};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

/// Rounds in which nodes whose tables are not full yet bootstrap once more.
const MAX_ROUNDS: usize = 10;

/// The nodes, the living and the dead.
pub(crate) struct Network {
    pub(crate) nodes: Vec<Node>,
    pub(crate) rng: StdRng,
    k: usize,
    name: String,
    data: Option<PathBuf>,
}

/// How joining went.
pub(crate) struct Joining {
    pub(crate) took: Duration,
    /// From `spawn` to `Joined`, for one more node when all others were there.
    pub(crate) last: Duration,
}

/// The counters of all living nodes together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    pub(crate) dialled: u64,
    /// Ends of open connections.
    pub(crate) connections: u64,
    pub(crate) flushes: u64,
    pub(crate) flush_micros: u64,
}

impl Network {
    /// Starts `count` nodes with redb files under `data`, or in memory, `at_once` of them at a time.
    pub(crate) async fn start(
        count: usize,
        at_once: usize,
        seed: u64,
        data: Option<&Path>,
        progress: &indicatif::ProgressBar,
    ) -> anyhow::Result<(Self, Joining)> {
        // A name of its own, so that two test networks on one machine never meet.
        let name = format!("testnet-{}-{seed}", std::process::id());
        let k = usize::from(kad_core::Parameters::default().k);
        let data = data.map(Path::to_owned);
        let mut network = Self {
            nodes: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
            k,
            name,
            data,
        };
        let started = Instant::now();
        network.nodes.push(
            network
                .builder(0)
                .spawn()
                .await
                .context("the first node did not start")?,
        );
        progress.inc(1);
        let first = network.first();
        let rest = stream::iter(1..count).map(|index| {
            let builder = network.builder(index).bootstrap(first.clone());
            async move {
                let node = builder
                    .spawn()
                    .await
                    .with_context(|| format!("node {index} did not start"))?;
                node.joined()
                    .await
                    .with_context(|| format!("node {index} did not join"))?;
                progress.inc(1);
                anyhow::Ok(node)
            }
        });
        let rest: Vec<Node> = rest.buffered(at_once).try_collect().await?;
        network.nodes.extend(rest);
        network.complete_tables(at_once).await?;
        let took = started.elapsed();
        let last = network.one_more(count).await?;
        Ok((network, Joining { took, last }))
    }

    /// The node through which others join.
    pub(crate) fn first(&self) -> Peer {
        let contact = self.nodes[0].local();
        let address = contact.address.to_string();
        format!("{}@{address}", contact.id)
            .parse()
            .expect("an id and a socket address make a peer")
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn k(&self) -> usize {
        self.k
    }

    /// How long one more node takes from `spawn` to `Joined`. It leaves again.
    async fn one_more(&self, index: usize) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let node = self
            .builder(index)
            .read_only(true)
            .card(false)
            .reach(false)
            .bootstrap(self.first())
            .spawn()
            .await?;
        node.joined().await.context("one more node did not join")?;
        let took = started.elapsed();
        node.shutdown().await?;
        Ok(took)
    }

    fn builder(&self, index: usize) -> Builder {
        let builder = Node::builder()
            .network(&self.name)
            .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        match &self.data {
            Some(data) => builder.data(data.join(format!("node-{index}"))),
            None => builder,
        }
    }

    /// Bootstraps nodes again until each bucket of each holds min(k, members).
    async fn complete_tables(&self, at_once: usize) -> anyhow::Result<()> {
        for _ in 0..MAX_ROUNDS {
            let poor = self.poor_tables().await?;
            if poor.is_empty() {
                return Ok(());
            }
            let again = stream::iter(poor).map(|index| self.nodes[index].bootstrap(&[]));
            again.buffer_unordered(at_once).try_collect::<Vec<_>>().await?;
        }
        bail!(
            "after {MAX_ROUNDS} rounds the tables of {} nodes are still not full",
            self.poor_tables().await?.len()
        )
    }

    /// Nodes with a bucket that holds less than min(k, members).
    async fn poor_tables(&self) -> anyhow::Result<Vec<usize>> {
        let mut poor = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let bucket = |other: NodeId| node.id().distance(other.to_key()).leading_zeros();
            let mut lacking: BTreeMap<u32, usize> = BTreeMap::new();
            for other in self.nodes.iter().filter(|other| other.id() != node.id()) {
                *lacking.entry(bucket(other.id())).or_default() += 1;
            }
            lacking
                .values_mut()
                .for_each(|members| *members = self.k.min(*members));
            for (bucket, _) in node.contacts().await? {
                lacking
                    .entry(bucket)
                    .and_modify(|lacking| *lacking = lacking.saturating_sub(1));
            }
            if lacking.values().any(|&lacking| lacking > 0) {
                poor.push(index);
            }
        }
        Ok(poor)
    }

    /// The true k nearest to a point, without the node that asks.
    pub(crate) fn truth(&self, asker: NodeId, target: Key) -> Vec<NodeId> {
        let mut ids: Vec<_> = self
            .nodes
            .iter()
            .map(Node::id)
            .filter(|&id| id != asker)
            .collect();
        ids.sort_unstable_by_key(|id| id.distance(target));
        ids.truncate(self.k);
        ids
    }

    /// Kills a share of the nodes without notice: they fall silent first, so that no closing packet tells anybody.
    /// Returns how many.
    pub(crate) fn kill(&mut self, share: f64) -> anyhow::Result<usize> {
        let count = (self.nodes.len() as f64 * share).round() as usize;
        ensure!(
            count + 2 <= self.nodes.len(),
            "at least two of the {} nodes must be left",
            self.nodes.len()
        );
        // The first one stays: people reach a kept network through it.
        self.nodes[1..].shuffle(&mut self.rng);
        for dead in self.nodes.drain(1..=count) {
            ensure!(dead.silence(), "a node could not be silenced");
        }
        Ok(count)
    }

    pub(crate) async fn totals(&self) -> anyhow::Result<Totals> {
        let mut totals = Totals::default();
        for node in &self.nodes {
            let NodeStats {
                core,
                transport,
                storage,
                ..
            } = node.stats().await?;
            totals.requests += core.requests_sent;
            totals.dialled += transport.dialled;
            totals.connections += transport.connections;
            totals.flushes += storage.flushes;
            totals.flush_micros += storage.flush_micros;
        }
        Ok(totals)
    }

    /// Ends all nodes in order.
    pub(crate) async fn stop(self) {
        let stopping = self.nodes.iter().map(Node::shutdown);
        futures::future::join_all(stopping).await;
    }
}
