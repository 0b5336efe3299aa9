//! The backends of this crate keep the rules, and the suite notices when a store breaks one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use kad_core::{Fingerprint, Kind, NodeId, Prefix, Record, Slot, Source, UnixTime, Verdict};
use kad_store::conformance::{self, Survives};
use kad_store::{
    Limits, MemoryReader, MemoryStore, Page, Put, RecordReader, RecordStore, Scan, StoreError, StoredRecord,
    Tally, Usage,
};

#[test]
fn memory_keeps_the_rules() {
    let proven = conformance::run(Survives::Nothing, |_, limits| MemoryStore::new(limits));
    assert!(proven.contains(&"readers see the last flush and only that"));
    assert!(!proven.contains(&"an unclean stop leaves the last flush"));
}

#[cfg(feature = "redb")]
#[test]
fn redb_keeps_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let proven = conformance::run(Survives::LastFlush, |name, limits| {
        let config = kad_store::RedbConfig {
            limits,
            ..Default::default()
        };
        kad_store::RedbStore::open(folder.path().join(name), &config).unwrap()
    });
    assert!(proven.contains(&"an unclean stop leaves the last flush"));
}

/// One rule that a store breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    IgnoresExpected,
    AcceptsStale,
    ForgetsDueOfUnchanged,
    ForgetsOwn,
    DropsTombstones,
    CutsLargeValues,
    AlwaysRemoves,
    ExpiresMoreThanTheLimit,
    ExpiresTooSoon,
    ExpiresNothing,
    NeverFull,
    CountsTwice,
    ShowsBeforeTheFlush,
    FlushesNothing,
    LosesTheLastOfAScan,
    RepeatsTheFirstPage,
    EndsAfterOnePage,
    SkipsBetweenPages,
    IgnoresDueTimes,
    IgnoresTheRange,
    SortsByDueTime,
    ShortensLives,
    SumsUpEverything,
    MarksBeyondTheLimit,
    NeverGivesUp,
    GivesUpTheNearest,
    GivesUpOwn,
    SendersUnlimited,
    SendersUnlimitedInBytes,
    ForgetsSenders,
    FollowsTheLastSender,
    StaysWithTheFirstSender,
    IgnoresAuthors,
    OwnUnlimited,
    OwnUnlimitedInBytes,
    OwnCompetes,
    FirstComeAtAFullKey,
    DiscardsAnything,
    TalliesNothing,
}

const BUGS: [Bug; 39] = [
    Bug::IgnoresExpected,
    Bug::AcceptsStale,
    Bug::ForgetsDueOfUnchanged,
    Bug::ForgetsOwn,
    Bug::DropsTombstones,
    Bug::CutsLargeValues,
    Bug::AlwaysRemoves,
    Bug::ExpiresMoreThanTheLimit,
    Bug::ExpiresTooSoon,
    Bug::ExpiresNothing,
    Bug::NeverFull,
    Bug::CountsTwice,
    Bug::ShowsBeforeTheFlush,
    Bug::FlushesNothing,
    Bug::LosesTheLastOfAScan,
    Bug::RepeatsTheFirstPage,
    Bug::EndsAfterOnePage,
    Bug::SkipsBetweenPages,
    Bug::IgnoresDueTimes,
    Bug::IgnoresTheRange,
    Bug::SortsByDueTime,
    Bug::SumsUpEverything,
    Bug::MarksBeyondTheLimit,
    Bug::ShortensLives,
    Bug::NeverGivesUp,
    Bug::GivesUpTheNearest,
    Bug::GivesUpOwn,
    Bug::SendersUnlimited,
    Bug::SendersUnlimitedInBytes,
    Bug::ForgetsSenders,
    Bug::FollowsTheLastSender,
    Bug::StaysWithTheFirstSender,
    Bug::IgnoresAuthors,
    Bug::OwnUnlimited,
    Bug::OwnUnlimitedInBytes,
    Bug::OwnCompetes,
    Bug::FirstComeAtAFullKey,
    Bug::DiscardsAnything,
    Bug::TalliesNothing,
];

/// A good store that somebody spoiled.
struct Spoiled {
    store: MemoryStore,
    limits: Limits,
    bug: Option<Bug>,
}

#[derive(Clone)]
struct SpoiledReader {
    reader: MemoryReader,
    bug: Option<Bug>,
}

impl Spoiled {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn held(&self, record: &Record) -> Option<StoredRecord> {
        self.store.reader().get(&record.slot()).unwrap()
    }
}

impl RecordStore for Spoiled {
    type Reader = SpoiledReader;

