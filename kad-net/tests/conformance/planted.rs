//! A transport with one fault, around one that has none.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kad_core::{Contact, Failure};
use kad_net::{Answer, Inbound, MAX_FRAME, Reply, Transport, TransportError, TransportStats};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Inbound requests carry the local id as their sender.
    SaysItIsTheAsker,
    /// Requests go to whoever is at the address.
    AsksAnybody,
    /// Says that it is itself, wherever it looks.
    IdentifiesItself,
    /// Frames end after 16 KiB.
    CutsFrames,
    /// Claims an answer where the frame was too large to ask.
    AnswersAnything,
    /// Gives the answer of one request to the one that runs at the same time.
    MixesUpAnswers,
    /// Sends the first half of a frame when the request is dropped.
    SendsHalfWhenDropped,
    /// Takes a request, then does something else before it hands it over.
    LosesWhenAcceptIsDropped,
    /// Keeps replies that were dropped.
    NeverDropsReplies,
    /// Waits for ever where nobody is.
    WaitsForNobody,
    IsNeverWarm,
    IsAlwaysWarm,
    /// Counts the time to dial as part of the round trip.
    CountsTheDial,
    /// Says that the answer took no time.
    TookNoTime,
    /// `accept` does not end with `close`.
    AcceptsForever,
    /// A request to a peer that closed waits for ever.
    WaitsForTheClosed,
}

pub(crate) struct Planted<T> {
    inner: Arc<T>,
    fault: Fault,
    closed: AtomicBool,
    at_once: AtomicUsize,
    never: Arc<Notify>,
}

impl<T: Transport> Planted<T> {
    pub(crate) fn new(inner: T, fault: Fault) -> Self {
        Self {
            inner: Arc::new(inner),
            fault,
            closed: AtomicBool::new(false),
            at_once: AtomicUsize::new(0),
            never: Arc::default(),
        }
    }
}

/// Sends half of a frame when it is dropped before it is disarmed.
struct Half<T: Transport> {
    transport: Arc<T>,
    to: Contact<T::Address>,
    frame: Option<Bytes>,
}

impl<T: Transport> Drop for Half<T> {
    fn drop(&mut self) {
        let Some(frame) = self.frame.take() else { return };
        let (transport, to) = (Arc::clone(&self.transport), self.to.clone());
        tokio::spawn(async move { transport.request(&to, frame.slice(..frame.len() / 2)).await });
    }
}

impl<T: Transport> Transport for Planted<T> {
    type Address = T::Address;
    type Reply = PlantedReply<T::Reply>;
    type Error = T::Error;

    fn local(&self) -> Contact<T::Address> {
        self.inner.local()
    }

    async fn identify(&self, address: &T::Address) -> Result<Contact<T::Address>, T::Error> {
        match self.fault {
            Fault::IdentifiesItself => Ok(self.inner.local()),
            _ => self.inner.identify(address).await,
        }
    }

    async fn request(&self, to: &Contact<T::Address>, frame: Bytes) -> Result<Answer, T::Error> {
        let mut to = to.clone();
        if self.fault == Fault::AsksAnybody {
            to = self.inner.identify(&to.address).await?;
        }
        if self.fault == Fault::AnswersAnything && frame.len() > MAX_FRAME {
            return Ok(Answer {
                frame,
                warm: true,
                took: Duration::ZERO,
            });
        }
        let mut half = Half {
            transport: Arc::clone(&self.inner),
            to: to.clone(),
            frame: (self.fault == Fault::SendsHalfWhenDropped).then(|| frame.clone()),
        };
        let started = Instant::now();
        let others = self.at_once.fetch_add(1, Ordering::Relaxed);
        let answer = self.inner.request(&to, frame).await;
        self.at_once.fetch_sub(1, Ordering::Relaxed);
        half.frame = None;
        let closed = self.closed.load(Ordering::Relaxed);
        match (&answer, self.fault) {
            (Err(error), Fault::WaitsForNobody) if error.failure() == Failure::Unreachable && !closed => {
                pending::<()>().await;
            }
            // Only the request that had reached the peer; those that find it closed already do end.
            (Err(error), Fault::WaitsForTheClosed)
                if error.failure() == Failure::Unreachable
                    && !closed
                    && self.inner.stats().bytes_sent > 0 =>
            {
                pending::<()>().await;
            }
            _ => {}
        }
        let mut answer = answer?;
        match self.fault {
            Fault::CutsFrames => answer.frame.truncate(16 * 1024),
            Fault::MixesUpAnswers if others > 0 => answer.frame = Bytes::from_static(b"of another"),
            Fault::IsNeverWarm => answer.warm = false,
            Fault::IsAlwaysWarm => answer.warm = true,
            Fault::CountsTheDial => answer.took = started.elapsed(),
            Fault::TookNoTime => answer.took = Duration::ZERO,
            _ => {}
        }
        Ok(answer)
    }

    async fn accept(&self) -> Option<Inbound<T::Address, Self::Reply>> {
        let Some(inbound) = self.inner.accept().await else {
            if self.fault == Fault::AcceptsForever {
                pending::<()>().await;
            }
            return None;
        };
        if self.fault == Fault::LosesWhenAcceptIsDropped {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
        let mut from = inbound.from;
        if self.fault == Fault::SaysItIsTheAsker {
            from.id = self.inner.local().id;
        }
        let reply = PlantedReply {
            inner: Some(inbound.reply),
            keep: self.fault == Fault::NeverDropsReplies,
            never: Arc::clone(&self.never),
        };
        Some(Inbound {
            from,
            frame: inbound.frame,
            reply,
        })
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.inner.close().await;
    }

    fn stats(&self) -> TransportStats {
        self.inner.stats()
    }
}

#[derive(Debug)]
pub(crate) struct PlantedReply<R: Reply> {
    inner: Option<R>,
    keep: bool,
    never: Arc<Notify>,
}

impl<R: Reply> Reply for PlantedReply<R> {
    async fn send(mut self, frame: Bytes) {
        if let Some(inner) = self.inner.take() {
            inner.send(frame).await;
        }
    }
}

impl<R: Reply> Drop for PlantedReply<R> {
    fn drop(&mut self) {
        let (Some(inner), true) = (self.inner.take(), self.keep) else {
            return;
        };
        let never = Arc::clone(&self.never);
        tokio::spawn(async move {
            never.notified().await;
            drop(inner);
        });
    }
}
