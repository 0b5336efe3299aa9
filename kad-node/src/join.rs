//! Finding the way in, at the start and whenever everybody was lost.

mod proof;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use kad_core::{Contact, MAX_SEEDS, NodeId};
use kad_net::{Transport, WireAddress};
use tokio::sync::watch;

use self::proof::BEGIN_WITH;
pub(crate) use self::proof::{PROOF_WITHIN, Proof};
use crate::driver::Remembered;
use crate::node::WeakAsker;
use crate::peer::Peer;
use crate::{JoinError, NodeError};

/// The first pause after a failed attempt; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A node that was cut off is back within this time after the network is.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A bootstrap node that has not finished its handshake by then is not there.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(6);
/// Once somebody is known, the other bootstrap nodes have so long: three round trips of a bad path.
const GRACE: Duration = Duration::from_secs(1);

/// How joining goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinState {
    /// The first attempt is under way.
    Joining,
    /// The neighbourhood knows this node.
    Joined,
    /// This node is the first of its network, or was told of nobody: it waits for others.
    Alone,
    /// The last attempt failed; another one follows.
    Failed(JoinError),
}

/// Whom a node has, as its driver sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Company {
    /// The table is empty.
    Nobody,
    /// Somebody is in the table.
    Somebody,
    /// The node has looked up its own id: its neighbourhood knows it.
    Neighbours,
}

/// How long a node that was told of nobody waits for neighbours before it says that it is alone: mDNS answers within a
/// tenth of a second, and a lost question is asked again after one.
const NEIGHBOURS_WITHIN: Duration = Duration::from_secs(3);

/// In another network addresses and routes come one by one.
const SETTLING: Duration = Duration::from_secs(1);

/// What is needed to join.
pub(crate) struct Joiner<T: Transport> {
    pub(crate) transport: Arc<T>,
    pub(crate) asker: WeakAsker<T::Address>,
    pub(crate) peers: Vec<Peer>,
    /// Whether neighbours may be the way in, whom others meet.
    pub(crate) hears: bool,
    /// Counts how often the machine has moved.
    pub(crate) moves: Option<watch::Receiver<u64>>,
    /// Contacts from the last run, and those that were met since.
    pub(crate) remembered: Remembered<T::Address>,
    pub(crate) state: watch::Sender<JoinState>,
    /// What a node waits for that has yet to prove that strangers reach it.
    pub(crate) proof: Option<Proof<T::Address>>,
}

impl<T: Transport> Joiner<T> {
    /// Joins, waits until everybody is lost or the machine has moved, and starts over; ends when the node does.
    pub(crate) async fn run(mut self, mut company: watch::Receiver<Company>) {
        let mut pause = FIRST_PAUSE;
        let mut moves = self.moves.take();
        let mut proof = self.proof.take();
        loop {
            match self.attempt_until(&mut company, &mut proof).await {
                Err(JoinError::Stopped) => return,
                Err(JoinError::NobodyKnown) => {
                    if !self.is_met(&mut company).await {
                        return;
                    }
                }
                // What fails while everything ends is no news.
                Err(_) if self.asker.is_gone() => return,
                Err(error) => {
                    tracing::warn!(
                        %error,
                        retry_in = ?pause,
                        "could not join; do the bootstrap nodes run, and does this network let UDP out?"
                    );
                    self.state.send_replace(JoinState::Failed(error));
                    // Somebody may find us before we find them.
                    let somebody = async {
                        company
                            .wait_for(|&company| company > Company::Nobody)
                            .await
                            .is_ok()
                    };
                    let found = tokio::select! {
                        found = tokio::time::timeout(pause, somebody) => found,
                        () = moved(&mut moves) => {
                            pause = FIRST_PAUSE;
                            tokio::time::sleep(SETTLING).await;
                            continue;
                        }
                    };
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    match found {
                        Ok(false) => return,
                        // It is somebody to begin with, and the bootstrap nodes are tried again as well.
                        Ok(true) => tokio::time::sleep(FIRST_PAUSE).await,
                        Err(_) => {}
                    }
                    continue;
                }
                Ok(()) => {}
            }
            pause = FIRST_PAUSE;
            self.state.send_replace(JoinState::Joined);
            let lost = async {
                company
                    .wait_for(|&company| company == Company::Nobody)
                    .await
                    .is_ok()
            };
            tokio::select! {
                lives = lost => if !lives { return },
                // Others have to be told where this node is now, and to notice who is out of reach.
                () = moved(&mut moves) => tokio::time::sleep(SETTLING).await,
            }
        }
    }

    /// Waits for others where nobody is known; false at the end of the node.
    async fn is_met(&self, company: &mut watch::Receiver<Company>) -> bool {
        if self.hears {
            // Whoever is met in the own network is asked for the others at once.
            let neighbours = company.wait_for(|&company| company == Company::Neighbours);
            if let Ok(met) = tokio::time::timeout(NEIGHBOURS_WITHIN, neighbours).await {
                return met.is_ok();
            }
        }
        if *company.borrow() == Company::Nobody {
            self.state.send_replace(JoinState::Alone);
        }
        company
            .wait_for(|&company| company > Company::Nobody)
            .await
            .is_ok()
    }

