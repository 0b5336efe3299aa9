//! Where an application and the task that carries its bytes meet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use tokio::io::ReadBuf;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::StreamError;
use super::buffered::Buffered;
use super::frames::{Item, MAX_DATA};
use super::tape::{Tape, Violation};
use crate::quic::connection::Handle;

/// A tape, who waits at it, and why it has ended if it has.
pub(in crate::quic) struct Desk {
    inner: Mutex<Inner>,
    /// There is something for the pump: to be sent, to be read on, to be ended.
    changed: Notify,
    /// Bytes that wait in streams, those of this one among them.
    buffered: Buffered,
}

#[derive(Default)]
struct Inner {
    tape: Tape,
    reader: Option<Waker>,
    writer: Option<Waker>,
    failed: Option<StreamError>,
    /// When the application let go of it.
    abandoned: Option<Instant>,
    /// What it counts for in `buffered`.
    counted: usize,
    /// The pump waits for the application to read.
    paused: bool,
    /// Keeps the connection in use until the stream is over.
    holds: Option<Arc<Handle>>,
}

impl Desk {
    pub(in crate::quic) fn new(buffered: Buffered) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            changed: Notify::new(),
            buffered,
        })
    }

    /// The stream keeps the connection in use until it is over.
    pub(in crate::quic) fn hold(&self, handle: Arc<Handle>) {
        let mut inner = self.lock();
        // One that is over already keeps nothing.
        if inner.failed.is_none() {
            inner.holds = Some(handle);
        }
    }

    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), StreamError>> {
        let mut inner = self.lock();
        if inner.tape.waiting() > 0 {
            let count = inner.tape.read(into.initialize_unfilled());
            into.advance(count);
            inner.count(&self.buffered);
            let due = inner.tape.has_frame() || std::mem::take(&mut inner.paused);
            drop(inner);
            if due {
                self.changed.notify_one();
            }
            return Poll::Ready(Ok(()));
        }
        if inner.tape.at_end() {
            return Poll::Ready(Ok(()));
        }
        if inner.tape.was_reset() {
            return Poll::Ready(Err(StreamError::Reset));
        }
        if let Some(error) = &inner.failed {
            return Poll::Ready(Err(error.clone()));
        }
        wait(&mut inner.reader, cx);
        Poll::Pending
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, StreamError>> {
        let mut inner = self.lock();
        if inner.tape.was_stopped() {
            return Poll::Ready(Err(StreamError::Stopped));
        }
        if inner.tape.is_shut() {
            return Poll::Ready(Err(StreamError::ShutDown));
        }
        if let Some(error) = &inner.failed {
            return Poll::Ready(Err(error.clone()));
        }
        let count = inner.tape.write(bytes);
        if count == 0 && !bytes.is_empty() {
            wait(&mut inner.writer, cx);
            return Poll::Pending;
        }
        drop(inner);
        self.changed.notify_one();
        Poll::Ready(Ok(count))
    }

    pub(super) fn finish(&self) -> Result<(), StreamError> {
        let mut inner = self.lock();
        if inner.tape.was_stopped() || inner.tape.is_shut() {
            // Said already, or nobody waits for it.
            return Ok(());
        }
        if let Some(error) = &inner.failed {
            return Err(error.clone());
        }
        inner.tape.finish();
        drop(inner);
        self.changed.notify_one();
        Ok(())
    }

    /// The application lets go of it.
    pub(super) fn abandon(&self) {
        let mut inner = self.lock();
        inner.tape.reset();
        inner.tape.stop();
        inner.abandoned = Some(Instant::now());
        inner.count(&self.buffered);
        drop(inner);
        self.changed.notify_one();
    }

    /// When the application let go of it.
    pub(super) fn abandoned(&self) -> Option<Instant> {
        self.lock().abandoned
    }

    /// It is over: whoever waits is told, and the connection is in use by it no more. The first reason counts.
    pub(in crate::quic) fn end(&self, error: StreamError) {
        let mut inner = self.lock();
        inner.failed.get_or_insert(error);
        let held = inner.holds.take();
        let (reader, writer) = (inner.reader.take(), inner.writer.take());
        drop(inner);
        reader.into_iter().chain(writer).for_each(Waker::wake);
        self.changed.notify_one();
        // Outside of the lock: the last one closes the connection.
        drop(held);
    }

    pub(in crate::quic) fn is_finishing(&self) -> bool {
        let inner = self.lock();
        inner.failed.is_none() && inner.tape.is_finishing()
    }

    // What the pump does.

    /// Resolves when there may be something for the pump.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn place(&self) -> u64 {
        self.lock().tape.place()
    }

    pub(super) fn detach(&self) {
        self.lock().tape.detach();
    }

    pub(super) fn attach(&self, peer_lacks: u64) -> Result<(), Violation> {
        self.lock().tape.attach(peer_lacks)
    }

    /// Frames to be sent, some 16 KiB together; empty if there are none.
    pub(super) fn frames(&self) -> Bytes {
        let mut inner = self.lock();
        let mut out = BytesMut::new();
        while out.len() < MAX_DATA
            && let Some(frame) = inner.tape.next_frame(MAX_DATA)
        {
            frame.put(&mut out);
        }
        drop(inner);
        out.freeze()
    }

    /// Takes what has come. Whether it was an acknowledgement, after which something may be delivered.
    pub(super) fn take(&self, item: &Item) -> Result<bool, Violation> {
        let mut inner = self.lock();
        inner.tape.take(item)?;
        inner.count(&self.buffered);
        let (reader, writer) = match item {
            Item::Data(_) | Item::Fin => (inner.reader.take(), None),
            Item::Ack(_) | Item::Stop => (None, inner.writer.take()),
            Item::Reset => (inner.reader.take(), inner.writer.take()),
            Item::Place(_) => (None, None),
        };
        drop(inner);
        reader.into_iter().chain(writer).for_each(Waker::wake);
        Ok(matches!(item, Item::Ack(_) | Item::Stop))
    }

    /// Whether the pump may read on. If not, it is told when the application has read.
    pub(super) fn may_read(&self) -> bool {
        let mut inner = self.lock();
        let fair = inner.tape.waiting() < MAX_DATA || self.buffered.has_room();
        inner.paused = !fair;
        fair
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().tape.is_over()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lock().tape.has_ended()
    }

    /// Whether the end of what the peer writes has come, read or not.
    #[cfg(test)]
    pub(super) fn has_all(&self) -> bool {
        self.lock().tape.has_all()
    }

    pub(super) fn is_settled_if_forgotten(&self) -> bool {
        self.lock().tape.is_settled_if_forgotten()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.buffered.change(self.lock().counted, 0);
    }
}

