//! A network in virtual time: the nodes, the wires between them, and one queue of everything that will happen.
//!
//! ```text
//!            ┌──────── Queue: timers, messages, sessions, wake-ups ◄──────────┐
//!            ▼                                                                │
//!   World::next ─► Kademlia::handle ─► Outbox ─► Links (delay, loss, dials) ──┤
//!            │             └─► Shelf (memory store) ──────────────────────────┘
//!            ▼
//!        Happening: what the experiment waits for
//! ```
//!
//! Each node is a whole [`Kademlia`], the one that `kad-node` drives, with the memory store of `kad-store`. The world
//! is its driver: it owes the machine what the contract in `kad-core` says, and nothing here knows how a lookup works.

mod calls;
mod churn;
mod homes;
mod machines;
mod nodes;
mod wires;

use std::sync::Arc;

use kad_core::{
    Command, Config, Contact, Duration, Effort, Failure, Input, Instant, Kademlia, NetworkId, NodeId, Now,
    Outbox, Outcome, Parameters, QueryId, Request, RequestId, Response, Rules, StoreId, StoreOp, StoreReply,
    UnixTime,
};

use self::calls::{Call, CallId, Calls};
pub use self::churn::Growth;
pub use self::homes::Served;
use self::homes::{Errand, Home, Talk, Word};
use self::nodes::{Mind, Node};
use crate::adversary::{Act, Adversary, View};
use crate::links::{Pool, Spot};
use crate::nat::Meeting;
use crate::queue::{Due, Queue};
use crate::{Census, Dice, Links, Place, Sessions, Site, Trace, Traffic};

/// When the simulated world begins, on its wall clocks.
pub const BEGINNING: UnixTime = UnixTime::from_secs(1_800_000_000);

/// Queries of the world's own, which no experiment is told of: joining.
const OWN_QUERY: u64 = 1 << 63;

/// A simulated network.
pub struct World {
    links: Links,
    rules: Rules,
    nodes: Vec<Node>,
    spots: Vec<Spot>,
    pools: Vec<Pool>,
    adversaries: Vec<Box<dyn Adversary>>,
    serving: Census,
    colluders: Census,
    queue: Queue<Arrival>,
    calls: Calls,
    outbox: Outbox<Place>,
    told: std::collections::VecDeque<Happening>,
    now: Instant,
    next_query: u64,
    sessions: Option<Sessions>,
    /// What stands in front of each node; empty where nothing does.
    homes: Vec<Home>,
    /// Nodes that have a home, by their ids.
    numbers: std::collections::BTreeMap<NodeId, u32>,
    /// Nodes that were told to connect, and what they have between them.
    meetings: Vec<Meeting>,
    talks: Vec<Talk>,
    /// Nodes between which nothing gets through, by their side; empty for none.
    sides: Vec<u8>,
    /// Who rejoins asks one of these, besides those whom it remembers.
    entrances: Vec<Contact<Place>>,
    dice: Dice,
    wires: Dice,
    trace: Trace,
    traffic: Traffic,
    events: u64,
}

/// Something on its way through the queue.
#[derive(Debug)]
enum Arrival {
    Request {
        call: CallId,
        from: Contact<Place>,
        read_only: bool,
        to: Contact<Place>,
        request: Request,
    },
    Response {
        call: CallId,
        response: Response<Place>,
    },
    Failure {
        call: CallId,
        failure: Failure,
    },
    Stored {
        node: u32,
        epoch: u32,
        id: StoreId,
        reply: StoreReply,
    },
    Act {
        group: u32,
    },
    Up {
        node: u32,
    },
    Down {
        node: u32,
        epoch: u32,
    },
    Join {
        node: u32,
        epoch: u32,
    },
    Wake {
        token: u64,
    },
    /// A packet between two nodes behind NATs, as seen from outside.
    Word {
        from: u32,
        source: u16,
        to: u32,
        port: u16,
        word: Word,
    },
    /// The timer of the machines of a node behind a NAT.
    Home {
        node: u32,
    },
    /// A target has had its time.
    Unanswered {
        node: u32,
        target: NodeId,
        nonce: [u8; 16],
    },
    /// A place is to be kept.
    Keep {
        node: u32,
        relay: NodeId,
        life: u32,
    },
    /// A node may need more who tell it where it is.
    Tick {
        node: u32,
        life: u32,
    },
    /// A server reminds its NAT that it is there.
    Remind {
        node: u32,
        life: u32,
    },
    /// Something that one of two does later.
    Errand {
        meeting: u32,
        errand: Errand,
    },
}

