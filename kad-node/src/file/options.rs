//! How to store, fetch and repair files.

use std::time::Duration;

use super::{Code, DEFAULT_PARALLEL};
use crate::PutOptions;

/// How to store a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileOptions {
    /// How each chunk is stored: time to live, quorum, whether this node keeps it and publishes it anew. With `keep`
    /// this node holds the whole file.
    pub put: PutOptions,
    /// Chunks under way at once, 1 to [`MAX_PARALLEL`](super::MAX_PARALLEL); numbers beyond that are taken for the
    /// nearest. Default [`DEFAULT_PARALLEL`]. Each holds up to 60 KiB.
    pub parallel: usize,
    /// Whether the file is sealed with a secret of its own, which [`StoredFile::secret`](super::StoredFile::secret)
    /// tells and the network never sees. Default false. Holders of a sealed file see how many chunks it has, and
    /// nothing else.
    pub encrypt: bool,
    /// Parity chunks that make up for lost ones. Default none: then each chunk is as safe as its own copies. A file of
    /// a single chunk that is not sealed gets none, for it is as safe as an index would be.
    pub code: Option<Code>,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            put: PutOptions::default(),
            parallel: DEFAULT_PARALLEL,
            encrypt: false,
            code: None,
        }
    }
}

impl FileOptions {
    /// The same, with chunks stored otherwise.
    #[must_use]
    pub fn put(mut self, put: PutOptions) -> Self {
        self.put = put;
        self
    }

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

    /// The same, sealed or not.
    #[must_use]
    pub fn encrypt(mut self, encrypt: bool) -> Self {
        self.encrypt = encrypt;
        self
    }

    /// The same with another code, or without.
    #[must_use]
    pub fn code(mut self, code: impl Into<Option<Code>>) -> Self {
        self.code = code.into();
        self
    }
}

/// How to fetch a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchOptions {
    /// Chunks under way at once, 1 to [`MAX_PARALLEL`](super::MAX_PARALLEL); numbers beyond that are taken for the
    /// nearest. Default [`DEFAULT_PARALLEL`]. Each holds up to 64 KiB, also while it waits for its turn to be written.
    pub parallel: usize,
    /// The largest file in bytes that is wanted. Default `u64::MAX`. Set it when the key comes from somebody you do not
    /// trust: a tree may name the same chunk again and again, so an enormous file costs its maker next to nothing.
    pub max_bytes: u64,
    /// What is done about chunks and index nodes of which there are too few copies. Default none: nothing.
    pub repair: Option<Repair>,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            parallel: DEFAULT_PARALLEL,
            max_bytes: u64::MAX,
            repair: None,
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

    /// The same with another repair, or without.
    #[must_use]
    pub fn repair(self, repair: impl Into<Option<Repair>>) -> Self {
        Self {
            repair: repair.into(),
            ..self
        }
    }
}

/// How a file is repaired while it is fetched: for each chunk, each parity chunk and each index node the nearest nodes
/// are asked who holds it, and where these are too few it is stored again, restored from parity if need be.
///
/// ```no_run
/// # async fn example(node: kad_node::Node, key: kad_core::Key) -> Result<(), Box<dyn std::error::Error>> {
/// use kad_node::file::{FetchOptions, Repair};
///
/// let options = FetchOptions::default().repair(Repair::default().copies(10));
/// let fetched = node.get_file(key, tokio::io::sink(), options, |_| ()).await?;
/// println!("{} of {} were stored again", fetched.repair.stored, fetched.repair.checked);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// So many copies are enough. Default [`DEFAULT_COPIES`]. In a network of fewer nodes, so many as there are nodes.
    pub copies: usize,
    /// How what is missing is stored again: with a life of its own, which may be longer than that of the rest of the
    /// file.
    pub put: PutOptions,
}

/// The copies that are enough unless told otherwise: three quarters of a default k, as many as a write waits for. Below
/// that, copies have been lost since the last hour in which holders handed them on.
pub const DEFAULT_COPIES: usize = 15;

impl Default for Repair {
    fn default() -> Self {
        Self {
            copies: DEFAULT_COPIES,
            put: PutOptions::default(),
        }
    }
}

impl Repair {
    /// The same with another number of copies that are enough.
    #[must_use]
    pub fn copies(self, copies: usize) -> Self {
        Self { copies, ..self }
    }

    /// The same with other options for what is stored again.
    #[must_use]
    pub fn put(self, put: PutOptions) -> Self {
        Self { put, ..self }
    }
}
