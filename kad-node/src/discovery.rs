//! Nodes of the same network that are near enough to be heard: who has no bootstrap node begins with them.
//!
//! Every node says over mDNS that it is there, with its id and its network, and hears the others say so. Whoever says
//! that it serves is dialled until it answers, once a minute at most, and, if it is who it says it is, met: with nobody
//! else known it is the way into the network, and else one more contact. Where a neighbour is found is also an address
//! at which [`connect`](crate::Node::connect) tries it.
//!
//! What it refuses to do: believe an address that lies outside of the own network; dial more than a few neighbours at a
//! time, whatever is announced; remember more of them than [`neighbours`] says.

mod mdns;
mod meeting;
mod neighbours;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use kad_core::{Instant, NodeId};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub(crate) use self::mdns::Announcement;
use self::mdns::{Heard, Mdns};
pub(crate) use self::neighbours::{Neighbour, Neighbours};
use crate::join::Company;
use crate::role::Role;

/// The port of mDNS (RFC 6762, section 2).
const PORT: u16 = 5353;

/// Before it is tried again to listen, where that failed.
const PAUSE: Duration = Duration::from_secs(30);

/// Meets neighbours: says whether one was there and is who it says it is.
pub(crate) trait Meet: Clone + Send + Sync + 'static {
    fn meet(&self, neighbour: Neighbour) -> impl Future<Output = bool> + Send;
}

/// The neighbours, for whoever looks for one.
pub(crate) type Neighbourhood = Arc<Mutex<Neighbours>>;

/// The task that hears and announces.
pub(crate) struct Discovery {
    task: JoinHandle<()>,
    end: oneshot::Sender<()>,
    neighbourhood: Neighbourhood,
}

impl Discovery {
    /// Announces the node and meets its neighbours until it is closed. Who serves is told anew when the role changes.
    pub(crate) fn start(
        announcement: Announcement,
        role: watch::Receiver<Role>,
        company: watch::Receiver<Company>,
        meet: impl Meet,
    ) -> Self {
        Self::with(PORT, announcement, role, company, meet)
    }

    fn with(
        port: u16,
        announcement: Announcement,
        role: watch::Receiver<Role>,
        company: watch::Receiver<Company>,
        meet: impl Meet,
    ) -> Self {
        let neighbours = Neighbours::new(announcement.id, announcement.is_loopback());
        let neighbourhood = Arc::new(Mutex::new(neighbours));
        let (end, ended) = oneshot::channel();
        let task = Task {
            port,
            announcement,
            neighbourhood: neighbourhood.clone(),
            meet,
            began: tokio::time::Instant::now(),
        };
        Self {
            task: tokio::spawn(task.run(role, company, ended)),
            end,
            neighbourhood,
        }
    }

    pub(crate) fn neighbourhood(&self) -> Neighbourhood {
        self.neighbourhood.clone()
    }

    /// Says goodbye; takes half a second at most.
    pub(crate) async fn close(self) {
        // A task that has ended has said goodbye already.
        let _ = self.end.send(());
        let _ = self.task.await;
    }
}

struct Task<M> {
    port: u16,
    announcement: Announcement,
    neighbourhood: Neighbourhood,
    meet: M,
    began: tokio::time::Instant,
}

impl<M: Meet> Task<M> {
    async fn run(
        mut self,
        mut role: watch::Receiver<Role>,
        mut company: watch::Receiver<Company>,
        mut end: oneshot::Receiver<()>,
    ) {
        self.announcement.serves = *role.borrow_and_update() == Role::Server;
        loop {
            match Mdns::start(&self.announcement, self.port) {
                Ok(mut mdns) => {
                    let ended = self.hear(&mut mdns, &mut role, &mut company, &mut end).await;
                    mdns.close().await;
                    if ended {
                        return;
                    }
                }
                Err(error) => tracing::debug!(%error, "there is no mDNS"),
            }
            tokio::select! {
                _ = &mut end => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Until the end, or until there is nothing to be heard any more.
    async fn hear(
        &mut self,
        mdns: &mut Mdns,
        role: &mut watch::Receiver<Role>,
        company: &mut watch::Receiver<Company>,
        end: &mut oneshot::Receiver<()>,
    ) -> bool {
        let mut dials = FuturesUnordered::new();
        loop {
            while let Some(neighbour) = self.neighbours(|neighbours, now| neighbours.dial(now)) {
                let meet = self.meet.clone();
                dials.push(async move { (neighbour.id, meet.meet(neighbour).await) });
            }
            let due = self.neighbours(|neighbours, now| neighbours.due().map(|due| due.since(now)));
            tokio::select! {
                biased;
                _ = &mut *end => return true,
                Some((id, has_answered)) = dials.next() => self.ended(id, has_answered),
                Ok(()) = role.changed() => {
                    self.announcement.serves = *role.borrow_and_update() == Role::Server;
                    if let Err(error) = mdns.announce(&self.announcement) {
                        tracing::debug!(%error, "the announcement could not be changed");
                    }
                }
                Ok(()) = company.changed() => {
                    if *company.borrow_and_update() == Company::Nobody {
                        self.neighbours(|neighbours, now| neighbours.start_over(now));
                    }
                }
                heard = mdns.next() => match heard {
                    Some(Heard::Found(neighbour)) => {
                        tracing::debug!(id = %neighbour.id, addresses = ?neighbour.addresses, "a neighbour was heard");
                        self.neighbours(|neighbours, now| neighbours.found(now, neighbour));
                    }
                    Some(Heard::Gone(id)) => self.neighbours(|neighbours, _| neighbours.gone(id)),
                    None => return false,
                },
                () = tokio::time::sleep(due.unwrap_or(PAUSE)) => {}
            }
        }
    }

    fn ended(&self, id: NodeId, has_answered: bool) {
        self.neighbours(|neighbours, now| neighbours.dialled_out(now, id, has_answered));
        match has_answered {
            true => tracing::info!(%id, "met a node in the own network"),
            false => tracing::debug!(%id, "a neighbour does not answer"),
        }
    }

    fn neighbours<T>(&self, with: impl FnOnce(&mut Neighbours, Instant) -> T) -> T {
        let now = Instant::ZERO + self.began.elapsed();
        // Nothing panics while it is locked.
        let mut neighbours = (self.neighbourhood.lock()).unwrap_or_else(PoisonError::into_inner);
        with(&mut neighbours, now)
    }
}
