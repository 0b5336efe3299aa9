//! A whole network in one process: join, store a file, lose a quarter of the members, give the file back.

mod load;
mod measure;
mod network;
mod raw;
mod report;
mod values;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Args as ClapArgs, ValueEnum};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use indicatif::{ProgressBar, ProgressStyle};
use kad_core::record::{Content, immutable_key};
use kad_core::{Key, Kind};
use kad_node::file::{FetchOptions, FileOptions, tree::MAX_CHUNK};

use self::measure::{Values, mean, millis, round};
use self::network::Network;
use self::report::{FileReport, RawReport, Report};
use self::values::Kept;
use super::reply::{Answer, Failure};

/// The most nodes of one process: each needs a socket, a task or two, and with redb a file.
const MAX_NODES: u64 = 2_000;

#[derive(Debug, Clone, ClapArgs)]
#[command(after_help = "Examples:
  kad-node testnet
  kad-node testnet --nodes 100 --store memory --lookups 1000 --values 1000 --concurrency 32 --raw --json
  kad-node testnet --file holiday.jpg --kill 0.5
  kad-node testnet --keep

Before the kill: lookups, then values are put, then they are got, then the file is
stored. A node that is killed falls silent in the middle of everything. The first
thing after that, values are put and the older ones got, in turns; only then the file
is read back and points are looked up, when many of the dead have been found out. Puts
are done when three quarters of k hold the value; RPCs and copies are counted until
the last holder was told.

Exit status 0 if everything held, 1 if not.")]
pub(crate) struct Args {
    /// How many nodes, each with its own key, UDP socket and store.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u64).range(4..=MAX_NODES))]
    nodes: u64,
    /// The file to store; this program itself unless told otherwise.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// The share of the nodes to kill without notice, from 0 to 0.9.
    #[arg(long, default_value_t = 0.25, value_parser = share)]
    kill: f64,
    /// Where the nodes keep records: redb files in a temporary directory, or memory.
    #[arg(long, value_enum, default_value_t = Store::Redb)]
    store: Store,
    /// Random lookups, before and after the kill.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    lookups: u64,
    /// Single values of 1 KiB to put and get before the kill; after it, as many to put, and those from before to get.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    values: u64,
    /// Lookups under way at a time; values are always put and got 32 at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    concurrency: u64,
    /// Nodes that join at a time, all through the first.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
    join_at_once: u64,
    /// Picks the nodes and points; the keys of the nodes are always new.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measure bare quinn over as many endpoints first, and print the ratios.
    #[arg(long)]
    raw: bool,
    /// Leave the network running afterwards, and print how to reach it.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Store {
    Redb,
    Memory,
}

/// Values under way at a time: the setup of the published figures.
const VALUE_CONCURRENCY: usize = 32;

/// Chunks whose copies are counted at a time.
const CENSUS_CONCURRENCY: usize = 16;

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number")?;
    if (0.0..=0.9).contains(&share) {
        Ok(share)
    } else {
        Err("must be from 0 to 0.9".to_owned())
    }
}

/// Runs the test network and tells what was measured. What cannot even be tried is a mistake of whoever asked for it.
pub(crate) async fn execute(args: Args, json: bool) -> Result<Answer, Failure> {
    let interrupted = tokio::signal::ctrl_c();
    let (report, network, data) = tokio::select! {
        _ = interrupted => return Err(Failure::interrupted()),
        ran = run(&args, json) => ran.map_err(|error| Failure::usage(format!("{error:#}")))?,
    };
    let object = serde_json::to_value(&report).map_err(|error| Failure::usage(error.to_string()))?;
    let answer = Answer::new(object, report.to_string());
    let mut answer = if report.ok { answer } else { answer.negative() };
    if args.keep {
        answer.print(json);
        answer = answer.told();
        invite(&report, &network);
        // If Ctrl-C cannot be waited for, there is nothing to wait for.
        let _ = tokio::signal::ctrl_c().await;
    }
    network.stop().await;
    drop(data);
    Ok(answer)
}

