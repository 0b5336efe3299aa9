//! Finding one node by its id.

use kad_core::{Command, Contact, Effort, NodeId, Outcome, UnixTime};
use kad_net::card::Card;

use super::Node;
use crate::NodeError;

/// Where a node is, as far as others can tell. It is there only if a handshake says so.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Whereabouts<A> {
    /// The node, if it answered a moment ago: it serves, and can be dialled there.
    pub contact: Option<Contact<A>>,
    /// What it says of itself: the newest that any of those nearest to its id had. It may be
    /// [nowhere](Card::is_nowhere): then it has said that it stops.
    pub card: Option<Card<A>>,
    /// When that ends, if nothing newer comes.
    pub expires: Option<UnixTime>,
    /// What it took to find out.
    pub effort: Effort,
}

impl<A: kad_net::WireAddress> Node<A> {
    /// Where a node is: by itself if it serves, and by the card that it has left with those nearest to its id. `None`
    /// if there is neither.
    ///
    /// # Errors
    /// As for [`closest`](Self::closest).
    pub async fn find_node(&self, id: NodeId) -> Result<Option<Whereabouts<A>>, NodeError> {
        let (outcome, effort) = self.inner.asker.ask(Command::Locate { id }).await?;
        let Outcome::Located { closest, card } = outcome else {
            return Err(NodeError::Stopped);
        };
        let contact = closest.into_iter().find(|contact| contact.id == id);
        let scope = self.inner.scope;
        let read = card.and_then(|record| Some((Card::of(&record, scope)?, record.expiry())));
        let (card, expires) = read.unzip();
        Ok((contact.is_some() || card.is_some()).then_some(Whereabouts {
            contact,
            card,
            expires,
            effort,
        }))
    }
}
