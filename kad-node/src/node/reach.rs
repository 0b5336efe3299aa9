//! Where this node can be reached, as far as others can tell.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use kad_core::{Command, Contact, Outcome};

use super::Node;

/// Contacts that are asked where they see this node: two that agree outvote one that lies.
const ASKED: usize = 3;

/// How long their answers are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

impl<A: kad_net::WireAddress> Node<A> {
    /// Where others can reach this node: where most of those see it that are asked, and, if they are not loopback, the
    /// places that it listens at. `None` if nobody is known who could tell and it listens nowhere else.
    pub(super) async fn reachable_at(&self) -> Option<A> {
        let contacts = self.contacts().await.unwrap_or_default();
        // From the far end of the table to the near one, so that one neighbourhood does not decide.
        let step = contacts.len().div_ceil(ASKED).max(1);
        let asked = contacts.into_iter().step_by(step).map(|(_, contact)| contact);
        let answers = join_all(asked.map(|contact| self.seen_by(contact))).await;
        let answers: Vec<A> = answers.into_iter().flatten().collect();
        let mut votes: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        for socket in answers.iter().flat_map(|seen| seen.sockets()) {
            *votes.entry(*socket).or_default() += 1;
        }
        let seen = votes.into_iter().filter(|(_, count)| 2 * count > answers.len());
        let mut sockets: Vec<SocketAddr> = seen.map(|(socket, _)| socket).collect();
        let listening = self.inner.local.address.sockets().iter();
        for socket in listening.filter(|socket| !socket.ip().is_loopback() && !socket.ip().is_unspecified()) {
            if !sockets.contains(socket) {
                sockets.push(*socket);
            }
        }
        sockets.truncate(A::MAX_SOCKETS);
        A::from_sockets(&sockets)
    }

    async fn seen_by(&self, contact: Contact<A>) -> Option<A> {
        let pong = self.inner.asker.ask(Command::Ping { contact });
        match tokio::time::timeout(PATIENCE, pong).await.ok()?.ok()? {
            (Outcome::Pong { observed, .. }, _) => Some(observed),
            _ => None,
        }
    }
}
