//! When nodes are up and when they are down.

use std::fmt;
use std::str::FromStr;

use kad_core::{Duration, Instant};
use rand_distr::{Exp, Weibull};

use crate::Dice;

/// How long nodes stay, and stay away.
#[derive(Debug, Clone, PartialEq)]
pub struct Sessions {
    /// How long a node is up.
    pub up: Span,
    /// How long it is down before it comes back.
    pub down: Span,
    /// Who comes back.
    pub returns: Returns,
}

/// A span of time, drawn anew each time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Span {
    /// Without memory.
    Exponential {
        /// The mean.
        mean: Duration,
    },
    /// With a shape below 1: many short ones and few very long ones, as measured in file sharing networks.
    Weibull {
        /// The shape.
        shape: f64,
        /// The scale: 63 % are shorter.
        scale: Duration,
    },
    /// Always the same.
    Fixed(Duration),
}

/// Who comes up where a node went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returns {
    /// The same node with the same id and its records, as a daemon on a disk does. It remembers contacts.
    Itself,
    /// A stranger with a new id and nothing, as in Li et al. 2005.
    Stranger,
}

impl Sessions {
    /// Half of all sessions end within two hours and 80 % within eight, as IPFS measured in 2022; gone for an hour on
    /// average.
    #[must_use]
    pub const fn ipfs() -> Self {
        Self {
            up: Span::Weibull {
                shape: 0.607_7,
                scale: Duration::from_secs(13_162),
            },
            down: Span::Exponential {
                mean: Duration::from_secs(3600),
            },
            returns: Returns::Itself,
        }
    }

    /// Exponential sessions after which a stranger takes the node's place at once.
    #[must_use]
    pub const fn strangers(mean: Duration) -> Self {
        Self {
            up: Span::Exponential { mean },
            down: Span::Fixed(Duration::from_secs(1)),
            returns: Returns::Stranger,
        }
    }
}

impl Span {
    /// One span, at least a millisecond.
    pub fn draw(&self, dice: &mut Dice) -> Duration {
        let seconds = match self {
            // What is not a distribution (a mean of zero) draws zero.
            Self::Exponential { mean } => {
                Exp::new(1.0 / mean.as_secs_f64()).map_or(0.0, |exp| dice.draw(&exp))
            }
            Self::Weibull { shape, scale } => {
                Weibull::new(scale.as_secs_f64(), *shape).map_or(0.0, |weibull| dice.draw(&weibull))
            }
            Self::Fixed(span) => span.as_secs_f64(),
        };
        /// A hundred years; nobody waits for longer.
        const LONGEST: f64 = 3.2e9;
        Duration::from_secs_f64(seconds.clamp(0.001, LONGEST))
    }

    /// What is left of a session that an observer finds under way at a random moment: longer sessions are found more
    /// often, and each is found evenly anywhere in it.
    pub fn draw_residual(&self, dice: &mut Dice) -> Duration {
        match self {
            // Without memory: what is left is as long as the whole.
            Self::Exponential { .. } => self.draw(dice),
            Self::Fixed(span) => span.mul_f64(dice.share()),
            Self::Weibull { .. } => {
                // Of many sessions, the one that covers a point of their sum.
                let spans: Vec<_> = (0..RESIDUAL_SAMPLES).map(|_| self.draw(dice)).collect();
                let mut point = spans.iter().sum::<Duration>().mul_f64(dice.share());
                for span in spans {
                    if point < span {
                        return (span - point).max(Duration::from_millis(1));
                    }
                    point -= span;
                }
                self.draw(dice)
            }
        }
    }
}

/// Sessions laid end to end to find one by length; more change little.
const RESIDUAL_SAMPLES: usize = 64;

/// Sessions as they were measured: who is up from when to when.
///
/// The text has a line `NODE UP DOWN` for each session: the node's number and two times in seconds from the start of
/// the experiment. Empty lines and those that begin with `#` are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionTrace {
    /// Node, up, down; in the order of the times at which they come up.
    pub(crate) sessions: Vec<(u32, Instant, Instant)>,
}

