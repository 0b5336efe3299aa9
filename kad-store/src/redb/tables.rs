//! The tables of the file: read as one flush left them, written in one transaction.

use std::ops::{Bound, ControlFlow};

use ::redb::{Database, ReadOnlyTable, ReadableDatabase, TableDefinition, TableError, WriteTransaction};
use bytes::Bytes;
use kad_core::{Key, NodeId, RawRecord, Slot, UnixTime};

use super::layout::{
    ENTRY, Entry, SLOT, TIMED, slot_from_bytes, slot_to_bytes, timed_from_bytes, timed_to_bytes,
};
use super::{FORMAT, fault, guarded};
use crate::batch::{Batch, Change, Committed, Held, Ledger, Listing, Order};
use crate::scan::LAST_SLOT;
use crate::{Index, Page, Scan, StoreError, StoredRecord};

type SlotBytes = &'static [u8; SLOT];
type TimedBytes = &'static [u8; TIMED];
type EntryBytes = &'static [u8; ENTRY];

const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("nautilus-kad about");
const RECORDS: TableDefinition<'_, SlotBytes, EntryBytes> = TableDefinition::new("records");
const BODIES: TableDefinition<'_, SlotBytes, &[u8]> = TableDefinition::new("bodies");
const BY_EXPIRY: TableDefinition<'_, TimedBytes, ()> = TableDefinition::new("by_expiry");
const BY_DUE: TableDefinition<'_, TimedBytes, ()> = TableDefinition::new("by_due");

/// What a database turned out to be.
pub(super) enum Found {
    Ours,
    OtherFormat(u64),
    Foreign,
}

/// The tables as one flush left them.
pub(super) struct Snapshot {
    records: ReadOnlyTable<SlotBytes, EntryBytes>,
    bodies: ReadOnlyTable<SlotBytes, &'static [u8]>,
    by_expiry: ReadOnlyTable<TimedBytes, ()>,
    by_due: ReadOnlyTable<TimedBytes, ()>,
}

/// Reads what the file says of itself.
pub(super) fn about(database: &impl ReadableDatabase) -> Result<Found, StoreError> {
    let transaction = database.begin_read().map_err(fault)?;
    let about = match transaction.open_table(ABOUT) {
        Ok(about) => about,
        Err(TableError::Storage(error)) => return Err(fault(error)),
        Err(_) => return Ok(Found::Foreign),
    };
    match about.get("format").map_err(fault)?.map(|value| value.value()) {
        None => Ok(Found::Foreign),
        Some(FORMAT) => Ok(Found::Ours),
        Some(other) => Ok(Found::OtherFormat(other)),
    }
}

/// Makes the empty tables.
pub(super) fn initialise(database: &Database) -> Result<(), StoreError> {
    let transaction = begin(database)?;
    {
        let mut about = transaction.open_table(ABOUT).map_err(fault)?;
        about.insert("format", FORMAT).map_err(fault)?;
        transaction.open_table(RECORDS).map_err(fault)?;
        transaction.open_table(BODIES).map_err(fault)?;
        transaction.open_table(BY_EXPIRY).map_err(fault)?;
        transaction.open_table(BY_DUE).map_err(fault)?;
    }
    transaction.commit().map_err(fault)
}

/// What a write has done to the marks under a key: the one that was there, and the one that is.
pub(super) type Marked = (Key, Option<u128>, Option<u128>);

