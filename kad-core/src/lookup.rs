//! One iterative lookup: who to ask next on the way to a point (Kademlia paper, section 2.3).
//!
//! It holds no clock, sends nothing and reads nothing: it is told what became of each question and says whom to ask next.
//! [`Lookup::next`] is a pure function of what was told, so a lookup can be tested against a network that knows everything.
//!
//! ```text
//!             ┌────────────── on_response(id, closer) ◄───────────┐
//!             ▼                                                    │
//!   shortlist, nearest first ── next() ──► Step::Ask(contact) ── a peer
//!             ▲                                                    │
//!             └───── on_failure(id) / on_slow(id) ◄────────────────┘
//! ```

mod shortlist;

use alloc::vec::Vec;

use self::shortlist::{Candidate, Shortlist, State};
use crate::{Address, Contact, Key, NodeId};

/// How a lookup walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupConfig {
    /// How many of the nearest must have answered, and how many results there are: k.
    pub results: usize,
    /// Questions in flight while the lookup makes progress: alpha.
    pub parallelism: usize,
    /// Paths that share no node (S/Kademlia, section 4.2); 1 is plain Kademlia.
    pub paths: usize,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Step<A> {
    /// Ask this contact, then tell what became of it.
    Ask(Contact<A>),
    /// Nothing until something is told.
    Wait,
    /// The nearest that have not failed have all answered.
    Done,
}

/// A walk towards a point.
#[derive(Debug, Clone)]
pub struct Lookup<A> {
    config: LookupConfig,
    shortlist: Shortlist<A>,
    /// Questions in flight for each path that are not slow; what bounds the parallelism.
    flights: Vec<Flight>,
}

/// How one path is doing.
#[derive(Debug, Clone, Copy, Default)]
struct Flight {
    pending: usize,
    /// Answers in a row that brought nothing nearer than what was known.
    idle: usize,
}

impl<A: Address> Lookup<A> {
    /// A lookup of `target` by `local`, starting from `seeds`, nearest first, dealt round robin to the paths.
    pub fn new(
        local: NodeId,
        target: Key,
        config: LookupConfig,
        seeds: impl Iterator<Item = Contact<A>>,
    ) -> Self {
        let paths = config.paths.clamp(1, MAX_PATHS);
        let capacity = config.results.saturating_mul(SHORTLIST_PER_RESULT);
        let mut shortlist = Shortlist::new(local, target, capacity.max(SHORTLIST_FLOOR));
        for (i, seed) in seeds.enumerate() {
            shortlist.insert(seed, (i % paths) as u8);
        }
        Self {
            config: LookupConfig { paths, ..config },
            shortlist,
            flights: alloc::vec![Flight::default(); paths],
        }
    }

    /// Where it goes.
    #[must_use]
    pub const fn target(&self) -> Key {
        self.shortlist.target()
    }

    /// Whether the walk has come to where nothing nearer turns up, so that the nearest it knows are likely the nearest.
    #[must_use]
    pub fn is_near(&self) -> bool {
        self.flights
            .iter()
            .all(|flight| flight.idle >= self.config.parallelism)
    }

