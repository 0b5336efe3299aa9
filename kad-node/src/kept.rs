//! Which files a node was asked to keep alive: a small file beside its records.
//!
//! What is kept lies in the store as the node's own and is published anew from there. This list says what is to be kept
//! as a whole, so that a node that was interrupted while it fetched a file goes on, and that one which lost a part of
//! it fetches that again. It names keys and no secrets: none is needed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use kad_core::{Key, NetworkId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::file::sync_directory;

/// Files that one node keeps: they are looked through one after another, a few times a day.
pub const MAX_KEPT: usize = 4096;

/// A list larger than this is none of ours: twice what the most files take.
const MAX_BYTES: u64 = 2 << 20;

const NAME: &str = "kept.json";
const VERSION: u32 = 1;

/// A file that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptFile {
    /// Its key.
    pub key: Key,
    /// Since when it is to be kept.
    pub since: UnixTime,
    /// Whether all of it was here when it was looked at last.
    pub is_whole: bool,
}

/// The files that a node keeps, on its disk.
#[derive(Debug)]
pub struct KeptFiles {
    data: PathBuf,
    path: PathBuf,
    network: NetworkId,
    files: Vec<KeptFile>,
}

/// Why the list cannot be used. The file was left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeptError {
    /// It cannot be read or written.
    #[error("the list of kept files {path} cannot be used: {source}", path = .path.display())]
    Io {
        /// The list.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is no such list.
    #[error("{path} is no list of kept files: {why}; move it away, and keep the files anew", path = .path.display())]
    Foreign {
        /// The list.
        path: PathBuf,
        /// What was wrong.
        why: String,
    },
    /// It is full.
    #[error(
        "{MAX_KEPT} files are the most that a node keeps, and these would be more, so none of them was added; forget some, \
         or let another node keep them"
    )]
    Full,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    network: String,
    files: Vec<SavedFile>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedFile {
    key: String,
    since: u64,
    whole: bool,
}

impl KeptFiles {
    /// Reads the list of a data directory; one that is not there is empty. Only whoever holds the directory may change
    /// it.
    ///
    /// # Errors
    /// [`KeptError`]. A list of another network or version is refused by name.
    pub fn open(data: &Path, network: NetworkId) -> Result<Self, KeptError> {
        let path = data.join(NAME);
        let files = read(&path, network)?;
        Ok(Self {
            data: data.to_owned(),
            path,
            network,
            files,
        })
    }

    /// The files, in the order in which they were added.
    #[must_use]
    pub fn files(&self) -> &[KeptFile] {
        &self.files
    }

