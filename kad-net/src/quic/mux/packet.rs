//! The packets of ours: their bytes, and the proof in a punch.

use crate::nat::relay::{MAX_DATAGRAM, SessionId};

const PUNCH: u8 = 0x01;
const RELAY: u8 = 0x02;
const PROBE: u8 = 0x03;

/// The bit that every QUIC packet has set, and none of ours.
pub(super) const FIXED_BIT: u8 = 0x40;

/// The size of a punch.
pub(in super::super) const PUNCH_BYTES: usize = 17;

/// What stands before a relayed datagram: type and session.
const RELAY_HEADER: usize = 9;

/// The largest packet: a relayed datagram and its header.
pub(super) const MAX_PACKET: usize = RELAY_HEADER + MAX_DATAGRAM;

/// One packet that is not QUIC. Numbers are in network order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Packet<'a> {
    /// `01 session(8) mac(8)`: opens the NAT of who sends it, and tells who gets it where that is.
    Punch { session: SessionId, mac: [u8; 8] },
    /// `02 session(8) datagram`: the same on both legs, so that a relay forwards it as it came.
    Relay { session: SessionId, datagram: &'a [u8] },
    /// `03 nonce(16)`: shows that strangers reach the address that it was sent to.
    Probe { nonce: [u8; 16] },
}

impl<'a> Packet<'a> {
    /// `None` of everything that is not exactly one of them.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&kind, body) = bytes.split_first()?;
        match kind {
            PUNCH => {
                let (session, mac) = body.split_first_chunk()?;
                Some(Self::Punch {
                    session: SessionId(u64::from_be_bytes(*session)),
                    mac: mac.try_into().ok()?,
                })
            }
            RELAY => {
                let (session, datagram) = body.split_first_chunk()?;
                Some(Self::Relay {
                    session: SessionId(u64::from_be_bytes(*session)),
                    datagram,
                })
            }
            PROBE => Some(Self::Probe {
                nonce: body.try_into().ok()?,
            }),
            _ => None,
        }
    }

    /// How many bytes it wrote; `None` if the datagram is larger than what is relayed.
    pub(super) fn write(&self, to: &mut [u8; MAX_PACKET]) -> Option<usize> {
        let (kind, first, rest): (u8, &[u8], &[u8]) = match self {
            Self::Punch { session, mac } => (PUNCH, &session.0.to_be_bytes(), mac),
            Self::Relay { session, datagram } => (RELAY, &session.0.to_be_bytes(), datagram),
            Self::Probe { nonce } => (PROBE, nonce, &[]),
        };
        let (first_end, end) = (1 + first.len(), 1 + first.len() + rest.len());
        to[0] = kind;
        to[1..first_end].copy_from_slice(first);
        to.get_mut(first_end..end)?.copy_from_slice(rest);
        Some(end)
    }
}

/// Which end of a session sends: a punch that is thrown back at its sender is not taken for one of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Side {
    /// Who opened the session.
    Opener,
    /// Whom it is with.
    Answerer,
}

impl Side {
    pub(in super::super) const fn other(self) -> Self {
        match self {
            Self::Opener => Self::Answerer,
            Self::Answerer => Self::Opener,
        }
    }
}

/// What both ends of a session share and nobody else: exported from their relayed connection, so that neither relay nor
/// stranger can make a punch.
#[derive(Clone)]
pub(in super::super) struct PunchKey(pub(in super::super) [u8; 32]);

impl PunchKey {
    pub(in super::super) fn mac(&self, session: SessionId, from: Side) -> [u8; 8] {
        let mut message = [0; 9];
        message[..8].copy_from_slice(&session.0.to_be_bytes());
        message[8] = match from {
            Side::Opener => 0,
            Side::Answerer => 1,
        };
        let hash = blake3::keyed_hash(&self.0, &message);
        let mut mac = [0; 8];
        mac.copy_from_slice(&hash.as_bytes()[..8]);
        mac
    }

