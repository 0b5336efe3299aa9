//! Asking the driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kad_core::{Command, Contact, Effort, Outcome, QueryId};
use tokio::sync::{mpsc, oneshot};

use crate::driver::Order;
use crate::{NodeError, Role};

/// Sends commands to the driver and waits for their outcome.
pub(crate) struct Asker<A> {
    orders: mpsc::Sender<Order<A>>,
    next_query: Arc<AtomicU64>,
}

impl<A> Clone for Asker<A> {
    fn clone(&self) -> Self {
        Self {
            orders: self.orders.clone(),
            next_query: self.next_query.clone(),
        }
    }
}

/// Tells the driver when nobody waits for a query any more.
struct CancelOnDrop<'a, A> {
    orders: &'a mpsc::Sender<Order<A>>,
    query: Option<QueryId>,
}

impl<A> Drop for CancelOnDrop<'_, A> {
    fn drop(&mut self) {
        if let Some(query) = self.query {
            // If the driver is that busy, the query runs to its end and its answer is dropped.
            let _ = self.orders.try_send(Order::Cancel(query));
        }
    }
}

impl<A> Asker<A> {
    pub(crate) fn new(orders: mpsc::Sender<Order<A>>) -> Self {
        Self {
            orders,
            next_query: Arc::default(),
        }
    }

    pub(crate) async fn ask(&self, command: Command<A>) -> Result<(Outcome<A>, Effort), NodeError> {
        let (_, outcome, effort) = self.query(command).await?;
        Ok((outcome, effort))
    }

    /// What came of a command, and the name under which events tell of it.
    pub(crate) async fn query(
        &self,
        command: Command<A>,
    ) -> Result<(QueryId, Outcome<A>, Effort), NodeError> {
        let id = QueryId(self.next_query.fetch_add(1, Ordering::Relaxed));
        let (answer, outcome) = oneshot::channel();
        self.orders
            .send(Order::Query { id, command, answer })
            .await
            .map_err(|_| NodeError::Stopped)?;
        let mut guard = CancelOnDrop {
            orders: &self.orders,
            query: Some(id),
        };
        let outcome = outcome.await;
        guard.query = None;
        match outcome.map_err(|_| NodeError::Stopped)? {
            (Outcome::Failed(error), _) => Err(error.into()),
            (outcome, effort) => Ok((id, outcome, effort)),
        }
    }

    pub(crate) async fn bootstrap(&self, contacts: Vec<Contact<A>>) -> Result<usize, NodeError> {
        match self.ask(Command::Bootstrap { contacts }).await?.0 {
            Outcome::Bootstrapped { contacts } => Ok(contacts),
            _ => Err(NodeError::Stopped),
        }
    }

    /// One that does not keep the node alive.
    pub(crate) fn downgrade(&self) -> WeakAsker<A> {
        WeakAsker {
            orders: self.orders.downgrade(),
            next_query: self.next_query.clone(),
        }
    }

    pub(crate) async fn order(&self, order: Order<A>) -> Result<(), NodeError> {
        self.orders.send(order).await.map_err(|_| NodeError::Stopped)
    }
}

/// An [`Asker`] for tasks that live as long as the node, and must not make it live as long as they do.
pub(crate) struct WeakAsker<A> {
    orders: mpsc::WeakSender<Order<A>>,
    next_query: Arc<AtomicU64>,
}

impl<A: kad_net::WireAddress> WeakAsker<A> {
    fn upgrade(&self) -> Option<Asker<A>> {
        Some(Asker {
            orders: self.orders.upgrade()?,
            next_query: self.next_query.clone(),
        })
    }

    /// Whether the node has stopped, or is about to.
    pub(crate) fn is_gone(&self) -> bool {
        self.orders.upgrade().is_none_or(|orders| orders.is_closed())
    }

    /// What came of a command. Dropping the future does not cancel it: those who ask here stop with the node.
    pub(crate) async fn ask(&self, command: Command<A>) -> Result<Outcome<A>, NodeError> {
        let asker = self.upgrade().ok_or(NodeError::Stopped)?;
        let id = QueryId(self.next_query.fetch_add(1, Ordering::Relaxed));
        let (answer, outcome) = oneshot::channel();
        asker.order(Order::Query { id, command, answer }).await?;
        drop(asker); // While this waits it must not keep the node alive.
        Ok(outcome.await.map_err(|_| NodeError::Stopped)?.0)
    }

    pub(crate) async fn bootstrap(&self, contacts: Vec<Contact<A>>) -> Result<usize, NodeError> {
        match self.ask(Command::Bootstrap { contacts }).await? {
            Outcome::Bootstrapped { contacts } => Ok(contacts),
            Outcome::Failed(error) => Err(error.into()),
            _ => Err(NodeError::Stopped),
        }
    }

    /// Has the driver serve, or only ask.
    pub(crate) async fn take_role(&self, role: Role) -> Result<(), NodeError> {
        let asker = self.upgrade().ok_or(NodeError::Stopped)?;
        let read_only = role == Role::Client;
        asker.order(Order::Role { read_only }).await
    }

    /// The contacts of the table, unless the node is gone.
    pub(crate) async fn contacts(&self) -> Option<Vec<Contact<A>>> {
        let (answer, seen) = oneshot::channel();
        let look = move |machine: &kad_core::Kademlia<A>| {
            // Whoever asked may have gone away.
            let _ = answer.send(
                machine
                    .table()
                    .contacts()
                    .map(|entry| entry.contact.clone())
                    .collect(),
            );
        };
        self.upgrade()?.order(Order::Look(Box::new(look))).await.ok()?;
        seen.await.ok()
    }
}
