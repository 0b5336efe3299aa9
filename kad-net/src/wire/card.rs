//! What a node says of itself: where it may be, how its NAT behaves, and which relays forward to it.
//!
//! ```text
//!   "kad-card"  version:1  flags:1  class:1  candidates…  relays…  extensions…
//! ```
//!
//! The bytes are the value of the node's card, the mutable record under its own id, so they are signed with the rest of
//! it and nobody else can say where a node is. That a node is there is proven only by a handshake with it: a card can
//! be old, and its owner can lie about itself.

use std::net::SocketAddr;

use kad_core::{Contact, ID_BYTES, MAX_CARD_BYTES, NodeId, Record};

use super::body::{BodyReader, BodyWriter};
use super::contacts::{SMALLEST_CONTACT, SMALLEST_SOCKET, Socket, read_address, write_address};
use super::{DecodeError, EncodeError, Scope, VERSION};
use crate::WireAddress;
use crate::nat::candidates::{Candidate, CandidateKind, MAX_CANDIDATES};
use crate::nat::observation::NatClass;
use crate::nat::reservations::MAX_RESERVED;

/// What the value of a card begins with: an application may have put something else under the key of a node.
const MARKER: &[u8; 8] = b"kad-card";

/// The node answers requests and may be put into routing tables.
const FLAG_SERVES: u8 = 1;

/// What a node says of itself.
///
/// The default says that the node is nowhere: who reads that need not look further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card<A> {
    /// Where the node may be, the best first. At most [`MAX_CANDIDATES`]; never of the kind
    /// [`Relayed`](CandidateKind::Relayed), which is what `relays` says.
    pub candidates: Vec<Candidate>,
    /// How its NAT chooses ports.
    pub class: NatClass,
    /// Servers that forward to it, the nearest first. At most [`MAX_RESERVED`].
    pub relays: Vec<Contact<A>>,
    /// It answers requests: one more server, and not only somebody who asks.
    pub serves: bool,
}

impl<A> Default for Card<A> {
    fn default() -> Self {
        Self {
            candidates: Vec::new(),
            class: NatClass::Unknown,
            relays: Vec::new(),
            serves: false,
        }
    }
}

impl<A> Card<A> {
    /// Whether the card says nothing of where the node is. A node that is about to stop has such a card.
    #[must_use]
    pub const fn is_nowhere(&self) -> bool {
        self.candidates.is_empty() && self.relays.is_empty()
    }
}

impl<A: WireAddress> Card<A> {
    /// The value of the record. What is beyond the bounds is left out: the last candidates and the last relays.
    ///
    /// # Errors
    /// [`EncodeError::TooManySockets`] if the address of a relay has more than the protocol allows.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut part = BodyWriter::part();
        part.value(MARKER)?;
        part.value(&VERSION)?;
        part.value(&(u8::from(self.serves) * FLAG_SERVES))?;
        write_candidates(&mut part, self.class, &self.candidates)?;
        let relays = &self.relays[..self.relays.len().min(MAX_RESERVED)];
        part.count(relays.len())?;
        for relay in relays {
            part.value(&relay.id.to_bytes())?;
            write_address(&mut part, &relay.address)?;
        }
        Ok(part.finish()?.into())
    }

    /// Reads the value of a record. Of candidates and relays, those outside of the scope are left out, and candidates
    /// of unknown kinds; addresses in private networks stay if they are said to be such, and
    /// [`Meeting`](crate::nat::candidates::Meeting) decides about them.
    ///
    /// # Errors
    /// Says why these bytes are no card. Bytes that do not begin as a card does are [`DecodeError::NoCard`].
    pub fn decode(value: &[u8], scope: Scope) -> Result<Self, DecodeError> {
        if value.len() > MAX_CARD_BYTES {
            return Err(DecodeError::TooLarge);
        }
        let rest = value.strip_prefix(MARKER).ok_or(DecodeError::NoCard)?;
        let mut body = BodyReader::new(rest);
        match body.value()? {
            VERSION => (),
            unknown => return Err(DecodeError::UnknownVersion(unknown)),
        }
        let flags: u8 = body.value()?;
        let (class, candidates) = read_candidates(&mut body, scope)?;
        let mut relays = Vec::new();
        for _ in 0..body.count("relays", MAX_RESERVED, SMALLEST_CONTACT)? {
            let id = NodeId::from_bytes(body.value::<[u8; ID_BYTES]>()?);
            relays.extend(read_address(&mut body, scope)?.map(|address| Contact::new(id, address)));
        }
        body.finish()?;
        Ok(Self {
            candidates,
            class,
            relays,
            serves: flags & FLAG_SERVES != 0,
        })
    }

    /// Reads the card of a node from the record that was found under its id. `None` if the owner has deleted it, or put
    /// something else there.
    #[must_use]
    pub fn of(record: &Record, scope: Scope) -> Option<Self> {
        Self::decode(&record.value(), scope).ok()
    }
}

