//! `put` of several files: small ones together, region by region, the others one after another.

use std::path::{Path, PathBuf};

use kad_node::file::{FileOptions, tree::MAX_CHUNK};
use kad_node::{Node, NodeError};
use serde_json::{Value, json};

use super::arguments::date;
use super::lists::{self, Ledger};
use super::progress::Progress;
use super::reply::Failure;
use super::streams::Source;
use super::transfer;

/// Small files that are read at once, so that those of a region are stored together.
const MAX_SMALL: usize = 4096;

/// Bytes of small files that are read at once: 250 of the largest.
const MAX_SMALL_BYTES: u64 = 16 << 20;

/// What is to be stored: several files by name, or those that a list names.
pub(crate) async fn files(names: Vec<PathBuf>, list: Option<&Path>) -> Result<Vec<PathBuf>, Failure> {
    let Some(list) = list else {
        for name in &names {
            check(name).await?;
        }
        return Ok(names);
    };
    let lines = lists::read(list, |line| Ok(PathBuf::from(line))).await?;
    let mut files = Vec::with_capacity(lines.len());
    for line in lines {
        check(&line.item).await.map_err(|failure| {
            Failure::usage(format!(
                "line {} of {}: {}",
                line.number,
                list.display(),
                failure.sentence()
            ))
        })?;
        files.push(line.item);
    }
    Ok(files)
}

/// Whether it is a file that can be read.
async fn check(name: &Path) -> Result<(), Failure> {
    if name == Path::new("-") {
        return Err(Failure::usage(
            "standard input, -, can be stored alone and not with others; give names of files",
        ));
    }
    Source::open(name).await.map(drop)
}

/// Stores files, and tells of each when it is done.
pub(crate) async fn put(
    node: &Node,
    files: Vec<PathBuf>,
    options: FileOptions,
    ledger: &mut Ledger,
) -> Result<(), Failure> {
    // What is sealed or coded has an index, however small it is.
    let plain = !options.encrypt && options.code.is_none();
    let most = MAX_CHUNK.min(node.rules().max_value as u64);
    let (mut small, mut bytes) = (Vec::new(), 0);
    for name in files {
        let size = tokio::fs::metadata(&name)
            .await
            .map_or(u64::MAX, |about| about.len());
        if !plain || size > most {
            put_one(node, &name, options, ledger).await?;
            continue;
        }
        if small.len() == MAX_SMALL || bytes + size > MAX_SMALL_BYTES {
            put_small(node, std::mem::take(&mut small), options, ledger).await?;
            bytes = 0;
        }
        bytes += size;
        small.push(name);
    }
    put_small(node, small, options, ledger).await
}

async fn put_one(node: &Node, name: &Path, options: FileOptions, ledger: &mut Ledger) -> Result<(), Failure> {
    let silent = Progress::hidden();
    let stored = match Source::open(name).await {
        Ok(source) => transfer::put(node, source, options, &silent).await,
        Err(failure) => Err(failure),
    };
    match stored {
        Ok(stored) => {
            let reference = stored.reference().reveal();
            let mut fields = fields(name, reference.as_str(), stored.copies_min, stored.expires);
            fields["bytes"] = json!(stored.bytes);
            fields["chunks"] = json!(stored.chunks);
            ledger.good(&fields, &line(reference.as_str(), name));
        }
        Err(failure) => ledger.bad(file(name), &name.display().to_string(), &failure),
    }
    Ok(())
}

/// Stores files that are one record each.
async fn put_small(
    node: &Node,
    names: Vec<PathBuf>,
    options: FileOptions,
    ledger: &mut Ledger,
) -> Result<(), Failure> {
    let (mut read, mut values) = (Vec::with_capacity(names.len()), Vec::with_capacity(names.len()));
    for name in names {
        let most = MAX_CHUNK as usize;
        let value = match Source::open(&name).await {
            Ok(mut source) => source.read_all(most).await,
            Err(failure) => Err(failure),
        };
        match value {
            Ok(value) => {
                values.push(value);
                read.push(name);
            }
            Err(failure) => ledger.bad(file(&name), &name.display().to_string(), &failure),
        }
    }
    let sizes: Vec<usize> = values.iter().map(Vec::len).collect();
    let done = node
        .put_many(values, options.put, |one| {
            let place = usize::try_from(one.position).unwrap_or(usize::MAX);
            let (Some(name), Some(size)) = (read.get(place), sizes.get(place)) else {
                return;
            };
            match one.outcome {
                Ok(stored) => {
                    let key = stored.key.to_string();
                    let mut fields = fields(name, &key, stored.copies(), stored.expires);
                    fields["bytes"] = json!(size);
                    fields["chunks"] = json!(1);
                    ledger.good(&fields, &line(&key, name));
                }
                Err(error) => ledger.bad(file(name), &name.display().to_string(), &error.into()),
            }
        })
        .await;
    done.map(drop).map_err(|error: NodeError| error.into())
}

/// As `get --list` reads it.
fn line(reference: &str, name: &Path) -> String {
    format!("{reference}  {}", name.display())
}

fn file(name: &Path) -> Value {
    json!({ "file": name.display().to_string() })
}

fn fields(name: &Path, reference: &str, copies: usize, expires: kad_core::UnixTime) -> Value {
    let key = reference.split_once('#').map_or(reference, |(key, _)| key);
    json!({
        "file": name.display().to_string(),
        "key": key,
        "reference": reference,
        "copies": copies,
        "expires": date(expires),
        "expires_unix": expires.as_secs(),
    })
}
