//! Records: everything that the network stores, verified before anybody sees it.
//!
//! The bytes of a record are laid out by hand here (`docs/protocol.md` draws them) and are the same on the wire, on
//! disk and under the signature. There are two types, and the road between them is one function:
//!
//! ```text
//!   bytes ──RawRecord::parse──►  RawRecord  ──Record::verify──►  Record
//!            (layout only)       from a disk     (hash, signature, dates)    what the core handles
//! ```
//!
//! A [`Record`] can only be had by signing it or by verifying it, so code that holds one need not check again. The
//! verification costs a hash (immutable) or a signature check (about 50 µs); do it on the task that received the bytes.

mod error;
mod layout;
mod precedence;

use core::fmt;

use bytes::Bytes;

pub use self::error::RecordError;
pub use self::layout::{MAX_RECORD, MAX_SALT, RawRecord};
pub use self::precedence::{Verdict, judge, precedence};
use crate::crypto::{self, Domain, Keypair, PublicKey};
use crate::{Duration, Key, NetworkId, NodeId, Parameters, UnixTime};

/// The largest value of a record in bytes, 64 KiB.
pub const MAX_VALUE: usize = 64 * 1024;

/// The largest payload of a provider record in bytes: room for a few addresses.
pub const MAX_PROVIDER_PAYLOAD: usize = 1024;

/// How far ahead of our clock a record may have been issued, ten minutes: people's clocks are that wrong.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(600);

/// The kinds of record; the numbers are those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The key is the hash of the value: it proves itself, and anyone may store it.
    Immutable = 0,
    /// The key is the hash of a public key and a salt: its owner signs each version.
    Mutable = 1,
    /// "I have this": one signed record for each provider of a key.
    Provider = 2,
}

impl Kind {
    /// The kind with this number on the wire.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Immutable),
            1 => Some(Self::Mutable),
            2 => Some(Self::Provider),
            _ => None,
        }
    }
}

/// What the value of an immutable record is. Each has a hash domain of its own, so a chunk of a file can never be taken
/// for an index; the numbers are those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Content {
    /// Bytes of the application, or a chunk of a file.
    Plain = 0,
    /// A node of the tree that a large file is stored as.
    FileIndex = 1,
}

/// Where a record is kept: newer versions of the same record go to the same slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The key; first, so that slots sort along the key space.
    pub key: Key,
    /// The kind of record.
    pub kind: Kind,
    /// The provider for [`Kind::Provider`], else the zero id.
    pub provider: NodeId,
}

/// What a network demands of its records.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The network that signatures must name.
    pub network: NetworkId,
    /// The longest life of a record.
    pub max_lifetime: Duration,
    /// The largest value in bytes.
    pub max_value: usize,
}

impl Rules {
    /// The rules of a network.
    #[must_use]
    pub fn new(network: NetworkId, parameters: &Parameters) -> Self {
        let max_value = (parameters.max_value as usize).min(MAX_VALUE);
        Self {
            network,
            max_lifetime: parameters.max_lifetime,
            max_value,
        }
    }
}

/// A verified record. Cloning is cheap: the bytes are shared.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    raw: RawRecord,
    key: Key,
}

impl Record {
    /// An immutable record: the key is the hash of the value.
    ///
    /// # Errors
    /// [`RecordError::TooLarge`], [`RecordError::BadLifetime`] or [`RecordError::Expired`].
    pub fn immutable(
        value: &[u8],
        expiry: UnixTime,
        rules: &Rules,
        now: UnixTime,
    ) -> Result<Self, RecordError> {
        Self::verify(RawRecord::immutable(Content::Plain, value, expiry)?, rules, now)
    }

    /// An immutable record that is a node of a file's tree.
    ///
    /// # Errors
    /// As [`immutable`](Self::immutable).
    pub fn file_index(
        node: &[u8],
        expiry: UnixTime,
        rules: &Rules,
        now: UnixTime,
    ) -> Result<Self, RecordError> {
        Self::verify(
            RawRecord::immutable(Content::FileIndex, node, expiry)?,
            rules,
            now,
        )
    }

