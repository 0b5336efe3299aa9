//! What one end knows of a connection: its streams, what waits to be accepted, and whether it has ended.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use quinn::VarInt;
use tokio::sync::{Notify, Semaphore, mpsc, watch};

use super::{ConnectionError, DatagramError, Handle, Protocol};
use crate::quic::application::header::ConnectionId;
use crate::quic::error::code;
use crate::quic::peering::{Counted, Peering, ended_with};
use crate::quic::stream::{Attachment, Desk, Pump, Stream};
use crate::quic::tasks::Alive;

/// Streams that one side of a connection may have open. Full: opening waits.
pub(in crate::quic) const MAX_STREAMS: usize = 64;

/// Streams of a peer that are kept here: it may take one for over of which we have not heard yet. Full: refused.
const MAX_STREAMS_OF_PEER: usize = 2 * MAX_STREAMS;

/// Streams of all peers and connections together: each may hold 16 KiB whatever the others hold. Full: refused.
const MAX_STREAMS_IN_ALL: usize = 4096;

/// The same of one peer, so that eight are needed to leave nothing for the others. Full: refused.
const MAX_STREAMS_OF_ONE: usize = 512;

/// Datagrams of one connection that wait to be read: some 150 KiB. Full: the newest is lost.
const MAX_DATAGRAMS: usize = 128;

/// How far a stream may come behind later ones, in numbers. More: it is taken for one that is over.
const MAX_BEHIND: usize = 1024;

/// See the module.
pub(in crate::quic) struct State {
    pub(in crate::quic) id: ConnectionId,
    pub(in crate::quic) protocol: Protocol,
    /// Whether this end opened it.
    pub(in crate::quic) dialled: bool,
    pub(in crate::quic) peering: Arc<Peering>,
    ended: watch::Sender<Option<ConnectionError>>,
    streams: Mutex<Streams>,
    /// Places for streams of our own.
    places: Arc<Semaphore>,
    /// Streams of the peer that wait to be accepted: there is room for all that it may open.
    arrived: mpsc::Sender<Arc<Desk>>,
    arrivals: tokio::sync::Mutex<mpsc::Receiver<Arc<Desk>>>,
    datagram: mpsc::Sender<Bytes>,
    datagrams: tokio::sync::Mutex<mpsc::Receiver<Bytes>>,
    /// The peer has taken more of some stream, or a stream is over.
    pub(in crate::quic) delivered: Notify,
}

#[derive(Default)]
struct Streams {
    /// By their numbers.
    ours: HashMap<u64, Arc<Desk>>,
    theirs: HashMap<u64, Theirs>,
    opened: u64,
    seen: Seen,
}

/// A stream that the peer has opened.
struct Theirs {
    desk: Arc<Desk>,
    epoch: u32,
    attach: mpsc::Sender<Attachment>,
}

