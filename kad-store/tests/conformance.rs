//! The backends of this crate keep the rules, and the suite notices when a store breaks one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use kad_core::{Fingerprint, Prefix, Record, Slot, UnixTime, Verdict};
use kad_store::conformance::{self, Survives};
use kad_store::{
    Limits, MemoryReader, MemoryStore, Page, Put, RecordReader, RecordStore, Scan, StoreError, StoredRecord,
    Usage,
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
}

const BUGS: [Bug; 24] = [
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
];

/// A good store that somebody spoiled.
struct Spoiled {
    store: MemoryStore,
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
            _ => {}
        }
        let verdict = self.store.put(put)?;
        if bug == Bug::ShowsBeforeTheFlush {
            self.store.flush()?;
        }
        Ok(verdict)
    }

    fn remove(&mut self, slot: &Slot) -> Result<bool, StoreError> {
        Ok(self.store.remove(slot)? || self.has(Bug::AlwaysRemoves))
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
            let limits = match bug == Some(Bug::NeverFull) {
                true => Limits {
                    max_records: u64::MAX,
                    max_bytes: u64::MAX,
                    max_providers_per_key: u32::MAX,
                },
                false => limits,
            };
            Spoiled {
                store: MemoryStore::new(limits),
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
