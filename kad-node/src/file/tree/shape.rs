//! The sizes of a tree: what follows from the network's parameters and from how a file is stored.

use kad_core::ID_BYTES;

use super::super::code::Code;
use super::super::seal::{self, Commitment};
use super::{HEADER, MAX_CHUNK};

/// How a file is stored, beyond being cut. The default is an index of version 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Format {
    /// Parity chunks are among the chunks.
    pub(in super::super) code: Option<Code>,
    /// The chunks are sealed with the secret that this belongs to.
    pub(in super::super) seal: Option<Commitment>,
}

impl Format {
    /// Whether an index of version 1 says it all.
    pub(super) const fn is_plain(self) -> bool {
        self.code.is_none() && self.seal.is_none()
    }

    /// Bytes of an index before its keys.
    pub(super) const fn header(self) -> usize {
        match (self.is_plain(), self.seal) {
            (true, _) => HEADER,
            (false, None) => HEADER + 3,
            (false, Some(_)) => HEADER + 3 + seal::COMMITMENT,
        }
    }
}

/// How large the values are that a tree is made of. It follows from the network's parameters, so all members agree on
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Room {
    /// The most bytes of a chunk.
    chunk: u64,
    /// The most bytes of an index node.
    index: u64,
}

impl Room {
    /// In a network with this largest value in bytes: [`MAX_CHUNK`], less if the network allows less.
    pub(in super::super) fn of_network(max_value: usize) -> Self {
        let chunk = MAX_CHUNK.min(max_value as u64);
        Self { chunk, index: chunk }
    }

    /// The sizes of all trees of a format. `None` if an index of two children, or of one stripe, does not fit, or if a
    /// sealed chunk has no room for content.
    pub(in super::super) fn shape(self, format: Format) -> Option<Shape> {
        let fan_out = self.index.saturating_sub(format.header() as u64) / ID_BYTES as u64;
        let (data, parity) = format
            .code
            .map_or((1, 0), |code| (u64::from(code.data()), u64::from(code.parity())));
        let shape = Shape {
            format,
            // Reed-Solomon works on pairs of bytes.
            chunk: if format.is_plain() {
                self.chunk
            } else {
                self.chunk & !1
            },
            fan_out,
            data,
            parity,
            stripes: fan_out / (data + parity),
        };
        (fan_out >= 2 && shape.stripes > 0 && shape.payload() > 0).then_some(shape)
    }
}

/// The sizes that all trees of a network and a format have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Shape {
    format: Format,
    chunk: u64,
    /// The most children of an index node above level 1.
    fan_out: u64,
    /// Data chunks of a full stripe; a file that is not coded has stripes of one.
    data: u64,
    /// Parity chunks of every stripe.
    parity: u64,
    /// Stripes of a full node of level 1.
    stripes: u64,
}

impl Shape {
    /// How files of this shape are stored.
    pub(in super::super) const fn format(self) -> Format {
        self.format
    }

    /// Bytes of every chunk but the last, at least 1 and at most [`MAX_CHUNK`].
    pub(in super::super) const fn chunk(self) -> u64 {
        self.chunk
    }

    /// Bytes of the content that a full chunk carries: all, or what its tag leaves.
    pub(in super::super) const fn payload(self) -> u64 {
        match self.format.seal {
            Some(_) => self.chunk.saturating_sub(seal::TAG as u64),
            None => self.chunk,
        }
    }

    /// Data chunks of a full stripe, at least 1.
    pub(in super::super) const fn data(self) -> u64 {
        self.data
    }

    /// Parity chunks of every stripe, 0 if the file is not coded.
    pub(in super::super) const fn parity(self) -> u64 {
        self.parity
    }

    /// Stripes of a full node of level 1.
    pub(in super::super) const fn stripes(self) -> u64 {
        self.stripes
    }

    /// The most children of an index node of a level.
    pub(in super::super) const fn most_children(self, level: u8) -> u64 {
        match level {
            0 | 1 => self.stripes * (self.data + self.parity),
            _ => self.fan_out,
        }
    }

    /// Bytes of the file below a full node of a level; level 0 is a chunk. Stops at the largest number.
    pub(super) fn capacity(self, level: u8) -> u64 {
        let Some(above) = level.checked_sub(1) else {
            return self.chunk;
        };
        let leaf = self.chunk.saturating_mul(self.stripes * self.data);
        leaf.saturating_mul(self.fan_out.saturating_pow(u32::from(above)))
    }

