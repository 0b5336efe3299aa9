//! Single values: put, got, and counted until the last holder was told.
//!
//! A put is done when three quarters of k hold the value, and the others are told in the background. The times are
//! those of what a caller waits for; requests and copies are counted to the end.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kad_core::{Event, Key, NodeId, Outcome, QueryId};
use kad_net::quic::QuicAddress;
use kad_node::{Node, PutOptions, Stored};
use rand::RngExt as _;
use tokio::sync::broadcast::{Receiver, error::TryRecvError};

use super::measure::{self, Times, Values, mean, per_second};
use super::network::{Network, Totals};

/// Bytes of a single value; the size that the published figures of others are for.
const VALUE_BYTES: usize = 1024;

/// How long the last holders may take to be told: the deadline of a query, and a little more.
const SETTLING: Duration = Duration::from_secs(65);

/// Until it is looked again whether all were told.
const GLANCE: Duration = Duration::from_millis(20);

/// A value that was put.
pub(crate) struct Kept {
    key: Key,
    value: Vec<u8>,
}

/// One thing to do with a value.
enum Step {
    Put { writer: usize, value: Vec<u8> },
    Get { reader: usize, kept: Kept },
}

/// How it went.
enum Done {
    Put {
        writer: usize,
        stored: Stored<QuicAddress>,
        kept: Kept,
        took: Duration,
    },
    Get {
        same: bool,
        requests: u32,
        kept: Kept,
        took: Duration,
    },
}

/// Puts values from random nodes; when all were put, gets each of them from another node.
pub(crate) async fn puts_then_gets(
    network: &mut Network,
    count: usize,
    concurrency: usize,
) -> anyhow::Result<(Values, Vec<Kept>)> {
    let mut tally = Tally::new(network, count, concurrency).await?;
    let puts = (0..count).map(|_| new_value(network)).collect();
    let put_time = tally.carry_out(network, puts).await?;
    let put = tally.settle(network).await?;
    let gets = std::mem::take(&mut tally.kept);
    let gets = gets.into_iter().map(|kept| reading(network, kept)).collect();
    let get_time = tally.carry_out(network, gets).await?;
    let kept = std::mem::take(&mut tally.read);
    let values = tally.values("puts, then gets of the same values", put, put_time, get_time);
    Ok((values, kept))
}

/// Puts new values and gets older ones, in turns, so that neither profits from what the other has found out about who
/// is dead. When all is done the new ones are got as well, to see whether they are there; that is not timed.
pub(crate) async fn puts_among_gets(
    network: &mut Network,
    older: Vec<Kept>,
    concurrency: usize,
) -> anyhow::Result<Values> {
    let mut tally = Tally::new(network, older.len(), concurrency).await?;
    let mut steps = Vec::with_capacity(2 * older.len());
    for kept in older {
        steps.push(new_value(network));
        steps.push(reading(network, kept));
    }
    let time = tally.carry_out(network, steps).await?;
    let put = tally.settle(network).await?;
    let (times, requests) = (std::mem::take(&mut tally.get_times), tally.get_requests);
    let gets = std::mem::take(&mut tally.kept);
    let gets = gets.into_iter().map(|kept| reading(network, kept)).collect();
    tally.carry_out(network, gets).await?;
    (tally.get_times, tally.get_requests) = (times, requests);
    Ok(tally.values("puts and gets of older values, in turns", put, time, time))
}

fn new_value(network: &mut Network) -> Step {
    let writer = network.rng.random_range(0..network.nodes.len());
    let value = std::iter::repeat_with(|| network.rng.random())
        .take(VALUE_BYTES)
        .collect();
    Step::Put { writer, value }
}

/// From a node that should not hold it, if there are such.
fn reading(network: &mut Network, kept: Kept) -> Step {
    let holders = network.truth(NodeId::default(), kept.key);
    let others: Vec<usize> = (0..network.nodes.len())
        .filter(|&index| !holders.contains(&network.nodes[index].id()))
        .collect();
    let reader = match others.len() {
        0 => network.rng.random_range(0..network.nodes.len()),
        count => others[network.rng.random_range(0..count)],
    };
    Step::Get { reader, kept }
}

/// What the puts took of the whole network.
struct Cost {
    flushes: u64,
    flushing: Duration,
}

/// Everything that is counted while values are put and got.
struct Tally {
    count: usize,
    concurrency: usize,
    before: Totals,
    placed: Placed,
    put_times: Times,
    get_times: Times,
    /// What is known of each put: what the caller was told, or how it ended if that is known by now.
    puts: HashMap<(usize, QueryId), (usize, u32)>,
    get_requests: u64,
    gets: usize,
    found: usize,
    /// Values that were put and not got yet.
    kept: Vec<Kept>,
    /// Values that were got.
    read: Vec<Kept>,
}

impl Tally {
    async fn new(network: &Network, count: usize, concurrency: usize) -> anyhow::Result<Self> {
        Ok(Self {
            count,
            concurrency,
            before: network.totals().await?,
            placed: Placed::of(&network.nodes),
            put_times: Times::default(),
            get_times: Times::default(),
            puts: HashMap::new(),
            get_requests: 0,
            gets: 0,
            found: 0,
            kept: Vec::new(),
            read: Vec::new(),
        })
    }

