//! Records of one region and the nodes around it: who gets which, in as few STOREs as they fit into.
//!
//! Keys that begin alike have the same holders, so one lookup serves many of them. Each record is allotted to the k
//! nodes that are nearest to it of those that the lookup found; each node is then sent what is allotted to it, one
//! STORE at a time. A node that fails is sent no more, and the next nearest takes its
//! place, as it does for a record of which a node says that it is no holder.

use alloc::vec::Vec;

use super::{Again, Region};
use crate::lookup::Lookup;
use crate::message::{MAX_RECORD_BYTES, MAX_RECORDS};
use crate::{
    Address, Contact, Key, Kind, NodeId, Population, Prefix, Record, RecordError, StoreEntry, Verdict,
};

/// What decides where a record belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placing {
    pub(crate) k: usize,
    /// The own id, if this node stores for others.
    pub(crate) me: Option<NodeId>,
    /// The size of the network, as far as it is known: without it nobody is a crowd.
    pub(crate) population: Option<Population>,
}

/// The nodes of a region, and the records that they get.
#[derive(Debug)]
pub(super) struct Allotment<A> {
    placing: Placing,
    /// Where all nodes are known that its keys have among their k nearest, or nearly all.
    known: Prefix,
    nodes: Vec<Place<A>>,
    records: Vec<Allotted>,
}

/// A node and what it gets.
#[derive(Debug)]
struct Place<A> {
    contact: Contact<A>,
    /// Records that it has yet to be sent.
    waiting: Vec<usize>,
    /// Records of the STORE that it has not answered yet.
    sent: Option<Vec<usize>>,
    is_gone: bool,
}

/// A record and how it fares.
#[derive(Debug)]
pub(super) struct Allotted {
    pub(super) record: Record,
    /// The nodes that it was allotted to, and what they said.
    asked: Vec<(usize, Option<Verdict>)>,
    /// How many nodes it should lie with, this one left out; at least one where nobody was known, so that it is
    /// lacking.
    pub(super) wanted: usize,
    /// Whether this node is one of the k nearest itself.
    pub(super) is_ours: bool,
}

/// What the nodes said of a record.
#[derive(Debug, Clone)]
pub(super) struct Said<A> {
    /// Who acknowledged.
    pub(super) holders: Vec<Contact<A>>,
    /// Who refused, and why.
    pub(super) refused: Vec<(Contact<A>, Verdict)>,
}

impl<A> Said<A> {
    /// Nobody said anything.
    pub(super) const fn nothing() -> Self {
        Self {
            holders: Vec::new(),
            refused: Vec::new(),
        }
    }
}

impl Allotted {
    /// How many have acknowledged it.
    pub(super) fn acknowledged(&self) -> usize {
        let said = self.asked.iter().filter_map(|(_, verdict)| verdict.as_ref());
        said.filter(|verdict| verdict.is_acknowledgement()).count()
    }

    /// When this node, if it keeps the record, should store it again. Of those that it should lie with, so many are
    /// enough.
    ///
    /// Who refuses it for good will refuse it again in ten minutes: that is no reason to come back so soon.
    pub(super) fn again(&self, enough: usize) -> Again {
        let said = self.asked.iter().filter_map(|(_, verdict)| verdict.as_ref());
        let lasting = |verdict: &&Verdict| {
            verdict.is_acknowledgement() || !verdict.is_no_holder() && !may_pass(verdict)
        };
        if self.is_outdated() || said.filter(lasting).count() < enough.min(self.wanted) {
            return Again::Soon;
        }
        match self.acknowledged() == 0 && !self.asked.is_empty() {
            true => Again::Refused,
            false => Again::Usual,
        }
    }

    /// Whether it is mutable, and most of those who answered say to hold a newer version. One that lies must not be
    /// believed.
    fn is_outdated(&self) -> bool {
        if self.record.kind() != Kind::Mutable {
            return false;
        }
        let said = self.asked.iter().filter_map(|(_, verdict)| verdict.as_ref());
        let newer = said
            .filter(|verdict| matches!(verdict, Verdict::Stale { .. }))
            .count();
        newer > self.acknowledged()
    }

