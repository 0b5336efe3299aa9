//! The store's thread: drain a batch, apply it, flush once, answer.
//!
//! An acknowledgement on the wire means durable, and a flush costs the same for one record as for a hundred, so records
//! that arrive together share one. Reads do not come here: they see the last flush, from wherever they are made.

mod purge;
mod writer;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use kad_core::{NodeId, Slot, Source, StoreEntry, StoreReply, UnixTime};
use kad_store::{RecordStore, Tally, Usage};

pub(crate) use self::purge::purge;
use self::writer::Writer;
use crate::policy::Policy;

/// Writes that wait for the store's thread; more are answered [`StoreReply::Failed`], which a peer sees as a refusal.
/// With records of the largest size this is 64 MiB, with ordinary ones 1 MiB.
const MAX_WAITING: usize = 1024;

/// One write.
enum Write {
    /// With how to answer it.
    Answered(WriteKind, Done),
    /// Forget a damaged record; nobody waits for it.
    Discard(Slot),
}

type Done = Box<dyn FnOnce(StoreReply) + Send>;

enum WriteKind {
    Put {
        entries: Vec<StoreEntry>,
        due: UnixTime,
        own: bool,
        source: Source,
        sender: Option<NodeId>,
    },
    Expire {
        now: UnixTime,
        limit: usize,
    },
    Forget {
        slots: Vec<Slot>,
    },
}

/// What the store's thread has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageStats {
    /// Records held, tombstones included.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records written.
    pub puts: u64,
    /// Flushes to the disk; puts divided by this is what group commit saves.
    pub flushes: u64,
    /// Microseconds spent in flushes.
    pub flush_micros: u64,
    /// Writes that failed, or found no room to wait.
    pub failures: u64,
    /// Damaged records that were forgotten, so that the next comparison with others fetches them again.
    pub discarded: u64,
    /// Records given up for nearer ones because the store was full.
    pub evicted: u64,
    /// Providers given up for others because their key was full.
    pub displaced: u64,
    /// Records refused because the store was full of nearer ones.
    pub full_store: u64,
    /// Records refused because their sender had reached its limit.
    pub full_source: u64,
    /// Providers refused because their key was full.
    pub full_key: u64,
    /// Own records refused because these had reached their limits.
    pub full_own: u64,
}

#[derive(Debug, Default)]
struct Counters {
    records: AtomicU64,
    bytes: AtomicU64,
    puts: AtomicU64,
    flushes: AtomicU64,
    flush_micros: AtomicU64,
    failures: AtomicU64,
    discarded: AtomicU64,
    tally: Mutex<Tally>,
}

impl Counters {
    fn note_usage(&self, usage: Usage) {
        self.records.store(usage.records, Ordering::Relaxed);
        self.bytes.store(usage.bytes, Ordering::Relaxed);
    }

    fn tally(&self) -> Tally {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing half of a store, on a thread of its own.
pub(crate) struct Storage {
    writes: Mutex<Option<SyncSender<Write>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    counters: Arc<Counters>,
}

impl Storage {
    /// Begins with forgetting those records that are known to be damaged.
    pub(crate) fn start<S: RecordStore>(
        store: S,
        damaged: Vec<Slot>,
        policy: Arc<Policy>,
    ) -> io::Result<Self> {
        let (writes, waiting) = sync_channel(MAX_WAITING);
        let counters = Arc::new(Counters::default());
        counters.note_usage(store.usage());
        let thread = std::thread::Builder::new()
            .name("kad-store".into())
            .stack_size(256 * 1024)
            .spawn({
                let counters = counters.clone();
                move || Writer::new(store, policy, counters).run(damaged, &waiting)
            })?;
        Ok(Self {
            writes: Mutex::new(Some(writes)),
            thread: Mutex::new(Some(thread)),
            counters,
        })
    }

    /// Keeps records; `done` is called on the store's thread once they are durable or refused. False, and no call, if
    /// too much waits already.
    #[must_use]
    pub(crate) fn put(
        &self,
        entries: Vec<StoreEntry>,
        due: UnixTime,
        own: bool,
        (source, sender): (Source, Option<NodeId>),
        done: impl FnOnce(StoreReply) + Send + 'static,
    ) -> bool {
        let kind = WriteKind::Put {
            entries,
            due,
            own,
            source,
            sender,
        };
        self.send(Write::Answered(kind, Box::new(done)))
    }

    /// Removes what has expired; answers as [`put`](Self::put) does.
    #[must_use]
    pub(crate) fn expire(
        &self,
        now: UnixTime,
        limit: usize,
        done: impl FnOnce(StoreReply) + Send + 'static,
    ) -> bool {
        self.send(Write::Answered(WriteKind::Expire { now, limit }, Box::new(done)))
    }

    /// Forgets a record that is damaged, when there is time for it.
    pub(crate) fn discard(&self, slot: Slot) {
        // With no room to wait it stays, and is found again by whoever reads it next.
        let _ = self.send(Write::Discard(slot));
    }

    /// Removes what is in these slots, and waits until that is durable. False if it is not: the store is closed, or
    /// could not write.
    pub(crate) fn forget(&self, slots: Vec<Slot>) -> bool {
        // Nobody else waits for the lock while this waits for room.
        let writes = self.writes.lock().ok().and_then(|writes| writes.clone());
        let (done, told) = sync_channel(1);
        let answer = Box::new(move |reply| {
            // Who asked is still there.
            let _ = done.send(reply);
        });
        let write = Write::Answered(WriteKind::Forget { slots }, answer);
        writes.is_some_and(|writes| writes.send(write).is_ok())
            && matches!(told.recv(), Ok(StoreReply::Expired { .. }))
    }

    pub(crate) fn stats(&self) -> StorageStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let tally = self.counters.tally();
        StorageStats {
            records: read(&self.counters.records),
            bytes: read(&self.counters.bytes),
            puts: read(&self.counters.puts),
            flushes: read(&self.counters.flushes),
            flush_micros: read(&self.counters.flush_micros),
            failures: read(&self.counters.failures),
            discarded: read(&self.counters.discarded),
            evicted: tally.evicted,
            displaced: tally.displaced,
            full_store: tally.full_store,
            full_source: tally.full_source,
            full_key: tally.full_key,
            full_own: tally.full_own,
        }
    }

    /// Takes no more writes, and waits until those that wait are flushed. Idempotent.
    pub(crate) fn close(&self) {
        drop(self.writes.lock().ok().and_then(|mut writes| writes.take()));
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the store's thread has panicked");
        }
    }

    fn send(&self, write: Write) -> bool {
        let sent = match self.writes.lock() {
            Ok(writes) => writes
                .as_ref()
                .is_some_and(|writes| writes.try_send(write).is_ok()),
            Err(_) => false,
        };
        if !sent {
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }
}

#[cfg(test)]
mod tests;