/// What an experiment is told.
#[derive(Debug)]
pub enum Happening {
    /// A query that it started has ended.
    Finished {
        /// Where.
        node: usize,
        /// Which.
        query: QueryId,
        /// What came of it.
        outcome: Outcome<Place>,
        /// What it took.
        effort: Effort,
    },
    /// A time for which it asked has come.
    Woke {
        /// As given to [`World::wake`].
        token: u64,
    },
    /// A node has come up.
    Up {
        /// Which; its number stays, its id may be new.
        node: usize,
    },
    /// A node went down without a word.
    Down {
        /// Which.
        node: usize,
    },
}

impl World {
    /// A world without nodes.
    #[must_use]
    pub fn new(seed: u64, links: Links) -> Self {
        let mut dice = Dice::new(seed);
        let parameters = Parameters::default();
        Self {
            links,
            rules: Rules::new(NetworkId::new("simulation", &parameters), &parameters),
            nodes: Vec::new(),
            spots: Vec::new(),
            pools: Vec::new(),
            adversaries: Vec::new(),
            serving: Census::default(),
            colluders: Census::default(),
            queue: Queue::new(),
            calls: Calls::default(),
            outbox: Outbox::new(),
            told: std::collections::VecDeque::new(),
            now: Instant::from_micros(1_000_000),
            next_query: 0,
            sessions: None,
            homes: Vec::new(),
            numbers: std::collections::BTreeMap::new(),
            meetings: Vec::new(),
            talks: Vec::new(),
            sides: Vec::new(),
            entrances: Vec::new(),
            wires: dice.fork(),
            dice,
            trace: Trace::new(seed),
            traffic: Traffic::default(),
            events: 0,
        }
    }

    /// Runs the world until something happens that the experiment is told of; `None` when that is not before `until`,
    /// where the clock then stands.
    pub fn next(&mut self, until: Instant) -> Option<Happening> {
        loop {
            if let Some(happening) = self.told.pop_front() {
                return Some(happening);
            }
            let Some((at, due)) = self.queue.pop(until) else {
                self.now = self.now.max(until);
                return None;
            };
            self.now = at;
            match due {
                Due::Timer(node) => self.on_timer(node),
                Due::Payload(arrival) => {
                    self.events += 1;
                    self.arrive(arrival);
                }
            }
        }
    }