/// Writes a batch in one transaction. On error the transaction is dropped, which undoes it.
pub(super) fn write(database: &Database, batch: &Batch) -> Result<Vec<Marked>, StoreError> {
    let transaction = begin(database)?;
    let mut marked = Vec::new();
    {
        let mut records = transaction.open_table(RECORDS).map_err(fault)?;
        let mut bodies = transaction.open_table(BODIES).map_err(fault)?;
        let mut by_expiry = transaction.open_table(BY_EXPIRY).map_err(fault)?;
        let mut by_due = transaction.open_table(BY_DUE).map_err(fault)?;
        for (slot, change) in batch.changes() {
            let (key, slot) = (slot.key, slot_to_bytes(slot));
            let new = change.record().map(Entry::of);
            let old = match new {
                Some(new) => records.insert(&slot, &new.to_bytes()),
                None => records.remove(&slot),
            };
            let old = old.map_err(fault)?.map(|old| Entry::from_bytes(old.value()));
            let (before, after) = (old.map(|old| old.mark), new.map(|new| new.mark));
            if before != after {
                marked.push((key, before, after));
            }
            let (before, after) = (old.map(|old| old.expiry), new.map(|new| new.expiry));
            move_entry(&mut by_expiry, &slot, before, after)?;
            let (before, after) = (old.map(|old| old.due), new.map(|new| new.due));
            move_entry(&mut by_due, &slot, before, after)?;
            match change {
                Change::Written(record) => {
                    bodies
                        .insert(&slot, record.raw.as_bytes().as_ref())
                        .map_err(fault)?;
                }
                Change::Touched(_) => {}
                Change::Removed => {
                    bodies.remove(&slot).map_err(fault)?;
                }
            }
        }
    }
    transaction.commit().map_err(fault)?;
    Ok(marked)
}

fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write().map_err(fault)?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn move_entry(
    index: &mut ::redb::Table<'_, TimedBytes, ()>,
    slot: &[u8; SLOT],
    before: Option<UnixTime>,
    after: Option<UnixTime>,
) -> Result<(), StoreError> {
    if before == after {
        return Ok(());
    }
    if let Some(time) = before {
        index.remove(&timed_to_bytes(time, slot)).map_err(fault)?;
    }
    if let Some(time) = after {
        index.insert(&timed_to_bytes(time, slot), ()).map_err(fault)?;
    }
    Ok(())
}

impl Entry {
    fn of(record: &StoredRecord) -> Self {
        Self {
            expiry: record.raw.expiry(),
            due: record.due,
            own: record.own,
            is_tombstone: record.raw.is_tombstone(),
            // At most MAX_RECORD, so it always fits.
            length: u32::try_from(record.raw.as_bytes().len()).unwrap_or(u32::MAX),
            mark: record.raw.mark(),
            source: record.source,
        }
    }

    fn listing(&self) -> Listing {
        Listing {
            expiry: self.expiry,
            bytes: u64::from(self.length),
            own: self.own,
            source: self.source,
            is_tombstone: self.is_tombstone,
        }
    }
}

impl Snapshot {
    /// The last flush.
    pub(super) fn of(database: &Database) -> Result<Self, StoreError> {
        let transaction = database.begin_read().map_err(fault)?;
        Ok(Self {
            records: transaction.open_table(RECORDS).map_err(fault)?,
            bodies: transaction.open_table(BODIES).map_err(fault)?,
            by_expiry: transaction.open_table(BY_EXPIRY).map_err(fault)?,
            by_due: transaction.open_table(BY_DUE).map_err(fault)?,
        })
    }

    /// What a slot holds, [`StoreError::Corrupt`] if that is not what was written.
    pub(super) fn record(&self, slot: &Slot) -> Result<Option<StoredRecord>, StoreError> {
        let Some(held) = self.held(slot)? else {
            return Ok(None);
        };
        let raw = held.raw.ok_or_else(|| StoreError::Corrupt {
            what: format!("what lies under the key {} is not what was written", slot.key),
        })?;
        Ok(Some(StoredRecord {
            slot: *slot,
            raw,
            due: held.due,
            own: held.listing.own,
            source: held.listing.source,
        }))
    }

    /// The marks of all records, and who holds how much.
    pub(super) fn counted(&self, around: Option<NodeId>) -> Result<(Index, Ledger), StoreError> {
        let (mut index, mut ledger) = (Index::default(), Ledger::new(around));
        for item in self.records.range::<&[u8; SLOT]>(..).map_err(fault)? {
            let (slot, entry) = item.map_err(fault)?;
            let (key, entry) = (
                slot_from_bytes(slot.value())?.key,
                Entry::from_bytes(entry.value()),
            );
            index.insert(key, entry.mark);
            ledger.add(key, &entry.listing());
        }
        Ok((index, ledger))
    }