impl State {
    pub(in crate::quic) fn new(
        id: ConnectionId,
        protocol: Protocol,
        dialled: bool,
        peering: Arc<Peering>,
    ) -> Arc<Self> {
        let (arrived, arrivals) = mpsc::channel(MAX_STREAMS_OF_PEER);
        let (datagram, datagrams) = mpsc::channel(MAX_DATAGRAMS);
        Arc::new(Self {
            id,
            protocol,
            dialled,
            peering,
            ended: watch::Sender::new(None),
            streams: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_STREAMS)),
            arrived,
            arrivals: tokio::sync::Mutex::new(arrivals),
            datagram,
            datagrams: tokio::sync::Mutex::new(datagrams),
            delivered: Notify::new(),
        })
    }

    /// Why it has ended, once it has.
    pub(in crate::quic) fn ended(&self) -> watch::Receiver<Option<ConnectionError>> {
        self.ended.subscribe()
    }

    /// It has ended; the first reason counts.
    pub(in crate::quic) fn end(&self, error: ConnectionError) {
        let first = self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(error);
            first
        });
        if first {
            // Every task of a stream that is left ends by itself; what they hold in use is let go at once.
            let streams = std::mem::take(&mut *self.lock());
            let desks = streams.ours.into_values();
            let desks = desks.chain(streams.theirs.into_values().map(|theirs| theirs.desk));
            let error = self.ended.borrow().clone().unwrap_or(ConnectionError::ClosedHere);
            desks.for_each(|desk| desk.end(error.clone().into()));
        }
    }

    fn check(&self) -> Result<(), ConnectionError> {
        self.ended.borrow().clone().map_or(Ok(()), Err)
    }

    pub(super) async fn open(self: &Arc<Self>, handle: &Arc<Handle>) -> Result<Stream, ConnectionError> {
        let mut ended = self.ended();
        let place = tokio::select! {
            biased;
            error = ended_with(&mut ended) => return Err(error),
            place = self.places.clone().acquire_owned() => place,
        };
        // Nobody closes the semaphore.
        let (Ok(place), Some(alive)) = (place, self.peering.all.token()) else {
            return Err(ConnectionError::TransportClosed);
        };
        let desk = Desk::new(self.peering.buffered.clone());
        desk.hold(handle.clone());
        let number = {
            let mut streams = self.lock();
            let number = streams.opened;
            streams.opened += 1;
            streams.ours.insert(number, desk.clone());
            number
        };
        let pump = Pump {
            desk: desk.clone(),
            connection: self.clone(),
            number,
        };
        tokio::spawn(async move {
            pump.open().await;
            drop((place, alive));
        });
        // If it has ended meanwhile, the pump ends the stream.
        Ok(Stream::new(desk, handle.clone()))
    }

    pub(super) async fn accept(&self, handle: &Arc<Handle>) -> Result<Stream, ConnectionError> {
        let mut arrivals = self.arrivals.lock().await;
        let mut ended = self.ended();
        let desk = tokio::select! {
            biased;
            Some(desk) = arrivals.recv() => desk,
            error = ended_with(&mut ended) => return Err(error),
        };
        drop(arrivals);
        desk.hold(handle.clone());
        Ok(Stream::new(desk, handle.clone()))
    }

    /// A stream of the peer begins or goes on over a path. Given back with a code if it may not.
    pub(in crate::quic) fn take_stream(
        self: &Arc<Self>,
        number: u64,
        epoch: u32,
        attachment: Attachment,
        alive: Alive,
    ) -> Result<(), (Attachment, VarInt)> {
        if number >= NUMBERS {
            return Err((attachment, code::VIOLATION));
        }
        let mut streams = self.lock();
        if self.check().is_err() {
            return Err((attachment, code::CONNECTION_CLOSED));
        }
        let open = streams.theirs.len();
        let old = streams.seen.has(number);
        match streams.theirs.entry(number) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                if epoch <= known.epoch {
                    return Err((attachment, code::MOVED));
                }
                // A peer that moves faster than we follow has to wait.
                known.attach.try_send(attachment).map_err(|e| match e {
                    mpsc::error::TrySendError::Full(attachment) => (attachment, code::BUSY),
                    mpsc::error::TrySendError::Closed(attachment) => (attachment, code::OVER),
                })?;
                known.epoch = epoch;
                Ok(())
            }
            Entry::Vacant(_) if old => Err((attachment, code::OVER)),
            Entry::Vacant(place) => {
                let counted = Counted::new(&self.peering.all.streams, MAX_STREAMS_IN_ALL);
                let own = Counted::new(&self.peering.streams, MAX_STREAMS_OF_ONE);
                let (Some(counted), Some(own), true) = (counted, own, open < MAX_STREAMS_OF_PEER) else {
                    return Err((attachment, code::BUSY));
                };
                let desk = Desk::new(self.peering.buffered.clone());
                // As long as the streams that a peer may have; those that wait are among them.
                if self.arrived.try_send(desk.clone()).is_err() {
                    return Err((attachment, code::BUSY));
                }
                let (attach, attachments) = mpsc::channel(MAX_MOVES);
                place.insert(Theirs {
                    desk: desk.clone(),
                    epoch,
                    attach,
                });
                streams.seen.note(number);
                drop(streams);
                let pump = Pump {
                    desk,
                    connection: self.clone(),
                    number,
                };
                tokio::spawn(async move {
                    pump.answer(attachment, attachments).await;
                    drop((counted, own, alive));
                });
                Ok(())
            }
        }
    }

    /// A stream is over, and nothing is left to say about it.
    pub(in crate::quic) fn stream_over(&self, desk: &Arc<Desk>, number: u64) {
        let mut streams = self.lock();
        let ours = streams
            .ours
            .get(&number)
            .is_some_and(|known| Arc::ptr_eq(known, desk));
        if ours {
            streams.ours.remove(&number);
        } else if streams
            .theirs
            .get(&number)
            .is_some_and(|known| Arc::ptr_eq(&known.desk, desk))
        {
            streams.theirs.remove(&number);
        }
        drop(streams);
        self.delivered.notify_waiters();
    }

    /// Resolves once the peer has taken everything that was shut down.
    pub(in crate::quic) async fn until_delivered(&self) {
        loop {
            let delivered = self.delivered.notified();
            tokio::pin!(delivered);
            // Before the look, so that nothing is missed in between.
            delivered.as_mut().enable();
            let finishing = {
                let streams = self.lock();
                let theirs = streams.theirs.values().map(|theirs| &theirs.desk);
                streams
                    .ours
                    .values()
                    .chain(theirs)
                    .any(|desk| desk.is_finishing())
            };
            if !finishing {
                return;
            }
            delivered.await;
        }
    }

    pub(super) fn send_datagram(&self, datagram: &[u8]) -> Result<(), DatagramError> {
        self.check()?;
        let Some(path) = self.peering.best().borrow().clone() else {
            // Lost, as any datagram may be.
            return Ok(());
        };
        let most = path.connection.max_datagram_size().unwrap_or(0);
        let most = most.saturating_sub(ConnectionId::SHORT);
        if datagram.len() > most {
            return Err(DatagramError::TooLarge {
                size: datagram.len(),
                most,
            });
        }
        let mut bytes = BytesMut::with_capacity(ConnectionId::SHORT + datagram.len());
        bytes.put_slice(&self.id.short());
        bytes.put_slice(datagram);
        // A path that has just died, or shrunk, loses it.
        let _ = path.connection.send_datagram(bytes.freeze());
        Ok(())
    }

    pub(in crate::quic) fn take_datagram(&self, datagram: Bytes) {
        // Full: lost, as any datagram may be.
        let _ = self.datagram.try_send(datagram);
    }

    pub(super) async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        let mut datagrams = self.datagrams.lock().await;
        let mut ended = self.ended();
        tokio::select! {
            biased;
            Some(datagram) = datagrams.recv() => Ok(datagram),
            error = ended_with(&mut ended) => Err(error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves of one stream that wait to be followed. A stream that the peer moves faster is refused there.
const MAX_MOVES: usize = 4;

/// Numbers of streams are smaller. Nobody opens so many, and sums of them do not overflow.
const NUMBERS: u64 = 1 << 62;

/// Which numbers of streams have come, so that none begins twice: all below a floor, and some above.
#[derive(Default)]
struct Seen {
    floor: u64,
    above: BTreeSet<u64>,
}

impl Seen {
    fn has(&self, number: u64) -> bool {
        number < self.floor || self.above.contains(&number)
    }

    fn note(&mut self, number: u64) {
        self.above.insert(number);
        while self.above.remove(&self.floor) {
            self.floor += 1;
        }
        // Those that are missing below come too late.
        while self.above.len() > MAX_BEHIND
            && let Some(lowest) = self.above.pop_first()
        {
            self.floor = lowest + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The oracle remembers everything.
        #[test]
        fn no_stream_begins_twice(numbers in proptest::collection::vec(0u64..5_000, 1..4_000)) {
            let mut seen = Seen::default();
            let mut all = BTreeSet::new();
            for number in numbers {
                prop_assert!(seen.has(number) || !all.contains(&number));
                if !seen.has(number) {
                    seen.note(number);
                }
                all.insert(number);
                prop_assert!(seen.above.len() <= MAX_BEHIND);
            }
        }
    }

    #[test]
    fn streams_that_come_in_any_near_order_all_begin() {
        let mut seen = Seen::default();
        for base in (0..100_000).step_by(100) {
            for number in (base..base + 100).rev() {
                assert!(!seen.has(number));
                seen.note(number);
                assert!(seen.has(number));
            }
        }
        assert_eq!((seen.floor, seen.above.len()), (100_000, 0));
    }
}
