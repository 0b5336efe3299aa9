//! Lookups of random points, and how long they take.

use std::time::Instant;

use anyhow::Context as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kad_core::{Key, NodeId};
use rand::RngExt as _;

use super::measure::{self, Lookups, Times, cpu_ms_per_rpc, mean, per_second};
use super::network::Network;

/// Batches of lookups that warm the connections up, at most.
const MAX_WARM_UPS: usize = 20;

/// Looks up random points from random nodes.
pub(crate) async fn lookups(
    network: &mut Network,
    count: usize,
    concurrency: usize,
) -> anyhow::Result<Lookups> {
    let plan: Vec<(usize, Key)> = (0..count)
        .map(|_| {
            (
                network.rng.random_range(0..network.nodes.len()),
                Key::from_bytes(network.rng.random()),
            )
        })
        .collect();
    let before = network.totals().await?;
    let (cpu, started) = (measure::cpu_time(), Instant::now());
    let answers = stream::iter(plan).map(|(node, target)| {
        let node = network.nodes[node].clone();
        async move {
            let started = Instant::now();
            let closest = node.closest(target).await.context("a lookup failed")?;
            let ids: Vec<NodeId> = closest.contacts.iter().map(|contact| contact.id).collect();
            anyhow::Ok((node.id(), target, ids, started.elapsed(), closest.effort.requests))
        }
    });
    let answers: Vec<_> = answers.buffer_unordered(concurrency).try_collect().await?;
    let (took, cpu) = (started.elapsed(), measure::cpu_time() - cpu);
    let after = network.totals().await?;

    let exact = answers
        .iter()
        .filter(|(asker, target, ids, ..)| *ids == network.truth(*asker, *target))
        .count();
    let requests = after.requests - before.requests;
    let mut times = Times::default();
    answers.iter().for_each(|(.., took, _)| times.push(*took));
    Ok(Lookups {
        count,
        concurrency,
        per_second: per_second(count, took),
        p50_ms: times.quantile_ms(0.5),
        p90_ms: times.quantile_ms(0.9),
        p99_ms: times.quantile_ms(0.99),
        rpcs_mean: mean(answers.iter().map(|(.., requests)| f64::from(*requests))),
        exact_share: measure::round(exact as f64 / count.max(1) as f64),
        dialled: after.dialled - before.dialled,
        cpu_ms_per_rpc: cpu_ms_per_rpc(cpu, requests),
        rpcs_per_second: per_second(requests as usize, took),
    })
}

/// Looks up at random until a batch needs no new connection.
pub(crate) async fn warm_up(network: &mut Network) -> anyhow::Result<()> {
    for _ in 0..MAX_WARM_UPS {
        let batch = 4 * network.nodes.len();
        if lookups(network, batch, 8).await?.dialled == 0 {
            break;
        }
    }
    Ok(())
}
