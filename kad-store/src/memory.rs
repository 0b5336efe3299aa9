//! A store that forgets everything when it is dropped: for tests, simulations and nodes without a disk.
//!
//! A few hundred bytes when empty. Each record costs its bytes and some 650 more for the slot, two time indexes and its
//! mark. A flush is a change of the shared maps under a write lock; readers share the bytes, they do not copy them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use kad_core::{Fingerprint, Prefix, Slot, UnixTime, Verdict};

use crate::batch::{Batch, Committed, Held, Ledger, Listing, Order};
use crate::scan::LAST_SLOT;
use crate::{
    Index, Limits, Page, Put, RecordReader, RecordStore, Scan, StoreError, StoredRecord, Tally, Usage,
};

/// The writer.
#[derive(Debug)]
pub struct MemoryStore {
    batch: Batch,
    flushed: Arc<RwLock<Tables>>,
}

/// A reader. It may outlive its store, and then sees the last flush.
#[derive(Debug, Clone)]
pub struct MemoryReader(Arc<RwLock<Tables>>);

/// The last flush.
#[derive(Debug, Default)]
struct Tables {
    records: BTreeMap<Slot, StoredRecord>,
    by_expiry: BTreeSet<(UnixTime, Slot)>,
    by_due: BTreeSet<(UnixTime, Slot)>,
    index: Index,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            batch: Batch::new(limits, Ledger::new(limits.around)),
            flushed: Arc::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn flushed(&self) -> RwLockReadGuard<'_, impl Committed + use<>> {
        read(&self.flushed)
    }
}

impl RecordStore for MemoryStore {
    type Reader = MemoryReader;

    fn put(&mut self, put: Put<'_>) -> Result<Verdict, StoreError> {
        self.batch.put(&*read(&self.flushed), put)
    }

    fn remove(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        self.batch.remove(&*read(&self.flushed), slot)
    }

    fn discard(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        self.batch.discard(&*read(&self.flushed), slot)
    }

    fn expire(&mut self, now: UnixTime, limit: usize) -> Result<usize, StoreError> {
        self.batch.expire(&*read(&self.flushed), now, limit)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let mut tables = self.flushed.write().unwrap_or_else(PoisonError::into_inner);
        for (slot, change) in self.batch.changes() {
            tables.set(slot, change.record());
        }
        self.batch.done();
        Ok(())
    }

    fn reader(&self) -> MemoryReader {
        MemoryReader(Arc::clone(&self.flushed))
    }

    fn usage(&self) -> Usage {
        self.batch.usage()
    }

    fn tally(&self) -> Tally {
        self.batch.tally()
    }
}

impl RecordReader for MemoryReader {
    fn get(&self, slot: &Slot) -> Result<Option<StoredRecord>, StoreError> {
        Ok(read(&self.0).records.get(slot).cloned())
    }

    fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        let tables = read(&self.0);
        let Some(bounds) = scan.bounds() else {
            return Ok(Page::default());
        };
        let by_slot = tables
            .records
            .range(bounds)
            .map(|(slot, record)| Ok((*slot, record.due)));
        let until = (scan.due_by.unwrap_or_default(), LAST_SLOT);
        let by_due = tables.by_due.range(..=until).map(|(_, slot)| Ok(*slot));
        scan.choose(by_slot, by_due)?
            .read(|slot| Ok(tables.records.get(slot).cloned()))
    }

    fn fingerprint(&self, prefix: Prefix) -> Result<Fingerprint, StoreError> {
        Ok(read(&self.0).index.fingerprint(prefix))
    }

    fn marks(&self, prefix: Prefix, limit: usize) -> Result<Vec<(u64, u128)>, StoreError> {
        Ok(read(&self.0).index.marks(prefix, limit))
    }
}

impl Tables {
    fn set(&mut self, slot: &Slot, record: Option<&StoredRecord>) {
        let old = self.records.remove(slot);
        let bytes = |record: &StoredRecord| record.raw.as_bytes().clone();
        if old.as_ref().map(bytes) != record.map(bytes) {
            old.iter()
                .for_each(|old| self.index.remove(slot.key, old.raw.mark()));
            record
                .iter()
                .for_each(|new| self.index.insert(slot.key, new.raw.mark()));
        }
        if let Some(old) = old {
            self.by_expiry.remove(&(old.raw.expiry(), *slot));
            self.by_due.remove(&(old.due, *slot));
        }
        if let Some(record) = record {
            self.by_expiry.insert((record.raw.expiry(), *slot));
            self.by_due.insert((record.due, *slot));
            self.records.insert(*slot, record.clone());
        }
    }
}

impl Committed for Tables {
    fn held(&self, slot: &Slot) -> Result<Option<Held>, StoreError> {
        Ok(self.records.get(slot).map(Held::from))
    }

    fn records(
        &self,
        first: &Slot,
        last: &Slot,
        order: Order,
        each: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut range = self.records.range(first..=last);
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
        let mut ended = self.by_expiry.range(..=(now, LAST_SLOT));
        let _ = ended.try_for_each(|(_, slot)| match self.records.get(slot) {
            Some(record) => each(*slot, record.into()),
            None => ControlFlow::Continue(()),
        });
        Ok(())
    }
}

/// A panic elsewhere does not leave the maps half changed in a way that matters more than answering does.
fn read(tables: &RwLock<Tables>) -> RwLockReadGuard<'_, Tables> {
    tables.read().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_store_is_small() {
        let own = size_of::<MemoryStore>() + size_of::<RwLock<Tables>>();
        assert!(
            own < 512,
            "{own} bytes, and maps allocate nothing before the first record"
        );
    }
}
