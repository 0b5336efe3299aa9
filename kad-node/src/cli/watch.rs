//! `watch`: the versions of a record that belongs to a key, as they come.

use std::time::Duration;

use clap::Args;
use kad_core::PublicKey;
use kad_core::record::mutable_key;
use kad_node::{Change, WatchOptions};
use serde_json::{Value, json};

use super::arguments::{ClientArgs, date, parse_public_key, parse_span, until};
use super::client::with_node;
use super::mutable::parse_salt;
use super::reply::{self, Answer, Failure};

/// Characters of a value that a line shows.
const SHOWN: usize = 120;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kad-node watch PUBLIC_KEY --salt profile --bootstrap 192.0.2.7:4000\n  \
                  kad-node watch PUBLIC_KEY --salt profile --after 7 --count 1 --json --bootstrap 192.0.2.7:4000"
)]
pub(crate) struct WatchArgs {
    /// The owner's public key: 64 hexadecimal digits
    #[arg(value_parser = parse_public_key)]
    public_key: PublicKey,
    /// Which record of this owner
    #[arg(long, value_name = "NAME", value_parser = parse_salt)]
    salt: String,
    /// Tell only of later versions than this
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
    /// End after so many changes [default: go on until interrupted]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// The longest wait between two looks while nothing changes
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "60s")]
    every: Duration,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn watch(args: WatchArgs, json: bool) -> Result<Answer, Failure> {
    let key = mutable_key(&args.public_key, args.salt.as_bytes());
    let options = WatchOptions::default();
    let options = options
        .after(args.after)
        .every(options.soonest.min(args.every), args.every);
    let (network, identity) = (&args.client.network, args.client.key.as_deref());
    with_node(network, identity, json, async |node| {
        let mut watch = node.watch(key, options);
        let (mut told, mut failing) = (0, false);
        while args.count.is_none_or(|count| told < count) {
            match watch.next().await {
                Some(Ok(change)) => {
                    failing = false;
                    told += 1;
                    reply::try_line(&match json {
                        true => in_json(&change).to_string(),
                        false => in_words(&change),
                    })?;
                }
                // The next look may fare better; a person is told of the first that does not.
                Some(Err(error)) => {
                    if !std::mem::replace(&mut failing, true) {
                        reply::aside(&format!("{error}; trying again"));
                    }
                }
                None => break,
            }
        }
        Ok(Answer::new(json!({ "changes": told }), String::new()))
    })
    .await
}

fn in_json(change: &Change) -> Value {
    let Change::Written(version) = change else {
        return json!({ "seq": change.seq(), "deleted": true });
    };
    let mut fields = json!({
        "seq": version.seq,
        "deleted": false,
        "bytes": version.value.len(),
        "holders": version.holders,
        "expires": date(version.expires),
    });
    match std::str::from_utf8(&version.value) {
        Ok(text) => fields["value"] = json!(text),
        Err(_) => {
            let hex: String = version.value.iter().map(|byte| format!("{byte:02x}")).collect();
            fields["value_hex"] = json!(hex);
        }
    }
    fields
}

/// One line, in which nothing can reach a terminal raw.
fn in_words(change: &Change) -> String {
    let Change::Written(version) = change else {
        return format!("version {} deleted", change.seq());
    };
    let text = String::from_utf8_lossy(&version.value);
    let mut shown: String = text.chars().take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    let (seq, bytes, expires) = (version.seq, version.value.len(), until(version.expires));
    format!("version {seq} {shown:?}, {bytes} bytes, until {expires}")
}
