//! Connections of applications with a peer, by its id alone.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kad_core::{Command, Contact, NodeId, Outcome};
use kad_net::card::Card;
use kad_net::nat::candidates::{Candidate, CandidateKind};
use kad_net::quic::{self, Connection, Listener, Protocol, QuicAddress, QuicTransport, Witnessed};
use kad_net::{Transport as _, WireAddress as _};
use tokio::time::{Instant, timeout};

use super::Node;
use crate::NodeError;
#[cfg(feature = "mdns")]
use crate::discovery::Neighbourhood;

/// A card is used again for so long: whoever connects twice in a row should not look twice.
const FRESH: Duration = Duration::from_secs(60);

/// Cards that are remembered. When there are so many, the one that was read longest ago is forgotten.
const MAX_CARDS: usize = 256;

/// Whoever is in the own network answers within this time.
const NEAR: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody knows the peer.
    #[error(
        "the node {id} was not found: check the id, that it runs, and that it has joined the same network"
    )]
    NotFound {
        /// Who was looked for.
        id: NodeId,
    },
    /// The peer has said that it stops.
    #[error("the node {id} has stopped: start it, or wait until its card says where it is again")]
    Stopped {
        /// Who was looked for.
        id: NodeId,
    },
    /// The peer could not be looked for.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// It was found, and not reached.
    #[error(transparent)]
    Transport(#[from] quic::ConnectError),
    /// The protocol cannot be listened for.
    #[error(transparent)]
    Listen(#[from] quic::ListenError),
    /// The node runs over another transport than QUIC.
    #[error("this node was given a transport of its own, and connections for applications need QUIC")]
    NoQuic,
}

/// What a QUIC node has for applications.
pub(crate) struct Applications {
    pub(crate) transport: Arc<QuicTransport>,
    #[cfg(feature = "mdns")]
    pub(crate) neighbourhood: Option<Neighbourhood>,
    cards: Mutex<Cards>,
}

impl Applications {
    pub(crate) fn new(
        transport: Arc<QuicTransport>,
        #[cfg(feature = "mdns")] neighbourhood: Option<Neighbourhood>,
    ) -> Self {
        Self {
            transport,
            #[cfg(feature = "mdns")]
            neighbourhood,
            cards: Mutex::default(),
        }
    }

    fn cards(&self) -> MutexGuard<'_, Cards> {
        // Nothing panics while it is locked.
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to a peer where it was found, and where it is heard now.
    async fn connect(
        &self,
        to: NodeId,
        found: &Found,
        protocol: Protocol,
    ) -> Result<Connection, quic::ConnectError> {
        let witnessed = Witnessed {
            heard: self.heard(&to),
            hosts: found.hosts.clone(),
        };
        let transport = &self.transport;
        transport
            .connect_witnessed(to, &found.card, &witnessed, protocol)
            .await
    }

    /// Knocks where a neighbour was heard. If it is there, it is the first place that the transport tries: where a
    /// connection stands, whatever lies between lets us through.
    async fn knock(&self, id: &NodeId) {
        if let Some(near) = QuicAddress::new(&self.heard(id)) {
            // Whoever is not there is looked for elsewhere.
            let _ = timeout(NEAR, self.transport.identify(&near)).await;
        }
    }

    /// Where a neighbour was heard.
    fn heard(&self, id: &NodeId) -> Vec<SocketAddr> {
        #[cfg(feature = "mdns")]
        if let Some(neighbourhood) = &self.neighbourhood {
            let neighbours = neighbourhood.lock().unwrap_or_else(PoisonError::into_inner);
            return neighbours.addresses(id);
        }
        #[cfg(not(feature = "mdns"))]
        let _ = id;
        Vec::new()
    }
}

/// Cards that were read a moment ago.
#[derive(Debug, Default)]
struct Cards(BTreeMap<NodeId, (Instant, Found)>);

/// A card with what else is known of where its owner is, and where others have met it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Found {
    card: Card<QuicAddress>,
    hosts: Vec<IpAddr>,
}

