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

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use super::{Region, Todo};
use crate::lookup::{Lookup, Step};
use crate::message::{MAX_RECORD_BYTES, MAX_RECORDS};
use crate::{
    Address, Contact, Due, DueRecord, Duration, Key, Kind, NodeId, Population, Prefix, Record, Request, Slot,
    StoreOp, StoreReply, UnixTime, Verdict,
};

/// Signed records of one region whose owners are told that they near their end; the others are told of in the next
/// sweep.
const MAX_ENDING: usize = 64;

/// What a sweep has to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sweeping {
    pub(crate) region: Prefix,
    /// What is due until then is stored again, so that the records of a region stay together.
    pub(crate) by: UnixTime,
    pub(crate) now: UnixTime,
    /// The life that immutable records get.
    pub(crate) expiry: UnixTime,
    pub(crate) k: usize,
    /// The own id, if this node stores for others.
    pub(crate) me: Option<NodeId>,
    pub(crate) population: Option<Population>,
    /// Of the k nearest so many must have acknowledged, or the record is soon stored once more.
    pub(crate) enough: usize,
}

/// A region that is being swept.
#[derive(Debug)]
pub(crate) struct Sweep<A> {
    about: Sweeping,
    state: State,
    /// The nodes of the region that take records.
    nodes: Vec<Contact<A>>,
    /// The last record that was read.
    read: Option<Slot>,
    page: Vec<Placed>,
    /// What each node has yet to be sent: places in the page.
    waiting: VecDeque<(Contact<A>, Vec<usize>)>,
    /// What it was sent.
    sent: BTreeMap<NodeId, Vec<usize>>,
    /// Records whose nearest nodes crowd implausibly: for these one lookup each.
    crowded: Vec<Record>,
    /// Signed records that end before they are due again.
    ending: Vec<Record>,
    /// Whether the own store failed to take notes, so that what is due stays due.
    is_refused: bool,
    done: Swept,
}

