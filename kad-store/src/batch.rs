//! The writes since the last flush, judged and counted: the rules that all backends share.
//!
//! A backend asks the [`Batch`] on every write and hands it a view of what the last flush left ([`Committed`]). On
//! flush it writes [`Batch::changes`] in one transaction and says [`done`](Batch::done) or [`refused`](Batch::refused).
//! The batch does no I/O itself, and nothing it buffers is visible to readers.
//!
//! What fits is decided in `room.rs`, who leaves a key that is full of providers in `fair.rs`, and what is farthest
//! from the node in `farthest.rs`.

mod fair;
mod farthest;
mod ledger;
mod room;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use kad_core::record::judge;
use kad_core::{RawRecord, Record, Slot, Source, UnixTime, Verdict};

pub use self::farthest::{MAX_LOOKED, MAX_LOOKED_FOR_OWN_PLACE};
pub use self::ledger::Ledger;
pub use self::room::MAX_EVICTED;
pub(crate) use self::room::Shortage;
use crate::scan::LAST_SLOT;
use crate::{Limits, Put, StoreError, StoredRecord, Tally, Usage};

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

    /// Calls `each` with the slots from `first` to `last`, both included, and what is known of their records without
    /// reading these, until it breaks off.
    ///
    /// # Errors
    /// Why they could not be read.
    fn records(
        &self,
        first: &Slot,
        last: &Slot,
        order: Order,
        each: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// Calls `each` with the slots whose expiry is not after `now`, in the order of expiry and slot, until it breaks
    /// off.
    ///
    /// # Errors
    /// Why they could not be read.
    fn expired(
        &self,
        now: UnixTime,
        each: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;
}

/// Which way to go through slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the first to the last.
    Up,
    /// From the last to the first.
    Down,
}

/// What is known of a record without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    /// When it ends.
    pub expiry: UnixTime,
    /// Its length as it was counted.
    pub bytes: u64,
    /// Whether the node itself published it.
    pub own: bool,
    /// Who sent it, [`Source::UNKNOWN`] for own records.
    pub source: Source,
    /// Whether it deletes or withdraws what was there.
    pub is_tombstone: bool,
}

impl From<&StoredRecord> for Listing {
    fn from(stored: &StoredRecord) -> Self {
        Self {
            expiry: stored.raw.expiry(),
            bytes: length(&stored.raw),
            own: stored.own,
            source: stored.source,
            is_tombstone: stored.raw.is_tombstone(),
        }
    }
}

/// What a slot holds.
#[derive(Debug, Clone)]
pub struct Held {
    /// The record, or `None` if its bytes are damaged: then anything may take its place.
    pub raw: Option<RawRecord>,
    /// When the node should see to it next.
    pub due: UnixTime,
    /// What else is known of it.
    pub listing: Listing,
}

impl From<&StoredRecord> for Held {
    fn from(stored: &StoredRecord) -> Self {
        Self {
            raw: Some(stored.raw.clone()),
            due: stored.due,
            listing: stored.into(),
        }
    }
}

