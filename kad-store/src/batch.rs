//! The writes since the last flush, judged and counted: the rules that all backends share.
//!
//! A backend asks the [`Batch`] on every write and hands it a view of what the last flush left ([`Committed`]). On flush
//! it writes [`Batch::changes`] in one transaction and says [`done`](Batch::done) or [`refused`](Batch::refused). The batch does no I/O
//! itself, and nothing it buffers is visible to readers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use kad_core::record::judge;
use kad_core::{Key, Kind, NodeId, RawRecord, Slot, UnixTime, Verdict};

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
    /// When it should next be handed to its region.
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
        let own = put.own || held.as_ref().is_some_and(|held| held.own);
        // Or others who hand our own record on would put off for ever the hour in which it gets a new life.
        let due = match &held {
            Some(held) if held.own && !put.own => held.due.min(put.due),
            _ => put.due,
        };
        match (verdict, &held) {
            (Verdict::Stored, _)
                if !self.has_room(base, &slot, held.as_ref(), length(put.record.as_raw()))? =>
            {
                return Ok(Verdict::Full);
            }
            (Verdict::Stored, _) => {
                let same = held_raw.filter(|raw| raw.as_bytes() == put.record.as_bytes());
                let bytes =
                    same.map_or_else(|| own_copy(put.record.as_bytes()), |raw| raw.as_bytes().clone());
                let is_same = same.is_some();
                let raw = RawRecord::parse(bytes, put.record.expiry())
                    .map_err(|error| StoreError::Backend(error.into()))?;
                self.keep(StoredRecord { slot, raw, due, own }, held.as_ref(), is_same)?;
            }
            (
                Verdict::Unchanged,
                Some(Held {
                    raw: Some(raw),
                    due: was_due,
                    own: was_own,
                    ..
                }),
            ) => {
                if (*was_due, *was_own) != (due, own) {
                    let raw = raw.clone();
                    self.keep(StoredRecord { slot, raw, due, own }, held.as_ref(), true)?;
                }
            }
            _ => {}
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
        bytes: u64,
    ) -> Result<bool, StoreError> {
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
fn own_copy(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
