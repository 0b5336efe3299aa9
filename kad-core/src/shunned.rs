//! Contacts that could not be reached a moment ago.

use alloc::collections::BTreeMap;

use crate::{Contact, Instant, NodeId};

/// Contacts that are remembered; when there are more, the one that would be forgotten first is. A quarter of the
/// contacts of a large table, twice over.
const MAX_SHUNNED: usize = 128;

/// Pairs of id and address at which nobody answered. Peers go on telling of a dead contact until they notice
/// themselves, and every lookup would wait for it again.
///
/// Only this address of the contact is shunned: who spreads a wrong address of somebody cannot hide them.
#[derive(Debug)]
pub(crate) struct Shunned<A>(BTreeMap<NodeId, (A, Instant)>);

impl<A: Clone + PartialEq> Shunned<A> {
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(crate) fn add(&mut self, contact: &Contact<A>, until: Instant) {
        if self.0.len() >= MAX_SHUNNED && !self.0.contains_key(&contact.id) {
            let first = self
                .0
                .iter()
                .min_by_key(|(_, (_, until))| *until)
                .map(|(&id, _)| id);
            first.map(|id| self.0.remove(&id));
        }
        self.0.insert(contact.id, (contact.address.clone(), until));
    }

    /// The contact has shown that it is alive.
    pub(crate) fn forgive(&mut self, id: NodeId) {
        self.0.remove(&id);
    }

    /// How many contacts were found dead at addresses like this one a moment ago.
    pub(crate) fn count(&self, like: impl Fn(&A) -> bool, now: Instant) -> usize {
        self.0
            .values()
            .filter(|(address, until)| now < *until && like(address))
            .count()
    }

    pub(crate) fn contains(&self, contact: &Contact<A>, now: Instant) -> bool {
        let entry = self.0.get(&contact.id);
        entry.is_some_and(|(address, until)| *address == contact.address && now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_address_is_shunned_for_a_while_and_another_one_is_not() {
        let mut shunned = Shunned::new();
        let contact = |n: u8, address: u32| Contact::new(NodeId::from_bytes([n; 32]), address);
        let at = Instant::from_micros;
        shunned.add(&contact(1, 1), at(10));
        assert!(shunned.contains(&contact(1, 1), at(9)));
        assert!(!shunned.contains(&contact(1, 1), at(10)));
        assert!(!shunned.contains(&contact(1, 2), at(9)));
        shunned.forgive(contact(1, 1).id);
        assert!(!shunned.contains(&contact(1, 1), at(9)));
    }

    #[test]
    fn a_full_list_forgets_what_would_be_forgotten_first() {
        let mut shunned = Shunned::new();
        let contact = |n: usize| Contact::new(NodeId::from_limbs([n as u64, 0, 0, 0]), 0u32);
        for n in 0..=MAX_SHUNNED {
            shunned.add(&contact(n), Instant::from_micros(1000 + n as u64));
        }
        assert!(!shunned.contains(&contact(0), Instant::ZERO));
        assert!((1..=MAX_SHUNNED).all(|n| shunned.contains(&contact(n), Instant::ZERO)));
    }
}
