//! Seals: chunks that only whoever has the secret of the file can read, and that nobody else can make.
//!
//! The content is followed by one byte 0x80 and by zeros until it fills whole chunks, so holders learn the number of
//! chunks and nothing else about its length. Each chunk is then sealed for its place, as the STREAM construction does
//! (Hoang, Reyhanitabar, Rogaway and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance",
//! 2015):
//!
//! ```text
//!   nonce  = "nautilus file 1" ‖ number of the chunk, 8 bytes, big-endian ‖ 1 if it is the last, else 0
//!   sealed = XChaCha20-Poly1305(key of the file, nonce, no associated data, content of the chunk) ‖ tag, 16 bytes
//! ```
//!
//! A chunk at another place, the last of a file that was cut short, or one that something follows has another nonce. A
//! chunk of another file has another key: each file gets a secret of its own, never to be used again. So no nonce comes
//! twice.
//!
//! What this module refuses to do: take a secret from its caller. Two files with one secret would give both away.

use std::fmt;
use std::io;

use bytes::BytesMut;
use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

/// Bytes of a secret: 256 bits.
const SECRET: usize = 32;

/// Bytes that a seal adds to a chunk.
pub(super) const TAG: usize = 16;

/// Bytes of what a secret is checked against.
pub(super) const COMMITMENT: usize = 32;

/// Begins every nonce.
const PREFIX: [u8; 15] = *b"nautilus file 1";

const KEY_CONTEXT: &str = "nautilus-kad 2026-11 file seal key";
const COMMITMENT_CONTEXT: &str = "nautilus-kad 2026-11 file seal commitment";

/// Ends the content.
const END: u8 = 0x80;

/// What opens a sealed file. It is made when the file is stored, and the network never sees it.
///
/// It is wiped from memory when it is dropped, and `Debug` does not print it;
/// [`Reference::reveal`](super::Reference::reveal) does.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; SECRET]>);

/// Tells whether a secret belongs to a file, and tells nothing about the secret. It also makes sure that only one
/// secret opens a file, which the tags alone do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Commitment(pub(super) [u8; COMMITMENT]);

impl Secret {
    /// A fresh one, from the operating system's entropy.
    pub(super) fn generate() -> Result<Self, io::Error> {
        let mut secret = Zeroizing::new([0; SECRET]);
        getrandom::fill(secret.as_mut()).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(secret))
    }

    pub(super) const fn from_bytes(secret: Zeroizing<[u8; SECRET]>) -> Self {
        Self(secret)
    }

    pub(super) fn bytes(&self) -> &[u8; SECRET] {
        &self.0
    }

    /// What the index of a file with this secret says.
    pub(super) fn commitment(&self) -> Commitment {
        Commitment(blake3::derive_key(COMMITMENT_CONTEXT, self.0.as_ref()))
    }
}

/// In constant time.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        blake3::Hash::from_bytes(*self.0) == blake3::Hash::from_bytes(*other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Seals and opens the chunks of one file.
pub(super) struct Seal(XChaCha20Poly1305);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(..)")
    }
}

impl Seal {
    pub(super) fn new(secret: &Secret) -> Self {
        let key = Zeroizing::new(blake3::derive_key(KEY_CONTEXT, secret.0.as_ref()));
        Self(XChaCha20Poly1305::new(&(*key).into()))
    }

    /// Seals the content of a chunk in place. The last one is filled up to `payload` bytes; it must have room for one
    /// byte.
    pub(super) fn seal(&self, chunk: u64, last: bool, payload: usize, content: &mut BytesMut) {
        if last {
            content.extend([END]);
            content.resize(payload, 0);
        }
        let tag = self
            .0
            .encrypt_inout_detached(&nonce(chunk, last), b"", content.as_mut().into())
            .expect("a chunk is far shorter than what the cipher can take");
        content.extend_from_slice(&tag);
    }