/// Everything up to the report; the network lives on, and its directory as long as the third is held.
async fn run(args: &Args, quiet: bool) -> anyhow::Result<(Report, Network, Option<tempfile::TempDir>)> {
    let path = match &args.file {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .context("this program does not know where it is; name a file with --file")?,
    };
    let size =
        std::fs::metadata(&path).with_context(|| format!("the file {} cannot be read", path.display()))?;
    ensure!(size.is_file(), "{} is not a file", path.display());
    let data = match args.store {
        Store::Memory => None,
        Store::Redb => Some(temporary_directory(args.nodes, size.len())?),
    };
    // Before bare quinn has run: what it leaves behind counts as the network's, rather than hiding what the network
    // uses.
    let before = measure::resident_bytes();
    let raw = match args.raw {
        true => {
            let bar = spinner(quiet, "measuring bare quinn");
            let in_flight = 3 * args.concurrency as usize;
            let raw = raw::run(args.nodes as usize, in_flight, args.seed).await?;
            bar.finish_and_clear();
            Some(raw)
        }
        false => None,
    };
    let bar = counter(quiet, "joining", args.nodes);
    let data_path = data.as_ref().map(tempfile::TempDir::path);
    let (mut network, joining) = Network::start(
        args.nodes as usize,
        args.join_at_once as usize,
        args.seed,
        data_path,
        &bar,
    )
    .await?;
    bar.finish_and_clear();
    let resident = measure::resident_bytes().saturating_sub(before);
    let connections = network.totals().await?.connections;
    let nodes = network.nodes.len() as f64;

    let mut story = Story {
        args,
        quiet,
        network: &mut network,
        broken: Vec::new(),
    };
    let (lookups, values, kept) = story.before().await?;
    let (mut file, keys) = story.put(&path).await?;
    (file.copies_mean, file.copies_min) = story.copies(&keys).await?;
    let killed = story.network.kill(args.kill)?;
    // Values first: whatever comes before them would find out who is dead, and they would not have to.
    let values_after_kill = match killed {
        0 => None,
        _ => Some(story.values_after_kill(kept).await?),
    };
    story.get(&path, &mut file).await?;
    let lookups_after_kill = match killed {
        0 => None,
        _ => Some(story.lookups_after_kill().await?),
    };
    (file.copies_mean_after_kill, file.copies_min_after_kill) = story.copies(&keys).await?;
    let broken = story.broken;

    let raw = raw.map(|raw| RawReport {
        rpc_per_second_ratio: round(lookups.rpcs_per_second / raw.rpc_per_second),
        cpu_ratio: round(lookups.cpu_ms_per_rpc / raw.cpu_ms_per_rpc),
        raw,
    });
    let mib = 1024.0 * 1024.0;
    let over = (resident as f64 - nodes * mib).max(0.0);
    let report = Report {
        nodes: args.nodes as usize,
        k: network.k(),
        store: if args.store == Store::Redb {
            "redb"
        } else {
            "memory"
        },
        seed: args.seed,
        join_ms: millis(joining.took),
        last_join_ms: millis(joining.last),
        killed,
        cpu_ms_per_rpc: lookups.cpu_ms_per_rpc,
        lookups,
        lookups_after_kill,
        values,
        values_after_kill,
        file,
        rss_mib_per_node: round(resident as f64 / nodes / mib),
        connections,
        rss_kib_per_connection_end_over_1_mib: round(over / 1024.0 / connections.max(1) as f64),
        raw,
        ok: broken.is_empty(),
        broken,
    };
    Ok((report, network, data))
}

/// What happens in a test network, and what did not hold.
struct Story<'a> {
    args: &'a Args,
    quiet: bool,
    network: &'a mut Network,
    broken: Vec<String>,
}

