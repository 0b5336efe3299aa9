//! Why a file could not be stored or fetched, in sentences for the person who wanted it.

use std::io;
use std::path::PathBuf;

use kad_core::Key;

use super::tree::IndexError;
use crate::NodeError;

/// Why a file was not stored. Chunks that were stored before stay in the network until they expire, but nobody is told a
/// key: storing the same file again starts over and gives the same key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutFileError {
    /// What was to be stored could not be read.
    #[error("the file cannot be read: {0}")]
    Read(#[source] io::Error),
    /// A chunk was not acknowledged by a quorum, in any of the attempts.
    #[error("chunk {index} (at byte {offset}, key {key}) could not be stored: {source}")]
    Chunk {
        /// Which chunk, from 0.
        index: u64,
        /// Where it begins in the file.
        offset: u64,
        /// Its key.
        key: Key,
        /// What went wrong the last time.
        source: NodeError,
    },
    /// An index node was not acknowledged by a quorum, in any of the attempts.
    #[error("an index of level {level} (key {key}) could not be stored: {source}")]
    Index {
        /// Its level, from 1.
        level: u8,
        /// Its key.
        key: Key,
        /// What went wrong the last time.
        source: NodeError,
    },
    /// More chunks than a tree can have; with usual chunks that is more than half an exabyte.
    #[error("the file is too large for an index of {levels} levels", levels = super::tree::MAX_LEVEL)]
    TooLarge,
    /// The largest value of the network leaves no room for an index.
    #[error("the values that this network allows are too small for files")]
    TinyValues,
}

/// Why a file was not fetched. The bytes that were written before are right; the rest is missing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetFileError {
    /// Nobody of the nearest nodes has anything under the key: it never was there, or it has expired.
    #[error("nobody has {key}: no file was stored under this key, or it has expired")]
    NotFound {
        /// The key that was asked for.
        key: Key,
    },
    /// A chunk of the file is gone.
    #[error("the file is incomplete: nobody has chunk {index} (at byte {offset}, key {key})")]
    MissingChunk {
        /// Which chunk, from 0.
        index: u64,
        /// Where it begins in the file.
        offset: u64,
        /// Its key.
        key: Key,
    },
    /// An index node of the file is gone.
    #[error(
        "the file is incomplete: nobody has the index of level {level} for byte {offset} onwards (key {key})"
    )]
    MissingIndex {
        /// Its level, from 1.
        level: u8,
        /// Where its first chunk begins in the file.
        offset: u64,
        /// Its key.
        key: Key,
    },
    /// The network could not be asked, in any of the attempts.
    #[error("the part of the file at byte {offset} (key {key}) could not be looked up: {source}")]
    Lookup {
        /// Where it begins in the file.
        offset: u64,
        /// Its key.
        key: Key,
        /// What went wrong the last time.
        source: NodeError,
    },
    /// Whoever made the file put something else than a chunk of this size there.
    #[error(
        "the file is malformed: chunk {index} (at byte {offset}, key {key}) should be {expected} bytes, but is {found}"
    )]
    WrongChunk {
        /// Which chunk, from 0.
        index: u64,
        /// Where it begins in the file.
        offset: u64,
        /// Its key.
        key: Key,
        /// The bytes that belong there.
        expected: u64,
        /// What is there, in words: a number of bytes, or an index.
        found: String,
    },
    /// Whoever made the file put plain bytes where an index belongs.
    #[error(
        "the file is malformed: {key} (for byte {offset} onwards) should be an index of level {level}, but is data"
    )]
    NoIndex {
        /// The level that belongs there, from 1.
        level: u8,
        /// Where its first chunk begins in the file.
        offset: u64,
        /// Its key.
        key: Key,
    },
    /// Whoever made the file made an index wrong.
    #[error("the file is malformed: the index {key} cannot be right: {source}")]
    BadIndex {
        /// Its key.
        key: Key,
        /// What is wrong with it.
        source: IndexError,
    },
    /// It is larger than the caller wants it; nothing was written.
    #[error("the file has {bytes} bytes, more than the {limit} that are wanted")]
    TooLarge {
        /// What it has, as its root says.
        bytes: u64,
        /// What was allowed.
        limit: u64,
    },
    /// The largest value of the network leaves no room for an index.
    #[error("the values that this network allows are too small for files")]
    TinyValues,
    /// What was fetched could not be written.
    #[error("the output cannot be written: {0}")]
    Write(#[source] io::Error),
    /// The target could not be made or put in place. What was under its name before is still there.
    #[error("{path} cannot be written: {source}", path = .path.display())]
    Target {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}
