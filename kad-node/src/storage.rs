//! The store's thread: drain a batch, apply it, flush once, answer.
//!
//! An acknowledgement on the wire means durable, and a flush costs the same for one record as for a hundred, so records
//! that arrive together share one. Reads do not come here: they see the last flush, from wherever they are made.

mod purge;

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use kad_core::{Kind, Record, RecordError, Slot, StoreEntry, StoreReply, UnixTime, Verdict};
use kad_store::{Put, RecordReader as _, RecordStore, StoreError, Usage};

pub(crate) use self::purge::purge;
use crate::driver::unix_now;
use crate::policy::Policy;

/// Writes that wait for the store's thread; more are answered [`StoreReply::Failed`], which a peer sees as a refusal. With
/// records of the largest size this is 64 MiB, with ordinary ones 1 MiB.
const MAX_WAITING: usize = 1024;

/// Writes that share one flush at most, so that the first does not wait for a crowd.
const MAX_BATCH: usize = 256;

/// One write, and how to answer it.
struct Write {
    kind: WriteKind,
    done: Box<dyn FnOnce(StoreReply) + Send>,
}

enum WriteKind {
    Put {
        entries: Vec<StoreEntry>,
        due: UnixTime,
        own: bool,
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
}

#[derive(Debug, Default)]
struct Counters {
    records: AtomicU64,
    bytes: AtomicU64,
    puts: AtomicU64,
    flushes: AtomicU64,
    flush_micros: AtomicU64,
    failures: AtomicU64,
}

impl Counters {
    fn note_usage(&self, usage: Usage) {
        self.records.store(usage.records, Ordering::Relaxed);
        self.bytes.store(usage.bytes, Ordering::Relaxed);
    }
}

/// The writing half of a store, on a thread of its own.
pub(crate) struct Storage {
    writes: Mutex<Option<SyncSender<Write>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    counters: Arc<Counters>,
}

impl Storage {
    pub(crate) fn start<S: RecordStore>(store: S, policy: Arc<Policy>) -> io::Result<Self> {
        let (writes, waiting) = sync_channel(MAX_WAITING);
        let counters = Arc::new(Counters::default());
        counters.note_usage(store.usage());
        let thread = std::thread::Builder::new()
            .name("kad-store".into())
            .stack_size(256 * 1024)
            .spawn({
                let counters = counters.clone();
                move || run(store, &waiting, &counters, policy)
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
        done: impl FnOnce(StoreReply) + Send + 'static,
    ) -> bool {
        self.send(Write {
            kind: WriteKind::Put { entries, due, own },
            done: Box::new(done),
        })
    }

    /// Removes what has expired; answers as [`put`](Self::put) does.
    #[must_use]
    pub(crate) fn expire(
        &self,
        now: UnixTime,
        limit: usize,
        done: impl FnOnce(StoreReply) + Send + 'static,
    ) -> bool {
        self.send(Write {
            kind: WriteKind::Expire { now, limit },
            done: Box::new(done),
        })
    }

    /// Removes what is in these slots, and waits until that is durable. False if it is not: the store is closed, or could
    /// not write.
    pub(crate) fn forget(&self, slots: Vec<Slot>) -> bool {
        // Nobody else waits for the lock while this waits for room.
        let writes = self.writes.lock().ok().and_then(|writes| writes.clone());
        let (done, told) = sync_channel(1);
        let write = Write {
            kind: WriteKind::Forget { slots },
            done: Box::new(move |reply| {
                // Who asked is still there.
                let _ = done.send(reply);
            }),
        };
        writes.is_some_and(|writes| writes.send(write).is_ok())
            && matches!(told.recv(), Ok(StoreReply::Expired { .. }))
    }

    pub(crate) fn stats(&self) -> StorageStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StorageStats {
            records: read(&self.counters.records),
            bytes: read(&self.counters.bytes),
            puts: read(&self.counters.puts),
            flushes: read(&self.counters.flushes),
            flush_micros: read(&self.counters.flush_micros),
            failures: read(&self.counters.failures),
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

/// Judges what comes to the store's thread.
struct Gate<S: RecordStore> {
    policy: Arc<Policy>,
    reader: S::Reader,
    /// Slots written since the last flush, which readers do not see; known only if an application chooses between versions.
    written: HashSet<Slot>,
}

impl<S: RecordStore> Gate<S> {
    /// Whether the application has to be asked, and what it would be asked about waits for a flush.
    fn is_blind(&self, record: &Record) -> bool {
        self.policy.chooses() && self.written.contains(&record.slot())
    }

    fn lets_in(&mut self, entry: &StoreEntry, record: &Record, own: bool) -> bool {
        let held = || {
            let stored = self.reader.get(&record.slot());
            stored.ok().flatten().map(|stored| stored.raw)
        };
        !purge::is_denied(&self.policy, entry) && (own || self.policy.may_replace(held, record, unix_now()))
    }

    fn note(&mut self, record: &Record) {
        if self.policy.chooses() && record.kind() != Kind::Immutable {
            self.written.insert(record.slot());
        }
    }
}

fn run<S: RecordStore>(mut store: S, waiting: &Receiver<Write>, counters: &Counters, policy: Arc<Policy>) {
    let mut gate = Gate::<S> {
        policy,
        reader: store.reader(),
        written: HashSet::new(),
    };
    while let Ok(first) = waiting.recv() {
        let mut done = Vec::new();
        for write in std::iter::once(first).chain(waiting.try_iter().take(MAX_BATCH - 1)) {
            let reply = apply(&mut store, &mut gate, write.kind, &mut done, counters);
            done.push((write.done, reply));
        }
        flush(&mut store, &mut done, counters);
        gate.written.clear();
    }
}

type Waiting = Vec<(Box<dyn FnOnce(StoreReply) + Send>, StoreReply)>;

fn apply<S: RecordStore>(
    store: &mut S,
    gate: &mut Gate<S>,
    kind: WriteKind,
    done: &mut Waiting,
    counters: &Counters,
) -> StoreReply {
    match kind {
        WriteKind::Put { entries, due, own } => {
            let mut verdicts = Vec::with_capacity(entries.len());
            for entry in entries {
                let record = match &entry.record {
                    Ok(record) => record,
                    Err(error) => {
                        verdicts.push(Verdict::Refused(*error));
                        continue;
                    }
                };
                if !own && gate.is_blind(record) {
                    if !flush(store, done, counters) {
                        verdicts.fill(Verdict::Failed);
                    }
                    gate.written.clear();
                }
                if !gate.lets_in(&entry, record, own) {
                    verdicts.push(Verdict::Refused(RecordError::Denied));
                    continue;
                }
                gate.note(record);
                let put = Put {
                    record,
                    expected: entry.expected,
                    due,
                    own,
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
        WriteKind::Forget { slots } => {
            for slot in slots {
                let removed = match store.remove(&slot) {
                    Err(StoreError::BatchFull) => {
                        flush(store, done, counters);
                        store.remove(&slot)
                    }
                    other => other,
                };
                if let Err(error) = removed {
                    tracing::error!(key = %slot.key, %error, "a record could not be removed");
                    return StoreReply::Failed;
                }
            }
            StoreReply::Expired { more: false }
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

#[cfg(test)]
mod tests;
