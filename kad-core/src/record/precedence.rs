//! Which of two records of one slot wins, and what a store says of one that comes in.

use core::cmp::Ordering;

use super::{Kind, RawRecord, Record, RecordError};

/// Which of two records of one slot wins: the greater one, everywhere, whatever the order of arrival.
///
/// Mutable: by `(seq, tombstone, value, expiry)`; provider: the same with `issued` in the place of `seq`; immutable:
/// the one that lives longer. So two writers who race end in one value on every node.
#[must_use]
pub fn precedence(a: &RawRecord, b: &RawRecord) -> Ordering {
    let tombstone = |raw: &RawRecord| raw.signed().is_some_and(|signed| signed.tombstone);
    (a.seq(), tombstone(a), a.value(), a.expiry()).cmp(&(b.seq(), tombstone(b), b.value(), b.expiry()))
}

/// What a store does with an incoming record, given what it holds in the slot.
///
/// This is the rule that every backend applies inside its own write, so that all agree.
#[must_use]
pub fn judge(held: Option<&RawRecord>, incoming: &Record, expected: Option<u64>) -> Verdict {
    if let Some(expected) = expected {
        let current = held.map_or(0, RawRecord::seq);
        if current != expected {
            return Verdict::Conflict { current };
        }
    }
    match held.map(|held| precedence(incoming.as_raw(), held)) {
        None | Some(Ordering::Greater) => Verdict::Stored,
        Some(Ordering::Equal) => Verdict::Unchanged,
        Some(Ordering::Less) if incoming.kind() == Kind::Immutable => Verdict::Unchanged,
        Some(Ordering::Less) => Verdict::Stale {
            current: held.map_or(0, RawRecord::seq),
        },
    }
}

/// What became of one record of a STORE. Only the first two are an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It is on this node's disk.
    Stored,
    /// The node already held the same, or an immutable value that lives longer.
    Unchanged,
    /// The node holds a newer version.
    Stale {
        /// The version it holds.
        current: u64,
    },
    /// The expected version is not the one it holds.
    Conflict {
        /// The version it holds, 0 for none.
        current: u64,
    },
    /// No room: a limit of the node is reached.
    Full,
    /// The record was refused as such.
    Refused(RecordError),
    /// The node could not write; it may be well later.
    Failed,
    /// The node is nowhere near the key; it told of nodes that are.
    NotNear,
    /// The record is written anew faster than the node allows.
    TooOften,
    /// The node stores nothing for others.
    StoresNothing,
}

impl Verdict {
    /// Whether the node now holds this record, or one at least as good.
    #[must_use]
    pub const fn is_acknowledgement(&self) -> bool {
        matches!(self, Self::Stored | Self::Unchanged)
    }

    /// Whether the node says that it is no holder of this record, whatever becomes of it: the next nearest should have
    /// it in its place.
    #[must_use]
    pub const fn is_no_holder(&self) -> bool {
        matches!(self, Self::NotNear | Self::StoresNothing)
    }
}
