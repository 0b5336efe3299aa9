//! Walking a tree from its root, depth first, with one index node for each level in memory.

use bytes::Bytes;
use kad_core::Key;

use super::{Index, IndexError, Room, Shape};

/// Goes through the chunks of a file in order and asks for each index node when it is needed.
///
/// It trusts nothing that it is given: an index that does not have the level and the size of its place is refused. At
/// most [`MAX_LEVEL`](super::MAX_LEVEL) nodes are held, about 240 KiB.
#[derive(Debug)]
pub(in super::super) struct Walker {
    room: Room,
    shape: Shape,
    /// The path from the root to where the walk is.
    path: Vec<Open>,
    /// The index that must be opened before the walk goes on.
    wanted: Option<Place>,
    offset: u64,
    total: u64,
    stripes: u64,
}

#[derive(Debug)]
struct Open {
    index: Index,
    /// The next key.
    next: u64,
    /// On level 1, bytes of the file in chunks that the walk has passed.
    passed: u64,
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

/// Chunks that stand in for each other; a single one if the file is not coded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Stripe {
    /// Which stripe of the file, from 0.
    pub(in super::super) number: u64,
    /// The chunks that the file consists of, at least 1.
    pub(in super::super) data: Vec<Place>,
    /// The keys of its parity chunks.
    pub(in super::super) parity: Vec<Key>,
}

/// What a walk needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Step {
    /// The next stripe.
    Stripe(Stripe),
    /// This index must be opened with [`Walker::open`] first; until then the answer stays the same.
    Index(Place),
    /// That was all.
    Done,
}

impl Walker {
    /// A walk below a root.
    pub(in super::super) fn new(root: &Bytes, room: Room) -> Result<Self, IndexError> {
        let index = Index::parse_root(root, room)?;
        Ok(Self {
            room,
            shape: index.shape,
            wanted: None,
            offset: 0,
            total: index.total,
            stripes: 0,
            path: vec![Open::new(index)],
        })
    }

    /// The bytes of all data chunks: of the whole file, unless it is sealed.
    pub(in super::super) const fn total(&self) -> u64 {
        self.total
    }

    /// The sizes of this tree.
    pub(in super::super) const fn shape(&self) -> Shape {
        self.shape
    }

    /// The next step.
    pub(in super::super) fn step(&mut self) -> Step {
        if let Some(wanted) = self.wanted {
            return Step::Index(wanted);
        }
        while let Some(open) = self.path.last_mut() {
            if open.index.level == 1 {
                if let Some(stripe) = open.stripe(self.stripes, &mut self.offset) {
                    self.stripes += 1;
                    return Step::Stripe(stripe);
                }
            } else if let Some((key, length)) = open.index.child(open.next) {
                open.next += 1;
                let place = Place {
                    key,
                    level: open.index.level - 1,
                    offset: self.offset,
                    length,
                };
                self.wanted = Some(place);
                return Step::Index(place);
            }
            self.path.pop();
        }
        Step::Done
    }

    /// Takes the bytes of the index that [`step`](Self::step) asked for; others than that are refused or ignored.
    pub(in super::super) fn open(&mut self, bytes: &Bytes) -> Result<(), IndexError> {
        if let Some(place) = self.wanted {
            let index = Index::parse_at(bytes, place.level, place.length, self.room, self.shape)?;
            self.path.push(Open::new(index));
            self.wanted = None;
        }
        Ok(())
    }

    /// Passes over the index that [`step`](Self::step) asked for, and all that is below it.
    pub(in super::super) fn skip(&mut self) {
        if let Some(place) = self.wanted.take() {
            self.offset += place.length;
            self.stripes += place
                .length
                .div_ceil(self.shape.chunk())
                .div_ceil(self.shape.data());
        }
    }
}

impl Open {
    fn new(index: Index) -> Self {
        Self {
            index,
            next: 0,
            passed: 0,
        }
    }

