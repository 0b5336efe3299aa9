//! The nodes of a world.

use super::*;
use kad_core::{Fingerprint, Key, Slot};

use crate::shelf::Shelf;

/// One node, in all its lives.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) place: Place,
    /// Counts its lives, so that answers to one do not reach the next.
    pub(super) epoch: u32,
    /// Requests that reached it.
    pub(super) served: u32,
    pub(super) timer: Instant,
    pub(super) config: Arc<Config>,
    /// Whether it only asks, and says so.
    pub(super) read_only: bool,
    pub(super) mind: Mind,
    shelf: Option<Box<Shelf>>,
    /// Whom it knew when it went down.
    pub(super) remembered: Vec<Contact<Place>>,
}

/// What makes a node answer.
pub(super) enum Mind {
    Down,
    Honest(Box<Kademlia<Place>>),
    /// The adversary of this number.
    Adversary(u32),
}

impl Node {
    pub(super) const fn contact(&self) -> Contact<Place> {
        Contact::new(self.id, self.place)
    }

    pub(super) fn machine(&self) -> Option<&Kademlia<Place>> {
        match &self.mind {
            Mind::Honest(machine) => Some(machine),
            Mind::Down | Mind::Adversary(_) => None,
        }
    }

    /// Asks its store, which exists once something was put into it.
    pub(super) fn store(&mut self, op: StoreOp, rules: &Rules, unix: UnixTime) -> StoreReply {
        match (&mut self.shelf, op) {
            (None, StoreOp::Get { .. }) => StoreReply::Found {
                found: Vec::new(),
                next: None,
            },
            (None, StoreOp::Due(_)) => StoreReply::Due(Vec::new()),
            (None, StoreOp::Summarize { prefixes }) => {
                StoreReply::Summaries(vec![Fingerprint::default(); prefixes.len()])
            }
            (None, StoreOp::Expire { .. }) => StoreReply::Expired { more: false },
            (shelf, op) => shelf.get_or_insert_default().carry_out(op, rules, unix),
        }
    }

    /// Forgets its records.
    pub(super) fn burn(&mut self) {
        self.shelf = None;
    }

    /// Whether it holds something in a slot.
    pub(super) fn holds(&self, slot: &Slot) -> bool {
        self.shelf.as_ref().is_some_and(|shelf| shelf.holds(slot))
    }

    /// Records that it holds.
    pub(super) fn records(&self) -> u64 {
        self.shelf.as_ref().map_or(0, |shelf| shelf.len())
    }
}

impl World {
    /// One more node. It is up, knows nobody and does nothing until it is told to [`join`](Self::join).
    pub fn add(&mut self, id: NodeId, site: Site, config: &Arc<Config>) -> usize {
        let number = self.add_node(id, site, config, Mind::Down);
        self.start(number as u32);
        number
    }

    /// One more node, which is down.
    pub fn add_down(&mut self, id: NodeId, site: Site, config: &Arc<Config>) -> usize {
        self.add_node(id, site, config, Mind::Down)
    }

    /// Nodes of one adversary, which are let loose at once. They know each other; others have to hear of them.
    pub fn add_adversary(&mut self, members: &[(NodeId, Site)], adversary: Box<dyn Adversary>) -> Vec<usize> {
        let group = self.adversaries.len() as u32;
        self.adversaries.push(adversary);
        let config = Arc::new(Config::default());
        let numbers = members
            .iter()
            .map(|&(id, site)| {
                let number = self.add_node(id, site, &config, Mind::Adversary(group));
                self.colluders.insert(self.nodes[number].contact());
                number
            })
            .collect();
        self.queue.push(self.now, Arrival::Act { group });
        numbers
    }

    /// Turns honest nodes, with the places that they have in others' tables, over to an adversary.
    pub fn corrupt(&mut self, numbers: &[usize], adversary: Box<dyn Adversary>) {
        let group = self.adversaries.len() as u32;
        self.adversaries.push(adversary);
        for &number in numbers {
            let node = &mut self.nodes[number];
            node.mind = Mind::Adversary(group);
            node.epoch += 1;
            let contact = node.contact();
            self.serving.remove(contact.id);
            self.colluders.insert(contact);
        }
        self.queue.push(self.now, Arrival::Act { group });
    }

