//! Files of any size, out of values of at most 64 KiB.
//!
//! A file is stored as a tree of content-addressed chunks; [`tree`] draws it. The key of the file is the hash of its
//! root, so whoever has the key can check every byte against it, from whichever node it comes. A file that fits into
//! one chunk is a plain value, and any immutable value can be fetched as a file.
//!
//! Storing and fetching go through in one pass, several chunks at a time, and with flat memory: what is held is
//! [`FileOptions::parallel`] chunks, one index node for each level, and of a coded file a few stripes, whether the file
//! has a kilobyte or a terabyte. A pipe is as good as a file.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use kad_node::Node;
//! use kad_node::file::{FetchOptions, FileOptions};
//!
//! let node = Node::builder().bootstrap("203.0.113.7:4000".parse::<kad_node::Peer>()?).spawn().await?;
//! node.joined().await?;
//!
//! let film = tokio::fs::File::open("film.mkv").await?;
//! let stored = node.put_file(film, FileOptions::default().quorum(3), |_| ()).await?;
//! println!("{} ({} chunks, at least {} copies of each)", stored.key, stored.chunks, stored.copies_min);
//!
//! let fetched = node
//!     .get_file_to(stored.key, "copy.mkv", FetchOptions::default(), |done| {
//!         println!("{} of {} bytes", done.bytes, done.total.unwrap_or_default());
//!     })
//!     .await?;
//! assert_eq!(fetched.bytes, stored.bytes);
//! # Ok(())
//! # }
//! ```
//!
//! Whoever has the key of a file can read it, and holders see what they hold, unless the file is sealed
//! ([`FileOptions::encrypt`]): then it takes the secret too, which is part of the file's [`Reference`] and of nothing
//! in the network. A coded file ([`FileOptions::code`]) survives the loss of chunks. Both may be had together:
//!
//! ```no_run
//! # async fn example(node: kad_node::Node) -> Result<(), Box<dyn std::error::Error>> {
//! use kad_node::file::{Code, FetchOptions, FileOptions};
//!
//! let options = FileOptions::default().encrypt(true).code(Code::new(10, 6)?);
//! let stored = node.put_file(&b"for your eyes only"[..], options, |_| ()).await?;
//! let reference = stored.reference(); // reference.reveal() is the text to keep, or to give to whoever may read the file.
//!
//! let mut copy = Vec::new();
//! node.get_file(&reference, &mut copy, FetchOptions::default(), |_| ()).await?;
//! assert_eq!(copy, b"for your eyes only");
//! # Ok(())
//! # }
//! ```
//!
//! Chunks end with their time to live like all records, unless a node publishes them anew: the one that stored them
//! ([`FileOptions::keep`]), or any other that takes it on ([`Node::keep_file`](crate::Node::keep_file)).
//! [`FetchOptions::repair`] and [`Node::repair_file`](crate::Node::repair_file) store again what too few nodes hold,
//! when asked.

mod chunks;
mod code;
mod error;
#[cfg(test)]
mod faulty;
mod get;
mod options;
mod part;
mod put;
mod reference;
mod repair;
mod seal;
mod stripe;
mod survey;
mod tend;
#[cfg(test)]
mod tests;
pub mod tree;

use std::time::Duration;

use kad_core::{Contact, Key, UnixTime};

pub use self::code::{Code, CodeError, MAX_DATA, MAX_PARITY};
pub use self::error::{GetFileError, PutFileError};
pub use self::options::{DEFAULT_COPIES, FetchOptions, FileOptions, Repair};
pub(crate) use self::part::sync_directory;
pub use self::reference::{Reference, ReferenceError};
pub use self::seal::Secret;
#[cfg(test)]
pub(crate) use self::survey::Surveyed;
pub(crate) use self::survey::{Tree, indexes_below, survey};
pub use self::tend::TendedFile;

/// Chunks under way at once unless told otherwise. By calculation: at 100 ms a round trip, a lookup and a store take
/// about half a second, so eight chunks are some 8 Mbit/s. More helps on longer and wider paths.
pub const DEFAULT_PARALLEL: usize = 8;

