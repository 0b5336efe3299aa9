//! A data directory while no node runs with it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kad_core::{Key, Kind, NetworkId, NodeId, Parameters, Rules, Slot, UnixTime};
use kad_store::redb::{RedbConfig, RedbStore};
use kad_store::{RecordStore as _, StoreError};

use super::{Holding, HoldingKind, Listing, each_tree, everything, listing};
use crate::SpawnError;
use crate::builder::DataDirectory;
use crate::kept::{KeptError, KeptFiles};

/// A data directory that belongs to nobody else for as long as this lives.
pub struct Holdings {
    rules: Rules,
    kept: KeptFiles,
    store: RedbStore,
    _directory: DataDirectory,
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

    /// Stops keeping a file or a value, or a mutable record, and frees its place. If this node is one of those nearest
    /// to one of its records, it will fetch that again as a holder like any other. `None` if nothing of the kind is
    /// kept.
    ///
    /// # Errors
    /// [`HoldingsError`]; call it again then.
    pub fn forget(&mut self, key: Key, now: UnixTime) -> Result<Option<Forgotten>, HoldingsError> {
        let reader = self.store.reader();
        let everything = everything(&reader, &self.rules, now)?;
        let immutable = &everything.immutable;
        let (mut keys, mut of_others) = (None, BTreeSet::new());
        each_tree(
            &reader,
            &self.rules,
            immutable,
            &self.kept.keys(),
            |root, tree| match root == key {
                true => keys = Some(tree.keys),
                false => of_others.extend(tree.keys),
            },
        )?;
        let keys = keys.unwrap_or_else(|| immutable.contains_key(&key).then_some(key).into_iter().collect());
        let mut forgotten = Forgotten {
            was_listed: self.kept.remove(key)?,
            ..Forgotten::default()
        };
        let is_kept_elsewhere =
            |key: &Key| of_others.contains(key) || self.kept.files().iter().any(|file| file.key == *key);
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
