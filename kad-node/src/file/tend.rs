//! Looking after a file without reading it: keeping it alive, or repairing it.
//!
//! Which records a file has follows from its index nodes, which are not sealed, and parity is made of chunks as they
//! are stored. So neither takes the secret of a sealed file: who looks after it learns no more of it than any holder.
//!
//! What this module refuses to do: republish. What is kept lies in the own store as the node's own, and the node's
//! sweeps store it again like everything else of its own.

use kad_core::{Key, UnixTime};
use kad_net::WireAddress;

use super::get::{Consumer, root, walk};
use super::stripe::{Books, Care, Fetcher, Whole};
use super::tree::Format;
use super::{FetchOptions, GetFileError, Plan, Progress, Repaired};
use crate::Node;

/// A file that was looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TendedFile {
    /// The key of the file.
    pub key: Key,
    /// The bytes of its chunks, without parity: of a sealed file, with what the seals add.
    pub bytes: u64,
    /// Its chunks, at least 1.
    pub chunks: u64,
    /// Its parity chunks.
    pub parity: u64,
    /// The index nodes above them.
    pub indexes: u64,
    /// Chunks that nobody had any more, and that parity chunks made up for.
    pub restored: u64,
    /// What was done. If nothing failed, the file is whole: every record of it was found or restored.
    pub repair: Repaired,
    /// When the first of the copies that answered ends.
    pub expires: UnixTime,
    /// Requests that were sent to other nodes to fetch it.
    pub rpcs: u64,
}

impl<A: WireAddress> Node<A> {
    /// Takes on keeping a file alive, or any immutable value: fetches all records of it, keeps them as this node's own,
    /// and stores again at once what too few nodes hold. From then on this node publishes them anew before they end,
    /// for as long as it runs, and after a restart if it has a data directory and comes back in time. The secret of a
    /// sealed file is not needed.
    ///
    /// Of a record that is kept already nothing is asked and nothing changed: whoever was interrupted calls it again,
    /// and it goes on. [`FetchOptions::repair`] says what is too few and how long the records live at first; its
    /// default counts if there is none. A file takes as much room in the own store as it has bytes; set
    /// [`FetchOptions::max_bytes`] for keys of strangers.
    ///
    /// # Errors
    /// [`GetFileError`]; what was kept until then stays kept. Once the own store is full, nothing more is fetched
    /// ([`GetFileError::NoRoom`]). That a record could not be kept for another reason is no error, but counted in
    /// [`Repaired::failed`].
    ///
    /// # Cancel safety
    /// Dropping the future cancels what is in flight. What was kept until then stays kept.
    pub async fn keep_file(
        &self,
        key: Key,
        options: FetchOptions,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<TendedFile, GetFileError> {
        let plan = Plan::new(self.rules().max_value, options.parallel);
        let care = Care::Keep(options.repair.unwrap_or_default());
        tend(self, plan, key, options.max_bytes, care, progress).await
    }

    /// Stores again what too few nodes hold of a file, as [`get_file`](Self::get_file) does with
    /// [`FetchOptions::repair`], whose default counts if there is none; but nothing is written, and the secret of a
    /// sealed file is not needed.
    ///
    /// # Errors
    /// [`GetFileError`]; what was stored until then stays. That a record could not be repaired is no error, but counted
    /// in [`Repaired::failed`].
    ///
    /// # Cancel safety
    /// Dropping the future cancels what is in flight.
    pub async fn repair_file(
        &self,
        key: Key,
        options: FetchOptions,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<TendedFile, GetFileError> {
        let plan = Plan::new(self.rules().max_value, options.parallel);
        let care = Care::Repair(options.repair.unwrap_or_default());
        tend(self, plan, key, options.max_bytes, care, progress).await
    }
}

pub(super) async fn tend<C: super::chunks::Chunks>(
    chunks: &C,
    plan: Plan,
    key: Key,
    limit: u64,
    care: Care,
    progress: impl FnMut(Progress) + Send,
) -> Result<TendedFile, GetFileError> {
    let (root, walker) = root(chunks, plan, key).await?;
    let mut books = Books::new();
    books.count(&root);
    let (format, bytes) = match &walker {
        Some(walker) => (walker.shape().format(), walker.total()),
        None => (Format::default(), root.bytes.len() as u64),
    };
    if bytes > limit {
        return Err(GetFileError::TooLarge { bytes, limit });
    }
    let mut tender = Tender {
        tended: TendedFile {
            key,
            bytes,
            chunks: 0,
            parity: 0,
            indexes: 0,
            restored: 0,
            repair: Repaired::default(),
            expires: root.expires,
            rpcs: 0,
        },
        books,
        done: 0,
        progress,
    };
    let shape = plan.room.shape(format).ok_or(GetFileError::TinyValues)?;
    let fetcher = Fetcher::new(chunks, plan, shape, Some(care));
    fetcher
        .mend(&mut tender.books.repair, root.content, &root.bytes, root.expires)
        .await;
    match walker {
        None => {
            tender.tended.chunks = 1;
            tender.told(bytes);
        }
        Some(walker) => {
            tender.tended.indexes = 1;
            walk(&fetcher, plan, walker, &mut tender).await?;
        }
    }
    tender.had_room()?;
    Ok(TendedFile {
        restored: tender.books.restored,
        repair: tender.books.repair,
        expires: tender.books.expires,
        rpcs: tender.books.rpcs,
        ..tender.tended
    })
}

/// Counts what is looked after.
struct Tender<P> {
    tended: TendedFile,
    books: Books,
    /// Bytes of the file that were looked after.
    done: u64,
    progress: P,
}

impl<P: FnMut(Progress)> Tender<P> {
    /// What there is no room for now, there is none for a moment later.
    const fn had_room(&self) -> Result<(), GetFileError> {
        match self.books.repair.no_room {
            0 => Ok(()),
            _ => Err(GetFileError::NoRoom { key: self.tended.key }),
        }
    }

    fn told(&mut self, bytes: u64) {
        self.done += bytes;
        (self.progress)(Progress {
            bytes: self.done,
            chunks: self.tended.chunks,
            rpcs: self.books.rpcs,
            total: Some(self.tended.bytes),
        });
    }
}

impl<P: FnMut(Progress) + Send> Consumer for Tender<P> {
    fn index(&mut self, books: &Books) {
        self.books.add(books);
        self.tended.indexes += 1;
    }

    async fn stripe(&mut self, whole: Whole) -> Result<(), GetFileError> {
        self.books.add(&whole.books);
        self.tended.chunks += whole.stripe.data.len() as u64;
        self.tended.parity += whole.stripe.parity.len() as u64;
        self.told(whole.stripe.data.iter().map(|place| place.length).sum());
        self.had_room()
    }
}