    /// A version of the mutable record that `owner` has under `salt`. The greatest `seq` wins everywhere.
    ///
    /// # Errors
    /// [`RecordError::TooLarge`] (value or salt), [`RecordError::BadLifetime`] or [`RecordError::Expired`].
    pub fn mutable(
        owner: &Keypair,
        version: &MutableVersion<'_>,
        rules: &Rules,
        now: UnixTime,
    ) -> Result<Self, RecordError> {
        let sign = |unsigned: &[u8]| {
            let key = mutable_key(&owner.public(), version.salt);
            owner.sign(&signed_digest(&rules.network, key, unsigned))
        };
        Self::verify(RawRecord::mutable(&owner.public(), version, sign)?, rules, now)
    }

    /// The announcement that `provider` has what `key` names, with a payload of its own (addresses, for instance).
    ///
    /// # Errors
    /// [`RecordError::TooLarge`] (payload), [`RecordError::BadLifetime`] or [`RecordError::Expired`].
    pub fn provider(
        provider: &Keypair,
        announcement: &Announcement<'_>,
        rules: &Rules,
        now: UnixTime,
    ) -> Result<Self, RecordError> {
        let key = announcement.key;
        let sign = |unsigned: &[u8]| provider.sign(&signed_digest(&rules.network, key, unsigned));
        Self::verify(
            RawRecord::provider(&provider.public(), announcement, sign)?,
            rules,
            now,
        )
    }

    /// Checks everything that a record must prove: sizes, dates, and the hash or the signature.
    ///
    /// # Errors
    /// Says what did not hold; see [`RecordError`].
    pub fn verify(raw: RawRecord, rules: &Rules, now: UnixTime) -> Result<Self, RecordError> {
        if raw.value().len() > rules.max_value {
            return Err(RecordError::TooLarge);
        }
        if raw.expiry() <= now {
            return Err(RecordError::Expired);
        }
        let longest = rules.max_lifetime.as_secs();
        let Some(signed) = raw.signed() else {
            if raw.expiry().secs_since(now) > longest {
                return Err(RecordError::BadLifetime);
            }
            let key = immutable_key(raw.content(), raw.value());
            return Ok(Self { raw, key });
        };
        if signed.issued > now + MAX_CLOCK_SKEW {
            return Err(RecordError::FromTheFuture);
        }
        let lifetime = raw.expiry().secs_since(signed.issued);
        let backwards = raw.expiry() < signed.issued;
        if backwards || lifetime > longest || (signed.tombstone && lifetime < longest) {
            return Err(RecordError::BadLifetime);
        }
        let key = match raw.kind() {
            Kind::Provider => raw.provider_key().ok_or(RecordError::Malformed)?,
            Kind::Mutable | Kind::Immutable => mutable_key(&signed.author, raw.salt()),
        };
        let digest = signed_digest(&rules.network, key, raw.unsigned_bytes());
        if !signed.author.verifies(&digest, &signed.signature) {
            return Err(RecordError::BadSignature);
        }
        Ok(Self { raw, key })
    }

    /// The same immutable value with a new life; signed records carry their dates and are returned as they are.
    #[must_use]
    pub fn renewed(&self, expiry: UnixTime) -> Self {
        match self.kind() {
            Kind::Immutable => Self {
                raw: self.raw.with_expiry(expiry),
                key: self.key,
            },
            Kind::Mutable | Kind::Provider => self.clone(),
        }
    }

