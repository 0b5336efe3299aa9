//! Writing: find the region of a key and store at its k nearest.
//!
//! Where the nearest crowd implausibly close together, the record goes to the rest of the region as well (`region.rs`).
//!
//! While the walk still makes progress it asks FIND_NODE. Once it has come near, it asks STORE at once: the answer to a
//! STORE carries nearer contacts too, so most holders cost one request and not two.

use alloc::vec;
use alloc::vec::Vec;

use super::{Ownership, Region, Todo};
use crate::lookup::{Lookup, Step};
use crate::record::{Kind, Record};
use crate::{Address, Contact, Key, NodeId, Outcome, Request, StoreEntry, Verdict};

/// With fewer attempts the half of them says nothing of the rest.
const A_FEW: usize = 4;

#[derive(Debug)]
pub(crate) struct StoreTask<A> {
    entry: StoreEntry,
    role: Role,
    local: Local,
    /// Whether this node is one of the k nearest; known once the region is.
    counts: bool,
    /// The own id, if this node stores for others.
    me: Option<NodeId>,
    results: usize,
    attempts: Vec<(Contact<A>, Option<Verdict>)>,
    /// Holders to be told without a lookup.
    given: Vec<Contact<A>>,
    /// Acknowledgements of the k nearest that are enough.
    enough: usize,
    region: Region,
}

/// On whose behalf the record is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The application publishes it; `keep` makes it the node's own.
    Publish { keep: bool },
    /// It is the node's own and is stored again, then it is noted when that was.
    Replicate,
    /// Holders of an older version get the newest.
    Repair,
}

/// The copy in the own store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Local {
    Unasked,
    Asked,
    /// What it said; `None` if it was not to have one.
    Told(Option<Verdict>),
}

impl<A: Address> StoreTask<A> {
    /// `me` is the own id if this node stores for others, `results` is k.
    pub(crate) const fn new(
        entry: StoreEntry,
        role: Role,
        me: Option<NodeId>,
        results: usize,
        enough: usize,
        region: Region,
    ) -> Self {
        Self {
            entry,
            role,
            local: Local::Unasked,
            counts: false,
            me,
            results,
            attempts: Vec::new(),
            given: Vec::new(),
            enough,
            region,
        }
    }

    /// Stores at these contacts, whoever is nearest.
    pub(crate) fn at(record: Record, holders: Vec<Contact<A>>) -> Self {
        let region = Region::new(record.key(), 0, None);
        let entry = StoreEntry {
            record: Ok(record),
            expected: None,
        };
        Self {
            entry,
            role: Role::Repair,
            local: Local::Told(None),
            counts: false,
            me: None,
            results: 0,
            attempts: Vec::new(),
            given: holders,
            enough: usize::MAX,
            region,
        }
    }

    pub(crate) const fn role(&self) -> Role {
        self.role
    }

    /// Whether the own store has noted that the record was handed on; else it is still due.
    pub(crate) fn is_noted(&self) -> bool {
        matches!(self.local, Local::Told(Some(said)) if said.is_acknowledgement())
    }

    pub(crate) const fn key(&self) -> Key {
        self.region.key()
    }

    pub(super) const fn region(&self) -> &Region {
        &self.region
    }

    /// Whether so many of the k nearest hold the record that the application need not wait any longer. Where these are
    /// a crowd it has to wait for the region.
    pub(super) fn has_enough(&self, lookup: Option<&Lookup<A>>) -> bool {
        let Some(lookup) = lookup.filter(|_| self.attempts.len() >= self.enough) else {
            return false;
        };
        if self.region.is_wide() || self.region.is_suspect(lookup) {
            return false;
        }
        // Whoever lets us wait has been sent it and is likely dead. Only where a reader must meet the newest of several
        // versions does it count until that is known.
        let versions = self
            .entry
            .record
            .as_ref()
            .is_ok_and(|record| record.kind() == Kind::Mutable);
        let counts = |id: NodeId| match versions {
            true => lookup.is_among_nearest(id),
            false => lookup.is_among_nearest_in_time(id),
        };
        let acknowledged = |(contact, verdict): &&(Contact<A>, Option<Verdict>)| {
            verdict.is_some_and(|verdict| verdict.is_acknowledgement()) && counts(contact.id)
        };
        let kept = self.role != (Role::Publish { keep: true }) || self.is_noted();
        kept && self.attempts.iter().filter(acknowledged).count() >= self.enough
    }

    /// Whether most of those who were sent the record have answered. A few say nothing of the others.
    pub(super) fn is_mostly_told(&self) -> bool {
        let told = self.attempts.iter().filter(|(_, verdict)| verdict.is_some());
        self.attempts.len() < A_FEW || 2 * told.count() >= self.attempts.len()
    }

