#![allow(warnings)]
#[path = "../src/cli/testnet/load.rs"]
mod load;
#[path = "../src/cli/testnet/measure.rs"]
mod measure;
#[path = "../src/cli/testnet/network.rs"]
mod network;
#[path = "../src/cli/testnet/raw.rs"]
mod raw;
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let n: usize = std::env::args().nth(1).unwrap().parse()?;
    let c: usize = std::env::args().nth(2).unwrap().parse()?;
    if std::env::args().nth(3).is_some() {
        println!("{:?}", raw::run(n, 3 * c, 1).await?);
    }
    let b = measure::resident_bytes();
    let bar = indicatif::ProgressBar::hidden();
    let (mut net, j) = network::Network::start(n, 8, 1, None, &bar).await?;
    let r = measure::resident_bytes() - b;
    let t = net.totals().await?;
    println!(
        "join {:?} last {:?} rss/node {} KiB conns {} dialled {} requests {}",
        j.took,
        j.last,
        r / 1024 / n as u64,
        t.connections,
        t.dialled,
        t.requests
    );
    load::warm_up(&mut net).await?;
    println!("{:?}", load::lookups(&mut net, 1000, 1).await?);
    println!("{:?}", load::lookups(&mut net, 1000, c).await?);
    println!("{:?}", load::values(&mut net, 1000, 32).await?);
    println!("killed {}", net.kill(0.25)?);
    println!("{:?}", load::lookups(&mut net, 300, 1).await?);
    println!("{:?}", load::values(&mut net, 300, 32).await?);
    Ok(())
}
