//! Building a tree from below, chunk by chunk, with one unfinished node for each level in memory.

use bytes::Bytes;
use kad_core::record::{Content, immutable_key};
use kad_core::{ID_BYTES, Key};

use super::{Index, MAX_LEVEL, Shape};

/// Takes the chunks of a file in order and gives the index nodes as soon as they are complete, children before parents.
///
/// A full node is given out only when something follows it: until then it may be the root, which is known at the
/// [`finish`](Self::finish) only. At most [`MAX_LEVEL`] nodes are held, about 240 KiB.
#[derive(Debug)]
pub(in super::super) struct TreeBuilder {
    shape: Shape,
    /// What is unfinished: first the level of the chunks' keys, that is level 1. At most [`MAX_LEVEL`].
    levels: Vec<Partial>,
    total: u64,
    ended: bool,
}

#[derive(Debug, Default)]
struct Partial {
    keys: Vec<u8>,
    total: u64,
}

/// An index node that is ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Node {
    pub(in super::super) key: Key,
    pub(in super::super) level: u8,
    pub(in super::super) bytes: Bytes,
}

/// What the key of the file is the key of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Root {
    /// The only chunk of the file.
    Chunk(Key),
    /// The topmost index node; it has not been given out otherwise.
    Index(Node),
}

/// Why a builder takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum BuildError {
    /// More chunks than a tree of [`MAX_LEVEL`] levels has.
    Full,
    /// A chunk that is too long, or one that follows a short one, or an empty one that is not the only one.
    Length,
}

impl TreeBuilder {
    pub(in super::super) const fn new(shape: Shape) -> Self {
        Self {
            shape,
            levels: Vec::new(),
            total: 0,
            ended: false,
        }
    }

    /// Adds the next chunk and returns the index nodes that this completes, at most one of each level.
    pub(in super::super) fn push(&mut self, key: Key, length: u64) -> Result<Vec<Node>, BuildError> {
        let fits = length <= self.shape.chunk && (length > 0 || self.levels.is_empty());
        if self.ended || !fits {
            return Err(BuildError::Length);
        }
        if self.total >= self.shape.capacity(MAX_LEVEL) {
            return Err(BuildError::Full);
        }
        self.ended = length < self.shape.chunk;
        self.total += length;
        let mut complete = Vec::new();
        self.add(0, key, length, &mut complete);
        Ok(complete)
    }

    /// The nodes that were left, children before parents, and the root. `None` if there was no chunk at all: an empty file
    /// has one chunk of length 0.
    pub(in super::super) fn finish(mut self) -> Option<(Vec<Node>, Root)> {
        let mut complete = Vec::new();
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.close(level, &mut complete);
            level += 1;
        }
        let top = self.levels.pop()?;
        let root = match (level, top.keys.first_chunk()) {
            (0, Some(only)) if top.keys.len() == ID_BYTES => Root::Chunk(Key::from_bytes(*only)),
            _ => Root::Index(node(level, &top)),
        };
        Some((complete, root))
    }

    fn add(&mut self, level: usize, key: Key, total: u64, complete: &mut Vec<Node>) {
        let full = self.shape.fan_out as usize * ID_BYTES;
        if self
            .levels
            .get(level)
            .is_some_and(|partial| partial.keys.len() >= full)
        {
            self.close(level, complete);
        }
        if self.levels.len() == level {
            self.levels.push(Partial::default());
        }
        let partial = &mut self.levels[level];
        partial.keys.extend(key.to_bytes());
        partial.total += total;
    }

    /// Completes the node of a level and adds it to the one above.
    fn close(&mut self, level: usize, complete: &mut Vec<Node>) {
        let partial = std::mem::take(&mut self.levels[level]);
        let node = node(level, &partial);
        let key = node.key;
        complete.push(node);
        self.add(level + 1, key, partial.total, complete);
    }
}

