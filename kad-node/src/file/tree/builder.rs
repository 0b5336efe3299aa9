//! Building a tree from below, chunk by chunk, with one unfinished node for each level in memory.

use bytes::Bytes;
use kad_core::Key;
use kad_core::record::{Content, immutable_key};

use super::{Format, Index, MAX_LEVEL, Shape};

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
    /// Children, or stripes of them on level 1.
    units: u64,
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
    /// A chunk or stripe that is too long, or one that follows a short one, or an empty one that is not the only one.
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

    /// Adds the next stripe, its data chunks with their lengths and then its parity chunks, and returns the index nodes
    /// that this completes, at most one of each level. A file that is not coded has stripes of one chunk.
    pub(in super::super) fn push(
        &mut self,
        data: &[(Key, u64)],
        parity: &[Key],
    ) -> Result<Vec<Node>, BuildError> {
        let chunk = self.shape.chunk();
        let length: u64 = data.iter().map(|(_, length)| length).sum();
        let full = (data.len() as u64).saturating_mul(chunk);
        let lengths_fit = match data {
            [] => false,
            [(_, 0)] => self.levels.is_empty(),
            [whole @ .., (_, last)] => {
                (1..=chunk).contains(last) && whole.iter().all(|(_, length)| *length == chunk)
            }
        };
        if self.ended || !lengths_fit || data.len() as u64 > self.shape.data() {
            return Err(BuildError::Length);
        }
        if self.total >= self.shape.capacity(MAX_LEVEL) {
            return Err(BuildError::Full);
        }
        self.ended = length < full || (data.len() as u64) < self.shape.data();
        self.total += length;
        let keys: Vec<u8> = data
            .iter()
            .map(|(key, _)| key)
            .chain(parity)
            .flat_map(|key| key.to_bytes())
            .collect();
        let mut complete = Vec::new();
        self.add(0, &keys, length, &mut complete);
        Ok(complete)
    }

    /// The nodes that were left, children before parents, and the root. `None` if there was no chunk at all: an empty
    /// file has one chunk of length 0.
    pub(in super::super) fn finish(mut self) -> Option<(Vec<Node>, Root)> {
        let mut complete = Vec::new();
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.close(level, &mut complete);
            level += 1;
        }
        let top = self.levels.pop()?;
        let format = self.shape.format();
        let only_chunk = level == 0 && self.total <= self.shape.chunk() && format.seal.is_none();
        let root = match top.keys.first_chunk() {
            Some(only) if only_chunk => Root::Chunk(Key::from_bytes(*only)),
            _ => Root::Index(node(format, level, &top)),
        };
        Some((complete, root))
    }

    fn add(&mut self, level: usize, keys: &[u8], total: u64, complete: &mut Vec<Node>) {
        let full = match level {
            0 => self.shape.stripes(),
            _ => self.shape.most_children(level as u8 + 1),
        };
        if self
            .levels
            .get(level)
            .is_some_and(|partial| partial.units >= full)
        {
            self.close(level, complete);
        }
        if self.levels.len() == level {
            self.levels.push(Partial::default());
        }
        let partial = &mut self.levels[level];
        partial.keys.extend(keys);
        partial.total += total;
        partial.units += 1;
    }

    /// Completes the node of a level and adds it to the one above.
    fn close(&mut self, level: usize, complete: &mut Vec<Node>) {
        let partial = std::mem::take(&mut self.levels[level]);
        let node = node(self.shape.format(), level, &partial);
        let key = node.key;
        complete.push(node);
        self.add(level + 1, &key.to_bytes(), partial.total, complete);
    }
}

