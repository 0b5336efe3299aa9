//! An index node: its bytes, and what they can prove.

use bytes::Bytes;
use kad_core::{ID_BYTES, Key};

use super::{HEADER, IndexError, MAX_LEVEL, Shape, VERSION};

/// An index node whose parts agree with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) level: u8,
    pub(super) total: u64,
    /// At least one key, at most `fan_out`.
    keys: Bytes,
}

impl Index {
    /// Reads a node that may have any place in a tree.
    pub(super) fn parse(bytes: &Bytes, shape: Shape) -> Result<Self, IndexError> {
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
    pub(super) fn parse_root(bytes: &Bytes, shape: Shape) -> Result<Self, IndexError> {
        let root = Self::parse(bytes, shape)?;
        match (root.total, root.level) {
            (total, level) if total <= shape.capacity(level - 1) => Err(IndexError::Total { total, level }),
            _ => Ok(root),
        }
    }

    /// Reads the node that belongs to a place below a root.
    pub(super) fn parse_at(bytes: &Bytes, level: u8, total: u64, shape: Shape) -> Result<Self, IndexError> {
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
    pub(super) fn child(&self, index: u64, shape: Shape) -> Option<(Key, u64)> {
        let start = usize::try_from(index).ok()?.checked_mul(ID_BYTES)?;
        let key = self.keys.get(start..)?.first_chunk()?;
        let full = shape.capacity(self.level - 1);
        let rest = self.total.checked_sub(full.checked_mul(index)?)?;
        Some((Key::from_bytes(*key), rest.min(full)))
    }

    pub(super) fn write(level: u8, total: u64, keys: &[u8]) -> Bytes {
        let mut bytes = Vec::with_capacity(HEADER + keys.len());
        bytes.extend([VERSION, level]);
        bytes.extend(total.to_be_bytes());
        bytes.extend(keys);
        bytes.into()
    }
}

#[cfg(test)]
pub(in super::super) mod tests {
    use proptest::prelude::*;

    use super::super::{MAX_CHILDREN, MAX_CHUNK};
    use super::*;

    /// A shape with room for mistakes at every step.
    pub(in super::super::super) fn shape(chunk: u64, fan_out: u64) -> Shape {
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
