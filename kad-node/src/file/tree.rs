//! The shape of a file in the network: a tree of content-addressed chunks. Pure: no clock, no network, no disk.
//!
//! The bytes of the file are cut into chunks of the same size, only the last may be shorter. A chunk is a plain immutable
//! record. If there is more than one, their keys are listed in index nodes, the keys of these in index nodes of the next
//! level, and so on until one node is left: the root. There is exactly one tree for given bytes, so a file has one key:
//!
//! ```text
//!   level 2                  [ root ]                  index nodes: Content::FileIndex, a hash domain of their own
//!                     ┌─────────┴──────────┐
//!   level 1        [ node ]             [ node ]       all nodes are full, except the last of each level
//!                ┌────┼────┐               │
//!   level 0   chunk chunk chunk          chunk         chunks: Content::Plain; all are full, except the last
//! ```
//!
//! An index node, byte by byte:
//!
//! ```text
//!   offset  bytes  field
//!        0      1  version, 1
//!        1      1  level, 1 to 4; the children are index nodes of the level below, or chunks if this is level 1
//!        2      8  total: bytes of the file below this node, big-endian, never 0
//!       10   32*n  the keys of the n children, in the order of the file
//! ```
//!
//! Nothing else follows from an index than what these bytes can prove: n must be the one number that the total and the
//! level allow, and the total of a child must be what is left for it at its place. So depth, width and length of a tree are
//! bounded before anything below is fetched. (No node can contain itself: its key would have to be known before its hash.)
//!
//! What this module refuses to be: a format with holes, attributes or names. An application that wants these puts them into a
//! record of its own, next to the key of the file.

mod builder;
mod walker;

use bytes::Bytes;
use kad_core::{ID_BYTES, Key};

pub(super) use self::builder::{BuildError, Node, Root, TreeBuilder};
pub(super) use self::walker::{Place, Step, Walker};

/// The largest chunk in bytes, 60 KiB: what is left of the largest value when a message with it shall fit into 64 KiB.
pub const MAX_CHUNK: u64 = 60 * 1024;

/// The most levels of index nodes above the chunks. Four hold more than half an exabyte.
pub const MAX_LEVEL: u8 = 4;

/// The most children of an index node: as many keys as fit into [`MAX_CHUNK`] bytes after the header, 1919.
pub const MAX_CHILDREN: u64 = (MAX_CHUNK - HEADER as u64) / ID_BYTES as u64;

const VERSION: u8 = 1;
const HEADER: usize = 10;

/// Why an index node was refused. Whoever made the file made it wrong, on purpose or not; the network carried it truly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Its length is not that of a header and whole keys.
    #[error("{0} bytes are not the length of an index")]
    Length(usize),
    /// A layout that this software does not know.
    #[error("version {0} of the index layout is unknown")]
    Version(u8),
    /// A level that no index has.
    #[error("no index has level {0}, only 1 to {MAX_LEVEL}")]
    Level(u8),
    /// A level that is not the one of its place in the tree.
    #[error("it says level {found}, but its place in the tree is at level {expected}")]
    OtherLevel {
        /// What it says.
        found: u8,
        /// What belongs there.
        expected: u8,
    },
    /// A number of bytes that no index of its level has: none, more than fit, or as a root so few that a child would do.
    #[error("no index of level {level} has {total} bytes below it")]
    Total {
        /// What it says.
        total: u64,
        /// Its level.
        level: u8,
    },
    /// A number of bytes that is not the one of its place in the tree.
    #[error("it says {found} bytes, but its place in the tree is for {expected}")]
    OtherTotal {
        /// What it says.
        found: u64,
        /// What belongs there.
        expected: u64,
    },
    /// Not the one number of children that its total and level allow.
    #[error("it has {found} children, but its bytes make {expected}")]
    Children {
        /// How many it has.
        found: u64,
        /// How many it should have.
        expected: u64,
    },
}

/// The sizes that all trees of a network have. They follow from the network's parameters, so all members agree on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    chunk: u64,
    fan_out: u64,
}

impl Shape {
    /// The shape in a network with this largest value in bytes: [`MAX_CHUNK`] and [`MAX_CHILDREN`], less if the network
    /// allows less. `None` if an index of two children does not fit.
    pub(super) fn of_network(max_value: usize) -> Option<Self> {
        let chunk = MAX_CHUNK.min(max_value as u64);
        let fan_out = chunk.saturating_sub(HEADER as u64) / ID_BYTES as u64;
        (fan_out >= 2).then_some(Self { chunk, fan_out })
    }

