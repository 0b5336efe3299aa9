//! `list` and `forget`: what a data directory keeps, and how well the network does.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::Table;
use futures::stream::{self, StreamExt as _};
use kad_core::{Holder, Key, Kind, UnixTime};
use kad_node::holdings::{Holding, HoldingKind, Holdings, HoldingsError, Listing};
use kad_node::{Node, NodeError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::arguments::{NetworkArgs, date, now, parse_key, until};
use super::client::with_node;
use super::config::ConfigFile;
use super::control;
use super::progress::Progress;
use super::reply::{Answer, Failure};

/// Censuses under way at once: a sixteenth of the queries of an application.
const MAX_CENSUSES: usize = 16;

/// Where it lies, and in which network.
#[derive(Debug, Args)]
struct DirectoryArgs {
    /// The data directory of the node [default: the config file's]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    network: NetworkArgs,
}

impl DirectoryArgs {
    fn data(&self, file: &ConfigFile) -> Result<PathBuf, Failure> {
        let data = self.data.clone().or_else(|| file.data.clone());
        data.ok_or_else(|| {
            Failure::usage("no data directory is named; give the one of a node with --data DIR")
        })
    }

    fn open(&self, data: &Path, file: &ConfigFile) -> Result<Holdings, HoldingsError> {
        Holdings::open(data, &self.network.name(file), &file.parameters())
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
                  records of each file. Of a record that can be changed it counts no older versions, and of announcements no \
                  copies. Else it tells what the disk does.")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    directory: DirectoryArgs,
}

pub(crate) async fn list(args: ListArgs, json: bool) -> Result<Answer, Failure> {
    let ListArgs { directory } = args;
    let file = directory.network.config()?;
    let data = directory.data(&file)?;
    // A node that runs has its store to itself, and is asked.
    let rows = match control::list(&data).await {
        Some(rows) => rows?,
        None => rows(&directory.open(&data, &file)?.list(now()).map_err(Failure::from)?),
    };
    if directory.network.bootstrap(&file)?.is_empty() {
        return Ok(table(&rows, None));
    }
    let network = directory.network;
    with_node(&network, None, json, async |node| {
        let health = census(node, &rows, usize::from(file.parameters().k), json).await?;
        Ok(table(&rows, Some(&health)))
    })
    .await
}

/// What is kept, as it is told: by this process or by the node that runs with the directory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rows {
    kept: Vec<Row>,
    more: u64,
    damaged: u64,
}

/// One thing that is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    key: String,
    what: What,
    bytes: u64,
    records: u64,
    missing: u64,
    expires_unix: Option<u64>,
    /// Keys to count the copies of.
    sample: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    File { encrypted: bool, code: Option<String> },
    Wanted,
    Value,
    Mutable { seq: u64, deleted: bool },
    Provider { provider: String, withdrawn: bool },
}

pub(crate) fn rows(listing: &Listing) -> Rows {
    Rows {
        kept: listing.holdings.iter().map(Row::of).collect(),
        more: listing.more,
        damaged: listing.damaged,
    }
}

impl Row {
    fn of(holding: &Holding) -> Self {
        let what = match holding.kind {
            HoldingKind::File { is_sealed, code } => What::File {
                encrypted: is_sealed,
                code: code.map(|code| code.to_string()),
            },
            HoldingKind::Wanted => What::Wanted,
            HoldingKind::Mutable { seq, is_deleted } => What::Mutable {
                seq,
                deleted: is_deleted,
            },
            HoldingKind::Provider {
                provider,
                is_withdrawn,
            } => What::Provider {
                provider: provider.to_string(),
                withdrawn: is_withdrawn,
            },
            _ => What::Value,
        };
        Self {
            key: holding.key.to_string(),
            what,
            bytes: holding.bytes,
            records: holding.records,
            missing: holding.missing,
            expires_unix: holding.until.map(UnixTime::as_secs),
            sample: holding.sample.iter().map(ToString::to_string).collect(),
        }
    }

