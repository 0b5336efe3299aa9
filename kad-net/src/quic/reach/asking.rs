//! One request to a peer, within a deadline.

use std::time::Duration;

use crate::quic::QuicError;
use crate::quic::error::code;
use crate::quic::exchange::{self, STREAM_REACH};
use crate::quic::pool::InUse;
use crate::quic::shared::Shared;
use crate::wire::Scope;
use crate::wire::reach::{ReachAnswer, ReachRefusal, ReachRequest};

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotHeard {
    /// The peer does not want to, or does not know how.
    Refused(ReachRefusal),
    /// It did not answer in time, or not with sense, or the connection is gone.
    Nothing,
}

/// Asks over a connection that stands. A refusal is no answer.
pub(super) async fn ask(
    shared: &Shared,
    link: &InUse,
    request: &ReachRequest,
    within: Duration,
) -> Result<ReachAnswer, NotHeard> {
    let frame = request.encode().map_err(|_| NotHeard::Nothing)?;
    let asked = exchange::ask(shared, link, STREAM_REACH, frame);
    let answer = match tokio::time::timeout(within, asked).await {
        Ok(Ok((frame, _))) => frame,
        Ok(Err(broken)) => return Err(NotHeard::of(&broken.error)),
        Err(_) => return Err(NotHeard::Nothing),
    };
    // Candidates are asked for elsewhere, and nothing else here depends on the scope.
    match ReachAnswer::decode(&answer, request, Scope::Any) {
        Ok(ReachAnswer::Refused(why)) => Err(NotHeard::Refused(why)),
        Ok(answer) => Ok(answer),
        Err(_) => Err(NotHeard::Nothing),
    }
}

impl NotHeard {
    fn of(error: &QuicError) -> Self {
        match error {
            QuicError::Busy => Self::Refused(ReachRefusal::Busy),
            // A node that does not know such streams.
            QuicError::Refused { code } if *code == code::UNKNOWN_STREAM.into_inner() => {
                Self::Refused(ReachRefusal::Unsupported)
            }
            _ => Self::Nothing,
        }
    }
}
