//! How a command reaches the node that runs with a data directory, and has its store to itself: by a socket in the
//! directory, one line of JSON each way.
//!
//! Only its owner can open the socket.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kad_core::Key;
use kad_node::Node;
use kad_node::kept::KeptFiles;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use super::arguments::now;
use super::holdings::{Rows, rows};
use super::reply::Failure;

const NAME: &str = "control";

/// The most bytes of a question: as many keys as a node keeps files, twice over.
const MAX_QUESTION: u64 = 512 << 10;

/// The most bytes of an answer: three times what the most holdings take, with all of their samples.
const MAX_ANSWER: u64 = 64 << 20;

/// Who asks has so long to do it, and as long again to take the answer: nobody else is answered meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest that an answer is waited for: a full store of the default size is read in some seconds, from a slow disk
/// in minutes.
const LONGEST_ANSWER: Duration = Duration::from_secs(300);

/// The files that a node keeps, and a word when there are more of them.
pub(crate) struct Shared {
    pub(crate) files: Mutex<KeptFiles>,
    pub(crate) more: Notify,
}

/// Answers the commands of this machine, one after another; ends only with its task.
pub(crate) async fn serve(node: Node, data: PathBuf, shared: Arc<Shared>) {
    let listener = match listen(&data.join(NAME)) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "'kad-node list' and 'keep' will not reach this node while it runs");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = answer(stream, &node, &shared).await {
                    tracing::debug!(%error, "a command could not be answered");
                }
            }
            // Too many files are open; that passes.
            Err(error) => {
                tracing::warn!(%error, "a command could not be let in");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

/// What a node left behind that was killed is replaced: this one holds the directory. Nobody can open the socket before
/// it is its owner's alone.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let beside = path.with_extension("new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

async fn answer(mut stream: UnixStream, node: &Node, shared: &Shared) -> io::Result<()> {
    let mut line = Vec::new();
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader.take(MAX_QUESTION));
    tokio::time::timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await??;
    let told = match question(&line) {
        Some(Question::List) => {
            let wanted = shared.files.lock().unwrap_or_else(PoisonError::into_inner).keys();
            match node.holdings(wanted).await {
                Ok(listing) => json!({ "listing": rows(&listing) }),
                Err(error) => json!({ "error": error.to_string() }),
            }
        }
        Some(Question::Keep(keys)) => {
            let mut files = shared.files.lock().unwrap_or_else(PoisonError::into_inner);
            match files.add(keys, now()) {
                Ok(added) => {
                    shared.more.notify_one();
                    json!({ "added": added })
                }
                Err(error) => json!({ "error": error.to_string() }),
            }
        }
        None => {
            json!({ "error": "the node that runs there is of another version; stop it, ask again, and start it again" })
        }
    };
    let told = format!("{told}\n");
    tokio::time::timeout(PATIENCE, writer.write_all(told.as_bytes())).await??;
    writer.shutdown().await
}

enum Question {
    List,
    Keep(Vec<Key>),
}

fn question(line: &[u8]) -> Option<Question> {
    let asked: Value = serde_json::from_slice(line).ok()?;
    if asked["list"] == true {
        return Some(Question::List);
    }
    let keys = asked["keep"].as_array()?;
    let key = |key: &Value| key.as_str()?.parse().ok();
    keys.iter().map(key).collect::<Option<_>>().map(Question::Keep)
}

/// What the node that runs with a data directory keeps; `None` if none does.
pub(crate) async fn list(data: &Path) -> Option<Result<Rows, Failure>> {
    let told = ask(data, &json!({ "list": true })).await?;
    Some(told.and_then(|mut told| {
        serde_json::from_value(told["listing"].take()).map_err(|error| {
            Failure::usage(format!("the node that runs there is of another version: {error}"))
        })
    }))
}

/// Lets the node that runs with a data directory keep these as well, and says how many are new; `None` if none does.
pub(crate) async fn keep(data: &Path, keys: &[Key]) -> Option<Result<u64, Failure>> {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let told = ask(data, &json!({ "keep": keys })).await?;
    Some(told.map(|told| told["added"].as_u64().unwrap_or_default()))
}

async fn ask(data: &Path, question: &Value) -> Option<Result<Value, Failure>> {
    let stream = UnixStream::connect(data.join(NAME)).await.ok()?;
    let failed = |why: &dyn std::fmt::Display| {
        Failure::usage(format!(
            "the node that runs with {} does not answer ({why}); stop it, ask again, and start it again",
            data.display()
        ))
    };
    let told = tokio::time::timeout(LONGEST_ANSWER, exchange(stream, question)).await;
    Some(match told {
        Err(_) => Err(failed(&"it takes too long")),
        Ok(Err(error)) => Err(failed(&error)),
        Ok(Ok(told)) => match told["error"].as_str() {
            Some(sentence) => Err(Failure::usage(sentence)),
            None => Ok(told),
        },
    })
}

async fn exchange(mut stream: UnixStream, question: &Value) -> io::Result<Value> {
    stream.write_all(format!("{question}\n").as_bytes()).await?;
    let mut told = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut told).await?;
    Ok(serde_json::from_slice(&told)?)
}
