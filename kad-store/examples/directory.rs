//! A store of one's own: a folder of files, proven by the conformance suite.
//!
//! Each flush writes one file with all its changes, so a flush is there whole or not at all. Opening reads the files in
//! order. When there are many, a flush writes everything into one and removes the others. All records are kept in
//! memory too: a backend for the patient reader, not for a million records.
//!
//! What makes a flush durable, in this order: the bytes are written under a name that opening ignores, and synced, so
//! that they are on the device before the file counts; the rename makes it count, atomically; syncing the folder puts
//! the new name itself on the device. Leave out the first sync and a power cut may leave a good name on empty bytes;
//! leave out the second and it may forget the name of a flush that was already acknowledged.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use kad_core::{Key, Kind, NodeId, RawRecord, Slot, Source, UnixTime, Verdict};
use kad_store::batch::{Batch, Committed, Held, Ledger, Listing, Order};
use kad_store::conformance::{self, Survives};
use kad_store::{Limits, Page, Put, RecordReader, RecordStore, Scan, StoreError, StoredRecord, Tally, Usage};

type Records = BTreeMap<Slot, StoredRecord>;

/// After so many files everything is written into one: opening stays quick, at one full rewrite in so many flushes.
const MAX_FILES: usize = 32;

/// A store in a folder.
pub struct DirectoryStore {
    folder: PathBuf,
    /// Held while the store is open: the operating system lets go of it even after a kill.
    _lock: File,
    files: Vec<PathBuf>,
    next: u64,
    batch: Batch,
    flushed: Arc<RwLock<Records>>,
}

/// Reads the last flush, from memory.
#[derive(Clone)]
pub struct DirectoryReader(Arc<RwLock<Records>>);

impl DirectoryStore {
    /// Opens the store in a folder, or makes it.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self, StoreError> {
        fs::create_dir_all(folder)?;
        let lock = File::create(folder.join("lock"))?;
        if lock.try_lock().is_err() {
            return Err(StoreError::Locked {
                path: folder.to_owned(),
            });
        }
        let entries = fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()?;
        let is_flush = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "flush");
        let mut files: Vec<_> = entries.into_iter().filter(is_flush).collect();
        files.sort();
        let mut records = Records::new();
        for file in &files {
            replay(&fs::read(file)?, &mut records).ok_or_else(|| StoreError::Corrupt {
                what: format!("{} ends in the middle", file.display()),
            })?;
        }
        let number = |path: &PathBuf| u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok();
        let next = files.last().and_then(number).map_or(0, |last| last + 1);
        let mut ledger = Ledger::new(limits.around);
        records
            .iter()
            .for_each(|(slot, record)| ledger.add(slot.key, &record.into()));
        let batch = Batch::new(limits, ledger);
        let flushed = Arc::new(RwLock::new(records));
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
            files,
            next,
            batch,
            flushed,
        })
    }

    /// Writes one file that says what a flush did, or (`whole`) what there is after it.
    fn write(&mut self) -> io::Result<()> {
        let whole = self.files.len() >= MAX_FILES;
        let mut bytes = vec![u8::from(whole)];
        if whole {
            let mut all = read(&self.flushed).clone();
            apply(&self.batch, &mut all);
            all.iter()
                .for_each(|(slot, record)| encode(slot, Some(record), &mut bytes));
        } else {
            self.batch
                .changes()
                .for_each(|(slot, change)| encode(slot, change.record(), &mut bytes));
        }
        let name = self.folder.join(format!("{:016x}", self.next));
        let (unfinished, finished) = (name.with_extension("new"), name.with_extension("flush"));
        let mut file = File::create(&unfinished)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        // From here on the number is taken, whatever happens: a failed sync of the folder may still leave the new name.
        self.next += 1;
        fs::rename(&unfinished, &finished)?;
        if let Err(error) = File::open(&self.folder).and_then(|folder| folder.sync_all()) {
            fs::remove_file(&finished)?;
            return Err(error);
        }
        if whole {
            // Only now: until the whole file is safe, these are all there is. One left behind by a crash comes before
            // the whole file in order, so it does no harm.
            self.files.drain(..).for_each(|old| drop(fs::remove_file(old)));
        }
        self.files.push(finished);
        Ok(())
    }
}

impl RecordStore for DirectoryStore {
    type Reader = DirectoryReader;

    fn put(&mut self, put: Put<'_>) -> Result<Verdict, StoreError> {
        self.batch.put(&Flushed(read(&self.flushed)), put)
    }

    fn remove(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        self.batch.remove(&Flushed(read(&self.flushed)), slot)
    }

    fn discard(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        self.batch.discard(&Flushed(read(&self.flushed)), slot)
    }

    fn expire(&mut self, now: UnixTime, limit: usize) -> Result<usize, StoreError> {
        self.batch.expire(&Flushed(read(&self.flushed)), now, limit)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.write() {
            self.batch.refused();
            return Err(error.into());
        }
        apply(
            &self.batch,
            &mut self.flushed.write().unwrap_or_else(PoisonError::into_inner),
        );
        self.batch.done();
        Ok(())
    }

    fn reader(&self) -> DirectoryReader {
        DirectoryReader(Arc::clone(&self.flushed))
    }

    fn usage(&self) -> Usage {
        self.batch.usage()
    }

