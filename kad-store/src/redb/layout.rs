//! The bytes of keys and values in the file. All integers are big-endian, so bytes sort as slots and times do.

use kad_core::{Key, Kind, NodeId, Slot, Source, UnixTime};

use crate::StoreError;

/// key:32 kind:1 provider:32
pub(super) const SLOT: usize = 65;

/// time:8 slot:65
pub(super) const TIMED: usize = 8 + SLOT;

/// expiry:8 due:8 flags:1 length:4 mark:16 source:8
pub(super) const ENTRY: usize = 45;

/// The flag of an own record.
const OWN: u8 = 1;

/// The flag of a record that deletes or withdraws.
const IS_TOMBSTONE: u8 = 2;
/// What the table `records` says of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) expiry: UnixTime,
    pub(super) due: UnixTime,
    pub(super) own: bool,
    pub(super) is_tombstone: bool,
    pub(super) length: u32,
    pub(super) mark: u128,
    pub(super) source: Source,
}

pub(super) fn slot_to_bytes(slot: &Slot) -> [u8; SLOT] {
    let mut bytes = [0; SLOT];
    bytes[..32].copy_from_slice(&slot.key.to_bytes());
    bytes[32] = slot.kind as u8;
    bytes[33..].copy_from_slice(&slot.provider.to_bytes());
    bytes
}

pub(super) fn slot_from_bytes(bytes: &[u8; SLOT]) -> Result<Slot, StoreError> {
    let kind = Kind::from_u8(bytes[32]).ok_or_else(|| StoreError::Corrupt {
        what: format!("a slot has kind {}", bytes[32]),
    })?;
    Ok(Slot {
        key: Key::from_bytes(array(bytes, 0)),
        kind,
        provider: NodeId::from_bytes(array(bytes, 33)),
    })
}

pub(super) fn timed_to_bytes(time: UnixTime, slot: &[u8; SLOT]) -> [u8; TIMED] {
    let mut bytes = [0; TIMED];
    bytes[..8].copy_from_slice(&time.as_secs().to_be_bytes());
    bytes[8..].copy_from_slice(slot);
    bytes
}

pub(super) fn timed_from_bytes(bytes: &[u8; TIMED]) -> Result<(UnixTime, Slot), StoreError> {
    let time = UnixTime::from_secs(u64::from_be_bytes(array(bytes, 0)));
    Ok((time, slot_from_bytes(&array(bytes, 8))?))
}

impl Entry {
    pub(super) fn to_bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..8].copy_from_slice(&self.expiry.as_secs().to_be_bytes());
        bytes[8..16].copy_from_slice(&self.due.as_secs().to_be_bytes());
        bytes[16] = if self.own { OWN } else { 0 } | if self.is_tombstone { IS_TOMBSTONE } else { 0 };
        bytes[17..21].copy_from_slice(&self.length.to_be_bytes());
        bytes[21..37].copy_from_slice(&self.mark.to_be_bytes());
        bytes[37..].copy_from_slice(&self.source.to_u64().to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; ENTRY]) -> Self {
        Self {
            expiry: UnixTime::from_secs(u64::from_be_bytes(array(bytes, 0))),
            due: UnixTime::from_secs(u64::from_be_bytes(array(bytes, 8))),
            own: bytes[16] & OWN != 0,
            is_tombstone: bytes[16] & IS_TOMBSTONE != 0,
            length: u32::from_be_bytes(array(bytes, 17)),
            mark: u128::from_be_bytes(array(bytes, 21)),
            source: Source::new(u64::from_be_bytes(array(bytes, 37))),
        }
    }
}

/// The `N` bytes from `offset`; the callers' offsets are constants within the array.
fn array<const M: usize, const N: usize>(bytes: &[u8; M], offset: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[offset..offset + N]);
    array
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slot() -> impl Strategy<Value = Slot> {
        (any::<[u8; 32]>(), 0..3u8, any::<[u8; 32]>()).prop_map(|(key, kind, provider)| Slot {
            key: Key::from_bytes(key),
            kind: Kind::from_u8(kind).unwrap(),
            provider: NodeId::from_bytes(provider),
        })
    }

    proptest! {
        #[test]
        fn bytes_come_back_and_sort_alike(
            a in slot(), b in slot(), s in any::<u64>(), t in any::<u64>(), own: bool, is_tombstone: bool,
            length: u32, mark: u128, source: u64,
        ) {
            let (s, t) = (UnixTime::from_secs(s), UnixTime::from_secs(t));
            let (x, y) = (slot_to_bytes(&a), slot_to_bytes(&b));
            prop_assert_eq!(slot_from_bytes(&x).unwrap(), a);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            let (p, q) = (timed_to_bytes(s, &x), timed_to_bytes(t, &y));
            prop_assert_eq!(timed_from_bytes(&p).unwrap(), (s, a));
            prop_assert_eq!(p.cmp(&q), (s, a).cmp(&(t, b)));
            let source = Source::new(source);
            let entry = Entry { expiry: s, due: t, own, is_tombstone, length, mark, source };
            prop_assert_eq!(Entry::from_bytes(&entry.to_bytes()), entry);
        }
    }

    #[test]
    fn an_unknown_kind_is_damage_and_no_panic() {
        let mut bytes = [0; SLOT];
        bytes[32] = 3;
        assert!(matches!(slot_from_bytes(&bytes), Err(StoreError::Corrupt { .. })));
    }
}
