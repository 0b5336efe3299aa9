//! Why a file could not be stored or fetched, in sentences for the person who wanted it.

use std::io;
use std::path::PathBuf;

use kad_core::Key;

use super::Code;
use super::tree::IndexError;
use crate::NodeError;

/// Why a file was not stored. Chunks that were stored before stay in the network until they expire, but nobody is told
/// a key: storing the same file again starts over and gives the same key.
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
    /// A parity chunk was not acknowledged by a quorum, in any of the attempts.
    #[error("parity chunk {index} of stripe {stripe} (key {key}) could not be stored: {source}")]
    Parity {
        /// Which stripe, from 0.
        stripe: u64,
        /// Which of its parity chunks, from 0.
        index: u64,
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
    /// The largest value of the network leaves no room for an index, or for one with a stripe of this code.
    #[error("the values that this network allows are too small for files{}", of_code(.code.as_ref()))]
    TinyValues {
        /// The code that was asked for.
        code: Option<Code>,
    },
    /// The operating system gave no random bytes for a secret.
    #[error("the operating system gave no random bytes: {0}")]
    Entropy(#[source] io::Error),
}

fn of_code(code: Option<&Code>) -> String {
    code.map_or_else(String::new, |code| format!(" of code {code}"))
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
    /// More chunks of a stripe are gone than its parity makes up for.
    #[error(
        "the file is incomplete: of stripe {stripe} (at byte {offset}) only {found} of the {needed} chunks that are \
         needed were found"
    )]
    LostStripe {
        /// Which stripe, from 0.
        stripe: u64,
        /// Where its first chunk begins in the file.
        offset: u64,
        /// The chunks that were found, parity included.
        found: usize,
        /// How many restore it: as many as it has data chunks.
        needed: usize,
    },
    /// Whoever made the file added parity that does not belong to its chunks, and one of these is gone.
    #[error(
        "the file is malformed: the parity of stripe {stripe} (at byte {offset}) does not belong to its chunks"
    )]
    BadParity {
        /// Which stripe, from 0.
        stripe: u64,
        /// Where its first chunk begins in the file.
        offset: u64,
    },
    /// The file is sealed, and no secret was given.
    #[error("this file is sealed; give its whole name, KEY#SECRET, as 'kad-node put' printed it")]
    Sealed,
    /// The file is sealed with another secret.
    #[error("the secret behind the # is not that of this file; give the name as 'kad-node put' printed it")]
    WrongSecret,
    /// A secret was given, but the file is not sealed.
    #[error("this file is not sealed; give its key alone, without the # and what follows")]
    NotSealed,
    /// A chunk was not sealed with the secret for its place: somebody without the secret has put together a file of
    /// their own, out of true chunks or not. Nothing of it was written.
    #[error(
        "the file is forged: chunk {index} (key {key}) was not sealed for its place by whoever had the secret"
    )]
    Forged {
        /// Which chunk, from 0.
        index: u64,
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
    /// It is larger than the caller wants it; nothing was written, unless the file is sealed and only its last chunk is
    /// too much.
    #[error("the file has {bytes} bytes, more than the {limit} that are wanted")]
    TooLarge {
        /// What it has, as its root says; of a sealed file, what the chunks have that were opened and those that must
        /// be full.
        bytes: u64,
        /// What was allowed.
        limit: u64,
    },
    /// It was to be kept, and the node's own records have reached their limits (`Limits::max_own_records` and
    /// `max_own_bytes`). What was kept until then stays kept; the rest was not fetched.
    #[error(
        "this node's own store has room for only a part of the file; forget something that it keeps, or raise own_records \
         and own_bytes"
    )]
    NoRoom {
        /// The key of the file.
        key: Key,
    },
    /// The largest value of the network leaves no room for an index, or for one with a stripe of the file's code.
    #[error("the values that this network allows are too small for this file")]
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
