//! What nodes ask each other in order to be reached: where they are seen, whether strangers get through, places at
//! relays, and meetings.
//!
//! These frames look like all others and have kinds of their own, but travel on streams of another kind (0x02): who
//! does not know them resets the stream, and that means that there is no help here. They are small, and none carries a
//! record, so they are read where they arrive.
//!
//! The two requests that cause packets, CHECK and DIAL_BACK, are padded to what they cause. Who answers one looks at
//! the length of its frame.

mod answers;
mod refusals;
mod requests;

use std::net::{IpAddr, SocketAddr};

use bincode::{Decode, Encode};
use bytes::Bytes;
use kad_core::{Duration, NodeId};

pub use self::refusals::ReachRefusal;
use super::body::{BodyReader, BodyWriter};
use super::contacts::Socket;
use super::{DecodeError, EncodeError, MAX_EXTENSION_BYTES, Scope, open};
use crate::nat::candidates::Candidate;
use crate::nat::observation::NatClass;
use crate::nat::relay::{RelayConfig, SessionId};

/// The largest frame of this kind in bytes: all extensions that a frame may have, and as much again for the rest, which
/// takes some hundred.
pub const MAX_REACH_FRAME: usize = 2 * MAX_EXTENSION_BYTES;

/// What the frame is. Requests count up from here, an answer is its request with the top bit set.
mod kind {
    pub(super) const HELLO: u8 = 0x21;
    pub(super) const CHECK: u8 = 0x22;
    pub(super) const DIAL_BACK: u8 = 0x23;
    pub(super) const RESERVE: u8 = 0x24;
    pub(super) const KEEP: u8 = 0x25;
    pub(super) const RELEASE: u8 = 0x26;
    pub(super) const OPEN: u8 = 0x27;
    pub(super) const INCOMING: u8 = 0x28;
    pub(super) const CLOSE: u8 = 0x29;
    pub(super) const MEET: u8 = 0x2a;
    pub(super) const GO: u8 = 0x2b;
    pub(super) const CANDIDATES: u8 = 0x2c;
    pub(super) const ANSWER: u8 = 0x80;
    pub(super) const REFUSED: u8 = 0xff;
}

