//! Walking a tree from its root, depth first, with one index node for each level in memory.

use bytes::Bytes;
use kad_core::Key;

use super::{Index, IndexError, Shape};

/// Goes through the chunks of a file in order and asks for each index node when it is needed.
///
/// It trusts nothing that it is given: an index that does not have the level and the size of its place is refused. At
/// most [`MAX_LEVEL`](super::MAX_LEVEL) nodes are held, about 240 KiB.
#[derive(Debug)]
pub(in super::super) struct Walker {
    shape: Shape,
    /// The path from the root to where the walk is.
    path: Vec<Open>,
    /// The index that must be opened before the walk goes on.
    wanted: Option<Place>,
    offset: u64,
    total: u64,
}

#[derive(Debug)]
struct Open {
    index: Index,
    next_child: u64,
}

/// What belongs to a place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Place {
    /// The key of the node or chunk.
    pub(in super::super) key: Key,
    /// Its level; 0 is a chunk.
    pub(in super::super) level: u8,
    /// Where its bytes begin in the file.
    pub(in super::super) offset: u64,
    /// How many bytes of the file are in or below it.
    pub(in super::super) length: u64,
}

/// What a walk needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Step {
    /// The next chunk.
    Chunk(Place),
    /// This index must be opened with [`Walker::open`] first; until then the answer stays the same.
    Index(Place),
    /// That was all.
    Done,
}

impl Walker {
    /// A walk below a root.
    pub(in super::super) fn new(root: &Bytes, shape: Shape) -> Result<Self, IndexError> {
        let index = Index::parse_root(root, shape)?;
        Ok(Self {
            shape,
            wanted: None,
            offset: 0,
            total: index.total,
            path: vec![Open { index, next_child: 0 }],
        })
    }

    /// The bytes of the whole file.
    pub(in super::super) const fn total(&self) -> u64 {
        self.total
    }

    /// The next step.
    pub(in super::super) fn step(&mut self) -> Step {
        if let Some(wanted) = self.wanted {
            return Step::Index(wanted);
        }
        while let Some(open) = self.path.last_mut() {
            let Some((key, length)) = open.index.child(open.next_child, self.shape) else {
                self.path.pop();
                continue;
            };
            open.next_child += 1;
            let place = Place {
                key,
                level: open.index.level - 1,
                offset: self.offset,
                length,
            };
            if place.level == 0 {
                self.offset += length;
                return Step::Chunk(place);
            }
            self.wanted = Some(place);
            return Step::Index(place);
        }
        Step::Done
    }

    /// Takes the bytes of the index that [`step`](Self::step) asked for; others than that are refused or ignored.
    pub(in super::super) fn open(&mut self, bytes: &Bytes) -> Result<(), IndexError> {
        if let Some(place) = self.wanted {
            let index = Index::parse_at(bytes, place.level, place.length, self.shape)?;
            self.path.push(Open { index, next_child: 0 });
            self.wanted = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::index::tests::shape;
    use super::super::{MAX_LEVEL, Root, TreeBuilder};
    use super::*;

    /// The index nodes of a file with numbered chunks.
    fn build(total: u64, chunk: u64, fan_out: u64) -> Option<(HashMap<Key, Bytes>, Bytes)> {
        let mut builder = TreeBuilder::new(shape(chunk, fan_out));
        let mut nodes = Vec::new();
        for i in 0..total.div_ceil(chunk) {
            let key = Key::from_limbs([0, 0, 0, i]);
            nodes.extend(builder.push(key, (total - i * chunk).min(chunk)).ok()?);
        }
        let (rest, Root::Index(root)) = builder.finish()? else {
            return None;
        };
        nodes.extend(rest);
        Some((
            nodes.into_iter().map(|node| (node.key, node.bytes)).collect(),
            root.bytes,
        ))
    }

    proptest! {
        #[test]
        fn a_walk_gives_the_chunks_that_the_tree_was_built_of(
            total in 1_u64..700,
            chunk in 1_u64..12,
            fan_out in 2_u64..6,
        ) {
            let Some((nodes, root)) = build(total, chunk, fan_out) else {
                return Ok(());
            };
            let mut walker = Walker::new(&root, shape(chunk, fan_out)).unwrap();
            prop_assert_eq!(walker.total(), total);
            let (mut next, mut opened) = (0, 0);
            loop {
                match walker.step() {
                    Step::Chunk(place) => {
                        let length = (total - next * chunk).min(chunk);
                        let key = Key::from_limbs([0, 0, 0, next]);
                        prop_assert_eq!(place, Place { key, level: 0, offset: next * chunk, length });
                        next += 1;
                    }
                    Step::Index(place) => {
                        prop_assert_eq!(walker.step(), Step::Index(place), "asking twice changes nothing");
                        walker.open(&nodes[&place.key]).unwrap();
                        opened += 1;
                    }
                    Step::Done => break,
                }
                prop_assert!(walker.path.len() <= usize::from(MAX_LEVEL));
            }
            prop_assert_eq!(next, total.div_ceil(chunk));
            prop_assert_eq!(opened, nodes.len());
            prop_assert_eq!(walker.step(), Step::Done);
        }

        #[test]
        fn an_index_is_refused_everywhere_but_at_places_of_its_size(
            total in 60_u64..400,
            chunk in 1_u64..6,
            fan_out in 3_u64..5,
        ) {
            let Some((nodes, root)) = build(total, chunk, fan_out) else {
                return Ok(());
            };
            let mut walker = Walker::new(&root, shape(chunk, fan_out)).unwrap();
            loop {
                match walker.step() {
                    Step::Chunk(_) => {}
                    Step::Done => break,
                    Step::Index(place) => {
                        for other in nodes.values().chain([&root]) {
                            let claim = (other[1], u64::from_be_bytes(other[2..10].try_into().unwrap()));
                            if claim == (place.level, place.length) {
                                continue;
                            }
                            let refusal = walker.open(other).unwrap_err();
                            let named = matches!(
                                refusal,
                                IndexError::OtherLevel { .. } | IndexError::OtherTotal { .. }
                            );
                            prop_assert!(named, "{}", refusal);
                        }
                        prop_assert_eq!(walker.step(), Step::Index(place), "a refusal changes nothing");
                        walker.open(&nodes[&place.key]).unwrap();
                    }
                }
            }
        }
    }

    #[test]
    fn a_root_that_promises_more_than_its_children_have_is_found_out_at_the_first_of_them() {
        let small = Index::write(1, 20, &[1; 64]);
        let root = Index::write(2, 60, &[2; 64]);
        let mut walker = Walker::new(&root, shape(10, 3)).unwrap();
        assert!(matches!(walker.step(), Step::Index(place) if place.length == 30));
        let (found, expected) = (20, 30);
        assert_eq!(
            walker.open(&small),
            Err(IndexError::OtherTotal { found, expected })
        );
    }
}
