//! Two nodes, a NAT in front of each, and the wire between, with delay and loss.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::nat::draws::Draws;
use crate::nat::model::{Kind, Nat, PORT};

#[derive(Debug, Clone, Copy)]
enum Packet {
    Punch,
    Initial,
    Answer,
    Finished,
}

enum Happening {
    Arrives {
        at: usize,
        from: SocketAddr,
        port: u16,
        packet: Packet,
    },
    Told {
        end: usize,
    },
    Resend {
        end: usize,
        to: SocketAddr,
        after: Duration,
    },
    /// Until it arrives; five times are enough here.
    Finish {
        end: usize,
        to: SocketAddr,
        left: u32,
    },
}

struct End {
    nat: Nat,
    machine: Punch,
    dialling: bool,
    in_use: Option<Dialler>,
}

/// The two of them.
pub(super) struct Pair {
    ends: Vec<End>,
    now: Instant,
    queue: BTreeMap<(Instant, u64), Happening>,
    count: u64,
    /// One way.
    pub(super) delay: Duration,
    /// So much later the second one is told to begin, in so many rounds.
    pub(super) late: Duration,
    pub(super) late_rounds: usize,
    /// In hundredths.
    pub(super) loss: usize,
    draws: Draws,
    /// When punches were sent, by whom.
    pub(super) punches: Vec<(Instant, usize)>,
    pub(super) missed: usize,
}

impl Pair {
    /// The first one asks. `swap` gives it the higher id.
    pub(super) fn new(kinds: [Kind; 2], swap: bool, seed: u8) -> Result<Self, Hopeless> {
        let observer = SocketAddr::from(([203, 0, 113, 1], 4000));
        let mut nats = [
            Nat::new(kinds[0], Ipv4Addr::new(8, 8, 8, 1)),
            Nat::new(kinds[1], Ipv4Addr::new(9, 9, 9, 1)),
        ];
        // Whoever is not let out is known by what it says.
        let seen: Vec<_> = nats
            .iter_mut()
            .map(|nat| {
                nat.send(Instant::ZERO, observer)
                    .unwrap_or_else(|| (nat.ip(), PORT).into())
            })
            .collect();
        let classes = [nats[0].class(), nats[1].class()];
        let id = |end: usize| NodeId::from_limbs([u64::from((end == 0) == swap), 0, 0, 0]);
        let mut ends = Vec::new();
        for (end, nat) in nats.into_iter().enumerate() {
            let setup = Setup {
                local: id(end),
                peer: id(1 - end),
                asks: end == 0,
                own_class: classes[end],
                peer_class: classes[1 - end],
                targets: vec![seen[1 - end]],
            };
            ends.push(End {
                nat,
                machine: Punch::new(setup, Instant::ZERO)?,
                dialling: false,
                in_use: None,
            });
        }
        Ok(Self {
            ends,
            now: Instant::ZERO,
            queue: BTreeMap::new(),
            count: 0,
            delay: Duration::from_millis(40),
            late: Duration::ZERO,
            late_rounds: 1,
            loss: 0,
            draws: Draws::new(&[seed; 32], "loss"),
            punches: Vec::new(),
            missed: 0,
        })
    }

    fn ask(&mut self) {
        for end in 0..2 {
            let late = if end == 1 && self.missed < self.late_rounds {
                self.late
            } else {
                Duration::ZERO
            };
            self.later(Duration::from_millis(100) + late, Happening::Told { end });
        }
    }

    fn later(&mut self, after: Duration, happening: Happening) {
        self.count += 1;
        self.queue.insert((self.now + after, self.count), happening);
    }

    fn send(&mut self, end: usize, to: SocketAddr, packet: Packet) {
        let Some(from) = self.ends[end].nat.send(self.now, to) else {
            return;
        };
        let there = 1 - end;
        let lost = self.draws.pick(100).is_some_and(|draw| draw < self.loss);
        if to.ip() == self.ends[there].nat.ip() && !lost {
            let port = to.port();
            self.later(
                self.delay,
                Happening::Arrives {
                    at: there,
                    from,
                    port,
                    packet,
                },
            );
        }
    }

