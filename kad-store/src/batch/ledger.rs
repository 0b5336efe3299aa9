//! Who holds how much of a store: the node itself, all others, and each sender of these.

use std::collections::BTreeMap;

use kad_core::{Key, NodeId, Source};

use super::Listing;
use crate::Usage;

/// What a store holds, counted. A backend counts each record when it opens; from then on the
/// [`Batch`](super::Batch) does.
///
/// Senders are as many as have a record here at most, and parts 65,536 at most; each costs some 50 bytes.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    around: Option<NodeId>,
    own: Usage,
    others: Usage,
    senders: BTreeMap<Source, Usage>,
    /// Records of others by the first bits of their keys' distance, so that where only own records lie nobody looks for
    /// one to give up.
    parts: BTreeMap<u16, u64>,
}

impl Ledger {
    /// Nothing yet. `around` is [`Limits::around`](crate::Limits::around).
    #[must_use]
    pub fn new(around: Option<NodeId>) -> Self {
        Self {
            around,
            ..Self::default()
        }
    }

    /// One more record.
    pub fn add(&mut self, key: Key, record: &Listing) {
        if record.own {
            add(&mut self.own, record);
            return;
        }
        add(&mut self.others, record);
        if !record.source.is_unknown() {
            add(self.senders.entry(record.source).or_default(), record);
        }
        if let Some(part) = self.part(key) {
            *self.parts.entry(part).or_default() += 1;
        }
    }

    /// One record less.
    pub fn take(&mut self, key: Key, record: &Listing) {
        if record.own {
            take(&mut self.own, record);
            return;
        }
        take(&mut self.others, record);
        if let Some(sender) = self.senders.get_mut(&record.source) {
            take(sender, record);
            if sender.records == 0 {
                self.senders.remove(&record.source);
            }
        }
        if let Some(part) = self.part(key)
            && let Some(count) = self.parts.get_mut(&part)
        {
            *count -= 1;
            if *count == 0 {
                self.parts.remove(&part);
            }
        }
    }

    /// Everything.
    #[must_use]
    pub const fn usage(&self) -> Usage {
        Usage {
            records: self.own.records + self.others.records,
            bytes: self.own.bytes + self.others.bytes,
        }
    }

    /// The node's own records.
    #[must_use]
    pub const fn own(&self) -> Usage {
        self.own
    }

    /// The records of others.
    #[must_use]
    pub const fn others(&self) -> Usage {
        self.others
    }

    /// What one sender has sent; nothing for [`Source::UNKNOWN`].
    #[must_use]
    pub fn of(&self, source: Source) -> Usage {
        self.senders.get(&source).copied().unwrap_or_default()
    }

    /// Whether a sender holds more than all would if each held as much, at these limits.
    pub(super) fn is_beyond_its_share(&self, source: Source, max_records: u64, max_bytes: u64) -> bool {
        let Usage { records, bytes } = self.of(source);
        let senders = self.senders.len().max(1) as u64;
        records > max_records / senders || bytes > max_bytes / senders
    }

    /// The first and the last key of each part in which others have records, the farthest first.
    pub(super) fn parts_farthest_first(&self) -> impl Iterator<Item = (Key, Key)> {
        let top = self.around.map_or(0, |around| top(around.to_key()));
        self.parts.keys().rev().map(move |distance| {
            let first = u64::from(distance ^ top) << 48;
            let last = first | u64::MAX >> 16;
            let ones = u64::MAX;
            (
                Key::from_limbs([first, 0, 0, 0]),
                Key::from_limbs([last, ones, ones, ones]),
            )
        })
    }

    fn part(&self, key: Key) -> Option<u16> {
        self.around.map(|around| top(around.to_key()) ^ top(key))
    }
}

/// The first bits.
const fn top(key: Key) -> u16 {
    (key.to_limbs()[0] >> 48) as u16
}

const fn add(usage: &mut Usage, record: &Listing) {
    usage.records += 1;
    usage.bytes += record.bytes;
}

/// Saturating, as what a damaged file says of itself need not add up.
const fn take(usage: &mut Usage, record: &Listing) {
    usage.records = usage.records.saturating_sub(1);
    usage.bytes = usage.bytes.saturating_sub(record.bytes);
}
