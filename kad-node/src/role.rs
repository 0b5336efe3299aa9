//! Whether this node serves or only asks: as its operator chose, or as the transport has found out.
//!
//! A node that serves is in the tables of others, answers them and holds their records. That is of use only where
//! others can reach it, so by default it begins to serve when strangers have reached it, and stops when they no longer
//! do. The proofs are the transport's (`kad_net::nat::reachability`); here they become the role of the state machine.

use std::net::SocketAddr;

use kad_net::WireAddress;
use kad_net::card::Card;
use kad_net::nat::candidates::CandidateKind;
use kad_net::nat::reachability::Prospect;
pub use kad_net::nat::reachability::{Role, RoleChoice};
use kad_net::quic::{QuicAddress, Standing};
use tokio::sync::watch;

use crate::node::WeakAsker;

/// What a transport has found out about how its node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Presence<A> {
    pub(crate) role: Role,
    /// What there is to wait for while nothing is proven.
    pub(crate) prospect: Prospect,
    /// What the card of the node would say.
    pub(crate) card: Card<A>,
}

impl Presence<QuicAddress> {
    fn of(standing: &Standing) -> Self {
        Self {
            role: standing.role,
            prospect: standing.prospect,
            card: standing.card(),
        }
    }

    /// What the QUIC transport finds out. It ends when the transport is closed.
    pub(crate) fn follow(mut standing: watch::Receiver<Standing>) -> watch::Receiver<Self> {
        let (told, presence) = watch::channel(Self::of(&standing.borrow_and_update()));
        tokio::spawn(async move {
            while standing.changed().await.is_ok() {
                let now = Self::of(&standing.borrow_and_update());
                told.send_if_modified(|before| {
                    let differs = *before != now;
                    *before = now;
                    differs
                });
            }
        });
        presence
    }
}

/// The role with which a node begins. A transport that finds out nothing is one whose nodes all reach each other.
pub(crate) fn first_role<A>(choice: RoleChoice, presence: Option<&watch::Receiver<Presence<A>>>) -> Role {
    match (choice, presence) {
        (RoleChoice::Client, _) => Role::Client,
        (RoleChoice::Server, _) | (RoleChoice::Auto, None) => Role::Server,
        (RoleChoice::Auto, Some(presence)) => presence.borrow().role,
    }
}

/// Has the driver follow what the transport finds out.
pub(crate) struct RoleKeeper<A> {
    pub(crate) presence: watch::Receiver<Presence<A>>,
    pub(crate) asker: WeakAsker<A>,
    pub(crate) role: watch::Sender<Role>,
}

impl<A: WireAddress> RoleKeeper<A> {
    /// Ends with the node, or with its transport.
    pub(crate) async fn run(mut self) {
        loop {
            let now = self.presence.borrow_and_update().clone();
            if now.role != *self.role.borrow() {
                if self.asker.take_role(now.role).await.is_err() {
                    return;
                }
                tracing::info!(role = ?now.role, "{}", why(&now));
                self.role.send_replace(now.role);
            }
            if self.presence.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Why the role is what it is now.
fn why<A>(presence: &Presence<A>) -> String {
    let reached = presence.card.candidates.iter();
    let reached = reached.filter(|candidate| candidate.kind == CandidateKind::Verified);
    let reached: Vec<SocketAddr> = reached.map(|candidate| candidate.address).collect();
    match (presence.role, reached.as_slice()) {
        (Role::Server, []) => "this node serves from now on: others can reach it".into(),
        (Role::Server, reached) => {
            let reached: Vec<String> = reached.iter().map(ToString::to_string).collect();
            let reached = reached.join(", ");
            format!(
                "this node serves from now on: nodes that it had never sent anything to have reached it at {reached}"
            )
        }
        (Role::Client, _) => {
            "this node only asks from now on: it is no longer proven that others can reach it".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use kad_net::nat::candidates::Candidate;

    use super::*;

    #[test]
    fn the_operator_decides_before_the_transport_does() {
        let card = Card::<SocketAddr>::default();
        let (told, presence) = watch::channel(Presence {
            role: Role::Client,
            prospect: Prospect::Unclear,
            card,
        });
        let first = |choice| first_role(choice, Some(&presence));
        assert_eq!(first(RoleChoice::Auto), Role::Client);
        assert_eq!(first(RoleChoice::Server), Role::Server);
        told.send_modify(|presence| presence.role = Role::Server);
        assert_eq!(first(RoleChoice::Auto), Role::Server);
        assert_eq!(first(RoleChoice::Client), Role::Client);
        assert_eq!(first_role::<SocketAddr>(RoleChoice::Auto, None), Role::Server);
    }

    #[test]
    fn who_reads_the_log_learns_why() {
        let address = "192.0.2.7:4000".parse().unwrap();
        let kind = CandidateKind::Verified;
        let mut presence = Presence {
            role: Role::Server,
            prospect: Prospect::Heard,
            card: Card::<SocketAddr> {
                candidates: vec![Candidate { address, kind }],
                ..Card::default()
            },
        };
        assert!(why(&presence).ends_with("have reached it at 192.0.2.7:4000"));
        presence.role = Role::Client;
        assert!(why(&presence).starts_with("this node only asks"));
    }
}
