//! One iterative lookup: who to ask next on the way to a point (Kademlia paper, section 2.3).
//!
//! It holds no clock, sends nothing and reads nothing: it is told what became of each question and says whom to ask
//! next. [`Lookup::next`] is a pure function of what was told, so a lookup can be tested against a network that knows
//! everything.
//!
//! ```text
//!             ┌────────────── on_response(id, closer) ◄───────────┐
//!             ▼                                                    │
//!   shortlist, nearest first ── next() ──► Step::Ask(contact) ── a peer
//!             ▲                                                    │
//!             └───── on_failure(id) / on_slow(id) ◄────────────────┘
//! ```

mod paths;
mod shortlist;

use alloc::vec::Vec;

use self::paths::Doubts;
use self::shortlist::{Candidate, Shortlist, State, Told};
use crate::{Address, Contact, Distance, Duration, Key, NodeId};

/// How a lookup walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LookupConfig {
    /// How many of the nearest must have answered, and how many results there are: k.
    pub results: usize,
    /// Questions in flight while the lookup makes progress: alpha.
    pub parallelism: usize,
    /// Paths that share no node, from the start (S/Kademlia, section 4.2); 1 is plain Kademlia.
    pub paths: usize,
    /// The most paths, where the walk comes to an end that is not to be believed.
    pub max_paths: usize,
    /// The region: whoever is within this distance of the target is likely one of the results. [`Distance::ZERO`] where
    /// nothing is known of it.
    pub radius: Distance,
    /// Questions in flight while the next one goes into the region: there is nothing to be learned on the way any more.
    pub near: usize,
    /// Questions in flight on the way to the region, at most alpha. One is enough where every answer that is late is
    /// hedged and requests matter more than the last milliseconds.
    pub far: usize,
    /// Whether the places of those that are likely dead are filled in advance, which saves time and costs requests.
    pub eager: bool,
    /// What an answer of somebody usually takes. It weighs a hop against a faster contact.
    pub usual: Duration,
}

impl LookupConfig {
    /// A walk that knows nothing of the region and of round trips.
    #[must_use]
    pub const fn new(results: usize, parallelism: usize, paths: usize) -> Self {
        Self {
            results,
            parallelism,
            paths,
            max_paths: paths,
            radius: Distance::ZERO,
            near: parallelism,
            far: parallelism,
            eager: true,
            usual: Duration::ZERO,
        }
    }
}

/// A contact from which a lookup starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed<A> {
    /// Who and where.
    pub contact: Contact<A>,
    /// Its round trip, if it was measured.
    pub rtt: Option<Duration>,
}

