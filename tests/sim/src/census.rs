//! Who is there, by id: what a lookup should have found.

use std::collections::BTreeMap;

use kad_core::{Contact, Key, NodeId};

use crate::Place;

/// A set of nodes that can be asked for those nearest to a point. The simulation keeps one of all nodes that are up and
/// serve, one of the adversaries, and experiments keep their own.
#[derive(Debug, Clone, Default)]
pub struct Census(BTreeMap<NodeId, Place>);

impl Census {
    /// Adds a node.
    pub fn insert(&mut self, contact: Contact<Place>) {
        self.0.insert(contact.id, contact.address);
    }

    /// Takes a node out.
    pub fn remove(&mut self, id: NodeId) {
        self.0.remove(&id);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a node is one of them.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.0.contains_key(&id)
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = Contact<Place>> + '_ {
        self.0.iter().map(|(&id, &place)| Contact::new(id, place))
    }

    /// The `n` nearest to a point, nearest first; all if there are fewer.
    ///
    /// Looks at the nodes that share a prefix with the point, the longest that enough of them do: these are nearer than
    /// all others.
    #[must_use]
    pub fn closest(&self, target: Key, n: usize) -> Vec<Contact<Place>> {
        let [first, ..] = target.to_limbs();
        let expected = (self.0.len() / n.max(1)).max(1).ilog2().min(62);
        let sharing = |bits: u32| {
            let low = if bits == 0 {
                0
            } else {
                first >> (64 - bits) << (64 - bits)
            };
            let high = low | u64::MAX.checked_shr(bits).unwrap_or(0);
            self.0.range(
                NodeId::from_limbs([low, 0, 0, 0])..=NodeId::from_limbs([high, u64::MAX, u64::MAX, u64::MAX]),
            )
        };
        let enough = |bits: u32| sharing(bits).take(n).count() == n;
        let mut bits = expected;
        while bits < 62 && enough(bits + 1) {
            bits += 1;
        }
        while bits > 0 && !enough(bits) {
            bits -= 1;
        }
        let mut found: Vec<_> = sharing(bits)
            .map(|(&id, &place)| Contact::new(id, place))
            .collect();
        found.sort_unstable_by_key(|contact| contact.id.distance(target));
        found.truncate(n);
        found
    }
}

impl FromIterator<Contact<Place>> for Census {
    fn from_iter<I: IntoIterator<Item = Contact<Place>>>(contacts: I) -> Self {
        Self(
            contacts
                .into_iter()
                .map(|contact| (contact.id, contact.address))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dice, Site};

    #[test]
    fn the_closest_are_those_that_a_full_sort_gives() {
        let mut dice = Dice::new(5);
        for nodes in [0, 1, 2, 19, 20, 21, 500] {
            let mut all: Vec<_> = (0..nodes)
                .map(|n| Contact::new(dice.key().to_node_id(), Place::new(n, Site::Private)))
                .collect();
            // A crowd near one point, as sybils make it.
            if nodes > 100 {
                let crowd = dice.key().to_limbs();
                for (n, contact) in all.iter_mut().take(60).enumerate() {
                    contact.id = NodeId::from_limbs([crowd[0], crowd[1], n as u64, 1]);
                }
            }
            let census: Census = all.iter().copied().collect();
            for round in 0..50 {
                let target = match all.first() {
                    Some(first) if round % 2 == 0 => first.id.to_key(),
                    _ => dice.key(),
                };
                all.sort_by_key(|contact| contact.id.distance(target));
                for n in [1, 3, 20] {
                    assert_eq!(
                        census.closest(target, n),
                        all[..n.min(all.len())],
                        "{nodes} nodes, {n} wanted"
                    );
                }
            }
        }
    }
}
