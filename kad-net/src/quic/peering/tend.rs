//! What happens to a peering in time: paths that nothing uses are closed, connections without any path fail, and a peer
//! with whom there is no connection is forgotten.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Inner, LivePath, Peering};
use crate::quic::application;
use crate::quic::application::header::{ConnectionId, Header};
use crate::quic::connection::{ConnectionError, State};
use crate::quic::error::code;
use crate::quic::tasks::Alive;

/// How long a path that nothing runs over stays when there is a better one: streams of the peer may be about to move,
/// and the last acknowledgements about to arrive.
const LINGER: Duration = Duration::from_secs(2);

/// The same for the higher id, which leaves it to the other one.
const LONG_LINGER: Duration = Duration::from_secs(30);

/// How often doubted paths, and dead ones of which nobody has told, are looked at.
const GLANCE: Duration = Duration::from_secs(1);

/// The same for a peer with streams, for whom somebody waits: an eighth of the time after which a silent path is
/// doubted.
const CLOSE_GLANCE: Duration = Duration::from_millis(250);

/// What is due now.
struct Due {
    /// The peer is to be told over this path that these are closed.
    tell: Option<(Arc<LivePath>, Vec<ConnectionId>)>,
    /// These have waited too long for a path.
    failed: Vec<Arc<State>>,
    next: Instant,
    end: bool,
}

impl Peering {
    /// Tends it until it has been of no use for a while, or the transport is closed.
    pub(super) async fn tend(self: Arc<Self>, alive: Alive) {
        loop {
            let now = Instant::now();
            // Each of them, as each keeps its own record.
            let doubted = self.lock().paths.iter().filter(|path| path.listen(now)).count();
            self.choose();
            if doubted > 0 {
                self.all.tell_of_doubt();
            }
            let due = self.due(now);
            for state in due.failed {
                let waited = self.all.path_patience;
                self.forget(&state, ConnectionError::NoPath { waited }, false);
            }
            if let Some((path, closed)) = due.tell {
                tokio::spawn(tell_closed(path, closed, alive.clone()));
            }
            if due.end {
                break;
            }
            tokio::select! {
                () = self.news.notified() => {}
                () = tokio::time::sleep_until(due.next) => {}
            }
        }
        self.all.remove(&self);
    }

    fn due(&self, now: Instant) -> Due {
        let mut inner = self.lock();
        let runs = inner.paths.iter().any(|path| path.is_attached());
        let mut next = now + if runs { CLOSE_GLANCE } else { GLANCE };
        let linger = match self.all.local < self.peer {
            true => LINGER,
            false => LONG_LINGER,
        };
        let best = self.best.borrow().clone();
        for path in &inner.paths {
            let is_best = best.as_ref().is_some_and(|best| best.number == path.number);
            // One that is doubted may recover, or ends of silence.
            let linger = if path.is_doubted() { LONG_LINGER } else { linger };
            match path.unused(is_best, now, linger) {
                Some(when) if when <= now => path.connection.close(code::UNUSED, b""),
                Some(when) => next = next.min(when),
                None => {}
            }
        }
        inner.drop_dead();

        let mut failed = Vec::new();
        if inner.paths.is_empty() {
            let since = *inner.pathless_since.get_or_insert(now);
            let until = since + self.all.path_patience;
            if until <= now {
                failed.extend(inner.connections.values().cloned());
            } else {
                next = next.min(until);
            }
        } else {
            inner.pathless_since = None;
        }
        let tell = match best {
            Some(best) if !inner.closed.is_empty() => Some((best, std::mem::take(&mut inner.closed))),
            _ => None,
        };
        let end = inner.ends(now, self.all.path_linger, &mut next);
        let wanted = !inner.connections.is_empty() && !inner.ended;
        // Told under the lock, so that the last word is the latest one.
        self.wanted
            .send_if_modified(|told| std::mem::replace(told, wanted) != wanted);
        drop(inner);
        Due {
            tell,
            failed,
            next,
            end,
        }
    }

    /// Ends it now: every connection fails, every path is closed.
    pub(super) fn end(&self, error: &ConnectionError, code: quinn::VarInt) {
        let mut inner = self.lock();
        inner.ended = true;
        let connections: Vec<_> = inner.connections.drain().map(|(_, state)| state).collect();
        for path in inner.paths.drain(..) {
            path.connection.close(code, b"");
        }
        // Nothing is taken in any more, so nobody says otherwise.
        drop(inner);
        for state in connections {
            state.end(error.clone());
        }
        self.best.send_replace(None);
        self.trusted.send_replace(false);
        self.wanted.send_replace(false);
        self.news.notify_one();
    }
}

impl Inner {
    /// Whether it is of no use any more.
    fn ends(&mut self, now: Instant, linger: Duration, next: &mut Instant) -> bool {
        if self.ended {
            return true;
        }
        if self.holds > 0 || !self.connections.is_empty() {
            self.unused_since = None;
            return false;
        }
        let until = *self.unused_since.get_or_insert(now) + linger;
        if until > now {
            *next = (*next).min(until);
            return false;
        }
        self.ended = true;
        for path in self.paths.drain(..) {
            path.connection.close(code::UNUSED, b"");
        }
        true
    }

    /// Whether somebody else may have its place.
    fn is_unused(&self) -> bool {
        self.holds == 0 && self.connections.is_empty()
    }

    /// How soon somebody else may have its place: whoever is unused for longest comes first, and last whoever is so
    /// since a moment ago. `None` if it is used.
    pub(super) fn unused(&self) -> Option<(bool, Option<Instant>)> {
        self.is_unused()
            .then_some((self.unused_since.is_none(), self.unused_since))
    }
}

/// Best effort: a peer that does not hear of it learns when it uses the connection, or when the last path is closed.
async fn tell_closed(path: Arc<LivePath>, closed: Vec<ConnectionId>, _alive: Alive) {
    for id in closed {
        if application::tell(&path, &Header::Close { id }).await.is_err() {
            return;
        }
    }
}
