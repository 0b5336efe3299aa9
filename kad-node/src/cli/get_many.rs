//! `get --list`: several files into a directory, a few at a time.

use std::path::{Path, PathBuf};

use futures::stream::{self, StreamExt as _};
use kad_node::Node;
use kad_node::file::{FetchOptions, FetchedFile};
use serde_json::json;

use super::arguments::date;
use super::lists::{self, Ledger, Line, Wanted};
use super::reply::Failure;
use super::transfer;

/// Files under way at once: with their chunks, an eighth of the queries of an application.
const MAX_FILES: usize = 4;

/// What a list names, and that there is a directory for it.
pub(crate) async fn wanted(list: &Path, directory: &Path) -> Result<Vec<Line<Wanted>>, Failure> {
    let lines = lists::read(list, lists::wanted).await?;
    lists::all_apart(list, &lines)?;
    let made = tokio::fs::create_dir_all(directory).await;
    made.map_err(|error| {
        Failure::usage(format!(
            "{} cannot be made: {error}; give another directory with -o",
            directory.display()
        ))
    })?;
    Ok(lines)
}

/// Fetches files, and tells of each when it is there.
pub(crate) async fn get(node: &Node, wanted: Vec<Line<Wanted>>, directory: &Path, ledger: &mut Ledger) {
    let fetching = stream::iter(wanted)
        .map(|Line { item, .. }| async move {
            let path = directory.join(&item.path);
            let fetched = get_one(node, &item, &path).await;
            (item, path, fetched)
        })
        .buffer_unordered(MAX_FILES);
    let mut fetching = std::pin::pin!(fetching);
    while let Some((item, path, fetched)) = fetching.next().await {
        let (key, output) = (item.file.key.to_string(), path.display().to_string());
        let mut fields = json!({ "key": key, "output": output });
        match fetched {
            Ok(fetched) => {
                fields["bytes"] = json!(fetched.bytes);
                fields["chunks"] = json!(fetched.chunks);
                fields["restored"] = json!(fetched.restored);
                fields["expires"] = json!(date(fetched.expires));
                fields["expires_unix"] = json!(fetched.expires.as_secs());
                ledger.good(&fields, &format!("{key}  {output}"));
            }
            Err(failure) => ledger.bad(fields, &format!("{key}  {output}"), &failure),
        }
    }
}

async fn get_one(node: &Node, item: &Wanted, path: &PathBuf) -> Result<FetchedFile, Failure> {
    if let Some(parent) = path.parent() {
        let made = tokio::fs::create_dir_all(parent).await;
        made.map_err(|error| Failure::usage(format!("{} cannot be made: {error}", parent.display())))?;
    }
    let fetched = node
        .get_file_to(&item.file, path, FetchOptions::default(), |_| ())
        .await;
    fetched.map_err(transfer::unfetched)
}
