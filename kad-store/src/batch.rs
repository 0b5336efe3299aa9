//! The writes since the last flush, judged and counted: the rules that all backends share.
//!
//! A backend asks the [`Batch`] on every write and hands it a view of what the last flush left ([`Committed`]). On flush
//! it writes [`Batch::changes`] in one transaction and says [`done`](Batch::done) or [`refused`](Batch::refused). The batch does no I/O
//! itself, and nothing it buffers is visible to readers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use kad_core::record::judge;
use kad_core::{Key, Kind, NodeId, RawRecord, Record, Slot, UnixTime, Verdict};

use crate::scan::LAST_SLOT;
use crate::{Limits, Put, StoreError, StoredRecord, Usage};

/// The most slots that may change between two flushes: sixty-four times what a busy node drains into one batch.
pub const MAX_BATCH_SLOTS: usize = 65_536;

/// The most bytes of records that may wait for a flush: 64 MiB, a thousand of the largest records.
pub const MAX_BATCH_BYTES: usize = 64 << 20;

/// What the last flush left, as the [`Batch`] needs to see it.
pub trait Committed {
    /// What is held in a slot.
    ///
    /// # Errors
    /// Why it could not be read. Bytes that are no record any more are no error, but [`Held::raw`] `None`.
    fn held(&self, slot: &Slot) -> Result<Option<Held>, StoreError>;

    /// Calls `each` with the slots of the providers of a key, in any order, until it breaks off.
    ///
    /// # Errors
    /// Why they could not be read.
    fn providers(&self, key: Key, each: &mut dyn FnMut(Slot) -> ControlFlow<()>) -> Result<(), StoreError>;

