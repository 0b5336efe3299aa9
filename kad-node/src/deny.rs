//! The deny-list: keys and publishers that an operator does not serve.
//!
//! ```text
//! # A key: records under it are not stored, served, fetched or published, and what is held of it is removed.
//! 2a967aac4878bd1f68843161fd821774d1a9c78b0468b418a15751418ff14cf9
//! key 33769bd3b048f6610c18247e3f44991a04f5e64206903987511eb58931ed5474
//! # Whoever signs with this key, wherever: mutable records and announcements.
//! publisher 8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c
//! # The same by the id that belongs to the public key.
//! node bc09b68598ce387dd670e96f78d4fd5e9830e6d020a75fa5ab348d46d00c230f
//! ```

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use kad_core::{Key, NodeId, ParseIdError, PublicKey, RawRecord};

/// Lines that name something: 64 bytes of memory each, 4 MiB.
pub const MAX_DENIED: usize = 65_536;

/// As many lines with room for a comment on each.
const MAX_BYTES: u64 = 16 << 20;

/// Keys and publishers that a node does not serve. See [`Builder::deny`](crate::Builder::deny).
///
/// As text it has one of them on each line, in 64 hexadecimal digits: a key, alone or behind the word `key`; or behind
/// `publisher` a public key, or behind `node` a node id, of somebody whose records are not wanted. `#` begins a
/// comment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DenyList {
    keys: HashSet<Key>,
    publishers: HashSet<NodeId>,
}

/// What is wrong with a deny-list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DenyListError {
    /// A line that names nothing.
    #[error(
        "line {line} {what}; write a key in 64 hexadecimal digits, or 'publisher' and a public key, or 'node' and an id"
    )]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// More than [`MAX_DENIED`] lines.
    #[error("it names more than {MAX_DENIED} keys and publishers, which is the most")]
    TooMany,
    /// The file is larger than any list.
    #[error("it has {bytes} bytes, and a list of {MAX_DENIED} lines has fewer than {MAX_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
}

/// The same about a file.
#[derive(Debug, thiserror::Error)]
#[error("the deny-list {path} cannot be used: {source}", path = .path.display())]
pub struct DenyFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub source: DenyListError,
}

impl DenyList {
    /// Reads a file.
    ///
    /// # Errors
    /// One sentence with the file, and the line if it is one.
    pub fn read(path: &Path) -> Result<Self, DenyFileError> {
        let read = || {
            let bytes = fs::metadata(path)?.len();
            if bytes > MAX_BYTES {
                return Err(DenyListError::TooLarge { bytes });
            }
            fs::read_to_string(path)?.parse()
        };
        read().map_err(|source| DenyFileError {
            path: path.to_owned(),
            source,
        })
    }

    /// One more key.
    pub fn deny_key(&mut self, key: Key) {
        self.keys.insert(key);
    }

    /// One more publisher: whoever signs with the key that this id belongs to.
    pub fn deny_publisher(&mut self, publisher: NodeId) {
        self.publishers.insert(publisher);
    }

    /// How many keys and publishers it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len() + self.publishers.len()
    }

    /// Whether it denies nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.publishers.is_empty()
    }

    /// Whether everything under a key is denied.
    #[must_use]
    pub fn has_key(&self, key: Key) -> bool {
        self.keys.contains(&key)
    }

    /// Whether whatever this node id has signed is denied.
    #[must_use]
    pub fn has_publisher(&self, publisher: NodeId) -> bool {
        self.publishers.contains(&publisher)
    }

    /// Whether a record under this key is denied.
    pub(crate) fn has(&self, key: Key, record: &RawRecord) -> bool {
        let is_denied = |author| self.has_publisher(NodeId::from_public_key(&author));
        self.has_key(key) || !self.publishers.is_empty() && record.author().is_some_and(is_denied)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.split_whitespace();
        let (word, name) = match (words.next(), words.next(), words.next()) {
            (None, ..) => return Ok(()),
            (Some(key), None, _) => ("key", key),
            (Some(word), Some(name), None) => (word, name),
            _ => return Err("has too many words".to_owned()),
        };
        let wrong = |_: ParseIdError| format!("is no {word}");
        match word {
            "key" => self.deny_key(name.parse().map_err(wrong)?),
            "node" => self.deny_publisher(name.parse().map_err(wrong)?),
            "publisher" => {
                let key: PublicKey = name.parse().map_err(wrong)?;
                self.deny_publisher(NodeId::from_public_key(&key));
            }
            other => return Err(format!("begins with '{other}'")),
        }
        Ok(())
    }
}

impl FromStr for DenyList {
    type Err = DenyListError;

    fn from_str(text: &str) -> Result<Self, DenyListError> {
        let mut list = Self::default();
        for (line, text) in (1..).zip(text.lines()) {
            let named = text.split('#').next().unwrap_or_default();
            list.add(named)
                .map_err(|what| DenyListError::Line { line, what })?;
            if list.len() > MAX_DENIED {
                return Err(DenyListError::TooMany);
            }
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_line_is_read() {
        let public = kad_core::Keypair::from_secret(&[1; 32]).public();
        let (one, two) = ("1a".repeat(32), "2B".repeat(32));
        let id = NodeId::from_public_key(&public);
        let text = format!("# none\n\n{one}\r\n  key {two} # why\nnode {one}\npublisher {public}");
        let list: DenyList = text.parse().unwrap();
        assert_eq!((list.keys.len(), list.publishers.len(), list.len()), (2, 2, 4));
        assert!(list.has_key(one.parse().unwrap()) && list.has_key(two.to_lowercase().parse().unwrap()));
        assert!(list.publishers.contains(&id) && list.publishers.contains(&one.parse().unwrap()));
        assert!("".parse::<DenyList>().unwrap().is_empty());
    }

    #[test]
    fn a_bad_line_is_told_with_its_number() {
        let error = |text: &str| text.parse::<DenyList>().unwrap_err().to_string();
        for (text, says) in [
            ("# fine\n12", "line 2 is no key"),
            ("key\n", "line 1 is no key"),
            ("\n\nowner 1a", "line 3 begins with 'owner'"),
            ("key 1a 2b", "line 1 has too many words"),
            ("node zz", "line 1 is no node"),
        ] {
            let error = error(text);
            assert!(
                error.contains(says) && error.contains("64 hexadecimal digits"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_list_without_end_is_refused() {
        let text: String = (0..=MAX_DENIED).map(|n| format!("{n:064x}\n")).collect();
        assert!(matches!(text.parse::<DenyList>(), Err(DenyListError::TooMany)));
        let most = &text[..text.len() - 65];
        assert_eq!(most.parse::<DenyList>().unwrap().len(), MAX_DENIED);
    }
}