    /// The next stripe of a node of level 1, and moves on behind it.
    fn stripe(&mut self, number: u64, offset: &mut u64) -> Option<Stripe> {
        let shape = self.index.shape;
        let mut data = Vec::new();
        while (data.len() as u64) < shape.data() && self.passed < self.index.total {
            let length = shape.chunk().min(self.index.total - self.passed);
            data.push(Place {
                key: self.index.key(self.next)?,
                level: 0,
                offset: *offset,
                length,
            });
            self.next += 1;
            self.passed += length;
            *offset += length;
        }
        if data.is_empty() {
            return None;
        }
        let parity: Option<Vec<Key>> = (self.next..self.next + shape.parity())
            .map(|position| self.index.key(position))
            .collect();
        self.next += shape.parity();
        Some(Stripe {
            number,
            data,
            parity: parity?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::super::code::Code;
    use super::super::shape::tests::{room, shape};
    use super::super::{Format, MAX_LEVEL, Root, TreeBuilder};
    use super::*;

    /// Numbered chunks, and numbered parity.
    fn key(parity: u64, number: u64) -> Key {
        Key::from_limbs([0, 0, parity, number])
    }

    /// The index nodes of a file with numbered chunks.
    fn build(total: u64, shape: Shape) -> Option<(HashMap<Key, Bytes>, Bytes)> {
        let mut builder = TreeBuilder::new(shape);
        let mut nodes = Vec::new();
        let chunks: Vec<_> = (0..total.div_ceil(shape.chunk()))
            .map(|i| (key(0, i), (total - i * shape.chunk()).min(shape.chunk())))
            .collect();
        for (stripe, number) in chunks.chunks(shape.data() as usize).zip(0..) {
            let parity: Vec<_> = (1..=shape.parity()).map(|i| key(i, number)).collect();
            nodes.extend(builder.push(stripe, &parity).ok()?);
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
            let Some((nodes, root)) = build(total, shape(chunk, fan_out)) else {
                return Ok(());
            };
            let mut walker = Walker::new(&root, room(chunk, fan_out)).unwrap();
            prop_assert_eq!(walker.total(), total);
            let (mut next, mut opened) = (0, 0);
            loop {
                match walker.step() {
                    Step::Stripe(stripe) => {
                        let length = (total - next * chunk).min(chunk);
                        let place = Place { key: key(0, next), level: 0, offset: next * chunk, length };
                        prop_assert_eq!(stripe, Stripe { number: next, data: vec![place], parity: vec![] });
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
        fn a_walk_over_a_coded_file_gives_its_stripes(
            total in 1_u64..700,
            chunk in 2_u64..12,
            room_for in 9_u64..14,
            data in 1_u8..5,
            parity in 1_u8..4,
        ) {
            let format = Format { code: Code::new(data, parity).ok(), seal: None };
            let room = room(chunk, room_for);
            let shape = room.shape(format).unwrap();
            let Some((nodes, root)) = build(total, shape) else {
                prop_assert!(total <= shape.chunk());
                return Ok(());
            };
            let mut walker = Walker::new(&root, room).unwrap();
            let (mut next, mut opened, mut stripes) = (0, 0, 0);
            loop {
                match walker.step() {
                    Step::Stripe(stripe) => {
                        prop_assert_eq!(stripe.number, stripes);
                        let wanted: Vec<_> = (1..=u64::from(parity)).map(|i| key(i, stripes)).collect();
                        prop_assert_eq!(stripe.parity, wanted);
                        prop_assert!(stripe.data.len() <= usize::from(data));
                        for place in stripe.data {
                            let offset = next * shape.chunk();
                            let length = (total - offset).min(shape.chunk());
                            prop_assert_eq!(place, Place { key: key(0, next), level: 0, offset, length });
                            next += 1;
                        }
                        stripes += 1;
                    }
                    Step::Index(place) => {
                        walker.open(&nodes[&place.key]).unwrap();
                        opened += 1;
                    }
                    Step::Done => break,
                }
            }
            prop_assert_eq!(next, total.div_ceil(shape.chunk()));
            prop_assert_eq!(stripes, next.div_ceil(u64::from(data)));
            prop_assert_eq!(opened, nodes.len());
        }

        #[test]
        fn an_index_is_refused_everywhere_but_at_places_of_its_size(
            total in 60_u64..400,
            chunk in 1_u64..6,
            fan_out in 3_u64..5,
        ) {
            let Some((nodes, root)) = build(total, shape(chunk, fan_out)) else {
                return Ok(());
            };
            let mut walker = Walker::new(&root, room(chunk, fan_out)).unwrap();
            loop {
                match walker.step() {
                    Step::Stripe(_) => {}
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
    fn what_is_passed_over_leaves_the_rest_at_its_place() {
        let format = Format {
            code: Code::new(2, 1).ok(),
            seal: None,
        };
        let room = room(5, 9);
        let (nodes, root) = build(100, room.shape(format).unwrap()).unwrap();
        let walk = |passed: &[u64]| {
            let mut walker = Walker::new(&root, room).unwrap();
            let (mut stripes, mut leaves) = (Vec::new(), 0);
            loop {
                match walker.step() {
                    Step::Stripe(stripe) => stripes.push(stripe),
                    Step::Index(Place { level: 1, .. }) if passed.contains(&leaves) => {
                        walker.skip();
                        leaves += 1;
                    }
                    Step::Index(place) => {
                        walker.open(&nodes[&place.key]).unwrap();
                        leaves += u64::from(place.level == 1);
                    }
                    Step::Done => return (stripes, leaves),
                }
            }
        };
        let (whole, leaves) = walk(&[]);
        let (parts, _) = walk(&[0, 2]);
        assert!(leaves > 3 && parts.len() < whole.len());
        let kept = |stripe: &&Stripe| parts.iter().any(|part| part.number == stripe.number);
        assert_eq!(parts, whole.iter().filter(kept).cloned().collect::<Vec<_>>());
        assert!(walk(&(0..leaves).collect::<Vec<_>>()).0.is_empty());
    }

    #[test]
    fn a_root_that_promises_more_than_its_children_have_is_found_out_at_the_first_of_them() {
        let small = Index::write(Format::default(), 1, 20, &[1; 64]);
        let root = Index::write(Format::default(), 2, 60, &[2; 64]);
        let mut walker = Walker::new(&root, room(10, 3)).unwrap();
        assert!(matches!(walker.step(), Step::Index(place) if place.length == 30));
        let (found, expected) = (20, 30);
        assert_eq!(
            walker.open(&small),
            Err(IndexError::OtherTotal { found, expected })
        );
    }
}