    /// Whom to ask next. Call it again until it says something else than [`Step::Ask`].
    #[expect(
        clippy::should_implement_trait,
        reason = "it has no end: what comes next depends on what it is told"
    )]
    pub fn next(&mut self) -> Step<A> {
        let mut all_answered = true;
        for path in 0..self.config.paths {
            let wanted = self.wanted_on_path();
            let mut seen = 0;
            for index in 0..self.shortlist.len() {
                if seen == wanted {
                    break;
                }
                let candidate = &self.shortlist[index];
                if usize::from(candidate.path) != path || candidate.state == State::Failed {
                    continue;
                }
                seen += 1;
                match candidate.state {
                    State::Answered | State::Failed => {}
                    State::Waiting | State::Slow => all_answered = false,
                    State::New if self.has_room(path) => return self.ask(index),
                    State::New => all_answered = false,
                }
            }
        }
        match self.ask_among_nearest() {
            Some(index) => self.ask(index),
            None if all_answered && self.nearest_have_answered() => Step::Done,
            None => Step::Wait,
        }
    }

    /// The peer answered, with contacts nearer to the target. Unknown and repeated answers change nothing.
    pub fn on_response(&mut self, id: NodeId, closer: impl Iterator<Item = Contact<A>>) {
        let Some(path) = self.settle(id, State::Answered) else {
            return;
        };
        let before = self.shortlist.nearest_on(path);
        for contact in closer {
            self.shortlist.insert(contact, path);
        }
        let progress = match (before, self.shortlist.nearest_on(path)) {
            (Some(before), Some(after)) => after < before,
            (None, after) => after.is_some(),
            (Some(_), None) => false,
        };
        let flight = &mut self.flights[usize::from(path)];
        flight.idle = if progress { 0 } else { flight.idle + 1 };
    }

    /// The question came to nothing. If the shortlist knows another address of the peer, that one is tried next.
    pub fn on_failure(&mut self, id: NodeId) {
        let Some(index) = self.shortlist.position(id) else {
            return;
        };
        if matches!(self.shortlist[index].state, State::Waiting | State::Slow) {
            let next = if self.shortlist[index].drop_address() {
                State::New
            } else {
                State::Failed
            };
            self.settle(id, next);
        }
    }

    /// The peer must not be among the results, whatever it said before: it refused what it was asked.
    pub fn exclude(&mut self, id: NodeId) {
        self.settle(id, State::Failed);
        if let Some(index) = self.shortlist.position(id) {
            self.shortlist[index].state = State::Failed;
        }
    }

    /// Whether the peer has answered.
    #[must_use]
    pub fn has_answered(&self, id: NodeId) -> bool {
        self.shortlist
            .position(id)
            .is_some_and(|index| self.shortlist[index].state == State::Answered)
    }

    /// The question takes longer than most: somebody else is asked in its place, but an answer still counts.
    pub fn on_slow(&mut self, id: NodeId) {
        if let Some(index) = self.shortlist.position(id)
            && self.shortlist[index].state == State::Waiting
        {
            self.shortlist[index].state = State::Slow;
            let flight = &mut self.flights[usize::from(self.shortlist[index].path)];
            flight.pending = flight.pending.saturating_sub(1);
        }
    }

    /// The nearest peers that have answered, nearest first, at most as many as were wanted.
    pub fn results(&self) -> impl Iterator<Item = Contact<A>> + '_ {
        self.shortlist
            .iter()
            .filter(|candidate| candidate.state == State::Answered)
            .take(self.config.results)
            .filter_map(|candidate| self.shortlist.contact(candidate))
    }

    /// How many peers were asked or are known to be worth asking.
    #[must_use]
    pub fn known(&self) -> usize {
        self.shortlist.len()
    }

    fn ask(&mut self, index: usize) -> Step<A> {
        self.shortlist[index].state = State::Waiting;
        self.flights[usize::from(self.shortlist[index].path)].pending += 1;
        self.shortlist
            .contact(&self.shortlist[index])
            .map_or(Step::Wait, Step::Ask)
    }

    /// With one path, the k nearest; with several, each path proves its share and all of them the k nearest together.
    fn wanted_on_path(&self) -> usize {
        match self.config.paths {
            1 => self.must_answer(),
            paths => self.config.results.div_ceil(paths).max(self.config.parallelism),
        }
    }

    /// Alpha questions at once while answers bring progress; k when alpha answers in a row brought none.
    fn has_room(&self, path: usize) -> bool {
        let flight = self.flights[path];
        let stalled = flight.idle >= self.config.parallelism;
        flight.pending
            < if stalled {
                self.config.results
            } else {
                self.config.parallelism
            }
    }

    fn ask_among_nearest(&self) -> Option<usize> {
        self.nearest().find_map(|(index, candidate)| {
            (candidate.state == State::New && self.has_room(usize::from(candidate.path))).then_some(index)
        })
    }

    fn nearest_have_answered(&self) -> bool {
        self.nearest()
            .all(|(_, candidate)| candidate.state == State::Answered)
    }

    fn nearest(&self) -> impl Iterator<Item = (usize, &Candidate<A>)> {
        let alive = self
            .shortlist
            .iter()
            .enumerate()
            .filter(|(_, candidate)| candidate.state != State::Failed);
        alive.take(self.must_answer())
    }

    /// How many of the nearest must have answered: the k results, and one more for each that has failed, up to a half. Who
    /// answers tells of the dead as well, in the place of somebody farther away, so the edge of the region takes a few more.
    fn must_answer(&self) -> usize {
        let dead = |candidate: &&Candidate<A>| candidate.state == State::Failed;
        self.config.results
            + self
                .shortlist
                .iter()
                .filter(dead)
                .take(self.config.results / 2)
                .count()
    }

    /// How many of the nearest may be asked: as many as must answer, and one more for each that is slow, which is likely dead.
    /// So what takes its place has answered by the time at which that is known.
    fn may_ask(&self) -> usize {
        let slow = |candidate: &&Candidate<A>| candidate.state == State::Slow;
        self.must_answer()
            + self
                .shortlist
                .iter()
                .filter(slow)
                .take(self.config.results)
                .count()
    }

    /// Moves a question in flight to its end; `None` if there was none.
    fn settle(&mut self, id: NodeId, state: State) -> Option<u8> {
        let index = self.shortlist.position(id)?;
        let candidate = &mut self.shortlist[index];
        let path = candidate.path;
        let flight = &mut self.flights[usize::from(path)];
        match candidate.state {
            State::Waiting => flight.pending = flight.pending.saturating_sub(1),
            State::Slow => {}
            State::New | State::Answered | State::Failed => return None,
        }
        candidate.state = state;
        Some(path)
    }
}

/// The most disjoint paths; d = 8 is the largest that S/Kademlia measured.
pub const MAX_PATHS: usize = 8;

/// Shortlist places for each result. Found by simulation of the paper's setup: with two, a lookup past a dead neighbourhood
/// ran out of candidates; with five, none of 10,000 lookups with half of all contacts dead did.
const SHORTLIST_PER_RESULT: usize = 5;

/// Never fewer shortlist places than this, so that with a small k all seeds of a bootstrap fit, most of them dead.
const SHORTLIST_FLOOR: usize = crate::MAX_SEEDS;

#[cfg(test)]
mod tests;
