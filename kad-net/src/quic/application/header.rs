//! The beginning of a stream on a connection of applications, behind the byte that says that it is one.
//!
//! ```text
//! CONNECT 01 [id 16] [length 1] [protocol]        answered with one byte and the end
//! STREAM  02 [id 16] [number 8] [epoch 4] [place 8]  answered with a place of 8 bytes; then frames both ways
//! CLOSE   03 [id 16]                              answered with the end
//! PATH    04 [kind 1]                             the same
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{ReadExactError, RecvStream, VarInt};

use crate::quic::connection::{MAX_PROTOCOL, Protocol};
use crate::quic::error::code;
use crate::quic::path::PathKind;

/// The first byte of a stream of applications.
pub(in crate::quic) const STREAM_APPLICATION: u8 = 0x03;

/// What a connection is called by both its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::quic) struct ConnectionId(pub(in crate::quic) [u8; Self::BYTES]);

impl ConnectionId {
    pub(in crate::quic) const BYTES: usize = 16;

    /// Bytes of what stands in front of datagrams.
    pub(in crate::quic) const SHORT: usize = 4;

    /// Its beginning, which no other connection of the same two peers has.
    pub(in crate::quic) fn short(&self) -> [u8; Self::SHORT] {
        let mut short = [0; Self::SHORT];
        short.copy_from_slice(&self.0[..Self::SHORT]);
        short
    }
}

/// What a stream is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::quic) enum Header {
    /// A connection is wanted.
    Connect { id: ConnectionId, protocol: Protocol },
    /// A stream of a connection begins, or goes on over this path.
    Stream {
        id: ConnectionId,
        /// Counted by the one who opened the stream, from zero.
        number: u64,
        /// How many paths it has run over: who has heard a larger one ignores it.
        epoch: u32,
        /// Of the next byte that its opener lacks.
        place: u64,
    },
    /// A connection is closed.
    Close { id: ConnectionId },
    /// What kind of path this is.
    Path { kind: PathKind },
}

/// Why there is no header.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::quic) enum NoHeader {
    /// Refused with this code.
    Refused(VarInt),
    /// The peer gave it up, or is gone.
    Gone,
}

impl From<ReadExactError> for NoHeader {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::FinishedEarly(_) => Self::Refused(code::VIOLATION),
            ReadExactError::ReadError(_) => Self::Gone,
        }
    }
}

impl Header {
    /// All of it, with the byte that says of what kind the stream is.
    pub(in crate::quic) fn bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(LONGEST);
        out.put_u8(STREAM_APPLICATION);
        match self {
            Self::Connect { id, protocol } => {
                out.put_u8(CONNECT);
                out.put_slice(&id.0);
                // A protocol has 64 bytes at most.
                out.put_u8(protocol.as_str().len() as u8);
                out.put_slice(protocol.as_str().as_bytes());
            }
            Self::Stream {
                id,
                number,
                epoch,
                place,
            } => {
                out.put_u8(STREAM);
                out.put_slice(&id.0);
                out.put_u64(*number);
                out.put_u32(*epoch);
                out.put_u64(*place);
            }
            Self::Close { id } => {
                out.put_u8(CLOSE);
                out.put_slice(&id.0);
            }
            Self::Path { kind } => {
                out.put_u8(PATH);
                out.put_u8(kind.number());
            }
        }
        out.freeze()
    }

    /// Reads what follows the byte that says of what kind the stream is; nothing beyond.
    pub(in crate::quic) async fn read(recv: &mut RecvStream) -> Result<Self, NoHeader> {
        let mut kind = [0];
        recv.read_exact(&mut kind).await?;
        match kind[0] {
            CONNECT => {
                let mut head = [0; ConnectionId::BYTES + 1];
                recv.read_exact(&mut head).await?;
                let length = usize::from(head[ConnectionId::BYTES]);
                if length > MAX_PROTOCOL {
                    return Err(NoHeader::Refused(code::VIOLATION));
                }
                let mut name = [0; MAX_PROTOCOL];
                recv.read_exact(&mut name[..length]).await?;
                let protocol = std::str::from_utf8(&name[..length])
                    .ok()
                    .and_then(|name| Protocol::new(name).ok());
                Ok(Self::Connect {
                    id: id(&head),
                    protocol: protocol.ok_or(NoHeader::Refused(code::VIOLATION))?,
                })
            }
            STREAM => {
                let mut rest = [0; ConnectionId::BYTES + 20];
                recv.read_exact(&mut rest).await?;
                let (number, others) = rest[ConnectionId::BYTES..].split_at(8);
                let (epoch, place) = others.split_at(4);
                Ok(Self::Stream {
                    id: id(&rest),
                    number: number_of(number),
                    // Four bytes fit.
                    epoch: number_of(epoch) as u32,
                    place: number_of(place),
                })
            }
            CLOSE => {
                let mut rest = [0; ConnectionId::BYTES];
                recv.read_exact(&mut rest).await?;
                Ok(Self::Close { id: id(&rest) })
            }
            PATH => {
                let mut rest = [0];
                recv.read_exact(&mut rest).await?;
                let kind = PathKind::from_number(rest[0]);
                Ok(Self::Path {
                    kind: kind.ok_or(NoHeader::Refused(code::VIOLATION))?,
                })
            }
            _ => Err(NoHeader::Refused(code::UNKNOWN_STREAM)),
        }
    }
}

