//! The task that carries one stream over the path in use, and from path to path.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::StreamError;
use super::desk::Desk;
use super::frames::{FrameCutter, Item};
use super::tape::Violation;
use crate::quic::application::header::Header;
use crate::quic::connection::{ConnectionError, State};
use crate::quic::error::code;
use crate::quic::peering::{Attached, Best, LivePath, another_path, ended_with, some_path};

/// A stream of QUIC on which the one who opened a stream begins it, or goes on with it.
pub(in crate::quic) struct Attachment {
    pub(in crate::quic) send: SendStream,
    pub(in crate::quic) recv: RecvStream,
    /// Of the next byte that the opener lacks.
    pub(in crate::quic) place: u64,
    /// Keeps the path.
    pub(in crate::quic) over: Attached,
}

/// See the module.
pub(in crate::quic) struct Pump {
    pub(in crate::quic) desk: Arc<Desk>,
    pub(in crate::quic) connection: Arc<State>,
    pub(in crate::quic) number: u64,
}

/// Why a stream runs over this path no more.
enum Leaves {
    /// Both sides have all.
    Over,
    /// There is a better one, or the path is dead.
    Moves,
    Fails(StreamError),
}

impl Pump {
    /// Carries a stream that this end has opened, until it is over.
    pub(in crate::quic) async fn open(self) {
        let error = self.run_ours().await.err();
        self.over(error);
    }

    /// Carries a stream that the peer has opened, until it is over.
    pub(in crate::quic) async fn answer(
        self,
        first: Attachment,
        mut attachments: mpsc::Receiver<Attachment>,
    ) {
        let error = self.run_theirs(first, &mut attachments).await.err();
        self.over(error);
        // From here on none is given to this stream any more; those that were a moment ago would wait in vain for a
        // place.
        attachments.close();
        while let Ok(mut late) = attachments.try_recv() {
            let _ = late.send.reset(code::OVER);
            let _ = late.recv.stop(code::OVER);
        }
    }

    fn over(&self, error: Option<StreamError>) {
        // Without an error both have all, so nobody will see this one.
        self.desk.end(error.unwrap_or(StreamError::ShutDown));
        self.connection.stream_over(&self.desk, self.number);
    }

    async fn run_ours(&self) -> Result<(), StreamError> {
        let mut best = self.connection.peering.best();
        let mut ended = self.connection.ended();
        for epoch in 0..=u32::MAX {
            let path = tokio::select! {
                error = ended_with(&mut ended) => return Err(error.into()),
                path = some_path(&mut best) => path,
                () = self.let_go() => return Err(StreamError::Lost),
            };
            match self.over_path(&path, epoch, &mut best, &mut ended).await {
                Leaves::Over => return Ok(()),
                Leaves::Fails(error) => return Err(error),
                Leaves::Moves => {}
            }
            self.desk.detach();
            // A dead path is not the best one for long.
            self.connection.peering.look_again();
            tokio::select! {
                error = ended_with(&mut ended) => return Err(error.into()),
                () = another_path(&mut best, &path) => {}
                () = self.let_go() => return Err(StreamError::Lost),
            }
        }
        Err(StreamError::Lost)
    }

    async fn over_path(
        &self,
        path: &Arc<LivePath>,
        epoch: u32,
        best: &mut Best,
        ended: &mut watch::Receiver<Option<ConnectionError>>,
    ) -> Leaves {
        let attached = path.attach(&self.connection.peering);
        let opened = tokio::select! {
            error = ended_with(ended) => return Leaves::Fails(error.into()),
            () = another_path(best, path) => return Leaves::Moves,
            () = self.let_go() => return Leaves::Fails(StreamError::Lost),
            opened = path.connection.open_bi() => opened,
        };
        let Ok((send, recv)) = opened else {
            return Leaves::Moves;
        };
        let header = Header::Stream {
            id: self.connection.id,
            number: self.number,
            epoch,
            place: self.desk.place(),
        };
        let mut wire = Wire::new(send, recv, header.bytes(), attached, true);
        if epoch == 0 {
            // The peer can have nothing yet: no need to wait for its word.
            if self.desk.attach(0).is_err() {
                return Leaves::Fails(StreamError::Violation);
            }
        }
        let moved = another_path(best, path);
        tokio::pin!(moved);
        let leaves = loop {
            let step = tokio::select! {
                error = ended_with(ended) => Err(Leaves::Fails(error.into())),
                () = &mut moved => Err(Leaves::Moves),
                step = wire.step(self) => step,
            };
            match step {
                Ok(Some(place)) if epoch == 0 && place == 0 => {}
                Ok(Some(place)) if epoch > 0 => {
                    if self.desk.attach(place).is_err() {
                        break Leaves::Fails(StreamError::Violation);
                    }
                }
                Ok(Some(_)) => break Leaves::Fails(StreamError::Violation),
                Ok(None) => {}
                Err(leaves) => break leaves,
            }
        };
        wire.leave(&leaves);
        let Leaves::Over = leaves else {
            return leaves;
        };
        // The last word may be lost with its path, and the peer waits for it: only this end can go on with the stream
        // elsewhere. So it keeps its place among those that are open until the peer's machine has all.
        tokio::select! {
            error = ended_with(ended) => Leaves::Fails(error.into()),
            () = &mut moved => Leaves::Moves,
            () = self.let_go() => Leaves::Fails(StreamError::Lost),
            heard = wire.send.stopped() => match heard {
                Err(StoppedError::ConnectionLost(_)) => Leaves::Moves,
                _ => Leaves::Over,
            },
        }
    }

