//! The default store: one file of the embedded database [redb](https://docs.rs/redb).
//!
//! ```text
//! about       name                    → number        format
//! records     slot                    → expiry due flags length mark source
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
//!   whatever its size, and for that redb syncs the file twice in each commit, once for the pages and once for the
//!   header.
//! - **Readers** share the tables of the last flush and never wait for a writer.
//! - **Damage is noticed** by the mark that each record has from the day on which it was written. A damaged record is
//!   left out of what is read and can be [discarded](RecordStore::discard); one that is stored again takes its place.
//! - **The file is locked** while it is open. A file that is not ours, or of another format, is left as it is. A new
//!   one is made under another name and renamed, so a crash while making it leaves nothing half made behind.
//! - **Sizes.** A body that does not fit into a page of 4 KiB has pages of its own, rounded up to a power of two: a
//!   record of 60 KiB takes 64 KiB, and one of 64 KiB and a bit takes 128 KiB. Split larger things below 64,000 bytes.
//!
//! After an I/O error redb refuses all further work until the file is opened anew; so does this store, with errors.

mod layout;
mod tables;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use ::redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError};
use kad_core::{Fingerprint, Prefix, Slot, UnixTime, Verdict};

use self::tables::{Found, Marked, Snapshot};
use crate::batch::Batch;
use crate::{
    Index, Limits, Page, Put, RecordReader, RecordStore, Scan, StoreError, StoredRecord, Tally, Usage,
};

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u64 = 3;

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

/// The last flush.
#[derive(Debug)]
struct Current {
    /// Its tables, `None` when there is no store any more.
    tables: RwLock<Option<Arc<Snapshot>>>,
    /// The marks of its records.
    index: RwLock<Index>,
}

impl RedbStore {
    /// Opens the store in a file, or makes it. The folder must be there.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Foreign`] and [`StoreError::Format`] say why a file is not opened, and
    /// leave it as it is; [`StoreError::Corrupt`] and [`StoreError::Io`] speak for themselves.
    pub fn open(path: impl AsRef<Path>, config: &RedbConfig) -> Result<Self, StoreError> {
        /// One at a time in a process: while one looks at a file, another one must not take that for its being in use.
        static OPENING: Mutex<()> = Mutex::new(());
        let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        let path = path.as_ref();
        if is_absent(path) {
            create(path)?;
        }
        let mut builder = Builder::new();
        builder
            .set_cache_size(config.cache_bytes)
            .set_check_integrity_on_open(config.check_on_open);
        // Opening for writing writes, even in a database that turns out not to be ours; so look first, if it can be
        // looked at: one that was not closed cannot, and is repaired whoever's it is.
        guarded(|| match builder.open_read_only(path) {
            Ok(database) => check_format(&database, path),
            Err(_) => Ok(()),
        })?;
        guarded(|| {
            let database = builder.open(path).map_err(|error| cannot_open(path, error))?;
            Self::on(database, path, config.limits)
        })
    }

