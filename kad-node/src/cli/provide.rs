//! `provide` and `providers`: who has what a key names.

use std::path::PathBuf;

use clap::Args;
use comfy_table::Table;
use kad_core::record::MAX_PROVIDER_PAYLOAD;
use kad_core::{Key, Keypair};
use kad_net::quic::QuicAddress;
use kad_node::{Node, OneOfMany, PutOptions, Stored};
use serde_json::{Value, json};

use super::arguments::{ClientArgs, NetworkArgs, StoreArgs, date, parse_key, signing_key, until};
use super::client::with_node;
use super::lists::{self, Ledger};
use super::reply::{Answer, Failure};
use super::values::{addresses, stored_json, stored_text};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kad-node provide KEY --key mine.key --payload https://example.org/it --bootstrap 192.0.2.7:4000\n  \
                  kad-node provide KEY --key mine.key --withdraw --bootstrap 192.0.2.7:4000\n  \
                  kad-node provide --list keys --key mine.key --stay --bootstrap 192.0.2.7:4000\n\n\
                  Lines of a list are keys, and what follows a blank is not read, so that what 'put' prints is a list. Of several \
                  keys one line is printed for each. With --stay SIGINT or SIGTERM ends it, and a second one at once."
)]
pub(crate) struct ProvideArgs {
    /// What you have: 64 hexadecimal digits
    #[arg(value_name = "KEY", value_parser = parse_key, required_unless_present = "list")]
    keys: Vec<Key>,
    /// Announce the keys that this file names, one on each line; - is standard input
    #[arg(long, value_name = "FILE|-", conflicts_with = "keys")]
    list: Option<PathBuf>,
    /// The key file that you sign with
    #[arg(long = "key", value_name = "FILE")]
    signer: Option<PathBuf>,
    /// What to add, such as where to find you: at most 1024 bytes
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = parse_payload)]
    payload: String,
    /// Take the announcement back
    #[arg(long, conflicts_with_all = ["payload", "stay"])]
    withdraw: bool,
    /// Stay, announce it again before it ends, and take it back when told to stop
    #[arg(long)]
    pub(super) stay: bool,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    network: NetworkArgs,
}

fn parse_payload(text: &str) -> Result<String, String> {
    match text.len() > MAX_PROVIDER_PAYLOAD {
        true => Err(format!(
            "it has {} bytes, and {MAX_PROVIDER_PAYLOAD} are the most",
            text.len()
        )),
        false => Ok(text.to_owned()),
    }
}

/// What is to be announced, and by whom.
pub(super) struct Announced {
    pub(super) provider: Keypair,
    pub(super) keys: Vec<Key>,
    pub(super) payload: String,
    pub(super) options: PutOptions,
}

impl ProvideArgs {
    /// What they say, in full, and the network.
    pub(super) async fn read(self) -> Result<(Announced, NetworkArgs), Failure> {
        let provider = signing_key(self.signer.as_ref())?;
        let keys = match &self.list {
            Some(list) => {
                let lines = lists::read(list, lists::key).await?;
                lines.into_iter().map(|line| line.item).collect()
            }
            None => self.keys,
        };
        let announced = Announced {
            provider,
            keys,
            payload: self.payload,
            options: self.store.options(),
        };
        Ok((announced, self.network))
    }
}

pub(crate) async fn provide(args: ProvideArgs, json: bool) -> Result<Answer, Failure> {
    let withdraw = args.withdraw;
    let (announced, network) = args.read().await?;
    with_node(&network, None, json, async move |node| {
        match (&announced.keys[..], withdraw) {
            ([key], _) => one(node, &announced, *key, withdraw).await,
            (_, false) => {
                let mut ledger = Ledger::new("announcing", announced.keys.len(), json);
                announce(node, &announced, announced.keys.clone(), |one| {
                    tell(&mut ledger, one);
                })
                .await?;
                ledger.end(json!({ "withdrawn": false }), "keys", "announced")
            }
            (_, true) => {
                let mut ledger = Ledger::new("withdrawing", announced.keys.len(), json);
                withdraw_all(node, &announced, |one| tell(&mut ledger, one)).await?;
                ledger.end(json!({ "withdrawn": true }), "keys", "withdrawn")
            }
        }
    })
    .await
}

