//! A stream of bytes in both directions that survives a change of path.
//!
//! ```text
//!   Stream ── Desk ── Pump ── a stream of QUIC, on the path in use; on another one when that changes
//!              │
//!              └─ Tape: what was written and not taken, what has come and was not read
//! ```
//!
//! The application reads and writes at the desk; a task, the pump, carries what lies there over whatever path there is.
//! The one who opened a stream moves it; the other one follows.

mod buffered;
mod desk;
mod frames;
mod pump;
mod tape;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{ConnectionError, Handle};

pub(super) use self::buffered::Buffered;
pub(super) use self::desk::Desk;
pub(super) use self::pump::{Attachment, Pump};

/// One stream of a [`Connection`](super::Connection): bytes in both directions, each once and in order, whatever paths
/// they run over.
///
/// Each direction ends by itself: `shutdown` of `AsyncWriteExt` says that all was written, and a reader that meets the
/// end has all of it. A stream that is dropped before tells the peer that what it wrote is not whole
/// ([`StreamError::Reset`]), and that nothing more is read. What was shut down is delivered even if the stream is
/// dropped then, as long as the connection lasts.
///
/// At most 1 MiB that was written waits to be taken by the peer's application; then writing waits. Errors are a
/// [`StreamError`] inside an [`io::Error`]. Split it with `tokio::io::split`.
pub struct Stream {
    desk: Arc<Desk>,
    handle: Arc<Handle>,
}

/// Why a stream has ended before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer has too many streams open.
    #[error("the peer has too many streams open: close some or try again later")]
    Busy,
    /// The connection has ended.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The peer does not know the stream any more, or did not come back to it.
    #[error("the peer has lost the stream")]
    Lost,
    /// The peer gave the stream up: what came is not whole.
    #[error("the peer broke off the stream before its end")]
    Reset,
    /// It was shut down here.
    #[error("the stream was shut down")]
    ShutDown,
    /// The peer reads no more.
    #[error("the peer reads no more of the stream")]
    Stopped,
    /// The peer broke the rules.
    #[error("the peer broke the rules of streams")]
    Violation,
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match error {
            StreamError::Connection(error) => return error.into(),
            StreamError::Busy => io::ErrorKind::ConnectionRefused,
            StreamError::Lost | StreamError::Reset => io::ErrorKind::ConnectionReset,
            StreamError::ShutDown | StreamError::Stopped => io::ErrorKind::BrokenPipe,
            StreamError::Violation => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

impl Stream {
    pub(super) const fn new(desk: Arc<Desk>, handle: Arc<Handle>) -> Self {
        Self { desk, handle }
    }

    /// Whether the end of what the peer writes has come, read or not.
    #[cfg(test)]
    pub(super) fn has_all(&self) -> bool {
        self.desk.has_all()
    }

    /// The peer, whose key is proven.
    #[must_use]
    pub fn peer(&self) -> kad_core::NodeId {
        self.handle.0.peering.peer
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.desk.poll_read(cx, into).map_err(Into::into)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.desk.poll_write(cx, bytes).map_err(Into::into)
    }

    /// Never waits: what was written is sent without being asked for.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Never waits. [`Connection::close`](super::Connection::close) waits until the peer has taken everything.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.desk.finish().map_err(Into::into))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.desk.abandon();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

/// One frame of each kind, for the test that compares them with the document.
#[cfg(test)]
pub(super) fn frames_for_vectors() -> Vec<(&'static str, bytes::Bytes)> {
    use self::frames::Frame;

    let frames = [
        ("DATA", Frame::Data(b"hel", b"lo")),
        ("ACK", Frame::Ack(65_536)),
        ("FIN", Frame::Fin),
        ("RESET", Frame::Reset),
        ("STOP", Frame::Stop),
    ];
    let bytes = |frame: Frame<'_>| {
        let mut out = bytes::BytesMut::new();
        frame.put(&mut out);
        out.freeze()
    };
    frames.map(|(name, frame)| (name, bytes(frame))).to_vec()
}
