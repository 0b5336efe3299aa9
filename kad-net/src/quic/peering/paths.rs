//! The paths of one peering: which one is the best, which are dead, which are in the way.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use kad_core::NodeId;

use super::{Inner, Peering, SIMULTANEOUS};
use crate::quic::error::code;
use crate::quic::path::{Path, PathKind, PathReport};

/// One way to a peer, as long as it is open.
pub(in crate::quic) struct LivePath {
    pub(in crate::quic) connection: quinn::Connection,
    /// Tells it from all others of the peering.
    pub(in crate::quic) number: u64,
    path: Path,
    /// As it is told; more may become known while the path is in use.
    why: Mutex<Arc<str>>,
    /// What the one who dialled says that it is.
    kind: AtomicU8,
    opened: Instant,
    /// Streams that run over it.
    attached: AtomicUsize,
    /// Since when nothing has run over it although another one is better.
    idle_since: Mutex<Option<Instant>>,
    doubted: AtomicBool,
    /// Datagrams that had come when it was doubted.
    heard: AtomicU64,
    silence: Mutex<Silence>,
}

/// What was seen of a path at the last look.
struct Silence {
    /// Datagrams that had come.
    heard: u64,
    /// When that was seen first.
    heard_at: Instant,
    /// Frames sent by then that want an acknowledgement.
    asked: u64,
    /// Since when more of those went out and nothing came.
    since: Option<Instant>,
    /// Frames of streams, both ways, when the peer was last asked whether it hears us.
    flowed: u64,
    /// Whether it was asked for want of its keep-alives since it was last heard.
    missed: bool,
}

/// When so long nothing has come on a path over which streams have just run, the peer is asked whether it hears us.
/// Only who sends notices that a path is dead, and who has sent last may be the one at the other end.
const ASKED_AFTER: Duration = Duration::from_secs(1);

/// The same for a path on which nothing runs: whoever dialled says something every 5 s.
const MISSED_AFTER: Duration = Duration::from_secs(6);

/// A path on which nothing comes although something should is doubted after so long, or three of its probe timeouts if
/// these are longer (RFC 9002, section 6.2).
const SILENT: Duration = Duration::from_secs(2);

/// What a peer may take before it acknowledges (RFC 9000, section 18.2: `max_ack_delay`, by default).
const ACK_DELAY: Duration = Duration::from_millis(25);

impl LivePath {
    pub(super) fn new(connection: quinn::Connection, path: Path, number: u64) -> Self {
        Self {
            connection,
            number,
            kind: AtomicU8::new(path.kind.number()),
            why: Mutex::new(path.why.clone()),
            path,
            opened: Instant::now(),
            attached: AtomicUsize::new(0),
            idle_since: Mutex::new(None),
            doubted: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            silence: Mutex::new(Silence {
                heard: 0,
                heard_at: Instant::now(),
                asked: 0,
                since: None,
                flowed: 0,
                missed: false,
            }),
        }
    }

    pub(in crate::quic) fn kind(&self) -> PathKind {
        PathKind::from_number(self.kind.load(Ordering::Relaxed)).unwrap_or(self.path.kind)
    }

    /// Takes the word of the peer, who dialled it, for what kind it is. That a relay is between we know better.
    pub(in crate::quic) fn is_of_kind(&self, kind: PathKind) {
        let relayed = self.path.kind == PathKind::Relayed;
        if !self.path.dialled && relayed == (kind == PathKind::Relayed) {
            self.kind.store(kind.number(), Ordering::Relaxed);
        }
    }

    /// Counts as in use until the guard is dropped.
    pub(in crate::quic) fn attach(self: &Arc<Self>, peering: &Arc<Peering>) -> Attached {
        self.attached.fetch_add(1, Ordering::AcqRel);
        Attached {
            path: self.clone(),
            peering: peering.clone(),
        }
    }