    pub(super) fn next(&mut self, lookup: Option<&mut Lookup<A>>, idle: bool) -> Todo<A> {
        if let Some(contact) = self.given.pop() {
            return self.attempt(contact);
        }
        let Some(lookup) = lookup else {
            return if idle { Todo::Finish } else { Todo::Wait };
        };
        // What is kept is kept at once, or an early end would promise too much. With a condition the nearest decide
        // first.
        if self.role == (Role::Publish { keep: true })
            && self.local == Local::Unasked
            && self.entry.expected.is_none()
        {
            self.local = Local::Asked;
            return Todo::Put(self.entry.clone(), Ownership::Own);
        }
        match lookup.next() {
            Step::Ask(contact) if self.may_store(lookup, contact.id) => self.attempt(contact),
            Step::Ask(contact) => Todo::Ask(
                contact,
                Request::FindNode {
                    target: lookup.target(),
                    card: false,
                },
            ),
            Step::Wait => Todo::Wait,
            Step::Done if self.region.is_wide() => self.complete_part(lookup, idle),
            Step::Done => self.complete(lookup, idle),
        }
    }

    /// Whether a contact that has not been heard from on this walk gets the record at once. Where a crowd is near it is
    /// asked who is nearest first: most of what a crowd tells of is made up or more of the crowd, and will not be among
    /// the k nearest.
    fn may_store(&self, lookup: &Lookup<A>, id: NodeId) -> bool {
        let arrived = lookup.is_near() || lookup.is_in_region(id);
        arrived && !self.region.is_wide() && !self.region.is_suspect(lookup)
    }

    /// The region is known: whoever of it has not been told is told now, the own store included.
    fn complete(&mut self, lookup: &Lookup<A>, idle: bool) -> Todo<A> {
        let missing = lookup
            .results()
            .find(|contact| !self.attempts.iter().any(|(tried, _)| tried.id == contact.id));
        if let Some(contact) = missing {
            return self.attempt(contact);
        }
        self.counts = self.me.is_some_and(|me| {
            let own = me.distance(lookup.target());
            let nearer = |contact: &Contact<A>| contact.id.distance(lookup.target()) < own;
            lookup.results().filter(nearer).count() < self.results
        });
        if self.local == Local::Unasked {
            let ownership = match self.role {
                Role::Publish { keep: true } | Role::Replicate => Some(Ownership::Own),
                Role::Publish { keep: false } => self.counts.then_some(Ownership::Others),
                Role::Repair => None,
            };
            if let Some(ownership) = ownership {
                self.local = Local::Asked;
                // A copy that is only kept is no holder's: what this node happens to have says nothing of a rival.
                let entry = StoreEntry {
                    expected: self.entry.expected.filter(|_| self.counts),
                    ..self.entry.clone()
                };
                return Todo::Put(entry, ownership);
            }
            self.local = Local::Told(None);
        }
        match self.local {
            Local::Told(_) if idle && self.region.is_crowded(lookup) => self.widen(),
            Local::Told(_) if idle => Todo::Finish,
            Local::Told(_) | Local::Asked | Local::Unasked => Todo::Wait,
        }
    }

    /// A part of the region is known: whoever is in it takes the record too.
    fn complete_part(&mut self, lookup: &Lookup<A>, idle: bool) -> Todo<A> {
        let tried = |id| self.attempts.iter().any(|(tried, _)| tried.id == id);
        let missing = lookup
            .results()
            .find(|contact| self.region.wants(contact.id) && !tried(contact.id));
        match missing {
            Some(contact) if self.attempts.len() < self.region.room() => self.attempt(contact),
            None if idle => self.widen(),
            Some(_) if idle => Todo::Finish,
            Some(_) | None => Todo::Wait,
        }
    }

    fn widen(&mut self) -> Todo<A> {
        match self.region.next_part() {
            Some(bucket) => Todo::LookInto { bucket },
            None => Todo::Finish,
        }
    }

    fn attempt(&mut self, contact: Contact<A>) -> Todo<A> {
        if !self.attempts.iter().any(|(tried, _)| tried.id == contact.id) {
            self.attempts.push((contact.clone(), None));
        }
        Todo::Ask(
            contact,
            Request::Store {
                entries: vec![self.entry.clone()],
            },
        )
    }

    pub(super) fn on_verdict(&mut self, id: NodeId, verdict: Verdict) {
        if let Some((_, held)) = self.attempts.iter_mut().find(|(tried, _)| tried.id == id) {
            *held = Some(verdict);
        }
    }

    /// Whether a STORE, and not a FIND_NODE, has failed.
    pub(super) fn on_failure(&mut self, id: NodeId) -> bool {
        let before = self.attempts.len();
        self.attempts
            .retain(|(tried, verdict)| tried.id != id || verdict.is_some());
        self.attempts.len() < before
    }

    pub(super) const fn on_put(&mut self, said: Verdict) {
        self.local = Local::Told(Some(said));
    }

    /// What is known by now.
    pub(super) fn outcome(&self) -> Option<Outcome<A>> {
        let local = self.is_noted() && self.counts;
        let kept = match (self.role, self.local) {
            (Role::Publish { keep: true }, Local::Told(said)) => said,
            _ => None,
        };
        let (mut holders, mut refused) = (Vec::new(), Vec::new());
        for (contact, verdict) in &self.attempts {
            match verdict {
                Some(verdict) if verdict.is_acknowledgement() => holders.push(contact.clone()),
                Some(verdict) => refused.push((contact.clone(), *verdict)),
                None => {}
            }
        }
        let anybody = local || !holders.is_empty() || !refused.is_empty();
        anybody.then_some(Outcome::Stored {
            holders,
            local,
            kept,
            refused,
        })
    }
}
