//! An index node: its bytes, and what they can prove.

use bytes::Bytes;
use kad_core::{ID_BYTES, Key};

use super::super::code::Code;
use super::super::seal::{COMMITMENT, Commitment};
use super::{Format, HEADER, IndexError, MAX_LEVEL, Room, Shape};

/// Of a file whose chunks are nothing but pieces of it.
const PLAIN: u8 = 1;
/// Of a file that is coded, or sealed, or both.
const FORMATTED: u8 = 2;
/// The seal of [`seal`](super::super::seal), the only one there is.
const SEALED: u8 = 1;

/// An index node whose parts agree with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) level: u8,
    pub(super) total: u64,
    pub(super) shape: Shape,
    /// At least one key, at most as many as the shape allows on this level.
    keys: Bytes,
}

impl Index {
    /// Reads a node that may have any place in a tree.
    pub(super) fn parse(bytes: &Bytes, room: Room) -> Result<Self, IndexError> {
        let short = || IndexError::Length(bytes.len());
        let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or_else(short)?;
        let [version, level, total @ ..] = *header;
        let total = u64::from_be_bytes(total);
        let format = match version {
            PLAIN => Format::default(),
            FORMATTED => read_format(rest).ok_or_else(short)??,
            _ => return Err(IndexError::Version(version)),
        };
        if level == 0 || level > MAX_LEVEL {
            return Err(IndexError::Level(level));
        }
        let shape = room.shape(format).ok_or(IndexError::NoRoom)?;
        if total == 0
            || total > shape.capacity(level)
            || (format.seal.is_some() && !total.is_multiple_of(shape.chunk()))
        {
            return Err(IndexError::Total { total, level });
        }
        let keys = bytes.slice(format.header()..);
        if !keys.len().is_multiple_of(ID_BYTES) {
            return Err(short());
        }
        let (found, expected) = ((keys.len() / ID_BYTES) as u64, shape.children(level, total));
        if found != expected {
            return Err(IndexError::Children { found, expected });
        }
        Ok(Self {
            level,
            total,
            shape,
            keys,
        })
    }

    /// Reads a node that is a root: a node of the level below would not do. Of a plain file a chunk may do instead of a
    /// node.
    pub(super) fn parse_root(bytes: &Bytes, room: Room) -> Result<Self, IndexError> {
        let root = Self::parse(bytes, room)?;
        let (total, level, shape) = (root.total, root.level, root.shape);
        let lower_would_do = total <= shape.capacity(level - 1);
        // The only chunk of a sealed file needs a root, which says that it is sealed.
        match lower_would_do && !(level == 1 && shape.format().seal.is_some()) {
            true => Err(IndexError::Total { total, level }),
            false => Ok(root),
        }
    }

