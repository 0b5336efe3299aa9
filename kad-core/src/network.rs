//! Which network a node belongs to.

use core::fmt;

use crate::{Duration, Key, crypto};

/// What every member of a network must agree on; two networks that differ in any of it never talk to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// Contacts per bucket and holders per record. Default 20 (Kademlia paper, section 2.2).
    pub k: u16,
    /// Leading zero bits that the puzzle hash of a server's id must have. Default 0.
    pub puzzle_bits: u8,
    /// The longest life of a record, `expiry - issued`. Default 7 days.
    pub max_lifetime: Duration,
    /// The largest value in bytes. Default 64 KiB; never more than [`MAX_VALUE`](crate::MAX_VALUE).
    pub max_value: u32,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            k: 20,
            puzzle_bits: 0,
            max_lifetime: Duration::from_secs(7 * 24 * 3600),
            max_value: crate::MAX_VALUE as u32,
        }
    }
}

/// A hash of a network's name and parameters. Signatures are bound to it, and the transport's handshake names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetworkId([u8; 32]);

impl NetworkId {
    /// The network of this name whose members agree on these parameters.
    #[must_use]
    pub fn new(name: &str, parameters: &Parameters) -> Self {
        Self(crypto::hash(
            crypto::Domain::Network,
            &[
                &parameters.k.to_be_bytes(),
                &[parameters.puzzle_bits],
                &parameters.max_lifetime.as_secs().to_be_bytes(),
                &parameters.max_value.to_be_bytes(),
                name.as_bytes(),
            ],
        ))
    }

    /// All 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight bytes: enough for a handshake to keep networks apart.
    #[must_use]
    pub const fn short(&self) -> u64 {
        Key::from_bytes(self.0).to_limbs()[0]
    }
}

/// The 16 hexadecimal digits of [`NetworkId::short`].
impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.short())
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_difference_makes_another_network() {
        let default = Parameters::default();
        let all = [
            NetworkId::new("a", &default),
            NetworkId::new("b", &default),
            NetworkId::new("a", &Parameters { k: 8, ..default }),
            NetworkId::new(
                "a",
                &Parameters {
                    puzzle_bits: 16,
                    ..default
                },
            ),
            NetworkId::new(
                "a",
                &Parameters {
                    max_lifetime: Duration::from_secs(1),
                    ..default
                },
            ),
            NetworkId::new(
                "a",
                &Parameters {
                    max_value: 1,
                    ..default
                },
            ),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|other| other.short() != one.short()));
        }
    }
}
