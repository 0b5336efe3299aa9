//! `crawl`: a walk over the whole network.

mod plot;
mod report;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use kad_node::crawl::{DEFAULT_MAX_NODES, DEFAULT_PARALLEL, MAX_PARALLEL};
use kad_node::{Crawl, CrawlOptions, Node};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::arguments::ClientArgs;
use super::client::with_node;
use super::progress::Progress;
use super::reply::{Answer, Failure};
use super::streams::Sink;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kad-node crawl --bootstrap 192.0.2.7:4000\n  \
                  kad-node crawl --bootstrap 192.0.2.7:4000 --plot network.svg --json\n\n\
                  It joins without serving anybody and asks every node that it hears of for its contacts, bucket by \
                  bucket. Of public addresses only a few at one host and one site are dialled at a time, and none \
                  where several were just found dead, so what it could not ask is told as unknown. Ctrl-C ends it \
                  early, prints what was found until then, and exits with 130.")]
pub(crate) struct Args {
    #[command(flatten)]
    client: ClientArgs,
    /// Questions under way at a time
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PARALLEL, value_parser = at_once)]
    parallel: usize,
    /// Nodes to follow; further ones are counted and not asked
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_NODES, value_parser = at_least_one)]
    max_nodes: usize,
    /// Draw round trips and dead contacts into this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

fn at_once(text: &str) -> Result<usize, String> {
    let number = at_least_one(text)?;
    match number > MAX_PARALLEL {
        true => Err(format!("{MAX_PARALLEL} are the most")),
        false => Ok(number),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| "not a number of things".to_owned())?;
    match number {
        0 => Err("one is the least".to_owned()),
        number => Ok(number),
    }
}

pub(crate) async fn execute(args: Args, json: bool) -> Result<Answer, Failure> {
    // A name that cannot be used is told before anybody is asked anything.
    let plot = args.plot.as_deref().map(|path| Sink::of_file(path, "--plot"));
    let plot = plot.transpose()?;
    let options = CrawlOptions::default()
        .parallel(args.parallel)
        .max_nodes(args.max_nodes);
    // From here on a signal is not lost: until the crawl begins it ends the command, then only the crawl.
    let (mut before, during) = (interrupts()?, interrupts()?);
    let begun = AtomicBool::new(false);
    let crawling = with_node(
        &args.client.network,
        args.client.key.as_deref(),
        json,
        async |node: &Node| {
            begun.store(true, Ordering::Relaxed);
            let crawl = walk(node, options, during, json).await?;
            if let Some(mut sink) = plot {
                sink.write(plot::draw(&crawl)?.as_bytes()).await?;
                sink.keep().await?;
            }
            let answer = Answer::new(
                report::json(&crawl, args.plot.as_deref()),
                report::text(&crawl, args.plot.as_deref()),
            );
            Ok(if crawl.stopped {
                answer.interrupted()
            } else {
                answer
            })
        },
    );
    tokio::pin!(crawling);
    tokio::select! {
        biased;
        done = &mut crawling => done,
        _ = before.recv() => match begun.load(Ordering::Relaxed) {
            true => crawling.await,
            false => Err(Failure::interrupted()),
        },
    }
}

async fn walk(
    node: &Node,
    options: CrawlOptions,
    mut interrupts: Signal,
    json: bool,
) -> Result<Crawl, Failure> {
    let bar = Progress::nodes("crawling", json);
    let stop = async move {
        interrupts.recv().await;
    };
    let watch = |at: kad_node::crawl::CrawlProgress| bar.count(at.settled, at.heard);
    Ok(node.crawl_until(options, stop, watch).await?)
}

fn interrupts() -> Result<Signal, Failure> {
    signal(SignalKind::interrupt())
        .map_err(|error| Failure::usage(format!("Ctrl-C cannot be waited for: {error}")))
}