    fn is_allotted_to(&self, node: usize) -> bool {
        self.asked.iter().any(|(asked, _)| *asked == node)
    }
}

impl<A: Address> Allotment<A> {
    /// For what a lookup of 2 k nodes around a point of a region has found. Those that are gone get nothing.
    ///
    /// A network that has grown may have more nodes there than was thought. Where even the farthest that was found lies
    /// in the region, there are others in it, and only the part that ends with the farthest is known.
    pub(super) fn new(lookup: &Lookup<A>, region: Prefix, placing: Placing, gone: &[NodeId]) -> Self {
        let nodes: Vec<Contact<A>> = lookup.results().collect();
        let target = lookup.target();
        let in_common = nodes
            .last()
            .map_or(0, |farthest| farthest.id.distance(target).leading_zeros());
        let has_more = nodes.len() >= placing.k.saturating_mul(2) && in_common >= u32::from(region.len());
        let known = match has_more {
            true => Prefix::new(
                target.to_limbs()[0],
                u8::try_from(in_common + 1).unwrap_or(u8::MAX),
            ),
            false => region,
        };
        let left = nodes.into_iter().filter(|node| !gone.contains(&node.id));
        Self::of(left, known, placing)
    }

    fn of(nodes: impl Iterator<Item = Contact<A>>, known: Prefix, placing: Placing) -> Self {
        let place = |contact| Place {
            contact,
            waiting: Vec::new(),
            sent: None,
            is_gone: false,
        };
        Self {
            placing,
            known,
            nodes: nodes.map(place).collect(),
            records: Vec::new(),
        }
    }

    /// The keys whose k nearest are among the nodes.
    pub(super) const fn known(&self) -> Prefix {
        self.known
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn records(&self) -> &[Allotted] {
        &self.records
    }

    /// Mutable records of which most have newer versions.
    pub(super) fn outdated(&self) -> impl Iterator<Item = Key> + '_ {
        let outdated = self.records.iter().filter(|held| held.is_outdated());
        outdated.map(|held| held.record.key())
    }

    /// Forgets the records, and keeps the nodes.
    pub(super) fn clear(&mut self) {
        self.records.clear();
        for node in &mut self.nodes {
            node.waiting.clear();
            node.sent = None;
        }
    }

    /// Gives a record to the nodes nearest to it.
    ///
    /// # Errors
    /// Gives it back where these are a crowd: a lookup of the key alone finds who is behind it.
    pub(super) fn add(&mut self, record: Record) -> Result<(), Record> {
        let key = record.key();
        let k = self.placing.k;
        let mut nearest: Vec<usize> = (0..self.nodes.len())
            .filter(|&node| !self.nodes[node].is_gone)
            .collect();
        nearest.sort_unstable_by_key(|&node| self.distance(node, key));
        nearest.truncate(k);
        let distances = nearest.iter().map(|&node| self.distance(node, key));
        if Region::new(key, k, self.placing.population).is_suspicious(distances) {
            return Err(record);
        }
        // This node is one of the k nearest: its copy is one of them.
        let own = self.placing.me.map(|me| me.distance(key));
        let farthest = nearest.last().map(|&node| self.distance(node, key));
        let is_ours = own.is_some_and(|own| nearest.len() < k || Some(own) < farthest);
        let at_least = usize::from(nearest.is_empty());
        nearest.truncate(k - usize::from(is_ours));
        let place = self.records.len();
        for &node in &nearest {
            self.nodes[node].waiting.push(place);
        }
        self.records.push(Allotted {
            record,
            wanted: nearest.len().max(at_least),
            asked: nearest.into_iter().map(|node| (node, None)).collect(),
            is_ours,
        });
        Ok(())
    }

