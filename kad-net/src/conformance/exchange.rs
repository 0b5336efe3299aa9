//! What the checks have in common: members, frames that can be recognised, and a limit on patience.

use std::time::Duration;

use bytes::Bytes;
use kad_core::{Contact, Keypair};

use super::{Broken, Duty, Factory};
use crate::{Answer, Inbound, Reply, Transport};

/// Where the checks are made.
pub(super) struct Bench<'a, F> {
    pub(super) factory: &'a F,
    opened: u64,
}

impl<'a, F: Factory> Bench<'a, F> {
    pub(super) const fn new(factory: &'a F) -> Self {
        Self { factory, opened: 0 }
    }

    /// A member with an identity that no other has.
    pub(super) async fn member(&mut self) -> F::Transport {
        let keypair = self.keypair();
        self.factory.open(keypair).await
    }

    pub(super) fn keypair(&mut self) -> Keypair {
        self.opened += 1;
        let mut secret = [0xc0; 32];
        secret[..8].copy_from_slice(&self.opened.to_be_bytes());
        Keypair::from_secret(&secret)
    }

    /// What a future gives, unless it hangs.
    pub(super) async fn patiently<T>(
        &self,
        duty: Duty,
        what: &str,
        future: impl Future<Output = T>,
    ) -> Result<T, Broken> {
        within(self.factory.patience(), duty, what, future).await
    }
}

pub(super) async fn within<T>(
    patience: Duration,
    duty: Duty,
    what: &str,
    future: impl Future<Output = T>,
) -> Result<T, Broken> {
    tokio::time::timeout(patience, future)
        .await
        .map_err(|_| duty.broken(format_args!("{what} hangs")))
}

/// A frame of a length that shows if it was cut, lengthened or mixed with another: each byte depends on number and
/// length.
pub(super) fn numbered(number: usize, length: usize) -> Bytes {
    (0..length).map(|at| mark(number, length, at)).collect()
}

/// Whether this is, in full, the frame of that number.
pub(super) fn is_numbered(frame: &[u8], number: usize) -> bool {
    let length = frame.len();
    let right = |(at, &byte): (usize, &u8)| byte == mark(number, length, at);
    frame.iter().enumerate().all(right)
}

const fn mark(number: usize, length: usize, at: usize) -> u8 {
    (number.wrapping_mul(31) ^ length.wrapping_mul(7) ^ (length >> 8) ^ at ^ (at >> 8)) as u8
}

/// Answers with what was asked, for as long as the other future takes.
pub(super) async fn echoing<T: Transport, O>(server: &T, client: impl Future<Output = O>) -> Option<O> {
    let echo = async {
        while let Some(inbound) = server.accept().await {
            inbound.reply.send(inbound.frame).await;
        }
    };
    tokio::select! {
        biased;
        output = client => Some(output),
        () = echo => None,
    }
}

/// A request whose answer must be what was sent.
pub(super) async fn echoed<T: Transport>(
    duty: Duty,
    asker: &T,
    to: &Contact<T::Address>,
    frame: Bytes,
) -> Result<Answer, Broken> {
    let answer = asker.request(to, frame.clone()).await;
    let answer = answer.map_err(|error| duty.broken(format_args!("a request failed: {error}")))?;
    duty.check(answer.frame == frame, "an answer is not the one that was sent")?;
    Ok(answer)
}

/// The next request, or an error if the transport says that it is closed.
pub(super) async fn accepted<T: Transport>(
    duty: Duty,
    server: &T,
) -> Result<Inbound<T::Address, T::Reply>, Broken> {
    let inbound = server.accept().await;
    inbound.ok_or_else(|| duty.broken("accept ended though nobody closed the transport"))
}

/// What [`echoing`] gives, when a server that stops by itself breaks the duty.
pub(super) fn served<O>(duty: Duty, outcome: Option<Result<O, Broken>>) -> Result<O, Broken> {
    outcome.unwrap_or_else(|| Err(duty.broken("accept ended though nobody closed the transport")))
}
