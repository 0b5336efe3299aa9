//! How to store and fetch files.

use std::time::Duration;

use super::DEFAULT_PARALLEL;
use crate::PutOptions;

/// How to store a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileOptions {
    /// How each chunk is stored: time to live, quorum, whether this node keeps it and publishes it anew. With `keep` this node
    /// holds the whole file.
    pub put: PutOptions,
    /// Chunks under way at once, 1 to [`MAX_PARALLEL`](super::MAX_PARALLEL); numbers beyond that are taken for the nearest. Default
    /// [`DEFAULT_PARALLEL`]. Each holds up to 60 KiB.
    pub parallel: usize,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            put: PutOptions::default(),
            parallel: DEFAULT_PARALLEL,
        }
    }
}

impl FileOptions {
    /// The same with another time to live.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.put.ttl = ttl;
        self
    }

    /// The same with another quorum: so many holders must acknowledge each chunk.
    #[must_use]
    pub fn quorum(mut self, quorum: usize) -> Self {
        self.put.quorum = quorum;
        self
    }

    /// The same, kept and published anew by this node or not.
    #[must_use]
    pub fn keep(mut self, keep: bool) -> Self {
        self.put.keep = keep;
        self
    }

    /// The same with another number of chunks under way.
    #[must_use]
    pub fn parallel(mut self, parallel: usize) -> Self {
        self.parallel = parallel;
        self
    }
}

/// How to fetch a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchOptions {
    /// Chunks under way at once, 1 to [`MAX_PARALLEL`](super::MAX_PARALLEL); numbers beyond that are taken for the nearest.
    /// Default [`DEFAULT_PARALLEL`]. Each holds up to 64 KiB, also while it waits for its turn to be written.
    pub parallel: usize,
    /// The largest file in bytes that is wanted. Default `u64::MAX`. Set it when the key comes from somebody you do not
    /// trust: a tree may name the same chunk again and again, so an enormous file costs its maker next to nothing.
    pub max_bytes: u64,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            parallel: DEFAULT_PARALLEL,
            max_bytes: u64::MAX,
        }
    }
}

impl FetchOptions {
    /// The same with another number of chunks under way.
    #[must_use]
    pub fn parallel(self, parallel: usize) -> Self {
        Self { parallel, ..self }
    }

    /// The same with another largest size.
    #[must_use]
    pub fn max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }
}
