//! `keep`: a node that takes on keeping files alive, and every node that did so before.

mod turns;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use futures::stream::{self, StreamExt as _};
use kad_core::Key;
use kad_node::Node;
use kad_node::file::{FetchOptions, GetFileError, TendedFile};
use kad_node::kept::{KeptError, KeptFile, KeptFiles, MAX_KEPT};
use serde_json::json;

use self::turns::{Looked, Turns};
use super::arguments::parse_key;
use super::control::{self, Shared};
use super::lists;
use super::reply::{self, Answer, Failure};
use super::run;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kad-node keep KEY --data /var/lib/kad-node --bootstrap 192.0.2.7:4000\n  \
                  kad-node keep --list keys --data /var/lib/kad-node --listen 0.0.0.0:4000 --bootstrap 192.0.2.7:4000\n\n\
                  It is 'run' with something to do: all chunks are fetched, kept in the data directory, and published anew for as \
                  long as a node runs there; 'kad-node run' goes on with what was begun, and a node that runs there already is told. The secret of an encrypted file is not \
                  needed, and not kept if it is given. 'kad-node list' shows what is kept, 'kad-node forget' ends it."
)]
pub(crate) struct KeepArgs {
    /// What to keep: 64 hexadecimal digits, as 'kad-node put' prints
    #[arg(value_name = "KEY", value_parser = parse_key, required_unless_present = "list")]
    keys: Vec<Key>,
    /// Keep the files that this file names, one on each line; - is standard input
    #[arg(long, value_name = "FILE|-", conflicts_with = "keys")]
    list: Option<PathBuf>,
    #[command(flatten)]
    run: run::Args,
}

pub(crate) async fn execute(args: KeepArgs, json: bool) -> Result<Answer, Failure> {
    let keys = match &args.list {
        Some(list) => {
            let lines = lists::read(list, lists::key).await?;
            lines.into_iter().map(|line| line.item).collect()
        }
        None => args.keys,
    };
    // More than the most are refused whoever would keep them, and before anybody is asked.
    let mut seen = BTreeSet::new();
    let keys: Vec<Key> = keys.into_iter().filter(|key| seen.insert(*key)).collect();
    if keys.len() > MAX_KEPT {
        return Err(Failure::usage(KeptError::Full.to_string()));
    }
    if let Some(data) = args.run.data()?
        && let Some(added) = control::keep(&data, &keys).await
    {
        let added = added?;
        let text = format!(
            "the node that runs with {} keeps {added} more from now on",
            data.display()
        );
        return Ok(Answer::new(json!({ "running": true, "added": added }), text));
    }
    run::execute(args.run, json, keys).await
}

/// Files that are looked after at once: with their chunks, an eighth of the queries of an application.
const MAX_FILES: usize = 4;

/// Looks after the files that a node keeps.
pub(crate) struct Keeper {
    node: Node,
    shared: Arc<Shared>,
    max_bytes: u64,
    json: bool,
}

impl Keeper {
    /// No file of more than `max_bytes` is fetched: as much as the own store has room for.
    pub(crate) fn new(node: Node, shared: Arc<Shared>, max_bytes: u64, json: bool) -> Self {
        Self {
            node,
            shared,
            max_bytes,
            json,
        }
    }

    /// Fetches what is missing, again and again; ends only with its task.
    pub(crate) async fn run(self) {
        let mut turns = Turns::default();
        loop {
            // Who has not joined and does not have everything is told so by the first file.
            let _ = self.node.joined().await;
            let due = turns.due(self.files().files(), Instant::now());
            self.look_through(due, &mut turns).await;
            let wait = turns.wait(Instant::now());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.shared.more.notified() => {}
            }
        }
    }

    async fn look_through(&self, due: Vec<KeptFile>, turns: &mut Turns) {
        let options = FetchOptions::default().max_bytes(self.max_bytes);
        let keeping = stream::iter(due)
            .map(|file| async move { (file, self.node.keep_file(file.key, options, |_| ()).await) })
            .buffer_unordered(MAX_FILES);
        let mut keeping = std::pin::pin!(keeping);
        while let Some((file, kept)) = keeping.next().await {
            let looked = looked(&kept);
            let is_news = turns.note(file.key, looked, Instant::now());
            match &kept {
                Ok(kept) if looked == Looked::Whole => {
                    if !file.is_whole || kept.repair.kept > 0 {
                        self.tell(kept);
                    }
                }
                Ok(kept) => tracing::warn!(
                    key = %file.key,
                    failed = kept.repair.failed,
                    "some records of a file could not be kept; trying again"
                ),
                Err(error) if looked == Looked::NoRoom => {
                    if is_news {
                        tracing::warn!(key = %file.key, %error, "there is no room for a file that is to be kept");
                    }
                }
                Err(error) => {
                    tracing::warn!(key = %file.key, %error, "a file could not be kept; trying again");
                }
            }
            if let Err(error) = self.files().note(file.key, looked == Looked::Whole) {
                tracing::error!(%error, "what is kept could not be noted");
            }
        }
    }

    fn files(&self) -> MutexGuard<'_, KeptFiles> {
        self.shared.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, kept: &TendedFile) {
        let records = kept.repair.checked;
        if self.json {
            let fields = json!({
                "kept": kept.key.to_string(),
                "bytes": kept.bytes,
                "records": records,
                "fetched": kept.repair.kept,
                "restored": kept.restored,
                "stored": kept.repair.stored,
            });
            reply::line(&fields.to_string());
        } else {
            let bytes = kept.bytes;
            reply::line(&format!(
                "keeps    {} ({records} records, {bytes} bytes)",
                kept.key
            ));
        }
    }
}

fn looked(kept: &Result<TendedFile, GetFileError>) -> Looked {
    match kept {
        Ok(kept) if kept.repair.failed == 0 => Looked::Whole,
        Err(GetFileError::NoRoom { .. } | GetFileError::TooLarge { .. }) => Looked::NoRoom,
        Ok(_) | Err(_) => Looked::Failed,
    }
}