    /// Bytes of every chunk but the last, at least 1 and at most [`MAX_CHUNK`].
    pub(super) const fn chunk(self) -> u64 {
        self.chunk
    }

    /// Bytes of the file below a full node of a level; level 0 is a chunk. Stops at the largest number.
    fn capacity(self, level: u8) -> u64 {
        let fan_out = self.fan_out.saturating_pow(u32::from(level));
        self.chunk.saturating_mul(fan_out)
    }

    /// How many children a node of a level has.
    fn children(self, level: u8, total: u64) -> u64 {
        total.div_ceil(self.capacity(level.saturating_sub(1)))
    }
}

/// An index node whose parts agree with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Index {
    level: u8,
    total: u64,
    /// At least one key, at most `fan_out`.
    keys: Bytes,
}

impl Index {
    /// Reads a node that may have any place in a tree.
    fn parse(bytes: &Bytes, shape: Shape) -> Result<Self, IndexError> {
        let Some((header, keys)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(IndexError::Length(bytes.len()));
        };
        let [version, level, total @ ..] = *header;
        let total = u64::from_be_bytes(total);
        if version != VERSION {
            return Err(IndexError::Version(version));
        }
        if level == 0 || level > MAX_LEVEL {
            return Err(IndexError::Level(level));
        }
        if total == 0 || total > shape.capacity(level) {
            return Err(IndexError::Total { total, level });
        }
        if keys.len() % ID_BYTES != 0 {
            return Err(IndexError::Length(bytes.len()));
        }
        let (found, expected) = ((keys.len() / ID_BYTES) as u64, shape.children(level, total));
        if found != expected {
            return Err(IndexError::Children { found, expected });
        }
        Ok(Self {
            level,
            total,
            keys: bytes.slice(HEADER..),
        })
    }

    /// Reads a node that is a root: one with a single child is none, its child would be.
    fn parse_root(bytes: &Bytes, shape: Shape) -> Result<Self, IndexError> {
        let root = Self::parse(bytes, shape)?;
        match (root.total, root.level) {
            (total, level) if total <= shape.capacity(level - 1) => Err(IndexError::Total { total, level }),
            _ => Ok(root),
        }
    }

    /// Reads the node that belongs to a place below a root.
    fn parse_at(bytes: &Bytes, level: u8, total: u64, shape: Shape) -> Result<Self, IndexError> {
        let node = Self::parse(bytes, shape)?;
        if node.level != level {
            return Err(IndexError::OtherLevel {
                found: node.level,
                expected: level,
            });
        }
        if node.total != total {
            return Err(IndexError::OtherTotal {
                found: node.total,
                expected: total,
            });
        }
        Ok(node)
    }

    /// The key of a child and the bytes of the file below it, or `None` behind the last.
    fn child(&self, index: u64, shape: Shape) -> Option<(Key, u64)> {
        let start = usize::try_from(index).ok()?.checked_mul(ID_BYTES)?;
        let key = self.keys.get(start..)?.first_chunk()?;
        let full = shape.capacity(self.level - 1);
        let rest = self.total.checked_sub(full.checked_mul(index)?)?;
        Some((Key::from_bytes(*key), rest.min(full)))
    }