    async fn run_theirs(
        &self,
        first: Attachment,
        attachments: &mut mpsc::Receiver<Attachment>,
    ) -> Result<(), StreamError> {
        let mut ended = self.connection.ended();
        let mut attachment = first;
        loop {
            self.desk.detach();
            // The newest of all that have come.
            while let Ok(newer) = attachments.try_recv() {
                attachment = newer;
            }
            let mut place = BytesMut::with_capacity(8);
            place.put_u64(self.desk.place());
            let mut wire = Wire::new(
                attachment.send,
                attachment.recv,
                place.freeze(),
                attachment.over,
                false,
            );
            if self.desk.attach(attachment.place).is_err() {
                wire.leave(&Leaves::Fails(StreamError::Violation));
                return Err(StreamError::Violation);
            }
            let mut newer = None;
            let leaves = loop {
                let step = tokio::select! {
                    error = ended_with(&mut ended) => Err(Leaves::Fails(error.into())),
                    Some(attachment) = attachments.recv() => {
                        newer = Some(attachment);
                        Err(Leaves::Moves)
                    }
                    step = wire.step(self) => step,
                };
                match step {
                    Ok(_) => {}
                    Err(leaves) => break leaves,
                }
            };
            wire.leave(&leaves);
            match leaves {
                Leaves::Over => return Ok(()),
                Leaves::Fails(error) => return Err(error),
                Leaves::Moves => {}
            }
            self.desk.detach();
            self.connection.peering.look_again();
            // The opener may wait for a path as long as its connections do, and this end has noticed the loss before
            // it.
            let limit = 2 * self.connection.peering.all.path_patience;
            attachment = match newer {
                Some(newer) => newer,
                None => tokio::select! {
                    error = ended_with(&mut ended) => return Err(error.into()),
                    Some(newer) = attachments.recv() => newer,
                    () = tokio::time::sleep(limit) => return Err(StreamError::Lost),
                    () = self.let_go() => return Err(StreamError::Lost),
                },
            };
        }
    }

    /// Resolves when the application has let go of the stream so long ago that it is given up.
    async fn let_go(&self) {
        loop {
            if let Some(since) = self.desk.abandoned() {
                return tokio::time::sleep_until(since + FAREWELL).await;
            }
            self.desk.changed().await;
        }
    }
}

/// A stream of QUIC in use by a stream of an application.
struct Wire {
    send: SendStream,
    recv: RecvStream,
    cutter: FrameCutter,
    /// What is to be written first.
    pending: [Bytes; 1],
    /// Whether this end opened the stream, and so is the one that moves it.
    ours: bool,
    /// The peer has ended its side, or reads no more.
    read_all: bool,
    write_none: bool,
    _over: Attached,
}

impl Wire {
    /// `first` goes out before all else. The answer to the opener of a stream begins with a place.
    fn new(send: SendStream, recv: RecvStream, first: Bytes, over: Attached, ours: bool) -> Self {
        Self {
            send,
            recv,
            cutter: FrameCutter::new(ours),
            pending: [first],
            ours,
            read_all: false,
            write_none: false,
            _over: over,
        }
    }

