//! Progress on standard error, for a person at a terminal and nobody else.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kad_sim::experiments::Progress;

/// A bar for each run under way.
#[derive(Debug)]
pub(crate) struct Bars {
    all: MultiProgress,
    /// Whether there is one seed only, so that nobody has to be told which.
    one: bool,
}

impl Bars {
    /// Bars for so many seeds; none if the output is for a program.
    pub(crate) fn new(seeds: usize, quiet: bool) -> Self {
        // It draws nothing if standard error is no terminal.
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        Self {
            all: MultiProgress::with_draw_target(target),
            one: seeds == 1,
        }
    }

    /// A bar for the run with this seed, which is gone when it is dropped.
    pub(crate) fn add(&self, seed: u64) -> Box<dyn Progress + Sync> {
        let template = if self.one {
            "{msg:>16} [{bar:32}] {pos}/{len} {elapsed}"
        } else {
            "seed {prefix}: {msg:>16} [{bar:32}] {pos}/{len} {elapsed}"
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(1)
            .with_style(style)
            .with_prefix(seed.to_string());
        Box::new(Bar(self.all.add(bar)))
    }
}

struct Bar(ProgressBar);

impl Progress for Bar {
    fn stage(&self, name: &str, steps: u64) {
        self.0.set_message(name.to_owned());
        self.0.set_length(steps);
        self.0.set_position(0);
    }

    fn done(&self, steps: u64) {
        self.0.set_position(steps);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