    /// Takes nodes of adversaries out of the network without a word. They stay down.
    pub fn retire(&mut self, numbers: &[usize]) {
        for &number in numbers {
            let node = &mut self.nodes[number];
            if matches!(node.mind, Mind::Adversary(_)) {
                node.mind = Mind::Down;
                node.epoch += 1;
                self.colluders.remove(node.id);
            }
        }
    }

    fn add_node(&mut self, id: NodeId, site: Site, config: &Arc<Config>, mind: Mind) -> usize {
        let number = self.nodes.len();
        self.nodes.push(Node {
            id,
            place: Place::new(number as u32, site),
            epoch: 0,
            served: 0,
            timer: Instant::MAX,
            config: Arc::clone(config),
            read_only: config.read_only,
            mind,
            shelf: None,
            remembered: Vec::new(),
        });
        if let crate::links::Delay::Internet { .. } = self.links.delay {
            self.spots.push(Spot::anywhere(number, &mut self.wires));
        }
        if self.links.connections.is_some() {
            self.pools.push(Pool::default());
        }
        number
    }

    /// Starts the machine of a node that is down.
    pub(super) fn start(&mut self, number: u32) {
        let (seed, now) = (self.dice.roll(), self.now());
        let node = &mut self.nodes[number as usize];
        node.epoch += 1;
        node.timer = Instant::MAX;
        node.mind = Mind::Honest(Box::new(Kademlia::new(
            node.id,
            Arc::clone(&node.config),
            seed,
            now,
        )));
        node.read_only = node.config.read_only;
        if !node.read_only {
            let contact = node.contact();
            self.serving.insert(contact);
        }
        self.rehome(number);
        self.arm(number);
    }

    /// Nodes that there ever were, whether they are up or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there never was a node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The id and the place of a node.
    #[must_use]
    pub fn contact(&self, number: usize) -> Contact<Place> {
        self.nodes[number].contact()
    }

    /// The machine of a node that is up and honest.
    #[must_use]
    pub fn machine(&self, number: usize) -> Option<&Kademlia<Place>> {
        self.nodes[number].machine()
    }

    /// A node loses its disk.
    pub fn burn(&mut self, number: usize) {
        self.nodes[number].burn();
    }

    /// Records that a node holds.
    #[must_use]
    pub fn records_at(&self, number: usize) -> u64 {
        self.nodes[number].records()
    }

    /// Whether a node holds something in a slot.
    #[must_use]
    pub fn holds(&self, number: usize, slot: &Slot) -> bool {
        self.nodes[number].holds(slot)
    }

    /// Requests that reached a node so far.
    #[must_use]
    pub fn served_by(&self, number: usize) -> u32 {
        self.nodes[number].served
    }

    /// Honest nodes that are up and serve others: what lookups should find.
    #[must_use]
    pub const fn serving(&self) -> &Census {
        &self.serving
    }

    /// The `n` nearest to a point of those that serve, without the node that asks: what its lookup should find.
    #[must_use]
    pub fn closest_to_others(&self, node: usize, target: Key, n: usize) -> Vec<Contact<Place>> {
        let me = self.contact(node).id;
        let mut closest = self.serving.closest(target, n + 1);
        closest.retain(|contact| contact.id != me);
        closest.truncate(n);
        closest
    }

    /// Nodes of adversaries.
    #[must_use]
    pub const fn colluders(&self) -> &Census {
        &self.colluders
    }

    /// A random node that is up, honest and serves.
    ///
    /// # Panics
    /// If there is none.
    pub fn anyone(&mut self) -> usize {
        assert!(!self.serving.is_empty(), "nobody is up");
        loop {
            let number = self.dice.below(self.nodes.len());
            if self.serving.contains(self.nodes[number].id) && self.nodes[number].machine().is_some() {
                return number;
            }
        }
    }
}
