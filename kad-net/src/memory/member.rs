//! What the network knows of one member: who it is, whether it can be reached, whom it has met.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kad_core::Contact;
use tokio::sync::{mpsc, watch};

use super::MemoryReply;
use crate::{Inbound, TransportStats};

/// Peers that count as connected: as many as the pool of a real transport holds. Full: the one met first is forgotten.
const MET: usize = 128;

/// Whether a member can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Up,
    /// Whatever it sends or is sent is lost.
    Cut,
    Closed,
}

/// Whether two members had met before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Warm {
    Known,
    New,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) contact: Contact<SocketAddr>,
    /// Tells apart members that had the same address one after another.
    pub(super) number: u64,
    pub(super) inbox: mpsc::Sender<Inbound<SocketAddr, MemoryReply>>,
    state: watch::Sender<State>,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    met: VecDeque<u64>,
    stats: TransportStats,
}

impl Member {
    pub(super) fn new(
        contact: Contact<SocketAddr>,
        number: u64,
        inbox: mpsc::Sender<Inbound<SocketAddr, MemoryReply>>,
    ) -> Self {
        Self {
            contact,
            number,
            inbox,
            state: watch::Sender::new(State::Up),
            counted: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> State {
        *self.state.borrow()
    }

    pub(super) fn is_up(&self) -> bool {
        self.state() == State::Up
    }

    /// Nothing comes back from [`State::Closed`].
    pub(super) fn set(&self, to: State) {
        self.state.send_if_modified(|state| {
            let change = *state != State::Closed && *state != to;
            if change {
                *state = to;
            }
            change
        });
    }

    /// Changes the state if it is what it has to be, and says whether it was.
    pub(super) fn change(&self, from: State, to: State) -> bool {
        self.state.send_if_modified(|state| {
            let change = *state == from;
            if change {
                *state = to;
            }
            change
        })
    }

    /// Waits for a state; at once if it is there already.
    pub(super) async fn until(&self, wanted: impl Fn(State) -> bool) {
        // The sender is ours and lives as long as we do, so waiting never fails.
        let _ = self.state.subscribe().wait_for(|&state| wanted(state)).await;
    }

    /// Notes that this member has met the one with a number.
    pub(super) fn warm(&self, number: u64) -> Warm {
        let Counted { met, .. } = &mut *self.lock();
        if met.contains(&number) {
            return Warm::Known;
        }
        if met.len() >= MET {
            met.pop_front();
        }
        met.push_back(number);
        Warm::New
    }

    /// Whether this member has met the one with a number, and not forgotten it.
    pub(super) fn knows(&self, number: u64) -> bool {
        self.lock().met.contains(&number)
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut TransportStats)) {
        change(&mut self.lock().stats);
    }

    pub(super) fn stats(&self) -> TransportStats {
        let counted = self.lock();
        TransportStats {
            connections: counted.met.len() as u64,
            ..counted.stats
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        // Counters and a list of numbers are never half-changed.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