/// The most chunks under way at once: a quarter of the queries that a node allows its application, 4 MiB of memory.
pub const MAX_PARALLEL: usize = 64;

/// How often one chunk is tried before the whole is given up: once, and twice again after what may have been a moment's
/// trouble.
pub const ATTEMPTS: u32 = 3;

/// The pause before the second attempt; each further one is twice as long. About the time in which a lookup that failed
/// because of lost contacts has replaced them.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// How far a file is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes that are stored, or fetched, checked and written.
    pub bytes: u64,
    /// Chunks that these bytes are.
    pub chunks: u64,
    /// Requests sent to other nodes so far.
    pub rpcs: u64,
    /// Bytes of the whole file, if that is known: when it is fetched, not when it is read from what may be a pipe. Of a
    /// sealed file it is the most that its chunks can hold until the last of them has been opened.
    pub total: Option<u64>,
}

/// A file that has been stored, all of it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StoredFile<A> {
    /// The key of the file.
    pub key: Key,
    /// Its bytes.
    pub bytes: u64,
    /// What opens it, if it was to be sealed. Nobody can tell it again.
    pub secret: Option<Secret>,
    /// The chunks that it was cut into, at least 1.
    pub chunks: u64,
    /// The parity chunks that were added to them; 0 if it is not coded.
    pub parity: u64,
    /// The index nodes above them; 0 if there is one chunk, unless it is sealed.
    pub indexes: u64,
    /// The copies that the worst chunk or index has, as acknowledged.
    pub copies_min: usize,
    /// The copies that chunks and indexes have on average.
    pub copies_mean: f64,
    /// When the first of the records ends.
    pub expires: UnixTime,
    /// Requests that were sent to other nodes, those of failed attempts not counted.
    pub rpcs: u64,
    /// The nodes that acknowledged the root.
    pub holders_of_root: Vec<Contact<A>>,
}

impl<A> StoredFile<A> {
    /// What names the file, for [`Node::get_file`](crate::Node::get_file).
    #[must_use]
    pub fn reference(&self) -> Reference {
        let mut reference = Reference::from(self.key);
        reference.secret.clone_from(&self.secret);
        reference
    }
}

/// A file that has been fetched, all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchedFile {
    /// Its bytes, all written.
    pub bytes: u64,
    /// The chunks that they came in, at least 1.
    pub chunks: u64,
    /// Chunks among them that nobody had any more, and that parity chunks made up for.
    pub restored: u64,
    /// The index nodes above them; 0 if there is one chunk, unless it is sealed.
    pub indexes: u64,
    /// What was repaired; nothing was looked for unless [`FetchOptions::repair`] said so.
    pub repair: Repaired,
    /// When the first of the copies that answered ends.
    pub expires: UnixTime,
    /// Requests that were sent to other nodes, those of failed attempts not counted.
    pub rpcs: u64,
}

/// What a repair came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// Chunks, parity chunks and index nodes whose copies were counted.
    pub checked: u64,
    /// Those that had too few and were stored again.
    pub stored: u64,
    /// Those that this node keeps now and did not before; 0 unless it was to keep the file
    /// ([`Node::keep_file`](crate::Node::keep_file)).
    pub kept: u64,
    /// Those whose copies could not be counted, or that could not be stored again, in any of the attempts.
    pub failed: u64,
    /// Those of the failed that this node was to keep and has no room for among its own records.
    pub no_room: u64,
}

/// How the work goes: what the options say, made sound, and what they do not say.
#[derive(Debug, Clone, Copy)]
struct Plan {
    room: tree::Room,
    parallel: usize,
    first_pause: Duration,
}

impl Plan {
    fn new(max_value: usize, parallel: usize) -> Self {
        Self {
            room: tree::Room::of_network(max_value),
            parallel: parallel.clamp(1, MAX_PARALLEL),
            first_pause: FIRST_PAUSE,
        }
    }
}
