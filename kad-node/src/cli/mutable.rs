//! `put-mutable`, `get-mutable`, `delete-mutable`: records that belong to a key and change.
//!
//! The key file signs and nothing else. The client itself is somebody new every time, so that it does not meet a node
//! that runs under the same key.

use std::path::PathBuf;

use clap::Args;
use kad_core::{Keypair, MAX_SALT, PublicKey};
use kad_node::{MutableOptions, PutOptions};
use serde_json::json;

use super::arguments::{ClientArgs, NetworkArgs, StoreArgs, date, parse_public_key, signing_key};
use super::client::with_node;
use super::reply::{Answer, Failure};
use super::streams::Source;
use super::values::{open_sink, stored_json, stored_text, written};

/// Whose record, and which one.
#[derive(Debug, Args)]
struct OwnArgs {
    /// The key file of the owner
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Which record of this owner: a name of at most 64 bytes
    #[arg(long, value_name = "NAME", value_parser = parse_salt)]
    salt: String,
    #[command(flatten)]
    network: NetworkArgs,
}

pub(crate) fn parse_salt(text: &str) -> Result<String, String> {
    match text.len() > MAX_SALT {
        true => Err(format!(
            "it has {} bytes, and {MAX_SALT} are the most",
            text.len()
        )),
        false => Ok(text.to_owned()),
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kad-node put-mutable --key owner.key --salt profile --bootstrap 192.0.2.7:4000 profile.json\n  \
                  echo hello | kad-node put-mutable --key owner.key --salt status --expected 3 --bootstrap 192.0.2.7:4000 -"
)]
pub(crate) struct PutArgs {
    /// The new value; - is standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    #[command(flatten)]
    own: OwnArgs,
    /// The version to write [default: one more than the newest]
    #[arg(long, value_name = "N")]
    seq: Option<u64>,
    /// Write only where this is the version held, 0 for none
    #[arg(long, value_name = "N")]
    expected: Option<u64>,
    #[command(flatten)]
    store: StoreArgs,
}

pub(crate) async fn put(args: PutArgs, json: bool) -> Result<Answer, Failure> {
    let owner = signing_key(args.own.key.as_ref())?;
    let mut source = Source::open(&args.file).await?;
    let mut options = MutableOptions::default();
    options.put = args.store.options();
    options.seq = args.seq;
    options.expected = args.expected;
    let OwnArgs { salt, network, .. } = args.own;
    with_node(&network, None, json, async move |node| {
        let value = source.read_all(node.rules().max_value).await?;
        let stored = node.put_mutable(&owner, salt.as_bytes(), &value, options).await?;
        Ok(told(&owner, &salt, &stored))
    })
    .await
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kad-node delete-mutable --key owner.key --salt profile --bootstrap 192.0.2.7:4000"
)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    own: OwnArgs,
    /// Delete only where this is the version held
    #[arg(long, value_name = "N")]
    expected: Option<u64>,
    /// How many nodes must acknowledge
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=32))]
    quorum: u16,
}

pub(crate) async fn delete(args: DeleteArgs, json: bool) -> Result<Answer, Failure> {
    let owner = signing_key(args.own.key.as_ref())?;
    let mut options = MutableOptions::default();
    options.put = PutOptions::default()
        .quorum(usize::from(args.quorum))
        .settle(true);
    options.expected = args.expected;
    let OwnArgs { salt, network, .. } = args.own;
    with_node(&network, None, json, async move |node| {
        let stored = node.delete_mutable(&owner, salt.as_bytes(), options).await?;
        Ok(told(&owner, &salt, &stored))
    })
    .await
}

fn told(owner: &Keypair, salt: &str, stored: &kad_node::Stored<kad_net::quic::QuicAddress>) -> Answer {
    let mut fields = stored_json(stored);
    fields["owner"] = json!(owner.public().to_string());
    fields["salt"] = json!(salt);
    fields["seq"] = json!(stored.seq);
    let text = format!(
        "owner   {}\nversion {}\n{}",
        owner.public(),
        stored.seq,
        stored_text(stored)
    );
    Answer::new(fields, text)
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kad-node get-mutable PUBLIC_KEY --salt profile --bootstrap 192.0.2.7:4000"
)]
pub(crate) struct GetArgs {
    /// The owner's public key: 64 hexadecimal digits
    #[arg(value_parser = parse_public_key)]
    public_key: PublicKey,
    /// Which record of this owner
    #[arg(long, value_name = "NAME", value_parser = parse_salt)]
    salt: String,
    /// Where to write it [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn get(args: GetArgs, json: bool) -> Result<Answer, Failure> {
    let GetArgs {
        public_key: owner,
        salt,
        output,
        client,
    } = args;
    let mut sink = open_sink(output.as_ref(), json).await?;
    with_node(&client.network, client.key.as_deref(), json, async move |node| {
        let Some(found) = node.get_mutable(&owner, salt.as_bytes()).await? else {
            return Err(Failure::negative(format!(
                "{owner} has no record under {salt:?}; it may have expired, been deleted, or never have been there"
            )));
        };
        sink.write(&found.value).await?;
        sink.keep().await?;
        let fields = json!({
            "owner": owner.to_string(),
            "salt": salt,
            "seq": found.seq,
            "bytes": found.value.len(),
            "holders": found.holders,
            "output": output.as_ref().map(|path| path.display().to_string()),
            "expires": date(found.expires),
            "expires_unix": found.expires.as_secs(),
        });
        Ok(Answer::new(fields, written(output.as_ref(), found.value.len() as u64)))
    })
    .await
}
