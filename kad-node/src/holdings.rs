//! What a node keeps, and a data directory while no node runs with it.
//!
//! Whose a record is lies in the store; which records belong together does not, but follows from the records: a file is
//! whatever hangs below an index node that no other index node names. So files are found whoever put them there, one of
//! [`Node::keep_file`](crate::Node::keep_file) or one of [`FileOptions::keep`](crate::file::FileOptions::keep).
//!
//! What this module refuses to do: ask the network. Whether others have copies a running node can find out with
//! [`Node::census`](crate::Node::census), for the keys that a [`Holding`] gives as a sample.

mod directory;

use std::collections::{BTreeMap, BTreeSet};

use kad_core::record::Content;
use kad_core::{Key, Kind, NodeId, Record, Rules, Slot, UnixTime};
use kad_store::{RecordReader, Scan, StoreError};

pub use self::directory::{Forgotten, Holdings, HoldingsError};
use crate::file::{Code, Tree, indexes_below, survey};

/// The most holdings that are told of one by one; those beyond are counted.
pub const MAX_LISTED: usize = 10_000;

/// The most keys that a holding gives as a sample, with some for the index nodes. A census of each takes some twenty
/// requests.
pub const MAX_SAMPLE: u64 = 32;

/// Records that are read at once.
const PAGE: usize = 1024;

/// Something that the node keeps: a file, or a record that belongs to none.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holding {
    /// Its key.
    pub key: Key,
    /// What it is.
    pub kind: HoldingKind,
    /// The records that it has.
    pub records: u64,
    /// Those of them that are not here, or have ended.
    pub missing: u64,
    /// Bytes of the content; of a file, those of its chunks without parity.
    pub bytes: u64,
    /// When the first of the copies here ends, unless it is stored again before; `None` if nothing is here.
    pub until: Option<UnixTime>,
    /// Keys of its records, evenly spread, at most [`MAX_SAMPLE`] and one.
    pub sample: Vec<Key>,
}

/// What a [`Holding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HoldingKind {
    /// A file with an index.
    File {
        /// Whether it takes a secret to read it.
        is_sealed: bool,
        /// The parity that it has.
        code: Option<Code>,
    },
    /// A file that is to be kept and of which the root is not here: it was not fetched yet.
    Wanted,
    /// A value, or a file of a single chunk.
    Value,
    /// A record that belongs to a key.
    Mutable {
        /// Its version.
        seq: u64,
        /// Whether that deletes it.
        is_deleted: bool,
    },
    /// An announcement.
    Provider {
        /// Whose.
        provider: NodeId,
        /// Whether it takes an earlier one back.
        is_withdrawn: bool,
    },
}

/// Everything that a directory keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listing {
    /// Files first, then values, mutable records and announcements, each by key; at most [`MAX_LISTED`].
    pub holdings: Vec<Holding>,
    /// Those beyond.
    pub more: u64,
    /// Records that are damaged on this disk, those that were kept for others among them.
    pub damaged: u64,
}

/// An immutable record of the node's own that lives.
#[derive(Debug, Clone, Copy)]
struct Own {
    content: Content,
    bytes: u64,
    expiry: UnixTime,
}

/// All that is the node's own.
struct Everything {
    immutable: BTreeMap<Key, Own>,
    signed: Vec<Holding>,
    damaged: u64,
}

/// Everything that a store keeps at this time, and of these files what is not there yet.
pub(crate) fn listing<R: RecordReader>(
    reader: &R,
    rules: &Rules,
    wanted: &[Key],
    now: UnixTime,
) -> Result<Listing, StoreError> {
    let Everything {
        immutable,
        signed,
        damaged,
    } = everything(reader, rules, now)?;
    let mut in_files = BTreeSet::new();
    let mut holdings = Vec::new();
    each_tree(reader, rules, &immutable, wanted, |root, tree| {
        holdings.push(file(root, &tree, &immutable));
        in_files.extend(tree.keys);
    })?;
    let absent = wanted.iter().filter(|key| !immutable.contains_key(key));
    holdings.extend(absent.map(|key| Holding::of(*key, HoldingKind::Wanted)));
    for (key, own) in &immutable {
        if own.content == Content::Plain && !in_files.contains(key) {
            let value = Holding::of(*key, HoldingKind::Value);
            holdings.push(value.record(own.bytes, own.expiry));
        }
    }
    holdings.extend(signed);
    let more = holdings.len().saturating_sub(MAX_LISTED) as u64;
    holdings.truncate(MAX_LISTED);
    Ok(Listing {
        holdings,
        more,
        damaged,
    })
}

