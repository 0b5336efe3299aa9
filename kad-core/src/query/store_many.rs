//! Writing many records at once: one lookup for all of a region, then batches of STORE to its nodes.
//!
//! ```text
//!   keep, if asked to ─► walk to a region ─► STOREs, k nodes for each record ─► the own copies ─► done
//!   (page by page)          ▲                (allotment.rs)        │            (where this node is one of the k)
//!                           └──── records of another region? ◄─────┘
//! ```
//!
//! Unlike a single write it is not told to be done early: whoever stores many wants to know of each.

use alloc::vec::Vec;

use super::allotment::{Allotment, Placing, Said};
use super::{Again, Todo};
use crate::lookup::{Lookup, Step};
use crate::message::MAX_RECORDS;
use crate::{Address, NodeId, Outcome, Placement, Prefix, Record, Request, StoreEntry, StoreReply, Verdict};

/// Nodes that have failed and get nothing more of the same command; when there are more, the first is forgotten. Twice
/// as many as can be given up by all queries together and still answer.
const MAX_GONE: usize = 256;

/// Records of a region on their way.
#[derive(Debug)]
pub(crate) struct StoreMany<A> {
    /// The region that is being walked to.
    region: Prefix,
    keep: bool,
    enough: usize,
    placing: Placing,
    state: State,
    records: Vec<Record>,
    /// What becomes of each record.
    fates: Vec<Fate<A>>,
    /// What the own store said of each record that it was asked about.
    said: Vec<Option<Verdict>>,
    allotment: Option<Allotment<A>>,
    /// Nodes that have failed. An answer of theirs may still come, and must not be taken for that to another STORE.
    gone: Vec<NodeId>,
    /// Places of the records that the own store is being asked about.
    asked: Vec<usize>,
}

#[derive(Debug)]
enum Fate<A> {
    /// Its region was not walked to yet.
    Open,
    /// It is so many-th in the allotment.
    Allotted(usize),
    /// All that were to be asked were.
    Told {
        said: Said<A>,
        /// When this node, if it keeps it, stores it again.
        again: Again,
        /// Whether this node is one of the k nearest.
        is_ours: bool,
    },
    /// It wants a lookup of its own.
    Alone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The own store is to keep a page of the records, from this one on.
    Keeping {
        from: usize,
    },
    Walking,
    Sending,
    /// The own store is to take a page of those that belong to this node, or to note when those that it keeps are due
    /// again, one group after the other.
    Holding {
        from: usize,
        again: Again,
    },
    Over,
}

impl<A: Address> StoreMany<A> {
    /// With `keep` this node keeps the records as its own. They are soon due again until it is known that enough took
    /// them, however this ends.
    pub(crate) fn new(
        region: Prefix,
        records: Vec<Record>,
        keep: bool,
        placing: Placing,
        enough: usize,
    ) -> Self {
        Self {
            region,
            keep,
            enough,
            placing,
            state: match keep {
                true => State::Keeping { from: 0 },
                false => State::Walking,
            },
            fates: records.iter().map(|_| Fate::Open).collect(),
            said: alloc::vec![None; records.len()],
            records,
            allotment: None,
            gone: Vec::new(),
            asked: Vec::new(),
        }
    }

    pub(super) fn next(&mut self, lookup: Option<&mut Lookup<A>>, idle: bool) -> Todo<A> {
        if !self.asked.is_empty() {
            return Todo::Wait;
        }
        if let State::Keeping { from } = self.state {
            match self.page(from, |_, _| true) {
                Some((entries, next)) => {
                    self.state = State::Keeping { from: next };
                    return Todo::Note {
                        entries,
                        again: Again::Soon,
                    };
                }
                None => self.state = State::Walking,
            }
        }
        if self.state == State::Walking {
            if let Some(lookup) = lookup {
                match lookup.next() {
                    Step::Ask(contact) => {
                        let target = lookup.target();
                        return Todo::Ask(contact, Request::FindNode { target, card: false });
                    }
                    Step::Wait => return Todo::Wait,
                    Step::Done => self.share_out(lookup),
                }
            }
            self.state = State::Sending;
        }
        if self.state == State::Sending {
            match self.allotment.as_mut().and_then(Allotment::next) {
                Some((contact, entries)) => return Todo::Ask(contact, Request::Store { entries }),
                None if idle && self.allotment.as_ref().is_none_or(Allotment::is_sent) => {
                    self.settle();
                    let open = self.fates.iter().position(|fate| matches!(fate, Fate::Open));
                    if let Some(place) = open {
                        self.state = State::Walking;
                        return Todo::WalkTo(self.records[place].key());
                    }
                    self.state = State::Holding {
                        from: 0,
                        again: Again::Usual,
                    };
                }
                None => return Todo::Wait,
            }
        }
        while let State::Holding { from, again } = self.state {
            let page = match self.keep {
                true => self.page(from, |task, place| {
                    task.is_noted(place) && task.again(place) == again
                }),
                false => self.page(from, |task, place| task.is_ours(place)),
            };
            if let Some((entries, next)) = page {
                self.state = State::Holding { from: next, again };
                return match self.keep {
                    true => Todo::Note { entries, again },
                    false => Todo::Keep(entries, None),
                };
            }
            self.state = match again {
                Again::Usual if self.keep => State::Holding {
                    from: 0,
                    again: Again::Refused,
                },
                _ => State::Over,
            };
        }
        Todo::Finish
    }

