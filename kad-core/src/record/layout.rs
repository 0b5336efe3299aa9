//! The bytes of a record. All integers are big-endian.
//!
//! ```text
//! immutable  01 00  content:1       value…
//! mutable    01 01  flags:1 owner:32    seq:8 issued:8 expiry:8  salt-length:1 salt…  value…    signature:64
//! provider   01 02  flags:1 provider:32 issued:8 expiry:8        key:32               payload…  signature:64
//! ```
//!
//! Flag bit 0 marks a tombstone (which has no value); all others must be zero.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{Announcement, Content, Kind, MAX_PROVIDER_PAYLOAD, MAX_VALUE, MutableVersion, RecordError};
use crate::crypto::{self, Domain, PUBLIC_KEY_BYTES, PublicKey, SIGNATURE_BYTES};
use crate::{Key, UnixTime};

/// The longest salt in bytes.
pub const MAX_SALT: usize = 64;

/// The largest record in bytes: a mutable one with the longest salt and the largest value.
pub const MAX_RECORD: usize = MUTABLE_SALT + MAX_SALT + MAX_VALUE + SIGNATURE_BYTES;

const VERSION: u8 = 1;
const TOMBSTONE: u8 = 1;

const IMMUTABLE_VALUE: usize = 3;
const AUTHOR: usize = 3;
const AFTER_AUTHOR: usize = AUTHOR + PUBLIC_KEY_BYTES;
const MUTABLE_SALT: usize = AFTER_AUTHOR + 8 + 8 + 8 + 1;
const PROVIDER_PAYLOAD: usize = AFTER_AUTHOR + 8 + 8 + 32;

/// Bytes that have the layout of a record, with the moment at which its life ends. Nothing is proven yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord {
    bytes: Bytes,
    expiry: UnixTime,
}

/// The fields that only signed records have.
pub(super) struct Signed {
    pub(super) author: PublicKey,
    pub(super) issued: UnixTime,
    pub(super) tombstone: bool,
    pub(super) signature: [u8; SIGNATURE_BYTES],
}

