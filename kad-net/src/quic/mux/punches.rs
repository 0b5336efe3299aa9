//! Who waits for which punches.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::packet::{PunchKey, Side};
use crate::nat::relay::SessionId;
use crate::quic::socket::Count;

/// Sessions that wait for punches at a time: as many as there may be routes, each of which can have one.
const MAX_AWAITED: usize = super::super::relayed::MAX_ROUTES;

/// Punches of a session that wait to be looked at. A peer sends five in its first tenth of a second. Full: dropped and
/// counted; those before say the same.
const MAX_HEARD: usize = 16;

/// Everybody who waits.
#[derive(Default)]
pub(super) struct Awaited {
    sessions: Mutex<HashMap<SessionId, Wait>>,
}

struct Wait {
    key: PunchKey,
    /// Whose punches are waited for.
    peer: Side,
    heard: mpsc::Sender<Heard>,
    /// From where the last one came.
    last: Option<SocketAddr>,
}

/// What one who waits for punches hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Heard {
    /// A punch, from there.
    Punch(SocketAddr),
    /// The first packet of a handshake, from where the last punch came from.
    Arriving,
}

/// The punches of one peer. Dropped, nobody waits for them any more.
pub(in super::super) struct Punches {
    session: SessionId,
    heard: mpsc::Receiver<Heard>,
    awaited: Arc<Awaited>,
}

impl Punches {
    /// The next one. `None` never, as long as this lives.
    ///
    /// # Cancel safety
    /// None is lost when the future is dropped.
    pub(in super::super) async fn next(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }
}

impl Drop for Punches {
    fn drop(&mut self) {
        self.awaited.lock().remove(&self.session);
    }
}

impl Awaited {
    pub(super) fn begin(this: &Arc<Self>, session: SessionId, key: PunchKey, own: Side) -> Option<Punches> {
        let (sender, heard) = mpsc::channel(MAX_HEARD);
        let mut sessions = this.lock();
        if sessions.len() >= MAX_AWAITED || sessions.contains_key(&session) {
            return None;
        }
        let wait = Wait {
            key,
            peer: own.other(),
            heard: sender,
            last: None,
        };
        sessions.insert(session, wait);
        drop(sessions);
        Some(Punches {
            session,
            heard,
            awaited: this.clone(),
        })
    }

    /// Takes one punch; what it is to be counted as.
    pub(super) fn take(&self, session: SessionId, mac: [u8; 8], from: SocketAddr) -> Count {
        let mut sessions = self.lock();
        match sessions.get_mut(&session) {
            Some(wait) if wait.key.fits(session, wait.peer, mac) => {
                wait.last = Some(from);
                match wait.heard.try_send(Heard::Punch(from)) {
                    Ok(()) => Count::Punch,
                    Err(_) => Count::Overflow,
                }
            }
            _ => Count::Stray,
        }
    }

    /// A handshake begins from there: whoever heard a punch from there need not dial.
    pub(super) fn arriving(&self, from: SocketAddr) {
        for wait in self.lock().values().filter(|wait| wait.last == Some(from)) {
            // If there is no room, both dial, and one connection stays.
            let _ = wait.heard.try_send(Heard::Arriving);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Wait>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
