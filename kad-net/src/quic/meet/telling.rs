//! What both ends of a session tell each other over their own authenticated connection: where they are, how their NATs
//! choose ports, and whether many ports are to be tried. Neither the relay nor a stranger can say that for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use kad_core::NodeId;
use quinn::{RecvStream, SendStream};

use super::birthday;
use super::punching::Attempt;
use super::session::Session;
use crate::nat::candidates::{Candidate, CandidateKind, MAX_CANDIDATES};
use crate::nat::observation::{Family, NatClass};
use crate::quic::application::{ReachStream, STREAM_REACH};
use crate::quic::error::code;
use crate::quic::reach::Opened;
use crate::quic::shared::Shared;
use crate::wire::reach::{MAX_REACH_FRAME, ReachAnswer, ReachRefusal, ReachRequest};

/// How long the other end may take to say where it is: some round trips.
const TELLS_WITHIN: Duration = Duration::from_secs(5);

/// A peer asks something over a connection of applications.
pub(super) fn asked(shared: &Arc<Shared>, asked: ReachStream) {
    let ReachStream {
        peering,
        path,
        mut send,
        mut recv,
    } = asked;
    let session = shared.meetings.sessions.of(path.connection.remote_address());
    let turn = shared.meetings.asked.clone().try_acquire_owned();
    let (Some(alive), Ok(turn)) = (shared.tasks.token(), turn) else {
        return refuse(&mut send, &mut recv, code::BUSY);
    };
    let Some(session) = session else {
        // Only who comes through a relay has to be told where we are.
        return refuse(&mut send, &mut recv, code::UNKNOWN_STREAM);
    };
    let (shared, connection) = (shared.clone(), path.connection.clone());
    tokio::spawn(async move {
        let _alive = alive;
        let deadline = shared.limits.stream_deadline;
        let answered = tokio::time::timeout(
            deadline,
            answer(&shared, &session, peering.peer, &mut send, &mut recv),
        )
        .await;
        drop(turn);
        let Ok(answered) = answered else {
            return refuse(&mut send, &mut recv, code::TOO_SLOW);
        };
        // One attempt for each session, and only for those that others have opened: who opens one asks.
        let first = session.arrived && !session.told.swap(true, Ordering::Relaxed);
        if let Some((class, candidates)) = answered.filter(|_| first) {
            let attempt = Attempt::new(shared, peering, session, connection);
            attempt.run(class, candidates, false).await;
        }
    });
}

/// Reads where the peer is, and says where we are. Begins an attempt by many ports if the peer asks for that and it may
/// be.
async fn answer(
    shared: &Arc<Shared>,
    session: &Session,
    peer: NodeId,
    send: &mut SendStream,
    recv: &mut RecvStream,
) -> Option<(NatClass, Vec<Candidate>)> {
    let Ok(frame) = recv.read_to_end(MAX_REACH_FRAME).await else {
        refuse(send, recv, code::TOO_LARGE);
        return None;
    };
    let request = ReachRequest::decode(&Bytes::from(frame), shared.meetings.scope());
    let mut begin = None;
    let (frame, told) = match request {
        Ok(request) => match &request {
            ReachRequest::Candidates {
                class,
                candidates,
                birthday,
            } => {
                let (own, ours) = own(shared, &session.opened);
                if *birthday {
                    begin = birthday::grant(shared, session, peer, (own, *class), candidates);
                }
                let answer = ReachAnswer::Candidates {
                    class: own,
                    candidates: ours,
                    birthday: begin.is_some(),
                };
                (answer.encode(&request), Some((*class, candidates.clone())))
            }
            _ => (ReachAnswer::refusal(ReachRefusal::Unsupported), None),
        },
        Err(error) => (ReachAnswer::refusal(ReachRefusal::of_error(&error)), None),
    };
    // A peer that is gone needs no answer, and its connection tells of it.
    send.write_chunk(frame.ok()?).await.ok()?;
    send.finish().ok()?;
    if let Some((place, begin)) = begin {
        place.send(begin);
    }
    told
}

/// What both ends have told each other.
pub(super) struct Told {
    /// The class that we have said we are of.
    pub(super) own: NatClass,
    /// What the peer says.
    pub(super) class: NatClass,
    pub(super) candidates: Vec<Candidate>,
    /// Whether it begins the attempt by many ports that we have asked for.
    pub(super) birthday: bool,
}

/// Tells the other end where we are, and learns where it is; with `birthday` it is also asked for an attempt by many
/// ports.
pub(super) async fn ask(
    shared: &Shared,
    session: &Session,
    relayed: &quinn::Connection,
    birthday: bool,
) -> Option<Told> {
    let (own, candidates) = own(shared, &session.opened);
    let request = ReachRequest::Candidates {
        class: own,
        candidates,
        birthday,
    };
    let frame = request.encode().ok()?;
    let asking = async {
        let (mut send, mut recv) = relayed.open_bi().await.ok()?;
        let mut chunks = [Bytes::from_static(&[STREAM_REACH]), frame];
        send.write_all_chunks(&mut chunks).await.ok()?;
        send.finish().ok()?;
        recv.read_to_end(MAX_REACH_FRAME).await.ok()
    };
    let answer = tokio::time::timeout(TELLS_WITHIN, asking).await.ok()??;
    match ReachAnswer::decode(&Bytes::from(answer), &request, shared.meetings.scope()) {
        Ok(ReachAnswer::Candidates {
            class,
            candidates,
            birthday,
        }) => Some(Told {
            own,
            class,
            candidates,
            birthday,
        }),
        // A peer that does not punch: the relay is what there is.
        _ => None,
    }
}

/// What this node says of itself to the other end of a session. Where the relay sees it comes first to be kept: a node
/// that has just started knows no other address, and behind a NAT that gives every destination another port it still
/// tells the host.
pub(super) fn own(shared: &Shared, opened: &Opened) -> (NatClass, Vec<Candidate>) {
    let standing = shared.reach.standing();
    let standing = standing.borrow();
    let mut candidates = standing.candidates();
    if candidates
        .iter()
        .all(|candidate| candidate.address != opened.seen)
    {
        candidates.truncate(MAX_CANDIDATES - 1);
        candidates.push(Candidate {
            address: opened.seen,
            kind: CandidateKind::Observed,
        });
    }
    #[cfg(test)]
    if let Some(class) = *shared
        .meetings
        .class
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
    {
        return (class, candidates);
    }
    // Punches go where the relay sees the two, so it is the NAT of that family that matters.
    (standing.class_of(Family::of(opened.seen.ip())), candidates)
}

fn refuse(send: &mut SendStream, recv: &mut RecvStream, code: quinn::VarInt) {
    // Ended already is what we want.
    let _ = send.reset(code);
    let _ = recv.stop(code);
}
