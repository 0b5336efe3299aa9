//! Node ids, keys, and the XOR distance between them.
//!
//! All three are 256 bits wide, held as four `u64` limbs with the most significant one first, so that comparing limbs
//! in order is comparing big-endian numbers and an XOR is four instructions.

use core::fmt;
use core::str::FromStr;

use crate::crypto::{self, PublicKey};

/// Bytes of an id, a key or a distance.
pub const ID_BYTES: usize = 32;

/// Bits of an id, a key or a distance; also the number of buckets a table could have.
pub const ID_BITS: u32 = 256;

/// The text was not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseIdError;

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected 64 hexadecimal digits")
    }
}

impl core::error::Error for ParseIdError {}

macro_rules! wide {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u64; 4]);

        impl $name {
            /// From 32 bytes, the most significant first.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
                let mut limbs = [0u64; 4];
                let mut i = 0;
                while i < ID_BYTES {
                    limbs[i / 8] = limbs[i / 8] << 8 | bytes[i] as u64;
                    i += 1;
                }
                Self(limbs)
            }

            /// The 32 bytes, the most significant first.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; ID_BYTES] {
                let mut bytes = [0u8; ID_BYTES];
                let mut i = 0;
                while i < ID_BYTES {
                    bytes[i] = (self.0[i / 8] >> (56 - 8 * (i % 8))) as u8;
                    i += 1;
                }
                bytes
            }

            /// From four limbs, the most significant first.
            #[must_use]
            pub const fn from_limbs(limbs: [u64; 4]) -> Self {
                Self(limbs)
            }

            /// The four limbs, the most significant first.
            #[must_use]
            pub const fn to_limbs(self) -> [u64; 4] {
                self.0
            }
        }

        /// All 64 hexadecimal digits.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for limb in self.0 {
                    write!(f, "{limb:016x}")?;
                }
                Ok(())
            }
        }

        /// The first eight hexadecimal digits: enough to follow a node through a log.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:08x}", self.0[0] >> 32)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let digits = text.as_bytes();
                if digits.len() != 2 * ID_BYTES {
                    return Err(ParseIdError);
                }
                let mut limbs = [0u64; 4];
                for (i, digit) in digits.iter().enumerate() {
                    let value = (*digit as char).to_digit(16).ok_or(ParseIdError)?;
                    limbs[i / 16] = limbs[i / 16] << 4 | u64::from(value);
                }
                Ok(Self(limbs))
            }
        }
    };
}

wide! {
    /// Who a node is: a hash of its Ed25519 public key, so it can be proven and not chosen.
    NodeId
}
wide! {
    /// Where something is: a point of the same space as the ids, towards which lookups walk.
    Key
}
wide! {
    /// How far two points are from each other: their XOR, read as a number (Kademlia paper, section 2.1).
    Distance
}

impl NodeId {
    /// The id that belongs to a public key. Checking this binding is the duty of the transport.
    #[must_use]
    pub fn from_public_key(key: &PublicKey) -> Self {
        Self::from_bytes(crypto::hash(crypto::Domain::NodeId, &[key.as_bytes()]))
    }

    /// The same point as a target of lookups.
    #[must_use]
    pub const fn to_key(self) -> Key {
        Key(self.0)
    }

    /// The distance from this node to a point.
    #[must_use]
    pub const fn distance(self, to: Key) -> Distance {
        self.to_key().distance(to)
    }

    /// Leading zero bits of the puzzle hash of this id: the work that went into finding its key.
    ///
    /// A network may ask its servers for a minimum ([`Parameters::puzzle_bits`](crate::Parameters::puzzle_bits)), so
    /// that making up nodes costs work (S/Kademlia, section 4.1, the static puzzle).
    #[must_use]
    pub fn puzzle_bits(self) -> u32 {
        let digest = crypto::hash(crypto::Domain::Puzzle, &[&self.to_bytes()]);
        Distance::from_bytes(digest).leading_zeros()
    }
}

impl Key {
    /// The distance between two points.
    #[must_use]
    pub const fn distance(self, other: Self) -> Distance {
        let (a, b) = (self.0, other.0);
        Distance([a[0] ^ b[0], a[1] ^ b[1], a[2] ^ b[2], a[3] ^ b[3]])
    }

    /// The point at a distance from this one.
    #[must_use]
    pub const fn at(self, distance: Distance) -> Self {
        Self(self.distance(Self(distance.0)).0)
    }

    /// The node whose id is this point.
    #[must_use]
    pub const fn to_node_id(self) -> NodeId {
        NodeId(self.0)
    }
}

impl Distance {
    /// No distance at all.
    pub const ZERO: Self = Self([0; 4]);

    /// Number of leading bits that both points share: 0 in the far half of the space, 256 for the same point.
    ///
    /// This is also the index of a contact's bucket, seen from the local id.
    #[must_use]
    pub const fn leading_zeros(self) -> u32 {
        let mut i = 0;
        while i < 4 {
            if self.0[i] != 0 {
                return 64 * i as u32 + self.0[i].leading_zeros();
            }
            i += 1;
        }
        ID_BITS
    }

    /// Whether the bit at `index` is set, counting from the most significant one.
    #[must_use]
    pub const fn bit(self, index: u32) -> bool {
        self.0[(index / 64) as usize] >> (63 - index % 64) & 1 == 1
    }
}

impl From<NodeId> for Key {
    fn from(id: NodeId) -> Self {
        id.to_key()
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Key> {
        any::<[u8; 32]>().prop_map(Key::from_bytes)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn distance_is_a_metric_and_unidirectional(a in key(), b in key(), c in key()) {
            prop_assert_eq!(a.distance(a), Distance::ZERO);
            prop_assert_eq!(a.distance(b), b.distance(a));
            prop_assert_eq!(a.at(a.distance(b)), b);
            // Triangle: XOR never carries, so d(a,c) <= d(a,b) + d(b,c); compared in the top limb without overflow.
            let sum = u128::from(a.distance(b).0[0]) + u128::from(b.distance(c).0[0]) + 1;
            prop_assert!(u128::from(a.distance(c).0[0]) <= sum);
        }

        #[test]
        fn order_is_the_order_of_the_bytes(a in any::<[u8; 32]>(), b in any::<[u8; 32]>()) {
            prop_assert_eq!(Distance::from_bytes(a).cmp(&Distance::from_bytes(b)), a.cmp(&b));
        }

        #[test]
        fn bytes_and_text_come_back(bytes in any::<[u8; 32]>()) {
            let key = Key::from_bytes(bytes);
            prop_assert_eq!(key.to_bytes(), bytes);
            prop_assert_eq!(key.to_string().parse::<Key>(), Ok(key));
        }

        #[test]
        fn leading_zeros_finds_the_first_set_bit(key in key()) {
            let distance = key.distance(Key::default());
            let first = (0..ID_BITS).find(|&bit| distance.bit(bit)).unwrap_or(ID_BITS);
            prop_assert_eq!(distance.leading_zeros(), first);
        }
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for text in [
            "",
            "00",
            &"0".repeat(63),
            &"0".repeat(65),
            &"g".repeat(64),
            &"é".repeat(32),
        ] {
            assert_eq!(text.parse::<NodeId>(), Err(ParseIdError), "{text}");
        }
    }
}
