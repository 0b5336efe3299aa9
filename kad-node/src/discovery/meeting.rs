//! Meeting a neighbour: finding out who is there, and making a contact of it.

use std::sync::Arc;

use kad_core::Command;
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
            false => self.asker.ask(Command::Ping { contact }).await.is_ok(),
        }
    }
}
