//! Hashes and signatures: every hash has a domain, every key has one use.
//!
//! All hashing is BLAKE3 in its `derive_key` mode with one context string for each purpose, so that a value can never
//! be made to land on somebody's mutable key, or a chunk of a file to look like an index. Signatures are Ed25519 over
//! such a hash, checked strictly (no small-order keys), one by one: nodes must agree on what is valid, and batch checks
//! do not.

use core::fmt;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

/// Bytes of a public key.
pub const PUBLIC_KEY_BYTES: usize = 32;
/// Bytes of the secret from which a key pair is made.
pub const SECRET_BYTES: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// What a hash is for. Two domains never give the same hash for the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Domain {
    /// An id from a public key.
    NodeId,
    /// The work behind an id.
    Puzzle,
    /// A network from its name and parameters.
    Network,
    /// The key of an immutable value.
    ImmutableValue,
    /// The key of a mutable value, from its owner and salt.
    MutableKey,
    /// The key of an index node of a file.
    FileIndex,
    /// What the signature of a record covers.
    RecordSignature,
    /// The short form of a record in a digest answer.
    RecordDigest,
    /// What lets peers of a restarted node learn that their old connections are gone (RFC 9000, section 10.3).
    ConnectionReset,
}

impl Domain {
    /// The context string, as `docs/protocol.md` lists it.
    #[must_use]
    pub const fn context(self) -> &'static str {
        match self {
            Self::NodeId => "nautilus-kad 2026-11 node id",
            Self::Puzzle => "nautilus-kad 2026-11 puzzle",
            Self::Network => "nautilus-kad 2026-11 network",
            Self::ImmutableValue => "nautilus-kad 2026-11 immutable value",
            Self::MutableKey => "nautilus-kad 2026-11 mutable key",
            Self::FileIndex => "nautilus-kad 2026-11 file index",
            Self::RecordSignature => "nautilus-kad 2026-11 record signature",
            Self::RecordDigest => "nautilus-kad 2026-11 record digest",
            Self::ConnectionReset => "nautilus-kad 2026-11 connection reset",
        }
    }
}

/// BLAKE3 `derive_key` of the parts, one after another, in a domain.
///
/// The parts are concatenated without separators: callers give fields of fixed width first, or one part only.
#[must_use]
pub fn hash(domain: Domain, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(domain.context());
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// An Ed25519 public key, as bytes. Whether it is a valid point shows when a signature is checked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; PUBLIC_KEY_BYTES]);

impl PublicKey {
    /// From its 32 bytes (RFC 8032, section 5.1.2).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; PUBLIC_KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.0
    }

    /// Whether `signature` is this key's over `message`, by the strict rules (RFC 8032 and no small-order points).
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.0) else {
            return false;
        };
        key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature))
            .is_ok()
    }
}

/// All 64 hexadecimal digits.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&crate::Key::from_bytes(self.0), f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&crate::Key::from_bytes(self.0), f)
    }
}

impl core::str::FromStr for PublicKey {
    type Err = crate::ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.parse::<crate::Key>()?.to_bytes()))
    }
}

/// An Ed25519 key pair: the identity of a node or the owner of mutable records. Its secret is wiped when dropped.
#[derive(Clone)]
pub struct Keypair(SigningKey);

impl Keypair {
    /// From 32 secret bytes. The core has no entropy: where they come from is the caller's business.
    #[must_use]
    pub fn from_secret(secret: &[u8; SECRET_BYTES]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// The 32 secret bytes, for a key file or a certificate. Treat them as one treats a password.
    #[must_use]
    pub fn secret(&self) -> [u8; SECRET_BYTES] {
        self.0.to_bytes()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// The id of the node that has this key.
    #[must_use]
    pub fn node_id(&self) -> crate::NodeId {
        crate::NodeId::from_public_key(&self.public())
    }

    /// Signs; the same key and message always give the same signature (RFC 8032).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(message).to_bytes()
    }
}

/// The public half only.
impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keypair").field(&self.public()).finish()
    }
}
