//! Requests in flight: what was asked of whom, and how long an answer may take.

mod lateness;
mod percentile;

pub(crate) use self::lateness::{Lateness, Limits};
use crate::slab::Handle;
use crate::{Contact, FindValue, Instant, Request, Response};

/// One request that has been sent and not settled.
#[derive(Debug)]
pub(crate) struct Flight<A> {
    pub(crate) contact: Contact<A>,
    pub(crate) purpose: Purpose,
    pub(crate) asked: Asked,
    pub(crate) sent: Instant,
    pub(crate) limits: Limits,
    /// Its contact was suspected to be dead already when it was sent.
    pub(crate) suspected: bool,
    pub(crate) stage: Stage,
    /// Its contact has said since that it only asks: an answer still counts, and puts nobody into the table.
    pub(crate) declined: bool,
}

/// How far a request has come towards its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Waiting,
    /// Somebody else was asked as well.
    Late,
    /// Its query goes on without it, or has ended. An answer still counts, and shows that the contact lives.
    GivenUp,
}

impl<A> Flight<A> {
    /// When its timer must fire next.
    pub(crate) fn next(&self) -> Instant {
        self.sent
            + match self.stage {
                Stage::Waiting => self.limits.late.min(self.limits.given_up),
                Stage::Late => self.limits.given_up,
                Stage::GivenUp => self.limits.lost,
            }
    }
}

/// Why it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For a query.
    Query(Handle),
    /// To see whether a contact is alive.
    Probe,
}

/// What was asked, as far as the answer must fit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Ping,
    FindNode,
    FindValue(FindValue),
    Store { entries: usize },
    Compare { parts: usize },
    Fetch,
}

impl Asked {
    pub(crate) const fn of(request: &Request) -> Self {
        match request {
            Request::Ping => Self::Ping,
            Request::FindNode { .. } => Self::FindNode,
            Request::FindValue(ask) => Self::FindValue(*ask),
            Request::Store { entries } => Self::Store {
                entries: entries.len(),
            },
            Request::Compare { parts } => Self::Compare { parts: parts.len() },
            Request::Fetch { .. } => Self::Fetch,
        }
    }

    /// Whether the answer may have to wait for a disk.
    pub(crate) const fn waits_for_disk(&self) -> bool {
        matches!(self, Self::Store { .. } | Self::Compare { .. } | Self::Fetch)
    }

    /// Whether an answer is of the kind that was asked for. A rejection always is.
    pub(crate) const fn fits<A>(&self, response: &Response<A>) -> bool {
        match (self, response) {
            (_, Response::Rejected(_))
            | (Self::Ping, Response::Pong { .. })
            | (Self::FindNode, Response::Nodes { .. })
            | (Self::FindValue(_), Response::Values { .. })
            | (Self::Fetch, Response::Fetched { .. }) => true,
            (Self::Store { entries }, Response::Stored { verdicts, .. }) => verdicts.len() == *entries,
            (Self::Compare { parts }, Response::Compared { differences }) => differences.len() == *parts,
            (_, _) => false,
        }
    }
}
