//! Asks one node again and again, and tells how long its answers took: what somebody notices who has that node in the
//! table.
//!
//! `cargo run -p kad-node --example ask_often -- --count 100 --every 20 ID@HOST:PORT`
//!
//! Prints one line of JSON: answers, and the middle and the slow end of their times in milliseconds. The tests of nodes
//! behind NATs run it against a node that relays at the same time.

#![allow(clippy::print_stdout)] // Printing is what examples are for.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use clap::Parser;
use kad_core::Key;
use kad_node::{Node, Peer};
use serde_json::json;

/// Asks one node again and again for the contacts that are nearest to points.
#[derive(Debug, Parser)]
struct Args {
    /// The name of the network.
    #[arg(long, default_value = "public")]
    network: String,
    /// How often.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// Milliseconds from one question to the next; one that takes longer delays the next.
    #[arg(long, default_value_t = 20)]
    every: u64,
    /// Whom.
    #[arg(value_name = "ID@HOST:PORT")]
    peer: Peer,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let node = Node::builder()
        .network(&args.network)
        .read_only(true)
        .listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
        .bootstrap(args.peer.clone())
        .spawn()
        .await?;
    node.joined().await?;
    let contact = node.identify(&args.peer).await?;
    let mut ticks = tokio::time::interval(Duration::from_millis(args.every.max(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut took = Vec::new();
    let mut failed = 0_u32;
    for number in 0..args.count {
        ticks.tick().await;
        // Points all over the space, so that no answer is of one bucket alone.
        let target = Key::from_bytes(*blake3::hash(&number.to_be_bytes()).as_bytes());
        let began = Instant::now();
        match node.ask(contact.clone(), target).await {
            Ok(_) => took.push(began.elapsed()),
            Err(_) => failed += 1,
        }
    }
    took.sort_unstable();
    let at = |percent: usize| {
        let place = (took.len() * percent).div_ceil(100).saturating_sub(1);
        took.get(place).map(|took| took.as_secs_f64() * 1000.0)
    };
    let (p50, p99) = (at(50), at(99));
    println!(
        "{}",
        json!({ "answers": took.len(), "failed": failed, "p50_ms": p50, "p99_ms": p99 })
    );
    node.shutdown().await?;
    Ok(())
}
