//! Many machines in one thread, in virtual time: a heap of events, delays from a seed, nodes that can die.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use kad_core::{
    Command, Config, Contact, Duration, Effort, Event, Failure, Input, Instant, Key, NodeId, Now, Outcome,
    Output, QueryId, ReplyId, Request, RequestId, Response, StoreId, StoreReply, UnixTime,
};

use crate::contract::Checked;
use crate::shelf::Shelf;

/// When the simulated world begins, on its wall clocks.
pub(crate) const BEGINNING: u64 = 1_800_000_000;

/// More events than any test here needs; a run that goes beyond does not come to rest.
const MAX_EVENTS: u64 = 20_000_000;

/// SplitMix64, so that a run depends on nothing but its seed.
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    pub(crate) fn key(&mut self) -> Key {
        Key::from_limbs([self.roll(), self.roll(), self.roll(), self.roll()])
    }
}

/// One node of the simulation; its address is its place.
pub(crate) struct Node {
    pub(crate) machine: Checked,
    pub(crate) shelf: Shelf,
    pub(crate) alive: bool,
    /// How much longer its answers are on their way than those of others.
    pub(crate) remote: Duration,
    /// By how many seconds its wall clock is ahead of that of the world.
    pub(crate) clock_offset: i64,
    pub(crate) config: Arc<Config>,
    /// What the application was told, but for the ends of queries.
    pub(crate) events: Vec<Event<u32>>,
    replies: BTreeMap<ReplyId, Asked>,
    timer: Option<Instant>,
}

/// A request that reached its node.
#[derive(Clone, Copy)]
struct Asked {
    by: u32,
    id: RequestId,
    sent: Instant,
    timed: bool,
    /// What the asker was when it asked.
    read_only: bool,
}

enum Arrival {
    Timer,
    Request {
        asked: Asked,
        from: Contact<u32>,
        to: NodeId,
        request: Request,
    },
    Response {
        id: RequestId,
        response: Response<u32>,
        rtt: Option<Duration>,
    },
    Failure {
        id: RequestId,
        failure: Failure,
    },
    Store {
        id: StoreId,
        reply: StoreReply,
    },
}

/// The world.
pub(crate) struct Simulation {
    pub(crate) nodes: Vec<Node>,
    pub(crate) dice: Dice,
    now: Instant,
    /// How far the wall clocks are off.
    pub(crate) clock_offset: i64,
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    arrivals: BTreeMap<u64, (u32, Arrival)>,
    outcomes: BTreeMap<QueryId, (Outcome<u32>, Effort)>,
    next_query: u64,
    next_arrival: u64,
    next_reply: u64,
    /// The longest way from node to node, one way.
    pub(crate) longest_way: Duration,
}

