//! The bridge from files to the network: what `put` and `get` move.

use kad_core::Key;
use kad_core::record::Content;
use kad_node::{Node, PutOptions, Stored};

use super::progress::Progress;
use super::reply::Failure;
use super::streams::{Sink, Source};
use kad_net::quic::QuicAddress;

/// What was stored.
pub(crate) struct Placed {
    /// Its bytes.
    pub(crate) bytes: u64,
    /// Where, and until when.
    pub(crate) stored: Stored<QuicAddress>,
}

/// Stores everything that a source gives.
pub(crate) async fn put(
    node: &Node,
    mut source: Source,
    options: PutOptions,
    progress: &Progress,
) -> Result<Placed, Failure> {
    let value = source.read_all(node.rules().max_value).await?;
    let stored = node.put(&value, options).await?;
    let bytes = value.len() as u64;
    progress.reach(bytes);
    Ok(Placed { bytes, stored })
}

/// What was found.
pub(crate) struct Fetched {
    /// Its bytes.
    pub(crate) bytes: u64,
    /// When the copy that answered ends.
    pub(crate) expires: kad_core::UnixTime,
}

/// Writes what a key names into a sink, verified; `None` if nobody has it.
pub(crate) async fn get(
    node: &Node,
    key: Key,
    sink: &mut Sink,
    progress: &Progress,
) -> Result<Option<Fetched>, Failure> {
    let Some(value) = node.get(key).await? else {
        return Ok(None);
    };
    if value.content != Content::Plain {
        return Err(Failure::usage(format!("{key} is the index of a file")));
    }
    sink.write(&value.bytes).await?;
    let bytes = value.bytes.len() as u64;
    progress.reach(bytes);
    Ok(Some(Fetched {
        bytes,
        expires: value.expires,
    }))
}