    /// Reads the node that belongs to a place below a root of this shape.
    pub(super) fn parse_at(
        bytes: &Bytes,
        level: u8,
        total: u64,
        room: Room,
        shape: Shape,
    ) -> Result<Self, IndexError> {
        let node = Self::parse(bytes, room)?;
        if node.shape.format() != shape.format() {
            return Err(IndexError::OtherFormat);
        }
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

    /// The key at a position.
    pub(super) fn key(&self, position: u64) -> Option<Key> {
        let start = usize::try_from(position).ok()?.checked_mul(ID_BYTES)?;
        let key = self.keys.get(start..)?.first_chunk()?;
        Some(Key::from_bytes(*key))
    }

    /// The key of a child node and the bytes of the file below it, or `None` behind the last. Only above level 1.
    pub(super) fn child(&self, position: u64) -> Option<(Key, u64)> {
        let key = self.key(position)?;
        let full = self.shape.capacity(self.level - 1);
        let rest = self.total.checked_sub(full.checked_mul(position)?)?;
        Some((key, rest.min(full)))
    }

    pub(super) fn write(format: Format, level: u8, total: u64, keys: &[u8]) -> Bytes {
        let mut bytes = Vec::with_capacity(format.header() + keys.len());
        bytes.extend([if format.is_plain() { PLAIN } else { FORMATTED }, level]);
        bytes.extend(total.to_be_bytes());
        if !format.is_plain() {
            let code = format.code.map_or([0, 0], |code| [code.data(), code.parity()]);
            bytes.extend(code);
            bytes.push(if format.seal.is_some() { SEALED } else { 0 });
            bytes.extend(format.seal.iter().flat_map(|seal| seal.0));
        }
        bytes.extend(keys);
        bytes.into()
    }
}

/// What follows the total in version 2; `None` if it is cut off.
fn read_format(rest: &[u8]) -> Option<Result<Format, IndexError>> {
    let ([data, parity, sealed], rest) = rest.split_first_chunk::<3>()?;
    let seal = match *sealed {
        0 => None,
        SEALED => Some(Commitment(*rest.first_chunk::<COMMITMENT>()?)),
        other => return Some(Err(IndexError::Seal(other))),
    };
    let (data, parity) = (*data, *parity);
    let code = match (data, parity) {
        // A plain file has one index, that of version 1.
        (0, 0) if seal.is_none() => return Some(Err(IndexError::Code { data, parity })),
        (0, 0) => None,
        _ => match Code::new(data, parity) {
            Ok(code) => Some(code),
            Err(_) => return Some(Err(IndexError::Code { data, parity })),
        },
    };
    Some(Ok(Format { code, seal }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::shape::tests::{room, shape};
    use super::super::{MAX_CHILDREN, MAX_CHUNK};
    use super::*;

    fn keys(children: u8) -> Vec<u8> {
        (0..children).flat_map(|child| [child; ID_BYTES]).collect()
    }

    fn node(level: u8, total: u64, children: u8) -> Bytes {
        Index::write(Format::default(), level, total, &keys(children))
    }

    fn changed(node: &Bytes, at: usize, to: u8) -> Bytes {
        let mut bytes = node.to_vec();
        bytes[at] = to;
        bytes.into()
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
    fn an_index_of_a_coded_and_sealed_file_says_so_before_its_keys() {
        let format = Format {
            code: Code::new(10, 6).ok(),
            seal: Some(Commitment([9; COMMITMENT])),
        };
        let bytes = Index::write(format, 1, 0x0102_0304, &keys(2));
        let header = [2, 1, 0, 0, 0, 0, 1, 2, 3, 4, 10, 6, 1];
        assert_eq!(bytes[..13], header);
        assert_eq!(bytes[13..45], [9; 32]);
        assert_eq!(bytes[45..], keys(2));
        let coded = Index::write(Format { seal: None, ..format }, 1, 1, &keys(2));
        assert_eq!(
            (coded[10..13].to_vec(), coded[13..].to_vec()),
            (vec![10, 6, 0], keys(2))
        );
    }

    #[test]
    fn every_malformed_index_is_refused_by_name() {
        let room = room(10, 3);
        let good = node(2, 61, 3);
        assert!(Index::parse_root(&good, room).is_ok());
        let changed = |at: usize, to: u8| changed(&good, at, to);
        let refusals = [
            (Bytes::new(), IndexError::Length(0)),
            (good.slice(..HEADER - 1), IndexError::Length(9)),
            (good.slice(..good.len() - 1), IndexError::Length(105)),
            (changed(0, 3), IndexError::Version(3)),
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
            assert_eq!(Index::parse_root(&bytes, room), Err(refusal));
            assert!(!refusal.to_string().is_empty());
        }
        let shape = shape(10, 3);
        let (found, expected) = (2, 1);
        assert_eq!(
            Index::parse_at(&good, 1, 61, room, shape),
            Err(IndexError::OtherLevel { found, expected })
        );
        let (found, expected) = (61, 62);
        assert_eq!(
            Index::parse_at(&good, 2, 62, room, shape),
            Err(IndexError::OtherTotal { found, expected })
        );
        assert!(
            Index::parse_at(&node(1, 10, 1), 1, 10, room, shape).is_ok(),
            "the last of a level"
        );
    }

    #[test]
    fn every_malformed_index_of_version_2_is_refused_by_name() {
        let room = room(10, 8);
        let coded = Format {
            code: Code::new(3, 2).ok(),
            seal: None,
        };
        let sealed = Format {
            code: None,
            seal: Some(Commitment([9; COMMITMENT])),
        };
        let good = Index::write(coded, 1, 21, &keys(5));
        assert!(Index::parse_root(&good, room).is_ok());
        let codes = [(10, 0), (11, 0), (10, 129), (11, 129)].map(|(at, to)| {
            let bytes = changed(&good, at, to);
            let (data, parity) = (bytes[10], bytes[11]);
            (bytes, IndexError::Code { data, parity })
        });
        let neither = [&good[..10], &[0, 0, 0], &good[13..]].concat();
        let (found, expected) = (5, 4);
        let others = [
            (neither.into(), IndexError::Code { data: 0, parity: 0 }),
            (changed(&good, 12, 2), IndexError::Seal(2)),
            (changed(&good, 10, 7), IndexError::NoRoom),
            (good.slice(..12), IndexError::Length(12)),
            (changed(&good, 12, 1).slice(..44), IndexError::Length(44)),
            (changed(&good, 9, 11), IndexError::Children { found, expected }),
            (changed(&good, 9, 10), IndexError::Children { found, expected: 3 }),
            (
                Index::write(coded, 1, 10, &keys(3)),
                IndexError::Total { total: 10, level: 1 },
            ),
            (Index::write(sealed, 1, 10, &keys(1)), IndexError::NoRoom),
        ];
        for (bytes, refusal) in codes.into_iter().chain(others) {
            assert_eq!(Index::parse_root(&bytes, room), Err(refusal), "{bytes:?}");
            assert!(!refusal.to_string().is_empty());
        }
        let shape = shape(10, 8);
        assert_eq!(
            Index::parse_at(&good, 1, 21, room, shape),
            Err(IndexError::OtherFormat)
        );

        let room = super::super::shape::tests::room(20, 8);
        let only = Index::write(sealed, 1, 20, &keys(1));
        assert!(
            Index::parse_root(&only, room).is_ok(),
            "the only chunk of a sealed file"
        );
        for total in [19, 21, 50] {
            let bytes = Index::write(sealed, 1, total, &keys(total.div_ceil(20) as u8));
            let refusal = IndexError::Total { total, level: 1 };
            assert_eq!(
                Index::parse_root(&bytes, room),
                Err(refusal),
                "sealed chunks are full"
            );
        }
        let total = 20;
        let refusal = IndexError::Total { total, level: 2 };
        let high = Index::write(sealed, 2, total, &keys(1));
        assert_eq!(
            Index::parse_root(&high, room),
            Err(refusal),
            "a lower root would do"
        );
    }

    #[test]
    fn the_bytes_of_the_children_are_those_of_their_places() {
        let index = Index::parse(&node(2, 61, 3), room(10, 3)).unwrap();
        let totals: Vec<_> = (0..)
            .map_while(|i| index.child(i))
            .map(|(_, total)| total)
            .collect();
        assert_eq!(totals, [30, 30, 1]);
        assert_eq!(index.child(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic_or_accept_what_it_would_not_write(
            header in prop::collection::vec(0_u8..4, 0..14),
            keys in prop::collection::vec(any::<u8>(), 0..180),
            chunk in 1_u64..1000,
            fan_out in 2_u64..5,
        ) {
            let bytes = Bytes::from([header, keys].concat());
            if let Ok(index) = Index::parse(&bytes, room(chunk, fan_out)) {
                let format = index.shape.format();
                prop_assert_eq!(&Index::write(format, index.level, index.total, &index.keys), &bytes);
                prop_assert!(index.total <= index.shape.capacity(index.level));
                if index.level > 1 {
                    let children: Vec<_> = (0..).map_while(|i| index.child(i)).collect();
                    prop_assert_eq!(children.len() * ID_BYTES, index.keys.len());
                    prop_assert_eq!(children.iter().map(|(_, total)| total).sum::<u64>(), index.total);
                    prop_assert!(children.iter().all(|(_, total)| *total > 0));
                }
            }
        }
    }
}
