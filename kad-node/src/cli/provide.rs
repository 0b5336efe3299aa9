//! `provide` and `providers`: who has what a key names.

use std::path::PathBuf;

use clap::Args;
use comfy_table::Table;
use kad_core::Key;
use kad_core::record::MAX_PROVIDER_PAYLOAD;
use serde_json::{Value, json};

use super::arguments::{ClientArgs, NetworkArgs, StoreArgs, date, parse_key, signing_key, until};
use super::client::with_node;
use super::reply::{Answer, Failure};
use super::values::{addresses, stored_json, stored_text};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kad-node provide KEY --key mine.key --payload https://example.org/it --bootstrap 192.0.2.7:4000\n  \
                  kad-node provide KEY --key mine.key --withdraw --bootstrap 192.0.2.7:4000"
)]
pub(crate) struct ProvideArgs {
    /// What you have: 64 hexadecimal digits
    #[arg(value_name = "KEY", value_parser = parse_key)]
    provided: Key,
    /// The key file that you sign with
    #[arg(long = "key", value_name = "FILE")]
    signer: Option<PathBuf>,
    /// What to add, such as where to find you: at most 1024 bytes
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = parse_payload)]
    payload: String,
    /// Take the announcement back
    #[arg(long, conflicts_with = "payload")]
    withdraw: bool,
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

pub(crate) async fn provide(args: ProvideArgs, json: bool) -> Result<Answer, Failure> {
    let provider = signing_key(args.signer.as_ref())?;
    let ProvideArgs {
        provided: key,
        payload,
        withdraw,
        store,
        network,
        ..
    } = args;
    with_node(&network, None, json, async move |node| {
        let stored = match withdraw {
            true => node.stop_providing(&provider, key).await?,
            false => {
                node.provide(&provider, key, payload.as_bytes(), store.options())
                    .await?
            }
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
    })
    .await
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