    /// The next STORE, as much for one node as fits into it. No node has two at a time.
    pub(super) fn next(&mut self) -> Option<(Contact<A>, Vec<StoreEntry>)> {
        let is_ready = |node: &Place<A>| !node.is_gone && node.sent.is_none() && !node.waiting.is_empty();
        let node = self.nodes.iter().position(is_ready)?;
        let waiting = &mut self.nodes[node].waiting;
        let mut bytes = 0;
        let fits = |&&place: &&usize| {
            bytes += self.records[place].record.as_bytes().len();
            bytes <= MAX_RECORD_BYTES
        };
        let count = waiting.iter().take(MAX_RECORDS).take_while(fits).count();
        let rest = waiting.split_off(count.max(1).min(waiting.len()));
        let places = core::mem::replace(waiting, rest);
        let record = |&place: &usize| self.records[place].record.clone().into();
        let entries = places.iter().map(record).collect();
        self.nodes[node].sent = Some(places);
        Some((self.nodes[node].contact.clone(), entries))
    }

    /// Whether nobody is left to be sent anything.
    pub(super) fn is_sent(&self) -> bool {
        self.nodes
            .iter()
            .all(|node| node.is_gone || node.waiting.is_empty())
    }

    /// A node has answered a STORE; one that was given up counts as well.
    pub(super) fn on_verdicts(&mut self, id: NodeId, verdicts: &[Verdict]) {
        let Some(node) = self.position(id) else { return };
        let sent = self.nodes[node].sent.take();
        for (place, verdict) in sent.into_iter().flatten().zip(verdicts) {
            let asked = self.records.get_mut(place).map(|held| held.asked.iter_mut());
            let mut asked = asked.into_iter().flatten();
            if let Some((_, said)) = asked.find(|(asked, _)| *asked == node) {
                *said = Some(*verdict);
            }
            // Its place was given away when it was given up.
            if verdict.is_no_holder()
                && !self.nodes[node].is_gone
                && !self.give_to_next(place)
                && let Some(held) = self.records.get_mut(place)
            {
                // There are no more holders than that.
                held.wanted = held.wanted.saturating_sub(1);
            }
        }
    }

    /// A node has failed: it gets no more, and the next nearest gets what it did not take.
    pub(super) fn on_failure(&mut self, id: NodeId) {
        let Some(node) = self.position(id).filter(|&node| !self.nodes[node].is_gone) else {
            return;
        };
        self.nodes[node].is_gone = true;
        let mut places = core::mem::take(&mut self.nodes[node].waiting);
        places.extend(self.nodes[node].sent.iter().flatten());
        for place in places {
            self.give_to_next(place);
        }
    }

    /// One of those that a record was allotted to does not take it: the next nearest gets it. False if there is none.
    fn give_to_next(&mut self, place: usize) -> bool {
        let Some(held) = self.records.get(place) else {
            return false;
        };
        let key = held.record.key();
        let free =
            (0..self.nodes.len()).filter(|&other| !self.nodes[other].is_gone && !held.is_allotted_to(other));
        let Some(next) = free.min_by_key(|&other| self.distance(other, key)) else {
            return false;
        };
        self.nodes[next].waiting.push(place);
        self.records[place].asked.push((next, None));
        true
    }

    /// What was said of a record so far.
    pub(super) fn said_of(&self, place: usize) -> Said<A> {
        let mut said = Said::nothing();
        for (node, verdict) in self.records.get(place).into_iter().flat_map(|held| &held.asked) {
            let contact = self.nodes[*node].contact.clone();
            match verdict {
                Some(verdict) if verdict.is_acknowledgement() => said.holders.push(contact),
                Some(verdict) => said.refused.push((contact, *verdict)),
                None => {}
            }
        }
        said
    }

    fn position(&self, id: NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.contact.id == id)
    }

    fn distance(&self, node: usize, key: Key) -> crate::Distance {
        self.nodes[node].contact.id.distance(key)
    }
}

/// Whether who refuses a record so may take it in ten minutes: a disk or a clock was wrong, or it came too fast.
const fn may_pass(verdict: &Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Failed | Verdict::TooOften | Verdict::Refused(RecordError::FromTheFuture)
    )
}

#[cfg(test)]
mod tests;
