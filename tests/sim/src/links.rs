//! The wires: how long a message takes, whether it arrives, and what a new connection costs.

use kad_core::{Duration, Instant};
use rand_distr::Exp1;

use crate::Dice;

/// What the wires of a world are like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Links {
    /// One way, without jitter.
    pub delay: Delay,
    /// The delay of each message varies by up to this share of it, evenly, up and down.
    pub jitter: f64,
    /// The share of packets that are lost. QUIC sends them again, so a loss costs time: two round trips and the 25 ms
    /// by which acknowledgements may be late (RFC 9002, section 6.2), or a second in a handshake.
    pub loss: f64,
    /// Connections that a node keeps, the least recently used being closed for a new one; a peer that has none is first
    /// shaken hands with, which costs a round trip. `None`: everybody has one to everybody.
    pub connections: Option<usize>,
    /// An idle connection is closed after so long.
    pub idle: Duration,
    /// From a STORE's arrival to its records being on the disk.
    pub disk: Duration,
}

/// How far nodes are from each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Delay {
    /// Anything between the two, evenly, anew for each message.
    Even {
        /// The shortest.
        shortest: Duration,
        /// The longest.
        longest: Duration,
    },
    /// The internet: nodes lie in three clusters of a plane and each has a line of its own into it, so that one-way
    /// delays have p10/p50/p90/p99 of 15/70/157/249 ms, times `scale`.
    Internet {
        /// 1 for the figures above.
        scale: f64,
    },
}

impl Default for Links {
    /// The internet with 5 % of jitter, without loss, with connections to everybody and a disk that takes 2 ms.
    fn default() -> Self {
        Self {
            delay: Delay::Internet { scale: 1.0 },
            jitter: 0.05,
            loss: 0.0,
            connections: None,
            idle: Duration::from_secs(300),
            disk: Duration::from_millis(2),
        }
    }
}

impl Links {
    /// One to twenty milliseconds: for experiments in which time does not matter.
    #[must_use]
    pub fn quick() -> Self {
        let (shortest, longest) = (Duration::from_millis(1), Duration::from_millis(20));
        Self {
            delay: Delay::Even { shortest, longest },
            ..Self::default()
        }
    }
}

/// Where a node is in the plane, in milliseconds, and how long its own line is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spot {
    x: f32,
    y: f32,
    line: f32,
}

/// Weight, centre, in milliseconds: found by a random search for the quantiles that [`Delay::Internet`] names, which
/// they meet within 8 % (see the test).
const CLUSTERS: [(f64, f32, f32); 3] = [(0.651, 8.0, 166.0), (0.277, 92.0, 134.0), (0.072, 162.0, 23.0)];
/// How far nodes lie from the centre of their cluster, each way, ms.
const SPREAD: f32 = 4.3;
/// The mean length of a node's own line, ms.
const LINE: f32 = 9.6;

/// The cost of a lost packet of a handshake: the first probe timeout of QUIC with its initial round trip of 333 ms
/// (RFC 9002, section 6.2.2).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);
/// By how much an acknowledgement may be late.
const ACK_DELAY: Duration = Duration::from_millis(25);

impl Spot {
    /// Somewhere on the internet, for the node of this number.
    ///
    /// Clusters take turns by the golden ratio, so that every network has its shares of them: half of all pairs share a
    /// cluster, and with shares left to chance the median of a network of a thousand would be anywhere between 50 and
    /// 85 ms.
    pub(crate) fn anywhere(number: usize, dice: &mut Dice) -> Self {
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        let mut roll = (number as f64 * GOLDEN).fract();
        let mut at = CLUSTERS[CLUSTERS.len() - 1];
        for cluster in CLUSTERS {
            if roll < cluster.0 {
                at = cluster;
                break;
            }
            roll -= cluster.0;
        }
        let mut normal = || -> f32 { dice.draw(&rand_distr::StandardNormal) };
        let (x, y) = (at.1 + SPREAD * normal(), at.2 + SPREAD * normal());
        let line: f32 = dice.draw(&Exp1);
        Self {
            x,
            y,
            line: LINE * line,
        }
    }

    /// One way between two spots, in milliseconds.
    fn apart(self, other: Self) -> f64 {
        let (x, y) = (f64::from(self.x - other.x), f64::from(self.y - other.y));
        (x * x + y * y).sqrt() + f64::from(self.line) + f64::from(other.line)
    }
}