    /// Calls `each` with expiry, slot and length in bytes of the records whose expiry is not after `now`, in the order
    /// of expiry and slot, until it breaks off.
    ///
    /// # Errors
    /// Why they could not be read.
    fn expired(
        &self,
        now: UnixTime,
        each: &mut dyn FnMut(UnixTime, Slot, u64) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;
}

/// What a slot holds.
#[derive(Debug, Clone)]
pub struct Held {
    /// The record, or `None` if its bytes are damaged: then anything may take its place.
    pub raw: Option<RawRecord>,
    /// Its length as it was counted.
    pub bytes: u64,
    /// When the node should see to it next.
    pub due: UnixTime,
    /// Whether the node itself published it.
    pub own: bool,
}

impl From<&StoredRecord> for Held {
    fn from(stored: &StoredRecord) -> Self {
        Self {
            raw: Some(stored.raw.clone()),
            bytes: length(&stored.raw),
            due: stored.due,
            own: stored.own,
        }
    }
}

/// What to do with a slot on flush.
#[derive(Debug, Clone)]
pub enum Change {
    /// Write the record.
    Written(StoredRecord),
    /// The bytes are those of the last flush; only expiry, due time or own differ.
    Touched(StoredRecord),
    /// Forget the slot, if it is there.
    Removed,
}

impl Change {
    /// What the slot holds after the change.
    #[must_use]
    pub const fn record(&self) -> Option<&StoredRecord> {
        match self {
            Self::Written(record) | Self::Touched(record) => Some(record),
            Self::Removed => None,
        }
    }
}

/// The writes since the last flush.
#[derive(Debug)]
pub struct Batch {
    limits: Limits,
    committed: Usage,
    usage: Usage,
    changes: BTreeMap<Slot, Change>,
    /// The records among the changes, by expiry.
    by_expiry: BTreeSet<(UnixTime, Slot)>,
    bytes: usize,
}

impl Batch {
    /// Nothing written yet, on top of what the last flush left.
    #[must_use]
    pub const fn new(limits: Limits, committed: Usage) -> Self {
        Self {
            limits,
            committed,
            usage: committed,
            changes: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// [`RecordStore::put`](crate::RecordStore::put).
    ///
    /// # Errors
    /// [`StoreError::BatchFull`], or an error of `base`. Nothing changed.
    pub fn put(&mut self, base: &impl Committed, put: Put<'_>) -> Result<Verdict, StoreError> {
        let slot = put.record.slot();
        let held = self.held(base, &slot)?;
        let held_raw = held.as_ref().and_then(|held| held.raw.as_ref());
        let verdict = judge(held_raw, put.record, put.expected);
        let (raw, same) = match (verdict, held_raw) {
            (Verdict::Stored, _) if !self.has_room(base, &slot, held.as_ref(), put.record)? => {
                return Ok(Verdict::Full);
            }
            (Verdict::Stored, Some(held)) if held.as_bytes() == put.record.as_bytes() => {
                (with_expiry(held.as_bytes().clone(), put.record.expiry())?, true)
            }
            (Verdict::Stored, _) => (own_copy(put.record)?, false),
            (Verdict::Unchanged, Some(held)) => (held.clone(), true),
            _ => return Ok(verdict),
        };
        let own = put.own || held.as_ref().is_some_and(|held| held.own);
        // Or others who hand our own record on would put off for ever the hour in which it gets a new life.
        let due = match &held {
            Some(held) if held.own && !put.own => held.due.min(put.due),
            _ => put.due,
        };
        let is_news = |held: &Held| verdict == Verdict::Stored || (held.due, held.own) != (due, own);
        if held.as_ref().is_none_or(is_news) {
            self.keep(StoredRecord { slot, raw, due, own }, held.as_ref(), same)?;
        }
        Ok(verdict)
    }

    /// [`RecordStore::remove`](crate::RecordStore::remove).
    ///
    /// # Errors
    /// [`StoreError::BatchFull`], or an error of `base`. Nothing changed.
    pub fn remove(&mut self, base: &impl Committed, slot: &Slot) -> Result<bool, StoreError> {
        let Some(held) = self.held(base, slot)? else {
            return Ok(false);
        };
        self.check_batch(slot, 0)?;
        self.drop_slot(*slot, held.bytes);
        Ok(true)
    }

    /// [`RecordStore::expire`](crate::RecordStore::expire).
    ///
    /// # Errors
    /// [`StoreError::BatchFull`], or an error of `base`. Nothing changed.
    pub fn expire(
        &mut self,
        base: &impl Committed,
        now: UnixTime,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let limit = match MAX_BATCH_SLOTS - self.changes.len() {
            0 if limit > 0 => return Err(StoreError::BatchFull),
            room => limit.min(room),
        };
        let mut ended = Vec::new();
        for &(expiry, slot) in self.by_expiry.range(..=(now, LAST_SLOT)).take(limit) {
            let record = self.changes.get(&slot).and_then(Change::record);
            ended.push((expiry, slot, record.map_or(0, |record| length(&record.raw))));
        }
        let mut found = 0;
        base.expired(now, &mut |expiry, slot, bytes| {
            if found == limit {
                return ControlFlow::Break(());
            }
            if !self.changes.contains_key(&slot) {
                ended.push((expiry, slot, bytes));
                found += 1;
            }
            ControlFlow::Continue(())
        })?;
        ended.sort_unstable();
        ended.truncate(limit);
        for &(_, slot, bytes) in &ended {
            self.drop_slot(slot, bytes);
        }
        Ok(ended.len())
    }

    /// What is held, counting what was written since the last flush.
    #[must_use]
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// Whether there is nothing to flush.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What is to be written, in the order of the slots.
    pub fn changes(&self) -> impl Iterator<Item = (&Slot, &Change)> {
        self.changes.iter()
    }

    /// The changes are on disk: they are the state from now on.
    pub fn done(&mut self) {
        self.committed = self.usage;
        self.clear();
    }

    /// The changes could not be written: they are forgotten.
    pub fn refused(&mut self) {
        self.usage = self.committed;
        self.clear();
    }

    fn clear(&mut self) {
        self.changes = BTreeMap::new();
        self.by_expiry = BTreeSet::new();
        self.bytes = 0;
    }

    fn held(&self, base: &impl Committed, slot: &Slot) -> Result<Option<Held>, StoreError> {
        match self.changes.get(slot) {
            Some(change) => Ok(change.record().map(Held::from)),
            None => base.held(slot),
        }
    }

    fn has_room(
        &self,
        base: &impl Committed,
        slot: &Slot,
        held: Option<&Held>,
        record: &Record,
    ) -> Result<bool, StoreError> {
        let bytes = length(record.as_raw());
        let Limits {
            max_records,
            max_bytes,
            max_providers_per_key,
        } = self.limits;
        if let Some(held) = held {
            return Ok(
                bytes <= held.bytes || self.usage.bytes.saturating_sub(held.bytes) + bytes <= max_bytes
            );
        }
        if self.usage.records >= max_records || self.usage.bytes + bytes > max_bytes {
            return Ok(false);
        }
        let full = max_providers_per_key as usize;
        Ok(slot.kind != Kind::Provider || self.count_providers(base, slot.key, full)? < full)
    }

    /// The number of providers of a key, counting up to `enough`.
    fn count_providers(&self, base: &impl Committed, key: Key, enough: usize) -> Result<usize, StoreError> {
        let first = Slot {
            key,
            kind: Kind::Provider,
            provider: NodeId::default(),
        };
        let last = Slot {
            provider: LAST_SLOT.provider,
            ..first
        };
        let changed = self.changes.range(first..=last);
        let mut count = changed
            .filter(|(_, change)| change.record().is_some())
            .take(enough)
            .count();
        base.providers(key, &mut |slot| {
            if count >= enough {
                return ControlFlow::Break(());
            }
            count += usize::from(!self.changes.contains_key(&slot));
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    fn check_batch(&self, slot: &Slot, bytes: usize) -> Result<(), StoreError> {
        let is_new = !self.changes.contains_key(slot);
        match self.changes.len() + usize::from(is_new) > MAX_BATCH_SLOTS
            || self.bytes + bytes > MAX_BATCH_BYTES
        {
            true => Err(StoreError::BatchFull),
            false => Ok(()),
        }
    }

    fn keep(&mut self, record: StoredRecord, held: Option<&Held>, same: bool) -> Result<(), StoreError> {
        let slot = record.slot;
        let bytes = record.raw.as_bytes().len();
        self.check_batch(&slot, bytes)?;
        self.usage.bytes += length(&record.raw);
        match held {
            Some(held) => self.usage.bytes = self.usage.bytes.saturating_sub(held.bytes),
            None => self.usage.records += 1,
        }
        let before = self.take(&slot);
        self.bytes += bytes;
        self.by_expiry.insert((record.raw.expiry(), slot));
        let on_disk = matches!(before, None | Some(Change::Touched(_)));
        let change = if same && on_disk {
            Change::Touched(record)
        } else {
            Change::Written(record)
        };
        self.changes.insert(slot, change);
        Ok(())
    }

    fn drop_slot(&mut self, slot: Slot, bytes: u64) {
        self.take(&slot);
        // Saturating, as what a damaged file says of itself need not add up.
        self.usage.records = self.usage.records.saturating_sub(1);
        self.usage.bytes = self.usage.bytes.saturating_sub(bytes);
        self.changes.insert(slot, Change::Removed);
    }

    fn take(&mut self, slot: &Slot) -> Option<Change> {
        let before = self.changes.remove(slot)?;
        if let Some(record) = before.record() {
            self.by_expiry.remove(&(record.raw.expiry(), *slot));
            self.bytes -= record.raw.as_bytes().len();
        }
        Some(before)
    }
}

fn length(raw: &RawRecord) -> u64 {
    raw.as_bytes().len() as u64
}

/// A record is a slice of the frame that brought it; kept as it is, it would keep the whole frame in memory.
fn own_copy(record: &Record) -> Result<RawRecord, StoreError> {
    with_expiry(Bytes::copy_from_slice(record.as_bytes()), record.expiry())
}

/// Bytes of a record have its layout, so the error is never seen.
fn with_expiry(bytes: Bytes, expiry: UnixTime) -> Result<RawRecord, StoreError> {
    RawRecord::parse(bytes, expiry).map_err(|error| StoreError::Backend(error.into()))
}

#[cfg(test)]
mod tests {
    use kad_core::{Duration, NetworkId, Parameters, Rules};

    use super::*;
    use crate::{MemoryStore, RecordReader as _, RecordStore as _};

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn record(number: u64, size: usize) -> Record {
        let parameters = Parameters::default();
        let rules = Rules::new(NetworkId::new("batch", &parameters), &parameters);
        let mut value = vec![0; size];
        value[..8].copy_from_slice(&number.to_be_bytes());
        Record::immutable(&value, NOW + Duration::from_secs(60), &rules, NOW).unwrap()
    }

    fn put(record: &Record) -> Put<'_> {
        Put {
            record,
            expected: None,
            due: NOW,
            own: false,
        }
    }

    #[test]
    fn a_batch_of_too_many_bytes_asks_for_a_flush() {
        let mut store = MemoryStore::new(Limits::default());
        let mut accepted = 0;
        let full = loop {
            match store.put(put(&record(accepted, 65_000))) {
                Ok(_) => accepted += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(full, StoreError::BatchFull));
        assert_eq!(accepted as usize, MAX_BATCH_BYTES / 65_002);
        assert_eq!(store.usage().records, accepted, "what was refused is not counted");
        store.flush().unwrap();
        assert_eq!(
            store.put(put(&record(accepted, 65_000))).unwrap(),
            Verdict::Stored
        );
    }

    #[test]
    fn a_batch_of_too_many_slots_asks_for_a_flush() {
        let mut store = MemoryStore::new(Limits::default());
        for number in 0..=MAX_BATCH_SLOTS as u64 {
            if number == MAX_BATCH_SLOTS as u64 {
                assert!(matches!(
                    store.put(put(&record(number, 8))),
                    Err(StoreError::BatchFull)
                ));
                assert!(
                    store.remove(&record(0, 8).slot()).unwrap(),
                    "what is in the batch can change"
                );
                assert!(matches!(store.expire(NOW, 1), Err(StoreError::BatchFull)));
                store.flush().unwrap();
            }
            store.put(put(&record(number, 8))).unwrap();
        }
        store.flush().unwrap();
        assert_eq!(store.usage().records, MAX_BATCH_SLOTS as u64);
        // More than a batch can remove at once ends in two flushes.
        let end = NOW + Duration::from_secs(60);
        assert_eq!(store.expire(end, usize::MAX).unwrap(), MAX_BATCH_SLOTS);
        store.flush().unwrap();
        assert_eq!(store.usage(), Usage::default());
    }

    #[test]
    fn a_kept_record_does_not_keep_the_frame_that_brought_it() {
        let frame = Bytes::from([[1, 0, 0].as_slice(), &[7; 100], &[0; 60_000]].concat());
        let parameters = Parameters::default();
        let rules = Rules::new(NetworkId::new("batch", &parameters), &parameters);
        let raw = RawRecord::parse(frame.slice(..103), NOW + Duration::from_secs(60)).unwrap();
        let record = Record::verify(raw, &rules, NOW).unwrap();
        let mut store = MemoryStore::new(Limits::default());
        store.put(put(&record)).unwrap();
        store.flush().unwrap();
        let stored = store.reader().get(&record.slot()).unwrap().unwrap();
        drop(record);
        assert_eq!(stored.raw.as_bytes()[..], frame[..103]);
        assert!(frame.is_unique(), "nobody else holds on to the frame");
    }

    #[test]
    fn what_did_not_change_is_not_written() {
        let mut batch = Batch::new(Limits::default(), Usage::default());
        let mut flushed = MemoryStore::new(Limits::default());
        let record = record(1, 8);
        flushed.put(put(&record)).unwrap();
        flushed.flush().unwrap();
        let base = flushed.flushed();
        assert_eq!(batch.put(&*base, put(&record)).unwrap(), Verdict::Unchanged);
        assert!(batch.is_empty());
        batch
            .put(
                &*base,
                Put {
                    own: true,
                    ..put(&record)
                },
            )
            .unwrap();
        let change = batch.changes().next().map(|(_, change)| change.clone());
        assert!(
            matches!(change, Some(Change::Touched(StoredRecord { own: true, .. }))),
            "{change:?}"
        );
    }
}
