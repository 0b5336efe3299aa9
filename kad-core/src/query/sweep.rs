//! Storing the node's own records again, region by region.
//!
//! A node that publishes a hundred thousand keys cannot look each of them up every day. But keys that begin alike have
//! the same holders, and the own store is sorted by key. So the key space is cut into *regions* in each of which half
//! of k to k nodes are expected. One lookup of a random point finds the 2 k nodes around it, which are all that any key
//! of the region has among its k nearest, or nearly; then what is due there is read page by page, and each node gets
//! what belongs to it in as few STOREs as it fits into. What a cycle costs in lookups is at most the number of regions,
//! and in memory one page, however many keys there are.
//!
//! ```text
//!   walk to the region ─► read a page of what is due ─► STOREs, k nodes at a time ─► note when it is due next ─┐
//!                                  ▲────────────────────────────────────────────────────────────────────────────┘
//! ```

use alloc::vec::Vec;

use super::Todo;
use super::allotment::{Allotment, Allotted, Placing};
use crate::lookup::{Lookup, Step};
use crate::message::MAX_RECORDS;
use crate::{
    Address, Due, DueRecord, Duration, Key, Kind, NodeId, Prefix, Record, Request, Slot, StoreOp, StoreReply,
    UnixTime, Verdict,
};

/// Signed records of one region whose owners are told that they near their end; the others are told of in the next
/// sweep.
const MAX_ENDING: usize = 64;

/// Records of one region of which holders have newer versions than this node. As many are read anew as there is room
/// for; the others are found in the next sweep.
const MAX_OUTDATED: usize = 64;

/// What a sweep has to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sweeping {
    pub(crate) region: Prefix,
    /// What is due until then is stored again, so that the records of a region stay together.
    pub(crate) by: UnixTime,
    pub(crate) now: UnixTime,
    /// The life that immutable records get.
    pub(crate) expiry: UnixTime,
    pub(crate) placing: Placing,
    /// Of the k nearest so many must have acknowledged, or refused for good, or the record is soon stored once more.
    pub(crate) enough: usize,
}

/// A region that is being swept.
#[derive(Debug)]
pub(crate) struct Sweep<A> {
    about: Sweeping,
    state: State,
    /// The last record that was read.
    read: Option<Slot>,
    /// The page that is being stored, and the nodes of the region.
    allotment: Option<Allotment<A>>,
    /// Records whose nearest nodes crowd implausibly: for these one lookup each.
    crowded: Vec<Record>,
    /// Signed records that end before they are due again.
    ending: Vec<Record>,
    /// Mutable records of which most say to hold a newer version.
    outdated: Vec<Key>,
    /// Whether the own store failed to take notes, so that what is due stays due.
    is_refused: bool,
    done: Swept,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Walking,
    /// The own store is to be asked for a page.
    Reading,
    Read,
    Sending,
    /// The store notes when those of one group are due next, one group after the other.
    Noting(Again),
    Noted(Again),
    Over,
}

/// When a record that was swept is due next. All of a group get one date, so that those of a region stay together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// After the interval, or half of its life.
    Usual,
    /// It is signed and was not renewed, so it ends soon: half of what it has left, but not ever more often.
    Ending,
    /// Nobody has taken it, and those who were asked refuse it for good: a part of the interval.
    Refused,
    /// Too few have taken it, and others may before long.
    Soon,
}

/// What a sweep has done.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Swept {
    pub(crate) records: u64,
    /// By how much the one that waited for longest was late.
    pub(crate) late_by: Duration,
}

impl<A: Address> Sweep<A> {
    pub(crate) const fn new(about: Sweeping) -> Self {
        Self {
            about,
            state: State::Walking,
            read: None,
            allotment: None,
            crowded: Vec::new(),
            ending: Vec::new(),
            outdated: Vec::new(),
            is_refused: false,
            done: Swept {
                records: 0,
                late_by: Duration::ZERO,
            },
        }
    }

    pub(crate) const fn prefix(&self) -> Prefix {
        self.about.region
    }

    pub(crate) const fn done(&self) -> Swept {
        self.done
    }

    /// Whether the own store failed, so that the same is due still.
    pub(crate) const fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Signed records that only their owner can give a new life, at most [`MAX_ENDING`].
    pub(crate) fn ending(&self) -> &[Record] {
        &self.ending
    }

    /// Mutable records of which most say to hold a newer version, at most [`MAX_OUTDATED`].
    pub(crate) fn outdated(&self) -> &[Key] {
        &self.outdated
    }

    /// Records that want a lookup of their own.
    pub(crate) fn crowded(&self) -> &[Record] {
        &self.crowded
    }

