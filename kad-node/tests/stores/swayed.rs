//! A store in memory that does with what is put into it whatever a test wants, and is good in all else.

use kad_core::{Slot, UnixTime, Verdict};
use kad_store::memory::MemoryReader;
use kad_store::{Limits, MemoryStore, Put, RecordStore, StoreError, Tally, Usage};

/// What becomes of a record, given the good store.
type Sway = Box<dyn FnMut(&mut MemoryStore, Put<'_>) -> Result<Verdict, StoreError> + Send>;

/// See the module.
pub(crate) struct Swayed {
    store: MemoryStore,
    sway: Sway,
}

impl Swayed {
    pub(crate) fn new(
        sway: impl FnMut(&mut MemoryStore, Put<'_>) -> Result<Verdict, StoreError> + Send + 'static,
    ) -> Self {
        Self {
            store: MemoryStore::new(Limits::default()),
            sway: Box::new(sway),
        }
    }
}

impl RecordStore for Swayed {
    type Reader = MemoryReader;

    fn put(&mut self, put: Put<'_>) -> Result<Verdict, StoreError> {
        (self.sway)(&mut self.store, put)
    }

    fn remove(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        self.store.remove(slot)
    }

    fn discard(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        self.store.discard(slot)
    }

    fn expire(&mut self, now: UnixTime, limit: usize) -> Result<usize, StoreError> {
        self.store.expire(now, limit)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.store.flush()
    }

    fn reader(&self) -> MemoryReader {
        self.store.reader()
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }

    fn tally(&self) -> Tally {
        self.store.tally()
    }
}