/// The most sessions of a trace: 16 bytes each.
pub const MAX_TRACE: usize = 10_000_000;

/// A trace that cannot be read: which line, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceError {
    /// The line, from 1.
    pub line: usize,
    what: &'static str,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}: {}; a line is NODE UP DOWN, the times in seconds",
            self.line, self.what
        )
    }
}

impl std::error::Error for TraceError {}

impl SessionTrace {
    /// The number of nodes that the trace speaks of: one more than the highest.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.sessions
            .iter()
            .map(|&(node, ..)| node as usize + 1)
            .max()
            .unwrap_or(0)
    }

    /// Sessions in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

impl FromStr for SessionTrace {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let mut sessions = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let wrong = |what| TraceError {
                line: index + 1,
                what,
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let node = words
                .next()
                .and_then(|word| word.parse::<u32>().ok())
                .ok_or_else(|| wrong("no node number"))?;
            let mut time = |what| {
                let seconds = words.next().and_then(|word| word.parse::<f64>().ok());
                let seconds = seconds
                    .filter(|seconds| (0.0..1e10).contains(seconds))
                    .ok_or_else(|| wrong(what))?;
                Ok(Instant::from_micros((seconds * 1e6) as u64))
            };
            let (up, down) = (time("no time to come up")?, time("no time to go down")?);
            if down <= up {
                return Err(wrong("the session ends before it begins"));
            }
            if words.next().is_some() {
                return Err(wrong("more than three words"));
            }
            if node > crate::Place::MAX_NUMBER {
                return Err(wrong("the node number is too large"));
            }
            if sessions.len() == MAX_TRACE {
                return Err(wrong("more than ten million sessions"));
            }
            sessions.push((node, up, down));
        }
        sessions.sort_unstable_by_key(|&(node, up, _)| (up, node));
        Ok(Self { sessions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_sessions_of_ipfs_end_within_two_hours_and_four_fifths_within_eight() {
        let (mut dice, up) = (Dice::new(3), Sessions::ipfs().up);
        let spans: Vec<_> = (0..20_000).map(|_| up.draw(&mut dice).as_secs()).collect();
        let within = |hours: u64| spans.iter().filter(|&&span| span < hours * 3600).count() as f64 / 20_000.0;
        assert!((within(2) - 0.5).abs() < 0.015, "{}", within(2));
        assert!((within(8) - 0.8).abs() < 0.015, "{}", within(8));
    }

    #[test]
    fn sessions_under_way_are_longer_than_sessions() {
        let (mut dice, up) = (Dice::new(4), Sessions::ipfs().up);
        let mean = |mut draw: Box<dyn FnMut() -> Duration>| {
            (0..4000).map(|_| draw().as_secs_f64()).sum::<f64>() / 4000.0
        };
        let mut other = dice.fork();
        let whole = mean(Box::new(move || up.draw(&mut other)));
        let left = mean(Box::new(move || up.draw_residual(&mut dice)));
        // For this shape, mean of the square over twice the mean is 2.07 times the mean; the sampling cuts the tail.
        assert!(left > 1.4 * whole, "{left} of {whole}");
    }

    #[test]
    fn traces_say_which_line_is_wrong() {
        let trace: SessionTrace = "# node up down\n3 10 20.5\n\n0 0 7200\n"
            .parse()
            .expect("a good one");
        assert_eq!((trace.len(), trace.nodes()), (2, 4));
        for (text, line) in [
            ("1 2", 1),
            ("x 1 2", 1),
            ("0 1 2\n1 5 5", 2),
            ("0 1 2 3", 1),
            ("0 -1 2", 1),
            ("0 1 NaN", 1),
        ] {
            assert_eq!(text.parse::<SessionTrace>().expect_err(text).line, line);
        }
    }
}