async fn one(node: &Node, announced: &Announced, key: Key, withdraw: bool) -> Result<Answer, Failure> {
    let Announced {
        provider,
        payload,
        options,
        ..
    } = announced;
    let stored = match withdraw {
        true => node.stop_providing(provider, key).await?,
        false => node.provide(provider, key, payload.as_bytes(), *options).await?,
    };
    let mut fields = stored_json(&stored);
    fields["provider"] = json!(provider.node_id().to_string());
    fields["public_key"] = json!(provider.public().to_string());
    fields["withdrawn"] = json!(withdraw);
    let text = format!(
        "{} {}\n{}",
        if withdraw { "withdrew" } else { "provide " },
        stored.key,
        stored_text(&stored)
    );
    Ok(Answer::new(fields, text))
}

/// Announces keys, and tells of each.
pub(super) async fn announce(
    node: &Node,
    announced: &Announced,
    keys: Vec<Key>,
    told: impl FnMut(OneOfMany<Stored<QuicAddress>>) + Send,
) -> Result<(), Failure> {
    let (provider, payload) = (&announced.provider, announced.payload.as_bytes());
    node.provide_many(provider, keys, payload, announced.options, told)
        .await?;
    Ok(())
}

/// Takes all announcements back, and tells of each.
pub(super) async fn withdraw_all(
    node: &Node,
    announced: &Announced,
    told: impl FnMut(OneOfMany<Stored<QuicAddress>>) + Send,
) -> Result<(), Failure> {
    let keys = announced.keys.iter().copied();
    node.stop_providing_many(&announced.provider, keys, told).await?;
    Ok(())
}

/// A line or an object of one key.
pub(super) fn tell(ledger: &mut Ledger, one: OneOfMany<Stored<QuicAddress>>) {
    let key = one.key.to_string();
    match one.outcome {
        Ok(stored) => {
            let fields = json!({
                "key": key,
                "copies": stored.copies(),
                "expires": date(stored.expires),
                "expires_unix": stored.expires.as_secs(),
            });
            ledger.good(&fields, &key);
        }
        Err(error) => ledger.bad(json!({ "key": key }), &key, &error.into()),
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kad-node providers KEY --count 5 --bootstrap 192.0.2.7:4000")]
pub(crate) struct ProvidersArgs {
    /// What is wanted: 64 hexadecimal digits
    #[arg(value_name = "KEY", value_parser = parse_key)]
    wanted: Key,
    /// How many are enough
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    count: u16,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn providers(args: ProvidersArgs, json: bool) -> Result<Answer, Failure> {
    let ProvidersArgs {
        wanted: key,
        count,
        client,
    } = args;
    with_node(&client.network, client.key.as_deref(), json, async move |node| {
        let found = node.providers(key, usize::from(count)).await?;
        if found.is_empty() {
            return Err(Failure::negative(format!("nobody provides {key}")));
        }
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["node id", "public key", "address", "until", "payload"]);
        let mut all = Vec::new();
        for provider in &found {
            let text = std::str::from_utf8(&provider.payload).ok();
            let id = provider.id.to_string();
            let public_key = provider.public_key.to_string();
            let sockets = provider.address.as_ref().map_or_else(Vec::new, addresses);
            table.add_row([
                id.clone(),
                public_key.clone(),
                sockets.join(", "),
                until(provider.expires),
                // Strangers wrote this; nothing of it reaches the terminal as it is.
                text.map_or_else(|| hex(&provider.payload), |text| text.escape_debug().to_string()),
            ]);
            all.push(json!({
                "id": id,
                "public_key": public_key,
                "addresses": sockets,
                "payload": text.map_or(Value::Null, Value::from),
                "payload_hex": hex(&provider.payload),
                "expires": date(provider.expires),
                "expires_unix": provider.expires.as_secs(),
            }));
        }
        let fields = json!({ "key": key.to_string(), "providers": all });
        Ok(Answer::new(fields, table.trim_fmt()))
    })
    .await
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