impl Cards {
    fn get(&self, id: &NodeId, now: Instant) -> Option<Found> {
        let (read, found) = self.0.get(id)?;
        (now.saturating_duration_since(*read) < FRESH).then(|| found.clone())
    }

    fn forget(&mut self, id: &NodeId) {
        self.0.remove(id);
    }

    fn note(&mut self, id: NodeId, now: Instant, found: Found) {
        if self.0.len() >= MAX_CARDS && !self.0.contains_key(&id) {
            let oldest = self.0.iter().min_by_key(|(_, (read, _))| *read);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(id, (now, found));
    }
}

impl Node<QuicAddress> {
    /// Connects to a peer, wherever it is: over the best path that there is, and over better ones as they are found,
    /// without those who use the connection noticing. Both ends know for certain who the other is, and nobody between
    /// them can read what they say. A card that was read in the last minute is used again, and a new one read if that
    /// does not help.
    ///
    /// # Errors
    /// [`ConnectError`], in a sentence that says what to do. Nothing stays open.
    ///
    /// # Cancel safety
    /// Dropping the future gives up.
    pub async fn connect(&self, peer: NodeId, protocol: Protocol) -> Result<Connection, ConnectError> {
        let applications = self.applications()?;
        if peer == self.id() {
            return Err(quic::ConnectError::Ourselves.into());
        }
        let known = applications.cards().get(&peer, Instant::now());
        if let Some(found) = &known {
            match applications.connect(peer, found, protocol.clone()).await {
                Err(quic::ConnectError::Unreachable { reason }) => {
                    tracing::debug!(%peer, reason, "a card of a moment ago does not help; reading it anew");
                }
                reached => return Ok(reached?),
            }
        }
        applications.cards().forget(&peer);
        let found = self.found(applications, peer).await?;
        let connection = applications.connect(peer, &found, protocol).await;
        if connection.is_err() {
            // Kept only if it is good for something.
            applications.cards().forget(&peer);
        }
        Ok(connection?)
    }

    /// What a peer says of where it is: as it was read in the last minute, or read now. [`connect`](Self::connect) does
    /// this by itself; who calls it before can tell how long that took.
    ///
    /// # Errors
    /// [`ConnectError::NotFound`] if nobody has a card of this peer, [`ConnectError::Stopped`] if its card says that it
    /// is nowhere now.
    pub async fn card(&self, peer: NodeId) -> Result<Card<QuicAddress>, ConnectError> {
        let applications = self.applications()?;
        if peer == self.id() {
            return Err(quic::ConnectError::Ourselves.into());
        }
        Ok(self.found(applications, peer).await?.card)
    }

    /// Accepts the connections that peers open for this protocol, until the listener is dropped.
    ///
    /// # Errors
    /// [`ConnectError::Listen`] if somebody listens for it already; nothing has changed then.
    pub fn listen(&self, protocol: Protocol) -> Result<Listener, ConnectError> {
        Ok(self.applications()?.transport.listen(protocol)?)
    }

    fn applications(&self) -> Result<&Applications, ConnectError> {
        self.inner.doors.applications.as_ref().ok_or(ConnectError::NoQuic)
    }

    /// Where a peer is, as it was found in the last minute, or is now.
    async fn found(&self, applications: &Applications, peer: NodeId) -> Result<Found, ConnectError> {
        if let Some(known) = applications.cards().get(&peer, Instant::now()) {
            return Ok(known);
        }
        let (found, ()) = tokio::join!(self.look_for(applications, peer), applications.knock(&peer));
        let found = found?;
        applications.cards().note(peer, Instant::now(), found.clone());
        Ok(found)
    }

