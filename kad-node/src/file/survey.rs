//! What a file consists of, as far as it lies on a disk of one's own: no network is asked.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kad_core::Key;

use super::Code;
use super::tree::{Room, Step, Walker, children};

/// The parts of a file, as its root tells of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Surveyed {
    pub(crate) chunks: u64,
    pub(crate) parity: u64,
    pub(crate) indexes: u64,
    /// The bytes of its chunks, without parity.
    pub(crate) bytes: u64,
    pub(crate) is_sealed: bool,
    pub(crate) code: Option<Code>,
}

/// A file, as far as its index nodes are here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) survey: Surveyed,
    /// The keys of its records, each once, however often it is named.
    pub(crate) keys: BTreeSet<Key>,
    /// Whether all index nodes are here, so that these are all keys.
    pub(crate) is_walked: bool,
}

/// Goes through the tree below a root as far as `index` gives its index nodes. `None` if it is no root in a network
/// with this largest value.
///
/// Whoever made the file may have named one index node at a thousand places, and that in turn another: five records
/// then claim more chunks than anybody has. So each index node is opened once, and the walk takes no longer than
/// reading those that are here. What else one says at its other places follows from its bytes.
pub(crate) fn survey(
    key: Key,
    root: &Bytes,
    max_value: usize,
    mut index: impl FnMut(Key) -> Option<Bytes>,
) -> Option<Tree> {
    let mut walker = Walker::new(root, Room::of_network(max_value)).ok()?;
    let (shape, bytes) = (walker.shape(), walker.total());
    let chunks = bytes.div_ceil(shape.chunk());
    let stripes = chunks.div_ceil(shape.data());
    let format = shape.format();
    let mut survey = Surveyed {
        chunks,
        parity: stripes * shape.parity(),
        indexes: 0,
        bytes,
        is_sealed: format.seal.is_some(),
        code: format.code,
    };
    let mut nodes = stripes.div_ceil(shape.stripes());
    for level in 2.. {
        survey.indexes += nodes;
        if nodes <= 1 {
            break;
        }
        nodes = nodes.div_ceil(shape.most_children(level));
    }
    let mut keys = BTreeSet::from([key]);
    let mut opened: BTreeMap<Key, (u8, u64)> = BTreeMap::new();
    let is_walked = loop {
        match walker.step() {
            Step::Stripe(stripe) => {
                keys.extend(stripe.data.iter().map(|place| place.key));
                keys.extend(stripe.parity);
            }
            Step::Index(place) => {
                keys.insert(place.key);
                let size = (place.level, place.length);
                match opened.insert(place.key, size) {
                    Some(before) if before == size => walker.skip(),
                    // It cannot be right at both places.
                    Some(_) => break false,
                    None => match index(place.key).map(|bytes| walker.open(&bytes)) {
                        Some(Ok(())) => {}
                        _ => break false,
                    },
                }
            }
            Step::Done => break true,
        }
    };
    Some(Tree {
        survey,
        keys,
        is_walked,
    })
}

/// The index nodes that an index node names: it is no root of its own then.
pub(crate) fn indexes_below(index: &Bytes, max_value: usize) -> Vec<Key> {
    children(index, Room::of_network(max_value))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use kad_core::record::{Content, immutable_key};

    use super::super::tree::{Format, MAX_CHILDREN, MAX_CHUNK, MAX_LEVEL, Root, TreeBuilder, node};
    use super::*;

    /// The largest value of a network in which trees are deep.
    const MAX_VALUE: usize = 150;

    #[test]
    fn the_parts_are_those_of_the_tree_and_a_part_that_is_missing_ends_the_walk() {
        for count in [1, 4, 5, 100] {
            let shape = Room::of_network(MAX_VALUE).shape(Format::default()).unwrap();
            let mut builder = TreeBuilder::new(shape);
            let mut nodes = HashMap::new();
            for number in 0..count + 1 {
                let data = [(Key::from_limbs([0, 0, 0, number]), shape.chunk())];
                let complete = builder.push(&data, &[]).unwrap();
                nodes.extend(complete.into_iter().map(|node| (node.key, node.bytes)));
            }
            let (rest, Root::Index(root)) = builder.finish().unwrap() else {
                panic!("{count} chunks have a root");
            };
            nodes.extend(rest.into_iter().map(|node| (node.key, node.bytes)));
            let get = |key: Key| nodes.get(&key).cloned();
            let tree = survey(root.key, &root.bytes, MAX_VALUE, get).unwrap();
            let (whole, keys) = (tree.survey, tree.keys);
            assert!(tree.is_walked);
            assert_eq!((whole.chunks, whole.indexes), (count + 1, nodes.len() as u64 + 1));
            assert_eq!(keys.len() as u64, whole.chunks + whole.indexes);
            let mut below: BTreeSet<Key> = indexes_below(&root.bytes, MAX_VALUE).into_iter().collect();
            nodes
                .values()
                .for_each(|node| below.extend(indexes_below(node, MAX_VALUE)));
            assert!(nodes.keys().all(|key| below.contains(key)) && !below.contains(&root.key));
            if !nodes.is_empty() {
                let cut = survey(root.key, &root.bytes, MAX_VALUE, |_| None).unwrap();
                assert!(cut.survey == whole && cut.keys.len() < keys.len() && !cut.is_walked);
            }
        }
        let none = Bytes::from_static(b"no index");
        assert_eq!(survey(Key::default(), &none, MAX_VALUE, |_| None), None);
        assert!(indexes_below(&none, MAX_VALUE).is_empty());
    }

    #[test]
    fn a_tree_that_names_one_index_node_everywhere_is_walked_once() {
        let chunk = Key::from_limbs([7; 4]);
        let (mut below, mut total) = (chunk, MAX_CHUNK);
        let mut nodes = HashMap::new();
        for level in 1..=MAX_LEVEL {
            total *= MAX_CHILDREN;
            let keys = below.to_bytes().repeat(MAX_CHILDREN as usize);
            let bytes = node(Format::default(), level, total, &keys);
            below = immutable_key(Content::FileIndex, &bytes);
            nodes.insert(below, bytes);
        }
        let mut read = 0;
        let tree = survey(below, &nodes[&below], 64 * 1024, |key| {
            read += 1;
            assert!(read < 100, "an index node is read again and again");
            nodes.get(&key).cloned()
        });
        let tree = tree.unwrap();
        assert_eq!(tree.survey.chunks, MAX_CHILDREN.pow(4));
        assert!(tree.is_walked && tree.keys.len() == 5 && read == 3);
    }

    #[test]
    fn an_index_node_at_places_of_two_sizes_is_no_part_of_a_whole_file() {
        let shape = Room::of_network(MAX_VALUE).shape(Format::default()).unwrap();
        let fan = shape.most_children(1);
        let leaf = node(
            Format::default(),
            1,
            fan * shape.chunk(),
            &[7; 32].repeat(fan as usize),
        );
        let key = immutable_key(Content::FileIndex, &leaf);
        // The second place is for one chunk.
        let total = (fan + 1) * shape.chunk();
        let root = node(Format::default(), 2, total, &key.to_bytes().repeat(2));
        let root_key = immutable_key(Content::FileIndex, &root);
        let tree = survey(root_key, &root, MAX_VALUE, |_| Some(leaf.clone())).unwrap();
        assert!(!tree.is_walked);
    }
}
