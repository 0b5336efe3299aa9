//! What lies between the nodes: requests and answers on their way, connections, partitions.

use kad_core::{Contact, Duration, Failure, Input, ReplyId, Request, RequestId, Response};

use super::calls::{Call, CallId};
use super::nodes::Mind;
use super::{Arrival, NOBODY, World};
use crate::Place;
use crate::adversary::View;

impl World {
    /// Cuts the network in two or more: messages between nodes of different sides are lost from now on, until
    /// [`heal`](Self::heal).
    pub fn partition(&mut self, side: impl Fn(usize) -> u8) {
        self.sides = (0..self.nodes.len()).map(side).collect();
    }

    /// Ends a partition.
    pub fn heal(&mut self) {
        self.sides.clear();
    }

    pub(super) fn on_request(
        &mut self,
        call: CallId,
        from: Contact<Place>,
        read_only: bool,
        to: Contact<Place>,
        request: Request,
    ) {
        let (number, now) = (to.address.number(), self.now());
        if !self.admits(call) {
            self.calls.close(call);
            return;
        }
        let node = &mut self.nodes[number];
        match &node.mind {
            // Nobody is there: silence, until the asker's own deadline.
            Mind::Down => drop(self.calls.close(call)),
            Mind::Honest(_) | Mind::Adversary(_) if node.id != to.id => {
                self.fail(call, to.address, Failure::WrongIdentity);
            }
            Mind::Honest(_) => {
                node.served = node.served.saturating_add(1);
                self.meet(number as u32, from.address.number() as u32);
                let reply_to = ReplyId(call.to_u64());
                self.feed(
                    number as u32,
                    Input::Request {
                        from,
                        read_only,
                        reply_to,
                        request,
                    },
                );
            }
            &Mind::Adversary(group) => {
                self.meet(number as u32, from.address.number() as u32);
                let mut view = View {
                    unix: now.unix,
                    colluders: &self.colluders,
                    dice: &mut self.dice,
                };
                let answer = self.adversaries[group as usize].answer(&mut view, &to, &from, &request);
                match answer {
                    Some(response) => self.respond(call, to.address, response),
                    None => drop(self.calls.close(call)),
                }
            }
        }
    }

    pub(super) fn on_response(&mut self, id: CallId, response: Response<Place>) {
        let Some(call) = self.calls.close(id) else { return };
        if !self.admits_answer(&call) {
            return;
        }
        if self.nodes[call.by as usize].epoch != call.epoch {
            return; // Whoever asked has gone.
        }
        self.meet(call.by, call.to);
        let rtt = call.timed.then(|| self.now.since(call.sent));
        self.feed(
            call.by,
            Input::Response {
                id: call.id,
                response,
                rtt,
            },
        );
    }

    /// Sends a request of a node: it arrives, or is lost between two sides of a partition.
    pub(super) fn send(&mut self, number: u32, id: RequestId, to: Contact<Place>, request: Request) {
        let node = &self.nodes[number as usize];
        let (from, read_only, epoch) = (node.contact(), node.read_only, node.epoch);
        let peer = to.address.number() as u32;
        self.traffic.request(&request);
        let one_way = self.one_way(from.address, to.address);
        let mut leaves = self.now;
        let pool = self.pools.get(number as usize);
        let dials = pool.is_some_and(|pool| !pool.has(peer, self.now, self.links.idle));
        if dials {
            self.traffic.dials += 1;
            leaves = leaves + self.links.handshake(one_way, &mut self.wires);
        }
        if self.is_cut(number, peer) {
            return;
        }
        let port = self.port_of(peer, number, !dials);
        let Some(seen) = self.leaves(number, peer, port) else {
            return;
        };
        let arrives = leaves + self.links.transit(one_way, &mut self.wires);
        let timed = matches!(request, Request::Ping | Request::FindNode { card: false, .. });
        let call = self.calls.open(Call {
            by: number,
            to: peer,
            epoch,
            id,
            sent: leaves,
            timed,
            dials,
            seen,
            port,
            answered: 0,
        });
        self.queue.push(
            arrives,
            Arrival::Request {
                call,
                from,
                read_only,
                to,
                request,
            },
        );
    }

    pub(super) fn respond(&mut self, call: CallId, from: Place, response: Response<Place>) {
        self.traffic.response(&response);
        self.send_back(call, from, |call| Arrival::Response { call, response });
    }

    pub(super) fn fail(&mut self, call: CallId, from: Place, failure: Failure) {
        self.send_back(call, from, |call| Arrival::Failure { call, failure });
    }

    pub(super) fn send_back(&mut self, id: CallId, from: Place, arrival: impl FnOnce(CallId) -> Arrival) {
        let Some(call) = self.calls.get(id) else { return };
        let by = call.by;
        if by == NOBODY || self.is_cut(from.number() as u32, by) {
            self.calls.close(id);
            return;
        }
        let Some(port) = self.leaves(from.number() as u32, by, call.seen) else {
            self.calls.close(id);
            return;
        };
        self.calls.answer(id, port);
        let one_way = self.one_way(from, self.nodes[by as usize].place);
        let arrives = self.now + self.links.transit(one_way, &mut self.wires);
        self.queue.push(arrives, arrival(id));
    }

    pub(super) fn one_way(&mut self, from: Place, to: Place) -> Duration {
        let spot = |place: Place| self.spots.get(place.number()).copied().unwrap_or_default();
        let (from, to) = (spot(from), spot(to));
        self.links.one_way(from, to, &mut self.wires)
    }

    pub(super) fn is_cut(&self, one: u32, other: u32) -> bool {
        let side = |number: u32| self.sides.get(number as usize).copied().unwrap_or_default();
        side(one) != side(other)
    }

    /// Two nodes have talked, so there is a connection between them.
    pub(super) fn meet(&mut self, one: u32, other: u32) {
        let Some(room) = self.links.connections else {
            return;
        };
        if one == NOBODY || other == NOBODY {
            return;
        }
        for (near, far) in [(one, other), (other, one)] {
            if let Some(closed) = self.pools[near as usize].touch(far, self.now, room) {
                self.pools[closed as usize].close(near);
            }
        }
    }
}