    fn until(&self) -> Option<UnixTime> {
        self.expires_unix.map(UnixTime::from_secs)
    }
}

/// How many copies there are.
struct Health {
    /// As many as there should be.
    wanted: usize,
    /// Of each holding, of each key of its sample, ascending.
    copies: Vec<Vec<usize>>,
}

/// What is a copy of something that is kept.
#[derive(Debug, Clone, Copy)]
struct Counted {
    kind: Kind,
    /// An older version is none.
    seq: u64,
}

impl Counted {
    /// `None` if copies cannot be counted: a holder says that it knows providers of a key, and not which.
    const fn of(what: &What) -> Option<Self> {
        match what {
            What::File { .. } | What::Wanted | What::Value => Some(Self {
                kind: Kind::Immutable,
                seq: 0,
            }),
            What::Mutable { seq, .. } => Some(Self {
                kind: Kind::Mutable,
                seq: *seq,
            }),
            What::Provider { .. } => None,
        }
    }

    /// Those that others have.
    fn copies<A>(self, holders: &[Holder<A>]) -> usize {
        let others = holders.iter().filter(|holder| holder.contact.is_some());
        others.filter(|holder| holder.seq >= self.seq).count()
    }
}

async fn census(node: &Node, rows: &Rows, k: usize, json: bool) -> Result<Health, Failure> {
    let counted =
        (rows.kept.iter().enumerate()).filter_map(|(place, row)| Some((place, Counted::of(&row.what)?, row)));
    let keys: Vec<(usize, Key, Counted)> = counted
        .flat_map(|(place, counted, row)| {
            let sample = row.sample.iter().filter_map(|key| key.parse().ok());
            sample.map(move |key| (place, key, counted))
        })
        .collect();
    let Some((_, first, _)) = keys.first().copied() else {
        return Ok(Health {
            wanted: k,
            copies: vec![Vec::new(); rows.kept.len()],
        });
    };
    // A small network has no more nodes that could hold one.
    let wanted = k.min(node.closest(first).await?.contacts.len());
    let progress = Progress::items("counting copies", keys.len(), json);
    let total = keys.len();
    let counting = stream::iter(keys)
        .map(|(place, key, counted)| async move {
            let census = node.census(key, counted.kind).await;
            (place, census.map(|holders| counted.copies(&holders)))
        })
        .buffer_unordered(MAX_CENSUSES);
    let mut counting = std::pin::pin!(counting);
    let mut copies = vec![Vec::new(); rows.kept.len()];
    let mut done = 0;
    while let Some((place, census)) = counting.next().await {
        let holders = match census {
            Ok(copies) => copies,
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

fn table(rows: &Rows, health: Option<&Health>) -> Answer {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let copies_head = health.map(|health| format!("copies of {} (fewest / median / most)", health.wanted));
    let head = ["key", "what", "bytes", "records", "here until"].map(str::to_owned);
    table.set_header(head.into_iter().chain(copies_head));
    let mut all = Vec::new();
    for (place, row) in rows.kept.iter().enumerate() {
        let copies = health.map(|health| &health.copies[place][..]);
        let records = match row.missing {
            0 => row.records.to_string(),
            missing => format!("{} of {}", row.records.saturating_sub(missing), row.records),
        };
        let cells = [
            row.key.clone(),
            row.what.to_string(),
            row.bytes.to_string(),
            records,
            row.until().map_or_else(|| "not here yet".to_owned(), until),
        ];
        table.add_row(
            cells
                .into_iter()
                .chain(copies.map(|copies| told(copies, row.records))),
        );
        all.push(object(row, copies, health));
    }
    let fields = json!({ "kept": all, "more": rows.more, "damaged": rows.damaged });
    let mut text = match rows.kept.is_empty() {
        true => "this node keeps nothing of its own".to_owned(),
        false => table.trim_fmt(),
    };
    if rows.more > 0 {
        text = format!("{text}\nand {} more", rows.more);
    }
    if rows.damaged > 0 {
        text = format!("{text}\n{} records are damaged on this disk", rows.damaged);
    }
    Answer::new(fields, text)
}

/// The copies of the records that were counted, of so many.
fn told(copies: &[usize], records: u64) -> String {
    match (spread(copies), copies.len()) {
        (None, _) => String::new(),
        (Some((fewest, ..)), 1) => fewest.to_string(),
        (Some((fewest, median, most)), counted) if (counted as u64) < records => {
            format!("{fewest} / {median} / {most} ({counted} records)")
        }
        (Some((fewest, median, most)), _) => format!("{fewest} / {median} / {most}"),
    }
}

/// The fewest, the median and the most of what is sorted.
fn spread(sorted: &[usize]) -> Option<(usize, usize, usize)> {
    Some((*sorted.first()?, sorted[sorted.len() / 2], *sorted.last()?))
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { encrypted, code } => {
                f.write_str(if *encrypted { "file, encrypted" } else { "file" })?;
                code.as_ref().map_or(Ok(()), |code| write!(f, ", coded {code}"))
            }
            Self::Wanted => f.write_str("to be fetched"),
            Self::Value => f.write_str("value"),
            Self::Mutable { seq, deleted: true } => write!(f, "deletion {seq}"),
            Self::Mutable { seq, .. } => write!(f, "version {seq}"),
            Self::Provider { withdrawn: true, .. } => f.write_str("withdrawal"),
            Self::Provider { .. } => f.write_str("announcement"),
        }
    }
}

fn object(row: &Row, copies: Option<&[usize]>, health: Option<&Health>) -> Value {
    let mut fields = json!({
        "key": row.key,
        "bytes": row.bytes,
        "records": row.records,
        "missing": row.missing,
        "expires": row.until().map(date),
        "expires_unix": row.expires_unix,
    });
    fields["what"] = json!(match &row.what {
        What::File { encrypted, code } => {
            fields["encrypted"] = json!(encrypted);
            fields["code"] = json!(code);
            "file"
        }
        What::Wanted => "wanted",
        What::Value => "value",
        What::Mutable { seq, deleted } => {
            fields["seq"] = json!(seq);
            fields["deleted"] = json!(deleted);
            "mutable"
        }
        What::Provider { provider, withdrawn } => {
            fields["provider"] = json!(provider);
            fields["withdrawn"] = json!(withdrawn);
            "provider"
        }
    });
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
    let data = directory.data(&file)?;
    let mut holdings = directory.open(&data, &file)?;
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
    use kad_core::{Contact, NodeId};

    use super::*;

    #[test]
    fn older_versions_are_no_copies_and_announcements_are_not_counted() {
        let holder = |number: u64, seq: u64| Holder {
            contact: Some(Contact::new(NodeId::from_limbs([number, 0, 0, 0]), 0_u32)),
            seq,
            digest: [0; 32],
        };
        let here = Holder {
            contact: None,
            ..holder(0, 9)
        };
        let holders = [holder(1, 2), holder(2, 3), holder(3, 4), here];
        let copies = |what: What| Counted::of(&what).map(|counted| counted.copies(&holders));
        let version = |seq: u64| What::Mutable { seq, deleted: false };
        assert_eq!(
            [2, 3, 4, 5].map(|seq| copies(version(seq))),
            [3, 2, 1, 0].map(Some)
        );
        assert_eq!(copies(What::Value), Some(3));
        let provider = String::new();
        let announcement = What::Provider {
            provider,
            withdrawn: false,
        };
        assert_eq!(copies(announcement), None);
        assert_eq!(told(&[], 1), "", "nothing is told of it");
    }

    #[test]
    fn the_spread_of_what_was_counted_is_its_ends_and_its_middle() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[7]), Some((7, 7, 7)));
        assert_eq!(spread(&[1, 2, 3, 9]), Some((1, 3, 9)));
    }
}