    /// Reads, writes, or waits for either; once. The place that the peer says to be at, if it did.
    ///
    /// # Cancel safety
    /// Cancel-safe: what was read was taken, and what was written is off the list.
    async fn step(&mut self, pump: &Pump) -> Result<Option<u64>, Leaves> {
        let desk = &pump.desk;
        if self.pending[0].is_empty() {
            self.pending[0] = desk.frames();
        }
        if self.write_none {
            self.pending[0].clear();
        }
        if self.pending[0].is_empty() && desk.is_over() {
            return Err(Leaves::Over);
        }
        if self.read_all && !desk.has_ended() {
            // It has said that it is over, and it is not.
            return Err(Leaves::Fails(StreamError::Violation));
        }
        let given_up = desk.abandoned().map(|since| since + FAREWELL);
        let may_read = !self.read_all && desk.may_read();
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        tokio::select! {
            read = self.recv.read_chunks(&mut chunks), if may_read => match read {
                Ok(Some(count)) => self.take(&mut chunks[..count], pump),
                Ok(None) => {
                    self.read_all = true;
                    Ok(None)
                }
                Err(ReadError::ConnectionLost(_)) => Err(Leaves::Moves),
                Err(ReadError::Reset(code)) => Err(self.refused(code, pump)),
                Err(_) => Err(Leaves::Fails(StreamError::Lost)),
            },
            written = self.send.write_chunks(&mut self.pending), if !self.pending[0].is_empty() => match written {
                Ok(_) => Ok(None),
                Err(WriteError::ConnectionLost(_)) => Err(Leaves::Moves),
                // It has all that it wants; whether that is all there is, it says the other way.
                Err(WriteError::Stopped(code::CANCELLED)) => {
                    self.write_none = true;
                    Ok(None)
                }
                Err(WriteError::Stopped(code)) => Err(self.refused(code, pump)),
                Err(_) => Err(Leaves::Fails(StreamError::Lost)),
            },
            () = desk.changed() => Ok(None),
            () = until(given_up) => Err(Leaves::Fails(StreamError::Lost)),
        }
    }

    fn take(&mut self, chunks: &mut [Bytes], pump: &Pump) -> Result<Option<u64>, Leaves> {
        let mut said = None;
        for chunk in chunks {
            loop {
                match self.cutter.next(chunk) {
                    Ok(None) => break,
                    // Only the first thing of a stream can be a place.
                    Ok(Some(Item::Place(place))) => said = Some(place),
                    Ok(Some(item)) => match pump.desk.take(&item) {
                        Ok(true) => pump.connection.delivered.notify_waiters(),
                        Ok(false) => {}
                        Err(violation) => return Err(broken(violation)),
                    },
                    Err(_) => return Err(Leaves::Fails(StreamError::Violation)),
                }
            }
        }
        Ok(said)
    }

    /// Tells the peer why nothing more comes here.
    fn leave(&mut self, leaves: &Leaves) {
        let code = match leaves {
            // What was written last is delivered by QUIC.
            Leaves::Over => {
                let _ = self.send.finish();
                return;
            }
            Leaves::Moves => code::MOVED,
            Leaves::Fails(StreamError::Violation) => code::VIOLATION,
            Leaves::Fails(StreamError::Connection(_)) => code::CONNECTION_CLOSED,
            Leaves::Fails(_) => code::OVER,
        };
        // Ended already is what we want.
        let _ = self.send.reset(code);
        let _ = self.recv.stop(code);
    }

    /// What it means that the peer ended the stream of QUIC with this code.
    fn refused(&self, code: VarInt, pump: &Pump) -> Leaves {
        let error = match code {
            code::MOVED if !self.ours => return Leaves::Moves,
            code::OVER if pump.desk.is_settled_if_forgotten() => return Leaves::Over,
            code::BUSY => return Leaves::Fails(StreamError::Busy),
            code::VIOLATION => return Leaves::Fails(StreamError::Violation),
            code::UNKNOWN_CONNECTION => ConnectionError::Forgotten,
            code::CONNECTION_CLOSED => ConnectionError::ClosedByPeer,
            _ => return Leaves::Fails(StreamError::Lost),
        };
        let connection = &pump.connection;
        connection.peering.forget(connection, error.clone(), false);
        Leaves::Fails(error.into())
    }
}

fn broken(violation: Violation) -> Leaves {
    tracing::debug!(?violation, "a peer broke the rules of streams");
    Leaves::Fails(StreamError::Violation)
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// How long a stream that its application let go of may take to tell the peer, and to deliver what was shut down.
const FAREWELL: Duration = Duration::from_secs(15);

/// Pieces taken from a stream of QUIC at once: a batch of packets as the system hands it over, twice.
const CHUNKS: usize = 32;
