//! Who may hold how much: the node itself, and each sender.

use kad_core::{Key, NodeId, Record, Source, Verdict};

use super::samples::{DUE, END, Samples, at, key};
use super::{Limits, Open, Put, RecordStore, Scan, Tested, rule, same, unlimited};

pub(super) const ALICE: Source = Source::new(1);
pub(super) const BOB: Source = Source::new(2);

/// Limits of a node at the beginning of the key space, so that what is far from it has a great key.
pub(super) fn around_zero() -> Limits {
    Limits {
        around: Some(NodeId::default()),
        ..unlimited()
    }
}

/// A record that lies at a key: what somebody provides.
pub(super) fn lying_at(samples: &Samples, key: Key) -> Record {
    samples.provider(1, key, 0, Some(b"here"))
}

pub(super) const fn from(record: &Record, source: Source) -> Put<'_> {
    Put {
        record,
        expected: None,
        due: DUE,
        own: false,
        source,
        sender: None,
    }
}

pub(super) const fn of_our_own(record: &Record) -> Put<'_> {
    Put {
        own: true,
        ..from(record, Source::UNKNOWN)
    }
}

/// The numbers of the keys that something lies at.
pub(super) fn numbers<S: RecordStore>(store: &Tested<S>) -> Vec<u64> {
    let records = store.scan(Scan::all(100));
    records
        .into_iter()
        .map(|record| record.slot.key.to_limbs()[0])
        .collect()
}

pub(super) fn own_apart<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let size = samples.numbered(0).as_bytes().len() as u64;
    let mut store = Tested(open(Limits {
        max_records: 1,
        max_own_records: 2,
        max_own_bytes: 2 * size,
        ..unlimited()
    }));
    store.keep(&samples.numbered(1));
    store.put_with(of_our_own(&samples.numbered(2)));
    store.flush();
    same(
        &store.put_with(of_our_own(&samples.numbered(3))),
        &Verdict::Stored,
        "own records do not count against the limits of others",
    );
    same(
        &store.put_with(of_our_own(&samples.numbered(4))),
        &Verdict::Full,
        "own records have a limit",
    );
    same(
        &store.put_with(of_our_own(&samples.numbered(1))),
        &Verdict::Full,
        "a record of others does not become own beyond the limit of own ones",
    );
    store.flush();
    rule(
        !store.flushed(&samples.numbered(1)).own,
        "what was refused is as it was",
    );
    rule(
        store.remove(&samples.numbered(2).slot()),
        "an own record is removed",
    );
    same(
        &store.put(&samples.numbered(5)),
        &Verdict::Full,
        "own records make no room for others",
    );
    same(
        &store.put_with(of_our_own(&samples.numbered(1))),
        &Verdict::Unchanged,
        "a record of others becomes own within the limit of own ones",
    );
    same(
        &store.put(&samples.numbered(5)),
        &Verdict::Stored,
        "and makes room for others",
    );
}

pub(super) fn own_bytes<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(Limits {
        max_own_bytes: 1,
        ..unlimited()
    }));
    same(
        &store.put_with(of_our_own(&samples.immutable(b"too large for an own one", END))),
        &Verdict::Full,
        "the bytes of own records have a limit",
    );
}

