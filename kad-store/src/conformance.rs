//! Proves that a store keeps the rules of [`RecordStore`]: for the tests of this crate's backends and of yours.
//!
//! ```
//! use kad_store::conformance::{self, Survives};
//! use kad_store::MemoryStore;
//!
//! let proven = conformance::run(Survives::Nothing, |_name, limits| MemoryStore::new(limits));
//! assert!(proven.len() > 10);
//! ```
//!
//! Each part works on a store of its own, under its own name. The suite drops a store without a flush and opens the
//! same name again to see what an unclean stop leaves. It does not pull the plug: that a flush is on the disk, and not
//! in a cache of the operating system, is for you to know. It needs a few seconds at most and buffers less than 2 MiB
//! between two flushes.

mod evicting;
mod flushing;
mod limits;
mod ordering;
mod paging;
mod quotas;
mod samples;
mod summing;
mod timing;

use kad_core::{Slot, Source, UnixTime, Verdict};

use self::samples::Samples;
use crate::{Limits, Put, RecordReader as _, RecordStore, Scan, StoredRecord, Usage};

/// What of a store is still there after it was dropped and opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// Nothing: the store lives in memory. The parts on unclean stops are left out.
    Nothing,
    /// Everything up to the last flush, and nothing after it.
    LastFlush,
}

/// Runs the whole suite, and gives the sentences that were proven.
///
/// `open` opens the store of a name: an empty one when the name is new, else the same as before, which has been dropped
/// meanwhile together with its readers. Names are of letters and dashes, so they can be names of files.
///
/// # Panics
/// With a sentence on the rule that the store broke, or the error that it answered where none is due. This is meant for
/// tests.
pub fn run<S: RecordStore>(survives: Survives, mut open: impl FnMut(&str, Limits) -> S) -> Vec<&'static str> {
    let samples = Samples::new();
    let mut proven = Vec::new();
    for part in parts::<S>() {
        if part.reopens && survives == Survives::Nothing {
            continue;
        }
        let mut open_part = |limits| open(part.name, limits);
        (part.prove)(&samples, &mut open_part);
        proven.push(part.rule);
    }
    proven
}

/// Opens the store of the part with these limits.
type Open<'a, S> = &'a mut dyn FnMut(Limits) -> S;

struct Part<S> {
    name: &'static str,
    rule: &'static str,
    reopens: bool,
    prove: fn(&Samples, Open<'_, S>),
}

fn parts<S: RecordStore>() -> Vec<Part<S>> {
    let part = |name, rule, prove| Part {
        name,
        rule,
        reopens: false,
        prove,
    };
    let reopening = |name, rule, prove| Part {
        name,
        rule,
        reopens: true,
        prove,
    };
    vec![
        part(
            "immutable",
            "an immutable record keeps its longest life",
            ordering::immutable,
        ),
        part(
            "mutable",
            "of mutable records the greatest version stays",
            ordering::mutable,
        ),
        part(
            "provider",
            "of a provider's records the newest stays",
            ordering::provider,
        ),
        part(
            "tombstones",
            "tombstones are kept like records",
            ordering::tombstones,
        ),
        part("expected", "an expected version is compared", ordering::expected),
        part("own", "a slot once own stays own", ordering::own),
        part("remove", "a removed slot is forgotten", ordering::remove),
        part(
            "bytes",
            "what is read is what was put, in all sizes",
            ordering::bytes,
        ),
        part(
            "expiry",
            "records end in order, so many at a time",
            timing::expiry,
        ),
        part(
            "expiry-batch",
            "records end before they are flushed, too",
            timing::expiry_of_the_batch,
        ),
        part(
            "due",
            "due records are found by their latest due time",
            timing::due,
        ),
        part("ranges", "a scan gives its range, edges included", paging::ranges),
        part(
            "slots-of",
            "the records of one key and kind are easy to have",
            paging::slots_of,
        ),
        part("pages", "pages join without gap or repetition", paging::pages),
        part(
            "page-bytes",
            "a page of large records ends early",
            paging::page_bytes,
        ),
        part(
            "paging-while-writing",
            "paging beside a writer skips and repeats nothing",
            paging::while_writing,
        ),
        part(
            "summaries",
            "a store tells of its parts as a scan of them does",
            summing::summaries,
        ),
        part(
            "visibility",
            "readers see the last flush and only that",
            flushing::visibility,
        ),
        part("usage", "usage counts what is held", flushing::usage),
        part("full-records", "a store full of records says so", limits::records),
        part("full-bytes", "a store full of bytes says so", limits::bytes),
        part(
            "full-providers",
            "a key full of providers says so",
            limits::providers,
        ),
        part("own-apart", "own records compete with nobody", quotas::own_apart),
        part(
            "own-bytes",
            "own records have a limit of bytes",
            quotas::own_bytes,
        ),
        part("senders", "each sender has a limit of records", quotas::senders),
        part(
            "sender-bytes",
            "each sender has a limit of bytes",
            quotas::sender_bytes,
        ),
        part(
            "farthest",
            "a full store gives up what is farthest for what is nearer",
            evicting::farthest,
        ),
        part(
            "ends-first",
            "of one key a full store gives up what ends first",
            evicting::ends_first,
        ),
        part(
            "farthest-bytes",
            "a full store gives up as many bytes as it needs, or nothing",
            evicting::bytes,
        ),
        part(
            "own-stay",
            "a full store never gives up what is its own",
            evicting::own_stay,
        ),
        part(
            "shares",
            "a sender beyond its share takes the place of its own only",
            evicting::shares,
        ),
        part(
            "fair-places",
            "the places of a full key are shared evenly among senders",
            evicting::fair_places,
        ),
        part("tally", "what found no room is counted by reason", quotas::tally),
        part(
            "discard",
            "nothing is discarded that can be read",
            ordering::discard,
        ),
        reopening(
            "reopen",
            "an unclean stop leaves the last flush",
            flushing::reopen,
        ),
        reopening(
            "reopen-half",
            "an unclean stop leaves nothing half",
            flushing::nothing_half,
        ),
        reopening(
            "reopen-indexes",
            "the indexes come back with the records",
            flushing::indexes,
        ),
        reopening(
            "reopen-summaries",
            "what a store tells of its parts comes back with the records",
            summing::after_reopening,
        ),
        reopening(
            "reopen-lowered",
            "lowered limits keep what is there",
            limits::lowered,
        ),
        reopening(
            "reopen-quotas",
            "who holds how much comes back with the records",
            quotas::after_reopening,
        ),
    ]
}

/// Panics with the rule unless it holds.
#[track_caller]
fn rule(holds: bool, rule: &str) {
    assert!(holds, "the store breaks a rule: {rule}");
}

/// Panics with the rule unless both are the same.
#[track_caller]
fn same<T: PartialEq + std::fmt::Debug>(found: &T, right: &T, rule: &str) {
    assert!(
        found == right,
        "the store breaks a rule: {rule}\n  found {found:?}\n  right {right:?}"
    );
}

const fn unlimited() -> Limits {
    Limits {
        max_records: u64::MAX,
        max_bytes: u64::MAX,
        max_records_per_source: u64::MAX,
        max_bytes_per_source: u64::MAX,
        max_providers_per_key: u32::MAX,
        max_own_records: u64::MAX,
        max_own_bytes: u64::MAX,
        around: None,
    }
}

/// A put of others' record, due at a time.
const fn due_at(record: &kad_core::Record, due: UnixTime) -> Put<'_> {
    Put {
        record,
        expected: None,
        due,
        own: false,
        source: Source::UNKNOWN,
        sender: None,
    }
}

