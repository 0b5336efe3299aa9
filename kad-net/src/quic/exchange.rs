//! One request and its answer: a stream in both directions, of which each side carries one frame and ends.
//!
//! A stream opens with one byte that says what it is for. Of a frame either all of it arrives or the stream is reset:
//! quinn *finishes* a stream that is dropped, so that half a frame would look like a whole one; the guards here reset
//! it instead.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kad_core::Contact;
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};

use super::QuicAddress;
use super::error::{QuicError, code};
use super::pool::InUse;
use super::reach::Knock;
use super::shared::{Admitted, Shared};
use crate::transport::{Inbound, MAX_FRAME, Reply};

/// The first byte of a stream that carries a request.
pub(super) const STREAM_RPC: u8 = 0x01;

/// The first byte of a stream that carries a question about how to be reached.
pub(super) const STREAM_REACH: u8 = 0x02;

/// Why an exchange failed, and whether asking again over another connection is allowed.
pub(super) struct Broken {
    pub(super) error: QuicError,
    /// The connection died before the first byte of the answer.
    pub(super) before_answer: bool,
}

/// Sends a frame over an open connection, on a stream of this kind, and waits for the answer. Says how long that took
/// since the stream was open: a wait for one while the peer allows no more is our own doing.
pub(super) async fn ask(
    shared: &Shared,
    link: &InUse,
    kind: u8,
    frame: Bytes,
) -> Result<(Bytes, Duration), Broken> {
    let connection = &link.link().connection;
    let size = frame.len() as u64;
    let (send, recv) = connection
        .open_bi()
        .await
        .map_err(|e| Broken::of_connection(&e, true))?;
    let opened = Instant::now();
    let mut asking = Asking {
        shared,
        link,
        send: Outgoing::new(send, code::CANCELLED),
        answered: false,
    };
    let mut reader = FrameReader::new(recv);
    if let Err(error) = asking
        .send
        .frame(&mut [Bytes::copy_from_slice(&[kind]), frame])
        .await
    {
        // Whoever stops our stream says why, and so does whoever ends the connection.
        asking.answered = true;
        return Err(match error {
            WriteError::Stopped(code) => Broken::last(QuicError::of_code(code)),
            WriteError::ConnectionLost(e) => Broken::of_connection(&e, true),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Broken::last(QuicError::Lost {
                reason: error.to_string(),
            }),
        });
    }
    shared.counters.bytes_sent.fetch_add(size, Relaxed);
    let result = reader.read(MAX_FRAME).await;
    asking.answered = true;
    match result {
        Ok(()) => {
            shared
                .counters
                .bytes_received
                .fetch_add(reader.frame.len() as u64, Relaxed);
            Ok((Bytes::from(reader.frame), opened.elapsed()))
        }
        Err(Unread::TooLarge) => {
            reader.refuse(code::TOO_LARGE);
            Err(Broken::last(QuicError::AnswerTooLarge))
        }
        Err(Unread::Stream(ReadError::Reset(code))) => Err(Broken::last(QuicError::of_code(code))),
        Err(Unread::Stream(ReadError::ConnectionLost(e))) => {
            Err(Broken::of_connection(&e, reader.frame.is_empty()))
        }
        Err(Unread::Stream(e)) => Err(Broken::last(QuicError::Lost {
            reason: e.to_string(),
        })),
    }
}

impl Broken {
    fn of_connection(error: &ConnectionError, before_answer: bool) -> Self {
        let error = QuicError::of_connection(error);
        Self {
            before_answer: before_answer && matches!(error, QuicError::Lost { .. }),
            error,
        }
    }

    const fn last(error: QuicError) -> Self {
        Self {
            error,
            before_answer: false,
        }
    }
}

/// Notices when a request is given up.
struct Asking<'a> {
    shared: &'a Shared,
    link: &'a InUse,
    send: Outgoing,
    answered: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.send.abandon();
            self.shared.pool.given_up(self.link.link(), &self.shared.line);
        }
    }
}

/// A stream to send one frame on; unless the whole frame was written, it is reset and never finished.
struct Outgoing {
    stream: SendStream,
    whole: bool,
    /// The code to reset it with.
    otherwise: VarInt,
}

impl Outgoing {
    const fn new(stream: SendStream, otherwise: VarInt) -> Self {
        Self {
            stream,
            whole: false,
            otherwise,
        }
    }

    async fn frame(&mut self, parts: &mut [Bytes]) -> Result<(), WriteError> {
        self.stream.write_all_chunks(parts).await?;
        self.whole = self.stream.finish().is_ok();
        Ok(())
    }

    /// Resets it even if all of it was written: what the peer does not have yet, it need not read.
    fn abandon(&mut self) {
        self.whole = true;
        // Closed already is what we want.
        let _ = self.stream.reset(self.otherwise);
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.whole {
            self.abandon();
        }
    }
}

/// Reads one frame into one buffer, never more than it may have. Reading may be given up and taken up again.
pub(super) struct FrameReader {
    recv: RecvStream,
    frame: Vec<u8>,
}

enum Unread {
    TooLarge,
    Stream(ReadError),
}

impl FrameReader {
    pub(super) const fn new(recv: RecvStream) -> Self {
        Self {
            recv,
            frame: Vec::new(),
        }
    }