/// A class and at most [`MAX_CANDIDATES`] candidates; relayed ones and those beyond are left out.
pub(super) fn write_candidates(
    body: &mut BodyWriter,
    class: NatClass,
    candidates: &[Candidate],
) -> Result<(), EncodeError> {
    body.value(&class_to_number(class))?;
    let direct = candidates
        .iter()
        .filter_map(|candidate| Some((kind_to_number(candidate.kind)?, candidate.address)));
    let direct: Vec<(u8, SocketAddr)> = direct.take(MAX_CANDIDATES).collect();
    body.count(direct.len())?;
    for (kind, address) in direct {
        body.value(&kind)?;
        body.value(&Socket::from(address))?;
    }
    Ok(())
}

/// The counterpart of [`write_candidates`], with what [`Card::decode`] leaves out.
pub(super) fn read_candidates(
    body: &mut BodyReader<'_>,
    scope: Scope,
) -> Result<(NatClass, Vec<Candidate>), DecodeError> {
    let class = class_from_number(body.value()?);
    let mut candidates = Vec::new();
    for _ in 0..body.count("candidates", MAX_CANDIDATES, 1 + SMALLEST_SOCKET)? {
        let kind = kind_from_number(body.value()?);
        let address = SocketAddr::from(body.value::<Socket>()?);
        candidates.extend(
            kind.map(|kind| Candidate { address, kind })
                .filter(|candidate| is_possible(candidate, scope)),
        );
    }
    Ok((class, candidates))
}

fn is_possible(candidate: &Candidate, scope: Scope) -> bool {
    match candidate.kind {
        CandidateKind::Lan => Scope::Any.admits(candidate.address),
        _ => scope.admits(candidate.address),
    }
}

const fn class_to_number(class: NatClass) -> u8 {
    match class {
        NatClass::Unknown => 0,
        NatClass::EndpointIndependent => 1,
        NatClass::EndpointDependent => 2,
    }
}

/// A class that is not known says nothing, as an unknown one does.
const fn class_from_number(number: u8) -> NatClass {
    match number {
        1 => NatClass::EndpointIndependent,
        2 => NatClass::EndpointDependent,
        _ => NatClass::Unknown,
    }
}

const fn kind_to_number(kind: CandidateKind) -> Option<u8> {
    match kind {
        CandidateKind::Lan => Some(0),
        CandidateKind::Verified => Some(1),
        CandidateKind::Mapped => Some(2),
        CandidateKind::Observed => Some(3),
        CandidateKind::Relayed => None,
    }
}

const fn kind_from_number(number: u8) -> Option<CandidateKind> {
    match number {
        0 => Some(CandidateKind::Lan),
        1 => Some(CandidateKind::Verified),
        2 => Some(CandidateKind::Mapped),
        3 => Some(CandidateKind::Observed),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
