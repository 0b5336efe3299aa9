//! What a store answers to the questions of the core: the rules between a [`RecordReader`] and a [`StoreReply`], for every
//! driver.
//!
//! What is read is proven again, because disks lie. Damage is left out of the answer and told to `damaged`, the end of a
//! life is left out in silence.

use kad_core::{
    DueRecord, FindValue, Found, Kind, MAX_RECORD_BYTES, MAX_RECORDS, NodeId, Record, RecordError, Rules,
    Slot, StoreReply, UnixTime, Want,
};

use crate::{RecordReader, Scan, StoreError, StoredRecord};

/// Pages looked through for due records in one go, so that a store full of damage cannot keep a task busy for long.
const MAX_DUE_PAGES: usize = 1024;

/// Answers [`StoreOp::Get`](kad_core::StoreOp::Get): what is held under a key, verified as it is read; for providers a page
/// of at most [`MAX_RECORDS`] and [`MAX_RECORD_BYTES`].
///
/// # Errors
/// Those of the reader.
pub fn found<R: RecordReader>(
    reader: &R,
    rules: &Rules,
    ask: &FindValue,
    now: UnixTime,
    mut damaged: impl FnMut(&Slot, Damage),
) -> Result<StoreReply, StoreError> {
    let mut found = Vec::new();
    let mut next = None;
    if ask.kind == Kind::Provider {
        let page = reader.scan(&Scan::slots_of(ask.key, ask.kind, ask.after, MAX_RECORDS))?;
        let mut bytes = 0;
        next = page.next.map(|slot| slot.provider);
        for stored in page.records {
            bytes += stored.raw.as_bytes().len();
            if bytes > MAX_RECORD_BYTES {
                next = found.last().map(Record::slot).map(|slot| slot.provider);
                break;
            }
            found.extend(verified(stored, rules, now, &mut damaged));
        }
    } else {
        let slot = Slot {
            key: ask.key,
            kind: ask.kind,
            provider: NodeId::default(),
        };
        let stored = reader.get(&slot)?;
        let record = stored.and_then(|stored| verified(stored, rules, now, &mut damaged));
        found.extend(record.filter(|record| record.seq() >= ask.min_seq));
    }
    let form = |record: Record| match ask.want {
        Want::Record => Found::Record(record),
        Want::Digest => Found::Digest {
            seq: record.seq(),
            digest: record.digest(),
        },
    };
    Ok(StoreReply::Found {
        found: found.into_iter().map(form).collect(),
        next,
    })
}

/// Answers [`StoreOp::Due`](kad_core::StoreOp::Due): records whose time has come, at most `limit`.
///
/// # Errors
/// Those of the reader.
pub fn due<R: RecordReader>(
    reader: &R,
    rules: &Rules,
    by: UnixTime,
    limit: usize,
    mut damaged: impl FnMut(&Slot, Damage),
) -> Result<StoreReply, StoreError> {
    // Records that no longer verify stay due until they expire; they must not stand in the way of the others.
    let (mut scan, mut due) = (Scan::all(limit).due_by(by), Vec::new());
    for _ in 0..MAX_DUE_PAGES {
        let page = reader.scan(&scan)?;
        due.extend(page.records.into_iter().filter_map(|stored| {
            let own = stored.own;
            verified(stored, rules, by, &mut damaged).map(|record| DueRecord { record, own })
        }));
        match page.next {
            Some(next) if due.len() < limit => scan = scan.after(next),
            _ => break,
        }
    }
    due.truncate(limit);
    Ok(StoreReply::Due(due))
}

/// What is wrong with a stored record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It proves something, but belongs into another slot.
    Misplaced,
    /// It no longer proves itself.
    Unproven(RecordError),
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Misplaced => f.write_str("the record belongs elsewhere"),
            Self::Unproven(error) => error.fmt(f),
        }
    }
}

fn verified(
    stored: StoredRecord,
    rules: &Rules,
    now: UnixTime,
    damaged: &mut impl FnMut(&Slot, Damage),
) -> Option<Record> {
    match Record::verify(stored.raw, rules, now) {
        Ok(record) if record.slot() == stored.slot => return Some(record),
        Ok(_) => damaged(&stored.slot, Damage::Misplaced),
        Err(RecordError::Expired) => {}
        Err(error) => damaged(&stored.slot, Damage::Unproven(error)),
    }
    None
}
