//! `list` and `forget`: what a data directory keeps, and how well the network does.

use std::path::PathBuf;

use clap::Args;
use comfy_table::Table;
use futures::stream::{self, StreamExt as _};
use kad_core::{Key, Kind};
use kad_node::holdings::{Holding, HoldingKind, Holdings, HoldingsError, Listing};
use kad_node::{Node, NodeError};
use serde_json::{Value, json};

use super::arguments::{NetworkArgs, date, now, parse_key, until};
use super::client::with_node;
use super::config::ConfigFile;
use super::progress::Progress;
use super::reply::{Answer, Failure};

/// Censuses under way at once: a sixteenth of the queries of an application.
const MAX_CENSUSES: usize = 16;

/// Where it lies, and in which network.
#[derive(Debug, Args)]
struct DirectoryArgs {
    /// The data directory of a node that does not run [default: the config file's]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    network: NetworkArgs,
}

impl DirectoryArgs {
    fn open(&self, file: &ConfigFile) -> Result<Holdings, Failure> {
        let Some(data) = self.data.clone().or_else(|| file.data.clone()) else {
            return Err(Failure::usage(
                "no data directory is named; give the one of a node with --data DIR",
            ));
        };
        Ok(Holdings::open(
            &data,
            &self.network.name(file),
            &file.parameters(),
        )?)
    }
}

