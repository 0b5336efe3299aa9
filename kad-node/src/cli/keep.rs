//! `keep`: a node that takes on keeping files alive, and every node that did so before.

use std::path::PathBuf;
use std::time::Duration;

use kad_core::Key;
use kad_node::Node;
use kad_node::file::{FetchOptions, TendedFile};
use kad_node::kept::{KeptError, KeptFiles};
use serde_json::json;

use super::arguments::{now, parse_key};
use super::lists;
use super::reply::{self, Answer, Failure};
use super::run;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kad-node keep KEY --data /var/lib/kad-node --bootstrap 192.0.2.7:4000\n  \
                  kad-node keep --list keys --data /var/lib/kad-node --listen 0.0.0.0:4000 --bootstrap 192.0.2.7:4000\n\n\
                  It is 'run' with something to do: all chunks are fetched, kept in the data directory, and published anew for as \
                  long as a node runs there; 'kad-node run' goes on with what was begun. The secret of an encrypted file is not \
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
    run::execute(args.run, json, keys).await
}

/// How often a node looks whether it still has all of what it keeps. Its own disk tells, so it costs nobody anything; what
/// can be lost meanwhile is the life of a record while the node was away.
const CHECK: Duration = Duration::from_secs(6 * 3600);

/// The first pause after something could not be kept; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// A file that nobody had may be there a few minutes later.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The files that a node keeps.
pub(crate) struct Keeper {
    node: Node,
    files: KeptFiles,
    json: bool,
}

impl Keeper {
    /// With these as well.
    ///
    /// # Errors
    /// The list on the disk cannot be used, or is full.
    pub(crate) fn new(
        node: Node,
        mut files: KeptFiles,
        wanted: &[Key],
        json: bool,
    ) -> Result<Self, KeptError> {
        for key in wanted {
            files.add(*key, now())?;
        }
        Ok(Self { node, files, json })
    }

    /// Fetches what is missing, again and again; ends if there is nothing to keep.
    pub(crate) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        while !self.files.files().is_empty() {
            // Who has not joined and does not have everything is told so by the first file.
            let _ = self.node.joined().await;
            if self.look_through().await {
                pause = FIRST_PAUSE;
                tokio::time::sleep(CHECK).await;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Says whether everything is here.
    async fn look_through(&mut self) -> bool {
        let mut whole = true;
        for file in self.files.files().to_vec() {
            let kept = self
                .node
                .keep_file(file.key, FetchOptions::default(), |_| ())
                .await;
            let is_whole = kept.as_ref().is_ok_and(|kept| kept.repair.failed == 0);
            whole &= is_whole;
            match &kept {
                Ok(kept) if is_whole && (!file.is_whole || kept.repair.kept > 0) => self.tell(kept),
                Ok(kept) if !is_whole => tracing::warn!(
                    key = %file.key,
                    failed = kept.repair.failed,
                    "some records of a file could not be kept; trying again"
                ),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(key = %file.key, %error, "a file could not be kept; trying again")
                }
            }
            if let Err(error) = self.files.note(file.key, is_whole) {
                tracing::error!(%error, "what is kept could not be noted");
            }
        }
        whole
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