    /// Does all of it, so many at a time; says how long that took.
    async fn carry_out(&mut self, network: &Network, steps: Vec<Step>) -> anyhow::Result<Duration> {
        let (nodes, placed) = (&network.nodes, &self.placed);
        let started = Instant::now();
        let doing = stream::iter(steps).map(|step| async move {
            let started = Instant::now();
            match step {
                Step::Put { writer, value } => {
                    let stored = nodes[writer]
                        .put(&value, PutOptions::default())
                        .await
                        .context("a value could not be stored")?;
                    let (took, key) = (started.elapsed(), stored.key);
                    placed.listen(writer);
                    let kept = Kept { key, value };
                    anyhow::Ok(Done::Put {
                        writer,
                        stored,
                        kept,
                        took,
                    })
                }
                Step::Get { reader, kept } => {
                    let found = nodes[reader]
                        .get(kept.key)
                        .await
                        .context("a value could not be read")?;
                    let took = started.elapsed();
                    let same = found.as_ref().is_some_and(|found| found.bytes == kept.value);
                    let requests = found.map_or(0, |found| found.effort.requests);
                    Ok(Done::Get {
                        same,
                        requests,
                        kept,
                        took,
                    })
                }
            }
        });
        let done: Vec<Done> = doing.buffer_unordered(self.concurrency).try_collect().await?;
        let took = started.elapsed();
        for done in done {
            match done {
                Done::Put {
                    writer,
                    stored,
                    kept,
                    took,
                } => {
                    self.put_times.push(took);
                    let so_far = (stored.copies(), stored.effort.requests);
                    self.puts.insert((writer, stored.query), so_far);
                    self.kept.push(kept);
                }
                Done::Get {
                    same,
                    requests,
                    kept,
                    took,
                } => {
                    self.get_times.push(took);
                    self.get_requests += u64::from(requests);
                    self.gets += 1;
                    self.found += usize::from(same);
                    self.read.push(kept);
                }
            }
        }
        Ok(took)
    }

    /// Waits until all holders were told, and counts that too.
    async fn settle(&mut self, network: &Network) -> anyhow::Result<Cost> {
        let started = Instant::now();
        for node in &network.nodes {
            while node.stats().await?.core.queries > 0 {
                ensure!(started.elapsed() < SETTLING, "some puts do not come to an end");
                tokio::time::sleep(GLANCE).await;
            }
        }
        for (write, end) in self.placed.all() {
            self.puts.entry(write).and_modify(|put| *put = end);
        }
        let after = network.totals().await?;
        Ok(Cost {
            flushes: after.flushes - self.before.flushes,
            flushing: Duration::from_micros(after.flush_micros - self.before.flush_micros),
        })
    }

    fn values(mut self, order: &'static str, puts: Cost, put_time: Duration, get_time: Duration) -> Values {
        let count = self.count.max(1) as f64;
        Values {
            count: self.count,
            bytes: VALUE_BYTES,
            concurrency: self.concurrency,
            order,
            puts_per_second: per_second(self.put_times.len(), put_time),
            gets_per_second: per_second(self.get_times.len(), get_time),
            put_p50_ms: self.put_times.quantile_ms(0.5),
            put_p99_ms: self.put_times.quantile_ms(0.99),
            get_p50_ms: self.get_times.quantile_ms(0.5),
            get_p99_ms: self.get_times.quantile_ms(0.99),
            put_rpcs_mean: mean(self.puts.values().map(|&(_, requests)| f64::from(requests))),
            get_rpcs_mean: measure::round(self.get_requests as f64 / self.get_times.len().max(1) as f64),
            acknowledged_mean: mean(self.puts.values().map(|&(copies, _)| copies as f64)),
            acknowledged_min: self.puts.values().map(|&(copies, _)| copies).min().unwrap_or(0),
            found_share: measure::round(self.found as f64 / self.gets.max(1) as f64),
            flushes_per_put: measure::round(puts.flushes as f64 / count),
            flush_mean_ms: measure::round(measure::millis(puts.flushing) / puts.flushes.max(1) as f64),
        }
    }
}

/// The ends of writes that were done before all holders were told: copies and requests, by node and write.
struct Placed {
    listeners: Vec<Mutex<Receiver<Event<QuicAddress>>>>,
    ends: Mutex<HashMap<(usize, QueryId), (usize, u32)>>,
}

impl Placed {
    fn of(nodes: &[Node]) -> Self {
        Self {
            listeners: nodes.iter().map(|node| Mutex::new(node.events())).collect(),
            ends: Mutex::default(),
        }
    }

    /// Takes what a node has told meanwhile: often enough, or it would forget the oldest.
    fn listen(&self, node: usize) {
        let mut events = self.listeners[node]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            match events.try_recv() {
                Ok(Event::Placed {
                    query,
                    outcome: Outcome::Stored { holders, local, .. },
                    effort,
                }) => {
                    let end = (holders.len() + usize::from(local), effort.requests);
                    let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
                    ends.insert((node, query), end);
                }
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn all(&self) -> HashMap<(usize, QueryId), (usize, u32)> {
        (0..self.listeners.len()).for_each(|node| self.listen(node));
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
