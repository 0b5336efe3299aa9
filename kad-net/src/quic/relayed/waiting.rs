//! What came through relays and waits to be taken: a queue for each route, and one datagram of each in turn.
//!
//! A session that brings more than is taken loses its own datagrams. Those of the others neither wait behind it nor are
//! lost because of it.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;

/// Datagrams of one route that wait: what a session may send in a second at the rate of a relay; of all routes together
/// some 12 MB. Full: the newest is lost, and QUIC sends it again.
pub(super) const MAX_QUEUED: usize = 128;

/// See the module. Holds a queue for each route that has datagrams, and so no more than there are routes.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queues: HashMap<SocketAddr, VecDeque<Bytes>>,
    /// Whose turn it is: each that has a queue, once.
    turns: VecDeque<SocketAddr>,
}

impl Waiting {
    /// One more datagram of the route with this fake address; whether there was room.
    pub(super) fn push(&mut self, fake: SocketAddr, datagram: Bytes) -> bool {
        let queue = self.queues.entry(fake).or_default();
        if queue.len() >= MAX_QUEUED {
            return false;
        }
        if queue.is_empty() {
            self.turns.push_back(fake);
        }
        queue.push_back(datagram);
        true
    }

    /// The next one, and from which fake address it comes.
    pub(super) fn pop(&mut self) -> Option<(SocketAddr, Bytes)> {
        let fake = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&fake)?;
        let datagram = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&fake);
        } else {
            self.turns.push_back(fake);
        }
        Some((fake, datagram))
    }

    /// The route is no more.
    pub(super) fn forget(&mut self, fake: &SocketAddr) {
        if self.queues.remove(fake).is_some() {
            self.turns.retain(|one| one != fake);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(n: u8) -> SocketAddr {
        SocketAddr::from(([n, 0, 0, 1], 1))
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u8, usize),
        Pop(usize),
        Forget(u8),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0u8..5, prop_oneof![1usize..4, 100usize..200]).prop_map(|(n, count)| Step::Push(n, count)),
            8 => (1usize..100).prop_map(Step::Pop),
            1 => (0u8..5).prop_map(Step::Forget),
        ]
    }

    proptest! {
        /// The oracle is a list for each route. What a route has lost is what it had too much of itself, and while it
        /// waits for its turn every other route has one turn at most.
        #[test]
        fn each_route_gets_what_it_brought_in_order_and_waits_for_one_of_each_other(
            steps in proptest::collection::vec(any_step(), 1..200),
        ) {
            let mut waiting = Waiting::default();
            let mut all: [VecDeque<Bytes>; 5] = Default::default();
            // How many turns of others each route has waited for since its last one.
            let mut waited = [0; 5];
            let mut number = 0u32;
            for step in steps {
                match step {
                    Step::Push(n, count) => for _ in 0..count {
                        number += 1;
                        let datagram = Bytes::copy_from_slice(&number.to_be_bytes());
                        let list = &mut all[usize::from(n)];
                        prop_assert_eq!(waiting.push(route(n), datagram.clone()), list.len() < MAX_QUEUED);
                        if list.len() < MAX_QUEUED {
                            list.push_back(datagram);
                        }
                    },
                    Step::Pop(count) => for _ in 0..count {
                        let Some((fake, datagram)) = waiting.pop() else {
                            prop_assert!(all.iter().all(VecDeque::is_empty));
                            break;
                        };
                        let n = (0..5u8).find(|n| route(*n) == fake).unwrap();
                        prop_assert_eq!(all[usize::from(n)].pop_front(), Some(datagram));
                        for (other, list) in all.iter().enumerate() {
                            waited[other] = if list.is_empty() || other == usize::from(n) { 0 } else { waited[other] + 1 };
                            prop_assert!(waited[other] <= 4);
                        }
                    },
                    Step::Forget(n) => {
                        waiting.forget(&route(n));
                        all[usize::from(n)].clear();
                        waited[usize::from(n)] = 0;
                    }
                }
                prop_assert_eq!(waiting.turns.len(), waiting.queues.len());
            }
        }
    }
}