    /// Their keys.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.files.iter().map(|file| file.key).collect()
    }

    /// Adds those of these files that are not there. Says how many were added; they are on the disk then.
    ///
    /// # Errors
    /// [`KeptError::Full`], [`KeptError::Io`]; nothing was changed.
    pub fn add(&mut self, keys: impl IntoIterator<Item = Key>, since: UnixTime) -> Result<usize, KeptError> {
        let new = self.new_of(keys)?;
        let before = self.files.len();
        let file = |key: &Key| KeptFile {
            key: *key,
            since,
            is_whole: false,
        };
        self.files.extend(new.iter().map(file));
        if !new.is_empty() {
            let saved = self.save();
            if saved.is_err() {
                self.files.truncate(before);
            }
            saved?;
        }
        Ok(new.len())
    }

    /// Those of these files that are not there, each once, if there is room for all of them.
    ///
    /// # Errors
    /// [`KeptError::Full`].
    pub fn new_of(&self, keys: impl IntoIterator<Item = Key>) -> Result<Vec<Key>, KeptError> {
        let mut known: BTreeSet<Key> = self.files.iter().map(|file| file.key).collect();
        let mut new = Vec::new();
        for key in keys {
            if known.insert(key) {
                new.push(key);
            }
            if known.len() > MAX_KEPT {
                return Err(KeptError::Full);
            }
        }
        Ok(new)
    }

    /// Notes whether all of a file is here. A file that is not on the list changes nothing.
    ///
    /// # Errors
    /// [`KeptError::Io`]; what is noted is not on the disk then.
    pub fn note(&mut self, key: Key, is_whole: bool) -> Result<(), KeptError> {
        match self.files.iter_mut().find(|file| file.key == key) {
            Some(file) if file.is_whole != is_whole => {
                file.is_whole = is_whole;
                self.save()
            }
            _ => Ok(()),
        }
    }

    /// Takes a file off the list. Says whether it was there.
    ///
    /// # Errors
    /// [`KeptError::Io`]; nothing was changed.
    pub fn remove(&mut self, key: Key) -> Result<bool, KeptError> {
        let Some(place) = self.files.iter().position(|file| file.key == key) else {
            return Ok(false);
        };
        let file = self.files.remove(place);
        let saved = self.save();
        if saved.is_err() {
            self.files.insert(place, file);
        }
        saved?;
        Ok(true)
    }

    /// Writes beside the file and renames, so that a crash leaves the old or the new; after this the new.
    fn save(&self) -> Result<(), KeptError> {
        let saved = |file: &KeptFile| SavedFile {
            key: file.key.to_string(),
            since: file.since.as_secs(),
            whole: file.is_whole,
        };
        let list = Saved {
            version: VERSION,
            network: self.network.to_string(),
            files: self.files.iter().map(saved).collect(),
        };
        let write = || -> io::Result<()> {
            let beside = self.path.with_extension("new");
            let mut file = fs::File::create(&beside)?;
            serde_json::to_writer_pretty(&mut file, &list)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)?;
            sync_directory(&self.data)
        };
        write().map_err(|source| KeptError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

fn read(path: &Path, network: NetworkId) -> Result<Vec<KeptFile>, KeptError> {
    let failed = |source| KeptError::Io {
        path: path.to_owned(),
        source,
    };
    let foreign = |why: String| KeptError::Foreign {
        path: path.to_owned(),
        why,
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
        Ok(about) if about.len() > MAX_BYTES => return Err(foreign("it is too large".to_owned())),
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(failed)?;
    let saved: Saved = serde_json::from_slice(&bytes).map_err(|error| foreign(error.to_string()))?;
    if saved.version != VERSION {
        return Err(foreign(format!(
            "it has version {}, and this program reads version {VERSION}",
            saved.version
        )));
    }
    if saved.network != network.to_string() {
        return Err(foreign("it was written for another network".to_owned()));
    }
    if saved.files.len() > MAX_KEPT {
        return Err(foreign(format!("it has more than {MAX_KEPT} files")));
    }
    let file = |saved: SavedFile| {
        let key = saved.key.parse();
        Ok(KeptFile {
            key: key.map_err(|error: kad_core::ParseIdError| foreign(error.to_string()))?,
            since: UnixTime::from_secs(saved.since),
            is_whole: saved.whole,
        })
    };
    saved.files.into_iter().map(file).collect()
}

#[cfg(test)]
mod tests {
    use kad_core::Parameters;

    use super::*;

    fn network(name: &str) -> NetworkId {
        NetworkId::new(name, &Parameters::default())
    }

    fn key(number: u64) -> Key {
        Key::from_limbs([number, 0, 0, 0])
    }

    #[test]
    fn what_is_added_noted_and_removed_is_so_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut list = KeptFiles::open(dir.path(), network("test")).unwrap();
        assert!(list.files().is_empty());
        let since = UnixTime::from_secs(7);
        assert_eq!(list.add([key(1), key(2), key(1)], since).unwrap(), 2);
        assert_eq!(list.add([key(1)], UnixTime::from_secs(9)).unwrap(), 0);
        list.note(key(2), true).unwrap();
        list.note(key(3), true).unwrap();
        assert!(list.remove(key(1)).unwrap() && !list.remove(key(1)).unwrap());
        let again = KeptFiles::open(dir.path(), network("test")).unwrap();
        let kept = KeptFile {
            key: key(2),
            since,
            is_whole: true,
        };
        assert_eq!((again.files(), list.files()), (&[kept][..], &[kept][..]));
    }

    #[test]
    fn what_is_no_list_of_this_network_is_refused_by_name_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let mut list = KeptFiles::open(dir.path(), network("test")).unwrap();
        list.add([key(1)], UnixTime::from_secs(7)).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let refusal = |text: &str, network: NetworkId| {
            fs::write(&path, text).unwrap();
            let refusal = KeptFiles::open(dir.path(), network).unwrap_err().to_string();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            refusal
        };
        assert!(refusal(&good, network("other")).contains("another network"));
        let newer = good.replace("\"version\": 1", "\"version\": 2");
        assert!(refusal(&newer, network("test")).contains("version 2"));
        assert!(refusal(&good[..40], network("test")).contains("no list"));
        assert!(refusal(&good.replace("0001", "zz"), network("test")).contains("no list"));
        let long = " ".repeat(MAX_BYTES as usize + 1);
        assert!(refusal(&long, network("test")).contains("too large"));
    }

    #[test]
    fn a_full_list_says_so_and_the_most_files_are_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let files = (0..MAX_KEPT as u64).map(|number| KeptFile {
            key: key(number),
            since: UnixTime::from_secs(1),
            is_whole: true,
        });
        let mut list = KeptFiles {
            data: dir.path().to_owned(),
            path: dir.path().join(NAME),
            network: network("test"),
            files: files.collect(),
        };
        list.save().unwrap();
        assert!(fs::metadata(dir.path().join(NAME)).unwrap().len() < MAX_BYTES);
        assert!(matches!(
            list.add([key(1), key(1 << 40)], UnixTime::from_secs(1)),
            Err(KeptError::Full)
        ));
        let again = KeptFiles::open(dir.path(), network("test")).unwrap();
        assert_eq!(again.files().len(), MAX_KEPT);
        // All of a list is added or nothing.
        assert!(list.remove(key(7)).unwrap());
        let two = [key(1 << 40), key(1), key(1 << 41)];
        assert!(matches!(list.new_of(two), Err(KeptError::Full)));
        assert!(matches!(
            list.add(two, UnixTime::from_secs(1)),
            Err(KeptError::Full)
        ));
        assert_eq!(list.new_of(two[..2].iter().copied()).unwrap(), [key(1 << 40)]);
        let again = KeptFiles::open(dir.path(), network("test")).unwrap();
        assert_eq!((again.files(), again.files().len()), (list.files(), MAX_KEPT - 1));
    }
}
