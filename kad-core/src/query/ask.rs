//! One question to one contact: which contacts does it know near a point?

use alloc::vec::Vec;

use crate::{Contact, Duration, Key, MAX_CLOSER, NodeId, Outcome, QueryError, Request};

/// A FIND_NODE that goes to one contact and nobody else, whatever it answers.
#[derive(Debug, Clone)]
pub(crate) struct Ask<A> {
    contact: Contact<A>,
    target: Key,
    asked: bool,
    told: Option<(Vec<Contact<A>>, Duration)>,
    /// Why there is no answer; silence unless something else was seen.
    why: QueryError,
}

impl<A: Clone> Ask<A> {
    /// Nothing is sent if it is `local` that would be asked.
    pub(crate) fn new(local: NodeId, contact: Contact<A>, target: Key) -> Self {
        Self {
            asked: contact.id == local,
            contact,
            target,
            told: None,
            why: QueryError::Unanswered,
        }
    }

    /// The question, once.
    pub(crate) fn next(&mut self) -> Option<(Contact<A>, Request)> {
        let first = !core::mem::replace(&mut self.asked, true);
        let target = self.target;
        first.then(|| (self.contact.clone(), Request::FindNode { target, card: false }))
    }

    /// The answer. Unlike on a walk, contacts that this node found dead are told as well: who asks one contact wants to
    /// know what that one believes.
    pub(crate) fn on_told(&mut self, mut closer: Vec<Contact<A>>, took: Duration) {
        closer.truncate(MAX_CLOSER);
        self.told = Some((closer, took));
    }

    /// There will be no answer, and not for want of a sign of life.
    pub(crate) const fn explain(&mut self, why: QueryError) {
        self.why = why;
    }

    /// What came of it; `sent` says whether the question left this node.
    pub(crate) fn outcome(&self, sent: bool) -> Outcome<A> {
        match self.told.clone() {
            Some((closer, took)) => Outcome::Told { closer, took },
            None if !sent => Outcome::Failed(QueryError::NotAsked),
            None => Outcome::Failed(self.why),
        }
    }
}