    /// What a peer says of where it is, and what others and its announcements in the own network say.
    async fn look_for(&self, applications: &Applications, id: NodeId) -> Result<Found, ConnectError> {
        let heard = applications.heard(&id);
        let located = self.inner.asker.ask(Command::Locate { id }).await;
        let (contact, record) = match located {
            Ok((Outcome::Located { closest, card }, _)) => {
                (closest.into_iter().find(|contact| contact.id == id), card)
            }
            Ok(_) => return Err(NodeError::Stopped.into()),
            // In a network without a way out there may still be a neighbour.
            Err(_) if !heard.is_empty() => (None, None),
            Err(error) => return Err(error.into()),
        };
        // The own store may have one that was denied since.
        let record = record.filter(|record| self.inner.policy.admit(record).is_ok());
        let written = record.and_then(|record| Card::of(&record, self.inner.scope));
        let has_stopped = written.as_ref().is_some_and(Card::is_nowhere);
        let met = contact.iter().flat_map(|contact| contact.address.sockets());
        let hosts = met.map(SocketAddr::ip).collect();
        let card = whole(written.unwrap_or_default(), contact, &heard);
        match (card.is_nowhere(), has_stopped) {
            (true, true) => Err(ConnectError::Stopped { id }),
            (true, false) => Err(ConnectError::NotFound { id }),
            _ => Ok(Found { card, hosts }),
        }
    }
}

/// A card with what else is known of where its owner is: one that answered a moment ago is where it answered, and one
/// that is heard in the own network is there.
fn whole(
    mut card: Card<QuicAddress>,
    contact: Option<Contact<QuicAddress>>,
    heard: &[SocketAddr],
) -> Card<QuicAddress> {
    let answered = contact
        .iter()
        .flat_map(|contact| contact.address.sockets())
        .map(|address| (*address, CandidateKind::Verified));
    let heard = heard.iter().map(|address| (*address, CandidateKind::Lan));
    for (address, kind) in answered.chain(heard) {
        if card.candidates.iter().all(|known| known.address != address) {
            // They are worth more than what a card says, of which the last is left out.
            card.candidates.insert(0, Candidate { address, kind });
        }
    }
    card.serves |= contact.is_some();
    card
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        kad_core::Keypair::from_secret(&[n; 32]).node_id()
    }

    #[test]
    fn cards_are_remembered_for_a_minute_and_not_without_end() {
        let (mut cards, begin) = (Cards::default(), Instant::now());
        cards.note(id(1), begin, Found::default());
        assert!(cards.get(&id(1), begin + Duration::from_secs(59)).is_some());
        assert!(cards.get(&id(1), begin + FRESH).is_none());
        for n in 0..1000_u16 {
            let [high, low] = n.to_be_bytes();
            let mut secret = [high; 32];
            secret[0] = low;
            let id = kad_core::Keypair::from_secret(&secret).node_id();
            cards.note(id, begin + Duration::from_millis(n.into()), Found::default());
        }
        assert_eq!(cards.0.len(), MAX_CARDS);
        assert!(
            cards.get(&id(1), begin).is_none(),
            "the oldest is forgotten first"
        );
    }

    #[test]
    fn a_peer_is_where_it_answered_and_where_it_was_heard() {
        let contact: QuicAddress = "8.8.8.8:4001".parse().unwrap();
        let near: SocketAddr = "192.168.1.7:4001".parse().unwrap();
        let written = Card {
            candidates: vec![Candidate {
                address: "8.8.8.8:4001".parse().unwrap(),
                kind: CandidateKind::Observed,
            }],
            ..Card::default()
        };
        let card = whole(
            written.clone(),
            Some(Contact::new(id(1), contact.clone())),
            &[near],
        );
        let told: Vec<_> = (card.candidates.iter())
            .map(|candidate| (candidate.kind, candidate.address.to_string()))
            .collect();
        assert_eq!(
            told,
            [
                (CandidateKind::Lan, "192.168.1.7:4001".to_owned()),
                (CandidateKind::Observed, "8.8.8.8:4001".to_owned()),
            ]
        );
        assert!(card.serves);
        assert_eq!(whole(written.clone(), None, &[]), written);
        let only_contact = whole(Card::default(), Some(Contact::new(id(1), contact)), &[]);
        assert_eq!(only_contact.candidates[0].kind, CandidateKind::Verified);
    }
}
