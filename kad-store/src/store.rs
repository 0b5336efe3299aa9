//! The seam between a node and its disk: one writer, many readers.

use kad_core::{Fingerprint, NodeId, Prefix, RawRecord, Record, Slot, Source, UnixTime, Verdict};

use crate::batch::Shortage;
use crate::{MAX_PAGE_RECORDS, Page, Scan, StoreError};

/// The writing half of a store. Synchronous: a node gives it a thread of its own, drains a batch of requests into it,
/// flushes once and only then answers.
///
/// [`batch::Batch`](crate::batch::Batch) implements all rules but the disk, and
/// [`conformance::run`](crate::conformance::run) proves the whole.
///
/// # What has expired
/// The store has no clock. A record whose life is over is held, counts, and takes part in the order of versions until
/// [`expire`](Self::expire) removes it, so call that regularly; readers may see it and verify it away.
pub trait RecordStore: Send + 'static {
    /// The reading half.
    type Reader: RecordReader;

    /// Keeps a record if [`judge`](kad_core::record::judge) and the [`Limits`] let it.
    ///
    /// Later puts see it at once, readers after the next flush. What the verdict does to the slot:
    ///
    /// | verdict | bytes | expiry | due | own | source |
    /// |---|---|---|---|---|---|
    /// | `Stored` | the new ones | the new one | from the put* | once own, always own | from the put**, none of own ones |
    /// | `Unchanged` | as they were | the longer one | from the put* | once own, always own | from the put**, none of own ones |
    /// | `Full`, `Stale`, `Conflict` | as they were | as it was | as it was | as it was | as it was |
    ///
    /// * A put of others never moves the due time of an own record to later: its owner has to see it in time to renew
    ///   it.
    ///
    /// ** As it was if the put has no source, if its source has reached its limits, or if the bytes are those that are
    /// held and the sender is not their author. Who hands on what others announce would else count it for itself, and
    /// push it out with more of the same.
    ///
    /// `Full` is said only of records that would have been stored, or become own. A record that takes the place of
    /// another one is let in if it is no larger, even when the store is (over-)full.
    ///
    /// # When there is no room
    /// - Own records are counted apart. They compete with nobody and are never given up.
    /// - A sender that has reached its limit is told `Full`.
    /// - At a key that has all the providers it may have, withdrawals leave first. Then the places are shared evenly
    ///   among senders, and within a sender the providers nearest to the key stay: so either one leaves or the newcomer
    ///   is told `Full`.
    /// - A store that is full in all gives up what is farther from [`Limits::around`] than the newcomer, the farthest
    ///   first and of one key what ends first, at most [`MAX_EVICTED`](crate::batch::MAX_EVICTED) records for one; what
    ///   is so small that as many could not make room for the bytes stays. A sender that holds more than an even share
    ///   of the limits, all senders here counted, takes the place of its own records only. If that is not enough, or
    ///   not found within [`MAX_LOOKED`](crate::batch::MAX_LOOKED) slots
    ///   ([`MAX_LOOKED_FOR_OWN_PLACE`](crate::batch::MAX_LOOKED_FOR_OWN_PLACE) for such a sender), it is told `Full`,
    ///   and nothing is given up.
    /// - A store that holds more than lowered limits allow takes what is nearer all the same, and holds no more after
    ///   it.
    ///
    /// # Errors
    /// [`StoreError::BatchFull`] asks for a flush; others come from reading what is held. The slot is as it was.
    fn put(&mut self, put: Put<'_>) -> Result<Verdict, StoreError>;

    /// Forgets a slot, without a trace: an older version may come back. Says whether there was a record.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    fn remove(&mut self, slot: &Slot) -> Result<bool, StoreError>;

    /// Forgets a slot whose record is damaged: [`RecordReader::get`] answers [`StoreError::Corrupt`] there. So the
    /// store no longer tells of it, and the node's next comparison with others fetches it again. Does nothing if
    /// something else lies there by now; says whether it was forgotten.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    fn discard(&mut self, slot: &Slot) -> Result<bool, StoreError>;

    /// Removes at most `limit` records whose expiry is not after `now`, those that ended first before others, and says
    /// how many. The cost is that of what is removed, through an index on the expiry: never a walk through everything.
    ///
    /// # Errors
    /// As for [`put`](Self::put); some may have been removed before a read failed.
    fn expire(&mut self, now: UnixTime, limit: usize) -> Result<usize, StoreError>;

    /// Makes everything since the last flush durable, all of it or nothing, and visible to readers. Free if there was
    /// nothing.
    ///
    /// # Errors
    /// The whole batch is refused and forgotten: readers, later puts and [`usage`](Self::usage) see the state of the
    /// previous flush. After an error of the device itself, opening the store anew may find the batch after all: whole
    /// or not at all, never half.
    fn flush(&mut self) -> Result<(), StoreError>;

    /// A reader of the last flush, now and after later flushes. It may outlive the store, and is then answered with the
    /// last flush or [`StoreError::Closed`].
    fn reader(&self) -> Self::Reader;

    /// How much is held, counting what was written since the last flush.
    fn usage(&self) -> Usage;

    /// What was refused and given up for lack of room since the store was opened, including what a flush that failed
    /// has taken back.
    fn tally(&self) -> Tally;
}