    async fn read(&mut self, limit: usize) -> Result<(), Unread> {
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        while let Some(count) = self.recv.read_chunks(&mut chunks).await.map_err(Unread::Stream)? {
            let more = chunks[..count].iter().map(Bytes::len).sum::<usize>();
            if self.frame.len() + more > limit {
                return Err(Unread::TooLarge);
            }
            // Most frames arrive in one piece and get a buffer of their size; it grows only with what has really come.
            self.frame.reserve(more);
            for chunk in &mut chunks[..count] {
                self.frame.extend_from_slice(&std::mem::take(chunk));
            }
        }
        Ok(())
    }

    fn refuse(&mut self, code: VarInt) {
        // Ended already is what we want.
        let _ = self.recv.stop(code);
    }
}

/// A stream that a peer opened, of which the request is still being read.
pub(super) struct Asked {
    shared: Arc<Shared>,
    link: InUse,
    reader: FrameReader,
    send: Outgoing,
}

impl Asked {
    pub(super) fn new(shared: Arc<Shared>, link: InUse, send: SendStream, recv: RecvStream) -> Self {
        Self {
            shared,
            link,
            reader: FrameReader::new(recv),
            send: Outgoing::new(send, code::CANCELLED),
        }
    }

    /// Reads to the end of the request. Cancel-safe: may be called again.
    ///
    /// Returns whether there is a request; if not, the stream was refused.
    pub(super) async fn read(&mut self) -> bool {
        // One byte more than a frame, for the type of the stream.
        let refusal = match self.reader.read(1 + MAX_FRAME).await {
            Ok(()) if matches!(self.reader.frame.first(), Some(&(STREAM_RPC | STREAM_REACH))) => return true,
            Ok(()) => code::UNKNOWN_STREAM,
            Err(Unread::TooLarge) => code::TOO_LARGE,
            // The peer gave it up, or is gone: nobody to be told, nothing refused.
            Err(Unread::Stream(_)) => return false,
        };
        self.refuse(refusal);
        false
    }

    pub(super) fn refuse(&mut self, code: VarInt) {
        self.reader.refuse(code);
        self.send.otherwise = code;
        self.shared.counters.requests_refused.fetch_add(1, Relaxed);
        if code == code::UNKNOWN_STREAM {
            self.shared.counters.unknown_streams.fetch_add(1, Relaxed);
        } else if code == code::TOO_SLOW {
            self.shared.counters.slow_streams.fetch_add(1, Relaxed);
        }
    }

    /// Hands the whole request to whoever accepts, or refuses it as Busy.
    pub(super) fn deliver(mut self) {
        let Some(admitted) = Admitted::new(&self.shared, self.link.link()) else {
            self.refuse(code::BUSY);
            return;
        };
        let mut frame = Bytes::from(self.reader.frame);
        let kind = frame.split_to(1);
        self.shared
            .counters
            .bytes_received
            .fetch_add(frame.len() as u64, Relaxed);
        self.send.otherwise = code::BUSY;
        if kind[0] == STREAM_REACH {
            self.shared.counters.reach_requests.fetch_add(1, Relaxed);
            let reply = QuicReply {
                send: self.send,
                link: self.link,
                admitted,
            };
            if let Some(knock) = Knock::new(frame, reply) {
                self.shared.reach.deliver(knock);
            }
            return;
        }
        let link = self.link.link();
        // A peer behind a NAT may have moved; the address is shared as long as it has not. It is passed on to others,
        // so it counts once it is proven.
        let now = link.whereabouts().at;
        let address = match crate::WireAddress::sockets(&link.address) {
            [then] if *then == now => link.address.clone(),
            _ => QuicAddress::from(now),
        };
        let address = self.shared.with_other_family(&link.peer, address);
        self.shared.deliver(Inbound {
            from: Contact::new(link.peer, address),
            frame,
            reply: QuicReply {
                send: self.send,
                link: self.link,
                admitted,
            },
        });
    }
}

/// How to answer one request of a peer; dropped, it tells the peer Busy.
pub struct QuicReply {
    send: Outgoing,
    link: InUse,
    admitted: Admitted,
}

impl QuicReply {
    /// The connection over which it goes.
    pub(super) const fn link(&self) -> &InUse {
        &self.link
    }
}

impl fmt::Debug for QuicReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicReply")
            .field("to", &self.link.link().peer)
            .finish_non_exhaustive()
    }
}

impl Reply for QuicReply {
    /// Sends the answer. A frame that is too large is not sent, and the peer is told Busy; one that the peer does not
    /// read within the deadline for streams is given up.
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream: the peer never takes part of the answer for the whole.
    async fn send(mut self, frame: Bytes) {
        let size = frame.len();
        if size > MAX_FRAME {
            tracing::error!(size, "an answer larger than a frame was not sent");
            return;
        }
        let shared = self.admitted.shared().clone();
        let mut parts = [frame];
        let sent = tokio::time::timeout(shared.limits.stream_deadline, self.send.frame(&mut parts)).await;
        match sent {
            Ok(Ok(())) => {
                shared.counters.bytes_sent.fetch_add(size as u64, Relaxed);
            }
            // The peer gave up, or is gone.
            Ok(Err(_)) => {}
            Err(_) => {
                shared.counters.slow_streams.fetch_add(1, Relaxed);
            }
        }
    }
}

/// Pieces taken from a stream at once: a batch of packets as the system hands it over.
const CHUNKS: usize = 16;
