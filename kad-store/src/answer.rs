//! What a store answers to the questions of the core: the rules between a [`RecordReader`] and a [`StoreReply`], for
//! every driver.
//!
//! What is read is proven again, because disks lie. Damage is left out of the answer and told to `damaged`, the end of
//! a life is left out in silence. What is [`Damage::Unreadable`] should be
//! [discarded](crate::RecordStore::discard), or the node never fetches it again.

use std::collections::BTreeSet;

use kad_core::summary::{LISTED, MAX_COMPARED, MAX_LISTED, MAX_MARKS, MAX_PREFIX_BITS, PARTS, short};
use kad_core::{
    Difference, Due, DueRecord, FindValue, Fingerprint, Found, Kind, MAX_RECORD_BYTES, MAX_RECORDS, NodeId,
    Prefix, Record, RecordError, Rules, Slot, StoreReply, UnixTime, Want,
};

use crate::{Page, RecordReader, Scan, StoreError, StoredRecord};

/// Pages looked through for due records in one go, so that a store full of damage cannot keep a task busy for long.
const MAX_DUE_PAGES: usize = 1024;

/// Answers [`StoreOp::Get`](kad_core::StoreOp::Get): what is held under a key, verified as it is read; for providers a
/// page of at most [`MAX_RECORDS`] and [`MAX_RECORD_BYTES`], which goes round from the greatest id to the smallest.
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
        let (page, more) = providers(reader, ask)?;
        report(&page.damaged, &mut damaged);
        let (mut bytes, mut looked_at) = (0, Vec::new());
        let mut is_cut = false;
        for stored in page.records {
            bytes += stored.raw.as_bytes().len();
            is_cut = bytes > MAX_RECORD_BYTES;
            if is_cut {
                break;
            }
            looked_at.push(stored.slot);
            found.extend(verified(stored, rules, now, &mut damaged));
        }
        // What has ended or is damaged is not told of, but the next page begins behind it.
        looked_at.extend(page.damaged.into_iter().filter(|_| !is_cut));
        let turns = looked_at.into_iter().map(|slot| slot.provider);
        let last = turns.max_by_key(|provider| ask.turn_of(*provider));
        next = last.filter(|_| more || is_cut);
    } else {
        let slot = Slot {
            key: ask.key,
            kind: ask.kind,
            provider: NodeId::default(),
        };
        let stored = match reader.get(&slot) {
            Err(StoreError::Corrupt { .. }) => {
                damaged(&slot, Damage::Unreadable);
                None
            }
            stored => stored?,
        };
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

/// The providers of a key from a point on and round to it again, at most a page of them, and whether there are more.
fn providers<R: RecordReader>(reader: &R, ask: &FindValue) -> Result<(Page, bool), StoreError> {
    let behind = Scan::slots_of(ask.key, ask.kind, ask.after, MAX_RECORDS);
    let mut page = reader.scan(&behind)?;
    let looked_at = page.records.len() + page.damaged.len();
    let Some(after) = ask.after.filter(|_| page.next.is_none()) else {
        let more = page.next.is_some();
        return Ok((page, more));
    };
    // A page that is full already still has to know whether there are more.
    let mut before = Scan::slots_of(ask.key, ask.kind, None, (MAX_RECORDS - looked_at).max(1));
    before.last.provider = after;
    let rest = reader.scan(&before)?;
    if looked_at == MAX_RECORDS {
        let more = !rest.records.is_empty() || rest.next.is_some();
        return Ok((page, more));
    }
    page.records.extend(rest.records);
    page.damaged.extend(rest.damaged);
    Ok((page, rest.next.is_some()))
}

/// Answers [`StoreOp::Due`](kad_core::StoreOp::Due): records whose time has come, as long as they live at `now`.
///
/// # Errors
/// Those of the reader.
pub fn due<R: RecordReader>(
    reader: &R,
    rules: &Rules,
    asked: &Due,
    now: UnixTime,
    mut damaged: impl FnMut(&Slot, Damage),
) -> Result<StoreReply, StoreError> {
    // Records that no longer verify stay due until they expire; they must not stand in the way of the others.
    let (first, last) = (asked.within.first(), asked.within.last());
    let mut scan = Scan::keys(first, last, asked.limit).due_by(asked.by);
    scan.after = asked.after;
    let mut due = Vec::new();
    for _ in 0..MAX_DUE_PAGES {
        let page = reader.scan(&scan)?;
        report(&page.damaged, &mut damaged);
        let wanted = page.records.into_iter().filter(|stored| stored.own || !asked.own);
        due.extend(wanted.filter_map(|stored| {
            let (due, own) = (stored.due, stored.own);
            verified(stored, rules, now, &mut damaged).map(|record| DueRecord { record, due, own })
        }));
        match page.next {
            Some(next) if due.len() < asked.limit => scan = scan.after(next),
            _ => break,
        }
    }
    due.truncate(asked.limit);
    Ok(StoreReply::Due(due))
}

/// Answers [`StoreOp::Summarize`](kad_core::StoreOp::Summarize): what is held in each part.
///
/// # Errors
/// Those of the reader.
pub fn summaries<R: RecordReader>(reader: &R, prefixes: &[Prefix]) -> Result<StoreReply, StoreError> {
    let prefixes = prefixes.iter().take(MAX_COMPARED);
    let summaries: Result<_, _> = prefixes.map(|&prefix| reader.fingerprint(prefix)).collect();
    summaries.map(StoreReply::Summaries)
}

/// Answers [`StoreOp::Compare`](kad_core::StoreOp::Compare): where what is held differs, the marks of what is there, as
/// long as they fit into an answer, or how much is in each sixteenth.
///
/// # Errors
/// Those of the reader.
pub fn compared<R: RecordReader>(
    reader: &R,
    parts: &[(Prefix, Fingerprint)],
) -> Result<StoreReply, StoreError> {
    let mut room = MAX_MARKS;
    let mut differences = Vec::with_capacity(parts.len().min(MAX_COMPARED));
    for &(prefix, theirs) in parts.iter().take(MAX_COMPARED) {
        let own = reader.fingerprint(prefix)?;
        let count = own.count as usize;
        differences.push(match prefix.parts().filter(|_| count > LISTED || count > room) {
            _ if own == theirs => Difference::Same,
            Some(parts) => {
                let mut fingerprints = [Fingerprint::default(); PARTS];
                for (fingerprint, part) in fingerprints.iter_mut().zip(parts) {
                    *fingerprint = reader.fingerprint(part)?;
                }
                Difference::Parts(Box::new(fingerprints))
            }
            None => {
                let mut marks: Vec<u64> = reader
                    .marks(prefix, MAX_LISTED.min(room))?
                    .into_iter()
                    .map(|(_, mark)| short(mark))
                    .collect();
                marks.sort_unstable();
                room -= marks.len();
                Difference::Listed(marks)
            }
        });
    }
    Ok(StoreReply::Compared(differences))
}

/// Answers [`StoreOp::Missing`](kad_core::StoreOp::Missing): which marks belong to no record of the part.
///
/// # Errors
/// Those of the reader.
pub fn missing<R: RecordReader>(reader: &R, prefix: Prefix, marks: &[u64]) -> Result<StoreReply, StoreError> {
    let held = reader.marks(prefix, usize::MAX)?;
    let held: BTreeSet<u64> = held.into_iter().map(|(_, mark)| short(mark)).collect();
    let is_missing = |mark: &&u64| !held.contains(mark);
    Ok(StoreReply::Missing(
        marks.iter().filter(is_missing).copied().collect(),
    ))
}

/// Answers [`StoreOp::Fetch`](kad_core::StoreOp::Fetch): records of a part with these marks or, unless `listed`,
/// without, verified as they are read; at most [`MAX_RECORDS`] and [`MAX_RECORD_BYTES`]. `marks` must be sorted. Only
/// the first [`MAX_LISTED`] records of the part are looked at, which are those that are told of: nobody can ask for a
/// walk through the store.
///
/// # Errors
/// Those of the reader.
pub fn fetched<R: RecordReader>(
    reader: &R,
    rules: &Rules,
    (prefix, marks, listed): (Prefix, &[u64], bool),
    now: UnixTime,
    mut damaged: impl FnMut(&Slot, Damage),
) -> Result<StoreReply, StoreError> {
    let is_wanted = |mark: u128| marks.binary_search(&short(mark)).is_ok() == listed;
    let held = reader.marks(prefix, MAX_LISTED)?.into_iter();
    let keys: BTreeSet<u64> = held
        .filter(|&(_, mark)| is_wanted(mark))
        .map(|(key, _)| key)
        .collect();
    let (mut records, mut bytes) = (Vec::<Record>::new(), 0);
    for key in keys {
        let keys = Prefix::new(key, MAX_PREFIX_BITS);
        let mut scan = Scan::keys(keys.first(), keys.last(), MAX_RECORDS);
        // Somebody may have made any number of keys that begin alike.
        for _ in 0..MAX_LISTED / MAX_RECORDS {
            let page = reader.scan(&scan)?;
            report(&page.damaged, &mut damaged);
            for stored in page.records {
                if !is_wanted(stored.raw.mark()) {
                    continue;
                }
                let length = stored.raw.as_bytes().len();
                if records.len() == MAX_RECORDS || bytes + length > MAX_RECORD_BYTES {
                    return Ok(StoreReply::Fetched { records, more: true });
                }
                if let Some(record) = verified(stored, rules, now, &mut damaged) {
                    bytes += length;
                    records.push(record);
                }
            }
            match page.next {
                Some(next) => scan = scan.after(next),
                None => break,
            }
        }
    }
    Ok(StoreReply::Fetched { records, more: false })
}

/// What is wrong with a stored record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It is not what was written.
    Unreadable,
    /// It proves something, but belongs into another slot.
    Misplaced,
    /// It no longer proves itself.
    Unproven(RecordError),
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable => f.write_str("it is not what was written"),
            Self::Misplaced => f.write_str("the record belongs elsewhere"),
            Self::Unproven(error) => error.fmt(f),
        }
    }
}

fn report(slots: &[Slot], damaged: &mut impl FnMut(&Slot, Damage)) {
    for slot in slots {
        damaged(slot, Damage::Unreadable);
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
