//! `repair`: a file is looked after by somebody who need not be able to read it.

use std::time::Duration;

use clap::Args;
use kad_core::Key;
use kad_node::PutOptions;
use kad_node::file::{DEFAULT_COPIES, FetchOptions, Repair};
use serde_json::json;

use super::arguments::{ClientArgs, parse_key, parse_span};
use super::client::with_node;
use super::progress::Progress;
use super::reply::{Answer, Failure};
use super::transfer::unfetched;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kad-node repair KEY --bootstrap 192.0.2.7:4000\n\n\
                  As 'kad-node get --repair', but nothing is written, and the secret of an encrypted file is not needed.")]
pub(crate) struct RepairArgs {
    /// What to repair: 64 hexadecimal digits
    #[arg(value_name = "KEY", value_parser = parse_key)]
    file: Key,
    /// How many copies of each chunk are enough
    #[arg(
        long,
        value_name = "N",
        default_value_t = DEFAULT_COPIES as u16,
        value_parser = clap::value_parser!(u16).range(1..=32)
    )]
    copies: u16,
    /// The life of what is stored again
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "24h")]
    ttl: Duration,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn repair(args: RepairArgs, json: bool) -> Result<Answer, Failure> {
    let RepairArgs {
        file: key,
        copies,
        ttl,
        client,
    } = args;
    let put = PutOptions::default().settle(true).ttl(ttl);
    let options = FetchOptions::default().repair(Repair::default().copies(usize::from(copies)).put(put));
    with_node(&client.network, client.key.as_deref(), json, async move |node| {
        let progress = Progress::bytes("looking after", None, json);
        let told = |done: kad_node::file::Progress| progress.reach(done.bytes, done.total);
        let tended = node.repair_file(key, options, told).await.map_err(unfetched)?;
        drop(progress);
        let fields = json!({
            "key": key.to_string(),
            "bytes": tended.bytes,
            "chunks": tended.chunks,
            "parity": tended.parity,
            "indexes": tended.indexes,
            "restored": tended.restored,
            "repair": {
                "checked": tended.repair.checked,
                "stored": tended.repair.stored,
                "failed": tended.repair.failed,
            },
        });
        let answer = Answer::new(fields, super::values::mended(tended.repair, tended.restored));
        Ok(match tended.repair.failed {
            0 => answer,
            _ => answer.negative(),
        })
    })
    .await
}
