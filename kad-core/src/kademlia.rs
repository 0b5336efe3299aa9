//! The state machine: one input, one output, one timer.

mod admission;
mod asking;
mod cache;
mod crowds;
mod lookups;
mod queries;
mod rations;
mod repair;
mod role;
mod serving;
mod sweep;
mod upkeep;
mod waiting;

use alloc::sync::Arc;
use alloc::vec::Vec;

use self::cache::Cache;
use self::serving::Pending;
use crate::clocks::{Change, Clocks};
use crate::maintenance::Maintenance;
use crate::population::{Population, Samples};
use crate::query::Query;
use crate::rewrites::Rewrites;
use crate::rng::Rng;
use crate::rpc::{Flight, Lateness};
use crate::shunned::Shunned;
use crate::slab::{Handle, Slab};
use crate::table::{ClosestScratch, Entry, RoutingTable};
use crate::timers::{Owner, Timers};
use crate::{Address, Config, Event, Input, Instant, NodeId, Now, Outbox, Output, Stats};

/// A Kademlia node without clock, socket, disk or entropy.
///
/// See the [crate documentation](crate) for the loop that drives it and for what is owed to whom.
#[derive(Debug)]
pub struct Kademlia<A> {
    config: Arc<Config>,
    /// Whether this node only asks.
    read_only: bool,
    /// Requests in flight to contacts that have said since that they only ask.
    declined: u32,
    rng: Rng,
    table: RoutingTable<A>,
    queries: Slab<Query<A>>,
    flights: Slab<Flight<A>>,
    pending: Slab<Pending<A>>,
    timers: Timers,
    maintenance: Maintenance,
    lateness: Lateness,
    /// Ids that are being probed: strangers, at most [`Config::max_probes`], and contacts of the table.
    probing: Vec<NodeId>,
    /// Requests in flight that nobody waits for any more.
    judging: usize,
    shunned: Shunned<A>,
    /// Contacts that are silent for longer than they should be, and not for long enough to be shunned.
    suspects: Shunned<A>,
    scratch: ClosestScratch,
    samples: Samples,
    cache: Cache,
    rewrites: Rewrites,
    clocks: Clocks,
    /// Of the last input.
    now: Now,
    stats: Stats,
}

/// Timers that one [`Input::Timeout`] settles; the rest follows a microsecond later. Bounds the output of one input.
const MAX_TIMERS_PER_INPUT: usize = 64;

impl<A: Address> Kademlia<A> {
    /// A node that knows nobody. `seed` feeds a generator that only jitters timers and picks refresh targets: the same
    /// seed and the same inputs give the same outputs.
    #[must_use]
    pub fn new(local: NodeId, config: Arc<Config>, seed: u64, now: Now) -> Self {
        let mut rng = Rng::new(seed);
        let maintenance = Maintenance::new(&config, &mut rng, now.monotonic);
        let mut timers = Timers::default();
        timers.set(Owner::Maintenance, maintenance.next());
        Self {
            read_only: config.read_only,
            declined: 0,
            rng,
            table: RoutingTable::new(local, config.table.clone()),
            queries: Slab::new(),
            flights: Slab::new(),
            pending: Slab::new(),
            timers,
            maintenance,
            lateness: Lateness::default(),
            probing: Vec::new(),
            judging: 0,
            shunned: Shunned::new(),
            suspects: Shunned::new(),
            scratch: ClosestScratch::default(),
            samples: Samples::new(),
            cache: Cache::default(),
            rewrites: Rewrites::new(),
            clocks: Clocks::new(),
            now,
            stats: Stats::default(),
            config,
        }
    }

