//! What can go wrong with a store, in sentences for the person who runs the node.

use std::error::Error;
use std::io;
use std::path::PathBuf;

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else has the store open: another process, or this one. Nothing was changed.
    #[error("the store {path} is in use by another node", path = .path.display())]
    Locked {
        /// The store.
        path: PathBuf,
    },
    /// What lies there is no record store. Nothing was changed.
    #[error("{path} is not a record store; it was left as it is", path = .path.display())]
    Foreign {
        /// What was to be opened.
        path: PathBuf,
    },
    /// The store was written in another format. Nothing was changed.
    #[error("the store {path} has format {found}, and this program reads format {supported} only", path = .path.display())]
    Format {
        /// The store.
        path: PathBuf,
        /// The format of the store.
        found: u64,
        /// The only format that this program reads and writes.
        supported: u64,
    },
    /// What was read back is not what was written.
    #[error("the store is damaged: {what}")]
    Corrupt {
        /// What did not hold.
        what: String,
    },
    /// [`MAX_BATCH_SLOTS`](crate::MAX_BATCH_SLOTS) or [`MAX_BATCH_BYTES`](crate::MAX_BATCH_BYTES) is reached. Nothing
    /// was changed: flush, then ask again.
    #[error("too much was written since the last flush")]
    BatchFull,
    /// The store of this reader was closed.
    #[error("the store is closed")]
    Closed,
    /// The operating system refused: a full disk, missing permission, a failing device.
    #[error("the disk does not do its part: {0}")]
    Io(#[from] io::Error),
    /// An error that only the backend understands.
    #[error("the backend failed: {0}")]
    Backend(#[source] Box<dyn Error + Send + Sync>),
}
