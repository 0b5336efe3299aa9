//! A full store: it says so, keeps what it has, and lets in what does not make it fuller.

use kad_core::Verdict;

use super::samples::{END, Samples, key};
use super::{Limits, Open, RecordStore, Scan, Tested, rule, same, unlimited};

pub(super) fn records<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(Limits {
        max_records: 3,
        ..unlimited()
    }));
    let version = |seq| samples.mutable(b"one of three", seq, Some(b"value"));
    store.keep(&version(1));
    store.keep(&samples.numbered(1));
    store.flush();
    store.keep(&samples.numbered(2));
    let late = samples.numbered(3);
    same(
        &store.put(&late),
        &Verdict::Full,
        "a record too many is refused, counting what is not flushed",
    );
    same(
        &store.put(&late),
        &Verdict::Full,
        "a refused record leaves no trace",
    );
    same(
        &store.put(&version(2)),
        &Verdict::Stored,
        "a new version is stored when all records are taken",
    );
    same(
        &store.put(&version(2)),
        &Verdict::Unchanged,
        "an unchanged record is acknowledged when full",
    );
    same(
        &store.put(&version(1)),
        &Verdict::Stale { current: 2 },
        "a stale record is called stale when full",
    );
    store.flush();
    rule(store.get(&late.slot()).is_none(), "a refused record is not there");
    same(
        &store.usage().records,
        &3,
        "a full store holds as many records as it may",
    );
    store.remove(&version(1).slot());
    same(
        &store.put(&late),
        &Verdict::Stored,
        "a removal makes room at once",
    );
    same(&store.put(&version(1)), &Verdict::Full, "and for one only");
    same(&store.expire(END, 1), &1, "a record ends");
    same(
        &store.put(&version(1)),
        &Verdict::Stored,
        "an end makes room at once",
    );
}

pub(super) fn bytes<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let version = |salt: &[u8], seq, size| samples.mutable(salt, seq, Some(&vec![0; size]));
    let size = version(b"a", 1, 1000).as_bytes().len() as u64;
    let mut store = Tested(open(Limits {
        max_bytes: 2 * size,
        ..unlimited()
    }));
    store.keep(&version(b"a", 1, 1000));
    let over = store.put(&version(b"b", 1, 1001));
    same(&over, &Verdict::Full, "a record of one byte too many is refused");
    same(
        &store.put(&version(b"b", 1, 1000)),
        &Verdict::Stored,
        "a record that just fits is stored",
    );
    same(
        &store.usage().bytes,
        &(2 * size),
        "a full store holds as many bytes as it may",
    );
    store.flush();
    same(
        &store.put(&version(b"a", 2, 1001)),
        &Verdict::Full,
        "a new version that is larger is refused when full",
    );
    same(
        &store.put(&version(b"a", 2, 1000)),
        &Verdict::Stored,
        "a new version of the same size is stored when full",
    );
    same(
        &store.put(&version(b"a", 3, 500)),
        &Verdict::Stored,
        "a smaller new version is stored when full",
    );
    same(
        &store.put(&version(b"a", 4, 1001)),
        &Verdict::Full,
        "a new version may not grow beyond the limit",
    );
    same(
        &store.put(&version(b"a", 4, 1000)),
        &Verdict::Stored,
        "a new version may grow up to the limit",
    );
    let deleted = samples.mutable(b"a", 5, None);
    same(
        &store.put(&deleted),
        &Verdict::Stored,
        "a tombstone is smaller than what it deletes",
    );
    same(
        &store.flushed(&deleted).raw,
        deleted.as_raw(),
        "what a full store acknowledged is there",
    );
}

pub(super) fn providers<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(Limits {
        max_providers_per_key: 3,
        ..unlimited()
    }));
    // The places are shared among senders and by distance; of one sender, from near to far, the first come stay.
    let provided = |number, issued| samples.provider(number, key(5), issued, Some(b"here"));
    let mut numbers = [1, 2, 3, 4, 5];
    numbers.sort_by_key(|&number| provided(number, 0).slot().provider.distance(key(5)));
    let says = |place: usize, issued| provided(numbers[place - 1], issued);
    store.keep(&says(1, 0));
    store.keep(&says(2, 0));
    store.flush();
    store.keep(&says(3, 0));
    same(
        &store.put(&says(4, 0)),
        &Verdict::Full,
        "a provider too many is refused, counting what is not flushed",
    );
    store.flush();
    same(
        &store.put(&says(4, 0)),
        &Verdict::Full,
        "a provider too many is refused after the flush",
    );
    same(
        &store.put(&says(1, 1)),
        &Verdict::Stored,
        "a provider announces itself anew when the key is full",
    );
    same(
        &store.put(&samples.provider(4, key(6), 0, None)),
        &Verdict::Stored,
        "other keys have room",
    );
    same(
        &store.put(&samples.numbered(1)),
        &Verdict::Stored,
        "other kinds have room",
    );
    rule(store.remove(&says(2, 0).slot()), "a provider is removed");
    same(
        &store.put(&says(4, 0)),
        &Verdict::Stored,
        "a removal makes room at once",
    );
    same(&store.put(&says(5, 0)), &Verdict::Full, "and for one only");
    store.flush();
    let scan = Scan::slots_of(key(5), kad_core::Kind::Provider, None, 10);
    same(
        &store.scan(scan).len(),
        &3,
        "a full key holds as many providers as it may",
    );
}

pub(super) fn lowered<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let version = |seq, size| samples.mutable(b"lowered", seq, Some(&vec![0; size]));
    store.keep(&version(1, 100));
    for i in 0..9 {
        store.keep(&samples.numbered(i));
    }
    store.flush();
    drop(store);
    let mut store = Tested(open(Limits {
        max_records: 2,
        max_bytes: 100,
        max_providers_per_key: 1,
        ..unlimited()
    }));
    same(&store.usage().records, &10, "lowered limits throw nothing away");
    same(
        &store.put(&samples.numbered(99)),
        &Verdict::Full,
        "an over-full store lets in nothing new",
    );
    same(
        &store.put(&version(2, 101)),
        &Verdict::Full,
        "an over-full store lets nothing grow",
    );
    same(
        &store.put(&version(2, 100)),
        &Verdict::Stored,
        "an over-full store lets in new versions",
    );
    store.flush();
    same(
        &store.scan(Scan::all(100)).len(),
        &10,
        "lowered limits hide nothing",
    );
}