    /// Takes one input and appends its effects to `out`. The only thing that changes a machine; never fails.
    ///
    /// `now` must not go back on its monotonic clock; the wall clock may jump.
    pub fn handle(&mut self, now: Now, input: Input<A>, out: &mut Outbox<A>) {
        self.clocks.on_input(self.now, now);
        self.now = now;
        match input {
            Input::Command { query, command } => self.on_command(now, query, command, out),
            Input::Cancel { query } => self.on_cancel(now, query, out),
            Input::Request {
                from,
                read_only,
                reply_to,
                request,
            } => {
                self.on_request(now, &from, read_only, reply_to, request, out);
            }
            Input::Proven { id, address } => self.on_proven(Handle::from_u64(id.0), address),
            Input::Response { id, response, rtt } => {
                self.on_response(now, Handle::from_u64(id.0), response, rtt, out);
            }
            Input::Failure { id, failure } => self.on_failure(now, Handle::from_u64(id.0), failure, out),
            Input::Store { id, reply } => self.on_store(now, Handle::from_u64(id.0), reply, out),
            Input::Role { read_only } => self.on_role(now, read_only, out),
            Input::Timeout => self.on_timeout(now, out),
        }
    }

    /// When the next [`Input::Timeout`] is due. After a timeout at t it is later than t.
    ///
    /// It may change after every [`handle`](Self::handle).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first()
    }

    /// The id of this node.
    #[must_use]
    pub const fn local_id(&self) -> NodeId {
        self.table.local()
    }

    /// Whether it only asks.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whom it knows.
    #[must_use]
    pub const fn table(&self) -> &RoutingTable<A> {
        &self.table
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            contacts: self.table.len(),
            queries: self.queries.len(),
            in_flight: self.flights.len(),
            pending: self.pending.len(),
            cached: self.cache.len(),
            population: self.population(),
            clock_offset: self.clock_offset(),
            ..self.stats
        }
    }

    /// How many nodes the network has, as far as this one can tell; `None` before it has looked up a random point and
    /// knows k contacts.
    #[must_use]
    pub fn population(&self) -> Option<Population> {
        self.samples.population(self.config.k).or_else(|| self.guess())
    }

    /// The same from its own k nearest alone.
    fn guess(&self) -> Option<Population> {
        let (k, own, mut scratch) = (self.config.k, self.local_id().to_key(), ClosestScratch::default());
        let last = self.table.closest(own, k, &mut scratch).nth(k.checked_sub(1)?)?;
        Some(Population::guess(k, last.contact.id.distance(own)))
    }

    fn clock_offset(&self) -> Option<i64> {
        self.clocks.offset(self.now, self.table.len())
    }

    /// Tells the application if the wall clock has turned out to be wrong, or right again; and asks contacts for theirs
    /// if what they said is forgotten.
    fn check_clock(&mut self, now: Now, out: &mut Outbox<A>) {
        let (table, clocks) = (&self.table, &mut self.clocks);
        let count = clocks.take_unasked();
        let unheard = |entry: &Entry<'_, A>| entry.failures == 0 && !clocks.has_heard(entry.contact.id);
        let unheard = table.contacts().filter(unheard).take(count);
        let unheard: Vec<_> = unheard.map(|entry| entry.contact.clone()).collect();
        for contact in unheard {
            self.probe(now, contact, out);
        }
        let change = self.clocks.note(self.clock_offset());
        let event = match change {
            Some(Change::Off(offset)) => Event::ClockOff { offset },
            Some(Change::Right) => Event::ClockRight,
            None => return,
        };
        out.push(Output::Event(event));
    }

    fn on_timeout(&mut self, now: Now, out: &mut Outbox<A>) {
        for _ in 0..MAX_TIMERS_PER_INPUT {
            let Some(owner) = self.timers.pop_due(now.monotonic) else {
                return;
            };
            match owner {
                Owner::Rpc(place) => self.on_flight_timer(now, place, out),
                Owner::Query(place) => self.on_query_timer(now, place, out),
                Owner::Maintenance => self.on_maintenance_timer(now, out),
            }
        }
        self.timers.postpone(now.monotonic);
    }
}
