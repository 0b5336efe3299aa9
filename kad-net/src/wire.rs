//! Turns messages into frames and frames into messages: the one place where the bytes of the protocol are decided.
//!
//! ```text
//!   version:1  kind:1  flags:1  body…  extensions…
//! ```
//!
//! `docs/protocol.md` describes every byte for those who write a second implementation, and its test vectors are read
//! by the tests of this crate. Below the header, integers, options and lists are written as bincode 2 writes them with
//! its standard configuration; this folder alone names it.
//!
//! The codec keeps its own picture of every message, apart from the core's types, so that a change there never changes
//! the wire unnoticed. It refuses to guess: a frame that is cut short, too long, carries a flag that it would have to
//! understand, or claims more elements than it may have is refused by name, before anything is allocated for it. And it
//! refuses to hand out an unproven record: decoding verifies each one (about 50 µs for a signature), so decode on the
//! task that received the frame.

pub mod announcement;
mod body;
pub mod card;
mod contacts;
mod error;
pub mod reach;
mod records;
mod requests;
mod responses;
mod summaries;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kad_core::{Request, Response, Rules, UnixTime};

use self::body::{BodyReader, BodyWriter};
pub use self::contacts::MAX_SOCKETS;
pub use self::error::{DecodeError, EncodeError};
use crate::{MAX_FRAME, WireAddress};

/// The version of the frame that this codec speaks.
pub const VERSION: u8 = 1;

/// Bytes before the body: version, kind, flags.
pub const HEADER_BYTES: usize = 3;

/// The most extensions at the end of a body. One is known; room for a few of each later version.
pub const MAX_EXTENSIONS: usize = 16;

/// The most bytes that the extensions of one frame may carry together, payloads only.
///
/// [`MAX_FRAME`] minus the largest records and contacts leaves 10 KiB; this takes a part of them.
pub const MAX_EXTENSION_BYTES: usize = 4096;

/// The sender of a request answers nobody and must not be put into routing tables.
const FLAG_READ_ONLY: u8 = 1;

/// Flags that a receiver must understand or refuse the frame; the others may be ignored.
const FLAGS_MUST_UNDERSTAND: u8 = 0xf0;

/// The number of the extension in which FIND_NODE says that the card of the target is wanted, and NODES has it.
const EXTENSION_CARD: u16 = 1;

/// What the frame is. Requests count up from 1, an answer is its request with the top bit set.
mod kind {
    pub(super) const PING: u8 = 0x01;
    pub(super) const FIND_NODE: u8 = 0x02;
    pub(super) const FIND_VALUE: u8 = 0x03;
    pub(super) const STORE: u8 = 0x04;
    pub(super) const COMPARE: u8 = 0x05;
    pub(super) const FETCH: u8 = 0x06;
    pub(super) const PONG: u8 = 0x81;
    pub(super) const NODES: u8 = 0x82;
    pub(super) const VALUES: u8 = 0x83;
    pub(super) const STORED: u8 = 0x84;
    pub(super) const COMPARED: u8 = 0x85;
    pub(super) const FETCHED: u8 = 0x86;
    pub(super) const REJECTED: u8 = 0xff;
}

/// Which addresses of contacts a node wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Scope {
    /// Those that any host on the internet could reach: private, loopback, link-local, multicast and unspecified
    /// addresses and ports below 1024 are dropped when decoding, so that an answer cannot aim this node at a victim.
    #[default]
    Global,
    /// All: for private networks, loopback and tests.
    Any,
}

impl Scope {
    /// Whether a node may dial, or send anything to, an address that a peer told it of.
    #[must_use]
    pub fn admits(self, socket: SocketAddr) -> bool {
        match self {
            Self::Global => contacts::is_global(socket),
            Self::Any => {
                let ip = socket.ip().to_canonical();
                let everybody = ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST);
                socket.port() != 0 && !ip.is_unspecified() && !everybody
            }
        }
    }

    /// Whether the host is one that has a say in where this node is.
    #[must_use]
    pub(crate) fn admits_host(self, ip: IpAddr) -> bool {
        // Any port that nobody objects to.
        self.admits(SocketAddr::new(ip, u16::MAX))
    }
}

/// A request as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingRequest {
    /// The sender is read-only: it asks, but nobody may route through it.
    pub read_only: bool,
    /// What it asks. Records of a STORE are verified, each with a verdict of its own.
    pub request: Request,
}

/// Encodes and decodes the messages of one network. Cloning is cheap, and clones share their counter.
///
/// The bytes that a message takes are the length of what `encode_*` returns; there is no cheaper way to tell.
#[derive(Debug, Clone)]
pub struct Codec {
    rules: Rules,
    scope: Scope,
    dropped: Arc<AtomicU64>,
}

