//! The default store: one file of the embedded database [redb](https://docs.rs/redb).
//!
//! ```text
//! about       name                    → number        format, records, bytes
//! records     slot                    → expiry due own length
//! bodies      slot                    → the canonical bytes
//! by_expiry   expiry ‖ slot           → ()
//! by_due      due ‖ slot              → ()
//! ```
//!
//! All integers are big-endian, so the database's order of bytes is the order of slots and times. Bodies are apart from
//! the rest so that a new due time rewrites small pages only.
//!
//! - **A flush is one transaction.** Writes wait in a [`Batch`] in memory; the transaction begins in
//!   [`flush`](RecordStore::flush) and ends there. `quick_repair` is on: after a kill the file opens in milliseconds
//!   whatever its size, and for that redb syncs the file twice in each commit, once for the pages and once for the header.
//! - **Readers** share the tables of the last flush and never wait for a writer.
//! - **The file is locked** while it is open. A file that is not ours, or of another format, is left as it is. A new one
//!   is made under another name and renamed, so a crash while making it leaves nothing half made behind.
//! - **Sizes.** A body that does not fit into a page of 4 KiB has pages of its own, rounded up to a power of two: a
//!   record of 60 KiB takes 64 KiB, and one of 64 KiB and a bit takes 128 KiB. Split larger things below 64,000 bytes.
//!
//! After an I/O error redb refuses all further work until the file is opened anew; so does this store, with errors.

mod layout;
mod tables;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ::redb::{Builder, Database, DatabaseError, StorageError};
use kad_core::{Slot, UnixTime, Verdict};

use self::tables::{Found, Snapshot};
use crate::batch::Batch;
use crate::{Limits, Page, Put, RecordReader, RecordStore, Scan, StoreError, StoredRecord, Usage};

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u64 = 1;

/// How to open a [`RedbStore`].
#[derive(Debug, Clone)]
pub struct RedbConfig {
    /// What it may hold.
    pub limits: Limits,
    /// Memory for pages of the file in bytes. Default 16 MiB: it fills as pages are used, and holds the upper levels of
    /// all trees at the default limits. Many stores in one process want less; redb's own default is 1 GiB.
    pub cache_bytes: usize,
    /// Check every page's checksum on opening. Default false: it reads the whole file, which is seconds for a full one.
    /// Turn it on for a disk that is under suspicion.
    pub check_on_open: bool,
}

impl Default for RedbConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            cache_bytes: 16 << 20,
            check_on_open: false,
        }
    }
}

/// The writer. Dropping it closes the file; what was not flushed is gone.
#[derive(Debug)]
pub struct RedbStore {
    batch: Batch,
    current: Arc<Current>,
    database: Database,
}

/// A reader. It may outlive its store and is then answered [`StoreError::Closed`].
#[derive(Debug, Clone)]
pub struct RedbReader(Arc<Current>);

/// The tables of the last flush, `None` when there is no store any more.
#[derive(Debug)]
struct Current(RwLock<Option<Arc<Snapshot>>>);

impl RedbStore {
    /// Opens the store in a file, or makes it. The folder must be there.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Foreign`] and [`StoreError::Format`] say why a file is not opened, and
    /// leave it as it is; [`StoreError::Corrupt`] and [`StoreError::Io`] speak for themselves.
    pub fn open(path: impl AsRef<Path>, config: &RedbConfig) -> Result<Self, StoreError> {
        let path = path.as_ref();
        if is_absent(path) {
            create(path)?;
        }
        let mut builder = Builder::new();
        builder
            .set_cache_size(config.cache_bytes)
            .set_check_integrity_on_open(config.check_on_open);
        let database = builder.open(path).map_err(|error| cannot_open(path, error))?;
        Self::on(database, path, config.limits)
    }

    fn on(database: Database, path: &Path, limits: Limits) -> Result<Self, StoreError> {
        let path = || path.to_owned();
        let usage = match tables::about(&database)? {
            Found::Ours(usage) => usage,
            Found::OtherFormat(found) => {
                return Err(StoreError::Format {
                    path: path(),
                    found,
                    supported: FORMAT,
                });
            }
            Found::Foreign => return Err(StoreError::Foreign { path: path() }),
        };
        let snapshot = Snapshot::of(&database)?;
        Ok(Self {
            batch: Batch::new(limits, usage),
            current: Arc::new(Current(RwLock::new(Some(Arc::new(snapshot))))),
            database,
        })
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.current.set(None);
    }
}

impl RecordStore for RedbStore {
    type Reader = RedbReader;

    fn put(&mut self, put: Put<'_>) -> Result<Verdict, StoreError> {
        self.batch.put(&*self.current.get()?, put)
    }

    fn remove(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        self.batch.remove(&*self.current.get()?, slot)
    }

    fn expire(&mut self, now: UnixTime, limit: usize) -> Result<usize, StoreError> {
        self.batch.expire(&*self.current.get()?, now, limit)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let written = tables::write(&self.database, &self.batch).and_then(|()| Snapshot::of(&self.database));
        match written {
            Ok(snapshot) => {
                self.batch.done();
                self.current.set(Some(Arc::new(snapshot)));
                Ok(())
            }
            Err(error) => {
                self.batch.refused();
                Err(error)
            }
        }
    }

    fn reader(&self) -> RedbReader {
        RedbReader(Arc::clone(&self.current))
    }

    fn usage(&self) -> Usage {
        self.batch.usage()
    }
}

impl RecordReader for RedbReader {
    fn get(&self, slot: &Slot) -> Result<Option<StoredRecord>, StoreError> {
        self.0.get()?.record(slot)
    }

    fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        self.0.get()?.scan(scan)
    }
}

impl Current {
    fn get(&self) -> Result<Arc<Snapshot>, StoreError> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current.clone().ok_or(StoreError::Closed)
    }

    fn set(&self, snapshot: Option<Arc<Snapshot>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

/// Makes an empty store beside `path` and moves it there once it is whole. Whoever comes second leaves the first's.
fn create(path: &Path) -> Result<(), StoreError> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let mut unfinished = path.as_os_str().to_owned();
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    unfinished.push(format!(".{}-{number}.new", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let database = Builder::new()
        .set_cache_size(1 << 20)
        .create(&unfinished)
        .map_err(|error| cannot_open(&unfinished, error))?;
    tables::initialise(&database)?;
    drop(database);
    // A link, unlike a rename, never replaces a store that somebody else just made. Some file systems have no links.
    match std::fs::hard_link(&unfinished, path) {
        Err(_) if is_absent(path) => std::fs::rename(&unfinished, path)?,
        _ => std::fs::remove_file(&unfinished)?,
    }
    sync_folder_of(path)
}

fn is_absent(path: &Path) -> bool {
    match std::fs::metadata(path) {
        Ok(file) => file.len() == 0,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// A new name is durable when its folder is.
fn sync_folder_of(path: &Path) -> Result<(), StoreError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if cfg!(unix) {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn cannot_open(path: &Path, error: DatabaseError) -> StoreError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path },
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            StoreError::Foreign { path }
        }
        other => fault(other),
    }
}

/// The error of any operation of redb, in our words.
fn fault(error: impl Into<::redb::Error>) -> StoreError {
    match error.into() {
        ::redb::Error::Io(error) => StoreError::Io(error),
        ::redb::Error::Corrupted(what) => StoreError::Corrupt { what },
        ::redb::Error::DatabaseClosed => StoreError::Closed,
        other => StoreError::Backend(other.into()),
    }
}