    /// The kind of record.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.raw.kind()
    }

    /// What the value of an immutable record is; [`Content::Plain`] for the other kinds.
    #[must_use]
    pub fn content(&self) -> Content {
        self.raw.content()
    }

    /// The key under which it is found.
    #[must_use]
    pub const fn key(&self) -> Key {
        self.key
    }

    /// Where it is kept.
    #[must_use]
    pub fn slot(&self) -> Slot {
        let provider = match self.kind() {
            Kind::Provider => self
                .author()
                .map_or_else(NodeId::default, |author| NodeId::from_public_key(&author)),
            Kind::Immutable | Kind::Mutable => NodeId::default(),
        };
        Slot {
            key: self.key,
            kind: self.kind(),
            provider,
        }
    }

    /// The value, or a provider's payload; empty for a tombstone. Shares the record's memory.
    #[must_use]
    pub fn value(&self) -> Bytes {
        self.raw.value_bytes()
    }

    /// The owner or the provider; `None` for immutable records, which have none.
    #[must_use]
    pub fn author(&self) -> Option<PublicKey> {
        self.raw.signed().map(|signed| signed.author)
    }

    /// The version of a mutable record; for providers the second at which it was issued, 0 for immutable records.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.raw.seq()
    }

    /// When its author says to have signed it; `None` for immutable records, which nobody signs.
    #[must_use]
    pub fn issued(&self) -> Option<UnixTime> {
        self.raw.signed().map(|signed| signed.issued)
    }

    /// The owner's name for a mutable record; empty for the other kinds.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        self.raw.salt()
    }

    /// Whether this deletes (mutable) or withdraws (provider) what was there.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.raw.signed().is_some_and(|signed| signed.tombstone)
    }

    /// When its life ends.
    #[must_use]
    pub const fn expiry(&self) -> UnixTime {
        self.raw.expiry()
    }

    /// The canonical bytes, as they travel and are kept.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        self.raw.as_bytes()
    }

    /// The same as bytes with an expiry, for a store or a codec.
    #[must_use]
    pub const fn as_raw(&self) -> &RawRecord {
        &self.raw
    }

    /// A short form by which two holders see whether they have the same.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.raw.digest()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("kind", &self.kind())
            .field("key", &self.key)
            .field("seq", &self.seq())
            .field("bytes", &self.as_bytes().len())
            .finish_non_exhaustive()
    }
}

/// What the owner of a mutable record says in one version of it.
#[derive(Debug, Clone, Copy)]
pub struct MutableVersion<'a> {
    /// Tells the records of one owner apart, at most [`MAX_SALT`] bytes. The empty salt is the node's own card: its key
    /// is the owner's node id.
    pub salt: &'a [u8],
    /// Grows with every version.
    pub seq: u64,
    /// When this version was made.
    pub issued: UnixTime,
    /// When it ends. A tombstone must live exactly the network's longest lifetime.
    pub expiry: UnixTime,
    /// The value, or `None` to delete.
    pub value: Option<&'a [u8]>,
}

/// What a provider says of a key.
#[derive(Debug, Clone, Copy)]
pub struct Announcement<'a> {
    /// What is provided.
    pub key: Key,
    /// When this was said; the newest counts.
    pub issued: UnixTime,
    /// When it ends. A withdrawal must live exactly the network's longest lifetime.
    pub expiry: UnixTime,
    /// What the provider adds, at most [`MAX_PROVIDER_PAYLOAD`] bytes, or `None` to withdraw.
    pub payload: Option<&'a [u8]>,
}

/// The key of an immutable value.
#[must_use]
pub fn immutable_key(content: Content, value: &[u8]) -> Key {
    let domain = match content {
        Content::Plain => Domain::ImmutableValue,
        Content::FileIndex => Domain::FileIndex,
    };
    Key::from_bytes(crypto::hash(domain, &[value]))
}

/// The key of the mutable record that `owner` has under `salt`. The empty salt names the owner's own card.
#[must_use]
pub fn mutable_key(owner: &PublicKey, salt: &[u8]) -> Key {
    match salt {
        [] => NodeId::from_public_key(owner).to_key(),
        _ => Key::from_bytes(crypto::hash(Domain::MutableKey, &[owner.as_bytes(), salt])),
    }
}

/// What the owner signs: a hash over the network, the key and every byte before the signature.
fn signed_digest(network: &NetworkId, key: Key, unsigned: &[u8]) -> [u8; 32] {
    crypto::hash(
        Domain::RecordSignature,
        &[network.as_bytes(), &key.to_bytes(), unsigned],
    )
}