    fn put(&mut self, mut put: Put<'_>) -> Result<Verdict, StoreError> {
        let Some(bug) = self.bug else {
            return self.store.put(put);
        };
        match bug {
            Bug::IgnoresExpected => put.expected = None,
            Bug::AcceptsStale if put.expected.is_none() && put.record.author().is_some() => {
                self.store.remove(&put.record.slot())?;
            }
            Bug::ForgetsDueOfUnchanged => {
                if let Some(held) = self
                    .held(put.record)
                    .filter(|held| held.raw == *put.record.as_raw())
                {
                    put.due = held.due;
                }
            }
            Bug::ForgetsOwn => put.own = false,
            Bug::DropsTombstones if put.record.is_tombstone() => return Ok(Verdict::Stored),
            Bug::CutsLargeValues if put.record.value().len() > 65_000 => return Ok(Verdict::Stored),
            Bug::ShortensLives if put.record.author().is_none() => {
                self.store.remove(&put.record.slot())?;
            }
            Bug::IgnoresAuthors => put.sender = None,
            Bug::ForgetsSenders => put.source = Source::UNKNOWN,
            Bug::StaysWithTheFirstSender => {
                if let Some(held) = self.held(put.record) {
                    put.source = held.source;
                }
            }
            Bug::FollowsTheLastSender => {
                let held = self.held(put.record);
                if held.is_some_and(|held| !held.own && held.source != put.source) {
                    self.store.remove(&put.record.slot())?;
                }
            }
            Bug::OwnCompetes if put.own && self.store.usage().records >= self.limits.max_records => {
                return Ok(Verdict::Full);
            }
            Bug::FirstComeAtAFullKey if self.held(put.record).is_none() => {
                let Slot { key, kind, .. } = put.record.slot();
                let held = self.store.reader().scan(&Scan::slots_of(key, kind, None, 1000))?;
                if kind == Kind::Provider && held.records.len() >= self.limits.max_providers_per_key as usize
                {
                    return Ok(Verdict::Full);
                }
            }
            _ => {}
        }
        let mut verdict = self.store.put(put)?;
        if bug == Bug::GivesUpOwn && verdict == Verdict::Full && !put.own {
            let held = self.store.reader().scan(&Scan::all(1000))?;
            if let Some(own) = held.records.iter().find(|held| held.own) {
                self.store.remove(&own.slot)?;
                verdict = Verdict::Stored;
            }
        }
        if bug == Bug::ShowsBeforeTheFlush {
            self.store.flush()?;
        }
        Ok(verdict)
    }

    fn remove(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        Ok(self.store.remove(slot)? || self.has(Bug::AlwaysRemoves))
    }

    fn discard(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        match self.bug {
            Some(Bug::DiscardsAnything) => self.store.remove(slot),
            _ => self.store.discard(slot),
        }
    }

    fn expire(&mut self, now: UnixTime, limit: usize) -> Result<usize, StoreError> {
        match self.bug {
            Some(Bug::ExpiresMoreThanTheLimit) => self.store.expire(now, usize::MAX),
            Some(Bug::ExpiresTooSoon) => self.store.expire(UnixTime::from_secs(now.as_secs() + 1), limit),
            Some(Bug::ExpiresNothing) => Ok(0),
            _ => self.store.expire(now, limit),
        }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        match self.has(Bug::FlushesNothing) {
            true => Ok(()),
            false => self.store.flush(),
        }
    }

    fn reader(&self) -> SpoiledReader {
        SpoiledReader {
            reader: self.store.reader(),
            bug: self.bug,
        }
    }

    fn usage(&self) -> Usage {
        let Usage { records, bytes } = self.store.usage();
        match self.has(Bug::CountsTwice) {
            true => Usage {
                records,
                bytes: 2 * bytes,
            },
            false => Usage { records, bytes },
        }
    }

    fn tally(&self) -> Tally {
        match self.has(Bug::TalliesNothing) {
            true => Tally::default(),
            false => self.store.tally(),
        }
    }
}

impl RecordReader for SpoiledReader {
    fn get(&self, slot: &Slot) -> Result<Option<StoredRecord>, StoreError> {
        self.reader.get(slot)
    }

    fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        let mut scan = *scan;
        match self.bug {
            Some(Bug::RepeatsTheFirstPage) => scan.after = None,
            Some(Bug::IgnoresDueTimes) => scan.due_by = None,
            Some(Bug::IgnoresTheRange) => scan.first = Scan::all(1).first,
            _ => {}
        }
        let mut page = self.reader.scan(&scan)?;
        match self.bug {
            Some(Bug::LosesTheLastOfAScan) if page.next.is_none() => drop(page.records.pop()),
            Some(Bug::EndsAfterOnePage) => page.next = None,
            Some(Bug::SkipsBetweenPages) => {
                if let Some(next) = page.next {
                    let skipped = self.reader.scan(&Scan {
                        limit: 1,
                        ..scan.after(next)
                    })?;
                    page.next = skipped.records.first().map(|record| record.slot);
                }
            }
            Some(Bug::SortsByDueTime) if scan.due_by.is_some() => {
                page.records.sort_by_key(|record| record.due);
            }
            _ => {}
        }
        Ok(page)
    }

    fn fingerprint(&self, prefix: Prefix) -> Result<Fingerprint, StoreError> {
        match self.bug {
            Some(Bug::SumsUpEverything) => self.reader.fingerprint(Prefix::ALL),
            _ => self.reader.fingerprint(prefix),
        }
    }

    fn marks(&self, prefix: Prefix, limit: usize) -> Result<Vec<(u64, u128)>, StoreError> {
        match self.bug {
            Some(Bug::MarksBeyondTheLimit) => self.reader.marks(prefix, usize::MAX),
            _ => self.reader.marks(prefix, limit),
        }
    }
}