/// What to do with a slot on flush.
#[derive(Debug, Clone)]
pub enum Change {
    /// Write the record.
    Written(StoredRecord),
    /// The bytes are those of the last flush; only expiry, due time, own or source differ.
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

/// A change, and what the last flush left in the slot.
#[derive(Debug)]
struct Changed {
    change: Change,
    before: Option<Listing>,
}

/// The writes since the last flush.
#[derive(Debug)]
pub struct Batch {
    limits: Limits,
    /// What is held, with the changes.
    ledger: Ledger,
    tally: Tally,
    changes: BTreeMap<Slot, Changed>,
    /// The records among the changes, by expiry.
    by_expiry: BTreeSet<(UnixTime, Slot)>,
    bytes: usize,
}

impl Batch {
    /// Nothing written yet, on top of what the last flush left: `ledger` has counted each record of that.
    #[must_use]
    pub fn new(limits: Limits, ledger: Ledger) -> Self {
        Self {
            limits,
            ledger,
            tally: Tally::default(),
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
        let was_own = held.as_ref().is_some_and(|held| held.listing.own);
        let own = put.own || was_own;
        let mut leaving = Vec::new();
        if verdict == Verdict::Stored || (verdict == Verdict::Unchanged && own != was_own) {
            match self.room(base, &put, held.as_ref(), own)? {
                Ok(victims) => leaving = victims,
                Err(shortage) => {
                    self.tally.note(shortage);
                    return Ok(Verdict::Full);
                }
            }
        }
        let (raw, same) = match (verdict, held_raw) {
            (Verdict::Stored, Some(held)) if held.as_bytes() == put.record.as_bytes() => {
                (with_expiry(held.as_bytes().clone(), put.record.expiry())?, true)
            }
            (Verdict::Stored, _) => (own_copy(put.record)?, false),
            (Verdict::Unchanged, Some(held)) => (held.clone(), true),
            _ => return Ok(verdict),
        };
        // Or others who hand our own record on would put off for ever the hour in which it gets a new life.
        let due = match &held {
            Some(held) if was_own && !put.own => held.due.min(put.due),
            _ => put.due,
        };
        let source = match own {
            true => Source::UNKNOWN,
            false => self.sender(&put, held.as_ref()),
        };
        let is_news = |held: &Held| {
            verdict == Verdict::Stored || (held.due, was_own, held.listing.source) != (due, own, source)
        };
        if held.as_ref().is_none_or(is_news) {
            let record = StoredRecord {
                slot,
                raw,
                due,
                own,
                source,
            };
            self.keep(record, held.as_ref(), same, leaving)?;
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
        self.check_batch([slot], 0)?;
        self.drop_slot(*slot, held.listing);
        Ok(true)
    }

    /// [`RecordStore::discard`](crate::RecordStore::discard).
    ///
    /// # Errors
    /// [`StoreError::BatchFull`], or an error of `base`. Nothing changed.
    pub fn discard(&mut self, base: &impl Committed, slot: &Slot) -> Result<bool, StoreError> {
        match self.held(base, slot)? {
            Some(Held { raw: None, .. }) => self.remove(base, slot),
            _ => Ok(false),
        }
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
        for (_, slot) in self.by_expiry.range(..=(now, LAST_SLOT)).take(limit) {
            let record = self.changes.get(slot).and_then(|changed| changed.change.record());
            ended.extend(record.map(|record| (*slot, Listing::from(record))));
        }
        let mut found = 0;
        base.expired(now, &mut |slot, listing| {
            if found == limit {
                return ControlFlow::Break(());
            }
            if !self.changes.contains_key(&slot) {
                ended.push((slot, listing));
                found += 1;
            }
            ControlFlow::Continue(())
        })?;
        ended.sort_unstable_by_key(|(slot, listing)| (listing.expiry, *slot));
        ended.truncate(limit);
        for &(slot, listing) in &ended {
            self.drop_slot(slot, listing);
        }
        Ok(ended.len())
    }

    /// What is held, counting what was written since the last flush.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.ledger.usage()
    }

    /// What was refused and given up for lack of room, since the batch was made.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether there is nothing to flush.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What is to be written, in the order of the slots.
    pub fn changes(&self) -> impl Iterator<Item = (&Slot, &Change)> {
        self.changes.iter().map(|(slot, changed)| (slot, &changed.change))
    }

    /// The changes are on disk: they are the state from now on.
    pub fn done(&mut self) {
        self.clear();
    }

    /// The changes could not be written: they are forgotten.
    pub fn refused(&mut self) {
        for (slot, changed) in &self.changes {
            if let Some(record) = changed.change.record() {
                self.ledger.take(slot.key, &record.into());
            }
            if let Some(before) = &changed.before {
                self.ledger.add(slot.key, before);
            }
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.changes = BTreeMap::new();
        self.by_expiry = BTreeSet::new();
        self.bytes = 0;
    }

    fn held(&self, base: &impl Committed, slot: &Slot) -> Result<Option<Held>, StoreError> {
        match self.changes.get(slot) {
            Some(changed) => Ok(changed.change.record().map(Held::from)),
            None => base.held(slot),
        }
    }

    fn check_batch<'a>(
        &self,
        slots: impl IntoIterator<Item = &'a Slot>,
        bytes: usize,
    ) -> Result<(), StoreError> {
        let new = slots.into_iter().filter(|slot| !self.changes.contains_key(slot));
        match self.changes.len() + new.count() > MAX_BATCH_SLOTS || self.bytes + bytes > MAX_BATCH_BYTES {
            true => Err(StoreError::BatchFull),
            false => Ok(()),
        }
    }

    /// Keeps a record in the place of those that leave.
    fn keep(
        &mut self,
        record: StoredRecord,
        held: Option<&Held>,
        same: bool,
        leaving: Vec<(Slot, Listing)>,
    ) -> Result<(), StoreError> {
        let slot = record.slot;
        let bytes = record.raw.as_bytes().len();
        self.check_batch(leaving.iter().map(|(slot, _)| slot).chain([&slot]), bytes)?;
        for (leaver, listing) in leaving {
            self.tally.note_leaver(leaver.key == slot.key);
            self.drop_slot(leaver, listing);
        }
        if let Some(held) = held {
            self.ledger.take(slot.key, &held.listing);
        }
        self.ledger.add(slot.key, &Listing::from(&record));
        let (before, on_disk) = match self.take(&slot) {
            Some(changed) => (changed.before, matches!(changed.change, Change::Touched(_))),
            None => (held.map(|held| held.listing), true),
        };
        self.bytes += bytes;
        self.by_expiry.insert((record.raw.expiry(), slot));
        let change = if same && on_disk {
            Change::Touched(record)
        } else {
            Change::Written(record)
        };
        self.changes.insert(slot, Changed { change, before });
        Ok(())
    }

    fn drop_slot(&mut self, slot: Slot, listing: Listing) {
        let before = match self.take(&slot) {
            Some(changed) => changed.before,
            None => Some(listing),
        };
        self.ledger.take(slot.key, &listing);
        let change = Change::Removed;
        self.changes.insert(slot, Changed { change, before });
    }

    fn take(&mut self, slot: &Slot) -> Option<Changed> {
        let before = self.changes.remove(slot)?;
        if let Some(record) = before.change.record() {
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
mod tests;