    pub(super) fn doubt(&self) {
        let heard = self.connection.stats().udp_rx.datagrams;
        self.heard.store(heard, Ordering::Relaxed);
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// Doubts it if what was sent has had no answer for too long: a router with a new address tells nobody of it. The
    /// path is kept: it is the best as long as there is no other, and again once something comes. Whether it is doubted
    /// since now.
    pub(super) fn listen(&self, now: Instant) -> bool {
        let stats = self.connection.stats();
        let (heard, sent) = (stats.udp_rx.datagrams, stats.frame_tx);
        // Acknowledgements have no answer. What QUIC sends again counts again, so what is left out here is only noticed
        // later.
        let asked = sent.ping + sent.stream + sent.datagram + sent.reset_stream + sent.stop_sending;
        let flowed = sent.stream + stats.frame_rx.stream;
        let mut silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        if heard != silence.heard {
            *silence = Silence {
                heard,
                heard_at: now,
                asked,
                since: None,
                flowed: silence.flowed,
                missed: false,
            };
            return false;
        }
        let silent_for = now.duration_since(silence.heard_at);
        let has_flowed = silent_for >= ASKED_AFTER && flowed != silence.flowed;
        let is_missed = silent_for >= MISSED_AFTER && !silence.missed;
        if self.is_attached() && (has_flowed || is_missed) {
            (silence.flowed, silence.missed) = (flowed, silence.missed || is_missed);
            // Too short for one of an application, so it means nothing to the peer, which acknowledges it all the same.
            // One that takes none is heard of by what it says itself.
            let _ = self.connection.send_datagram(Bytes::new());
        }
        if asked == silence.asked {
            return false;
        }
        let since = *silence.since.get_or_insert(now);
        drop(silence);
        // The variance is not told; half a round trip is what QUIC begins with.
        let probe_timeout = 3 * stats.path.rtt + ACK_DELAY;
        let doubts = now.duration_since(since) >= SILENT.max(3 * probe_timeout) && !self.is_doubted();
        if doubts {
            self.doubt();
        }
        doubts
    }

    /// Whether a stream runs over it.
    pub(super) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire) > 0
    }

    /// A doubt lasts until something is heard.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
            && self.connection.stats().udp_rx.datagrams == self.heard.load(Ordering::Relaxed)
    }

    fn is_dead(&self) -> bool {
        self.connection.close_reason().is_some()
    }

    fn is_better_than(&self, other: &Self, local: NodeId, peer: NodeId) -> bool {
        let rank = |path: &Self| (path.is_doubted(), path.kind());
        if rank(self) != rank(other) {
            return rank(self) < rank(other);
        }
        let newer = self.number > other.number;
        let apart = if newer {
            self.opened.duration_since(other.opened)
        } else {
            other.opened.duration_since(self.opened)
        };
        if self.path.dialled != other.path.dialled && apart <= SIMULTANEOUS {
            return self.path.dialled == (local < peer);
        }
        newer
    }

    /// When it is to be closed for want of use, if it is out of use.
    pub(super) fn unused(&self, is_best: bool, now: Instant, linger: Duration) -> Option<Instant> {
        let mut since = self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        if is_best || self.is_attached() {
            *since = None;
            return None;
        }
        Some(*since.get_or_insert(now) + linger)
    }

    fn report(&self, changes: u64) -> PathReport {
        PathReport {
            kind: Some(self.kind()),
            remote: Some(self.path.remote),
            relay: self.path.relay,
            rtt: Some(self.connection.rtt()),
            why: self.why.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            changes,
        }
    }
}

/// A stream that runs over a path.
pub(in crate::quic) struct Attached {
    pub(in crate::quic) path: Arc<LivePath>,
    peering: Arc<Peering>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        if self.path.attached.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.peering.look_again();
        }
    }
}

impl Inner {
    pub(super) fn drop_dead(&mut self) {
        self.paths.retain(|path| !path.is_dead());
    }

    fn best(&self, local: NodeId, peer: NodeId) -> Option<&Arc<LivePath>> {
        let mut paths = self.paths.iter();
        let first = paths.next()?;
        Some(
            paths.fold(first, |best, path| match path.is_better_than(best, local, peer) {
                true => path,
                false => best,
            }),
        )
    }

    /// Closes the oldest path that is not the best and that nothing runs over; whether there was one.
    pub(super) fn make_room(&mut self, best: Option<&Arc<LivePath>>) -> bool {
        let idle =
            |path: &&Arc<LivePath>| !path.is_attached() && best.is_none_or(|best| best.number != path.number);
        let Some(oldest) = self
            .paths
            .iter()
            .filter(idle)
            .min_by_key(|path| path.number)
            .cloned()
        else {
            return false;
        };
        oldest.connection.close(code::UNUSED, b"");
        self.drop_dead();
        true
    }
}

impl Peering {
    /// Tells more of a path than was known when it was added: why there is no better one, say.
    pub(in crate::quic) fn explain(&self, connection: &quinn::Connection, why: &str) {
        let why: Arc<str> = why.into();
        let inner = self.lock();
        let same = |path: &&Arc<LivePath>| path.connection.stable_id() == connection.stable_id();
        let Some(path) = inner.paths.iter().find(same) else {
            return;
        };
        *path.why.lock().unwrap_or_else(PoisonError::into_inner) = why.clone();
        // The lock is held, so the best one stays what it is.
        if self
            .best
            .borrow()
            .as_ref()
            .is_some_and(|best| best.number == path.number)
        {
            self.report
                .send_if_modified(|report| std::mem::replace(&mut report.why, why.clone()) != why);
        }
    }

    /// Finds the best path anew, and tells of it if it has changed.
    pub(in crate::quic) fn choose(&self) {
        let mut inner = self.lock();
        inner.drop_dead();
        let best = inner.best(self.all.local, self.peer).cloned();
        // Told under the lock, so that the last word is the latest one.
        let changed = self.best.send_if_modified(|told| {
            let same = told.as_ref().map(|path| path.number) == best.as_ref().map(|path| path.number);
            if !same {
                told.clone_from(&best);
            }
            !same
        });
        let trusted = best.as_ref().is_some_and(|best| !best.is_doubted());
        self.trusted
            .send_if_modified(|told| std::mem::replace(told, trusted) != trusted);
        let kind_told = best
            .as_ref()
            .is_none_or(|best| self.report.borrow().kind == Some(best.kind()));
        if !changed && kind_told {
            return;
        }
        self.report.send_modify(|report| {
            *report = match &best {
                Some(best) => best.report(report.changes + u64::from(changed)),
                None => PathReport {
                    kind: None,
                    remote: None,
                    relay: None,
                    rtt: None,
                    why: "the last path is lost: looking for another".into(),
                    changes: report.changes,
                },
            };
        });
    }
}