/// Runs the suite and gives what it panicked with.
fn complaint(open: impl FnMut(&str, Limits) -> Spoiled) -> Option<String> {
    let run = catch_unwind(AssertUnwindSafe(|| conformance::run(Survives::Nothing, open)));
    let panic = run.err()?;
    let sentence = panic.downcast_ref::<String>().cloned();
    sentence.or_else(|| {
        panic
            .downcast_ref::<&str>()
            .map(|sentence| (*sentence).to_owned())
    })
}

#[test]
fn the_suite_notices_each_planted_bug() {
    let spoil = |bug| {
        move |_: &str, limits: Limits| {
            let mut spoiled = limits;
            match bug {
                Some(Bug::NeverFull) => {
                    spoiled.max_records = u64::MAX;
                    spoiled.max_bytes = u64::MAX;
                    spoiled.max_providers_per_key = u32::MAX;
                }
                Some(Bug::NeverGivesUp) => spoiled.around = None,
                Some(Bug::GivesUpTheNearest) => {
                    spoiled.around = limits.around.map(|_| NodeId::from_limbs([u64::MAX; 4]));
                }
                Some(Bug::SendersUnlimited) => spoiled.max_records_per_source = u64::MAX,
                Some(Bug::SendersUnlimitedInBytes) => spoiled.max_bytes_per_source = u64::MAX,
                Some(Bug::OwnUnlimited) => spoiled.max_own_records = u64::MAX,
                Some(Bug::OwnUnlimitedInBytes) => spoiled.max_own_bytes = u64::MAX,
                _ => {}
            }
            Spoiled {
                store: MemoryStore::new(spoiled),
                limits,
                bug,
            }
        }
    };
    assert_eq!(complaint(spoil(None)), None, "the wrapper itself breaks nothing");
    for bug in BUGS {
        let complaint = complaint(spoil(Some(bug))).unwrap_or_else(|| panic!("{bug:?} was not noticed"));
        assert!(
            complaint.contains("rule"),
            "{bug:?} was noticed, but not as a broken rule: {complaint}"
        );
    }
}

#[test]
fn the_suite_notices_a_store_that_forgets_when_it_stops() {
    let run = || conformance::run(Survives::LastFlush, |_, limits| MemoryStore::new(limits));
    assert!(catch_unwind(run).is_err(), "a store in memory survived");
}

/// Writes through to a store that outlives it, flush or no flush.
struct NeverForgets(Arc<Mutex<MemoryStore>>);

impl RecordStore for NeverForgets {
    type Reader = MemoryReader;

    fn put(&mut self, put: Put<'_>) -> Result<Verdict, StoreError> {
        self.0.lock().unwrap().put(put)
    }

    fn remove(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        self.0.lock().unwrap().remove(slot)
    }

    fn discard(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        self.0.lock().unwrap().discard(slot)
    }

    fn expire(&mut self, now: UnixTime, limit: usize) -> Result<usize, StoreError> {
        self.0.lock().unwrap().expire(now, limit)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.0.lock().unwrap().flush()
    }

    fn reader(&self) -> MemoryReader {
        self.0.lock().unwrap().reader()
    }

    fn usage(&self) -> Usage {
        self.0.lock().unwrap().usage()
    }

    fn tally(&self) -> Tally {
        self.0.lock().unwrap().tally()
    }
}

impl Drop for NeverForgets {
    fn drop(&mut self) {
        self.0.lock().unwrap().flush().unwrap();
    }
}

#[test]
fn the_suite_notices_a_store_that_keeps_what_was_not_flushed() {
    let mut stores = std::collections::HashMap::new();
    let run = AssertUnwindSafe(|| {
        conformance::run(Survives::LastFlush, |name, limits| {
            let store = stores
                .entry(name.to_owned())
                .or_insert_with(|| Arc::new(Mutex::new(MemoryStore::new(limits))));
            NeverForgets(Arc::clone(store))
        })
    });
    let panic = catch_unwind(run).expect_err("a store that flushes when dropped passed");
    let sentence = panic.downcast_ref::<String>().expect("a formatted panic");
    assert!(
        sentence.contains("not flushed") || sentence.contains("without one"),
        "{sentence}"
    );
}