    fn tell(&mut self, end: usize, event: Event) {
        let mut out = Vec::new();
        self.ends[end].machine.handle(self.now, event, &mut out);
        if event == Event::Timeout {
            let next = self.ends[end].machine.poll_timeout();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a timeout does not go away"
            );
        }
        assert!(out.len() <= 8);
        for action in out {
            match action {
                Action::Ask => self.ask(),
                Action::Punch { to } => {
                    self.punches.push((self.now, end));
                    self.send(end, to, Packet::Punch);
                }
                Action::Dial { to } => {
                    self.ends[end].dialling = true;
                    let after = DIAL_RTT * 3;
                    self.later(Duration::ZERO, Happening::Resend { end, to, after });
                }
                Action::StopDial => self.ends[end].dialling = false,
                Action::Use { by } => self.ends[end].in_use = Some(by),
                Action::Missed if end == 0 => self.missed += 1,
                Action::Missed | Action::Retire { .. } | Action::FallBack => {}
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Told { end } => self.tell(end, Event::Go { wait: Duration::ZERO }),
            Happening::Resend { end, to, after } if self.ends[end].dialling => {
                self.send(end, to, Packet::Initial);
                let after_next = after * 2;
                self.later(
                    after,
                    Happening::Resend {
                        end,
                        to,
                        after: after_next,
                    },
                );
            }
            Happening::Resend { .. } | Happening::Finish { left: 0, .. } => {}
            Happening::Finish { end, to, left } => {
                self.send(end, to, Packet::Finished);
                self.later(
                    DIAL_RTT * 3,
                    Happening::Finish {
                        end,
                        to,
                        left: left - 1,
                    },
                );
            }
            Happening::Arrives {
                at,
                from,
                port,
                packet,
            } => {
                if !self.ends[at].nat.receive(self.now, from, port) {
                    return;
                }
                match packet {
                    Packet::Punch => self.tell(at, Event::Heard { from }),
                    Packet::Initial => {
                        self.tell(at, Event::Arriving);
                        self.send(at, from, Packet::Answer);
                    }
                    Packet::Answer if self.ends[at].dialling => {
                        self.ends[at].dialling = false;
                        self.happen(Happening::Finish {
                            end: at,
                            to: from,
                            left: 5,
                        });
                        self.tell(at, Event::Connected { by: Dialler::Us });
                    }
                    Packet::Answer => {}
                    Packet::Finished => self.tell(at, Event::Connected { by: Dialler::Peer }),
                }
            }
        }
    }

    /// When both had a direct connection, if that was within this time.
    pub(super) fn run(&mut self, limit: Duration) -> Option<Duration> {
        self.ask();
        loop {
            if self.ends.iter().all(|end| end.machine.is_direct()) {
                return Some(self.now.since(Instant::ZERO));
            }
            let timers = self.ends.iter().enumerate();
            let timer = timers
                .filter_map(|(end, it)| it.machine.poll_timeout().map(|at| (at, end)))
                .min();
            let queued = self.queue.first_key_value().map(|(&(at, _), _)| at);
            let next = timer.map(|(at, _)| at).into_iter().chain(queued).min()?;
            if next.since(Instant::ZERO) > limit {
                return None;
            }
            self.now = next;
            match timer {
                Some((at, end)) if at == next => self.tell(end, Event::Timeout),
                _ => {
                    let (_, happening) = self.queue.pop_first().expect("it was looked at");
                    self.happen(happening);
                }
            }
        }
    }

    /// Goes on until nothing is on its way, and says which connection each end uses.
    pub(super) fn settle(&mut self) -> Vec<Option<Dialler>> {
        while let Some(((at, _), happening)) = self.queue.pop_first() {
            self.now = at;
            self.happen(happening);
        }
        self.ends.iter().map(|end| end.in_use).collect()
    }
}