impl Story<'_> {
    /// Lookups and values while nobody has died, when every answer must be right.
    async fn before(&mut self) -> anyhow::Result<(measure::Lookups, Values, Vec<Kept>)> {
        let bar = spinner(self.quiet, "lookups before the kill");
        load::warm_up(self.network).await?;
        let (count, concurrency) = (self.args.lookups as usize, self.args.concurrency as usize);
        let lookups = load::lookups(self.network, count, concurrency).await?;
        if lookups.exact_share < 1.0 {
            self.broken.push(format!(
                "only {} of the lookups before the kill found the true k closest",
                lookups.exact_share
            ));
        }
        bar.set_message("values before the kill");
        let count = self.args.values as usize;
        let (values, kept) = values::puts_then_gets(self.network, count, VALUE_CONCURRENCY).await?;
        self.expect_all_found(&values, "before the kill");
        bar.finish_and_clear();
        Ok((lookups, values, kept))
    }

    /// The first thing after the kill.
    async fn values_after_kill(&mut self, older: Vec<Kept>) -> anyhow::Result<Values> {
        let bar = spinner(self.quiet, "values after the kill");
        let values = values::puts_among_gets(self.network, older, VALUE_CONCURRENCY).await?;
        self.expect_all_found(&values, "after the kill");
        bar.finish_and_clear();
        Ok(values)
    }

    async fn lookups_after_kill(&mut self) -> anyhow::Result<measure::Lookups> {
        let bar = spinner(self.quiet, "lookups after the kill");
        // While nodes find out who is dead they wait more than they work, so more lookups run side by side.
        let (count, concurrency) = (
            self.args.lookups as usize,
            VALUE_CONCURRENCY.max(self.args.concurrency as usize),
        );
        let lookups = load::lookups(self.network, count, concurrency).await?;
        bar.finish_and_clear();
        Ok(lookups)
    }

    fn expect_all_found(&mut self, values: &Values, when: &str) {
        if values.found_share < 1.0 {
            self.broken.push(format!(
                "only {} of the values {when} were found again",
                values.found_share
            ));
        }
    }

    /// Stores the file from one node; says under which keys its parts are.
    async fn put(&mut self, path: &Path) -> anyhow::Result<(FileReport, Vec<Key>)> {
        let bytes = tokio::fs::metadata(path).await?.len();
        let bar = transfer(self.quiet, "storing", bytes);
        let file = tokio::fs::File::open(path)
            .await
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let started = Instant::now();
        let writer = self.network.nodes.last().context("there is no node")?.clone();
        let stored = writer
            .put_file(file, FileOptions::default(), |done| bar.set_position(done.bytes))
            .await?;
        let took = started.elapsed();
        bar.finish_and_clear();
        let (blake3, keys) = chunks(path).await?;
        let report = FileReport {
            bytes: stored.bytes,
            chunks: stored.chunks,
            key: stored.key.to_string(),
            blake3: blake3.to_hex().to_string(),
            put_ms: millis(took),
            get_ms: 0.0,
            get_rpcs_per_chunk: 0.0,
            identical: false,
            copies_mean: 0.0,
            copies_min: 0,
            copies_mean_after_kill: 0.0,
            copies_min_after_kill: 0,
        };
        Ok((report, keys))
    }

    /// Reads the file through another node and compares it with the original.
    async fn get(&mut self, path: &Path, report: &mut FileReport) -> anyhow::Result<()> {
        let bar = transfer(self.quiet, "reading back", report.bytes);
        let key: Key = report.key.parse()?;
        let reader = self.network.nodes[self.network.nodes.len() / 2].clone();
        let mut hashing = Hashing(blake3::Hasher::new());
        let started = Instant::now();
        let fetched = reader
            .get_file(key, &mut hashing, FetchOptions::default(), |done| {
                bar.set_position(done.bytes);
            })
            .await;
        bar.finish_and_clear();
        report.get_ms = millis(started.elapsed());
        match fetched {
            Ok(fetched) => {
                report.get_rpcs_per_chunk = round(fetched.rpcs as f64 / fetched.chunks.max(1) as f64);
                report.identical = hashing.0.finalize().to_hex().as_str() == report.blake3;
                if !report.identical {
                    self.broken
                        .push(format!("what was read back is not {}", path.display()));
                }
            }
            Err(error) => self
                .broken
                .push(format!("the file could not be read back: {error}")),
        }
        Ok(())
    }

    /// How many nodes hold each part of the file: the mean and the fewest.
    async fn copies(&mut self, keys: &[Key]) -> anyhow::Result<(f64, usize)> {
        let bar = counter(self.quiet, "counting copies", keys.len() as u64);
        let asker = &self.network.nodes[0];
        let counting = stream::iter(keys.to_vec()).map(|key| {
            let bar = &bar;
            async move {
                let holders = asker.census(key, Kind::Immutable).await?;
                bar.inc(1);
                anyhow::Ok(holders.len())
            }
        });
        let copies: Vec<usize> = counting
            .buffer_unordered(CENSUS_CONCURRENCY)
            .try_collect()
            .await?;
        bar.finish_and_clear();
        Ok((
            mean(copies.iter().map(|&copies| copies as f64)),
            copies.iter().copied().min().unwrap_or(0),
        ))
    }
}