impl Simulation {
    /// A world without nodes.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            nodes: Vec::new(),
            dice: Dice(seed),
            now: Instant::from_micros(1_000_000),
            clock_offset: 0,
            heap: BinaryHeap::new(),
            arrivals: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            next_query: 0,
            next_arrival: 0,
            next_reply: 0,
            longest_way: Duration::from_millis(40),
        }
    }

    /// A network of nodes with random ids, all of them joined through the first.
    pub(crate) fn joined(seed: u64, nodes: usize, config: &Config) -> Self {
        let mut world = Self::new(seed);
        let config = Arc::new(config.clone());
        for _ in 0..nodes {
            let id = world.dice.key().to_node_id();
            world.add(id, &config);
        }
        world.join_all();
        world
    }

    /// Lets every node but the first join through the first, a few at a time.
    pub(crate) fn join_all(&mut self) {
        let first = self.contact(0);
        let mut joins = Vec::new();
        for node in 1..self.nodes.len() as u32 {
            joins.push(self.command(
                node,
                Command::Bootstrap {
                    contacts: vec![first],
                },
            ));
            self.run_for(Duration::from_millis(100));
        }
        for join in joins {
            let (outcome, _) = self.wait(join);
            assert!(matches!(outcome, Outcome::Bootstrapped { .. }), "{outcome:?}");
        }
    }

    /// One more node, which knows nobody.
    pub(crate) fn add(&mut self, id: NodeId, config: &Arc<Config>) -> u32 {
        let (seed, now) = (self.dice.roll(), self.clocks());
        self.nodes.push(Node {
            machine: Checked::new(id, Arc::clone(config), seed, now),
            shelf: Shelf::default(),
            alive: true,
            remote: Duration::ZERO,
            clock_offset: 0,
            config: Arc::clone(config),
            events: Vec::new(),
            replies: BTreeMap::new(),
            timer: None,
        });
        let node = self.nodes.len() as u32 - 1;
        self.arm(node);
        node
    }

    pub(crate) fn contact(&self, node: u32) -> Contact<u32> {
        Contact::new(self.id(node), node)
    }

    pub(crate) fn id(&self, node: u32) -> NodeId {
        self.nodes[node as usize].machine.machine().local_id()
    }

    /// Kills a node without a word to anybody.
    pub(crate) fn kill(&mut self, node: u32) {
        self.nodes[node as usize].alive = false;
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.nodes.len() as u32).filter(|&node| self.nodes[node as usize].alive)
    }

    pub(crate) const fn monotonic(&self) -> Instant {
        self.now
    }

    pub(crate) fn unix(&self) -> UnixTime {
        self.clocks().unix
    }

    /// The nodes alive that serve others, nearest to a point first.
    pub(crate) fn nearest(&self, target: Key) -> Vec<u32> {
        let serves = |node: &u32| !self.nodes[*node as usize].machine.machine().is_read_only();
        let mut all: Vec<u32> = self.living().filter(serves).collect();
        all.sort_by_key(|&node| self.id(node).distance(target));
        all
    }

    /// Gives a node a command.
    pub(crate) fn command(&mut self, node: u32, command: Command<u32>) -> QueryId {
        let query = QueryId(self.next_query);
        self.next_query += 1;
        self.feed(node, Input::Command { query, command });
        query
    }

    /// Gives a node a command and runs the world until it ends.
    pub(crate) fn ask(&mut self, node: u32, command: Command<u32>) -> (Outcome<u32>, Effort) {
        let query = self.command(node, command);
        self.wait(query)
    }

    /// Runs the world until a query ends.
    pub(crate) fn wait(&mut self, query: QueryId) -> (Outcome<u32>, Effort) {
        loop {
            if let Some(ended) = self.outcomes.remove(&query) {
                return ended;
            }
            assert!(
                self.step(Instant::from_micros(u64::MAX)),
                "the world stands still, {query:?} is under way"
            );
        }
    }

    /// Runs the world for a while.
    pub(crate) fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        while self.step(until) {}
        self.now = until;
    }

    /// A hash of everything that any node ever did.
    pub(crate) fn trace(&self) -> u64 {
        let traces = self.nodes.iter().map(|node| node.machine.trace());
        traces.fold(0, |all, one| (all ^ one).wrapping_mul(0x0100_0000_01b3))
    }

    /// What the clocks of a node show.
    pub(crate) fn clocks_of(&self, place: u32) -> Now {
        let now = self.clocks();
        let secs = now.unix.as_secs();
        let unix = UnixTime::from_secs(secs.saturating_add_signed(self.nodes[place as usize].clock_offset));
        Now { unix, ..now }
    }

    fn clocks(&self) -> Now {
        let secs = BEGINNING + self.now.as_micros() / 1_000_000;
        Now {
            monotonic: self.now,
            unix: UnixTime::from_secs(secs.saturating_add_signed(self.clock_offset)),
        }
    }

    fn step(&mut self, until: Instant) -> bool {
        let Some(&Reverse((at, number))) = self.heap.peek().filter(|Reverse((at, _))| *at <= until) else {
            return false;
        };
        assert!(number < MAX_EVENTS, "the world does not come to rest");
        self.heap.pop();
        self.now = at;
        if let Some((node, arrival)) = self.arrivals.remove(&number) {
            self.arrive(node, arrival);
        }
        true
    }

    fn arrive(&mut self, place: u32, arrival: Arrival) {
        let now = self.now;
        let known = self.nodes.get_mut(place as usize).filter(|node| node.alive);
        let input = match (arrival, known) {
            (Arrival::Timer, Some(node)) => {
                if node.timer != Some(now) {
                    return; // An earlier one was armed since.
                }
                node.timer = None;
                if node.machine.machine().poll_timeout().is_none_or(|at| at > now) {
                    return self.arm(place);
                }
                Input::Timeout
            }
            (Arrival::Request { asked, to, .. }, None) => {
                // Half of the dead are silent, of the others the transport knows at once.
                if to.to_key().to_limbs()[3] % 2 == 0 {
                    self.fail(asked, Failure::Unreachable);
                }
                return;
            }
            (Arrival::Request { asked, to, .. }, Some(node)) if node.machine.machine().local_id() != to => {
                return self.fail(asked, Failure::WrongIdentity);
            }
            (
                Arrival::Request {
                    asked, from, request, ..
                },
                Some(_),
            ) => {
                let reply_to = ReplyId(self.next_reply);
                self.next_reply += 1;
                let read_only = asked.read_only;
                self.nodes[place as usize].replies.insert(reply_to, asked);
                Input::Request {
                    from,
                    read_only,
                    reply_to,
                    request,
                }
            }
            (Arrival::Response { id, response, rtt }, Some(_)) => Input::Response { id, response, rtt },
            (Arrival::Failure { id, failure }, Some(_)) => Input::Failure { id, failure },
            (Arrival::Store { id, reply }, Some(_)) => Input::Store { id, reply },
            (_, None) => return,
        };
        self.feed(place, input);
    }

    fn fail(&mut self, asked: Asked, failure: Failure) {
        let delay = self.delay();
        self.push(
            delay,
            asked.by,
            Arrival::Failure {
                id: asked.id,
                failure,
            },
        );
    }

    /// Feeds an input to a node and carries out what comes of it.
    pub(crate) fn feed(&mut self, place: u32, input: Input<u32>) {
        let now = self.clocks_of(place);
        let outputs = self.nodes[place as usize].machine.handle(now, input);
        for output in outputs {
            self.carry_out(place, output);
        }
        self.arm(place);
    }

    /// What a node answers to a request of somebody who is no part of the world, at once.
    pub(crate) fn serve(&mut self, place: u32, request: Request) -> Response<u32> {
        let (now, reply_to) = (self.clocks_of(place), ReplyId(self.next_reply));
        self.next_reply += 1;
        let stranger = Contact::new(NodeId::from_limbs([1, 2, 3, 4]), u32::MAX);
        let mut inputs = vec![Input::Request {
            from: stranger,
            read_only: true,
            reply_to,
            request,
        }];
        let mut answer = None;
        while let Some(input) = inputs.pop() {
            for output in self.nodes[place as usize].machine.handle(now, input) {
                match output {
                    Output::Response { response, .. } => answer = Some(response),
                    Output::Store { id, op } => {
                        let reply = self.nodes[place as usize].shelf.carry_out(op, now.unix);
                        inputs.push(Input::Store { id, reply });
                    }
                    other => self.carry_out(place, other),
                }
            }
        }
        self.arm(place);
        answer.expect("it answers at once")
    }

    fn carry_out(&mut self, place: u32, output: Output<u32>) {
        match output {
            Output::Request { id, to, request } => {
                let asked = Asked {
                    by: place,
                    id,
                    sent: self.now,
                    read_only: self.nodes[place as usize].machine.machine().is_read_only(),
                    timed: matches!(request, Request::Ping | Request::FindNode { card: false, .. }),
                };
                let (from, delay) = (self.contact(place), self.delay());
                let arrival = Arrival::Request {
                    asked,
                    from,
                    to: to.id,
                    request,
                };
                self.push(delay, to.address, arrival);
            }
            Output::Response { reply_to, response } => {
                let asked = self.nodes[place as usize]
                    .replies
                    .remove(&reply_to)
                    .expect("asked once");
                let delay = self.delay() + self.nodes[place as usize].remote;
                let took = self.now.since(asked.sent) + delay;
                let arrival = Arrival::Response {
                    id: asked.id,
                    response,
                    rtt: asked.timed.then_some(took),
                };
                self.push(delay, asked.by, arrival);
            }
            Output::Store { id, op } => {
                let unix = self.clocks_of(place).unix;
                let reply = self.nodes[place as usize].shelf.carry_out(op, unix);
                self.push(Duration::from_micros(200), place, Arrival::Store { id, reply });
            }
            Output::Event(Event::QueryFinished {
                query,
                outcome,
                effort,
            }) => {
                self.outcomes.insert(query, (outcome, effort));
            }
            Output::Event(event) => self.nodes[place as usize].events.push(event),
            // The answer may come nevertheless; the machine must not mind.
            Output::Cancel { .. } => {}
        }
    }

    fn delay(&mut self) -> Duration {
        let longest = self.longest_way.as_micros() as u64;
        Duration::from_micros(longest / 8 + self.dice.below(longest * 7 / 8))
    }

    fn push(&mut self, delay: Duration, node: u32, arrival: Arrival) {
        let number = self.next_arrival;
        self.next_arrival += 1;
        self.heap.push(Reverse((self.now + delay, number)));
        self.arrivals.insert(number, (node, arrival));
    }

    fn arm(&mut self, place: u32) {
        let node = &mut self.nodes[place as usize];
        let Some(at) = node.machine.machine().poll_timeout() else {
            return;
        };
        if node.timer.is_none_or(|armed| at < armed) {
            node.timer = Some(at);
            self.push(at.since(self.now), place, Arrival::Timer);
        }
    }
}