    /// Runs the world for a while; what happens is not told.
    pub fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        while self.next(until).is_some() {}
    }

    /// Gives a node a command. Its end is told as [`Happening::Finished`].
    ///
    /// # Panics
    /// If the node is down or an adversary: a bug of the experiment.
    pub fn command(&mut self, node: usize, command: Command<Place>) -> QueryId {
        let query = QueryId(self.next_query);
        self.next_query += 1;
        assert!(self.machine(node).is_some(), "node {node} takes no commands");
        self.feed(node as u32, Input::Command { query, command });
        query
    }

    /// Gives a node a command and runs the world until it ends; everything else that happens meanwhile is not told.
    ///
    /// # Panics
    /// If the node is not up, or goes down meanwhile.
    pub fn ask(&mut self, node: usize, command: Command<Place>) -> (Outcome<Place>, Effort) {
        let asked = self.command(node, command);
        loop {
            match self.next(Instant::MAX) {
                Some(Happening::Finished {
                    query,
                    outcome,
                    effort,
                    ..
                }) if query == asked => return (outcome, effort),
                Some(Happening::Down { node: down }) => {
                    assert_ne!(down, node, "the node that asks went down");
                }
                Some(_) => {}
                None => unreachable!("a node that is up always has a timer"),
            }
        }
    }

    /// Asks to be woken after a while with [`Happening::Woke`].
    pub fn wake(&mut self, after: Duration, token: u64) {
        self.queue.push(self.now + after, Arrival::Wake { token });
    }

    /// The time, on both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let unix = BEGINNING + Duration::from_micros(self.now.as_micros());
        Now {
            monotonic: self.now,
            unix,
        }
    }

    /// What records have to prove in this world.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Chance for the experiment; a part of the seed's run like everything else.
    pub const fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    /// Everything that was sent so far.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Events so far: messages that arrived, answers of stores, nodes that came and went; timers are not counted.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The running hash of all events. The same seed gives the same.
    #[must_use]
    pub const fn trace(&self) -> Trace {
        self.trace
    }

    fn arrive(&mut self, arrival: Arrival) {
        self.trace.fold(self.now.as_micros());
        match arrival {
            Arrival::Request {
                call,
                from,
                read_only,
                to,
                request,
            } => {
                self.trace.fold(to.address.number() as u64);
                self.trace.request(&request);
                self.on_request(call, from, read_only, to, request);
            }
            Arrival::Response { call, response } => {
                self.trace.response(&response);
                self.on_response(call, response);
            }
            Arrival::Failure { call, failure } => {
                if let Some(call) = self.calls.close(call)
                    && self.nodes[call.by as usize].epoch == call.epoch
                {
                    self.feed(call.by, Input::Failure { id: call.id, failure });
                }
            }
            Arrival::Stored {
                node,
                epoch,
                id,
                reply,
            } => {
                if self.nodes[node as usize].epoch == epoch {
                    self.feed(node, Input::Store { id, reply });
                }
            }
            Arrival::Act { group } => self.on_act(group),
            Arrival::Up { node } => self.on_up(node),
            Arrival::Down { node, epoch } => {
                if epoch == ANY_LIFE || self.nodes[node as usize].epoch == epoch {
                    self.on_down(node);
                }
            }
            Arrival::Join { node, epoch } => {
                if self.nodes[node as usize].epoch == epoch {
                    self.join(node as usize);
                }
            }
            Arrival::Wake { token } => {
                self.trace.fold(token);
                self.told.push_back(Happening::Woke { token });
            }
            Arrival::Word {
                from,
                source,
                to,
                port,
                word,
            } => {
                self.trace.fold(u64::from(to) << 8 ^ word.number());
                self.on_word(from, source, to, port, word);
            }
            Arrival::Home { node } => self.on_home(node),
            Arrival::Unanswered { node, target, nonce } => self.on_unanswered(node, target, nonce),
            Arrival::Keep { node, relay, life } => self.on_keep(node, relay, life),
            Arrival::Tick { node, life } => self.on_tick(node, life),
            Arrival::Remind { node, life } => self.on_remind(node, life),
            Arrival::Errand { meeting, errand } => self.on_errand(meeting, errand),
        }
    }

    fn on_act(&mut self, group: u32) {
        let mut acts = Vec::new();
        let mut view = View {
            unix: self.now().unix,
            colluders: &self.colluders,
            dice: &mut self.dice,
        };
        let again = self.adversaries[group as usize].act(&mut view, &mut acts);
        for Act { from, to, request } in acts {
            let one_way = self.one_way(from.address, to.address);
            let call = Call {
                by: NOBODY,
                to: NOBODY,
                epoch: 0,
                id: RequestId(0),
                sent: self.now,
                timed: false,
                dials: false,
                seen: 0,
                port: 0,
                answered: 0,
            };
            let call = self.calls.open(call);
            self.traffic.request(&request);
            self.queue.push(
                self.now + one_way,
                Arrival::Request {
                    call,
                    from,
                    read_only: false,
                    to,
                    request,
                },
            );
        }
        if let Some(after) = again {
            self.queue.push(self.now + after, Arrival::Act { group });
        }
    }
}

/// In place of a node's epoch: whichever life it is in.
const ANY_LIFE: u32 = u32::MAX;

/// In a call, an asker that does not wait for the answer.
const NOBODY: u32 = u32::MAX;

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("nodes", &self.nodes.len())
            .field("now", &self.now)
            .field("events", &self.events)
            .field("waiting", &self.queue.len())
            .finish_non_exhaustive()
    }
}
