//! Where a peer is, as far as it has proven that it is there.
//!
//! QUIC follows a peer to where its newest packet came from, and asks for a proof afterwards; without one it goes
//! back to where the peer was. So who can forge the source of a packet, or is between the two and sends a packet
//! of theirs on from elsewhere, can have a connection point at anybody for as long as that takes, and again with
//! the next packet. What is sent or said to third parties because of the address of a peer has to wait until the
//! address is proven.
//!
//! The library does not tell when it is, and how long it waits for the proof is the peer's choice in part (its
//! `max_ack_delay`, and how much its round trips vary). But it counts, and there is one thing that it never does:
//!
//! - Each time it follows a peer it sends a challenge, before anything else leaves (quinn-proto,
//!   `Connection::migrate` and `send_path_challenge`); and as long as the challenge is open each packet that
//!   carries frames of ours carries it too (`populate_packet`). Only probes of the path's MTU do not, and answers
//!   to challenges from elsewhere.
//! - So frames that left without a challenge left over a path that is proven: this one, or the one before, if the
//!   library had gone back meanwhile. To follow the peer once more it then has to send another challenge.
//!
//! Hence a peer is where it was seen at a first look and at a second one, if frames have left in between and not
//! one challenge. One exception is left: while the socket takes nothing, a challenge may be due that is not
//! counted yet. But then nothing else leaves either, so a third look, with further frames gone and still no
//! challenge, is the proof.

use std::net::SocketAddr;

/// So many looks in a row at which frames had left, and no challenge: see the module.
const PROVES: u32 = 2;

/// What a connection shows of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Where its newest packet came from.
    pub(super) at: SocketAddr,
    /// How many challenges were sent over it.
    pub(super) challenges: u64,
    /// How many frames were sent over it that are never in a packet without the challenge that is open.
    pub(super) frames: u64,
}

/// Where a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whereabouts {
    /// The last address that it has proven.
    pub(super) at: SocketAddr,
    /// Whether it is still there, as far as its packets show.
    pub(super) settled: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Settled {
    at: SocketAddr,
    newer: Option<Newer>,
}

/// An address that is not proven.
#[derive(Debug)]
struct Newer {
    /// The last look at which something had left.
    seen: Seen,
    /// Such looks in a row.
    quiet: u32,
}

impl Settled {
    /// The address of the handshake, which is a proof.
    pub(super) const fn new(at: SocketAddr) -> Self {
        Self { at, newer: None }
    }

    /// Looks at the connection, as often as anybody wants to know. `None`: it moved while it was looked at.
    pub(super) fn look(&mut self, seen: Option<Seen>) -> Whereabouts {
        let Some(seen) = seen else {
            self.newer = None;
            return Whereabouts {
                at: self.at,
                settled: false,
            };
        };
        if seen.at == self.at {
            self.newer = None;
        } else {
            self.look_at_newer(seen);
        }
        Whereabouts {
            at: self.at,
            settled: self.newer.is_none(),
        }
    }

