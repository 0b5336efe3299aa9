//! The candidates of a lookup, nearest first.

use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

use crate::{Address, Contact, Distance, Key, NodeId};

/// Addresses tried for one id: peers may lie about an address or know an old one, and three tellers rarely all do. More
/// would let liars aim a lookup at as many addresses as they can make up.
pub(super) const MAX_ADDRESSES: usize = 3;

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    New,
    Waiting,
    /// Waiting for longer than most answers take; holds no place among the questions in flight.
    Slow,
    /// Given up, but an answer still counts.
    Overdue,
    Answered,
    Failed,
}

impl State {
    /// Whether the walk goes on as if there were no such node.
    pub(super) const fn is_out(self) -> bool {
        matches!(self, Self::Overdue | Self::Failed)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Candidate<A> {
    /// From the target; the id is `target XOR distance`.
    distance: Distance,
    /// In the order in which they were told; those given up stay, so that nobody can have them tried again.
    addresses: [Option<A>; MAX_ADDRESSES],
    /// Which of them is in use.
    in_use: u8,
    pub(super) path: u8,
    pub(super) state: State,
    pub(super) told: Told,
}

/// What is known of a candidate from whoever told of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    /// Its round trip in microseconds, measured or guessed.
    pub(super) cost: u32,
    /// Hops that lead to it.
    pub(super) depth: u8,
}

impl<A: PartialEq> Candidate<A> {
    pub(super) const fn distance(&self) -> Distance {
        self.distance
    }

    pub(super) const fn cost(&self) -> u32 {
        self.told.cost
    }

    pub(super) const fn depth(&self) -> u8 {
        self.told.depth
    }

    /// Gives up the address in use; says whether another one is left.
    pub(super) fn drop_address(&mut self) -> bool {
        self.in_use += 1;
        self.address().is_some()
    }

    /// Hearsay goes behind what is known, and where there is no room it is forgotten.
    fn add_address(&mut self, address: A) {
        let known = self.addresses.iter().flatten().any(|held| *held == address);
        if let Some(free) = self.addresses.iter_mut().find(|held| held.is_none())
            && !known
        {
            *free = Some(address);
        }
    }

    fn address(&self) -> Option<&A> {
        self.addresses.get(usize::from(self.in_use))?.as_ref()
    }
}

/// A sorted list of bounded length.
#[derive(Debug, Clone)]
pub(super) struct Shortlist<A> {
    local: NodeId,
    target: Key,
    capacity: usize,
    candidates: Vec<Candidate<A>>,
}

impl<A: Address> Shortlist<A> {
    pub(super) const fn new(local: NodeId, target: Key, capacity: usize) -> Self {
        Self {
            local,
            target,
            capacity,
            candidates: Vec::new(),
        }
    }

    pub(super) const fn target(&self) -> Key {
        self.target
    }

    pub(super) const fn len(&self) -> usize {
        self.candidates.len()
    }

    pub(super) fn iter(&self) -> core::slice::Iter<'_, Candidate<A>> {
        self.candidates.iter()
    }

    pub(super) fn position(&self, id: NodeId) -> Option<usize> {
        let distance = id.distance(self.target);
        self.candidates
            .binary_search_by(|candidate| candidate.distance.cmp(&distance))
            .ok()
    }

    pub(super) fn contact(&self, candidate: &Candidate<A>) -> Option<Contact<A>> {
        let id = self.target.at(candidate.distance).to_node_id();
        let address = candidate.address()?.clone();
        Some(Contact { id, address })
    }

    /// The distance of the nearest candidate of a path that has not failed.
    pub(super) fn nearest_on(&self, path: u8) -> Option<Distance> {
        let mut on_path = self
            .candidates
            .iter()
            .filter(|c| c.path == path && !c.state.is_out());
        on_path.next().map(|candidate| candidate.distance)
    }

    /// Forgets all that were not asked, but the nearest so many. Who was asked at one address stays, or one could have
    /// it asked there again.
    pub(super) fn trim(&mut self, keep: usize) {
        let mut place = 0;
        self.candidates.retain(|candidate| {
            place += 1;
            place <= keep || candidate.state != State::New || candidate.in_use > 0
        });
    }

    /// Adds a contact, or an address of a contact that is known. A full list forgets the farthest that was not asked at
    /// any address.
    pub(super) fn insert(&mut self, contact: Contact<A>, path: u8, told: Told) {
        if contact.id == self.local {
            return;
        }
        let distance = contact.id.distance(self.target);
        match self
            .candidates
            .binary_search_by(|candidate| candidate.distance.cmp(&distance))
        {
            Ok(known) => {
                let candidate = &mut self.candidates[known];
                if candidate.state != State::Answered && candidate.state != State::Failed {
                    candidate.add_address(contact.address);
                    candidate.told.cost = candidate.told.cost.min(told.cost);
                }
            }
            Err(place) => {
                if self.candidates.len() >= self.capacity {
                    let farthest = self
                        .candidates
                        .iter()
                        .rposition(|candidate| candidate.state == State::New && candidate.in_use == 0);
                    match farthest {
                        Some(farthest) if farthest >= place => {
                            self.candidates.remove(farthest);
                        }
                        _ => return,
                    }
                }
                let candidate = Candidate {
                    distance,
                    addresses: [Some(contact.address), None, None],
                    in_use: 0,
                    path,
                    state: State::New,
                    told,
                };
                self.candidates.insert(place, candidate);
            }
        }
    }
}

impl<A> Index<usize> for Shortlist<A> {
    type Output = Candidate<A>;

    fn index(&self, index: usize) -> &Candidate<A> {
        &self.candidates[index]
    }
}

impl<A> IndexMut<usize> for Shortlist<A> {
    fn index_mut(&mut self, index: usize) -> &mut Candidate<A> {
        &mut self.candidates[index]
    }
}
