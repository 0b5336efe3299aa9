//! One experiment with several seeds, side by side on threads.
//!
//! Each seed is a run of its own in one thread; they share nothing. So what comes out depends on the seeds alone, and
//! not on how many of them ran at a time.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

use crate::Report;
use crate::experiments::{Experiment, Progress, Setup};

/// Something that can be run with a seed and a number of nodes.
pub trait Subject: Sync {
    /// What people call it.
    fn name(&self) -> &str;

    /// Bytes that one run with so many nodes takes at its peak, as an estimate from above.
    fn memory(&self, nodes: usize) -> u64;

    /// Runs it once.
    fn run(&self, setup: &Setup<'_>) -> Report;
}

impl Subject for Experiment {
    fn name(&self) -> &str {
        self.name
    }

    fn memory(&self, nodes: usize) -> u64 {
        (self.memory)(nodes)
    }

    fn run(&self, setup: &Setup<'_>) -> Report {
        (self.run)(setup)
    }
}

/// Which runs are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Nodes of each run.
    pub nodes: usize,
    /// The first seed.
    pub seed: u64,
    /// How many seeds, one after the other from the first.
    pub seeds: usize,
    /// How many run at a time, at most; the results do not depend on it.
    pub threads: usize,
}

/// One run that came to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// What it found.
    pub report: Report,
    /// How long it took.
    pub wall: Duration,
}

/// Why a batch came to nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum BatchError {
    /// A run panicked, or reported a metric twice: a bug of the experiment or of what it tests. No more runs are
    /// begun then; those under way come to their ends and are lost.
    Panicked {
        /// The first seed that did.
        seed: u64,
        /// What it said.
        message: String,
    },
    /// The operating system gives no thread. No more runs are begun, and those under way are lost.
    NoThread(io::Error),
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked { seed, message } => write!(f, "the run with seed {seed} panicked: {message}"),
            Self::NoThread(error) => write!(f, "the operating system gives no thread: {error}"),
        }
    }
}

impl std::error::Error for BatchError {}

impl Plan {
    /// The seeds. Numbers wrap around at their end.
    pub fn seeds(&self) -> impl Iterator<Item = u64> + use<> {
        let first = self.seed;
        (0..self.seeds as u64).map(move |nth| first.wrapping_add(nth))
    }

    /// How many runs there are at a time.
    #[must_use]
    pub fn side_by_side(&self) -> usize {
        self.threads.clamp(1, self.seeds.max(1))
    }

    /// Runs them all; the results are in the order of the seeds. `watch` is asked for somebody who watches each run.
    ///
    /// # Errors
    /// [`BatchError`] if a run panics or cannot be started.
    pub fn run(
        &self,
        subject: &dyn Subject,
        watch: &(dyn Fn(u64) -> Box<dyn Progress + Sync> + Sync),
    ) -> Result<Vec<Run>, BatchError> {
        let seeds: Vec<_> = self.seeds().collect();
        let next = AtomicUsize::new(0);
        // From here on nobody finds a seed to begin.
        let stop = || next.store(seeds.len(), Ordering::Relaxed);
        let work = || {
            let mut done = Vec::new();
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(&seed) = seeds.get(place) else {
                    return done;
                };
                let result = self.one(subject, seed, watch);
                if result.is_err() {
                    stop();
                }
                done.push((place, result));
            }
        };
        let mut results: Vec<_> = thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..self.side_by_side() {
                let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
                match thread {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        stop();
                        return Err(BatchError::NoThread(error));
                    }
                }
            }
            // Panics of runs are caught where they happen, so every thread comes back.
            let done = threads.into_iter().filter_map(|thread| thread.join().ok());
            Ok(done.flatten().collect())
        })?;
        results.sort_unstable_by_key(|&(place, _)| place);
        results.into_iter().map(|(_, result)| result).collect()
    }

    fn one(
        &self,
        subject: &dyn Subject,
        seed: u64,
        watch: &(dyn Fn(u64) -> Box<dyn Progress + Sync> + Sync),
    ) -> Result<Run, BatchError> {
        let began = Instant::now();
        let run = || {
            let progress = watch(seed);
            let report = subject.run(&Setup {
                nodes: self.nodes,
                seed,
                progress: &*progress,
            });
            let mut metrics: Vec<_> = report.rows.iter().map(|row| &row.metric).collect();
            metrics.sort_unstable();
            for pair in metrics.windows(2) {
                assert_ne!(pair[0], pair[1], "a metric is reported twice");
            }
            report
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(report) => Ok(Run {
                seed,
                report,
                wall: began.elapsed(),
            }),
            Err(panic) => Err(BatchError::Panicked {
                seed,
                message: message(&*panic),
            }),
        }
    }
}

/// The stack of the thread of a run: that of a main thread on Linux.
const STACK: usize = 8 << 20;

/// What a panic said.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiments::Unwatched;
    use crate::report::Row;

    /// Reports its seed, and panics at 13.
    struct Echo;

    impl Subject for Echo {
        fn name(&self) -> &str {
            "echo"
        }

        fn memory(&self, nodes: usize) -> u64 {
            nodes as u64
        }

        fn run(&self, setup: &Setup<'_>) -> Report {
            assert_ne!(setup.seed, 13, "an unlucky number");
            let mut report = Report::default();
            report.push(Row::new("seed", "", setup.seed as f64));
            report.trace = setup.seed;
            report
        }
    }

    fn plan(seed: u64, seeds: usize, threads: usize) -> Plan {
        Plan {
            nodes: 1,
            seed,
            seeds,
            threads,
        }
    }

    fn traces(plan: Plan) -> Result<Vec<u64>, BatchError> {
        let runs = plan.run(&Echo, &|_| Box::new(Unwatched))?;
        Ok(runs.iter().map(|run| run.report.trace).collect())
    }

    #[test]
    fn runs_come_in_the_order_of_their_seeds_whatever_the_number_of_threads() {
        for threads in [0, 1, 2, 5, 100] {
            let traces = traces(plan(20, 5, threads)).expect("none panics");
            assert_eq!(traces, [20, 21, 22, 23, 24], "{threads} threads");
        }
        assert_eq!(
            traces(plan(u64::MAX, 2, 1)).expect("none panics"),
            [u64::MAX, 0],
            "they wrap"
        );
        assert_eq!(traces(plan(1, 0, 1)).expect("there are none"), [0; 0]);
    }

    #[test]
    fn a_run_that_panics_is_told_with_its_seed() {
        let error = traces(plan(11, 4, 2)).expect_err("13 panics");
        let BatchError::Panicked { seed, message } = error else {
            panic!("{error}")
        };
        assert!(seed == 13 && message.contains("unlucky"), "{seed} {message}");
    }

    #[test]
    fn nothing_is_begun_after_a_panic() {
        let begun = AtomicUsize::new(0);
        let error = plan(13, 1000, 1).run(&Echo, &|_| {
            begun.fetch_add(1, Ordering::Relaxed);
            Box::new(Unwatched)
        });
        assert!(error.is_err());
        assert_eq!(begun.into_inner(), 1);
    }

    #[test]
    fn no_more_run_at_a_time_than_there_are_seeds() {
        assert_eq!(plan(1, 3, 8).side_by_side(), 3);
        assert_eq!(plan(1, 3, 2).side_by_side(), 2);
        assert_eq!(plan(1, 0, 0).side_by_side(), 1);
    }
}