/// What one node asks another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReachRequest {
    /// Where do you see me, and what do you do for others?
    Hello,
    /// Have a node that I never sent anything to probe this address of mine. Answered when that node has accepted.
    Check {
        /// The address; on the host at which the other end sees who asks.
        address: SocketAddr,
        /// What the probe has to carry.
        nonce: [u8; 16],
    },
    /// Probe this address of somebody who asked me.
    DialBack {
        /// Where.
        address: SocketAddr,
        /// What the probe has to carry.
        nonce: [u8; 16],
    },
    /// Give me a place, or let me keep it for longer.
    Reserve,
    /// I am still here. Sent every quarter of a minute by who has a place.
    Keep,
    /// I need my place no more.
    Release,
    /// Let me talk to a peer that has a place here.
    Open {
        /// With whom.
        to: NodeId,
    },
    /// From a relay to one that has a place: somebody talks to you.
    Incoming {
        /// The session.
        session: SessionId,
        /// Who opened it. The relay's word; the handshake through it proves it.
        from: NodeId,
        /// The host at which the relay sees who opened it.
        from_host: IpAddr,
        /// Where the relay sees who is told.
        seen: SocketAddr,
        /// What the relay forwards of it.
        limits: SessionLimits,
    },
    /// The session is over. Said by an end to the relay, or by the relay to an end.
    Close {
        /// Which.
        session: SessionId,
    },
    /// Tell both of us when to punch.
    Meet {
        /// In which session.
        session: SessionId,
    },
    /// From a relay: punch now.
    Go {
        /// In which session.
        session: SessionId,
        /// After how long; in whole milliseconds, at most [`LONGEST_WAIT`].
        wait: Duration,
    },
    /// Where I am; where are you? Asked end to end, so that neither the relay nor a stranger can say it.
    Candidates {
        /// How the NAT of who asks chooses ports.
        class: NatClass,
        /// Where it may be. At most [`MAX_CANDIDATES`](crate::nat::candidates::MAX_CANDIDATES).
        candidates: Vec<Candidate>,
        /// Whether it asks for an attempt by many ports ([`birthday`](crate::nat::birthday)), as punching was in vain.
        birthday: bool,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReachAnswer {
    /// To HELLO.
    Hello {
        /// Where the other end sees who asks.
        observed: SocketAddr,
        /// Whether it answers requests of the network and helps others.
        serves: bool,
        /// Whether it has places for others.
        relays: bool,
        /// Where it says that it can be reached in the family over which it was not asked. Its own word: to be dialled
        /// before others are told.
        also: Option<SocketAddr>,
    },
    /// It is done, or under way: to CHECK, DIAL_BACK, RELEASE, INCOMING, CLOSE and GO.
    Done,
    /// To RESERVE.
    Reserved {
        /// For how long; in whole seconds.
        lifetime: Duration,
        /// What each session gets.
        limits: SessionLimits,
    },
    /// To KEEP.
    Kept {
        /// Where the relay sees who asks.
        observed: SocketAddr,
    },
    /// To OPEN.
    Opened {
        /// The session.
        session: SessionId,
        /// The host at which the relay sees the other end.
        peer_host: IpAddr,
        /// Where the relay sees who asked.
        seen: SocketAddr,
        /// What the relay forwards of it.
        limits: SessionLimits,
    },
    /// To MEET.
    Meet {
        /// How long who asked waits before its first punch; in whole milliseconds, at most [`LONGEST_WAIT`].
        wait: Duration,
    },
    /// To CANDIDATES.
    Candidates {
        /// How the NAT of who answers chooses ports.
        class: NatClass,
        /// Where it may be. At most [`MAX_CANDIDATES`](crate::nat::candidates::MAX_CANDIDATES).
        candidates: Vec<Candidate>,
        /// Whether it begins the attempt that was asked for.
        birthday: bool,
    },
    /// To anything.
    Refused(ReachRefusal),
}

/// The number of the extension with which CANDIDATES asks for an attempt by many ports, and with which the answer
/// begins it. Who does not know it does not begin one.
const EXTENSION_BIRTHDAY: u16 = 2;

/// The longest wait that a frame can tell; longer ones are written as this.
pub const LONGEST_WAIT: Duration = Duration::from_millis(65_535);

/// What a relay forwards of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SessionLimits {
    /// Bytes in each direction.
    pub bytes: u64,
    /// Seconds that it lasts.
    pub seconds: u64,
    /// Bytes in a second, both directions together.
    pub rate: u64,
}

impl SessionLimits {
    /// Those of a relay with this configuration.
    #[must_use]
    pub const fn of(config: &RelayConfig) -> Self {
        Self {
            bytes: config.session_bytes,
            seconds: config.session.as_secs(),
            rate: config.session_rate,
        }
    }
}

impl ReachRequest {
    /// The frame. CHECK and DIAL_BACK are padded to what they cause.
    ///
    /// # Errors
    /// None within the bounds of the fields; see [`EncodeError`].
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        requests::encode(self)
    }

    /// Reads a request. Candidates outside of the scope are left out; all other addresses are those that the frame has,
    /// and the machines decide about them.
    ///
    /// # Errors
    /// Says why the frame is no request; [`ReachRefusal::of_error`] is what to answer.
    pub fn decode(frame: &Bytes, scope: Scope) -> Result<Self, DecodeError> {
        let (kind, mut body) = begin(frame)?;
        let mut request = requests::read(kind, &mut body, scope)?;
        if let Self::Candidates { birthday, .. } = &mut request {
            *birthday = read_birthday(body)?;
        } else {
            body.finish()?;
        }
        Ok(request)
    }
}

impl ReachAnswer {
    /// The frame of the answer to `asked`.
    ///
    /// # Errors
    /// None within the bounds of the fields; see [`EncodeError`].
    pub fn encode(&self, asked: &ReachRequest) -> Result<Bytes, EncodeError> {
        answers::encode(self, requests::kind(asked))
    }

