//! Comparing what this node holds with what others hold, part by part, and moving only what differs.
//!
//! ```text
//!   own store ─ fingerprints ─► COMPARE ─► same: done
//!       ▲                          ├─────► fingerprints of sixteen parts: compare those that differ
//!       │                          └─────► a list of marks:
//!       └── records ◄── FETCH ◄── missing here ◄┤ drawing (what this node is responsible for)
//!                       STORE ◄── missing there ◄┘ handing (what others are responsible for)
//! ```
//!
//! One peer after another, and one question at a time: nobody waits for it, and a peer that has to answer thousands of
//! others must not be hurried. A peer that fails or makes no sense is left, and the others have the same records.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::Todo;
use crate::message::{MAX_RECORD_BYTES, MAX_RECORDS};
use crate::summary::{MAX_COMPARED, MAX_LISTED, short};
use crate::{
    Contact, Difference, Fingerprint, NodeId, Prefix, Record, Request, StoreEntry, StoreOp, StoreReply,
    Verdict,
};

/// Parts that wait to be compared; those beyond are left for the next time. Peers may say that all parts of all parts
/// differ.
const MAX_UNCOMPARED: usize = 4096;

/// Questions to one peer: with 64 records each, a quarter of a million of them can be drawn.
const MAX_QUESTIONS: usize = 4096;

/// In which direction records move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the peers to this node.
    Draw,
    /// From this node to the peers.
    Hand,
}

/// A peer, and the parts in which it should hold the same.
pub(crate) type Visit<A> = (Contact<A>, Vec<Prefix>);

#[derive(Debug)]
pub(crate) struct Reconcile<A> {
    direction: Direction,
    /// Rounds of visits that are left. Each round sees to all parts; who finds nothing in one needs no further one.
    rounds: VecDeque<VecDeque<Visit<A>>>,
    /// Records that had moved when this round began.
    moved_before: Option<u64>,
    peer: Option<Contact<A>>,
    questions: usize,
    /// Parts to compare with the peer; with what it holds there, if it has told.
    uncompared: Vec<(Prefix, Option<Fingerprint>)>,
    listed: Vec<Listed>,
    state: State,
    /// Records that have moved.
    moved: u64,
}

/// A part whose marks the peer has told.
#[derive(Debug)]
struct Listed {
    prefix: Prefix,
    /// Ascending: those that the peer has told, at most [`MAX_LISTED`], and those that it was offered since.
    marks: Vec<u64>,
    /// Records that it was offered since, less than [`MAX_LISTED`] and what fits into one STORE.
    offered: usize,
    /// Those that it took.
    taken: usize,
}

#[derive(Debug)]
enum State {
    /// Nothing is under way.
    Idle,
    /// The own store is summing up these.
    Summing(Vec<(Prefix, Option<Fingerprint>)>),
    /// These are to be sent.
    Summed(Vec<(Prefix, Fingerprint)>),
    /// The peer compares these.
    Comparing(Vec<Prefix>),
    /// The own store looks for what is missing here, or there.
    Looking(Listed),
    /// These are wanted of the peer.
    Wanting(Prefix, Vec<u64>),
    /// The peer is asked for the first of these.
    Fetching(Prefix, Vec<u64>),
    /// These came from the peer.
    Fetched(Prefix, Vec<Record>, Vec<u64>),
    /// The own store keeps what came; the rest is wanted then.
    Keeping(Prefix, Vec<u64>),
    /// These are for the peer; whether there are more in this part.
    Giving(Listed, Vec<Record>, bool),
    /// The peer stores them.
    Storing(Listed, bool),
}

impl<A: Clone> Reconcile<A> {
    /// Visits these peers, one after another, round after round while something moves; all rounds if it is `thorough`.
    pub(crate) fn new(direction: Direction, rounds: Vec<Vec<Visit<A>>>, thorough: bool) -> Self {
        Self {
            direction,
            rounds: rounds.into_iter().map(VecDeque::from).collect(),
            moved_before: (!thorough).then_some(0),
            peer: None,
            questions: 0,
            uncompared: Vec::new(),
            listed: Vec::new(),
            state: State::Idle,
            moved: 0,
        }
    }

    pub(crate) const fn direction(&self) -> Direction {
        self.direction
    }

    /// Records that have come, or were taken by peers.
    pub(crate) const fn moved(&self) -> u64 {
        self.moved
    }