fn node(format: Format, level: usize, partial: &Partial) -> Node {
    // `push` refuses what would need a level above MAX_LEVEL.
    let level = level as u8 + 1;
    let bytes = Index::write(format, level, partial.total, &partial.keys);
    Node {
        key: immutable_key(Content::FileIndex, &bytes),
        level,
        bytes,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::code::Code;
    use super::super::shape::tests::{room, shape};
    use super::*;

    /// A chunk's key that says which chunk it is.
    fn key(chunk: u64) -> Key {
        Key::from_limbs([7, 7, 7, chunk])
    }

    fn parity(stripe: u64, parity: u64) -> Vec<Key> {
        (0..parity).map(|i| Key::from_limbs([9, 9, i, stripe])).collect()
    }

    /// The same tree the simple way: all keys of a level in memory, cut into groups, until one is left. Children of a
    /// leaf are stripes.
    fn oracle(lengths: &[u64], shape: Shape) -> (Vec<Node>, Root) {
        let format = shape.format();
        let stripes = lengths.chunks(shape.data() as usize).zip(0..);
        let mut level: Vec<(Vec<Key>, u64)> = stripes
            .map(|(stripe, number)| {
                let first = number * shape.data();
                let data = (first..).take(stripe.len()).map(key);
                let keys = data.chain(parity(number, shape.parity())).collect();
                (keys, stripe.iter().sum())
            })
            .collect();
        let mut nodes: Vec<Node> = Vec::new();
        let mut fan_out = shape.stripes();
        for number in 1.. {
            if level.len() == 1 && number > 1 || lengths.len() == 1 && format.seal.is_none() {
                break;
            }
            level = level
                .chunks(fan_out as usize)
                .map(|children| {
                    let total = children.iter().map(|(_, total)| total).sum::<u64>();
                    let mut bytes = vec![if format.is_plain() { 1 } else { 2 }, number];
                    bytes.extend(total.to_be_bytes());
                    if let Some(code) = format.code {
                        bytes.extend([code.data(), code.parity(), 0]);
                    }
                    bytes.extend(
                        children
                            .iter()
                            .flat_map(|(keys, _)| keys)
                            .flat_map(|key| key.to_bytes()),
                    );
                    let key = immutable_key(Content::FileIndex, &bytes);
                    nodes.push(Node {
                        key,
                        level: number,
                        bytes: bytes.into(),
                    });
                    (vec![key], total)
                })
                .collect();
            fan_out = shape.most_children(2);
        }
        match nodes.pop() {
            Some(root) => (nodes, Root::Index(root)),
            None => (nodes, Root::Chunk(level[0].0[0])),
        }
    }

    fn lengths(total: u64, chunk: u64) -> Vec<u64> {
        let count = total.div_ceil(chunk).max(1);
        (0..count).map(|i| (total - i * chunk).min(chunk)).collect()
    }

    /// What a builder gives for a file, or how many chunks it took before it refused one.
    fn build(lengths: &[u64], shape: Shape) -> Result<(Vec<Node>, Root), u64> {
        let mut builder = TreeBuilder::new(shape);
        let mut given = Vec::new();
        for (stripe, number) in lengths.chunks(shape.data() as usize).zip(0..) {
            let first = number * shape.data();
            let data: Vec<_> = (first..).map(key).zip(stripe.iter().copied()).collect();
            match builder.push(&data, &parity(number, shape.parity())) {
                Ok(nodes) => given.extend(nodes),
                Err(refusal) => {
                    assert_eq!(refusal, BuildError::Full);
                    return Err(first);
                }
            }
            assert!(builder.levels.len() <= usize::from(MAX_LEVEL));
            for (level, partial) in (1..).zip(&builder.levels) {
                assert!(partial.keys.len() as u64 <= shape.most_children(level) * 32);
            }
        }
        let (rest, root) = builder.finish().unwrap();
        given.extend(rest);
        Ok((given, root))
    }

    proptest! {
        #[test]
        fn every_file_has_the_tree_that_the_simple_way_makes(
            total in 0_u64..700,
            chunk in 1_u64..12,
            fan_out in 2_u64..6,
        ) {
            let (lengths, shape) = (lengths(total, chunk), shape(chunk, fan_out));
            match build(&lengths, shape) {
                Err(taken) => prop_assert_eq!(taken, fan_out.pow(u32::from(MAX_LEVEL))),
                Ok((mut given, root)) => {
                    prop_assert!(lengths.len() as u64 <= fan_out.pow(u32::from(MAX_LEVEL)));
                    let (mut wanted, wanted_root) = oracle(&lengths, shape);
                    prop_assert_eq!(root, wanted_root);
                    given.sort_by_key(|node| (node.level, node.key));
                    wanted.sort_by_key(|node| (node.level, node.key));
                    prop_assert_eq!(given, wanted);
                }
            }
        }

        #[test]
        fn every_coded_file_has_the_tree_that_the_simple_way_makes(
            total in 0_u64..700,
            chunk in 2_u64..12,
            room_for in 9_u64..14,
            data in 1_u8..5,
            parity in 1_u8..4,
        ) {
            let format = Format { code: Code::new(data, parity).ok(), seal: None };
            let shape = room(chunk, room_for).shape(format).unwrap();
            let lengths = lengths(total, shape.chunk());
            let (mut given, root) = build(&lengths, shape).unwrap();
            let (mut wanted, wanted_root) = oracle(&lengths, shape);
            prop_assert_eq!(root, wanted_root);
            given.sort_by_key(|node| (node.level, node.key));
            wanted.sort_by_key(|node| (node.level, node.key));
            prop_assert_eq!(given, wanted);
        }
    }

    #[test]
    fn chunks_of_impossible_lengths_are_refused() {
        let mut builder = TreeBuilder::new(shape(10, 2));
        assert_eq!(builder.push(&[(key(0), 11)], &[]), Err(BuildError::Length));
        assert_eq!(builder.push(&[], &[]), Err(BuildError::Length));
        assert_eq!(builder.push(&[(key(0), 10); 2], &[]), Err(BuildError::Length));
        assert_eq!(builder.push(&[(key(0), 10)], &[]), Ok(Vec::new()));
        assert_eq!(
            builder.push(&[(key(1), 0)], &[]),
            Err(BuildError::Length),
            "an empty one is not needed"
        );
        assert_eq!(builder.push(&[(key(1), 9)], &[]), Ok(Vec::new()));
        assert_eq!(
            builder.push(&[(key(2), 10)], &[]),
            Err(BuildError::Length),
            "the short one was the last"
        );
        assert_eq!(TreeBuilder::new(shape(10, 2)).finish(), None);
    }

    #[test]
    fn a_stripe_that_is_not_full_is_the_last() {
        let format = Format {
            code: Code::new(3, 1).ok(),
            seal: None,
        };
        let mut builder = TreeBuilder::new(room(10, 9).shape(format).unwrap());
        let parity = [key(9)];
        assert_eq!(
            builder.push(&[(key(0), 9), (key(1), 10)], &parity),
            Err(BuildError::Length)
        );
        assert_eq!(
            builder.push(&[(key(0), 10), (key(1), 10)], &parity),
            Ok(Vec::new())
        );
        assert_eq!(builder.push(&[(key(2), 10)], &parity), Err(BuildError::Length));
    }
}