    /// Whether a datagram is a punch of this side of the session.
    pub(in super::super) fn has_made(&self, datagram: &[u8], session: SessionId, from: Side) -> bool {
        let parsed = Packet::parse(datagram);
        matches!(parsed, Some(Packet::Punch { session: of, mac }) if of == session && self.fits(session, from, mac))
    }

    /// Whether the mac is that of a punch of this side; takes as long whatever differs.
    pub(super) fn fits(&self, session: SessionId, from: Side, mac: [u8; 8]) -> bool {
        let differ = self
            .mac(session, from)
            .iter()
            .zip(mac)
            .fold(0, |acc, (one, other)| acc | (one ^ other));
        differ == 0
    }
}

/// Without the key.
impl std::fmt::Debug for PunchKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PunchKey")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(packet: &Packet<'_>) -> Vec<u8> {
        let mut buffer = [0xff; MAX_PACKET];
        let size = packet.write(&mut buffer).unwrap();
        buffer[..size].to_vec()
    }

    #[test]
    fn packets_have_the_bytes_that_are_written_down() {
        let session = SessionId(0x0102_0304_0506_0708);
        let punch = Packet::Punch { session, mac: [9; 8] };
        assert_eq!(bytes(&punch), [1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9]);
        let relay = Packet::Relay {
            session,
            datagram: b"\xc0quic",
        };
        assert_eq!(bytes(&relay), *b"\x02\x01\x02\x03\x04\x05\x06\x07\x08\xc0quic");
        let mut probe = vec![3];
        probe.extend([7; 16]);
        assert_eq!(bytes(&Packet::Probe { nonce: [7; 16] }), probe);
    }

    #[test]
    fn a_datagram_that_is_too_large_is_not_written() {
        let session = SessionId(1);
        let (fits, larger) = ([0; MAX_DATAGRAM], [0; MAX_DATAGRAM + 1]);
        let mut to = [0; MAX_PACKET];
        assert_eq!(
            Packet::Relay {
                session,
                datagram: &fits
            }
            .write(&mut to),
            Some(MAX_PACKET)
        );
        assert_eq!(
            Packet::Relay {
                session,
                datagram: &larger
            }
            .write(&mut to),
            None
        );
    }

    proptest! {
        #[test]
        fn whatever_parses_is_written_as_it_was_and_is_not_quic(data in prop::collection::vec(any::<u8>(), 0..40), kind in 0u8..6) {
            let mut data = data;
            if let Some(first) = data.first_mut() {
                *first = if kind < 5 { kind } else { *first };
            }
            if let Some(packet) = Packet::parse(&data) {
                prop_assert_eq!(bytes(&packet), data.clone());
                prop_assert_eq!(data[0] & FIXED_BIT, 0);
            }
        }
    }

    #[test]
    fn a_mac_is_of_one_session_one_side_and_one_key() {
        let key = PunchKey([1; 32]);
        let mac = key.mac(SessionId(5), Side::Opener);
        assert!(key.fits(SessionId(5), Side::Opener, mac));
        assert!(!key.fits(SessionId(5), Side::Answerer, mac));
        assert!(!key.fits(SessionId(6), Side::Opener, mac));
        assert!(!PunchKey([2; 32]).fits(SessionId(5), Side::Opener, mac));
        for bit in 0..64 {
            let mut other = mac;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.fits(SessionId(5), Side::Opener, other));
        }
        assert_eq!(format!("{key:?}"), "PunchKey");
    }

    #[test]
    fn only_a_whole_punch_of_the_session_and_the_side_is_one_that_the_key_has_made() {
        let (key, session) = (PunchKey([1; 32]), SessionId(5));
        let mac = key.mac(session, Side::Opener);
        let punch = bytes(&Packet::Punch { session, mac });
        assert_eq!(punch.len(), PUNCH_BYTES);
        assert!(key.has_made(&punch, session, Side::Opener));
        assert!(!key.has_made(&punch, session, Side::Answerer));
        assert!(!key.has_made(&punch, SessionId(6), Side::Opener));
        assert!(!key.has_made(&[&punch[..], &[0]].concat(), session, Side::Opener));
        assert!(!key.has_made(&bytes(&Packet::Probe { nonce: [0; 16] }), session, Side::Opener));
    }
}
