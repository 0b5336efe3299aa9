//! Each message through the NATs of both ends.

use std::net::SocketAddr;

use kad_net::nat::model::PORT;

use super::words::Word;
use crate::nat::{host, number};
use crate::world::calls::{Call, CallId};
use crate::world::{Arrival, Mind, NOBODY, World};

impl World {
    /// A packet of a node goes out to a port of another. Says from which port it is seen to come; `None` if it is not
    /// let out. Where there are no NATs everybody is at the same port.
    pub(in crate::world) fn leaves(&mut self, from: u32, to: u32, port: u16) -> Option<u16> {
        if self.homes.is_empty() || from == NOBODY {
            return Some(PORT);
        }
        self.note_sent(from, to);
        let remote = SocketAddr::from((host(to), port));
        let seen = self.homes[from as usize].nat.send(self.now, remote)?;
        Some(seen.port())
    }

    /// A packet that is seen to come from a port of a node arrives at a port of another. Says whether it gets in.
    pub(in crate::world) fn gets_in(&mut self, from: u32, source: u16, to: u32, port: u16) -> bool {
        if self.homes.is_empty() || from == NOBODY {
            return true;
        }
        let source = SocketAddr::from((host(from), source));
        self.homes[to as usize].nat.receive(self.now, source, port)
    }

    /// The port at which a node is to be found by another: over a connection that from which it was last heard, else
    /// the one that its address has.
    pub(in crate::world) fn port_of(&self, to: u32, by: u32, connected: bool) -> u16 {
        if !connected || self.homes.is_empty() {
            return PORT;
        }
        let remote = SocketAddr::from((host(by), PORT));
        self.homes[to as usize]
            .nat
            .port_towards(self.now, remote)
            .unwrap_or(PORT)
    }

    /// A request has arrived at a NAT: whether it gets in, and if it was the first of a connection, what that proves.
    pub(in crate::world) fn admits(&mut self, call: CallId) -> bool {
        if self.homes.is_empty() {
            return true;
        }
        let Some(call) = self.calls.get(call) else {
            return true; // An adversary's, which waits for no answer.
        };
        let gets_in = self.gets_in(call.by, call.seen, call.to, call.port);
        if gets_in && call.dials {
            self.on_call(call.to, call.by);
        }
        gets_in
    }

    /// An answer has arrived: whether it gets in, and if it was the first of a connection, that this one was dialled.
    pub(in crate::world) fn admits_answer(&mut self, call: &Call) -> bool {
        if self.homes.is_empty() {
            return true;
        }
        let gets_in = self.gets_in(call.to, call.answered, call.by, call.seen);
        if gets_in && call.dials {
            self.note_dialled(call.by, call.to);
        }
        gets_in
    }

    /// A node says something to another, at the port where it is known to be.
    pub(super) fn post(&mut self, from: u32, to: u32, port: u16, word: Word) {
        let Some(source) = self.leaves(from, to, port) else {
            return;
        };
        let (one, other) = (self.nodes[from as usize].place, self.nodes[to as usize].place);
        let one_way = self.one_way(one, other);
        let mut leaves = self.now;
        if word.is_asked() && !self.pools[from as usize].has(to, self.now, self.links.idle) {
            self.traffic.dials += 1;
            leaves = leaves + self.links.handshake(one_way, &mut self.wires);
        }
        let arrives = leaves + self.links.transit(one_way, &mut self.wires);
        self.queue.push(
            arrives,
            Arrival::Word {
                from,
                source,
                to,
                port,
                word,
            },
        );
    }

    /// Something goes to an address, whoever is there.
    pub(super) fn post_to(&mut self, from: u32, address: SocketAddr, word: Word) {
        let SocketAddr::V4(v4) = address else { return };
        if let Some(to) = number(*v4.ip()).filter(|to| (*to as usize) < self.homes.len()) {
            self.post(from, to, address.port(), word);
        }
    }

    pub(in crate::world) fn on_word(&mut self, from: u32, source: u16, to: u32, port: u16, word: Word) {
        if matches!(self.nodes[to as usize].mind, Mind::Down) || !self.gets_in(from, source, to, port) {
            return;
        }
        if word.is_asked() {
            self.meet(from, to);
        }
        let seen = SocketAddr::from((host(from), source));
        match word {
            Word::Open { .. }
            | Word::Opened { .. }
            | Word::NotOpened { .. }
            | Word::Close { .. }
            | Word::Relay { .. }
            | Word::Meet { .. }
            | Word::Go { .. }
            | Word::Punch { .. }
            | Word::Initial { .. }
            | Word::Answer { .. }
            | Word::Finished { .. } => self.on_meeting(from, seen, to, word),
            _ => self.on_reach(from, seen, to, word),
        }
    }
}