impl Codec {
    /// A codec that holds records to these rules.
    #[must_use]
    pub fn new(rules: Rules, scope: Scope) -> Self {
        Self {
            rules,
            scope,
            dropped: Arc::default(),
        }
    }

    /// The rules that records are held to.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// How many contacts were left out of answers so far, because no address of theirs was one for this scope.
    #[must_use]
    pub fn contacts_dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The frame of a request. `now` gives immutable records the seconds that they have left.
    ///
    /// # Errors
    /// Only for a request beyond the bounds of the core, or with a STORE entry that is no record; see [`EncodeError`].
    pub fn encode_request(
        &self,
        now: UnixTime,
        read_only: bool,
        request: &Request,
    ) -> Result<Bytes, EncodeError> {
        let flags = u8::from(read_only) * FLAG_READ_ONLY;
        let mut body = BodyWriter::new(requests::kind(request), flags, requests::size_hint(request));
        requests::write(&mut body, now, request)?;
        let wants_card = matches!(request, Request::FindNode { card: true, .. });
        body.finish_with(wants_card.then_some((EXTENSION_CARD, &[])))
    }

    /// Whether a frame says that it is a STORE, whose records take long to verify; says nothing about its form.
    #[must_use]
    pub fn is_store(frame: &[u8]) -> bool {
        frame.get(1) == Some(&kind::STORE)
    }

    /// Reads and verifies a request of a peer. Records share the memory of the frame.
    ///
    /// # Errors
    /// Says why the frame is no request; [`DecodeError::rejection`] is what to answer. A bad record in a STORE is no
    /// error of the frame but of its entry.
    pub fn decode_request(&self, now: UnixTime, frame: Bytes) -> Result<IncomingRequest, DecodeError> {
        let (header, mut body) = open(&frame)?;
        let mut request = requests::read(self, now, &frame, header.kind, &mut body)?;
        let extension = body.finish_with(Some(EXTENSION_CARD))?;
        if let Request::FindNode { card, .. } = &mut request {
            *card = extension.is_some();
        }
        let read_only = header.flags & FLAG_READ_ONLY != 0;
        Ok(IncomingRequest { read_only, request })
    }

    /// The frame of an answer. Records whose life has ended by `now` are left out.
    ///
    /// # Errors
    /// Only for an answer beyond the bounds of the core; see [`EncodeError`].
    pub fn encode_response<A: WireAddress>(
        &self,
        now: UnixTime,
        response: &Response<A>,
    ) -> Result<Bytes, EncodeError> {
        let mut body = BodyWriter::new(responses::kind(response), 0, responses::size_hint(response));
        responses::write(&mut body, now, response)?;
        let card = responses::card(now, response)?;
        body.finish_with(card.map(|card| (EXTENSION_CARD, card)))
    }

    /// Reads and verifies the answer to `asked`. Records share the memory of the frame.
    ///
    /// # Errors
    /// Says why the frame is no answer to that request: its form, a record that does not verify, or one that was not
    /// asked for.
    pub fn decode_response<A: WireAddress>(
        &self,
        now: UnixTime,
        frame: Bytes,
        asked: &Request,
    ) -> Result<Response<A>, DecodeError> {
        let (header, mut body) = open(&frame)?;
        let mut response = responses::read(self, now, &frame, header.kind, &mut body, asked)?;
        let extension = body.finish_with(Some(EXTENSION_CARD))?;
        if let (Response::Nodes { card, .. }, Some(bytes)) = (&mut response, extension) {
            *card = responses::read_card(self, now, frame.slice_ref(bytes), asked)?;
        }
        Ok(response)
    }

    fn count_dropped(&self, contacts: u64) {
        if contacts > 0 {
            self.dropped.fetch_add(contacts, Ordering::Relaxed);
        }
    }
}

struct Header {
    kind: u8,
    flags: u8,
}

fn open(frame: &Bytes) -> Result<(Header, BodyReader<'_>), DecodeError> {
    if frame.len() > MAX_FRAME {
        return Err(DecodeError::TooLarge);
    }
    let Some((&[version, kind, flags], body)) = frame.split_first_chunk::<HEADER_BYTES>() else {
        return Err(DecodeError::Truncated);
    };
    if version != VERSION {
        return Err(DecodeError::UnknownVersion(version));
    }
    if flags & FLAGS_MUST_UNDERSTAND != 0 {
        return Err(DecodeError::UnknownFlags(flags & FLAGS_MUST_UNDERSTAND));
    }
    Ok((Header { kind, flags }, BodyReader::new(body)))
}