    /// A page.
    pub(super) fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        let Some((first, last)) = scan.bounds() else {
            return Ok(Page::default());
        };
        let (first, last) = (
            first.map(|slot| slot_to_bytes(&slot)),
            last.map(|slot| slot_to_bytes(&slot)),
        );
        let bounds: (Bound<&[u8; SLOT]>, Bound<&[u8; SLOT]>) = (first.as_ref(), last.as_ref());
        let by_slot = self
            .records
            .range::<&[u8; SLOT]>(bounds)
            .map_err(fault)?
            .map(|item| {
                let (slot, entry) = item.map_err(fault)?;
                Ok((
                    slot_from_bytes(slot.value())?,
                    Entry::from_bytes(entry.value()).due,
                ))
            });
        let by_due = self
            .until(&self.by_due, scan.due_by.unwrap_or_default())?
            .map(|item| Ok(item?.1));
        scan.choose(by_slot, by_due)?
            .read(|slot| match self.record(slot) {
                Err(StoreError::Corrupt { .. }) => Ok(None),
                record => record,
            })
    }

    fn until<'a>(
        &self,
        index: &'a ReadOnlyTable<TimedBytes, ()>,
        time: UnixTime,
    ) -> Result<impl Iterator<Item = Result<(UnixTime, Slot), StoreError>> + use<'a>, StoreError> {
        let last = timed_to_bytes(time, &slot_to_bytes(&LAST_SLOT));
        let range = index.range::<&[u8; TIMED]>(..=&last).map_err(fault)?;
        Ok(range.map(|item| timed_from_bytes(item.map_err(fault)?.0.value())))
    }

    fn entry(&self, slot: &[u8; SLOT]) -> Result<Option<Entry>, StoreError> {
        let entry = self.records.get(slot).map_err(fault)?;
        Ok(entry.map(|entry| Entry::from_bytes(entry.value())))
    }
}

impl Committed for Snapshot {
    fn held(&self, slot: &Slot) -> Result<Option<Held>, StoreError> {
        let slot = slot_to_bytes(slot);
        let Some(entry) = self.entry(&slot)? else {
            return Ok(None);
        };
        // A page that makes no sense is damage to this record and to its neighbours on the page, not to the store.
        let body = guarded(|| {
            let body = self.bodies.get(&slot).map_err(fault)?;
            Ok(body.map(|body| Bytes::copy_from_slice(body.value())))
        });
        let body = match body {
            Err(StoreError::Corrupt { .. }) => None,
            body => body?,
        };
        let raw = body.and_then(|bytes| {
            let whole = bytes.len() == entry.length as usize;
            RawRecord::parse(bytes, entry.expiry)
                .ok()
                .filter(|raw| whole && raw.expiry() == entry.expiry && raw.mark() == entry.mark)
        });
        Ok(Some(Held {
            raw,
            due: entry.due,
            listing: entry.listing(),
        }))
    }

    fn records(
        &self,
        first: &Slot,
        last: &Slot,
        order: Order,
        each: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let (first, last) = (slot_to_bytes(first), slot_to_bytes(last));
        let mut range = self.records.range::<&[u8; SLOT]>(&first..=&last).map_err(fault)?;
        loop {
            let item = match order {
                Order::Up => range.next(),
                Order::Down => range.next_back(),
            };
            let Some(item) = item else {
                return Ok(());
            };
            let (slot, entry) = item.map_err(fault)?;
            let listing = Entry::from_bytes(entry.value()).listing();
            if each(slot_from_bytes(slot.value())?, listing).is_break() {
                return Ok(());
            }
        }
    }

    fn expired(
        &self,
        now: UnixTime,
        each: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        for item in self.until(&self.by_expiry, now)? {
            let (_, slot) = item?;
            if let Some(entry) = self.entry(&slot_to_bytes(&slot))?
                && each(slot, entry.listing()).is_break()
            {
                break;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}
