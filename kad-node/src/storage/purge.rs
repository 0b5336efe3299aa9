//! Removing what is held of records that are denied.

use kad_core::{RawRecord, Slot, StoreEntry};
use kad_store::{RecordReader, Scan, StoreError};

use super::Storage;
use crate::policy::Policy;

/// Records looked through at a time; so the store's thread has time for others in between.
const PAGE: usize = 1024;

/// Looks through everything that is held and has what is denied removed, durably. Says how many records that were. It
/// takes as long as reading the store does, and waits for the disk: not for a task that must not be kept waiting.
///
/// What was let in before the list changed is on the disk before the first page is read, and what comes later is judged
/// by the new list.
///
/// # Errors
/// Those of the reader, and [`StoreError::Closed`] if the store's thread has ended or could not write. Some records may
/// have been removed.
pub(crate) fn purge<R: RecordReader>(
    reader: &R,
    storage: &Storage,
    policy: &Policy,
) -> Result<u64, StoreError> {
    let denied = policy.denied();
    if denied.is_empty() {
        return Ok(0);
    }
    let forget = |slots: Vec<Slot>| match storage.forget(slots) {
        true => Ok(()),
        false => Err(StoreError::Closed),
    };
    // A write that waits ends with those before it.
    forget(Vec::new())?;
    let (mut removed, mut scan) = (0, Scan::all(PAGE));
    loop {
        let page = reader.scan(&scan)?;
        let is_denied = |slot: &Slot, raw: &RawRecord| denied.has(slot.key, raw);
        let records = page.records.into_iter();
        let slots: Vec<Slot> = records
            .filter(|stored| is_denied(&stored.slot, &stored.raw))
            .map(|stored| stored.slot)
            .collect();
        removed += slots.len() as u64;
        if !slots.is_empty() {
            forget(slots)?;
        }
        match page.next {
            Some(next) => scan = scan.after(next),
            None => return Ok(removed),
        }
    }
}

/// Whether a record that is about to be stored is denied. It may have been let in before the list changed, or be the
/// node's own and due again.
pub(super) fn is_denied(policy: &Policy, entry: &StoreEntry) -> bool {
    let denied = policy.denied();
    let record = entry.record.as_ref();
    record.is_ok_and(|record| denied.has(record.key(), record.as_raw()))
}