    pub(super) fn next(&mut self, lookup: Option<&mut Lookup<A>>, idle: bool) -> Todo<A> {
        loop {
            match self.state {
                State::Walking => match lookup {
                    Some(lookup) => match lookup.next() {
                        Step::Ask(contact) => {
                            let target = lookup.target();
                            return Todo::Ask(contact, Request::FindNode { target, card: false });
                        }
                        Step::Wait => return Todo::Wait,
                        Step::Done => {
                            let allotment =
                                Allotment::new(lookup, self.about.region, self.about.placing, &[]);
                            self.state = match allotment.is_empty() {
                                true => State::Over,
                                false => State::Reading,
                            };
                            self.allotment = Some(allotment);
                            return self.next(None, idle);
                        }
                    },
                    None => self.state = State::Over,
                },
                State::Reading => {
                    self.state = State::Read;
                    // What is due elsewhere in the region stays due, and is swept next.
                    let known = self.allotment.as_ref().map(Allotment::known);
                    return Todo::Store(StoreOp::Due(Due {
                        within: known.unwrap_or(self.about.region),
                        after: self.read,
                        by: self.about.by,
                        limit: MAX_RECORDS,
                        own: true,
                    }));
                }
                State::Sending => match self.allotment.as_mut().and_then(Allotment::next) {
                    Some((contact, entries)) => return Todo::Ask(contact, Request::Store { entries }),
                    None if idle && self.allotment.as_ref().is_none_or(Allotment::is_sent) => {
                        self.state = State::Noting(Again::Usual);
                    }
                    None => return Todo::Wait,
                },
                State::Noting(again) => {
                    self.state = State::Noted(again);
                    let page = self.allotment.iter().flat_map(Allotment::records);
                    let group = page.filter(|held| self.again(held) == again);
                    let entries: Vec<_> = group.map(|held| held.record.clone().into()).collect();
                    if !entries.is_empty() {
                        return Todo::Note { entries, again };
                    }
                    self.noted(again);
                }
                State::Read | State::Noted(_) => return Todo::Wait,
                State::Over => return Todo::Finish,
            }
        }
    }

    fn again(&self, held: &Allotted) -> Again {
        match held.again(self.about.enough) {
            Again::Usual if self.is_ending(&held.record) => Again::Ending,
            again => again,
        }
    }

    /// Whether a record has not got the life that it should have had, because only its owner can sign it.
    fn is_ending(&self, record: &Record) -> bool {
        record.kind() != Kind::Immutable && record.expiry() < self.about.expiry
    }

    fn noted(&mut self, again: Again) {
        self.state = match again {
            Again::Usual => State::Noting(Again::Ending),
            Again::Ending => State::Noting(Again::Refused),
            Again::Refused => State::Noting(Again::Soon),
            Again::Soon => {
                if let Some(allotment) = &mut self.allotment {
                    let room = MAX_OUTDATED - self.outdated.len();
                    self.outdated.extend(allotment.outdated().take(room));
                    allotment.clear();
                }
                State::Reading
            }
        };
    }

    pub(super) fn on_store(&mut self, reply: StoreReply) {
        match (&self.state, reply) {
            (State::Read, StoreReply::Due(due)) if !due.is_empty() => self.share_out(due),
            (&State::Noted(again), StoreReply::Put(_)) => self.noted(again),
            (State::Read, StoreReply::Due(_)) => self.state = State::Over,
            (State::Read | State::Noted(_), _) => {
                self.is_refused = true;
                self.state = State::Over;
            }
            _ => {}
        }
    }

    /// Gives each record of a page to the nodes that are nearest to it.
    fn share_out(&mut self, due: Vec<DueRecord>) {
        self.read = due.last().map(|due| due.record.slot());
        self.state = State::Sending;
        for DueRecord { record, due, .. } in due {
            let Some(allotment) = &mut self.allotment else {
                return;
            };
            let record = record.renewed(record.expiry().max(self.about.expiry));
            if let Err(record) = allotment.add(record.clone()) {
                self.crowded.push(record);
                continue;
            }
            if self.is_ending(&record) && !record.is_tombstone() && self.ending.len() < MAX_ENDING {
                self.ending.push(record);
            }
            self.done.records += 1;
            self.done.late_by = self.done.late_by.max(late_by(self.about.now, due));
        }
    }

    pub(super) fn on_verdicts(&mut self, id: NodeId, verdicts: &[Verdict]) {
        if let Some(allotment) = &mut self.allotment {
            allotment.on_verdicts(id, verdicts);
        }
    }

    /// A node has failed: it gets no more.
    pub(super) fn on_failure(&mut self, id: NodeId) {
        if let Some(allotment) = &mut self.allotment {
            allotment.on_failure(id);
        }
    }

    pub(super) const fn is_walking(&self) -> bool {
        self.allotment.is_none()
    }
}

/// A record that is due before its time is not late.
fn late_by(now: UnixTime, due: UnixTime) -> Duration {
    Duration::from_secs(now.secs_since(due))
}