/// A record and how it fares.
#[derive(Debug)]
struct Placed {
    record: Record,
    acknowledged: usize,
    /// How many acknowledgements there can be.
    wanted: usize,
    /// How many nodes it was given to.
    given: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Walking,
    /// The own store is to be asked for a page.
    Reading,
    Read,
    Sending,
    /// The store notes those that have enough holders, then the others.
    Noting {
        placed: bool,
    },
    Noted {
        placed: bool,
    },
    Over,
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
            nodes: Vec::new(),
            read: None,
            page: Vec::new(),
            waiting: VecDeque::new(),
            sent: BTreeMap::new(),
            crowded: Vec::new(),
            ending: Vec::new(),
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
                            return Todo::Ask(contact, Request::FindNode { target });
                        }
                        Step::Wait => return Todo::Wait,
                        Step::Done => {
                            self.nodes = lookup.results().collect();
                            self.state = match self.nodes.is_empty() {
                                true => State::Over,
                                false => State::Reading,
                            };
                            return self.next(None, idle);
                        }
                    },
                    None => self.state = State::Over,
                },
                State::Reading => {
                    self.state = State::Read;
                    return Todo::Store(StoreOp::Due(Due {
                        within: self.about.region,
                        after: self.read,
                        by: self.about.by,
                        limit: MAX_RECORDS,
                        own: true,
                    }));
                }
                State::Sending => {
                    // One STORE to a node at a time.
                    let free = |(node, _): &(Contact<A>, Vec<usize>)| !self.sent.contains_key(&node.id);
                    let next = self.waiting.iter().position(free);
                    match next.and_then(|place| self.waiting.remove(place)) {
                        Some((contact, places)) => return self.send(contact, places),
                        None if idle && self.waiting.is_empty() => {
                            self.state = State::Noting { placed: true }
                        }
                        None => return Todo::Wait,
                    }
                }
                State::Noting { placed } => {
                    self.state = State::Noted { placed };
                    let is_placed = |held: &&Placed| held.acknowledged >= self.about.enough.min(held.wanted);
                    let some = self.page.iter().filter(|held| is_placed(held) == placed);
                    let entries: Vec<_> = some.map(|held| held.record.clone().into()).collect();
                    if !entries.is_empty() {
                        return Todo::Note { entries, placed };
                    }
                    self.noted(placed);
                }
                State::Read | State::Noted { .. } => return Todo::Wait,
                State::Over => return Todo::Finish,
            }
        }
    }

    fn noted(&mut self, placed: bool) {
        self.state = match placed {
            true => State::Noting { placed: false },
            false => {
                self.page.clear();
                State::Reading
            }
        };
    }

    /// As much for one node as fits into one STORE; the rest comes later.
    fn send(&mut self, contact: Contact<A>, mut places: Vec<usize>) -> Todo<A> {
        let mut bytes = 0;
        let mut fits = |&place: &usize| {
            bytes += self.page[place].record.as_bytes().len();
            bytes <= MAX_RECORD_BYTES
        };
        let count = places
            .iter()
            .take(MAX_RECORDS)
            .take_while(|place| fits(place))
            .count();
        let rest = places.split_off(count.max(1).min(places.len()));
        if !rest.is_empty() {
            self.waiting.push_back((contact.clone(), rest));
        }
        let entries = places
            .iter()
            .map(|&place| self.page[place].record.clone().into())
            .collect();
        self.sent.insert(contact.id, places);
        Todo::Ask(contact, Request::Store { entries })
    }

    pub(super) fn on_store(&mut self, reply: StoreReply) {
        match (&self.state, reply) {
            (State::Read, StoreReply::Due(due)) if !due.is_empty() => self.share_out(due),
            (&State::Noted { placed }, StoreReply::Put(_)) => self.noted(placed),
            (State::Read, StoreReply::Due(_)) => self.state = State::Over,
            (State::Read | State::Noted { .. }, _) => {
                self.is_refused = true;
                self.state = State::Over;
            }
            _ => {}
        }
    }

    /// Gives each record of a page to the nodes that are nearest to it.
    fn share_out(&mut self, due: Vec<DueRecord>) {
        self.read = due.last().map(|due| due.record.slot());
        let mut shares: Vec<Vec<usize>> = self.nodes.iter().map(|_| Vec::new()).collect();
        for DueRecord { record, due, .. } in due {
            let record = record.renewed(record.expiry().max(self.about.expiry));
            let key = record.key();
            let mut nearest: Vec<usize> = (0..self.nodes.len()).collect();
            nearest.sort_unstable_by_key(|&node| self.nodes[node].id.distance(key));
            nearest.truncate(self.about.k);
            if self.is_crowded(key, &nearest) {
                self.crowded.push(record);
                continue;
            }
            // This node is one of the k nearest: its copy is one of them.
            let own = self.about.me.map(|me| me.distance(key));
            let farthest = nearest.last().map(|&node| self.nodes[node].id.distance(key));
            let counts = own.is_some_and(|own| nearest.len() < self.about.k || Some(own) < farthest);
            nearest.truncate(self.about.k - usize::from(counts));
            let place = self.page.len();
            nearest.iter().for_each(|&node| shares[node].push(place));
            let ends = record.kind() != Kind::Immutable && record.expiry() < self.about.expiry;
            if ends && !record.is_tombstone() && self.ending.len() < MAX_ENDING {
                self.ending.push(record.clone());
            }
            self.done.records += 1;
            self.done.late_by = self.done.late_by.max(late_by(self.about.now, due));
            self.page.push(Placed {
                record,
                acknowledged: 0,
                wanted: nearest.len(),
                given: nearest.len(),
            });
        }
        self.waiting = (self.nodes.iter().cloned().zip(shares))
            .filter(|(_, places)| !places.is_empty())
            .collect();
        self.state = State::Sending;
    }

    fn is_crowded(&self, key: Key, nearest: &[usize]) -> bool {
        let region = Region::new(key, self.about.k, self.about.population);
        let distances = nearest.iter().map(|&node| self.nodes[node].id.distance(key));
        region.is_suspicious(distances)
    }

    pub(super) fn on_verdicts(&mut self, id: NodeId, verdicts: &[Verdict]) {
        for (place, verdict) in self.sent.remove(&id).into_iter().flatten().zip(verdicts) {
            match self.page.get_mut(place) {
                Some(held) if verdict.is_acknowledgement() => held.acknowledged += 1,
                Some(_) if verdict.is_no_holder() => self.give_to_next(place),
                _ => {}
            }
        }
    }

    /// One of those that a record was given to is no holder of it: the next nearest gets it, if there is one.
    fn give_to_next(&mut self, place: usize) {
        let held = &mut self.page[place];
        let key = held.record.key();
        let mut nearest: Vec<&Contact<A>> = self.nodes.iter().collect();
        nearest.sort_unstable_by_key(|node| node.id.distance(key));
        if let Some(&next) = nearest.get(held.given) {
            held.given += 1;
            match self.waiting.iter_mut().find(|(node, _)| node.id == next.id) {
                Some((_, places)) => places.push(place),
                None => self.waiting.push_back((next.clone(), vec![place])),
            }
        }
    }

    /// A node has failed: it gets no more.
    pub(super) fn on_failure(&mut self, id: NodeId) {
        if self.state != State::Walking {
            self.sent.remove(&id);
            self.nodes.retain(|node| node.id != id);
            self.waiting.retain(|(node, _)| node.id != id);
        }
    }

    pub(super) fn is_walking(&self) -> bool {
        self.state == State::Walking
    }
}

/// A record that is due before its time is not late.
fn late_by(now: UnixTime, due: UnixTime) -> Duration {
    Duration::from_secs(now.secs_since(due))
}
