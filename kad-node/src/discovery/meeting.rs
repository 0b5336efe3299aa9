//! Meeting a neighbour: finding out who is there, and making a contact of it.

use std::sync::Arc;

use kad_core::{Command, Outcome};
use kad_net::{Transport, WireAddress as _};

use super::{Meet, Neighbour};
use crate::join::{Company, identify_at};
use crate::surroundings::Host;

impl<T: Transport> Meet for Arc<Host<T>> {
    async fn meet(&self, neighbour: Neighbour) -> bool {
        let Some(address) = T::Address::from_sockets(&neighbour.addresses) else {
            return false;
        };
        let contact = match identify_at(&*self.transport, &address).await {
            Ok(contact) if contact.id == neighbour.id => contact,
            _ => return false,
        };
        let nobody = *self.company.borrow() == Company::Nobody;
        match nobody {
            true => self.asker.bootstrap(vec![contact]).await.is_ok(),
            // Who answers becomes a contact, if the table has room.
            false => {
                let answer = self.asker.ask(Command::Ping { contact }).await;
                matches!(answer, Ok(Outcome::Pong { .. }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kad_core::Keypair;
    use kad_net::memory::{Conditions, Network};
    use kad_store::{Limits, MemoryStore};
    use tokio::sync::watch;

    use super::*;
    use crate::Node;

    #[tokio::test]
    async fn only_a_neighbour_that_answers_is_met() {
        let network = Network::new(1, Conditions::default());
        let address = |n: u8| std::net::SocketAddr::from(([10, 0, 0, n], 4000));
        let keypair = |n: u8| Keypair::from_secret(&[n; 32]);
        let join = |n| network.join(keypair(n).node_id(), address(n));
        let start = |n| {
            let store = MemoryStore::new(Limits::default());
            Node::builder().spawn_with(keypair(n), join(n), store)
        };
        let (own, neighbour) = (start(1).await.unwrap(), start(2).await.unwrap());
        // It is who it says it is, and nobody there takes requests.
        let dumb = join(3);
        let (_told, company) = watch::channel(Company::Somebody);
        let host = Arc::new(Host {
            transport: Arc::new(join(4)),
            asker: own.for_tasks().0,
            company,
        });
        let meet = async |n, id| {
            host.meet(Neighbour {
                id,
                addresses: vec![address(n)],
                serves: true,
            })
            .await
        };
        assert!(meet(2, neighbour.id()).await);
        assert!(!meet(2, keypair(5).node_id()).await, "another id");
        assert!(!meet(3, keypair(3).node_id()).await, "no answer");
        drop(dumb);
    }
}