    /// The next records for the own store and where to go on, and notes that it is asked about them; `None` if there
    /// are none.
    fn page(
        &mut self,
        from: usize,
        wanted: impl Fn(&Self, usize) -> bool,
    ) -> Option<(Vec<StoreEntry>, usize)> {
        let places = (from..self.records.len()).filter(|&place| wanted(self, place));
        self.asked = places.take(MAX_RECORDS).collect();
        let entry = |&place: &usize| self.records[place].clone().into();
        let next = self.asked.last()? + 1;
        Some((self.asked.iter().map(entry).collect(), next))
    }

    /// When this node, if it keeps a record, stores it again.
    fn again(&self, place: usize) -> Again {
        match self.fates[place] {
            Fate::Told { again, .. } => again,
            Fate::Open | Fate::Allotted(_) | Fate::Alone => Again::Soon,
        }
    }

    /// Whether the own store has acknowledged a record.
    fn is_noted(&self, place: usize) -> bool {
        self.said[place].is_some_and(|said| said.is_acknowledgement())
    }

    /// Whether this node is one of the k nearest to a record.
    fn is_ours(&self, place: usize) -> bool {
        match (&self.fates[place], &self.allotment) {
            (Fate::Told { is_ours, .. }, _) => *is_ours,
            (&Fate::Allotted(held), Some(allotment)) => allotment.records()[held].is_ours,
            _ => false,
        }
    }

    /// The next walk begins, to this region.
    pub(crate) const fn begin(&mut self, region: Prefix) {
        self.region = region;
    }

    /// The nodes of the region are known: each record of it goes to those nearest to it.
    fn share_out(&mut self, lookup: &Lookup<A>) {
        let mut allotment = Allotment::new(lookup, self.region, self.placing, &self.gone);
        let mut is_first = true;
        for (record, fate) in self.records.iter().zip(&mut self.fates) {
            if !matches!(fate, Fate::Open) {
                continue;
            }
            let place = allotment.records().len();
            if !allotment.known().contains(record.key()) {
                // The walk went to where the first is. If its region is not known even so, it never will be.
                if is_first {
                    *fate = Fate::Alone;
                }
            } else if allotment.add(record.clone()).is_ok() {
                *fate = Fate::Allotted(place);
            } else {
                *fate = Fate::Alone;
            }
            is_first = false;
        }
        self.allotment = Some(allotment);
    }

    /// Everybody of a region has answered or failed.
    fn settle(&mut self) {
        let Some(allotment) = self.allotment.take() else {
            return;
        };
        for fate in &mut self.fates {
            if let &mut Fate::Allotted(place) = fate {
                let held = &allotment.records()[place];
                let said = allotment.said_of(place);
                *fate = Fate::Told {
                    again: held.again(self.enough),
                    is_ours: held.is_ours,
                    said,
                };
            }
        }
    }

    pub(super) fn on_store(&mut self, reply: &StoreReply) {
        let asked = core::mem::take(&mut self.asked);
        let verdicts: &[Verdict] = match reply {
            StoreReply::Put(verdicts) => verdicts,
            _ => &[],
        };
        let mut verdicts = verdicts.iter().copied();
        for place in asked {
            let said = verdicts.next().unwrap_or(Verdict::Failed);
            // What was kept is kept, even if it could not be noted later that it is soon due again.
            if !self.is_noted(place) {
                self.said[place] = Some(said);
            }
        }
    }

    pub(super) fn on_verdicts(&mut self, id: NodeId, verdicts: &[Verdict]) {
        if let Some(allotment) = &mut self.allotment {
            allotment.on_verdicts(id, verdicts);
        }
    }

    pub(super) fn on_failure(&mut self, id: NodeId) {
        if let Some(allotment) = &mut self.allotment {
            allotment.on_failure(id);
        }
        // Who fails on a walk is no result of it.
        if !self.is_walking() && !self.gone.contains(&id) {
            if self.gone.len() >= MAX_GONE {
                self.gone.remove(0);
            }
            self.gone.push(id);
        }
    }

    pub(super) fn is_walking(&self) -> bool {
        self.state == State::Walking
    }

    /// What is known by now, of each record in turn; `None` if nobody has any.
    pub(super) fn outcome(&self) -> Option<Outcome<A>> {
        let placement = |(place, fate): (usize, &Fate<A>)| {
            let Said { holders, refused } = match (fate, &self.allotment) {
                (Fate::Told { said, .. }, _) => said.clone(),
                (&Fate::Allotted(held), Some(allotment)) => allotment.said_of(held),
                _ => Said::nothing(),
            };
            Placement {
                holders,
                refused,
                local: self.is_noted(place) && self.is_ours(place),
                kept: self.said[place].filter(|_| self.keep),
                alone: matches!(fate, Fate::Open | Fate::Alone),
            }
        };
        let placements: Vec<_> = self.fates.iter().enumerate().map(placement).collect();
        let is_known = |placement: &Placement<A>| {
            placement.local || !placement.holders.is_empty() || !placement.refused.is_empty()
        };
        let anybody = placements.is_empty()
            || placements.iter().any(is_known)
            || self.fates.iter().any(|fate| matches!(fate, Fate::Alone));
        anybody.then_some(Outcome::StoredMany { placements })
    }
}

#[cfg(test)]
mod tests;
