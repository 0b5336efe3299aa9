//! The thread that owns the writing half of a store.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use kad_core::{
    Kind, NodeId, RawRecord, Record, RecordError, Slot, Source, StoreEntry, StoreReply, UnixTime, Verdict,
};
use kad_store::{Put, RecordReader as _, RecordStore, StoreError};

use super::{Counters, Done, Write, WriteKind, purge};
use crate::driver::unix_now;
use crate::policy::Policy;

/// Writes that share one flush at most, so that the first does not wait for a crowd.
const MAX_BATCH: usize = 256;

/// Damaged records that the disk did not let go of, which are not tried again before the next start. More than so many
/// and the disk is beyond help; then no further one is tried.
const MAX_HOPELESS: usize = 1024;

/// The store, and what waits for its next flush.
pub(super) struct Writer<S: RecordStore> {
    store: S,
    gate: Gate<S>,
    counters: Arc<Counters>,
    hopeless: BTreeSet<Slot>,
    /// Writes that are answered with the next flush.
    done: Vec<(Done, StoreReply)>,
}

/// Judges what comes.
struct Gate<S: RecordStore> {
    policy: Arc<Policy>,
    reader: S::Reader,
    /// What slots hold since the last flush, which readers do not see; `None` if that is nothing. Known only if an
    /// application chooses between versions. It has what the store has taken and not yet flushed, so it is bounded by
    /// [`MAX_BATCH_SLOTS`](kad_store::batch::MAX_BATCH_SLOTS).
    pending: HashMap<Slot, Option<RawRecord>>,
}

impl<S: RecordStore> Gate<S> {
    fn lets_in(&self, entry: &StoreEntry, put: &Put<'_>) -> bool {
        if purge::is_denied(&self.policy, entry) {
            return false;
        }
        // What the application itself puts is its own choice.
        if put.own {
            return true;
        }
        let slot = put.record.slot();
        let held = || match self.pending.get(&slot) {
            Some(pending) => pending.clone(),
            None => self.reader.get(&slot).ok().flatten().map(|stored| stored.raw),
        };
        match self.policy.may_replace(held, put.record, unix_now()) {
            Ok(()) => true,
            Err(until) => {
                // Or every comparison with somebody who has it would fetch it again. Should what is held go sooner, it
                // comes with a STORE, or with a comparison after that.
                self.policy.note_unwanted(put.record, until);
                false
            }
        }
    }

    fn note_stored(&mut self, record: &Record) {
        // Of an immutable value there is one version.
        if self.policy.chooses() && record.kind() != Kind::Immutable {
            self.pending.insert(record.slot(), Some(record.as_raw().clone()));
        }
    }

    fn note_removed(&mut self, slot: &Slot) {
        if self.policy.chooses() && slot.kind != Kind::Immutable {
            self.pending.insert(*slot, None);
        }
    }
}

impl<S: RecordStore> Writer<S> {
    pub(super) fn new(store: S, policy: Arc<Policy>, counters: Arc<Counters>) -> Self {
        let gate = Gate {
            policy,
            reader: store.reader(),
            pending: HashMap::new(),
        };
        Self {
            store,
            gate,
            counters,
            hopeless: BTreeSet::new(),
            done: Vec::new(),
        }
    }

    /// Runs until nobody can send a write any more. Begins with forgetting those records that are known to be damaged.
    pub(super) fn run(mut self, damaged: Vec<Slot>, waiting: &Receiver<Write>) {
        for slot in damaged {
            tracing::error!(key = %slot.key, "a stored record is damaged; it is ignored");
            self.discard(slot);
        }
        while let Ok(first) = waiting.recv() {
            for write in std::iter::once(first).chain(waiting.try_iter().take(MAX_BATCH - 1)) {
                match write {
                    Write::Answered(kind, answer) => {
                        let reply = self.apply(kind);
                        self.done.push((answer, reply));
                    }
                    Write::Discard(slot) => {
                        // Alone: if the page does not let go of it, the writes of others must not fail with it.
                        self.flush();
                        self.discard(slot);
                    }
                }
            }
            self.flush();
        }
    }

    fn apply(&mut self, kind: WriteKind) -> StoreReply {
        match kind {
            WriteKind::Put {
                entries,
                due,
                own,
                source,
                sender,
            } => self.put(entries, due, own, (source, sender)),
            WriteKind::Expire { now, limit } => match self.store.expire(now, limit) {
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
                    if let Err(error) = self.remove(&slot) {
                        tracing::error!(key = %slot.key, %error, "a record could not be removed");
                        return StoreReply::Failed;
                    }
                }
                StoreReply::Expired { more: false }
            }
        }
    }

    fn put(
        &mut self,
        entries: Vec<StoreEntry>,
        due: UnixTime,
        own: bool,
        (source, sender): (Source, Option<NodeId>),
    ) -> StoreReply {
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
                sender,
            };
            if !self.gate.lets_in(&entry, &put) {
                verdicts.push(Verdict::Refused(RecordError::Denied));
                continue;
            }
            let verdict = match self.store.put(put) {
                Err(StoreError::BatchFull) => {
                    if !self.flush() {
                        verdicts.fill(Verdict::Failed);
                    }
                    self.store.put(put)
                }
                other => other,
            };
            if matches!(verdict, Ok(Verdict::Stored)) {
                self.gate.note_stored(record);
            }
            verdicts.push(verdict.unwrap_or_else(|error| {
                tracing::error!(%error, "a record could not be stored");
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                Verdict::Failed
            }));
            self.counters.puts.fetch_add(1, Ordering::Relaxed);
        }
        StoreReply::Put(verdicts)
    }

    fn remove(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        let removed = match self.store.remove(slot) {
            Err(StoreError::BatchFull) => {
                self.flush();
                self.store.remove(slot)
            }
            other => other,
        };
        if matches!(removed, Ok(true)) {
            self.gate.note_removed(slot);
        }
        removed
    }

    /// Forgets a damaged record, once if it does not work.
    fn discard(&mut self, slot: Slot) {
        if self.hopeless.contains(&slot) || self.hopeless.len() >= MAX_HOPELESS {
            return;
        }
        let discarded = self.store.discard(&slot);
        let discarded = discarded.and_then(|discarded| self.store.flush().map(|()| discarded));
        self.counters.note_usage(self.store.usage());
        match discarded {
            Ok(discarded) => {
                let discarded = u64::from(discarded);
                self.counters.discarded.fetch_add(discarded, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::error!(key = %slot.key, %error, "a damaged record could not be forgotten; check the disk");
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                self.hopeless.insert(slot);
            }
        }
    }

    /// One flush for all that wait; if it fails, none of them is acknowledged. Says whether it succeeded.
    fn flush(&mut self) -> bool {
        let started = Instant::now();
        let flushed = self.store.flush();
        let counters = &self.counters;
        counters.flushes.fetch_add(1, Ordering::Relaxed);
        let micros = started.elapsed().as_micros() as u64;
        counters.flush_micros.fetch_add(micros, Ordering::Relaxed);
        counters.note_usage(self.store.usage());
        *counters.tally.lock().unwrap_or_else(PoisonError::into_inner) = self.store.tally();
        self.gate.pending.clear();
        if let Err(error) = &flushed {
            tracing::error!(%error, "the store could not be flushed");
            counters
                .failures
                .fetch_add(self.done.len() as u64, Ordering::Relaxed);
        }
        for (answer, reply) in self.done.drain(..) {
            answer(if flushed.is_ok() {
                reply
            } else {
                StoreReply::Failed
            });
        }
        flushed.is_ok()
    }
}