/// What is said to CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::quic) enum Answer {
    Accepted,
    /// Nobody waits for this protocol.
    NotListening,
    /// Too many connections, or one that has this id.
    Busy,
}

impl Answer {
    pub(in crate::quic) const fn number(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::NotListening => 1,
            Self::Busy => 2,
        }
    }

    pub(in crate::quic) const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Accepted,
            1 => Self::NotListening,
            2 => Self::Busy,
            _ => return None,
        })
    }
}

fn id(bytes: &[u8]) -> ConnectionId {
    let mut id = [0; ConnectionId::BYTES];
    id.copy_from_slice(&bytes[..ConnectionId::BYTES]);
    ConnectionId(id)
}

fn number_of(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

const CONNECT: u8 = 1;
const STREAM: u8 = 2;
const CLOSE: u8 = 3;
const PATH: u8 = 4;

/// Bytes of a CONNECT with the longest protocol.
const LONGEST: usize = 2 + ConnectionId::BYTES + 1 + MAX_PROTOCOL;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::quic::stream::frames_for_vectors;

    /// The lines of the block in the document that says what the bytes are.
    fn told() -> BTreeMap<String, String> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (_, block) = text.split_once("```application-vectors\n").unwrap();
        let (block, _) = block.split_once("```").unwrap();
        let lines = block.lines().filter_map(|line| line.split_once(" = "));
        lines
            .map(|(name, bytes)| (name.to_owned(), bytes.to_owned()))
            .collect()
    }

    #[test]
    fn beginnings_and_frames_have_the_bytes_that_the_document_says() {
        let id = ConnectionId([7; 16]);
        let protocol = Protocol::new("example/c1/1").unwrap();
        let headers = [
            ("CONNECT", Header::Connect { id, protocol }),
            (
                "STREAM",
                Header::Stream {
                    id,
                    number: 5,
                    epoch: 2,
                    place: 65_536,
                },
            ),
            ("CLOSE", Header::Close { id }),
            (
                "PATH, punched",
                Header::Path {
                    kind: PathKind::Punched,
                },
            ),
        ];
        let headers = headers.map(|(name, header)| (name, header.bytes()));
        let actual: BTreeMap<String, String> = headers
            .into_iter()
            .chain(frames_for_vectors())
            .map(|(name, bytes)| {
                (
                    name.to_owned(),
                    bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                )
            })
            .collect();
        assert_eq!(told(), actual);
    }
}