impl<A> From<Contact<A>> for Seed<A> {
    fn from(contact: Contact<A>) -> Self {
        Self { contact, rtt: None }
    }
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
    doubts: Doubts<A>,
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
        seeds: impl Iterator<Item = Seed<A>>,
    ) -> Self {
        let paths = config.paths.clamp(1, MAX_PATHS);
        let capacity = config.results.saturating_mul(SHORTLIST_PER_RESULT);
        let mut shortlist = Shortlist::new(local, target, capacity.max(SHORTLIST_FLOOR));
        let mut kept = Vec::new();
        for (i, seed) in seeds.enumerate() {
            if config.max_paths > paths {
                kept.push(seed.clone());
            }
            let cost = micros(seed.rtt.unwrap_or(config.usual));
            shortlist.insert(seed.contact, (i % paths) as u8, Told { cost, depth: 1 });
        }
        Self {
            config: LookupConfig { paths, ..config },
            shortlist,
            flights: alloc::vec![Flight::default(); paths],
            doubts: Doubts::new(kept),
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

    /// Whether a node at this point is likely one of the results, for all that is known of the size of the network.
    #[must_use]
    pub fn is_in_region(&self, id: NodeId) -> bool {
        id.distance(self.target()) <= self.config.radius
    }

    /// Whether a peer is one of the k nearest that are known and have not failed.
    #[must_use]
    pub fn is_among_nearest(&self, id: NodeId) -> bool {
        self.nearer(id).filter(|state| !state.is_out()).count() < self.config.results
    }

    /// The same, of those who do not let us wait for longer than most.
    #[must_use]
    pub fn is_among_nearest_in_time(&self, id: NodeId) -> bool {
        let in_time = |state: &State| !state.is_out() && *state != State::Slow;
        self.nearer(id).filter(in_time).count() < self.config.results
    }

    /// What became of those that are nearer.
    fn nearer(&self, id: NodeId) -> impl Iterator<Item = State> + '_ {
        let distance = id.distance(self.target());
        let nearer = self
            .shortlist
            .iter()
            .take_while(move |candidate| candidate.distance() < distance);
        nearer.map(|candidate| candidate.state)
    }

    /// How many hops away a candidate is: 1 for a seed, one more than whoever told of it for the others.
    #[must_use]
    pub fn depth(&self, id: NodeId) -> Option<u8> {
        self.shortlist
            .position(id)
            .map(|index| self.shortlist[index].depth())
    }

    /// Whom to ask next. Call it again until it says something else than [`Step::Ask`].
    #[expect(
        clippy::should_implement_trait,
        reason = "it has no end: what comes next depends on what it is told"
    )]
    pub fn next(&mut self) -> Step<A> {
        loop {
            match self.step() {
                Step::Done if self.open_path() => {}
                step => return step,
            }
        }
    }

    fn step(&mut self) -> Step<A> {
        let (must_answer, may_ask) = (self.config.results, self.may_ask());
        if self.flights.len() > 1 {
            // Each path proves its share, all of them the k nearest together.
            let mut all_answered = true;
            for path in 0..self.flights.len() {
                let share = self.share(path);
                let on_path = |candidate: &Candidate<A>| usize::from(candidate.path) == path;
                match self.choose(share, share, on_path) {
                    Choice::Ask(index) => return self.ask(index),
                    Choice::Wait => all_answered = false,
                    Choice::Done => {}
                }
            }
            return match self.choose(must_answer, may_ask, |_| true) {
                Choice::Ask(index) => self.ask(index),
                Choice::Done if all_answered => Step::Done,
                Choice::Done | Choice::Wait => Step::Wait,
            };
        }
        match self.choose(must_answer, may_ask, |_| true) {
            Choice::Ask(index) => self.ask(index),
            Choice::Done => Step::Done,
            Choice::Wait => Step::Wait,
        }
    }

    /// How many of the nearest on a path must have answered, besides the nearest of all. A path that was opened in
    /// doubt only has to show whether it leads elsewhere.
    fn share(&self, path: usize) -> usize {
        let alpha = self.config.parallelism;
        if path < self.config.paths {
            self.config.results.div_ceil(self.config.paths).max(alpha)
        } else {
            alpha
        }
    }

    /// Among the nearest candidates that have not failed: the one that promises to be fastest of those that have not
    /// been asked and may be.
    ///
    /// Nobody can draw a walk off its way by being fast: only the `may_ask` nearest are looked at, all of which are
    /// asked in the end. Round trips decide in which order.
    fn choose(&self, must_answer: usize, may_ask: usize, among: impl Fn(&Candidate<A>) -> bool) -> Choice {
        let (mut seen, mut all_answered) = (0, true);
        let mut best: Option<(u64, usize)> = None;
        for (index, candidate) in self.shortlist.iter().enumerate() {
            if seen == may_ask {
                break;
            }
            if candidate.state.is_out() || !among(candidate) {
                continue;
            }
            seen += 1;
            all_answered &= candidate.state == State::Answered || seen > must_answer;
            if candidate.state == State::New && self.has_room(candidate) {
                let price = self.price(candidate);
                if best.is_none_or(|(lowest, _)| price < lowest) {
                    best = Some((price, index));
                }
            }
        }
        match best {
            Some((_, index)) => Choice::Ask(index),
            None if all_answered => Choice::Done,
            None => Choice::Wait,
        }
    }

    /// The time, in microseconds, in which this candidate promises to lead into the region: its own round trip and,
    /// from outside, those of the hops that are left: one, and one more for every five bits or so.
    fn price(&self, candidate: &Candidate<A>) -> u64 {
        let (cost, usual) = (u64::from(candidate.cost()), u64::from(micros(self.config.usual)));
        if candidate.distance() <= self.config.radius {
            return cost;
        }
        let region = self.config.radius.leading_zeros();
        let bits = region.saturating_sub(candidate.distance().leading_zeros());
        cost + usual + u64::from(bits) * usual / BITS_PER_HOP
    }

    /// The peer answered, with contacts nearer to the target. Unknown and repeated answers change nothing.
    pub fn on_response(&mut self, id: NodeId, closer: impl Iterator<Item = Contact<A>>) {
        let Some((path, teller)) = self.settle(id, State::Answered) else {
            return;
        };
        let before = self.shortlist.nearest_on(path);
        let depth = teller.depth.saturating_add(1);
        // A teller names first whom it reaches fastest. From here that is a guess: half of the way to the teller, and
        // the more the later it is named, twice the usual round trip for the last.
        let (mut cost, step) = (teller.cost / 2, micros(self.config.usual) / 10);
        for contact in closer {
            self.shortlist.insert(contact, path, Told { cost, depth });
            cost = cost.saturating_add(step);
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
        if matches!(
            self.shortlist[index].state,
            State::Waiting | State::Slow | State::Overdue
        ) {
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

    /// The walk goes on as if the peer were dead. An answer still counts.
    pub fn on_overdue(&mut self, id: NodeId) {
        self.settle(id, State::Overdue);
    }

    /// The nearest peers that have answered, nearest first, at most as many as were wanted.
    pub fn results(&self) -> impl Iterator<Item = Contact<A>> + '_ {
        self.shortlist
            .iter()
            .filter(|candidate| candidate.state == State::Answered)
            .take(self.config.results)
            .filter_map(|candidate| self.shortlist.contact(candidate))
    }

    /// The distances of the nearest peers that are known and have not failed, nearest first, whether they were asked or
    /// not.
    pub(crate) fn nearest(&self) -> impl Iterator<Item = Distance> + '_ {
        let left = self
            .shortlist
            .iter()
            .filter(|candidate| !candidate.state.is_out());
        left.map(Candidate::distance)
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

    /// Alpha questions at once while answers bring progress; k when alpha answers in a row brought none. Into the
    /// region as many as it is said to take.
    fn has_room(&self, candidate: &Candidate<A>) -> bool {
        let flight = self.flights[usize::from(candidate.path)];
        let stalled = flight.idle >= self.config.parallelism;
        let room = if stalled {
            self.config.results
        } else {
            self.config.far
        };
        flight.pending < room
            || (candidate.distance() <= self.config.radius && flight.pending < self.config.near)
    }

    /// How many of the nearest may be asked: the k results, and those that take the places of the dead, so that they
    /// have answered by the time at which that is known. An eager walk counts everybody who is slow, and of the others
    /// as many as were dead so far; one that is not counts every other one who is slow.
    fn may_ask(&self) -> usize {
        let (mut slow, mut out, mut answered) = (0, 0, 0);
        for candidate in self.shortlist.iter() {
            match candidate.state {
                State::Slow => slow += 1,
                State::Overdue | State::Failed => out += 1,
                State::Answered => answered += 1,
                State::New | State::Waiting => {}
            }
        }
        let k = self.config.results;
        if !self.config.eager {
            return k + usize::div_ceil(slow, 2);
        }
        // As if half of k had answered already: the first few say little.
        let expected = k * out / (answered + slow + out + k / 2).max(1);
        k + slow + expected.min(k / 2)
    }

    /// Moves a question in flight to its end; `None` if there was none.
    fn settle(&mut self, id: NodeId, state: State) -> Option<(u8, Told)> {
        let index = self.shortlist.position(id)?;
        let candidate = &mut self.shortlist[index];
        let path = candidate.path;
        let flight = &mut self.flights[usize::from(path)];
        match candidate.state {
            State::Waiting => flight.pending = flight.pending.saturating_sub(1),
            State::Slow | State::Overdue => {}
            State::New | State::Answered | State::Failed => return None,
        }
        candidate.state = state;
        Some((path, candidate.told))
    }
}

/// What one look at the shortlist came to.
enum Choice {
    Ask(usize),
    /// Somebody has not answered yet.
    Wait,
    /// All that must have answered.
    Done,
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

/// Bits by which a hop comes nearer, rounded down: 1 + m_k is 5.69 for k = 20 (`docs/simulation.md`, hop law).
const BITS_PER_HOP: u64 = 5;

/// The most disjoint paths; d = 8 is the largest that S/Kademlia measured.
pub const MAX_PATHS: usize = 8;

/// Shortlist places for each result. Found by simulation of the paper's setup: with two, a lookup past a dead
/// neighbourhood ran out of candidates; with five, none of 10,000 lookups with half of all contacts dead did.
const SHORTLIST_PER_RESULT: usize = 5;

/// Never fewer shortlist places than this, so that with a small k all seeds of a bootstrap fit, most of them dead.
const SHORTLIST_FLOOR: usize = crate::MAX_SEEDS;

#[cfg(test)]
mod tests;
