//! What one RPC costs: processor time of the whole process, both ends together, of two nodes over a warm connection,
//! beside bare quinn doing the same in the same run. Wall time would measure the scheduler; ratios in one run are what
//! counts.
//!
//! ```text
//! cargo bench -p kad-node --bench rpc              # a table
//! cargo bench -p kad-node --bench rpc -- --json    # one object
//! ```
#![expect(clippy::print_stdout, reason = "a report is what this is for")]

#[path = "../src/cli/testnet/measure.rs"]
#[allow(dead_code, unused_imports, reason = "the test network uses the rest")]
mod measure;
#[path = "../src/cli/testnet/raw.rs"]
mod raw;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kad_node::{Node, Peer};

const REQUESTS: usize = 20_000;
const WARM_UP: usize = 500;

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` only wants to see that it runs.
    let requests = if std::env::args().any(|arg| arg == "--bench") {
        REQUESTS
    } else {
        200
    };
    let json = std::env::args().any(|arg| arg == "--json");
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let mut rows = Vec::new();
        for in_flight in [1, 32] {
            let raw = raw::run(2, in_flight, 1).await?;
            let (cpu, took) = pings(in_flight, requests).await?;
            let cpu = measure::cpu_ms_per_rpc(cpu, requests as u64);
            rows.push((in_flight, raw.cpu_ms_per_rpc, cpu, measure::per_second(requests, took)));
        }
        if json {
            let row = |&(in_flight, raw, cpu, rate): &(usize, f64, f64, f64)| {
                serde_json::json!({
                    "in_flight": in_flight, "raw_cpu_ms": raw, "cpu_ms": cpu, "ratio": cpu / raw, "rpc_per_second": rate,
                })
            };
            println!("{}", serde_json::json!({ "rows": rows.iter().map(row).collect::<Vec<_>>() }));
        } else {
            println!("{:>9}  {:>18}  {:>16}  {:>10}", "in flight", "bare quinn, ms CPU", "two nodes, ms CPU", "RPC/s");
            for (in_flight, raw, cpu, rate) in rows {
                println!("{in_flight:>9}  {raw:>18.3}  {cpu:>16.3}  {rate:>10.0}");
            }
        }
        anyhow::Ok(())
    })
}

/// PINGs from one node to another, through everything: machine, driver, codec, QUIC.
async fn pings(in_flight: usize, requests: usize) -> anyhow::Result<(Duration, Duration)> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let one = Node::builder().network("bench").listen(listen).spawn().await?;
    let peer: Peer = one
        .local()
        .address
        .to_string()
        .parse()
        .map_err(anyhow::Error::msg)?;
    let other = Node::builder()
        .network("bench")
        .listen(listen)
        .bootstrap(peer)
        .spawn()
        .await?;
    other.joined().await?;
    let ping = |_| other.ping(one.local().clone());
    stream::iter(0..WARM_UP)
        .map(ping)
        .buffer_unordered(in_flight)
        .try_collect::<Vec<_>>()
        .await?;
    let (cpu, started) = (measure::cpu_time(), Instant::now());
    stream::iter(0..requests)
        .map(ping)
        .buffer_unordered(in_flight)
        .try_collect::<Vec<_>>()
        .await?;
    let spent = (measure::cpu_time() - cpu, started.elapsed());
    other.shutdown().await?;
    one.shutdown().await?;
    Ok(spent)
}