pub(super) fn senders<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(Limits {
        max_records_per_source: 2,
        ..unlimited()
    }));
    let version = |seq, size| samples.mutable(b"sent", seq, Some(&vec![0; size]));
    store.put_with(from(&version(1, 10), ALICE));
    store.flush();
    store.put_with(from(&samples.numbered(1), ALICE));
    let late = samples.numbered(2);
    same(
        &store.put_with(from(&late, ALICE)),
        &Verdict::Full,
        "a record too many of one sender is refused, counting what is not flushed",
    );
    store.flush();
    same(
        &store.put_with(from(&late, ALICE)),
        &Verdict::Full,
        "a record too many of one sender is refused after the flush",
    );
    same(
        &store.put_with(from(&version(2, 20), ALICE)),
        &Verdict::Stored,
        "a sender at its limit sends new versions",
    );
    same(
        &store.put_with(from(&late, BOB)),
        &Verdict::Stored,
        "another sender has a limit of its own",
    );
    for number in 3..6 {
        store.keep(&samples.numbered(number));
    }
    same(
        &store.flushed(&version(2, 20)).source,
        &ALICE,
        "a record tells who sent it",
    );
    store.put_with(from(&version(2, 20), BOB));
    same(
        &store.flushed(&version(2, 20)).source,
        &ALICE,
        "what is sent again stays with whoever sent it first",
    );
    store.put(&version(3, 20));
    same(
        &store.flushed(&version(3, 20)).source,
        &ALICE,
        "a new version that nobody sent stays with the sender of the one before",
    );
    store.put_with(from(&version(4, 20), BOB));
    same(
        &store.flushed(&version(4, 20)).source,
        &BOB,
        "a new version counts for its sender",
    );
    same(
        &store.put_with(from(&samples.numbered(10), ALICE)),
        &Verdict::Stored,
        "and no more for the one before",
    );
    same(
        &store.put_with(from(&version(5, 20), ALICE)),
        &Verdict::Stored,
        "a sender at its limit sends new versions of what others sent",
    );
    same(
        &store.flushed(&version(5, 20)).source,
        &BOB,
        "which then count as before",
    );
    let author = version(5, 20)
        .author()
        .map(|author| NodeId::from_public_key(&author));
    store.put_with(Put {
        sender: author,
        ..from(&version(5, 20), Source::new(3))
    });
    same(
        &store.flushed(&version(5, 20)).source,
        &Source::new(3),
        "what its author sends again counts for the author",
    );
    store.put_with(Put {
        sender: Some(NodeId::default()),
        ..from(&version(5, 20), BOB)
    });
    same(
        &store.flushed(&version(5, 20)).source,
        &Source::new(3),
        "and no more for whoever hands it on",
    );
    rule(store.remove(&late.slot()), "a record is removed");
    rule(store.remove(&version(5, 20).slot()), "a record is removed");
    store.put_with(from(&samples.numbered(7), BOB));
    same(
        &store.put_with(from(&samples.numbered(8), BOB)),
        &Verdict::Stored,
        "a removal makes room for its sender",
    );
    store.put_with(of_our_own(&samples.numbered(8)));
    same(
        &store.flushed(&samples.numbered(8)).source,
        &Source::UNKNOWN,
        "an own record has no sender",
    );
    same(
        &store.put_with(from(&samples.numbered(9), BOB)),
        &Verdict::Stored,
        "what becomes own no longer counts for its sender",
    );
}

pub(super) fn sender_bytes<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let version = |seq, size| samples.mutable(b"sent", seq, Some(&vec![0; size]));
    let size = version(1, 100).as_bytes().len() as u64;
    let mut store = Tested(open(Limits {
        max_bytes_per_source: size,
        ..unlimited()
    }));
    store.put_with(from(&version(4, 100), ALICE));
    same(
        &store.put_with(from(&version(5, 101), ALICE)),
        &Verdict::Full,
        "the bytes of one sender have a limit",
    );
    same(
        &store.put(&version(5, 100)),
        &Verdict::Stored,
        "what is no larger is stored at the limit",
    );
}

pub(super) fn tally<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(Limits {
        max_records: 3,
        max_records_per_source: 1,
        max_providers_per_key: 1,
        max_own_records: 0,
        ..around_zero()
    }));
    let at = |number| lying_at(samples, key(number));
    store.put_with(from(&at(20), ALICE));
    store.put_with(from(&at(19), ALICE));
    store.put_with(of_our_own(&at(18)));
    let mut rivals = [2, 3].map(|number| samples.provider(number, key(10), 0, Some(b"here")));
    rivals.sort_by_key(|rival| std::cmp::Reverse(rival.slot().provider.distance(key(10))));
    for rival in [&rivals[0], &rivals[1], &rivals[0]] {
        store.put(rival);
    }
    store.put(&at(5));
    store.put(&at(4));
    store.put(&at(30));
    store.flush();
    let tally = store.0.tally();
    let told = [
        tally.evicted,
        tally.displaced,
        tally.full_store,
        tally.full_source,
        tally.full_key,
        tally.full_own,
    ];
    same(
        &told,
        &[1; 6],
        "a store tells what it gave up and what it refused, by reason",
    );
}

pub(super) fn after_reopening<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let limits = Limits {
        max_records: 3,
        max_records_per_source: 2,
        max_own_records: 1,
        ..around_zero()
    };
    let mut store = Tested(open(limits));
    store.put_with(of_our_own(&lying_at(samples, key(50))));
    store.put_with(from(&lying_at(samples, key(40)), ALICE));
    store.put_with(from(&lying_at(samples, key(30)), ALICE));
    store.keep(&lying_at(samples, key(20)));
    store.flush();
    // Not flushed, so it must leave no trace in what is counted.
    store.put_with(from(&lying_at(samples, key(10)), BOB));
    drop(store);
    let mut store = Tested(open(limits));
    same(
        &store.put_with(of_our_own(&lying_at(samples, key(51)))),
        &Verdict::Full,
        "own records are counted after opening",
    );
    same(
        &store.put_with(from(&lying_at(samples, key(1)), ALICE)),
        &Verdict::Full,
        "senders are counted after opening",
    );
    same(
        &store.put_with(from(&lying_at(samples, key(2)), BOB)),
        &Verdict::Stored,
        "what is nearer is stored after opening",
    );
    store.flush();
    same(
        &numbers(&store),
        &vec![2, 20, 30, 50],
        "what is farthest is given up after opening",
    );
    rule(store.expire(at(0), 1) == 0, "nothing has ended");
}