impl Links {
    /// One way, without jitter and loss.
    pub(crate) fn one_way(&self, from: Spot, to: Spot, dice: &mut Dice) -> Duration {
        match self.delay {
            Delay::Even { shortest, longest } => {
                let span = longest.saturating_sub(shortest);
                shortest + span.mul_f64(dice.share())
            }
            Delay::Internet { scale } => Duration::from_secs_f64(from.apart(to) * scale / 1000.0),
        }
    }

    /// How long a message takes, with jitter and what losses cost.
    pub(crate) fn transit(&self, one_way: Duration, dice: &mut Dice) -> Duration {
        let mut transit = one_way;
        if self.jitter > 0.0 {
            transit = transit.mul_f64(1.0 + self.jitter * (2.0 * dice.share() - 1.0));
        }
        while dice.chance(self.loss) {
            transit += 4 * one_way + ACK_DELAY;
        }
        transit
    }

    /// How long a handshake takes until the first request can be sent.
    pub(crate) fn handshake(&self, one_way: Duration, dice: &mut Dice) -> Duration {
        let mut took = 2 * one_way;
        // A flight there and one back.
        for _ in 0..2 {
            while dice.chance(self.loss) {
                took += HANDSHAKE_TIMEOUT;
            }
        }
        took
    }
}

/// The connections of one node, least recently used first.
#[derive(Debug, Default)]
pub(crate) struct Pool(Vec<(u32, Instant)>);

impl Pool {
    /// Whether there is a connection to a peer that has not been idle for too long.
    pub(crate) fn has(&self, peer: u32, now: Instant, idle: Duration) -> bool {
        self.0
            .iter()
            .rev()
            .any(|&(known, used)| known == peer && now.since(used) < idle)
    }

    /// A connection is being used; the least recently used one makes room. Says which one was closed.
    pub(crate) fn touch(&mut self, peer: u32, now: Instant, room: usize) -> Option<u32> {
        match self.0.iter().rposition(|&(known, _)| known == peer) {
            Some(place) => {
                self.0[place..].rotate_left(1);
                if let Some(last) = self.0.last_mut() {
                    last.1 = now;
                }
                None
            }
            None => {
                let closed = (self.0.len() >= room.max(1)).then(|| self.0.remove(0).0);
                self.0.push((peer, now));
                closed
            }
        }
    }

    /// The peer has closed its end.
    pub(crate) fn close(&mut self, peer: u32) {
        self.0.retain(|&(known, _)| known != peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_delays_have_the_quantiles_of_the_internet() {
        let mut dice = Dice::new(1);
        let links = Links::default();
        // A small network has them as well, if not as closely.
        for (nodes, within) in [(20_000, 0.08), (1_000, 0.15), (1_000, 0.15), (200, 0.2)] {
            let spots: Vec<_> = (0..nodes)
                .map(|number| Spot::anywhere(number, &mut dice))
                .collect();
            let mut delays: Vec<_> = (0..200_000)
                .map(|_| {
                    let (from, to) = (spots[dice.below(nodes)], spots[dice.below(nodes)]);
                    1000.0 * links.one_way(from, to, &mut dice).as_secs_f64()
                })
                .collect();
            delays.sort_by(f64::total_cmp);
            for (quantile, wanted) in [(0.1, 15.0), (0.5, 70.0), (0.9, 157.0), (0.99, 249.0)] {
                let is = delays[(delays.len() as f64 * quantile) as usize];
                assert!(
                    (is / wanted - 1.0).abs() < within,
                    "p{quantile} of {nodes} nodes: {is} instead of {wanted}"
                );
            }
        }
    }

    #[test]
    fn a_full_pool_closes_what_was_used_longest_ago() {
        let (mut pool, at) = (Pool::default(), Instant::from_micros);
        let idle = Duration::from_micros(100);
        assert_eq!(pool.touch(1, at(1), 2), None);
        assert_eq!(pool.touch(2, at(2), 2), None);
        assert_eq!(pool.touch(1, at(3), 2), None);
        assert_eq!(pool.touch(3, at(4), 2), Some(2));
        assert!(pool.has(1, at(5), idle) && !pool.has(2, at(5), idle) && pool.has(3, at(5), idle));
        assert!(!pool.has(1, at(103), idle), "idle for too long");
        pool.close(3);
        assert!(!pool.has(3, at(5), idle));
    }
}
