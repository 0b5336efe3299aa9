//! Where servers are reached that this node has met, in both families of IP, and which of them relay.
//!
//! A server says with HELLO where it is reached in the family over which it was not asked. That is its own word, and
//! may be anybody's address: a server goes there, within the rations of dials, before it tells others. A relay of a
//! family in which none is known yet is dialled there for a place, within the same rations.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use kad_core::{Instant, NodeId};

use super::driver::{Driver, Heard};
use super::observers::ASKED_AT_ONCE;
use crate::nat::observation::Family;
use crate::nat::reachability::Role;
use crate::nat::reservations;
use crate::quic::QuicAddress;
use crate::quic::connect;
use crate::quic::families::{has_route, has_way_out};
use crate::quic::pool::Link;
use crate::wire::Scope;

/// Relays that are remembered after their connections have ended: as many as the reservations keep in mind. Full: one
/// without a connection is forgotten, or the new one is not taken.
const MAX_RELAYS: usize = 32;

/// Where a relay is.
struct KnownRelay {
    /// Where this node has met it.
    address: QuicAddress,
    /// Where it says that it is reached in the other family.
    also: Option<SocketAddr>,
}

/// Where relays are, whether they are connected or not.
#[derive(Default)]
pub(super) struct Relays {
    known: BTreeMap<NodeId, KnownRelay>,
}

impl Relays {
    /// Where a relay is.
    pub(super) fn at(&self, id: NodeId) -> Option<&QuicAddress> {
        self.known.get(&id).map(|known| &known.address)
    }

    /// Where a relay says that it is reached in the other family than the one in which it was met.
    pub(super) fn also(&self, id: NodeId) -> Option<SocketAddr> {
        self.known.get(&id)?.also
    }

    /// The relay is not to be asked for anything any more.
    pub(super) fn forget(&mut self, id: NodeId) {
        self.known.remove(&id);
    }
}

impl Driver {
    /// The families in which peers are to be asked where they are: those in which this node goes somewhere, if it tells
    /// others of peers. Who only asks tells nobody.
    pub(super) fn lacking(&self) -> Vec<Family> {
        let both = [Family::V4, Family::V6];
        let tells = self.role() == Role::Server && both.iter().all(|family| self.port_of(*family).is_some());
        match tells {
            true if self.config.scope == Scope::Any => both.to_vec(),
            true => both.into_iter().filter(|family| has_way_out(*family)).collect(),
            false => Vec::new(),
        }
    }

    /// Whether no relay is known in a family in which this node would have a place: one that has come back, perhaps.
    /// Those that are met in the other one say where they are in this.
    pub(super) fn lacks_relay(&self, now: Instant, family: Family) -> bool {
        self.reservations.lacks(now, family) && self.port_of(family).is_some() && has_way_out(family)
    }

    /// Goes where peers are said to be in the other family, so that others can be told.
    pub(super) fn look_up_claims(&self, now: Instant) {
        let claims = self.shared.reached.take_claims(ASKED_AT_ONCE);
        if self.role() != Role::Server {
            return;
        }
        for (peer, at) in claims {
            let scope = self.config.scope;
            let goes = scope.admits(at) && self.port_of(Family::of(at.ip())).is_some() && has_route(at.ip());
            if goes && self.shared.meetings.may_dial(now, at.ip()) {
                let shared = self.shared.clone();
                self.start(async move {
                    // What comes of it is noted where it is dialled.
                    let _ = connect::dial(&shared, &at.into(), Some(peer)).await;
                    Heard::Nothing
                });
            }
        }
    }

    /// A server that was dialled says whether it relays, and where else it is reached.
    pub(super) fn meet_in_both(&mut self, link: &Arc<Link>, relays: bool, also: Option<SocketAddr>) {
        let (now, id, met, scope) = (self.now(), link.peer, link.whereabouts().at, self.config.scope);
        let other = |also: &SocketAddr| Family::of(also.ip()) != Family::of(met.ip()) && scope.admits(*also);
        let also = also.filter(other);
        if let Some(also) = also {
            self.shared.reached.claim(now, id, also);
        }
        // One at which there is a place is where that place is.
        if relays && !self.places.contains_key(&id) {
            // The first that is known in a family is worth a dial: who connects may need that family. It may be
            // anybody's address, so there is a ration.
            let goes = |also: &SocketAddr| {
                self.lacks_relay(now, Family::of(also.ip())) && self.shared.meetings.may_dial(now, also.ip())
            };
            let (at, also) = match also.filter(goes) {
                Some(first) => (first, Some(met)),
                None => (met, also),
            };
            if self.remember_relay(id, at, also) {
                let (ip, rtt) = (at.ip(), link.connection.rtt());
                self.reserve(reservations::Event::RelayKnown { relay: id, ip, rtt });
            }
        }
    }

    /// Whether it is one that may be asked for a place.
    fn remember_relay(&mut self, id: NodeId, at: SocketAddr, also: Option<SocketAddr>) -> bool {
        let known = &mut self.relays.known;
        if !known.contains_key(&id) && known.len() >= MAX_RELAYS {
            let gone = known
                .keys()
                .find(|id| !self.observers.knows(id) && !self.places.contains_key(*id));
            let Some(gone) = gone.copied() else {
                return false;
            };
            known.remove(&gone);
            self.reserve(reservations::Event::RelayGone { relay: gone });
        }
        let address = QuicAddress::from(at);
        self.relays.known.insert(id, KnownRelay { address, also });
        true
    }
}
