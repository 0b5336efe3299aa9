//! The bodies of requests.

use bytes::Bytes;
use kad_core::NodeId;

use super::{
    ReachRequest, kind, read_host, read_session, read_socket, read_wait, write_birthday, write_host,
    write_session, write_socket, write_wait,
};
use crate::nat::dial_back::{CHECK_BYTES, DIAL_BACK_BYTES};
use crate::wire::body::{BodyReader, BodyWriter};
use crate::wire::card::{read_candidates, write_candidates};
use crate::wire::{DecodeError, EncodeError, HEADER_BYTES, Scope};

/// Enough for all but those with candidates, and not worth being exact.
const SIZE_HINT: usize = 96;

/// Bytes behind the padding: the empty list of extensions.
const BEHIND: usize = 1;

pub(super) const fn kind(request: &ReachRequest) -> u8 {
    match request {
        ReachRequest::Hello => kind::HELLO,
        ReachRequest::Check { .. } => kind::CHECK,
        ReachRequest::DialBack { .. } => kind::DIAL_BACK,
        ReachRequest::Reserve => kind::RESERVE,
        ReachRequest::Keep => kind::KEEP,
        ReachRequest::Release => kind::RELEASE,
        ReachRequest::Open { .. } => kind::OPEN,
        ReachRequest::Incoming { .. } => kind::INCOMING,
        ReachRequest::Close { .. } => kind::CLOSE,
        ReachRequest::Meet { .. } => kind::MEET,
        ReachRequest::Go { .. } => kind::GO,
        ReachRequest::Candidates { .. } => kind::CANDIDATES,
    }
}

pub(super) fn encode(request: &ReachRequest) -> Result<Bytes, EncodeError> {
    match request {
        ReachRequest::Check { address, nonce } => padded(kind::CHECK, *address, *nonce, CHECK_BYTES),
        ReachRequest::DialBack { address, nonce } => {
            padded(kind::DIAL_BACK, *address, *nonce, DIAL_BACK_BYTES)
        }
        _ => {
            let mut body = BodyWriter::new(kind(request), 0, SIZE_HINT);
            write(&mut body, request)?;
            match request {
                ReachRequest::Candidates { birthday, .. } => write_birthday(body, *birthday),
                _ => body.finish(),
            }
        }
    }
}

/// The frame of a request that has to be as large as what it causes.
fn padded(
    kind: u8,
    address: std::net::SocketAddr,
    nonce: [u8; 16],
    size: usize,
) -> Result<Bytes, EncodeError> {
    let mut part = BodyWriter::part();
    write_socket(&mut part, address)?;
    part.value(&nonce)?;
    let part = part.into_part();
    // The length of so short a list is one byte.
    let rest = size.saturating_sub(HEADER_BYTES + part.len() + 1 + BEHIND);
    let mut body = BodyWriter::new(kind, 0, size);
    write_socket(&mut body, address)?;
    body.value(&nonce)?;
    body.bytes(&vec![0; rest])?;
    body.finish()
}

fn write(body: &mut BodyWriter, request: &ReachRequest) -> Result<(), EncodeError> {
    match request {
        ReachRequest::Hello
        | ReachRequest::Reserve
        | ReachRequest::Keep
        | ReachRequest::Release
        // Written with their padding.
        | ReachRequest::Check { .. }
        | ReachRequest::DialBack { .. } => Ok(()),
        ReachRequest::Open { to } => body.value(&to.to_bytes()),
        ReachRequest::Incoming {
            session,
            from,
            from_host,
            seen,
            limits,
        } => {
            write_session(body, *session)?;
            body.value(&from.to_bytes())?;
            write_host(body, *from_host)?;
            write_socket(body, *seen)?;
            body.value(limits)
        }
        ReachRequest::Close { session } | ReachRequest::Meet { session } => write_session(body, *session),
        ReachRequest::Go { session, wait } => {
            write_session(body, *session)?;
            write_wait(body, *wait)
        }
        ReachRequest::Candidates { class, candidates, .. } => write_candidates(body, *class, candidates),
    }
}

pub(super) fn read(kind: u8, body: &mut BodyReader<'_>, scope: Scope) -> Result<ReachRequest, DecodeError> {
    Ok(match kind {
        kind::HELLO => ReachRequest::Hello,
        kind::CHECK | kind::DIAL_BACK => {
            let (address, nonce) = (read_socket(body)?, body.value()?);
            let _padding = body.bytes()?;
            match kind {
                kind::CHECK => ReachRequest::Check { address, nonce },
                _ => ReachRequest::DialBack { address, nonce },
            }
        }
        kind::RESERVE => ReachRequest::Reserve,
        kind::KEEP => ReachRequest::Keep,
        kind::RELEASE => ReachRequest::Release,
        kind::OPEN => ReachRequest::Open {
            to: NodeId::from_bytes(body.value()?),
        },
        kind::INCOMING => ReachRequest::Incoming {
            session: read_session(body)?,
            from: NodeId::from_bytes(body.value()?),
            from_host: read_host(body)?,
            seen: read_socket(body)?,
            limits: body.value()?,
        },
        kind::CLOSE => ReachRequest::Close {
            session: read_session(body)?,
        },
        kind::MEET => ReachRequest::Meet {
            session: read_session(body)?,
        },
        kind::GO => ReachRequest::Go {
            session: read_session(body)?,
            wait: read_wait(body)?,
        },
        kind::CANDIDATES => {
            let (class, candidates) = read_candidates(body, scope)?;
            ReachRequest::Candidates {
                class,
                candidates,
                // Read with the end of the frame.
                birthday: false,
            }
        }
        unknown => return Err(DecodeError::UnknownKind(unknown)),
    })
}
