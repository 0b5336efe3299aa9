//! The driver of the nodes' machines: what the contract of `kad-core` asks of one, in virtual time.

use kad_core::{Event, Input, Instant, Kademlia, Now, Outbox, Outcome, Output, StoreOp};

use super::calls::CallId;
use super::nodes::Mind;
use super::{Arrival, Happening, OWN_QUERY, World};
use crate::Place;

impl World {
    pub(super) fn on_timer(&mut self, number: u32) {
        let now = self.now;
        let node = &mut self.nodes[number as usize];
        if node.timer != now {
            return; // Another one was armed since.
        }
        node.timer = Instant::MAX;
        match node.machine().and_then(Kademlia::poll_timeout) {
            Some(at) if at <= now => self.feed(number, Input::Timeout),
            Some(_) => self.arm(number),
            None => {}
        }
    }

    /// Feeds an input to a node that is up and carries out what comes of it.
    pub(super) fn feed(&mut self, number: u32, input: Input<Place>) {
        let now = self.now();
        let mut outbox = std::mem::take(&mut self.outbox);
        if let Mind::Honest(machine) = &mut self.nodes[number as usize].mind {
            machine.handle(now, input, &mut outbox);
        }
        while let Some(output) = outbox.pop() {
            self.carry_out(number, output, now, &mut outbox);
        }
        self.outbox = outbox;
        self.arm(number);
    }

    pub(super) fn carry_out(
        &mut self,
        number: u32,
        output: Output<Place>,
        now: Now,
        outbox: &mut Outbox<Place>,
    ) {
        match output {
            Output::Request { id, to, request } => self.send(number, id, to, request),
            // The answer may come nevertheless; the machine does not mind.
            Output::Cancel { .. } => {}
            Output::Response { reply_to, response } => {
                let me = self.nodes[number as usize].place;
                self.respond(CallId::from_u64(reply_to.0), me, response);
            }
            Output::Store { id, op } => {
                let writes = matches!(op, StoreOp::Put { .. });
                let node = &mut self.nodes[number as usize];
                let reply = node.store(op, &self.rules, now.unix);
                if writes && !self.links.disk.is_zero() {
                    let epoch = node.epoch;
                    self.queue.push(
                        self.now + self.links.disk,
                        Arrival::Stored {
                            node: number,
                            epoch,
                            id,
                            reply,
                        },
                    );
                } else if let Mind::Honest(machine) = &mut node.mind {
                    machine.handle(now, Input::Store { id, reply }, outbox);
                }
            }
            Output::Event(event) => self.on_event(number, event),
        }
    }

    pub(super) fn on_event(&mut self, number: u32, event: Event<Place>) {
        match event {
            Event::QueryFinished {
                query,
                outcome,
                effort,
            } => {
                self.trace.fold(query.0);
                self.trace.outcome(&outcome);
                if query.0 >= OWN_QUERY {
                    self.traffic.joining += u64::from(effort.requests);
                    if matches!(outcome, Outcome::Failed(_)) {
                        self.rejoin(number);
                    }
                    return;
                }
                self.told.push_back(Happening::Finished {
                    node: number as usize,
                    query,
                    outcome,
                    effort,
                });
            }
            Event::Isolated => self.rejoin(number),
            _ => {}
        }
    }

    pub(super) fn arm(&mut self, number: u32) {
        let node = &mut self.nodes[number as usize];
        let Some(at) = node.machine().and_then(Kademlia::poll_timeout) else {
            return;
        };
        if at < node.timer {
            node.timer = at.max(self.now);
            self.queue.push_timer(node.timer, number);
        }
    }
}
