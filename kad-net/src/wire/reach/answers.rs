//! The bodies of answers.

use bytes::Bytes;
use kad_core::Duration;

use super::{
    EXTENSION_ALSO, ReachAnswer, ReachRefusal, kind, read_host, read_session, read_socket, read_wait,
    write_also, write_birthday, write_host, write_session, write_socket, write_wait,
};
use crate::wire::body::{BodyReader, BodyWriter};
use crate::wire::card::{read_candidates, write_candidates};
use crate::wire::{DecodeError, EncodeError, Scope};

/// Enough for all but those with candidates, and not worth being exact.
const SIZE_HINT: usize = 64;

pub(super) fn encode(answer: &ReachAnswer, asked: u8) -> Result<Bytes, EncodeError> {
    let kind = match answer {
        ReachAnswer::Refused(_) => kind::REFUSED,
        _ => asked | kind::ANSWER,
    };
    let mut body = BodyWriter::new(kind, 0, SIZE_HINT);
    match answer {
        ReachAnswer::Hello {
            observed,
            serves,
            relays,
            ..
        } => {
            write_socket(&mut body, *observed)?;
            body.value(&u8::from(*serves))?;
            body.value(&u8::from(*relays))?;
        }
        ReachAnswer::Done => {}
        ReachAnswer::Reserved { lifetime, limits } => {
            body.value(&lifetime.as_secs())?;
            body.value(limits)?;
        }
        ReachAnswer::Kept { observed } => write_socket(&mut body, *observed)?,
        ReachAnswer::Opened {
            session,
            peer_host,
            seen,
            limits,
        } => {
            write_session(&mut body, *session)?;
            write_host(&mut body, *peer_host)?;
            write_socket(&mut body, *seen)?;
            body.value(limits)?;
        }
        ReachAnswer::Meet { wait } => write_wait(&mut body, *wait)?,
        ReachAnswer::Candidates {
            class,
            candidates,
            birthday,
        } => {
            write_candidates(&mut body, *class, candidates)?;
            return write_birthday(body, *birthday);
        }
        ReachAnswer::Refused(why) => body.value(&why.number())?,
    }
    match answer {
        ReachAnswer::Hello { also: Some(also), .. } => {
            body.finish_with(Some((EXTENSION_ALSO, &write_also(*also)?)))
        }
        _ => body.finish(),
    }
}

pub(super) fn read(
    kind: u8,
    asked: u8,
    body: &mut BodyReader<'_>,
    scope: Scope,
) -> Result<ReachAnswer, DecodeError> {
    if kind == kind::REFUSED {
        return Ok(ReachAnswer::Refused(ReachRefusal::of_number(body.value()?)));
    }
    if kind != asked | kind::ANSWER {
        return Err(DecodeError::UnexpectedAnswer(kind));
    }
    Ok(match asked {
        kind::HELLO => ReachAnswer::Hello {
            observed: read_socket(body)?,
            serves: read_flag(body)?,
            relays: read_flag(body)?,
            // An extension, which comes later.
            also: None,
        },
        kind::RESERVE => ReachAnswer::Reserved {
            lifetime: Duration::from_secs(body.value()?),
            limits: body.value()?,
        },
        kind::KEEP => ReachAnswer::Kept {
            observed: read_socket(body)?,
        },
        kind::OPEN => ReachAnswer::Opened {
            session: read_session(body)?,
            peer_host: read_host(body)?,
            seen: read_socket(body)?,
            limits: body.value()?,
        },
        kind::MEET => ReachAnswer::Meet {
            wait: read_wait(body)?,
        },
        kind::CANDIDATES => {
            let (class, candidates) = read_candidates(body, scope)?;
            ReachAnswer::Candidates {
                class,
                candidates,
                // Read with the end of the frame.
                birthday: false,
            }
        }
        // All that are left have nothing to say.
        _ => ReachAnswer::Done,
    })
}

/// Yes or no; another byte is neither.
fn read_flag(body: &mut BodyReader<'_>) -> Result<bool, DecodeError> {
    match body.value::<u8>()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Body),
    }
}
