//! The store's thread: drain a batch, apply it, flush once, answer.
//!
//! An acknowledgement on the wire means durable, and a flush costs the same for one record as for a hundred, so records
//! that arrive together share one. Reads do not come here: they see the last flush, from wherever they are made.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use kad_core::{Slot, Source, StoreEntry, StoreReply, UnixTime, Verdict};
use kad_store::{Put, RecordStore, StoreError, Tally, Usage};

/// Writes that wait for the store's thread; more are answered [`StoreReply::Failed`], which a peer sees as a refusal. With
/// records of the largest size this is 64 MiB, with ordinary ones 1 MiB.
const MAX_WAITING: usize = 1024;

/// Writes that share one flush at most, so that the first does not wait for a crowd.
const MAX_BATCH: usize = 256;

/// Damaged records that the disk did not let go of, which are not tried again before the next start. More than so many
/// and the disk is beyond help; then no further one is tried.
const MAX_HOPELESS: usize = 1024;

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
    },
    Expire {
        now: UnixTime,
        limit: usize,
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
    pub(crate) fn start<S: RecordStore>(store: S, damaged: Vec<Slot>) -> io::Result<Self> {
        let (writes, waiting) = sync_channel(MAX_WAITING);
        let counters = Arc::new(Counters::default());
        counters.note_usage(store.usage());
        let thread = std::thread::Builder::new()
            .name("kad-store".into())
            .stack_size(256 * 1024)
            .spawn({
                let counters = counters.clone();
                move || run(store, damaged, &waiting, &counters)
            })?;
        Ok(Self {
            writes: Mutex::new(Some(writes)),
            thread: Mutex::new(Some(thread)),
            counters,
        })
    }

    /// Keeps records; `done` is called on the store's thread once they are durable or refused. False, and no call, if too
    /// much waits already.
    #[must_use]
    pub(crate) fn put(
        &self,
        entries: Vec<StoreEntry>,
        due: UnixTime,
        own: bool,
        source: Source,
        done: impl FnOnce(StoreReply) + Send + 'static,
    ) -> bool {
        let kind = WriteKind::Put {
            entries,
            due,
            own,
            source,
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

fn run<S: RecordStore>(mut store: S, damaged: Vec<Slot>, waiting: &Receiver<Write>, counters: &Counters) {
    let mut hopeless = BTreeSet::new();
    for slot in damaged {
        tracing::error!(key = %slot.key, "a stored record is damaged; it is ignored");
        discard(&mut store, slot, &mut hopeless, counters);
    }
    while let Ok(first) = waiting.recv() {
        let mut done = Vec::new();
        for write in std::iter::once(first).chain(waiting.try_iter().take(MAX_BATCH - 1)) {
            match write {
                Write::Answered(kind, answer) => {
                    let reply = apply(&mut store, kind, &mut done, counters);
                    done.push((answer, reply));
                }
                Write::Discard(slot) => {
                    // Alone: if the page does not let go of it, the writes of others must not fail with it.
                    flush(&mut store, &mut done, counters);
                    discard(&mut store, slot, &mut hopeless, counters);
                }
            }
        }
        flush(&mut store, &mut done, counters);
    }
}

type Waiting = Vec<(Done, StoreReply)>;

fn apply<S: RecordStore>(
    store: &mut S,
    kind: WriteKind,
    done: &mut Waiting,
    counters: &Counters,
) -> StoreReply {
    match kind {
        WriteKind::Put {
            entries,
            due,
            own,
            source,
        } => {
            let mut verdicts = Vec::with_capacity(entries.len());
            for entry in entries {
                let record = match &entry.record {
                    Ok(record) => record,
                    Err(error) => {
                        verdicts.push(Verdict::Refused(*error));
                        continue;
                    }
                };
                let put = Put {
                    record,
                    expected: entry.expected,
                    due,
                    own,
                    source,
                };
                let verdict = match store.put(put) {
                    Err(StoreError::BatchFull) => {
                        if !flush(store, done, counters) {
                            verdicts.fill(Verdict::Failed);
                        }
                        store.put(put)
                    }
                    other => other,
                };
                verdicts.push(verdict.unwrap_or_else(|error| {
                    tracing::error!(%error, "a record could not be stored");
                    counters.failures.fetch_add(1, Ordering::Relaxed);
                    Verdict::Failed
                }));
                counters.puts.fetch_add(1, Ordering::Relaxed);
            }
            StoreReply::Put(verdicts)
        }
        WriteKind::Expire { now, limit } => match store.expire(now, limit) {
            Ok(removed) => StoreReply::Expired {
                more: removed >= limit,
            },
            Err(error) => {
                tracing::error!(%error, "expired records could not be removed");
                StoreReply::Failed
            }
        },
    }
}

/// Forgets a damaged record, once if it does not work.
fn discard<S: RecordStore>(store: &mut S, slot: Slot, hopeless: &mut BTreeSet<Slot>, counters: &Counters) {
    if hopeless.contains(&slot) || hopeless.len() >= MAX_HOPELESS {
        return;
    }
    let discarded = store
        .discard(&slot)
        .and_then(|discarded| store.flush().map(|()| discarded));
    counters.note_usage(store.usage());
    match discarded {
        Ok(discarded) => {
            counters
                .discarded
                .fetch_add(u64::from(discarded), Ordering::Relaxed);
        }
        Err(error) => {
            tracing::error!(key = %slot.key, %error, "a damaged record could not be forgotten; check the disk");
            counters.failures.fetch_add(1, Ordering::Relaxed);
            hopeless.insert(slot);
        }
    }
}

/// One flush for all that wait; if it fails, none of them is acknowledged. Says whether it succeeded.
fn flush<S: RecordStore>(store: &mut S, done: &mut Waiting, counters: &Counters) -> bool {
    let started = Instant::now();
    let flushed = store.flush();
    counters.flushes.fetch_add(1, Ordering::Relaxed);
    counters
        .flush_micros
        .fetch_add(started.elapsed().as_micros() as u64, Ordering::Relaxed);
    counters.note_usage(store.usage());
    *counters.tally.lock().unwrap_or_else(PoisonError::into_inner) = store.tally();
    if let Err(error) = &flushed {
        tracing::error!(%error, "the store could not be flushed");
        counters.failures.fetch_add(done.len() as u64, Ordering::Relaxed);
    }
    for (answer, reply) in done.drain(..) {
        answer(if flushed.is_ok() {
            reply
        } else {
            StoreReply::Failed
        });
    }
    flushed.is_ok()
}