/// Feeds what is written to a hash.
struct Hashing(blake3::Hasher);

impl tokio::io::AsyncWrite for Hashing {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.0.update(bytes);
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

/// The hash of the original, and the keys of its chunks: computed from the file alone, not from what the network says.
async fn chunks(path: &Path) -> anyhow::Result<(blake3::Hash, Vec<Key>)> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let (mut file, mut hasher, mut keys) =
            (std::fs::File::open(path)?, blake3::Hasher::new(), Vec::new());
        let mut chunk = Vec::with_capacity(MAX_CHUNK as usize);
        loop {
            chunk.clear();
            file.by_ref().take(MAX_CHUNK).read_to_end(&mut chunk)?;
            if chunk.is_empty() && !keys.is_empty() {
                return std::io::Result::Ok((hasher.finalize(), keys));
            }
            hasher.update(&chunk);
            keys.push(immutable_key(Content::Plain, &chunk));
        }
    });
    Ok(read.await??)
}

/// A directory for the stores, where there is room for them.
fn temporary_directory(nodes: u64, file: u64) -> anyhow::Result<tempfile::TempDir> {
    /// An empty store, its identity and its contacts.
    const NODE_BYTES: u64 = 4 << 20;
    /// redb's pages and indexes, and the copy that a transaction makes.
    const OVERHEAD: u64 = 3;
    let directory = tempfile::Builder::new().prefix("kad-testnet-").tempdir()?;
    let copies = nodes.min(u64::from(kad_core::Parameters::default().k));
    let needed = nodes * NODE_BYTES + OVERHEAD * copies * file;
    let free = nix::sys::statvfs::statvfs(directory.path())?;
    let free = free.blocks_available() as u64 * free.fragment_size() as u64;
    ensure!(
        free >= needed,
        "{} has {} MB free and the test needs about {} MB; use --store memory, a smaller --file, or set TMPDIR",
        directory.path().display(),
        free / 1_000_000,
        needed / 1_000_000,
    );
    Ok(directory)
}

/// How to reach a network that was kept.
fn invite(report: &Report, network: &Network) {
    let (peer, name) = (network.first(), network.name());
    eprintln!("\nthe network goes on running; from another terminal:");
    eprintln!("  kad-node put FILE --network {name} --bootstrap {peer}");
    eprintln!(
        "  kad-node get {} --network {name} --bootstrap {peer} -o copy",
        report.file.key
    );
    eprintln!("Ctrl-C ends it");
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn spinner(quiet: bool, message: &str) -> ProgressBar {
    let bar = if quiet {
        ProgressBar::hidden()
    } else {
        ProgressBar::new_spinner()
    };
    bar.enable_steady_tick(Duration::from_millis(100));
    bar.with_message(message.to_owned())
}

fn counter(quiet: bool, message: &str, total: u64) -> ProgressBar {
    let bar = if quiet {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(total)
    };
    bar.with_style(style("{msg:>16} [{bar:32}] {pos}/{len}"))
        .with_message(message.to_owned())
}

fn transfer(quiet: bool, message: &str, bytes: u64) -> ProgressBar {
    let bar = if quiet {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(bytes)
    };
    let template = "{msg:>16} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec}";
    bar.with_style(style(template)).with_message(message.to_owned())
}
