//! Reading: FIND_VALUE on the way to a key, until there is enough.

use alloc::vec::Vec;
use core::cmp::Ordering;

use super::{Misfit, Region, Todo};
use crate::lookup::{Lookup, Step};
use crate::record::{Record, precedence};
use crate::{
    Address, Contact, FindValue, Found, Holder, Key, Kind, MAX_RECORDS, NodeId, Outcome, Read, Request,
    StoreReply, Want,
};

/// The most holders that a read remembers; a census of the k nearest and of those that were asked on the way fits.
const MAX_HOLDERS: usize = 128;

/// The most pages of providers that one holder is asked for, so that nobody can make us read forever.
const MAX_PAGES: usize = 16;

/// Nodes of a crowded key's region that are asked for a record at once: the first is likely to have it.
const ASKED_AT_ONCE: usize = 3;

/// The most providers that a read gathers.
const MAX_GATHERED: usize = MAX_PAGES * MAX_RECORDS;

#[derive(Debug)]
pub(crate) struct FindValueTask<A> {
    ask: FindValue,
    read: Read,
    local: Local,
    records: Vec<Record>,
    holders: Vec<Holder<A>>,
    /// Holders that have more providers, and where to go on.
    pages: Vec<(Contact<A>, NodeId)>,
    pages_asked: usize,
    /// Where the page began that a holder was asked for last, if it was not the first.
    reading: Vec<(NodeId, NodeId)>,
    region: Region,
    /// Who was asked since the nearest were found to be a crowd, they included: at most k for the key and for each
    /// part.
    asked: Vec<NodeId>,
}

/// What the own store was asked: always first, since it costs nobody anything.
#[derive(Debug, PartialEq, Eq)]
enum Local {
    Unasked,
    Asked,
    Told,
}

impl<A: Address> FindValueTask<A> {
    pub(crate) const fn new(ask: FindValue, read: Read, region: Region) -> Self {
        Self {
            ask,
            read,
            local: Local::Unasked,
            records: Vec::new(),
            holders: Vec::new(),
            pages: Vec::new(),
            pages_asked: 0,
            reading: Vec::new(),
            region,
            asked: Vec::new(),
        }
    }

    pub(super) const fn region(&self) -> &Region {
        &self.region
    }

    pub(super) fn next(&mut self, lookup: &mut Lookup<A>, idle: bool) -> Todo<A> {
        match self.local {
            Local::Unasked => {
                self.local = Local::Asked;
                return Todo::Get(self.ask);
            }
            Local::Asked => return Todo::Wait,
            Local::Told => {}
        }
        if self.has_enough() {
            return Todo::Finish;
        }
        if let Some((holder, after)) = self.pages.pop() {
            self.reading.retain(|(id, _)| *id != holder.id);
            self.reading.push((holder.id, after));
            return Todo::Ask(
                holder,
                Request::FindValue(FindValue {
                    after: Some(after),
                    ..self.ask
                }),
            );
        }
        match lookup.next() {
            Step::Ask(contact) if self.region.is_wide() => Todo::Ask(
                contact,
                Request::FindNode {
                    target: lookup.target(),
                    card: false,
                },
            ),
            Step::Ask(contact) => Todo::Ask(contact, Request::FindValue(self.ask)),
            Step::Done if self.region.is_wide() => self.ask_part(lookup, idle),
            Step::Done if idle && self.read != Read::Census && self.region.is_crowded(lookup) => {
                self.asked.extend(lookup.results().map(|contact| contact.id));
                self.look_further()
            }
            Step::Done if idle => Todo::Finish,
            Step::Wait | Step::Done => Todo::Wait,
        }
    }

    /// A part of the region is known: whoever is in it is asked too, a few at a time.
    fn ask_part(&mut self, lookup: &Lookup<A>, idle: bool) -> Todo<A> {
        let wanted =
            |contact: &Contact<A>| self.region.wants(contact.id) && !self.asked.contains(&contact.id);
        match lookup.results().find(wanted) {
            Some(contact) if idle || !self.asked.len().is_multiple_of(ASKED_AT_ONCE) => {
                self.asked.push(contact.id);
                Todo::Ask(contact, Request::FindValue(self.ask))
            }
            None if idle => self.look_further(),
            Some(_) | None => Todo::Wait,
        }
    }

    fn look_further(&mut self) -> Todo<A> {
        match self.region.next_part() {
            Some(bucket) => Todo::LookInto { bucket },
            None => Todo::Finish,
        }
    }

    fn has_enough(&self) -> bool {
        match self.read {
            Read::First => !self.records.is_empty(),
            Read::Quorum(holders) => self.holders.len() >= holders,
            Read::Gather(providers) => {
                // Those that withdrew are no answer.
                let live = self
                    .records
                    .iter()
                    .filter(|record| !record.is_tombstone())
                    .count();
                live >= providers || self.records.len() >= MAX_GATHERED
            }
            Read::Census => false,
        }
    }