/// The reading half of a store: sees the last flush, clones cheaply, and never waits for a write to the disk.
pub trait RecordReader: Clone + Send + 'static {
    /// What is held in a slot.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if there is something that is not what was written; other variants say why the store
    /// could not be read.
    fn get(&self, slot: &Slot) -> Result<Option<StoredRecord>, StoreError>;

    /// One page of the records that the scan describes, in the order of their slots.
    ///
    /// Paging beside a writer is safe: a record that matches throughout is returned exactly once, one that comes, goes
    /// or changes meanwhile at most once, and the scan ends, because the position is a slot and only moves on. A scan
    /// by due time costs what is due and not what is held.
    ///
    /// # Errors
    /// Says why the store could not be read. Records that are damaged are left out, or one of them would stop them all;
    /// the page names their slots.
    fn scan(&self, scan: &Scan) -> Result<Page, StoreError>;

    /// How many records a part of the key space has, and the sum of their [`mark`](RawRecord::mark)s: by this nodes see
    /// whether they hold the same. Peers ask for it, so it should not cost a walk through all of it: an
    /// [`Index`](crate::Index) that is kept beside the records answers at once. Without one this reads the part.
    ///
    /// # Errors
    /// As for [`scan`](Self::scan).
    fn fingerprint(&self, prefix: Prefix) -> Result<Fingerprint, StoreError> {
        let mut fingerprint = Fingerprint::default();
        for (_, mark) in self.marks(prefix, usize::MAX)? {
            fingerprint.add(mark);
        }
        Ok(fingerprint)
    }

    /// The first 64 bits of the keys and the [`mark`](RawRecord::mark)s of at most `limit` records of a part of the key
    /// space, in the order of the keys. The same holds as for [`fingerprint`](Self::fingerprint).
    ///
    /// # Errors
    /// As for [`scan`](Self::scan).
    fn marks(&self, prefix: Prefix, limit: usize) -> Result<Vec<(u64, u128)>, StoreError> {
        let mut marks = Vec::new();
        let mut scan = Scan::keys(prefix.first(), prefix.last(), MAX_PAGE_RECORDS);
        while marks.len() < limit {
            let page = self.scan(&scan)?;
            let mark = |stored: &StoredRecord| (stored.slot.key.to_limbs()[0], stored.raw.mark());
            marks.extend(page.records.iter().map(mark));
            match page.next {
                Some(next) => scan = scan.after(next),
                None => break,
            }
        }
        marks.truncate(limit);
        marks.sort_unstable();
        Ok(marks)
    }
}

/// A record on its way into a store.
#[derive(Debug, Clone, Copy)]
pub struct Put<'a> {
    /// The record, verified.
    pub record: &'a Record,
    /// Store only if this is the version held, 0 for none.
    pub expected: Option<u64>,
    /// When the node should see to the record next: store it again if it is its own, look after it if it is not.
    pub due: UnixTime,
    /// Whether the node itself published it and keeps it alive. Stays true for the slot until that is removed.
    pub own: bool,
    /// Who sent it; own records have none.
    pub source: Source,
    /// The id of the node that sent it, if one did: what a node signed itself counts for it as soon as it sends it,
    /// whoever has handed the same on before.
    pub sender: Option<NodeId>,
}

/// A record as it comes out of a store. Not verified: see [`Record::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Where it was found. Check it against the verified record's own slot.
    pub slot: Slot,
    /// Its bytes and its expiry.
    pub raw: RawRecord,
    /// When the node should see to it next.
    pub due: UnixTime,
    /// Whether the node itself published it.
    pub own: bool,
    /// Who sent these bytes; [`Source::UNKNOWN`] for own records.
    pub source: Source,
}

/// How much a store may hold. What a store holds beyond lowered limits stays, until it expires or has to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Records of others, of all kinds, tombstones too. Default 1,000,000: with 1 KiB each this meets the default of
    /// `max_bytes`.
    /// Beside its bytes a record costs some 650 bytes of memory in the memory backend; in redb some 2 KiB of the file
    /// and 50 bytes of memory, which are read from the file on opening.
    pub max_records: u64,
    /// Canonical bytes of the records of others. Default 1 GiB: a disk hardly notices, and a node that leaves hands it
    /// over in minutes. redb's file is larger: up to three times the bytes, as pages are powers of two and old ones
    /// wait for reuse.
    pub max_bytes: u64,
    /// Records that one sender may have here, whether it sent them unasked or they were fetched from it
    /// ([`Source::UNKNOWN`] is no sender). Default 500,000: half of all, so that nobody fills a store alone, and an
    /// empty one can be filled again from one neighbour.
    pub max_records_per_source: u64,
    /// Bytes of these. Default 512 MiB: half of all.
    pub max_bytes_per_source: u64,
    /// Provider records of others under one key. Default 256: a popular key must not fill the store, and nobody asks
    /// that many.
    pub max_providers_per_key: u32,
    /// Own records. Default 1,000,000: as many as those of others.
    pub max_own_records: u64,
    /// Canonical bytes of own records. Default 1 GiB: as many as those of others.
    pub max_own_bytes: u64,
    /// The node's own id: what is far from it goes first when the store is full. Default none: then nothing goes, and a
    /// full store takes nothing new.
    pub around: Option<NodeId>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_records: 1_000_000,
            max_bytes: 1 << 30,
            max_records_per_source: 500_000,
            max_bytes_per_source: 1 << 29,
            max_providers_per_key: 256,
            max_own_records: 1_000_000,
            max_own_bytes: 1 << 30,
            around: None,
        }
    }
}

/// How much a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Records of all kinds, tombstones too.
    pub records: u64,
    /// Their canonical bytes.
    pub bytes: u64,
}

/// What found no room in a store, and what had to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Tally {
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

impl Tally {
    pub(crate) const fn note(&mut self, shortage: Shortage) {
        match shortage {
            Shortage::Own => self.full_own += 1,
            Shortage::Sender => self.full_source += 1,
            Shortage::Key => self.full_key += 1,
            Shortage::Store => self.full_store += 1,
        }
    }

    pub(crate) const fn note_leaver(&mut self, of_the_same_key: bool) {
        match of_the_same_key {
            true => self.displaced += 1,
            false => self.evicted += 1,
        }
    }
}