    fn write(level: u8, total: u64, keys: &[u8]) -> Bytes {
        let mut bytes = Vec::with_capacity(HEADER + keys.len());
        bytes.extend([VERSION, level]);
        bytes.extend(total.to_be_bytes());
        bytes.extend(keys);
        bytes.into()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A shape with room for mistakes at every step.
    pub(in super::super) fn shape(chunk: u64, fan_out: u64) -> Shape {
        Shape { chunk, fan_out }
    }

    fn node(level: u8, total: u64, children: u8) -> Bytes {
        let keys: Vec<u8> = (0..children).flat_map(|child| [child; ID_BYTES]).collect();
        Index::write(level, total, &keys)
    }

    #[test]
    fn an_index_is_laid_out_as_the_documentation_says() {
        let bytes = node(2, 0x0102_0304, 2);
        let header = [1, 2, 0, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(bytes[..HEADER], header);
        assert_eq!(bytes[HEADER..], [[0; ID_BYTES], [1; ID_BYTES]].concat());
        assert_eq!(MAX_CHILDREN, 1919);
        let largest = HEADER as u64 + MAX_CHILDREN * ID_BYTES as u64;
        assert!(largest <= MAX_CHUNK && largest + ID_BYTES as u64 > MAX_CHUNK);
    }

    #[test]
    fn the_shape_follows_from_the_largest_value_of_the_network() {
        let usual = Shape::of_network(64 * 1024).unwrap();
        assert_eq!(usual, shape(MAX_CHUNK, MAX_CHILDREN));
        assert!(usual.capacity(MAX_LEVEL) > 1 << 59, "no overflow, and room");
        assert_eq!(Shape::of_network(1024), Some(shape(1024, 31)));
        assert_eq!(Shape::of_network(HEADER + 2 * ID_BYTES), Some(shape(74, 2)));
        assert_eq!(Shape::of_network(HEADER + 2 * ID_BYTES - 1), None);
        assert_eq!(shape(u64::MAX, 3).capacity(4), u64::MAX);
    }

    #[test]
    fn every_malformed_index_is_refused_by_name() {
        let shape = shape(10, 3);
        let good = node(2, 61, 3);
        assert!(Index::parse_root(&good, shape).is_ok());
        let changed = |at: usize, to: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = to;
            Bytes::from(bytes)
        };
        let refusals = [
            (Bytes::new(), IndexError::Length(0)),
            (good.slice(..HEADER - 1), IndexError::Length(9)),
            (good.slice(..good.len() - 1), IndexError::Length(105)),
            (changed(0, 2), IndexError::Version(2)),
            (changed(1, 0), IndexError::Level(0)),
            (changed(1, 5), IndexError::Level(5)),
            (changed(9, 0), IndexError::Total { total: 0, level: 2 }),
            (changed(9, 91), IndexError::Total { total: 91, level: 2 }),
            (
                changed(2, 255),
                IndexError::Total {
                    total: 255 << 56 | 61,
                    level: 2,
                },
            ),
            (
                changed(9, 60),
                IndexError::Children {
                    found: 3,
                    expected: 2,
                },
            ),
            (
                good.slice(..HEADER),
                IndexError::Children {
                    found: 0,
                    expected: 3,
                },
            ),
            (node(1, 10, 1), IndexError::Total { total: 10, level: 1 }),
        ];
        for (bytes, refusal) in refusals {
            assert_eq!(Index::parse_root(&bytes, shape), Err(refusal));
            assert!(!refusal.to_string().is_empty());
        }
        let (found, expected) = (2, 1);
        assert_eq!(
            Index::parse_at(&good, 1, 61, shape),
            Err(IndexError::OtherLevel { found, expected })
        );
        let (found, expected) = (61, 62);
        assert_eq!(
            Index::parse_at(&good, 2, 62, shape),
            Err(IndexError::OtherTotal { found, expected })
        );
        assert!(
            Index::parse_at(&node(1, 10, 1), 1, 10, shape).is_ok(),
            "the last of a level"
        );
    }

    #[test]
    fn the_bytes_of_the_children_are_those_of_their_places() {
        let shape = shape(10, 3);
        let index = Index::parse(&node(2, 61, 3), shape).unwrap();
        let totals: Vec<_> = (0..)
            .map_while(|i| index.child(i, shape))
            .map(|(_, total)| total)
            .collect();
        assert_eq!(totals, [30, 30, 1]);
        assert_eq!(index.child(u64::MAX, shape), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic_or_accept_what_it_would_not_write(
            header in prop::collection::vec(0_u8..4, 0..12),
            keys in prop::collection::vec(any::<u8>(), 0..140),
            chunk in 1_u64..1000,
            fan_out in 2_u64..5,
        ) {
            let bytes = Bytes::from([header, keys].concat());
            if let Ok(index) = Index::parse(&bytes, shape(chunk, fan_out)) {
                prop_assert_eq!(&Index::write(index.level, index.total, &index.keys), &bytes);
                let children: Vec<_> =
                    (0..).map_while(|i| index.child(i, shape(chunk, fan_out))).collect();
                prop_assert_eq!(children.len() * ID_BYTES, index.keys.len());
                prop_assert_eq!(children.iter().map(|(_, total)| total).sum::<u64>(), index.total);
                prop_assert!(children.iter().all(|(_, total)| *total > 0));
            }
        }
    }
}
