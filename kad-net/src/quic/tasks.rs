//! Knows when all tasks of a transport have ended: each holds a token, and the last one gone is the end.

use std::convert::Infallible;
use std::sync::Mutex;

use tokio::sync::mpsc;

/// Held by everything that must be gone before the transport is closed.
#[derive(Clone)]
pub(super) struct Alive(#[expect(dead_code, reason = "held, never used")] mpsc::Sender<Infallible>);

/// Hands out tokens, and waits until they are gone.
pub(super) struct Tasks {
    token: Mutex<Option<Alive>>,
    gone: tokio::sync::Mutex<mpsc::Receiver<Infallible>>,
}

impl Tasks {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(1);
        Self {
            token: Mutex::new(Some(Alive(sender))),
            gone: tokio::sync::Mutex::new(receiver),
        }
    }

    /// A token, or `None` once no more are given.
    pub(super) fn token(&self) -> Option<Alive> {
        self.token
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Gives no more tokens. Whether it still gave some.
    pub(super) fn end(&self) -> bool {
        self.token
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
            .is_some()
    }

    /// Resolves when no token is left; never before [`end`](Self::end).
    pub(super) async fn all_gone(&self) {
        let _ = self.gone.lock().await.recv().await;
    }
}
