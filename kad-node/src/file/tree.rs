//! The shape of a file in the network: a tree of content-addressed chunks. Pure: no clock, no network, no disk.
//!
//! The bytes of the file are cut into chunks of the same size, only the last may be shorter. A chunk is a plain
//! immutable record. If there is more than one, their keys are listed in index nodes, the keys of these in index nodes
//! of the next level, and so on until one node is left: the root. There is exactly one tree for given bytes, so a file
//! has one key:
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
//!        0      1  version: 1 of a plain file, 2 of one that is coded or sealed
//!        1      1  level, 1 to 4; the children are index nodes of the level below, or chunks if this is level 1
//!        2      8  total: bytes of the file in the chunks below this node, big-endian, never 0
//!       10      1  version 2: data chunks of a stripe, 0 if the file is not coded
//!       11      1  version 2: parity chunks of a stripe, 0 if the file is not coded
//!       12      1  version 2: 1 if the chunks are sealed, else 0
//!       13     32  version 2, sealed: what the secret is checked against
//!            32*n  the keys of the n children, in the order of the file
//! ```
//!
//! In a coded file the chunks below a node of level 1 form stripes: the keys of a stripe's data chunks, then those of
//! its parity chunks. All stripes have as many data chunks, except the last of the file, and all have as many parity
//! chunks. A node of level 1 holds whole stripes. Parity chunks do not count in the total.
//!
//! Nothing else follows from an index than what these bytes can prove: n must be the one number that the total and the
//! level allow, and the total of a child must be what is left for it at its place. So depth, width and length of a tree
//! are bounded before anything below is fetched. (No node can contain itself: its key would have to be known before its
//! hash.) All nodes of a tree are of the same format.
//!
//! What this module refuses to be: a format with holes, attributes or names. An application that wants these puts them
//! into a record of its own, next to the key of the file.

mod builder;
mod index;
pub(super) mod shape;
mod walker;

use kad_core::ID_BYTES;

pub(super) use self::builder::{BuildError, Node, Root, TreeBuilder};
use self::index::Index;
pub(super) use self::shape::{Format, Room, Shape};
pub(super) use self::walker::{Place, Step, Stripe, Walker};

/// The largest chunk in bytes, 60 KiB: what is left of the largest value when a message with it shall fit into 64 KiB.
pub const MAX_CHUNK: u64 = 60 * 1024;

/// The most levels of index nodes above the chunks. Four hold more than half an exabyte.
pub const MAX_LEVEL: u8 = 4;

/// The most children of an index node: as many keys as fit into [`MAX_CHUNK`] bytes after the header, 1919.
pub const MAX_CHILDREN: u64 = (MAX_CHUNK - HEADER as u64) / ID_BYTES as u64;

/// Bytes before the keys of a plain file's index.
const HEADER: usize = 10;

/// The index nodes that an index node names; none if it names chunks, or is no index.
pub(super) fn children(index: &bytes::Bytes, room: Room) -> Vec<kad_core::Key> {
    match Index::parse(index, room) {
        Ok(index) if index.level > 1 => (0..)
            .map_while(|place| index.child(place))
            .map(|(key, _)| key)
            .collect(),
        _ => Vec::new(),
    }
}

/// An index node with these keys, right or not.
#[cfg(test)]
pub(super) fn node(format: Format, level: u8, total: u64, keys: &[u8]) -> bytes::Bytes {
    Index::write(format, level, total, keys)
}

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
    /// Not a number of data and parity chunks that a stripe can have, or neither a code nor a seal in an index of
    /// version 2.
    #[error("no file is stored with {data} data and {parity} parity chunks in this index layout")]
    Code {
        /// Data chunks.
        data: u8,
        /// Parity chunks.
        parity: u8,
    },
    /// A way of sealing that this software does not know.
    #[error("seal {0} is unknown")]
    Seal(u8),
    /// The largest value of the network leaves no room for an index, a stripe or a seal of this kind.
    #[error("the values that this network allows are too small for its code or seal")]
    NoRoom,
    /// Another code, seal or version than that of the root.
    #[error("it is of another format than the root")]
    OtherFormat,
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
    /// A number of bytes that no index of its level has: none, more than fit, or as a root so few that a child would
    /// do.
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