    fn look_at_newer(&mut self, seen: Seen) {
        match &mut self.newer {
            Some(newer) if newer.seen.at == seen.at && newer.seen.challenges == seen.challenges => {
                if seen.frames > newer.seen.frames {
                    newer.seen = seen;
                    newer.quiet += 1;
                }
                if newer.quiet >= PROVES {
                    *self = Self::new(seen.at);
                }
            }
            _ => self.newer = Some(Newer { seen, quiet: 0 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(n: u8) -> SocketAddr {
        SocketAddr::from(([8, 8, 8, n], 4001))
    }

    /// A peer that was at host 1: looks at where it is, and at how many challenges and frames were sent.
    fn peer() -> impl FnMut(u8, u64, u64) -> (u8, bool) {
        let mut settled = Settled::new(host(1));
        move |n, challenges, frames| {
            let at = host(n);
            let found = settled.look(Some(Seen {
                at,
                challenges,
                frames,
            }));
            let n = (1..9).find(|&n| host(n) == found.at);
            (n.unwrap_or_default(), found.settled)
        }
    }

    #[test]
    fn a_peer_is_followed_once_frames_have_left_twice_without_a_challenge() {
        let mut look = peer();
        assert_eq!(look(1, 0, 10), (1, true));
        assert_eq!(look(2, 2, 11), (1, false));
        assert_eq!(look(2, 3, 12), (1, false), "with a challenge");
        assert_eq!(look(2, 3, 13), (1, false), "once");
        assert_eq!(look(2, 3, 13), (1, false), "nothing has left");
        assert_eq!(look(2, 3, 20), (2, true));
        assert_eq!(look(2, 3, 20), (2, true));
    }

    #[test]
    fn time_alone_proves_nothing() {
        let mut look = peer();
        assert!((0..10_000).all(|_| look(2, 2, 11) == (1, false)));
    }

    #[test]
    fn who_goes_back_was_never_away() {
        let mut look = peer();
        assert_eq!(look(2, 2, 11), (1, false));
        assert_eq!(look(2, 2, 12), (1, false));
        assert_eq!(look(1, 2, 13), (1, true));
        assert_eq!(look(2, 4, 14), (1, false));
        assert_eq!(look(2, 4, 15), (1, false));
    }

    #[test]
    fn what_moves_while_it_is_looked_at_proves_nothing() {
        let mut settled = Settled::new(host(1));
        let seen = |frames| {
            Some(Seen {
                at: host(2),
                challenges: 2,
                frames,
            })
        };
        for frames in 0..100 {
            assert_eq!(settled.look(seen(2 * frames)).at, host(1));
            assert_eq!(settled.look(seen(2 * frames + 1)).at, host(1));
            let found = settled.look(None);
            assert_eq!((found.at, found.settled), (host(1), false));
        }
    }

    /// What happens to a connection, as quinn-proto has it.
    #[derive(Debug, Clone)]
    enum Step {
        /// A packet of the peer comes from this host: genuine, or forged by somebody who is not there.
        Comes(u8),
        /// The challenge that is open is answered, if whoever it was sent to is the peer.
        Answered,
        /// The time for the answer is over.
        Overdue,
        /// The node sends a frame.
        Sends,
        /// The socket takes something again, or nothing any more.
        Writable(bool),
        Look,
    }

    /// The connection: who is at which hosts is known here.
    struct Model {
        at: u8,
        /// Where the challenge that is open was sent to, once it has been.
        open: Option<bool>,
        proven: u8,
        challenges: u64,
        frames: u64,
        waiting: u64,
        writable: bool,
        /// A packet that the socket did not take: no other is made before it has left.
        stuck: bool,
    }

    impl Model {
        /// What is due leaves; a packet is made, and counted, before the socket is asked.
        fn flush(&mut self) {
            loop {
                if self.stuck {
                    if !self.writable {
                        return;
                    }
                    self.stuck = false;
                }
                let due = self.open == Some(false);
                if !due && self.waiting == 0 {
                    return;
                }
                self.frames += self.waiting;
                self.waiting = 0;
                if self.open.is_some() {
                    self.open = Some(true);
                    self.challenges += 1;
                }
                self.stuck = true;
            }
        }

        fn step(&mut self, step: &Step, genuine: &[u8]) {
            match *step {
                Step::Comes(n) if n != self.at => {
                    (self.at, self.open) = (n, Some(false));
                }
                Step::Answered if self.open == Some(true) && !self.stuck && genuine.contains(&self.at) => {
                    (self.open, self.proven) = (None, self.at);
                }
                Step::Overdue if self.open.is_some() => (self.at, self.open) = (self.proven, None),
                Step::Sends => self.waiting += 1,
                Step::Writable(writable) => self.writable = writable,
                _ => {}
            }
            self.flush();
        }
    }

    /// What is made of all this: the addresses that were taken for proven. The peer is at hosts 1 and 2.
    fn proven(steps: &[Step]) -> Vec<SocketAddr> {
        let mut model = Model {
            at: 1,
            open: None,
            proven: 1,
            challenges: 0,
            frames: 0,
            waiting: 0,
            writable: true,
            stuck: false,
        };
        let mut settled = Settled::new(host(1));
        let mut proven = Vec::new();
        for step in steps {
            model.step(step, &[1, 2]);
            if let Step::Look = step {
                let seen = Seen {
                    at: host(model.at),
                    challenges: model.challenges,
                    frames: model.frames,
                };
                proven.push(settled.look(Some(seen)).at);
            }
        }
        proven
    }

    #[test]
    fn a_challenge_that_the_socket_does_not_take_is_waited_for() {
        use Step::{Answered, Comes, Look, Overdue, Sends, Writable};
        let astray = [Comes(3), Look, Overdue, Writable(false), Sends, Comes(3), Look];
        let later = [Look, Writable(true), Look, Sends, Look, Sends, Look];
        assert!(
            proven(&[&astray[..], &later[..]].concat())
                .iter()
                .all(|at| *at == host(1))
        );
        let moved = [Comes(2), Answered, Look, Sends, Look, Sends, Look];
        assert_eq!(proven(&moved), [host(1), host(1), host(2)]);
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (1u8..4).prop_map(Step::Comes),
            1 => Just(Step::Answered),
            2 => Just(Step::Overdue),
            3 => Just(Step::Sends),
            2 => any::<bool>().prop_map(Step::Writable),
            5 => Just(Step::Look),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// Packets come from host 3 as well, where the peer never is.
        #[test]
        fn no_order_of_forged_packets_proves_an_address_at_which_the_peer_never_was(steps in steps()) {
            prop_assert!(proven(&steps).iter().all(|at| *at != host(3)));
        }
    }
}
