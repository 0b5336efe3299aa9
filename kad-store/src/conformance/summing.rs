//! What a store tells of itself by part, compared with what a scan of the part gives.

use kad_core::{Fingerprint, Prefix};

use super::samples::{END, Samples, at, key};
use super::{Open, RecordStore, Scan, Tested, rule, same, unlimited};
use crate::RecordReader as _;

/// Parts of all sizes around the keys of the samples.
fn parts() -> Vec<Prefix> {
    let mut parts = vec![Prefix::ALL];
    for bits in [0, 3, 1 << 60, u64::MAX] {
        parts.extend([1, 4, 7, 30, 62, 64].map(|length| Prefix::new(bits, length)));
    }
    parts
}

/// Compares every part with a scan.
#[track_caller]
fn agree<S: RecordStore>(store: &Tested<S>) {
    let reader = store.0.reader();
    for prefix in parts() {
        let held = store.scan(Scan::keys(prefix.first(), prefix.last(), 100));
        let (mut sum, mut marks) = (Fingerprint::default(), Vec::new());
        for stored in &held {
            let mark = stored.raw.mark();
            sum.add(mark);
            marks.push((stored.slot.key.to_limbs()[0], mark));
        }
        let found = reader.fingerprint(prefix).expect("fingerprint answered an error");
        same(
            &found,
            &sum,
            "a fingerprint is that of what a scan of the part gives",
        );
        let mut found = reader.marks(prefix, usize::MAX).expect("marks answered an error");
        rule(
            found.is_sorted_by_key(|&(key, _)| key),
            "marks come in the order of their keys",
        );
        found.sort_unstable();
        marks.sort_unstable();
        same(&found, &marks, "marks are those of what a scan of the part gives");
        let some = reader.marks(prefix, 3).expect("marks answered an error");
        rule(some.len() <= 3, "no more marks are told than were asked for");
        rule(
            some.iter().all(|mark| marks.contains(mark)),
            "a few marks are some of all",
        );
    }
}

pub(super) fn summaries<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    agree(&store);
    for number in 0..100 {
        store.keep(&samples.numbered(number));
    }
    for number in 1..40 {
        store.keep(&samples.provider(number, key(3), 0, Some(b"here")));
        store.keep(&samples.provider(number, key(u64::from(number)), 0, Some(b"there")));
    }
    agree(&store);
    store.flush();
    agree(&store);
    // Another version, a longer life, an end, and a slot that is forgotten.
    store.keep(&samples.provider(5, key(3), 1, None));
    store.keep(&samples.provider(6, key(3), 1, Some(b"moved")));
    let _ = store.put(&samples.immutable(&7u64.to_be_bytes(), at(200_000)));
    rule(
        store.remove(&samples.numbered(8).slot()),
        "what was put can be removed",
    );
    store.flush();
    agree(&store);
    rule(store.expire(END, 1000) > 0, "what has ended is removed");
    store.flush();
    agree(&store);
}

pub(super) fn after_reopening<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    for number in 0..200 {
        store.keep(&samples.numbered(number));
    }
    store.flush();
    store.remove(&samples.numbered(1).slot());
    store.flush();
    let held = store.0.reader().fingerprint(Prefix::ALL);
    let held = held.expect("fingerprint answered an error");
    // Never flushed, so not there afterwards.
    store.keep(&samples.numbered(1000));
    drop(store);
    let store = Tested(open(unlimited()));
    let found = store.0.reader().fingerprint(Prefix::ALL);
    same(
        &found.expect("fingerprint answered an error"),
        &held,
        "a store that is opened again tells of itself as before",
    );
    agree(&store);
}
