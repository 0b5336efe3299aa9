//! Progress on standard error, for a person at a terminal and nobody else.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often what turns turns.
const TICK: Duration = Duration::from_millis(120);

/// A bar or a spinner; gone without a trace when dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Something that takes an unknown time.
    pub(crate) fn waiting(what: &'static str, json: bool) -> Self {
        if json {
            return Self(ProgressBar::hidden());
        }
        // It draws on standard error, and not at all if that is no terminal.
        let bar = ProgressBar::new_spinner().with_message(what);
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Bytes, out of so many if that is known.
    pub(crate) fn bytes(what: &'static str, total: Option<u64>, json: bool) -> Self {
        let Some(total) = total.filter(|_| !json) else {
            let waiting = Self::waiting(what, json);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {bytes} ({bytes_per_sec})") {
                waiting.0.set_style(style);
            }
            return waiting;
        };
        let bar = Self(ProgressBar::new(total).with_message(what));
        bar.measure();
        bar
    }

    /// Nodes, of which more turn up on the way.
    pub(crate) fn nodes(what: &'static str, json: bool) -> Self {
        let bar = Self::waiting(what, json);
        let template = "{spinner} {msg}: {pos} of the {len} nodes that were heard of";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.0.set_style(style);
        }
        bar
    }

    /// Things of which so many are to be done.
    pub(crate) fn items(what: &'static str, total: usize, json: bool) -> Self {
        if json {
            return Self::hidden();
        }
        let bar = Self(ProgressBar::new(total as u64).with_message(what));
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len} ({eta} left)") {
            bar.0.set_style(style);
        }
        bar
    }

    /// Nothing that anybody sees.
    pub(crate) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// Does something that writes to the terminal, while the bar is out of the way.
    pub(crate) fn aside(&self, write: impl FnOnce()) {
        self.0.suspend(write);
    }

    /// So many nodes are done, out of so many that are known by now.
    pub(crate) fn count(&self, done: usize, known: usize) {
        self.0.set_length(known as u64);
        self.0.set_position(done as u64);
    }

    /// So many bytes are done, out of so many if that is known by now.
    pub(crate) fn reach(&self, bytes: u64, total: Option<u64>) {
        if total.is_some() && self.0.length() != total {
            self.0.set_length(total.unwrap_or_default());
            self.measure();
        }
        self.0.set_position(bytes);
    }

    /// From here on the end is known.
    fn measure(&self) {
        let template = "{msg} {wide_bar} {bytes} of {total_bytes} ({bytes_per_sec}, {eta} left)";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
