//! A machine whose contract is checked with every input: what it owes, what it is owed, its timer, its bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;

use kad_core::{
    Config, Contact, Event, Input, Kademlia, MAX_CLOSER, NodeId, Now, Outbox, Output, QueryId, ReplyId,
    Request, RequestId, StoreId,
};

/// The most effects of one input. A timeout settles at most 64 timers, and each can end one query: that cancels at most
/// three questions for each of k contacts, starts one query, and tells what came of it.
pub(crate) const MAX_OUTPUTS: usize = 64 * (3 * MAX_CLOSER + 8);

/// A machine and everything that is open between it and its driver.
pub(crate) struct Checked {
    machine: Kademlia<u32>,
    config: Arc<Config>,
    outbox: Outbox<u32>,
    last: Now,
    asked: BTreeMap<RequestId, Contact<u32>>,
    owed: BTreeSet<ReplyId>,
    storing: BTreeSet<StoreId>,
    running: BTreeSet<QueryId>,
    /// The table, as far as events told of it.
    told: BTreeSet<NodeId>,
    trace: Fnv,
    most_outputs: usize,
}

impl Checked {
    pub(crate) fn new(local: NodeId, config: Arc<Config>, seed: u64, now: Now) -> Self {
        Self {
            machine: Kademlia::new(local, Arc::clone(&config), seed, now),
            config,
            outbox: Outbox::new(),
            last: now,
            asked: BTreeMap::new(),
            owed: BTreeSet::new(),
            storing: BTreeSet::new(),
            running: BTreeSet::new(),
            told: BTreeSet::new(),
            trace: Fnv(0xcbf2_9ce4_8422_2325),
            most_outputs: 0,
        }
    }

    pub(crate) fn machine(&self) -> &Kademlia<u32> {
        &self.machine
    }

    /// A hash of all effects so far.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.0
    }

    /// The most effects that one input had so far.
    pub(crate) fn most_outputs(&self) -> usize {
        self.most_outputs
    }

    /// Requests that wait for their answer.
    pub(crate) fn asked(&self) -> &BTreeMap<RequestId, Contact<u32>> {
        &self.asked
    }

    /// Store operations that wait for their reply.
    pub(crate) fn storing(&self) -> &BTreeSet<StoreId> {
        &self.storing
    }

    /// Queries that have not ended.
    pub(crate) fn running(&self) -> &BTreeSet<QueryId> {
        &self.running
    }

    /// Feeds one input, checks what came of it, and hands it out.
    pub(crate) fn handle(&mut self, now: Now, input: Input<u32>) -> Vec<Output<u32>> {
        assert!(
            now.monotonic >= self.last.monotonic,
            "the driver's clock went back"
        );
        self.last = now;
        let timeout = matches!(input, Input::Timeout);
        self.note_input(&input);
        self.machine.handle(now, input, &mut self.outbox);
        assert!(
            self.outbox.len() <= MAX_OUTPUTS,
            "{} effects of one input",
            self.outbox.len()
        );
        self.most_outputs = self.most_outputs.max(self.outbox.len());
        let mut outputs = Vec::new();
        while let Some(output) = self.outbox.pop() {
            self.note_output(&output);
            outputs.push(output);
        }
        self.check_table(&outputs);
        if timeout {
            let next = self.machine.poll_timeout();
            assert!(
                next.is_none_or(|at| at > now.monotonic),
                "a timeout at {now:?} left one at {next:?}"
            );
        }
        let stats = self.machine.stats();
        assert_eq!(stats.in_flight, self.asked.len(), "requests in flight");
        assert_eq!(stats.pending, self.storing.len(), "operations of the store");
        assert!(self.owed.len() <= self.storing.len(), "a request was forgotten");
        assert!(self.running.len() <= stats.queries, "a query was forgotten");
        // Twice those of the application with the repairs of its reads, records handed on, one refresh.
        let most = 2 * self.config.max_queries + self.config.max_replications + 1;
        assert!(stats.queries <= most, "{} queries", stats.queries);
        assert_eq!(
            stats.contacts as u64,
            stats.contacts_added - stats.contacts_removed,
            "contacts that entered and left"
        );
        outputs
    }

    /// The table is the one that the events told of.
    fn check_table(&self, outputs: &[Output<u32>]) {
        let contacts = self.machine.table().contacts();
        let changed = outputs.iter().any(|output| {
            let Output::Event(event) = output else {
                return false;
            };
            matches!(event, Event::ContactAdded(_) | Event::ContactRemoved(_))
        });
        match changed {
            true => {
                let table: BTreeSet<NodeId> = contacts.map(|entry| entry.contact.id).collect();
                assert_eq!(table, self.told, "events told of another table");
            }
            false => assert_eq!(
                contacts.count(),
                self.told.len(),
                "the table changed without a word"
            ),
        }
    }

    fn note_input(&mut self, input: &Input<u32>) {
        match input {
            Input::Command { query, .. } => assert!(self.running.insert(*query), "{query:?} was used again"),
            Input::Cancel { query } => {
                self.running.remove(query);
            }
            Input::Request { reply_to, .. } => {
                assert!(self.owed.insert(*reply_to), "{reply_to:?} was used again");
            }
            Input::Response { id, .. } | Input::Failure { id, .. } => {
                self.asked.remove(id);
            }
            Input::Store { id, .. } => {
                self.storing.remove(id);
            }
            Input::Timeout | Input::Role { .. } | Input::Proven { .. } => {}
        }
    }

    fn note_output(&mut self, output: &Output<u32>) {
        let _ = write!(self.trace, "{output:?}");
        match output {
            Output::Request { id, to, request } => {
                // Only the application may want this node to PING itself.
                let itself = to.id == self.machine.local_id();
                assert!(!itself || *request == Request::Ping, "asks itself");
                assert!(self.asked.insert(*id, *to).is_none(), "{id:?} is in flight twice");
            }
            Output::Cancel { id } => assert!(self.asked.remove(id).is_some(), "{id:?} was not in flight"),
            Output::Response { reply_to, .. } => {
                assert!(self.owed.remove(reply_to), "{reply_to:?} was not owed");
            }
            Output::Store { id, .. } => assert!(self.storing.insert(*id), "{id:?} is under way twice"),
            Output::Event(Event::QueryFinished { query, .. }) => {
                assert!(self.running.remove(query), "{query:?} was not under way");
            }
            Output::Event(Event::ContactAdded(contact)) => {
                // One input can bring it in and out again; `check_table` compares what is left in the end.
                assert!(self.told.insert(contact.id), "{contact:?} was there");
            }
            Output::Event(Event::ContactRemoved(id)) => {
                assert!(self.told.remove(id), "{id:?} was not there");
            }
            Output::Event(_) => {}
        }
    }
}

/// FNV-1a: enough to tell two traces apart.
struct Fnv(u64);

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
