//! The sizes of a tree: what follows from the network's parameters.

use kad_core::ID_BYTES;

use super::{HEADER, MAX_CHUNK};

/// The sizes that all trees of a network have. They follow from the network's parameters, so all members agree on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Shape {
    pub(super) chunk: u64,
    pub(super) fan_out: u64,
}

impl Shape {
    /// The shape in a network with this largest value in bytes: [`MAX_CHUNK`] and [`MAX_CHILDREN`], less if the network
    /// allows less. `None` if an index of two children does not fit.
    pub(in super::super) fn of_network(max_value: usize) -> Option<Self> {
        let chunk = MAX_CHUNK.min(max_value as u64);
        let fan_out = chunk.saturating_sub(HEADER as u64) / ID_BYTES as u64;
        (fan_out >= 2).then_some(Self { chunk, fan_out })
    }

    /// Bytes of every chunk but the last, at least 1 and at most [`MAX_CHUNK`].
    pub(in super::super) const fn chunk(self) -> u64 {
        self.chunk
    }

    /// Bytes of the file below a full node of a level; level 0 is a chunk. Stops at the largest number.
    pub(super) fn capacity(self, level: u8) -> u64 {
        let fan_out = self.fan_out.saturating_pow(u32::from(level));
        self.chunk.saturating_mul(fan_out)
    }

    /// How many children a node of a level has.
    pub(super) fn children(self, level: u8, total: u64) -> u64 {
        total.div_ceil(self.capacity(level.saturating_sub(1)))
    }
}
