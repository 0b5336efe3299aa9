//! A peer that keeps to the rules while others do not, and notes how long its requests take.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kad_core::Contact;
use kad_net::Transport as _;
use kad_net::quic::{QuicAddress, QuicError};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::attackers::{answer_fairly, find_node, member, ping};

/// A 99th percentile up to this is never held against a daemon: half of the shortest time after which a node is given
/// up, the 500 ms of the PING that decides about a contact. Daemon, attacker and other tests share the cores of one
/// machine, so five times a quiet millisecond would measure the scheduler.
pub(crate) const FLOOR: Duration = Duration::from_millis(250);

/// Between two requests. They are sent at this pace whether or not earlier ones were answered, so that one that hangs
/// does not hide the wait of the others.
const PACE: Duration = Duration::from_millis(4);

/// Requests in a quiet time: enough for a 99th percentile.
const QUIET: usize = 400;

/// On a thread of its own, so that it does not wait for the attacker. Stops when dropped.
pub(crate) struct Honest {
    stop: Arc<AtomicBool>,
    took: mpsc::Receiver<Result<Duration, QuicError>>,
    thread: Option<JoinHandle<()>>,
}

/// How a number of requests went.
pub(crate) struct Requests {
    pub(crate) count: usize,
    /// Refused as too many.
    pub(crate) busy: usize,
    /// Failed in any other way.
    pub(crate) failed: usize,
    pub(crate) p99: Duration,
    slowest: Duration,
    /// What the first of those that failed says.
    why: Option<QuicError>,
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            count,
            busy,
            failed,
            p99,
            slowest,
            why,
        } = self;
        write!(
            f,
            "p99 {p99:?} (slowest {slowest:?}) of {count} requests, {busy} busy, {failed} failed"
        )?;
        why.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
    }
}

/// Times that the test has not looked at yet: more than a minute of steady asking.
const MAX_SAMPLES: usize = 16_384;

impl Honest {
    pub(crate) fn start(to: Contact<QuicAddress>) -> Self {
        let (sender, took) = mpsc::channel(MAX_SAMPLES);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(ask_steadily(to, &stopped, sender));
        });
        Self {
            stop,
            took,
            thread: Some(thread),
        }
    }

    /// The 99th percentile of a time without attacks, from now on.
    pub(crate) async fn quiet(&mut self) -> Duration {
        while self.took.try_recv().is_ok() {}
        let mut all = Vec::new();
        while all.len() < QUIET {
            all.push(self.took.recv().await.expect("it asks on"));
        }
        let quiet = Requests::of(all);
        assert_eq!(quiet.failed + quiet.busy, 0, "{quiet}");
        quiet.p99
    }

    /// Requests since the last look that were answered, or failed.
    pub(crate) fn asked(&self) -> usize {
        self.took.len()
    }

    /// All since the last look that were answered, or failed, by now.
    pub(crate) async fn so_far(&mut self) -> Requests {
        let mut all = Vec::new();
        while let Ok(one) = self.took.try_recv() {
            all.push(one);
        }
        // One more, made after the attack: it is answered too.
        all.push(self.took.recv().await.expect("it asks on"));
        Requests::of(all)
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(
            thread::panicking() || matches!(ended, Some(Ok(()))),
            "the honest peer panicked"
        );
    }
}

impl Requests {
    fn of(all: Vec<Result<Duration, QuicError>>) -> Self {
        let (count, mut busy, mut why) = (all.len(), 0, None);
        let mut took = Vec::with_capacity(count);
        for one in all {
            match one {
                Ok(one) => took.push(one),
                Err(QuicError::Busy) => busy += 1,
                Err(error) => why = why.or(Some(error)),
            }
        }
        took.sort_unstable();
        Self {
            count,
            busy,
            failed: count - busy - took.len(),
            p99: took.get(took.len() * 99 / 100).copied().unwrap_or_default(),
            slowest: took.last().copied().unwrap_or_default(),
            why,
        }
    }
}

/// Pings and asks for contacts in turns, and answers what it is asked.
async fn ask_steadily(
    to: Contact<QuicAddress>,
    stop: &AtomicBool,
    took: mpsc::Sender<Result<Duration, QuicError>>,
) {
    let node = Arc::new(member(0));
    let answering = answer_fairly(&node);
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        number += 1;
        let (node, to, took) = (node.clone(), to.clone(), took.clone());
        tokio::spawn(async move {
            let (started, frame) = (
                Instant::now(),
                if number % 2 == 0 {
                    ping()
                } else {
                    find_node(number)
                },
            );
            let answer = node.request(&to, frame).await;
            // The test may have ended.
            let _ = took.send(answer.map(|_| started.elapsed())).await;
        });
    }
    node.close().await;
    answering.await.unwrap();
}