    fn tally(&self) -> Tally {
        self.batch.tally()
    }
}

impl RecordReader for DirectoryReader {
    fn get(&self, slot: &Slot) -> Result<Option<StoredRecord>, StoreError> {
        Ok(read(&self.0).get(slot).cloned())
    }

    /// Walks through all slots even for what is due: a store for many records has an index for that.
    fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        let records = read(&self.0);
        let Some(bounds) = scan.bounds() else {
            return Ok(Page::default());
        };
        let by_slot = records
            .range(bounds)
            .map(|(slot, record)| Ok((*slot, record.due)));
        let by_due = records
            .values()
            .filter(|record| scan.due_by.is_some_and(|by| record.due <= by));
        let by_due = by_due.map(|record| Ok(record.slot));
        scan.choose(by_slot, by_due)?
            .read(|slot| Ok(records.get(slot).cloned()))
    }
}

/// What the last flush left. Walking through all of it to find what expired is as lazy as `scan` is.
struct Flushed<'a>(RwLockReadGuard<'a, Records>);

impl Committed for Flushed<'_> {
    fn held(&self, slot: &Slot) -> Result<Option<Held>, StoreError> {
        Ok(self.0.get(slot).map(Held::from))
    }

    fn records(
        &self,
        first: &Slot,
        last: &Slot,
        order: Order,
        each: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut range = self.0.range(first..=last);
        let mut each = |(slot, record): (&Slot, &StoredRecord)| each(*slot, record.into());
        let _ = match order {
            Order::Up => range.try_for_each(&mut each),
            Order::Down => range.rev().try_for_each(&mut each),
        };
        Ok(())
    }

    fn expired(
        &self,
        now: UnixTime,
        each: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let ended = self.0.values().filter(|record| record.raw.expiry() <= now);
        let mut ended: Vec<(Slot, Listing)> = ended.map(|record| (record.slot, record.into())).collect();
        ended.sort_unstable_by_key(|(slot, listing)| (listing.expiry, *slot));
        let _ = ended
            .into_iter()
            .try_for_each(|(slot, listing)| each(slot, listing));
        Ok(())
    }
}

fn read(records: &RwLock<Records>) -> RwLockReadGuard<'_, Records> {
    records.read().unwrap_or_else(PoisonError::into_inner)
}

fn apply(batch: &Batch, records: &mut Records) {
    for (slot, change) in batch.changes() {
        match change.record() {
            Some(record) => drop(records.insert(*slot, record.clone())),
            None => drop(records.remove(slot)),
        }
    }
}

/// key:32 kind:1 provider:32 present:1, and for a record: expiry:8 due:8 own:1 source:8 length:4 bytes. All big-endian.
fn encode(slot: &Slot, record: Option<&StoredRecord>, out: &mut Vec<u8>) {
    out.extend(slot.key.to_bytes());
    out.push(slot.kind as u8);
    out.extend(slot.provider.to_bytes());
    out.push(u8::from(record.is_some()));
    if let Some(record) = record {
        out.extend(record.raw.expiry().as_secs().to_be_bytes());
        out.extend(record.due.as_secs().to_be_bytes());
        out.push(u8::from(record.own));
        out.extend(record.source.to_u64().to_be_bytes());
        out.extend((record.raw.as_bytes().len() as u32).to_be_bytes());
        out.extend(record.raw.as_bytes());
    }
}

/// Does to the records what one file says; `None` if the file is damaged.
fn replay(mut bytes: &[u8], records: &mut Records) -> Option<()> {
    fn array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let mut array = [0; N];
        bytes.read_exact(&mut array).ok().map(|()| array)
    }
    if array::<1>(&mut bytes)? == [1] {
        records.clear();
    }
    while !bytes.is_empty() {
        let key = Key::from_bytes(array(&mut bytes)?);
        let kind = Kind::from_u8(array::<1>(&mut bytes)?[0])?;
        let slot = Slot {
            key,
            kind,
            provider: NodeId::from_bytes(array(&mut bytes)?),
        };
        if array::<1>(&mut bytes)? == [0] {
            records.remove(&slot);
            continue;
        }
        let expiry = UnixTime::from_secs(u64::from_be_bytes(array(&mut bytes)?));
        let due = UnixTime::from_secs(u64::from_be_bytes(array(&mut bytes)?));
        let own = array::<1>(&mut bytes)? == [1];
        let source = Source::new(u64::from_be_bytes(array(&mut bytes)?));
        let length = u32::from_be_bytes(array(&mut bytes)?) as usize;
        let (body, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        let raw = RawRecord::parse(body.to_vec().into(), expiry).ok()?;
        let record = StoredRecord {
            slot,
            raw,
            due,
            own,
            source,
        };
        records.insert(slot, record);
    }
    Some(())
}

/// Proves the store and says what was proven.
pub fn main() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let open = |name: &str, limits| {
        DirectoryStore::open(&folder.path().join(name), limits).expect("a fresh folder can be opened")
    };
    let proven = conformance::run(Survives::LastFlush, open);
    let mut out = io::stdout().lock();
    writeln!(out, "A folder of files kept {} rules:", proven.len())?;
    proven.iter().try_for_each(|rule| writeln!(out, "- {rule}"))
}