    /// How many children a node of a level has, parity chunks included.
    pub(super) fn children(self, level: u8, total: u64) -> u64 {
        match level {
            0 | 1 => {
                let chunks = total.div_ceil(self.chunk);
                chunks + chunks.div_ceil(self.data) * self.parity
            }
            _ => total.div_ceil(self.capacity(level - 1)),
        }
    }
}

#[cfg(test)]
pub(in super::super) mod tests {
    use super::super::{MAX_CHILDREN, MAX_LEVEL};
    use super::*;

    /// Room for mistakes at every step: so many bytes of a chunk, and so many children of an index of version 1.
    pub(in super::super::super) fn room(chunk: u64, fan_out: u64) -> Room {
        Room {
            chunk,
            index: HEADER as u64 + fan_out * ID_BYTES as u64,
        }
    }

    /// The shape of plain files in such room.
    pub(in super::super::super) fn shape(chunk: u64, fan_out: u64) -> Shape {
        room(chunk, fan_out).shape(Format::default()).unwrap()
    }

    fn of_network(max_value: usize) -> Option<Shape> {
        Room::of_network(max_value).shape(Format::default())
    }

    #[test]
    fn the_shape_follows_from_the_largest_value_of_the_network() {
        let usual = of_network(64 * 1024).unwrap();
        assert_eq!(usual, shape(MAX_CHUNK, MAX_CHILDREN));
        assert!(usual.capacity(MAX_LEVEL) > 1 << 59, "no overflow, and room");
        assert_eq!(of_network(1024), Some(shape(1024, 31)));
        assert_eq!(of_network(HEADER + 2 * ID_BYTES), Some(shape(74, 2)));
        assert_eq!(of_network(HEADER + 2 * ID_BYTES - 1), None);
        assert_eq!(shape(u64::MAX, 3).capacity(4), u64::MAX);
    }

    #[test]
    fn codes_and_seals_take_their_room_from_the_index() {
        let seal = Some(Commitment([7; seal::COMMITMENT]));
        let code = Some(Code::new(10, 6).unwrap());
        let coded = Room::of_network(64 * 1024)
            .shape(Format { code, seal: None })
            .unwrap();
        assert_eq!(
            (coded.stripes(), coded.most_children(1), coded.most_children(2)),
            (119, 1904, 1919)
        );
        assert_eq!((coded.chunk(), coded.payload()), (61_440, 61_440));
        assert_eq!(coded.capacity(1), 1190 * 61_440);
        let both = Room::of_network(64 * 1024).shape(Format { code, seal }).unwrap();
        assert_eq!((both.payload(), both.most_children(2)), (61_424, 1918));
        let widest = Some(Code::new(128, 128).unwrap());
        let widest = Room::of_network(64 * 1024)
            .shape(Format { code: widest, seal })
            .unwrap();
        assert_eq!(widest.stripes(), 7);
        assert!(widest.capacity(MAX_LEVEL) > 1 << 57);
        // Pairs of bytes, and room for a stripe.
        let odd = Room::of_network(1023).shape(Format { code, seal: None }).unwrap();
        assert_eq!((odd.chunk(), odd.stripes()), (1022, 1));
        assert_eq!(
            Room::of_network(13 + 16 * 32 - 1).shape(Format { code, seal: None }),
            None
        );
    }

    #[test]
    fn the_children_of_a_leaf_are_its_chunks_and_the_parity_of_each_stripe() {
        let code = Code::new(3, 2);
        let format = Format {
            code: code.ok(),
            seal: None,
        };
        let shape = Room {
            chunk: 10,
            index: 13 + 11 * 32,
        }
        .shape(format)
        .unwrap();
        assert_eq!(
            (shape.stripes(), shape.most_children(1), shape.most_children(2)),
            (2, 10, 11)
        );
        for (total, children) in [(1, 3), (10, 3), (11, 4), (30, 5), (31, 8), (60, 10)] {
            assert_eq!(shape.children(1, total), children, "{total}");
        }
        assert_eq!((shape.children(2, 61), shape.capacity(2)), (2, 660));
    }
}
