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
    /// Where others can reach this node: where most of those see it that are asked and answer, at least two if there is
    /// more than one to ask, and, if they are not loopback, the places that it listens at. `None` if that is nowhere.
    pub(super) async fn reachable_at(&self) -> Option<A> {
        let contacts = self.contacts().await.unwrap_or_default();
        // From the far end of the table to the near one, so that one neighbourhood does not decide.
        let step = contacts.len().div_ceil(ASKED).max(1);
        let asked: Vec<_> = contacts
            .into_iter()
            .step_by(step)
            .map(|(_, contact)| contact)
            .collect();
        let count = asked.len();
        let answers = join_all(asked.into_iter().map(|contact| self.seen_by(contact))).await;
        let answers: Vec<A> = answers.into_iter().flatten().collect();
        let mut sockets = agreed(&answers, count);
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

/// The places that most of the answers name, if of several that were `asked` two at least agree: or one that lies would
/// decide alone where the others are silent.
fn agreed<A: kad_net::WireAddress>(answers: &[A], asked: usize) -> Vec<SocketAddr> {
    let enough = 2.min(asked);
    let mut votes: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    for socket in answers.iter().flat_map(|seen| seen.sockets()) {
        *votes.entry(*socket).or_default() += 1;
    }
    let is_agreed = |&(_, count): &(SocketAddr, usize)| count >= enough && 2 * count > answers.len();
    let agreed = votes.into_iter().filter(is_agreed);
    agreed.map(|(socket, _)| socket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 4000))
    }

    #[test]
    fn one_that_lies_decides_only_where_nobody_else_could_be_asked() {
        let (true_one, lie) = (place(1), place(2));
        assert_eq!(agreed(&[lie], 3), [], "the others are silent");
        assert_eq!(agreed(&[lie], 2), []);
        assert_eq!(agreed(&[true_one, lie], 3), []);
        assert_eq!(agreed(&[true_one, lie, true_one], 3), [true_one]);
        assert_eq!(agreed(&[true_one, true_one], 3), [true_one]);
        assert_eq!(agreed(&[true_one], 1), [true_one], "it knows nobody else");
        assert_eq!(agreed::<SocketAddr>(&[], 0), []);
    }

    #[test]
    fn of_several_places_those_count_that_most_name() {
        let several = |places: &[u8]| {
            let places: Vec<SocketAddr> = places.iter().map(|&n| place(n)).collect();
            kad_net::quic::QuicAddress::new(&places).unwrap()
        };
        let answers = [several(&[1, 2]), several(&[1, 3]), several(&[1, 3])];
        assert_eq!(agreed(&answers, 3), [place(1), place(3)]);
        assert_eq!(agreed(&answers[..2], 3), [place(1)]);
    }
}
