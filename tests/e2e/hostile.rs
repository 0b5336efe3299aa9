//! What hostile peers can do: cost a node a counter, some time and a bounded amount of memory, and nothing else.
//!
//! The daemons are real. The attackers live in the test: members of the network with keys of their own, and plain QUIC
//! clients that keep to nothing. Where memory and time are measured, one test runs at a time, and `--nocapture` shows
//! the figures.
#![allow(clippy::print_stdout, reason = "figures are told with --nocapture")]

pub(crate) mod attackers;
mod floods;
mod frames;
mod honest;
mod liars;
#[allow(dead_code, reason = "the tests of kad-net use more of it")]
#[path = "../../kad-net/tests/quic/nodes.rs"]
mod nodes;
mod slow;
mod stores;

use std::time::Duration;

use self::honest::Honest;
use crate::process::Daemon;

/// Memory that an attack may cost a daemon, beyond what it had after a warm-up.
const MOST_GROWTH_KIB: u64 = 64 * 1024;

/// Honest requests under attack, so that their 99th percentile says something.
const LEAST_ASKED: usize = 100;

/// Measures one daemon under attack; only one at a time, so that the figures mean something.
struct Trial {
    daemon: Daemon,
    honest: Honest,
    resident: u64,
    quiet: Duration,
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

impl Trial {
    /// A daemon, and an honest peer that asks it all the time from now on.
    async fn begin() -> Self {
        static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let alone = ALONE.lock().await;
        let daemon = Daemon::start::<&str>(&[]);
        let honest = Honest::start(attackers::target(&daemon));
        Self {
            daemon,
            honest,
            resident: 0,
            quiet: Duration::ZERO,
            _alone: alone,
        }
    }

    /// The end of the warm-up: what memory and time are now is compared with what they are in the end.
    async fn measure(&mut self) {
        self.quiet = self.honest.quiet().await;
        self.resident = self.daemon.kib("VmRSS");
    }

    /// Whether the honest peer has asked often enough under this attack to say anything about it. On a fast machine one
    /// round of an attack is over before that.
    fn has_seen_enough(&self) -> bool {
        self.honest.asked() >= 2 * LEAST_ASKED
    }

    /// The honest peer got all of its answers in time, and memory has stayed within its bound even at its peak.
    async fn judge(self, attack: &str) {
        self.judge_with(attack, 0).await;
    }

    /// The same, but so many of a hundred honest requests may have been refused as too many.
    async fn judge_with(mut self, attack: &str, busy: usize) {
        let under = self.honest.so_far().await;
        let (peak, after) = (self.daemon.kib("VmHWM"), self.daemon.kib("VmRSS"));
        let growth = peak.saturating_sub(self.resident);
        println!(
            "{attack}: honest p99 {:?} quiet, {under} under attack; resident {} KiB before, peak +{growth} KiB, {after} KiB after",
            self.quiet, self.resident
        );
        assert!(growth <= MOST_GROWTH_KIB, "{growth} KiB more");
        let bound = (5 * self.quiet).max(honest::FLOOR);
        assert!(under.p99 <= bound, "{under}, more than {bound:?}");
        assert_eq!(under.failed, 0, "honest requests failed: {under}");
        assert!(100 * under.busy <= busy * under.count, "{under}");
        assert!(under.count >= LEAST_ASKED, "{under}: too few to say anything");
    }
}
