//! What of a STORE comes as far as the store.
//!
//! A peer can send any valid record to any node. This one turns away what it should not hold at all, each for a reason
//! that has a name:
//!
//! - it stores nothing for others ([`Config::stores`](crate::Config::stores));
//! - it is **nowhere near** the key. Without this rule a stranger could fill the disks of all nodes with records of one
//!   corner of the key space, which nobody looks for there;
//! - the record is **rewritten too often** (`rewrites.rs`).
//!
//! # Nowhere near
//!
//! Writers find holders by lookups, which differ a little from node to node, and a record may be meant for whoever
//! moves up when another one leaves. So "near" is generous: a node turns a record away only if eight times as many
//! nodes as hold it are expected to be nearer, by the fewest nodes that the network is likely to have, and if it also
//! knows k contacts that are alive and nearer. By the first rule no network of fewer than 8 k nodes ever turns anything
//! away, and neither does a node that has not measured the network; a guess from the own neighbourhood does not count,
//! which others could crowd. By the second rule a network that has shrunk since it was measured does not lose its
//! holders.
//!
//! Where a crowd hides a key, writers go as far as k nodes are expected by *their* estimate (`query/region.rs`). That
//! is refused only if this node's least likely number is eight times the writer's likely one.
//!
//! A node that is nowhere near and holds an older version, because it once was near, does not get the newer one. Nobody
//! who looks for the record comes here.

use alloc::vec::Vec;

use super::Kademlia;
use crate::{Address, Instant, Key, Kind, NodeId, Now, Population, Slot, StoreEntry, Verdict};

/// A node is nowhere near a key if so many times k nodes are expected to be nearer.
const FAR_PER_RESULT: u64 = 8;

/// And at least so many, because with a small k chance alone puts holders that far away.
const FAR_AT_LEAST: u64 = 64;

impl<A: Address> Kademlia<A> {
    /// Why each entry is refused before the store is asked, and the slots of those that are not, in their order.
    pub(super) fn turn_away(
        &mut self,
        now: Now,
        entries: &[StoreEntry],
    ) -> (Vec<Option<Verdict>>, Vec<Slot>) {
        // What was measured, at its least.
        let least = self.population().filter(|population| population.samples > 0);
        let least = least.map(|population| Population {
            nodes: population.low,
            ..population
        });
        let mut admitted: Vec<Slot> = Vec::with_capacity(entries.len());
        let mut verdicts = Vec::with_capacity(entries.len());
        for entry in entries {
            let verdict = match &entry.record {
                Err(error) => Some(Verdict::Refused(*error)),
                Ok(_) if !self.config.stores => Some(Verdict::StoresNothing),
                Ok(record) if self.is_nowhere_near(record.key(), least) => Some(Verdict::NotNear),
                Ok(record) => {
                    let slot = record.slot();
                    // Those of one message are stored together.
                    let before = admitted.iter().filter(|other| **other == slot).count();
                    if self.room_for(&slot, now.monotonic) <= before {
                        Some(Verdict::TooOften)
                    } else {
                        admitted.push(slot);
                        None
                    }
                }
            };
            verdicts.push(verdict);
        }
        (verdicts, admitted)
    }

    /// The own id, if this node stores for others.
    pub(super) fn holder(&self) -> Option<NodeId> {
        (self.config.stores && !self.read_only).then(|| self.local_id())
    }

    fn is_nowhere_near(&mut self, key: Key, least: Option<Population>) -> bool {
        let own = self.local_id().distance(key);
        let k = self.config.k;
        let far = FAR_PER_RESULT.saturating_mul(k as u64).max(FAR_AT_LEAST);
        if least.is_none_or(|population| population.rank(own) <= far) {
            return false;
        }
        let nearest = self.table.closest(key, k.saturating_mul(2), &mut self.scratch);
        let nearer = nearest.take_while(|entry| entry.contact.id.distance(key) < own);
        nearer.filter(|entry| entry.failures == 0).take(k).count() == k
    }

    fn room_for(&self, slot: &Slot, now: Instant) -> usize {
        let (burst, every) = (self.config.rewrite_burst, self.config.rewrite_every);
        self.rewrites.room(slot, now, burst, every)
    }

    /// The store has judged what came so far, in the order of the slots. An immutable value has one version; who
    /// extends its life must not keep others from that.
    pub(super) fn note_versions(&mut self, now: Now, slots: &[Slot], judged: &[Verdict]) {
        let (burst, every) = (self.config.rewrite_burst, self.config.rewrite_every);
        for (slot, verdict) in slots.iter().zip(judged) {
            if *verdict == Verdict::Stored && slot.kind != Kind::Immutable {
                self.rewrites.note(*slot, now.monotonic, burst, every);
            }
        }
    }

    /// Counts what became of the records of one STORE.
    pub(super) fn tally(&mut self, verdicts: &[Verdict]) {
        for verdict in verdicts {
            if verdict.is_acknowledgement() {
                self.stats.records_stored += 1;
            } else {
                self.stats.records_refused += 1;
                self.stats.refused.count(*verdict);
            }
        }
    }
}