impl RawRecord {
    /// Checks the layout. `expiry` counts for immutable records, whose bytes carry none; signed ones carry their own.
    ///
    /// # Errors
    /// [`RecordError::Malformed`], [`RecordError::UnknownVersion`], [`RecordError::UnknownKind`] or
    /// [`RecordError::TooLarge`].
    pub fn parse(bytes: Bytes, expiry: UnixTime) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD {
            return Err(RecordError::TooLarge);
        }
        let (&version, &kind) = bytes.first().zip(bytes.get(1)).ok_or(RecordError::Malformed)?;
        if version != VERSION {
            return Err(RecordError::UnknownVersion);
        }
        let kind = Kind::from_u8(kind).ok_or(RecordError::UnknownKind)?;
        let mut raw = Self { bytes, expiry };
        let limit = match kind {
            Kind::Immutable | Kind::Mutable => MAX_VALUE,
            Kind::Provider => MAX_PROVIDER_PAYLOAD,
        };
        if kind == Kind::Immutable {
            // Which of the two it is changes the key, so an unknown one can't be verified.
            let content = raw.bytes.get(2).ok_or(RecordError::Malformed)?;
            if *content > Content::FileIndex as u8 {
                return Err(RecordError::UnknownKind);
            }
        } else {
            raw.check_signed_layout(kind)?;
            raw.expiry = UnixTime::from_secs(raw.u64_at(match kind {
                Kind::Provider => AFTER_AUTHOR + 8,
                Kind::Mutable | Kind::Immutable => AFTER_AUTHOR + 16,
            }));
        }
        match raw.value().len() > limit {
            true => Err(RecordError::TooLarge),
            false => Ok(raw),
        }
    }

    fn check_signed_layout(&self, kind: Kind) -> Result<(), RecordError> {
        let smallest = SIGNATURE_BYTES
            + if kind == Kind::Mutable {
                MUTABLE_SALT
            } else {
                PROVIDER_PAYLOAD
            };
        if self.bytes.len() < smallest {
            return Err(RecordError::Malformed);
        }
        if kind == Kind::Mutable {
            let salt = usize::from(self.bytes[MUTABLE_SALT - 1]);
            if salt > MAX_SALT || self.bytes.len() < smallest + salt {
                return Err(RecordError::Malformed);
            }
        }
        let flags = self.bytes[2];
        if flags & !TOMBSTONE != 0 || (flags & TOMBSTONE != 0 && !self.value().is_empty()) {
            return Err(RecordError::Malformed);
        }
        Ok(())
    }

    pub(super) fn immutable(content: Content, value: &[u8], expiry: UnixTime) -> Result<Self, RecordError> {
        let mut bytes = Vec::with_capacity(IMMUTABLE_VALUE + value.len());
        bytes.extend([VERSION, Kind::Immutable as u8, content as u8]);
        bytes.extend(value);
        Self::parse(bytes.into(), expiry)
    }

    pub(super) fn mutable(
        owner: &PublicKey,
        version: &MutableVersion<'_>,
        sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_BYTES],
    ) -> Result<Self, RecordError> {
        let salt = u8::try_from(version.salt.len())
            .ok()
            .filter(|&n| usize::from(n) <= MAX_SALT);
        let salt = salt.ok_or(RecordError::TooLarge)?;
        let value = version.value.unwrap_or_default();
        let mut bytes = Vec::with_capacity(MUTABLE_SALT + version.salt.len() + value.len() + SIGNATURE_BYTES);
        bytes.extend([
            VERSION,
            Kind::Mutable as u8,
            u8::from(version.value.is_none()) * TOMBSTONE,
        ]);
        bytes.extend(owner.as_bytes());
        bytes.extend(version.seq.to_be_bytes());
        bytes.extend(version.issued.as_secs().to_be_bytes());
        bytes.extend(version.expiry.as_secs().to_be_bytes());
        bytes.push(salt);
        bytes.extend(version.salt);
        bytes.extend(value);
        let signature = sign(&bytes);
        bytes.extend(signature);
        Self::parse(bytes.into(), version.expiry)
    }

    pub(super) fn provider(
        provider: &PublicKey,
        announcement: &Announcement<'_>,
        sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_BYTES],
    ) -> Result<Self, RecordError> {
        let payload = announcement.payload.unwrap_or_default();
        let mut bytes = Vec::with_capacity(PROVIDER_PAYLOAD + payload.len() + SIGNATURE_BYTES);
        bytes.extend([
            VERSION,
            Kind::Provider as u8,
            u8::from(announcement.payload.is_none()) * TOMBSTONE,
        ]);
        bytes.extend(provider.as_bytes());
        bytes.extend(announcement.issued.as_secs().to_be_bytes());
        bytes.extend(announcement.expiry.as_secs().to_be_bytes());
        bytes.extend(announcement.key.to_bytes());
        bytes.extend(payload);
        let signature = sign(&bytes);
        bytes.extend(signature);
        Self::parse(bytes.into(), announcement.expiry)
    }

    pub(super) fn with_expiry(&self, expiry: UnixTime) -> Self {
        Self {
            bytes: self.bytes.clone(),
            expiry,
        }
    }

    /// The kind of record.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.bytes[1] {
            0 => Kind::Immutable,
            1 => Kind::Mutable,
            _ => Kind::Provider,
        }
    }

    pub(super) fn content(&self) -> Content {
        match (self.kind(), self.bytes[2]) {
            (Kind::Immutable, 1) => Content::FileIndex,
            (Kind::Immutable | Kind::Mutable | Kind::Provider, _) => Content::Plain,
        }
    }

    /// When its life ends.
    #[must_use]
    pub const fn expiry(&self) -> UnixTime {
        self.expiry
    }

    /// The canonical bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// A short form by which two holders see whether they have the same. Immutable records that differ in their expiry
    /// alone have the same.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        crypto::hash(Domain::RecordDigest, &[&self.bytes])
    }

    /// The first 128 bits of the [`digest`](Self::digest): see [`summary`](crate::summary).
    #[must_use]
    pub fn mark(&self) -> u128 {
        let [first, ..] = *self.digest().as_chunks::<16>().0 else {
            return 0;
        };
        u128::from_be_bytes(first)
    }

    /// The version of a mutable record; for providers the second at which it was issued, 0 for immutable records.
    #[must_use]
    pub fn seq(&self) -> u64 {
        match self.kind() {
            Kind::Immutable => 0,
            Kind::Mutable | Kind::Provider => self.u64_at(AFTER_AUTHOR),
        }
    }

    /// The value, or a provider's payload.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        let (start, end) = self.value_range();
        &self.bytes[start..end]
    }

    pub(super) fn value_bytes(&self) -> Bytes {
        let (start, end) = self.value_range();
        self.bytes.slice(start..end)
    }

    fn value_range(&self) -> (usize, usize) {
        match self.kind() {
            Kind::Immutable => (IMMUTABLE_VALUE, self.bytes.len()),
            Kind::Mutable => {
                let salt = usize::from(self.bytes[MUTABLE_SALT - 1]);
                (MUTABLE_SALT + salt, self.bytes.len() - SIGNATURE_BYTES)
            }
            Kind::Provider => (PROVIDER_PAYLOAD, self.bytes.len() - SIGNATURE_BYTES),
        }
    }

    /// The owner or the provider that the bytes name, verified or not; `None` for immutable records.
    #[must_use]
    pub fn author(&self) -> Option<PublicKey> {
        self.signed().map(|signed| signed.author)
    }

    /// Whether the bytes say that they delete (mutable) or withdraw (provider) what was there, verified or not.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.kind() != Kind::Immutable && self.bytes[2] & TOMBSTONE != 0
    }

    pub(super) fn salt(&self) -> &[u8] {
        match self.kind() {
            Kind::Mutable => &self.bytes[MUTABLE_SALT..self.value_range().0],
            Kind::Immutable | Kind::Provider => &[],
        }
    }

    pub(super) fn provider_key(&self) -> Option<Key> {
        let bytes = self.bytes.get(PROVIDER_PAYLOAD - 32..PROVIDER_PAYLOAD)?;
        bytes.try_into().ok().map(Key::from_bytes)
    }

    pub(super) fn signed(&self) -> Option<Signed> {
        if self.kind() == Kind::Immutable {
            return None;
        }
        let issued = self.u64_at(match self.kind() {
            Kind::Provider => AFTER_AUTHOR,
            Kind::Mutable | Kind::Immutable => AFTER_AUTHOR + 8,
        });
        Some(Signed {
            author: PublicKey::from_bytes(self.bytes[AUTHOR..AFTER_AUTHOR].try_into().ok()?),
            issued: UnixTime::from_secs(issued),
            tombstone: self.is_tombstone(),
            signature: self.bytes[self.bytes.len() - SIGNATURE_BYTES..].try_into().ok()?,
        })
    }

    pub(super) fn unsigned_bytes(&self) -> &[u8] {
        match self.kind() {
            Kind::Immutable => &self.bytes,
            Kind::Mutable | Kind::Provider => &self.bytes[..self.bytes.len() - SIGNATURE_BYTES],
        }
    }

    fn u64_at(&self, offset: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.bytes[offset..offset + 8]);
        u64::from_be_bytes(bytes)
    }
}