    /// The frame of a refusal of whatever was asked.
    ///
    /// # Errors
    /// None; see [`EncodeError`].
    pub fn refusal(why: ReachRefusal) -> Result<Bytes, EncodeError> {
        answers::encode(&Self::Refused(why), 0)
    }

    /// Reads the answer to `asked`.
    ///
    /// # Errors
    /// Says why the frame is no answer to that request.
    pub fn decode(frame: &Bytes, asked: &ReachRequest, scope: Scope) -> Result<Self, DecodeError> {
        let (kind, mut body) = begin(frame)?;
        let mut answer = answers::read(kind, requests::kind(asked), &mut body, scope)?;
        match &mut answer {
            Self::Candidates { birthday, .. } => *birthday = read_birthday(body)?,
            Self::Hello { also, .. } => {
                let extension = body.finish_with(Some(EXTENSION_ALSO))?;
                *also = extension.map(read_also).transpose()?;
            }
            _ => body.finish()?,
        }
        Ok(answer)
    }
}

fn begin(frame: &Bytes) -> Result<(u8, BodyReader<'_>), DecodeError> {
    if frame.len() > MAX_REACH_FRAME {
        return Err(DecodeError::TooLarge);
    }
    let (header, body) = open(frame)?;
    Ok((header.kind, body))
}

/// Ends a frame of candidates.
fn write_birthday(body: BodyWriter, birthday: bool) -> Result<Bytes, EncodeError> {
    body.finish_with(birthday.then_some((EXTENSION_BIRTHDAY, &[])))
}

fn read_birthday(body: BodyReader<'_>) -> Result<bool, DecodeError> {
    let extension = body.finish_with(Some(EXTENSION_BIRTHDAY))?;
    Ok(extension.is_some())
}

/// The extension of the answer to HELLO that says where else the node is reached.
const EXTENSION_ALSO: u16 = 1;

fn write_also(also: SocketAddr) -> Result<Vec<u8>, EncodeError> {
    let mut part = BodyWriter::part();
    write_socket(&mut part, also)?;
    Ok(part.into_part())
}

fn read_also(part: &[u8]) -> Result<SocketAddr, DecodeError> {
    let mut reader = BodyReader::new(part);
    let also = read_socket(&mut reader)?;
    match reader.rest() {
        [] => Ok(also),
        _ => Err(DecodeError::TrailingBytes),
    }
}

/// A host on the wire, written as a socket is, without a port.
#[derive(Clone, Copy, Encode, Decode)]
enum Host {
    V4([u8; 4]),
    V6([u8; 16]),
}

fn write_host(body: &mut BodyWriter, host: IpAddr) -> Result<(), EncodeError> {
    body.value(&match host.to_canonical() {
        IpAddr::V4(ip) => Host::V4(ip.octets()),
        IpAddr::V6(ip) => Host::V6(ip.octets()),
    })
}

fn read_host(body: &mut BodyReader<'_>) -> Result<IpAddr, DecodeError> {
    Ok(match body.value()? {
        Host::V4(ip) => IpAddr::from(ip),
        Host::V6(ip) => IpAddr::from(ip).to_canonical(),
    })
}

fn write_socket(body: &mut BodyWriter, socket: SocketAddr) -> Result<(), EncodeError> {
    body.value(&Socket::from(socket))
}

fn read_socket(body: &mut BodyReader<'_>) -> Result<SocketAddr, DecodeError> {
    body.value::<Socket>().map(SocketAddr::from)
}

fn write_session(body: &mut BodyWriter, session: SessionId) -> Result<(), EncodeError> {
    // As in the packets that name it: eight bytes, the highest first.
    body.value(&session.0.to_be_bytes())
}

fn read_session(body: &mut BodyReader<'_>) -> Result<SessionId, DecodeError> {
    body.value().map(|bytes| SessionId(u64::from_be_bytes(bytes)))
}

fn write_wait(body: &mut BodyWriter, wait: Duration) -> Result<(), EncodeError> {
    body.value(&u16::try_from(wait.as_millis()).unwrap_or(u16::MAX))
}

fn read_wait(body: &mut BodyReader<'_>) -> Result<Duration, DecodeError> {
    body.value::<u16>()
        .map(|millis| Duration::from_millis(millis.into()))
}