fn everything<R: RecordReader>(reader: &R, rules: &Rules, now: UnixTime) -> Result<Everything, StoreError> {
    let mut all = Everything {
        immutable: BTreeMap::new(),
        signed: Vec::new(),
        damaged: 0,
    };
    let mut scan = Scan::all(PAGE);
    loop {
        let page = reader.scan(&scan)?;
        // Whose they were is damaged as well.
        all.damaged += page.damaged.len() as u64;
        for stored in page.records.into_iter().filter(|stored| stored.own) {
            if stored.raw.expiry() <= now {
                continue;
            }
            match Record::verify(stored.raw, rules, now) {
                Ok(record) if record.slot() == stored.slot => all.add(&record),
                _ => all.damaged += 1,
            }
        }
        match page.next {
            Some(next) => scan = scan.after(next),
            None => break,
        }
    }
    let order = |holding: &Holding| (matches!(holding.kind, HoldingKind::Provider { .. }), holding.key);
    all.signed.sort_by_key(order);
    Ok(all)
}

/// Tells of the files that are here, by key: whatever hangs below an index node that no other one names. One after the
/// other, because those of a stranger may have most of their records in common.
fn each_tree<R: RecordReader>(
    reader: &R,
    rules: &Rules,
    immutable: &BTreeMap<Key, Own>,
    wanted: &[Key],
    mut told: impl FnMut(Key, Tree),
) -> Result<(), StoreError> {
    let max_value = rules.max_value;
    let index = |key: Key| -> Result<Option<bytes::Bytes>, StoreError> {
        let slot = Slot {
            key,
            kind: Kind::Immutable,
            provider: NodeId::default(),
        };
        let is_index = immutable
            .get(&key)
            .is_some_and(|own| own.content == Content::FileIndex);
        let stored = if is_index { reader.get(&slot)? } else { None };
        Ok(stored.map(|stored| bytes::Bytes::copy_from_slice(stored.raw.value())))
    };
    let mut roots = BTreeSet::new();
    let mut below = BTreeSet::new();
    for (key, _) in immutable
        .iter()
        .filter(|(_, own)| own.content == Content::FileIndex)
    {
        if let Some(bytes) = index(*key)? {
            below.extend(indexes_below(&bytes, max_value));
            roots.insert(*key);
        }
    }
    // A file that was asked for is one, whatever else names its root.
    let wanted: BTreeSet<&Key> = wanted.iter().collect();
    roots.retain(|root| !below.contains(root) || wanted.contains(root));
    for root in roots {
        let Some(bytes) = index(root)? else { continue };
        // One that cannot be read ends the walk, and counts as missing.
        if let Some(tree) = survey(root, &bytes, max_value, |key| index(key).ok().flatten()) {
            told(root, tree);
        }
    }
    Ok(())
}

impl Everything {
    fn add(&mut self, record: &Record) {
        let (key, expiry) = (record.key(), record.expiry());
        let bytes = record.value().len() as u64;
        let kind = match record.kind() {
            Kind::Immutable => {
                let content = record.content();
                let own = Own {
                    content,
                    bytes,
                    expiry,
                };
                self.immutable.insert(key, own);
                return;
            }
            Kind::Mutable => HoldingKind::Mutable {
                seq: record.seq(),
                is_deleted: record.is_tombstone(),
            },
            Kind::Provider => HoldingKind::Provider {
                provider: record.slot().provider,
                is_withdrawn: record.is_tombstone(),
            },
        };
        self.signed.push(Holding::of(key, kind).record(bytes, expiry));
    }
}

impl Holding {
    /// Of which nothing is here.
    fn of(key: Key, kind: HoldingKind) -> Self {
        Self {
            key,
            kind,
            records: 1,
            missing: 1,
            bytes: 0,
            until: None,
            sample: vec![key],
        }
    }

    /// Which is this one record.
    fn record(self, bytes: u64, expiry: UnixTime) -> Self {
        Self {
            missing: 0,
            bytes,
            until: Some(expiry),
            ..self
        }
    }
}

fn file(root: Key, tree: &Tree, immutable: &BTreeMap<Key, Own>) -> Holding {
    let Tree { survey, keys, .. } = tree;
    let named = survey.chunks + survey.parity + survey.indexes;
    // Equal chunks are one record, as far as that can be told.
    let records = if tree.is_walked { keys.len() as u64 } else { named };
    let here = keys.iter().filter_map(|key| immutable.get(key));
    let (count, until) = here.fold((0, None::<UnixTime>), |(count, until), own| {
        let first = until.map_or(own.expiry, |until| until.min(own.expiry));
        (count + 1, Some(first))
    });
    let apart = (keys.len() as u64).div_ceil(MAX_SAMPLE).max(1);
    let spread = keys
        .iter()
        .filter(|key| **key != root)
        .step_by(usize::try_from(apart).unwrap_or(usize::MAX));
    Holding {
        key: root,
        kind: HoldingKind::File {
            is_sealed: survey.is_sealed,
            code: survey.code,
        },
        records,
        missing: records.saturating_sub(count),
        bytes: survey.bytes,
        until,
        sample: std::iter::once(&root).chain(spread).copied().collect(),
    }
}

#[cfg(test)]
mod tests;
