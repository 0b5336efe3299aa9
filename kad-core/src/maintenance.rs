//! What a node does unasked: refresh buckets, ask the silent, hand records on, forget expired ones. Only the times are
//! kept here.

use alloc::vec::Vec;

use crate::rng::Rng;
use crate::silence::Silence;
use crate::{Config, Duration, ID_BITS, Instant};

/// When what is due.
#[derive(Debug)]
pub(crate) struct Maintenance {
    pub(crate) next_expire: Instant,
    pub(crate) next_due: Instant,
    pub(crate) next_refresh: Instant,
    pub(crate) next_repair: Instant,
    /// Who of the table is asked when, because it was silent.
    pub(crate) silence: Silence,
    /// When a point of each bucket was last looked up, as far inwards as the table reaches.
    looked_up: Vec<Instant>,
    /// Buckets that wait for a refresh, one bit each.
    waiting: [u64; 4],
    /// Whether a refresh is under way; there is one at a time, so that idle nodes stay quiet.
    pub(crate) refreshing: bool,
    /// Regions that are being swept, and own records that are stored again or read anew by themselves.
    pub(crate) replicating: usize,
    /// Whether the store was asked for due records.
    pub(crate) scanning: bool,
    /// Whether more records are likely due than the last scan gave.
    pub(crate) more_due: bool,
    /// What this node holds is being compared with others.
    pub(crate) repairing: bool,
    /// Records for which this node is not responsible are being looked after.
    pub(crate) handing: bool,
    /// Looks at the buckets since this node began to serve, while it is young.
    looks: u8,
}

impl Maintenance {
    pub(crate) fn new(config: &Config, rng: &mut Rng, now: Instant) -> Self {
        Self {
            next_expire: now + rng.shortened(config.expire),
            next_due: now + rng.shortened(scan_pause(config)),
            next_repair: now + rng.shortened(first_repair(config)),
            next_refresh: now + rng.shortened(config.first_refresh.min(config.refresh)),
            silence: Silence::new(config.refresh, now),
            looked_up: Vec::new(),
            waiting: [0; 4],
            refreshing: false,
            replicating: 0,
            scanning: false,
            more_due: false,
            repairing: false,
            handing: false,
            looks: 0,
        }
    }

    pub(crate) fn next(&self) -> Instant {
        let records = self.next_expire.min(self.next_due).min(self.next_repair);
        records.min(self.next_refresh).min(self.silence.next())
    }

    pub(crate) fn plan_expire(&mut self, config: &Config, rng: &mut Rng, now: Instant) {
        self.next_expire = later(now, rng.shortened(config.expire));
    }

    pub(crate) fn plan_repair(&mut self, config: &Config, rng: &mut Rng, now: Instant) {
        self.next_repair = later(now, rng.shortened(config.repair));
    }

    /// A node that serves from now on looks around and compares what it holds as one does that has just started.
    pub(crate) fn begin_anew(&mut self, config: &Config, rng: &mut Rng, now: Instant) {
        self.looks = 0;
        self.next_refresh = later(now, rng.shortened(config.first_refresh.min(config.refresh)));
        let repair = later(now, rng.shortened(first_repair(config)));
        self.next_repair = self.next_repair.min(repair);
    }

    pub(crate) fn plan_due(&mut self, config: &Config, rng: &mut Rng, now: Instant) {
        self.next_due = later(now, rng.shortened(scan_pause(config)));
    }

    /// Marks the buckets that want a lookup: those in which nothing was looked up for the configured time, and while
    /// the node is young those with room, as `has_room` says. One lookup serves all from `edge` on, so of these only
    /// the first is marked.
    pub(crate) fn plan_refresh(
        &mut self,
        config: &Config,
        rng: &mut Rng,
        now: Instant,
        edge: Option<u32>,
        has_room: impl Fn(u32) -> bool,
    ) {
        // It looks again after four times as long, until that is as long as the interval.
        let waited = |looks: u8| {
            config
                .first_refresh
                .saturating_mul(4u32.saturating_pow(looks.into()))
        };
        let young = waited(self.looks) < config.refresh;
        // The first round is for the neighbourhood alone: nodes that joined at the same moment may have missed each
        // other.
        let first = young && self.looks == 0;
        self.looks = self.looks.saturating_add(u8::from(young));
        // Old buckets are looked for four times in an interval, so that none waits much longer than it, also while the
        // node is young: it may have begun to serve long after it had joined.
        let pause = match young {
            true => waited(self.looks).min(config.refresh / 4),
            false => config.refresh / 4,
        };
        self.next_refresh = later(now, rng.shortened(pause));
        for bucket in 0..edge.map_or(0, |edge| edge + 1).min(ID_BITS) {
            let looked_up = self
                .looked_up
                .get(bucket as usize)
                .copied()
                .unwrap_or(Instant::ZERO);
            let old = looked_up + config.refresh <= now;
            let wanted = young && has_room(bucket) && (!first || Some(bucket) == edge);
            if old || wanted {
                self.want(bucket);
            }
        }
    }

    /// Marks one bucket that wants a lookup.
    pub(crate) fn want(&mut self, bucket: u32) {
        self.waiting[(bucket / 64) as usize] |= 1 << (bucket % 64);
    }

    /// The next bucket that waits for a refresh.
    pub(crate) fn take_waiting(&mut self) -> Option<u32> {
        let limb = self.waiting.iter().position(|&bits| bits != 0)?;
        let bit = self.waiting[limb].trailing_zeros();
        self.waiting[limb] &= self.waiting[limb] - 1;
        Some(64 * limb as u32 + bit)
    }

    /// A point of this bucket is being looked up. From `edge` on, any serves all buckets up to the deepest.
    pub(crate) fn note_lookup(&mut self, bucket: u32, now: Instant, edge: u32, deepest: u32) {
        let deepest = deepest.min(ID_BITS - 1) as usize;
        let (first, last) = if bucket >= edge {
            (edge.min(ID_BITS - 1) as usize, deepest)
        } else {
            (bucket as usize, bucket as usize)
        };
        if self.looked_up.len() <= last {
            self.looked_up.reserve_exact(last + 1 - self.looked_up.len());
            self.looked_up.resize(last + 1, Instant::ZERO);
        }
        self.looked_up[first..=last].fill(now);
    }
}

/// Due records are looked for so often; a minute, or a quarter of a shorter interval.
fn scan_pause(config: &Config) -> Duration {
    Duration::from_secs(60)
        .min(config.look_after / 4)
        .min(config.republish / 4)
}

fn first_repair(config: &Config) -> Duration {
    config.first_repair.min(config.repair)
}

/// A time after `now`, whatever the interval was configured to be.
fn later(now: Instant, pause: Duration) -> Instant {
    now + pause.max(Duration::from_micros(1))
}