    fn on(database: Database, path: &Path, limits: Limits) -> Result<Self, StoreError> {
        check_format(&database, path)?;
        let snapshot = Snapshot::of(&database)?;
        let (index, ledger) = snapshot.counted(limits.around)?;
        let current = Current {
            index: RwLock::new(index),
            tables: RwLock::new(Some(Arc::new(snapshot))),
        };
        Ok(Self {
            batch: Batch::new(limits, ledger),
            current: Arc::new(current),
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
        let current = self.current.get()?;
        guarded(|| self.batch.put(&*current, put))
    }

    fn remove(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        let current = self.current.get()?;
        guarded(|| self.batch.remove(&*current, slot))
    }

    fn discard(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        let current = self.current.get()?;
        guarded(|| self.batch.discard(&*current, slot))
    }

    fn expire(&mut self, now: UnixTime, limit: usize) -> Result<usize, StoreError> {
        let current = self.current.get()?;
        guarded(|| self.batch.expire(&*current, now, limit))
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let written = guarded(|| {
            let marked = tables::write(&self.database, &self.batch)?;
            Ok((Snapshot::of(&self.database)?, marked))
        });
        match written {
            Ok((snapshot, marked)) => {
                self.batch.done();
                self.current.mark(&marked);
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

    fn tally(&self) -> Tally {
        self.batch.tally()
    }
}

impl RecordReader for RedbReader {
    fn get(&self, slot: &Slot) -> Result<Option<StoredRecord>, StoreError> {
        let current = self.0.get()?;
        guarded(|| current.record(slot))
    }

    fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        let current = self.0.get()?;
        guarded(|| current.scan(scan))
    }

    fn fingerprint(&self, prefix: Prefix) -> Result<Fingerprint, StoreError> {
        Ok(self.0.index()?.fingerprint(prefix))
    }

    fn marks(&self, prefix: Prefix, limit: usize) -> Result<Vec<(u64, u128)>, StoreError> {
        Ok(self.0.index()?.marks(prefix, limit))
    }
}

impl Current {
    fn get(&self) -> Result<Arc<Snapshot>, StoreError> {
        let current = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        current.clone().ok_or(StoreError::Closed)
    }

    fn index(&self) -> Result<RwLockReadGuard<'_, Index>, StoreError> {
        self.get()?;
        Ok(self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn mark(&self, marked: &[Marked]) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for &(key, before, after) in marked {
            before.iter().for_each(|&mark| index.remove(key, mark));
            after.iter().for_each(|&mark| index.insert(key, mark));
        }
    }

    fn set(&self, snapshot: Option<Arc<Snapshot>>) {
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

/// Whether the database is ours.
fn check_format(database: &impl ReadableDatabase, path: &Path) -> Result<(), StoreError> {
    let path = path.to_owned();
    match tables::about(database)? {
        Found::Ours => Ok(()),
        Found::OtherFormat(found) => Err(StoreError::Format {
            path,
            found,
            supported: FORMAT,
        }),
        Found::Foreign => Err(StoreError::Foreign { path }),
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

/// Work in redb, which panics where a damaged page makes no sense to it. A damaged file must not end the node.
///
/// What a panic leaves behind is sound: our own state changes only after redb has answered, and redb refuses what a
/// panic of its own has poisoned.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(StoreError::Corrupt {
            what: "the database makes no sense of its own pages".to_owned(),
        })
    })
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use ::redb::StorageBackend;
    use ::redb::backends::InMemoryBackend;
    use kad_core::{Duration, NetworkId, Parameters, Record, Rules, Source};

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    /// A disk that outlives the databases on it and can be made to fail.
    #[derive(Debug, Clone, Default)]
    struct Disk {
        blocks: Arc<InMemoryBackend>,
        is_broken: Arc<AtomicBool>,
    }

    impl Disk {
        fn check(&self) -> io::Result<()> {
            match self.is_broken.load(Ordering::SeqCst) {
                true => Err(io::Error::other("the disk is broken")),
                false => Ok(()),
            }
        }

        fn store(&self) -> RedbStore {
            self.is_broken.store(false, Ordering::SeqCst);
            let database = Builder::new().create_with_backend(self.clone()).unwrap();
            if matches!(tables::about(&database).unwrap(), Found::Foreign) {
                tables::initialise(&database).unwrap();
            }
            RedbStore::on(database, Path::new("memory"), Limits::default()).unwrap()
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.blocks.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.blocks.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.check()?;
            self.blocks.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.check()?;
            self.blocks.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.check()?;
            self.blocks.write(offset, data)
        }
    }

    fn record(number: u64) -> Record {
        let parameters = Parameters::default();
        let rules = Rules::new(NetworkId::new("unit", &parameters), &parameters);
        Record::immutable(&number.to_be_bytes(), NOW + Duration::from_secs(60), &rules, NOW).unwrap()
    }

    fn put(store: &mut RedbStore, number: u64) -> Result<Verdict, StoreError> {
        let record = record(number);
        store.put(Put {
            record: &record,
            expected: None,
            due: NOW,
            own: false,
            source: Source::UNKNOWN,
            sender: None,
        })
    }

    fn holds(store: &RedbStore, number: u64) -> bool {
        store.reader().get(&record(number).slot()).unwrap().is_some()
    }

    #[test]
    fn a_failed_flush_refuses_its_batch_and_keeps_the_one_before() {
        let disk = Disk::default();
        let mut store = disk.store();
        put(&mut store, 1).unwrap();
        store.flush().unwrap();
        let usage = store.usage();
        put(&mut store, 2).unwrap();
        store.remove(&record(1).slot()).unwrap();
        disk.is_broken.store(true, Ordering::SeqCst);
        assert!(store.flush().is_err());
        assert_eq!(store.usage(), usage, "what could not be flushed is not counted");
        assert!(
            store.flush().is_ok(),
            "the batch was forgotten, so there is nothing to write"
        );
        drop(store);
        let mut store = disk.store();
        assert!(holds(&store, 1) && !holds(&store, 2));
        assert_eq!(store.usage(), usage);
        put(&mut store, 3).unwrap();
        store.flush().unwrap();
        assert!(holds(&store, 3), "a disk that is well again can be written");
    }
}
