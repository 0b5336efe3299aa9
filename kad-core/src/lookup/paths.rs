//! When one path is not enough, and from where another one starts (S/Kademlia, section 4.2).
//!
//! Liars who tell only of each other capture a walk in a network of their own, and that network is thinner than the
//! real one: where one node in five lies, the k nearest liars reach five times as far as the k nearest nodes. So a walk
//! that has come to its end far too thin is not believed. It gets another path, which starts from contacts of the table
//! that nobody has asked yet and believes only what it is told itself. When as many paths in a row as the walk's end is
//! too thin brought nobody nearer, it is believed: then many are dead, or the network is smaller than it was.
//!
//! A walk that ends as it should costs nothing more. What this does not see are liars who have as many nodes near the
//! target as everybody else together; what is done about these stands in `query/store.rs`.

use alloc::vec::Vec;

use super::shortlist::{State, Told};
use super::{Flight, Lookup, MAX_PATHS, Seed, micros};
use crate::{Address, Distance};

/// What a lookup knows of its own trustworthiness.
#[derive(Debug, Clone)]
pub(super) struct Doubts<A> {
    /// Contacts of the table, nearest first, at most twice as many as results.
    seeds: Vec<Seed<A>>,
    /// The distance of the last result when all paths had come to their end.
    end: Option<Distance>,
    /// Paths in a row that changed nothing of it.
    agreeing: usize,
}

impl<A> Doubts<A> {
    pub(super) const fn new(seeds: Vec<Seed<A>>) -> Self {
        Self {
            seeds,
            end: None,
            agreeing: 0,
        }
    }
}

impl<A: Address> Lookup<A> {
    /// The same walk, which never doubts its end: for those on which nothing but a table depends.
    #[must_use]
    pub fn without_doubts(mut self) -> Self {
        self.config.max_paths = self.config.paths;
        self.doubts = Doubts::new(Vec::new());
        self
    }

    /// All paths have come to their end. Opens another one if they should not be believed and somebody is left to start
    /// it; says whether it did.
    pub(super) fn open_path(&mut self) -> bool {
        let most = self.config.max_paths.min(MAX_PATHS);
        if self.flights.len() >= most {
            return false;
        }
        let answered = self
            .shortlist
            .iter()
            .filter(|candidate| candidate.state == State::Answered);
        let end = answered
            .take(self.config.results)
            .last()
            .map(|last| last.distance());
        if end == self.doubts.end {
            self.doubts.agreeing += 1;
        } else {
            (self.doubts.end, self.doubts.agreeing) = (end, 0);
        }
        self.doubts.agreeing < self.thinness() && self.deal(most - self.flights.len())
    }

    /// How many times as far as they should the results reach; 0 if no farther than chance explains.
    ///
    /// The dead leave gaps: some of those that were found dead are counted as if they had answered, up to half of k.
    /// All of them would not do, or liars could fill the gaps between them with ids that nobody has.
    fn thinness(&self) -> usize {
        let dead = self.shortlist.iter().filter(|candidate| candidate.state.is_out());
        let results = self.config.results.max(1);
        let counted = results + dead.take(results / 2).count();
        // 128 bits hold the first 64 of a distance times any count.
        let first = |distance: Distance| u128::from(distance.to_limbs()[0]);
        let expected = first(self.config.radius) * counted as u128;
        let end = self.doubts.end.map_or(0, first) * results as u128;
        // Among honest nodes one walk in 400 reaches so far: fewer than 20 nodes where 35 are expected.
        if expected == 0 || 4 * end <= 7 * expected {
            return 0;
        }
        usize::try_from(end.div_ceil(expected)).unwrap_or(usize::MAX)
    }

    /// Gives a new path its share of the seeds that nobody has asked, if so many paths may be opened: from near to far,
    /// as all of them get.
    fn deal(&mut self, paths: usize) -> bool {
        // What liars told of in passing must not leave a path without room.
        self.shortlist.trim(2 * self.config.results);
        let path = self.flights.len() as u8;
        let mut unasked = Vec::new();
        for (place, seed) in self.doubts.seeds.iter().enumerate() {
            let known = self.shortlist.position(seed.contact.id);
            if known.is_none_or(|index| self.shortlist[index].state == State::New) {
                unasked.push(place);
            }
        }
        let dealt: Vec<_> = unasked.into_iter().step_by(paths).collect();
        for &place in &dealt {
            let seed = self.doubts.seeds[place].clone();
            match self.shortlist.position(seed.contact.id) {
                Some(index) => self.shortlist[index].path = path,
                None => {
                    let cost = micros(seed.rtt.unwrap_or(self.config.usual));
                    self.shortlist.insert(seed.contact, path, Told { cost, depth: 1 });
                }
            }
        }
        if dealt.is_empty() {
            return false;
        }
        self.flights.push(Flight::default());
        true
    }
}