impl From<HoldingsError> for Failure {
    fn from(error: HoldingsError) -> Self {
        let advice = match &error {
            HoldingsError::NoRecords { .. } | HoldingsError::Directory(_) => {
                "; give the directory of a node with --data"
            }
            _ => "",
        };
        Self::usage(format!("{error}{advice}"))
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kad-node list --data /var/lib/kad-node\n  \
                  kad-node list --data /var/lib/kad-node --bootstrap 192.0.2.7:4000\n\n\
                  With a bootstrap node it counts the copies that others have: the fewest, the median and the most, of up to 33 \
                  records of each file. Else it tells what the disk does.")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    directory: DirectoryArgs,
}

pub(crate) async fn list(args: ListArgs, json: bool) -> Result<Answer, Failure> {
    let ListArgs { directory } = args;
    let file = directory.network.config()?;
    let holdings = directory.open(&file)?;
    let listing = holdings.list(now())?;
    // Others may take it from here on.
    drop(holdings);
    if directory.network.bootstrap(&file)?.is_empty() {
        return Ok(table(&listing, None));
    }
    let network = directory.network;
    with_node(&network, None, json, async |node| {
        let health = census(node, &listing, usize::from(file.parameters().k), json).await?;
        Ok(table(&listing, Some(&health)))
    })
    .await
}

/// How many copies there are.
struct Health {
    /// As many as there should be.
    wanted: usize,
    /// Of each holding, of each key of its sample, ascending.
    copies: Vec<Vec<usize>>,
}

async fn census(node: &Node, listing: &Listing, k: usize, json: bool) -> Result<Health, Failure> {
    let keys: Vec<(usize, Key, Kind)> = (listing.holdings.iter().enumerate())
        .flat_map(|(place, holding)| {
            let kind = match holding.kind {
                HoldingKind::Mutable { .. } => Kind::Mutable,
                HoldingKind::Provider { .. } => Kind::Provider,
                _ => Kind::Immutable,
            };
            holding.sample.iter().map(move |key| (place, *key, kind))
        })
        .collect();
    let Some((_, first, _)) = keys.first().copied() else {
        return Ok(Health {
            wanted: k,
            copies: Vec::new(),
        });
    };
    // A small network has no more nodes that could hold one.
    let wanted = k.min(node.closest(first).await?.contacts.len());
    let progress = Progress::items("counting copies", keys.len(), json);
    let total = keys.len();
    let counting = stream::iter(keys)
        .map(|(place, key, kind)| async move { (place, node.census(key, kind).await) })
        .buffer_unordered(MAX_CENSUSES);
    let mut counting = std::pin::pin!(counting);
    let mut copies = vec![Vec::new(); listing.holdings.len()];
    let mut done = 0;
    while let Some((place, counted)) = counting.next().await {
        let holders = match counted {
            Ok(holders) => holders.iter().filter(|holder| holder.contact.is_some()).count(),
            // Nobody who answered is nobody who has it.
            Err(NodeError::Query(_)) => 0,
            Err(error) => return Err(error.into()),
        };
        copies[place].push(holders.min(wanted));
        done += 1;
        progress.count(done, total);
    }
    copies.iter_mut().for_each(|copies| copies.sort_unstable());
    Ok(Health { wanted, copies })
}

fn table(listing: &Listing, health: Option<&Health>) -> Answer {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let copies_head = health.map(|health| format!("copies of {}", health.wanted));
    let head = ["key", "what", "bytes", "records", "here until"].map(str::to_owned);
    table.set_header(head.into_iter().chain(copies_head));
    let mut all = Vec::new();
    for (place, holding) in listing.holdings.iter().enumerate() {
        let copies = health.map(|health| &health.copies[place][..]);
        let records = match holding.missing {
            0 => holding.records.to_string(),
            missing => format!("{} of {}", holding.records - missing, holding.records),
        };
        let row = [
            holding.key.to_string(),
            what(&holding.kind),
            holding.bytes.to_string(),
            records,
            holding.until.map_or_else(|| "not here yet".to_owned(), until),
        ];
        let of_sample = copies.map(|copies| {
            let Some((fewest, median, most)) = spread(copies) else {
                return String::new();
            };
            match copies.len() {
                1 => fewest.to_string(),
                // Not all were asked about.
                sample if (sample as u64) < holding.records => {
                    format!("{fewest} / {median} / {most} ({sample} records)")
                }
                _ => format!("{fewest} / {median} / {most}"),
            }
        });
        table.add_row(row.into_iter().chain(of_sample));
        all.push(object(holding, copies, health));
    }
    let fields = json!({ "kept": all, "more": listing.more, "damaged": listing.damaged });
    let mut text = match listing.holdings.is_empty() {
        true => "this node keeps nothing of its own".to_owned(),
        false => table.trim_fmt(),
    };
    if listing.more > 0 {
        text = format!("{text}\nand {} more", listing.more);
    }
    if listing.damaged > 0 {
        text = format!("{text}\n{} records are damaged on this disk", listing.damaged);
    }
    Answer::new(fields, text)
}

/// The fewest, the median and the most of what is sorted.
fn spread(sorted: &[usize]) -> Option<(usize, usize, usize)> {
    Some((*sorted.first()?, sorted[sorted.len() / 2], *sorted.last()?))
}

fn what(kind: &HoldingKind) -> String {
    match kind {
        HoldingKind::File { is_sealed, code } => {
            let sealed = if *is_sealed { ", encrypted" } else { "" };
            let coded = code.map_or_else(String::new, |code| format!(", coded {code}"));
            format!("file{sealed}{coded}")
        }
        HoldingKind::Wanted => "to be fetched".to_owned(),
        HoldingKind::Mutable {
            seq,
            is_deleted: true,
        } => format!("deletion {seq}"),
        HoldingKind::Mutable { seq, .. } => format!("version {seq}"),
        HoldingKind::Provider {
            is_withdrawn: true, ..
        } => "withdrawal".to_owned(),
        HoldingKind::Provider { .. } => "announcement".to_owned(),
        _ => "value".to_owned(),
    }
}

fn object(holding: &Holding, copies: Option<&[usize]>, health: Option<&Health>) -> Value {
    let mut fields = json!({
        "key": holding.key.to_string(),
        "what": match holding.kind {
            HoldingKind::File { .. } => "file",
            HoldingKind::Wanted => "wanted",
            HoldingKind::Mutable { .. } => "mutable",
            HoldingKind::Provider { .. } => "provider",
            _ => "value",
        },
        "bytes": holding.bytes,
        "records": holding.records,
        "missing": holding.missing,
        "expires": holding.until.map(date),
        "expires_unix": holding.until.map(kad_core::UnixTime::as_secs),
    });
    match holding.kind {
        HoldingKind::File { is_sealed, code } => {
            fields["encrypted"] = json!(is_sealed);
            fields["code"] = json!(code.map(|code| code.to_string()));
        }
        HoldingKind::Mutable { seq, is_deleted } => {
            fields["seq"] = json!(seq);
            fields["deleted"] = json!(is_deleted);
        }
        HoldingKind::Provider {
            provider,
            is_withdrawn,
        } => {
            fields["provider"] = json!(provider.to_string());
            fields["withdrawn"] = json!(is_withdrawn);
        }
        _ => {}
    }
    if let (Some(copies), Some(health)) = (copies, health)
        && let Some((fewest, median, most)) = spread(copies)
    {
        fields["copies"] = json!({
            "wanted": health.wanted,
            "min": fewest,
            "median": median,
            "max": most,
            "records_counted": copies.len(),
        });
    }
    fields
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kad-node forget KEY --data /var/lib/kad-node\n\n\
                  The records are not taken back: the copies of others end when their lives do.")]
pub(crate) struct ForgetArgs {
    /// What to keep no longer: 64 hexadecimal digits
    #[arg(value_name = "KEY", value_parser = parse_key)]
    key: Key,
    #[command(flatten)]
    directory: DirectoryArgs,
}

pub(crate) fn forget(args: &ForgetArgs) -> Result<Answer, Failure> {
    let ForgetArgs { key, directory } = args;
    let file = directory.network.config()?;
    let mut holdings = directory.open(&file)?;
    let Some(forgotten) = holdings.forget(*key, now())? else {
        return Err(Failure::negative(format!(
            "nothing of this node's own is named {key}; 'kad-node list' shows what is"
        )));
    };
    let mut text = format!("{} records are kept no longer", forgotten.records);
    if forgotten.shared > 0 {
        text = format!(
            "{text}; {} are parts of something else, and stay",
            forgotten.shared
        );
    }
    let fields = json!({
        "key": key.to_string(),
        "records": forgotten.records,
        "shared": forgotten.shared,
    });
    Ok(Answer::new(fields, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_what_was_counted_is_its_ends_and_its_middle() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[7]), Some((7, 7, 7)));
        assert_eq!(spread(&[1, 2, 3, 9]), Some((1, 3, 9)));
    }
}
