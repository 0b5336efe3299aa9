//! What the test network is made to do, and how long it takes.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kad_core::{Key, NodeId};
use kad_node::{Node, PutOptions};
use rand::RngExt as _;

use super::measure::{self, Lookups, Times, Values, cpu_ms_per_rpc, mean, per_second};
use super::network::Network;

/// Bytes of a single value; the size that the published figures of others are for.
const VALUE_BYTES: usize = 1024;

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

/// Puts single values from random nodes and gets them from others.
pub(crate) async fn values(
    network: &mut Network,
    count: usize,
    concurrency: usize,
) -> anyhow::Result<Values> {
    let plan: Vec<(Node, Node, Vec<u8>)> = (0..count)
        .map(|_| {
            let writer = network.rng.random_range(0..network.nodes.len());
            let reader = (writer + network.rng.random_range(1..network.nodes.len())) % network.nodes.len();
            let value = std::iter::repeat_with(|| network.rng.random())
                .take(VALUE_BYTES)
                .collect();
            (
                network.nodes[writer].clone(),
                network.nodes[reader].clone(),
                value,
            )
        })
        .collect();
    let before = network.totals().await?;
    let started = Instant::now();
    let puts = stream::iter(plan).map(|(writer, reader, value)| async move {
        let started = Instant::now();
        let stored = writer
            .put(&value, PutOptions::default())
            .await
            .context("a value could not be stored")?;
        anyhow::Ok((
            reader,
            value,
            stored.key,
            stored.copies(),
            started.elapsed(),
            stored.effort.requests,
        ))
    });
    let puts: Vec<_> = puts.buffer_unordered(concurrency).try_collect().await?;
    let put_time = started.elapsed();
    let after = network.totals().await?;

    let mut put_times = Times::default();
    puts.iter().for_each(|(.., took, _)| put_times.push(*took));
    let put_rpcs_mean = mean(puts.iter().map(|(.., requests)| f64::from(*requests)));
    let acknowledged_mean = mean(puts.iter().map(|(_, _, _, copies, ..)| *copies as f64));
    let acknowledged_min = puts
        .iter()
        .map(|(_, _, _, copies, ..)| *copies)
        .min()
        .unwrap_or(0);

    let started = Instant::now();
    let gets = stream::iter(puts).map(|(reader, value, key, ..)| async move {
        let started = Instant::now();
        let found = reader.get(key).await.context("a value could not be read")?;
        let same = found.as_ref().is_some_and(|found| found.bytes == value);
        anyhow::Ok((
            same,
            started.elapsed(),
            found.map_or(0, |found| found.effort.requests),
        ))
    });
    let gets: Vec<_> = gets.buffer_unordered(concurrency).try_collect().await?;
    let get_time = started.elapsed();
    let mut get_times = Times::default();
    gets.iter().for_each(|(_, took, _)| get_times.push(*took));
    let flushes = after.flushes - before.flushes;
    let flushing = Duration::from_micros(after.flush_micros - before.flush_micros);
    Ok(Values {
        count,
        bytes: VALUE_BYTES,
        concurrency,
        puts_per_second: per_second(put_times.len(), put_time),
        gets_per_second: per_second(get_times.len(), get_time),
        put_p50_ms: put_times.quantile_ms(0.5),
        put_p99_ms: put_times.quantile_ms(0.99),
        get_p50_ms: get_times.quantile_ms(0.5),
        get_p99_ms: get_times.quantile_ms(0.99),
        put_rpcs_mean,
        get_rpcs_mean: mean(gets.iter().map(|(.., requests)| f64::from(*requests))),
        acknowledged_mean,
        acknowledged_min,
        found_share: measure::round(
            gets.iter().filter(|(same, ..)| *same).count() as f64 / count.max(1) as f64,
        ),
        flushes_per_put: measure::round(flushes as f64 / count.max(1) as f64),
        flush_mean_ms: measure::round(measure::millis(flushing) / flushes.max(1) as f64),
    })
}