/// The store under test, with every error a panic.
struct Tested<S>(S);

impl<S: RecordStore> Tested<S> {
    fn put(&mut self, record: &kad_core::Record) -> Verdict {
        self.put_with(Put {
            record,
            expected: None,
            due: samples::DUE,
            own: false,
            source: Source::UNKNOWN,
            sender: None,
        })
    }

    #[track_caller]
    fn put_with(&mut self, put: Put<'_>) -> Verdict {
        self.0.put(put).expect("put answered an error")
    }

    /// Puts a record that nothing stands against.
    #[track_caller]
    fn keep(&mut self, record: &kad_core::Record) {
        let verdict = self.put(record);
        same(
            &verdict,
            &Verdict::Stored,
            "a record that nothing stands against is stored",
        );
    }

    #[track_caller]
    fn remove(&mut self, slot: &Slot) -> bool {
        self.0.remove(slot).expect("remove answered an error")
    }

    #[track_caller]
    fn expire(&mut self, now: UnixTime, limit: usize) -> usize {
        self.0.expire(now, limit).expect("expire answered an error")
    }

    #[track_caller]
    fn flush(&mut self) {
        self.0.flush().expect("flush answered an error");
    }

    #[track_caller]
    fn get(&self, slot: &Slot) -> Option<StoredRecord> {
        self.0.reader().get(slot).expect("get answered an error")
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }

    /// Flushes and gives what the slot of the record holds.
    #[track_caller]
    fn flushed(&mut self, record: &kad_core::Record) -> StoredRecord {
        self.flush();
        let stored = self.get(&record.slot());
        stored.expect("the store breaks a rule: a flushed record can be read")
    }

    /// All pages of a scan. Panics if it has no end.
    #[track_caller]
    fn scan(&self, scan: Scan) -> Vec<StoredRecord> {
        scan_pages(&self.0.reader(), scan, |_| {})
    }
}

/// All records of a scan, calling `between` after each page.
#[track_caller]
fn scan_pages<R: crate::RecordReader>(
    reader: &R,
    mut scan: Scan,
    mut between: impl FnMut(&crate::Page),
) -> Vec<StoredRecord> {
    const MOST_PAGES: usize = 5000;
    let mut records = Vec::new();
    for _ in 0..MOST_PAGES {
        let page = reader.scan(&scan).expect("scan answered an error");
        rule(
            page.records.len() <= scan.limit.max(1),
            "a page is no longer than its limit",
        );
        let after = scan.after;
        let mut last = after;
        for record in &page.records {
            rule(
                last.is_none_or(|last| record.slot > last),
                "records come in the order of their slots",
            );
            last = Some(record.slot);
        }
        between(&page);
        records.extend(page.records);
        match page.next {
            None => return records,
            Some(next) => {
                rule(
                    after.is_none_or(|after| next > after),
                    "a page says to go on behind where it began",
                );
                rule(
                    last.is_none_or(|last| next >= last),
                    "a page says to go on behind its last record",
                );
                scan.after = Some(next);
            }
        }
    }
    panic!("the store breaks a rule: a scan comes to its end");
}