    pub(super) fn next(&mut self) -> Todo<A> {
        loop {
            let Some(peer) = self.peer.clone() else {
                let Some((peer, prefixes)) = self.next_visit() else {
                    return Todo::Finish;
                };
                self.uncompared = prefixes.into_iter().map(|prefix| (prefix, None)).collect();
                (self.peer, self.questions, self.state) = (Some(peer), 0, State::Idle);
                continue;
            };
            if self.questions >= MAX_QUESTIONS {
                self.leave();
                continue;
            }
            match core::mem::replace(&mut self.state, State::Idle) {
                State::Idle => match self.begin() {
                    Some(op) => return Todo::Store(op),
                    None => self.leave(),
                },
                State::Summed(parts) => {
                    self.state = State::Comparing(parts.iter().map(|&(prefix, _)| prefix).collect());
                    return self.ask(peer, Request::Compare { parts });
                }
                State::Wanting(prefix, marks) => {
                    let first = marks.iter().copied().take(MAX_RECORDS).collect();
                    self.state = State::Fetching(prefix, marks);
                    return self.ask(peer, Request::Fetch { prefix, marks: first });
                }
                State::Fetched(prefix, records, rest) => {
                    self.state = State::Keeping(prefix, rest);
                    let entries = records.into_iter().map(StoreEntry::from).collect();
                    return Todo::Keep(entries, Some(peer));
                }
                State::Giving(mut part, records, more) => {
                    part.offer(&records);
                    self.state = State::Storing(part, more);
                    let entries = records.into_iter().map(StoreEntry::from).collect();
                    return self.ask(peer, Request::Store { entries });
                }
                waiting => {
                    self.state = waiting;
                    return Todo::Wait;
                }
            }
        }
    }

    fn next_visit(&mut self) -> Option<Visit<A>> {
        loop {
            if let Some(visit) = self.rounds.front_mut()?.pop_front() {
                return Some(visit);
            }
            self.rounds.pop_front();
            let moved = self.moved;
            let before = self.moved_before.as_mut();
            if before.is_some_and(|before| core::mem::replace(before, moved) == moved) {
                return None;
            }
        }
    }

    /// What the own store is asked next for the sake of this peer; `None` if nothing is left.
    fn begin(&mut self) -> Option<StoreOp> {
        if let Some(part) = self.listed.pop() {
            let (prefix, marks) = (part.prefix, part.marks.clone());
            self.state = State::Looking(part);
            return Some(match self.direction {
                Direction::Draw => StoreOp::Missing { prefix, marks },
                Direction::Hand => StoreOp::Fetch {
                    prefix,
                    marks,
                    listed: false,
                },
            });
        }
        let from = self.uncompared.len().saturating_sub(MAX_COMPARED);
        let some = self.uncompared.split_off(from);
        if some.is_empty() {
            return None;
        }
        let prefixes = some.iter().map(|&(prefix, _)| prefix).collect();
        self.state = State::Summing(some);
        Some(StoreOp::Summarize { prefixes })
    }

    fn ask(&mut self, peer: Contact<A>, request: Request) -> Todo<A> {
        self.questions += 1;
        Todo::Ask(peer, request)
    }

    /// Nothing more of this peer.
    fn leave(&mut self) {
        self.peer = None;
        self.uncompared.clear();
        self.listed.clear();
        self.state = State::Idle;
    }

    /// A question came to nothing. One to a peer that was left before is no matter.
    pub(super) fn on_failure(&mut self, id: NodeId) {
        if self.is_asked(id) {
            self.leave();
        }
    }

    fn is_asked(&self, id: NodeId) -> bool {
        let waits = matches!(
            self.state,
            State::Comparing(_) | State::Fetching(..) | State::Storing(..)
        );
        waits && self.peer.as_ref().is_some_and(|peer| peer.id == id)
    }

