//! Places at this machine, of which one peer has some and all peers together a few more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kad_core::NodeId;

/// A number of places, and how many of them a single peer may have. Whoever has none is not listed, so the list is no
/// longer than there are places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    most_of_peer: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: BTreeMap<NodeId, usize>,
}

impl Places {
    pub(super) fn new(most: usize, most_of_peer: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_of_peer,
            taken: Mutex::default(),
        })
    }

    /// A place, until it is dropped; `None` if all are taken, or the peer has its share.
    pub(super) fn take(self: &Arc<Self>, peer: NodeId) -> Option<Place> {
        let mut taken = self.lock();
        let of_peer = taken.by.get(&peer).copied().unwrap_or_default();
        if taken.all >= self.most || of_peer >= self.most_of_peer {
            return None;
        }
        taken.all += 1;
        taken.by.insert(peer, of_peer + 1);
        Some(Place {
            places: self.clone(),
            peer,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing panics while it is locked.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place of a peer.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    peer: NodeId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        if let Some(of_peer) = taken.by.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                taken.by.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> NodeId {
        kad_core::Keypair::from_secret(&[n; 32]).node_id()
    }

    #[test]
    fn one_peer_leaves_places_to_others() {
        let places = Places::new(5, 2);
        let greedy: Vec<_> = (0..9).filter_map(|_| places.take(peer(1))).collect();
        assert_eq!(greedy.len(), 2);
        let others: Vec<_> = (2..9).filter_map(|n| places.take(peer(n))).collect();
        assert_eq!(others.len(), 3, "all of them together are bounded too");
    }

    #[test]
    fn a_place_that_is_given_back_is_free_and_forgotten() {
        let places = Places::new(2, 1);
        let first = places.take(peer(1));
        assert!(first.is_some() && places.take(peer(1)).is_none());
        drop(first);
        let again = places.take(peer(1));
        assert!(again.is_some());
        drop(again);
        let taken = places.lock();
        assert_eq!((taken.all, taken.by.len()), (0, 0));
    }
}