    /// An attempt, of which everybody hears as soon as the neighbourhood knows this node. Filling the buckets that are
    /// far away takes longer, and nobody has to wait for that.
    async fn attempt_until(
        &self,
        company: &mut watch::Receiver<Company>,
        proof: &mut Option<Proof<T::Address>>,
    ) -> Result<(), JoinError> {
        let attempt = self.attempt(proof);
        tokio::pin!(attempt);
        let ended = tokio::select! {
            biased;
            ended = &mut attempt => Some(ended),
            known = async { company.wait_for(|&company| company == Company::Neighbours).await.is_ok() } => {
                if known {
                    self.state.send_replace(JoinState::Joined);
                }
                None
            }
        };
        match ended {
            Some(ended) => ended,
            None => attempt.await,
        }
    }

    /// With a proof ahead, only a few are met before it: whom a node has met proves nothing to it.
    async fn attempt(&self, proof: &mut Option<Proof<T::Address>>) -> Result<(), JoinError> {
        let remembered: Vec<_> = match self.remembered.lock() {
            Ok(remembered) => remembered.iter().rev().cloned().collect(),
            Err(_) => Vec::new(),
        };
        if self.peers.is_empty() && remembered.is_empty() {
            return Err(JoinError::NobodyKnown);
        }
        let mut errors = Vec::new();
        let knows = !remembered.is_empty();
        let at_once = proof.as_ref().map_or(self.peers.len(), |_| BEGIN_WITH);
        let (mut met, tried) = self.meet(&self.peers, at_once, knows, &mut errors).await;
        let somebody = !met.is_empty() || knows;
        if let Some(proof) = proof.take_if(|_| somebody) {
            proof.find(&*self.transport, &met, &remembered).await;
            let others = &self.peers[tried..];
            met.extend(self.meet(others, others.len(), true, &mut errors).await.0);
        }
        // The last one that was met first.
        let mut seeds: Vec<_> = met.into_iter().rev().chain(remembered).collect();
        seeds.truncate(MAX_SEEDS);
        if seeds.is_empty() {
            return Err(JoinError::Unreachable(errors));
        }
        match self.asker.bootstrap(seeds).await {
            Ok(_) => Ok(()),
            Err(NodeError::Stopped) => Err(JoinError::Stopped),
            Err(error) => {
                errors.push(format!("the known nodes did not help: {error}"));
                Err(JoinError::Unreachable(errors))
            }
        }
    }

    /// Finds out who is at these places: so many at once, and one more for each that fails, and for each [`GRACE`]
    /// without an answer. Once somebody is known, the others have as long. Tells whom it met, and how many places it
    /// tried.
    async fn meet(
        &self,
        peers: &[Peer],
        at_once: usize,
        knows_somebody: bool,
        errors: &mut Vec<String>,
    ) -> (Vec<Contact<T::Address>>, usize) {
        let own = self.transport.local().id;
        let mut tried = at_once.min(peers.len());
        let identify = |peer| identify(&*self.transport, peer, own);
        let mut attempts: FuturesUnordered<_> = peers[..tried].iter().map(identify).collect();
        let (mut met, mut waiting) = (Vec::new(), !knows_somebody);
        let grace = tokio::time::sleep(GRACE);
        tokio::pin!(grace);
        loop {
            let found = tokio::select! {
                found = attempts.next() => found,
                () = &mut grace => match peers.get(tried) {
                    Some(next) if waiting => {
                        tried += 1;
                        attempts.push(identify(next));
                        grace.as_mut().reset(tokio::time::Instant::now() + GRACE);
                        continue;
                    }
                    _ if waiting => attempts.next().await,
                    _ => None,
                },
            };
            match found {
                None => break,
                Some(Err(error)) => {
                    errors.push(error);
                    if let Some(next) = peers.get(tried) {
                        tried += 1;
                        attempts.push(identify(next));
                    }
                }
                Some(Ok(contact)) => {
                    met.push(contact);
                    if std::mem::take(&mut waiting) {
                        grace.as_mut().reset(tokio::time::Instant::now() + GRACE);
                    }
                }
            }
        }
        (met, tried)
    }
}

/// Finds out who is at a place that a person named.
pub(crate) async fn identify<T: Transport>(
    transport: &T,
    peer: &Peer,
    own: NodeId,
) -> Result<Contact<T::Address>, String> {
    let sockets = peer.resolve().await?;
    let address =
        T::Address::from_sockets(&sockets).ok_or_else(|| format!("{peer} has no usable address"))?;
    let contact = identify_at(transport, &address).await;
    // The id says nothing about why nobody is there, and fills a line.
    let place = Peer {
        id: None,
        ..peer.clone()
    };
    let contact = contact.map_err(|why| format!("{place}: {why}"))?;
    match peer.id {
        Some(id) if id != contact.id => Err(format!(
            "{place}: another node answers there, with the id {}",
            contact.id
        )),
        _ if contact.id == own => Err(format!("{peer} is this node itself")),
        _ => Ok(contact),
    }
}

/// Finds out who is at an address.
pub(crate) async fn identify_at<T: Transport>(
    transport: &T,
    address: &T::Address,
) -> Result<Contact<T::Address>, String> {
    match tokio::time::timeout(IDENTIFY_TIMEOUT, transport.identify(address)).await {
        Ok(Ok(contact)) => Ok(contact),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer in {} seconds", IDENTIFY_TIMEOUT.as_secs())),
    }
}

/// Waits until the machine has moved; for ever if nobody looks.
async fn moved(moves: &mut Option<watch::Receiver<u64>>) {
    if let Some(watched) = moves
        && watched.changed().await.is_err()
    {
        *moves = None;
    }
    if moves.is_none() {
        std::future::pending::<()>().await;
    }
}