    /// The content of a chunk, if it was sealed with this secret for this place.
    pub(super) fn open(&self, chunk: u64, last: bool, sealed: &[u8]) -> Option<Vec<u8>> {
        let (content, tag) = sealed.split_last_chunk::<TAG>()?;
        let mut content = content.to_vec();
        self.0
            .decrypt_inout_detached(
                &nonce(chunk, last),
                b"",
                content.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .ok()?;
        if last {
            let end = content.iter().rposition(|byte| *byte != 0)?;
            if content[end] != END {
                return None;
            }
            content.truncate(end);
        }
        Some(content)
    }
}

fn nonce(chunk: u64, last: bool) -> XNonce {
    let mut nonce = [0; 24];
    let (prefix, place) = nonce.split_at_mut(PREFIX.len());
    prefix.copy_from_slice(&PREFIX);
    place[..8].copy_from_slice(&chunk.to_be_bytes());
    place[8] = u8::from(last);
    nonce.into()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A secret that is none.
    pub(in super::super) fn secret(byte: u8) -> Secret {
        Secret(Zeroizing::new([byte; SECRET]))
    }

    fn sealed(secret_byte: u8, chunk: u64, last: bool, content: &[u8]) -> Vec<u8> {
        let mut bytes = BytesMut::from(content);
        Seal::new(&secret(secret_byte)).seal(chunk, last, 64, &mut bytes);
        bytes.to_vec()
    }

    #[test]
    fn secrets_are_printed_nowhere_and_no_two_are_the_same() {
        let secret = Secret::generate().unwrap();
        assert_eq!(
            format!("{secret:?} {:?}", Seal::new(&secret)),
            "Secret(..) Seal(..)"
        );
        assert!(secret != Secret::generate().unwrap() && secret == secret.clone());
    }

    #[test]
    fn the_length_of_the_last_chunk_says_nothing() {
        for length in [0, 1, 62, 63] {
            let content = vec![END; length];
            let sealed = sealed(1, 7, true, &content);
            assert_eq!(sealed.len(), 64 + TAG);
            assert_eq!(Seal::new(&secret(1)).open(7, true, &sealed), Some(content));
        }
        let mut unended = BytesMut::from(&[0; 64][..]);
        let seal = Seal::new(&secret(1));
        seal.seal(7, false, 64, &mut unended);
        assert_eq!(seal.open(7, false, &unended), Some(vec![0; 64]));
        let tag = seal
            .0
            .encrypt_inout_detached(&nonce(7, true), b"", (&mut unended[..64]).into());
        unended.truncate(64);
        unended.extend_from_slice(&tag.unwrap());
        assert_eq!(seal.open(7, true, &unended), None, "zeros have no end");
    }

    proptest! {
        #[test]
        fn a_chunk_opens_at_its_place_with_its_secret_and_no_other(
            content in prop::collection::vec(any::<u8>(), 64),
            place in (0_u64..4, any::<bool>(), 0_u8..3),
            other in (0_u64..4, any::<bool>(), 0_u8..3),
        ) {
            let (chunk, last, key) = place;
            let content = &content[..if last { 63 } else { 64 }];
            let sealed = sealed(key, chunk, last, content);
            let opened = Seal::new(&secret(other.2)).open(other.0, other.1, &sealed);
            prop_assert_eq!(opened, (place == other).then(|| content.to_vec()));
        }

        #[test]
        fn every_flipped_bit_and_every_other_length_is_found_out(
            content in prop::collection::vec(any::<u8>(), 0..64),
            bit in 0_usize..(64 + TAG) * 8,
            kept in 0_usize..64 + TAG,
        ) {
            let seal = Seal::new(&secret(1));
            let mut sealed = sealed(1, 3, true, &content);
            prop_assert_eq!(seal.open(3, true, &sealed[..kept]), None);
            sealed.push(0);
            prop_assert_eq!(seal.open(3, true, &sealed), None);
            sealed.pop();
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(seal.open(3, true, &sealed), None);
        }
    }
}