fn node(level: usize, partial: &Partial) -> Node {
    // `push` refuses what would need a level above MAX_LEVEL.
    let level = level as u8 + 1;
    let bytes = Index::write(level, partial.total, &partial.keys);
    Node {
        key: immutable_key(Content::FileIndex, &bytes),
        level,
        bytes,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::index::tests::shape;
    use super::*;

    /// A chunk's key that says which chunk it is.
    fn key(chunk: u64) -> Key {
        Key::from_limbs([7, 7, 7, chunk])
    }

    /// The same tree the simple way: all keys of a level in memory, cut into groups, until one is left.
    fn oracle(lengths: &[u64], fan_out: usize) -> (Vec<Node>, Root) {
        let mut level: Vec<(Key, u64)> = lengths
            .iter()
            .enumerate()
            .map(|(i, length)| (key(i as u64), *length))
            .collect();
        let mut nodes: Vec<Node> = Vec::new();
        for number in 1.. {
            if level.len() == 1 {
                break;
            }
            level = level
                .chunks(fan_out)
                .map(|children| {
                    let total = children.iter().map(|(_, total)| total).sum::<u64>();
                    let mut bytes = vec![1, number];
                    bytes.extend(total.to_be_bytes());
                    bytes.extend(children.iter().flat_map(|(key, _)| key.to_bytes()));
                    let key = immutable_key(Content::FileIndex, &bytes);
                    nodes.push(Node {
                        key,
                        level: number,
                        bytes: bytes.into(),
                    });
                    (key, total)
                })
                .collect();
        }
        match nodes.pop() {
            Some(root) => (nodes, Root::Index(root)),
            None => (nodes, Root::Chunk(level[0].0)),
        }
    }

    fn lengths(total: u64, chunk: u64) -> Vec<u64> {
        let count = total.div_ceil(chunk).max(1);
        (0..count).map(|i| (total - i * chunk).min(chunk)).collect()
    }

    proptest! {
        #[test]
        fn every_file_has_the_tree_that_the_simple_way_makes(
            total in 0_u64..700,
            chunk in 1_u64..12,
            fan_out in 2_u64..6,
        ) {
            let lengths = lengths(total, chunk);
            let mut builder = TreeBuilder::new(shape(chunk, fan_out));
            let mut given = Vec::new();
            for (i, length) in lengths.iter().enumerate() {
                match builder.push(key(i as u64), *length) {
                    Ok(nodes) => given.extend(nodes),
                    Err(refusal) => {
                        prop_assert_eq!(refusal, BuildError::Full);
                        prop_assert_eq!(i as u64, fan_out.pow(u32::from(MAX_LEVEL)));
                        return Ok(());
                    }
                }
                prop_assert!(builder.levels.len() <= usize::from(MAX_LEVEL));
                let held = builder.levels.iter().map(|partial| partial.keys.len());
                prop_assert!(held.into_iter().all(|bytes| bytes as u64 <= fan_out * 32));
            }
            prop_assert!(lengths.len() as u64 <= fan_out.pow(u32::from(MAX_LEVEL)));
            let (rest, root) = builder.finish().unwrap();
            given.extend(rest);
            let (mut wanted, wanted_root) = oracle(&lengths, fan_out as usize);
            prop_assert_eq!(root, wanted_root);
            given.sort_by_key(|node| (node.level, node.key));
            wanted.sort_by_key(|node| (node.level, node.key));
            prop_assert_eq!(given, wanted);
        }
    }

    #[test]
    fn chunks_of_impossible_lengths_are_refused() {
        let mut builder = TreeBuilder::new(shape(10, 2));
        assert_eq!(builder.push(key(0), 11), Err(BuildError::Length));
        assert_eq!(builder.push(key(0), 10), Ok(Vec::new()));
        assert_eq!(
            builder.push(key(1), 0),
            Err(BuildError::Length),
            "an empty one is not needed"
        );
        assert_eq!(builder.push(key(1), 9), Ok(Vec::new()));
        assert_eq!(
            builder.push(key(2), 10),
            Err(BuildError::Length),
            "the short one was the last"
        );
        assert_eq!(TreeBuilder::new(shape(10, 2)).finish(), None);
    }
}