    /// The own store has answered.
    pub(super) fn on_store(&mut self, reply: StoreReply) {
        self.state = match (core::mem::replace(&mut self.state, State::Idle), reply) {
            (State::Summing(parts), StoreReply::Summaries(own)) => {
                // Nothing can be drawn from where there is nothing, nor given.
                let giver = |theirs: Option<Fingerprint>, own| match self.direction {
                    Direction::Draw => theirs,
                    Direction::Hand => Some(own),
                };
                let differs = |theirs: Option<Fingerprint>, own| {
                    theirs != Some(own) && giver(theirs, own).is_none_or(|there| there.count > 0)
                };
                let mut parts: Vec<_> = (parts.into_iter().zip(own))
                    .filter(|&((_, theirs), own)| differs(theirs, own))
                    .map(|((prefix, _), own)| (prefix, own))
                    .collect();
                parts.sort_unstable_by_key(|&(prefix, _)| prefix);
                match parts.is_empty() {
                    true => State::Idle,
                    false => State::Summed(parts),
                }
            }
            (State::Looking(part), StoreReply::Missing(marks)) if !marks.is_empty() => {
                State::Wanting(part.prefix, marks)
            }
            (State::Looking(part), StoreReply::Fetched { records, more }) if !records.is_empty() => {
                State::Giving(part, records, more)
            }
            (State::Keeping(prefix, rest), StoreReply::Put(verdicts)) => {
                let count = |of| verdicts.iter().filter(|&&verdict| verdict == of).count();
                let stored = count(Verdict::Stored);
                self.moved += stored as u64;
                match rest.is_empty() {
                    _ if count(Verdict::Full) > stored => {
                        // What else this peer has is for the most part refused as well, now and in an hour.
                        self.leave();
                        State::Idle
                    }
                    true => State::Idle,
                    false => State::Wanting(prefix, rest),
                }
            }
            _ => State::Idle,
        };
    }

    /// The peer has compared.
    pub(super) fn on_compared(&mut self, from: NodeId, differences: Vec<Difference>) {
        if !self.is_asked(from) {
            return;
        }
        let State::Comparing(prefixes) = core::mem::replace(&mut self.state, State::Idle) else {
            return self.leave();
        };
        for (prefix, difference) in prefixes.into_iter().zip(differences) {
            match difference {
                Difference::Same => {}
                Difference::Listed(marks) => self.listed.push(Listed {
                    prefix,
                    marks,
                    offered: 0,
                    taken: 0,
                }),
                Difference::Parts(theirs) => {
                    let parts = prefix.parts().into_iter().flatten().zip(theirs.map(Some));
                    let room = MAX_UNCOMPARED.saturating_sub(self.uncompared.len());
                    self.uncompared.extend(parts.take(room));
                }
            }
        }
    }

    /// The peer has given records. Only what was asked for counts; the rest is asked for again, unless none came.
    pub(super) fn on_fetched(&mut self, from: NodeId, records: Vec<Record>) {
        if !self.is_asked(from) {
            return;
        }
        let State::Fetching(prefix, mut marks) = core::mem::replace(&mut self.state, State::Idle) else {
            return self.leave();
        };
        let mut wanted = Vec::new();
        for record in records {
            let mark = short(record.as_raw().mark());
            if prefix.contains(record.key())
                && let Some(place) = marks.iter().position(|&wanted| wanted == mark)
            {
                marks.remove(place);
                wanted.push(record);
            }
        }
        if !wanted.is_empty() {
            self.state = State::Fetched(prefix, wanted, marks);
        }
    }

    /// The peer has judged what it was given. If there is more it is offered that, whatever it refused. What lies
    /// beyond as many as are told of a part is found when the part is compared once more, if the peer took something.
    pub(super) fn on_verdicts(&mut self, from: NodeId, verdicts: &[Verdict]) {
        if !self.is_asked(from) {
            return;
        }
        let State::Storing(mut part, more) = core::mem::replace(&mut self.state, State::Idle) else {
            return self.leave();
        };
        let taken = verdicts
            .iter()
            .filter(|&&verdict| verdict == Verdict::Stored)
            .count();
        self.moved += taken as u64;
        part.taken += taken;
        if more && part.offered < MAX_LISTED {
            self.listed.push(part);
        } else if part.taken > 0 && part.marks.len() >= MAX_LISTED {
            self.uncompared.push((part.prefix, None));
        }
    }
}

impl Listed {
    /// The peer is offered these: they need not be offered again.
    fn offer(&mut self, records: &[Record]) {
        self.offered += records.len();
        self.marks
            .extend(records.iter().map(|record| short(record.as_raw().mark())));
        self.marks.sort_unstable();
    }
}

const _: () = assert!(
    MAX_RECORD_BYTES >= crate::record::MAX_RECORD,
    "a FETCH brings at least one"
);

#[cfg(test)]
mod tests;
