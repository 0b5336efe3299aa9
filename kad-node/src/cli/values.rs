//! `put` and `get`: content under its hash.

use std::path::PathBuf;

use clap::Args;
use kad_core::{Contact, Key, UnixTime};
use kad_net::WireAddress as _;
use kad_net::quic::QuicAddress;
use kad_node::Stored;
use serde_json::{Value, json};

use super::arguments::{ClientArgs, StoreArgs, date, parse_key, until};
use super::client::with_node;
use super::progress::Progress;
use super::reply::{Answer, Failure};
use super::streams::{Sink, Source};
use super::transfer;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kad-node put --bootstrap 192.0.2.7:4000 notes.txt\n  \
                        date | kad-node put --bootstrap 192.0.2.7:4000 --ttl 1h --json -"
)]
pub(crate) struct PutArgs {
    /// What to store; - is standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn put(args: PutArgs, json: bool) -> Result<Answer, Failure> {
    let source = Source::open(&args.file).await?;
    let PutArgs { store, client, .. } = args;
    with_node(&client.network, client.key.as_deref(), json, async move |node| {
        let progress = Progress::bytes("storing", source.size(), json);
        let stored = transfer::put(node, source, store.options(), &progress).await?;
        drop(progress);
        let fields = json!({
            "key": stored.key.to_string(),
            "bytes": stored.bytes,
            "chunks": stored.chunks,
            "indexes": stored.indexes,
            "copies": stored.copies_min,
            "copies_mean": stored.copies_mean,
            "stored_at": stored.holders_of_root.iter().map(contact_json).collect::<Vec<_>>(),
            "requests": stored.rpcs,
            "expires": date(stored.expires),
            "expires_unix": stored.expires.as_secs(),
        });
        let text = format!(
            "key     {}\nbytes   {}\nchunks  {}\n{}",
            stored.key,
            stored.bytes,
            stored.chunks,
            places(stored.expires, stored.copies_min, &stored.holders_of_root)
        );
        Ok(Answer::new(fields, text))
    })
    .await
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kad-node get --bootstrap 192.0.2.7:4000 KEY -o notes.txt\n  \
                        kad-node get --bootstrap 192.0.2.7:4000 KEY | less\n\n\
                        Every byte is verified. A file that exists is replaced once the new one is whole, and not before."
)]
pub(crate) struct GetArgs {
    /// What to fetch: 64 hexadecimal digits
    #[arg(value_name = "KEY", value_parser = parse_key)]
    key_of_value: Key,
    /// Where to write it [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn get(args: GetArgs, json: bool) -> Result<Answer, Failure> {
    let GetArgs {
        key_of_value: key,
        output,
        client,
    } = args;
    let mut sink = open_sink(output.as_ref(), json).await?;
    with_node(&client.network, client.key.as_deref(), json, async move |node| {
        let progress = Progress::bytes("fetching", None, json);
        let fetched = transfer::get(node, key, &mut sink, &progress).await?;
        drop(progress);
        sink.keep().await?;
        let fields = json!({
            "key": key.to_string(),
            "bytes": fetched.bytes,
            "chunks": fetched.chunks,
            "requests": fetched.rpcs,
            "output": output.as_ref().map(|path| path.display().to_string()),
            "expires": date(fetched.expires),
            "expires_unix": fetched.expires.as_secs(),
        });
        Ok(Answer::new(fields, written(output.as_ref(), fetched.bytes)))
    })
    .await
}

/// The sink of a command that fetches. Bytes and JSON do not go to the same place.
pub(crate) async fn open_sink(output: Option<&PathBuf>, json: bool) -> Result<Sink, Failure> {
    if json && output.is_none() {
        return Err(Failure::usage(
            "with --json standard output is for the JSON object; give a file with -o FILE",
        ));
    }
    Sink::open(output.map(PathBuf::as_path)).await
}

/// What to say of what was written; nothing if it was written where this would be said.
pub(crate) fn written(output: Option<&PathBuf>, bytes: u64) -> String {
    output.map_or_else(String::new, |path| {
        format!("{bytes} bytes written to {}", path.display())
    })
}

/// A contact, for programs.
pub(crate) fn contact_json(contact: &Contact<QuicAddress>) -> Value {
    json!({ "id": contact.id.to_string(), "addresses": addresses(&contact.address) })
}

/// The socket addresses, as text.
pub(crate) fn addresses(address: &QuicAddress) -> Vec<String> {
    address.sockets().iter().map(ToString::to_string).collect()
}

/// Where something was stored, for programs.
pub(crate) fn stored_json(stored: &Stored<QuicAddress>) -> Value {
    json!({
        "key": stored.key.to_string(),
        "copies": stored.copies(),
        "stored_at": stored.holders.iter().map(contact_json).collect::<Vec<_>>(),
        "refused": stored.refused,
        "expires": date(stored.expires),
        "expires_unix": stored.expires.as_secs(),
    })
}

/// Where something was stored, for people.
pub(crate) fn stored_text(stored: &Stored<QuicAddress>) -> String {
    places(stored.expires, stored.copies(), &stored.holders)
}

fn places(expires: UnixTime, copies: usize, holders: &[Contact<QuicAddress>]) -> String {
    let mut text = format!("until   {}\ncopies  {copies}", until(expires));
    for holder in holders {
        text = format!("{text}\n        {} at {}", holder.id, holder.address);
    }
    text
}
