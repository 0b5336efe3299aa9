//! What a node keeps, and a data directory while no node runs with it.
//!
//! Whose a record is lies in the store; which records belong together does not, but follows from the records: a file is
//! whatever hangs below an index node that no other index node names. So files are found whoever put them there, one of
//! [`Node::keep_file`](crate::Node::keep_file) or one of [`FileOptions::keep`](crate::file::FileOptions::keep).
//!
//! What this module refuses to do: ask the network. Whether others have copies a running node can find out with
//! [`Node::census`](crate::Node::census), for the keys that a [`Holding`] gives as a sample.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kad_core::record::Content;
use kad_core::{Key, Kind, NetworkId, NodeId, Parameters, Record, Rules, Slot, UnixTime};
use kad_store::redb::{RedbConfig, RedbStore};
use kad_store::{RecordReader, RecordStore as _, Scan, StoreError};

use crate::SpawnError;
use crate::builder::DataDirectory;
use crate::file::{Code, Tree, indexes_below, survey};
use crate::kept::{KeptError, KeptFiles};

/// The most holdings that are told of one by one; those beyond are counted.
pub const MAX_LISTED: usize = 10_000;

/// The most keys that a holding gives as a sample, with some for the index nodes. A census of each takes some twenty
/// requests.
pub const MAX_SAMPLE: u64 = 32;

/// Records that are read at once.
const PAGE: usize = 1024;

/// A data directory that belongs to nobody else for as long as this lives.
pub struct Holdings {
    rules: Rules,
    kept: KeptFiles,
    store: RedbStore,
    _directory: DataDirectory,
}

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
    /// Records that are damaged on this disk.
    pub damaged: u64,
}

/// What was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forgotten {
    /// Records that were removed.
    pub records: u64,
    /// Records that were left, because something else that is kept has them too.
    pub shared: u64,
    /// Whether it was on the list of kept files.
    pub was_listed: bool,
}

/// Why a data directory cannot be looked at. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HoldingsError {
    /// There are no records.
    #[error("{path} is no data directory of a node: it has no records", path = .path.display())]
    NoRecords {
        /// The directory.
        path: PathBuf,
    },
    /// A node runs with it, and has the store to itself.
    #[error("a node runs with {path}; stop it, ask again, and start it again", path = .path.display())]
    Running {
        /// The directory.
        path: PathBuf,
    },
    /// It cannot be opened.
    #[error(transparent)]
    Directory(SpawnError),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The list of kept files cannot be used.
    #[error(transparent)]
    Kept(#[from] KeptError),
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

impl Holdings {
    /// Takes hold of the data directory of a node of this network.
    ///
    /// # Errors
    /// [`HoldingsError`]; above all if a node runs with it.
    pub fn open(data: &Path, network: &str, parameters: &Parameters) -> Result<Self, HoldingsError> {
        let records = data.join("records.redb");
        if !records.is_file() {
            return Err(HoldingsError::NoRecords {
                path: data.to_owned(),
            });
        }
        let directory = DataDirectory::open(data).map_err(|error| match error {
            SpawnError::InUse { path } => HoldingsError::Running { path },
            other => HoldingsError::Directory(other),
        })?;
        let network = NetworkId::new(network, parameters);
        Ok(Self {
            rules: Rules::new(network, parameters),
            kept: KeptFiles::open(data, network)?,
            store: RedbStore::open(records, &RedbConfig::default())?,
            _directory: directory,
        })
    }

    /// Everything that is kept at this time. All records are read and checked; some 100 bytes of memory for each of the
    /// node's own are held meanwhile.
    ///
    /// # Errors
    /// [`HoldingsError::Store`].
    pub fn list(&self, now: UnixTime) -> Result<Listing, HoldingsError> {
        Ok(listing(
            &self.store.reader(),
            &self.rules,
            &self.kept.keys(),
            now,
        )?)
    }

    /// Stops keeping a file or a value, or a mutable record, and frees its place. If this node is one of those nearest to one
    /// of its records, it will fetch that again as a holder like any other. `None` if nothing of the kind is kept.
    ///
    /// # Errors
    /// [`HoldingsError`]; call it again then.
    pub fn forget(&mut self, key: Key, now: UnixTime) -> Result<Option<Forgotten>, HoldingsError> {
        let reader = self.store.reader();
        let everything = everything(&reader, &self.rules, now)?;
        let immutable = &everything.immutable;
        let mut trees = trees(&reader, &self.rules, immutable, &self.kept.keys())?;
        let keys = match trees.remove(&key) {
            Some(tree) => tree.keys,
            None => immutable.contains_key(&key).then_some(key).into_iter().collect(),
        };
        let mut forgotten = Forgotten {
            was_listed: self.kept.remove(key)?,
            ..Forgotten::default()
        };
        let is_kept_elsewhere = |key: &Key| {
            trees.values().any(|other| other.keys.contains(key))
                || self.kept.files().iter().any(|file| file.key == *key)
        };
        let (shared, ours): (Vec<Key>, Vec<Key>) = (keys.into_iter())
            .filter(|key| immutable.contains_key(key))
            .partition(is_kept_elsewhere);
        forgotten.shared = shared.len() as u64;
        let is_mutable = |holding: &&Holding| matches!(holding.kind, HoldingKind::Mutable { .. });
        let signed = everything.signed.iter().filter(is_mutable);
        let signed = signed
            .filter(|holding| holding.key == key)
            .map(|holding| (holding.key, Kind::Mutable));
        for (key, kind) in ours.into_iter().map(|key| (key, Kind::Immutable)).chain(signed) {
            let provider = NodeId::default();
            let slot = Slot { key, kind, provider };
            let removed = match self.store.remove(&slot) {
                Err(StoreError::BatchFull) => {
                    self.store.flush()?;
                    self.store.remove(&slot)?
                }
                other => other?,
            };
            forgotten.records += u64::from(removed);
        }
        self.store.flush()?;
        Ok((forgotten != Forgotten::default()).then_some(forgotten))
    }
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
    for (root, tree) in trees(reader, rules, &immutable, wanted)? {
        holdings.push(file(root, &tree, &immutable));
        in_files.extend(tree.keys);
    }
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

/// The files that are here: whatever hangs below an index node that no other one names.
fn trees<R: RecordReader>(
    reader: &R,
    rules: &Rules,
    immutable: &BTreeMap<Key, Own>,
    wanted: &[Key],
) -> Result<BTreeMap<Key, Tree>, StoreError> {
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
    let mut trees = BTreeMap::new();
    for root in roots {
        let Some(bytes) = index(root)? else { continue };
        // One that cannot be read ends the walk, and counts as missing.
        let tree = survey(root, &bytes, max_value, |key| index(key).ok().flatten());
        trees.extend(tree.map(|tree| (root, tree)));
    }
    Ok(trees)
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
