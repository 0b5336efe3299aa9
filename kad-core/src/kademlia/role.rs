//! Serving, or only asking: a node changes its role while it runs, and so do its peers.
//!
//! Who only asks is in nobody's table. It says so with every request, and answers every request with *read-only*, PINGs
//! included: whoever reads either forgets it at once, so tables are right after one exchange in either direction. What
//! a peer has said last counts, also for answers to what was asked before.

use alloc::vec::Vec;

use super::Kademlia;
use super::lookups::FAR_OF_UPKEEP;
use crate::query::{FindNode, Task};
use crate::timers::Owner;
use crate::{Address, NodeId, Now, Outbox};

impl<A: Address> Kademlia<A> {
    pub(super) fn on_role(&mut self, now: Now, read_only: bool, out: &mut Outbox<A>) {
        if self.read_only == read_only {
            return;
        }
        let stored = self.holder().is_some();
        self.read_only = read_only;
        if self.table.is_empty() {
            return;
        }
        if !read_only {
            self.come_forward(now, out);
        } else if stored && !self.maintenance.handing {
            // Those that move up in its place are asked with the word that it only asks, so they know that it is gone.
            self.maintenance.handing = true;
            let task = self.handing_over();
            self.start(now, None, Task::Reconcile(task), None, out);
        }
    }

    /// The neighbourhood learns of this node as it is asked, some seconds later once more: a request that was on its
    /// way when the role changed may come last. Before long the node fetches what it is responsible for now.
    fn come_forward(&mut self, now: Now, out: &mut Outbox<A>) {
        let lookup = self.own_lookup(now, FAR_OF_UPKEEP, Vec::new());
        self.maintenance.refreshing = true;
        let task = Task::FindNode(FindNode::contacts());
        self.start(now, None, task, Some(lookup), out);
        self.maintenance
            .begin_anew(&self.config, &mut self.rng, now.monotonic);
        self.timers.set(Owner::Maintenance, self.maintenance.next());
    }

    /// A peer says with a request whether it serves. What it was asked before may still be answered by what it was
    /// then.
    pub(super) fn note_role_of(&mut self, id: NodeId, read_only: bool) {
        if !read_only && self.declined == 0 {
            return;
        }
        for flight in self.flights.values_mut().filter(|flight| flight.contact.id == id) {
            if flight.declined != read_only {
                flight.declined = read_only;
                if read_only {
                    self.declined += 1;
                } else {
                    self.declined -= 1;
                }
            }
        }
    }
}