    /// What somebody holds; `None` is the own store.
    pub(super) fn on_values(
        &mut self,
        from: Option<&Contact<A>>,
        found: Vec<Found>,
        next: Option<NodeId>,
    ) -> Result<(), Misfit> {
        let fits = |found: &Found| match found {
            Found::Record(record) => {
                self.ask.want == Want::Record
                    && record.key() == self.ask.key
                    && record.kind() == self.ask.kind
            }
            Found::Digest { .. } => self.ask.want == Want::Digest,
        };
        let many = if self.ask.kind == Kind::Provider {
            MAX_RECORDS
        } else {
            1
        };
        if found.len() > many || !found.iter().all(fits) {
            return Err(Misfit);
        }
        let is_empty = found.is_empty();
        let last = found.last().and_then(|found| match found {
            Found::Record(record) => Some(record.slot().provider),
            Found::Digest { .. } => None,
        });
        for found in found {
            let (seq, digest) = match &found {
                Found::Record(record) => (record.seq(), record.digest()),
                Found::Digest { seq, digest } => (*seq, *digest),
            };
            self.add_holder(Holder {
                contact: from.cloned(),
                seq,
                digest,
            });
            if let Found::Record(record) = found {
                self.add_record(record);
            }
        }
        // A page without records still leads on: those that it looked at may have ended.
        if let (Some(next), Some(from)) = (next, from)
            && (is_empty || last.is_some())
            && self.leads_on(from.id, last, next)
            && self.ask.kind == Kind::Provider
            && self.pages_asked < MAX_PAGES
        {
            self.pages_asked += 1;
            self.pages.push((from.clone(), next));
        }
        Ok(())
    }

    /// Whether there is more behind a page. It ends where the holder has gone round to where the first page began; and
    /// it must lead on, or a holder could send us round for ever.
    fn leads_on(&self, holder: NodeId, last: Option<NodeId>, next: NodeId) -> bool {
        let page = self.reading.iter().find(|(id, _)| *id == holder);
        let after = page.map(|(_, after)| *after);
        let asked = FindValue {
            after: after.or(self.ask.after),
            ..self.ask
        };
        let is_behind_last = last.is_none_or(|last| asked.turn_of(next) >= asked.turn_of(last));
        let turn = |provider| self.ask.turn_of(provider);
        let is_further = after.is_none_or(|after| turn(next) > turn(after));
        is_behind_last && is_further && self.ask.after != Some(next)
    }

    fn add_holder(&mut self, holder: Holder<A>) {
        let id = |holder: &Holder<A>| holder.contact.as_ref().map(|contact| contact.id);
        let known = self.holders.iter().any(|held| id(held) == id(&holder));
        if !known && self.holders.len() < MAX_HOLDERS {
            self.holders.push(holder);
        }
    }

    fn add_record(&mut self, record: Record) {
        let slot = record.slot();
        let room = self.records.len() < MAX_GATHERED;
        match self.records.iter_mut().find(|held| held.slot() == slot) {
            Some(held) if precedence(record.as_raw(), held.as_raw()) == Ordering::Greater => *held = record,
            Some(_) => {}
            None if room => self.records.push(record),
            None => {}
        }
    }

    pub(super) fn on_store(&mut self, reply: StoreReply) {
        self.local = Local::Told;
        if let StoreReply::Found { found, .. } = reply {
            // The own store answers in the same form as a peer; a misfit there would be a bug of the driver, and is a
            // miss.
            let _ = self.on_values(None, found, None);
        }
    }

    /// The newest version, and the holders that answered with an older one.
    pub(crate) fn repair(&self) -> Option<(Record, Vec<Contact<A>>)> {
        if !matches!(self.read, Read::Quorum(_)) || self.ask.kind != Kind::Mutable {
            return None;
        }
        let newest = self.newest()?;
        let digest = newest.digest();
        let stale = self.holders.iter().filter(|holder| holder.digest != digest);
        let stale: Vec<_> = stale.filter_map(|holder| holder.contact.clone()).collect();
        (!stale.is_empty()).then(|| (newest.clone(), stale))
    }

    pub(crate) const fn key(&self) -> Key {
        self.ask.key
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.ask.kind
    }

    /// The newest version that was found.
    pub(crate) fn newest(&self) -> Option<&Record> {
        self.records.first()
    }

    /// The peer that was found to be a holder last.
    pub(super) fn last_holder(&self) -> Option<NodeId> {
        self.holders.last()?.contact.as_ref().map(|contact| contact.id)
    }

    pub(super) fn outcome(&self) -> Option<Outcome<A>> {
        let withdrawn = |record: &Record| self.ask.kind == Kind::Provider && record.is_tombstone();
        let found = !self.holders.is_empty();
        found.then(|| Outcome::Found {
            records: self
                .records
                .iter()
                .filter(|record| !withdrawn(record))
                .cloned()
                .collect(),
            holders: self.holders.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