impl Inner {
    fn count(&mut self, buffered: &Buffered) {
        let waiting = self.tape.waiting();
        buffered.change(self.counted, waiting);
        self.counted = waiting;
    }
}

fn wait(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::task::noop_waker;

    use super::super::tape::WINDOW;
    use super::*;

    #[test]
    fn where_too_much_waits_a_stream_reads_on_when_its_application_has_read_and_other_peers_do_not_suffer() {
        let all = Buffered::default();
        let greedy = all.of_another();
        let data = |count| Item::Data(vec![7; count].into());
        // The applications of these read nothing, so their windows fill the share of their peer.
        let mut windows = Vec::new();
        while greedy.has_room() {
            let full = Desk::new(greedy.clone());
            full.take(&data(WINDOW)).unwrap();
            windows.push(full);
        }
        assert_eq!(windows.len(), 8);

        let desk = Desk::new(greedy.clone());
        desk.take(&data(MAX_DATA - 1)).unwrap();
        assert!(desk.may_read(), "each may hold a frame");
        desk.take(&data(1)).unwrap();
        assert!(!desk.may_read());
        assert!(desk.changed().now_or_never().is_none());

        let other = Desk::new(all.of_another());
        other.take(&data(WINDOW / 2)).unwrap();
        assert!(other.may_read(), "another peer has a share of its own");

        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let mut bytes = [0; 10];
        let mut into = ReadBuf::new(&mut bytes);
        assert!(desk.poll_read(&mut cx, &mut into).is_ready());
        assert!(desk.changed().now_or_never().is_some(), "the pump is told");
        assert!(desk.may_read());

        // What is let go of, and what is dropped, counts no more.
        desk.take(&data(10)).unwrap();
        assert!(!desk.may_read());
        windows[0].abandon();
        assert!(desk.may_read());
        drop(windows);
        assert!(greedy.has_room());
    }
}
