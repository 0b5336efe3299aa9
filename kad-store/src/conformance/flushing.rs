//! What a flush does, and what is left without one.

use kad_core::{Source, Verdict};

use super::samples::{END, Samples, at, key};
use super::{Open, Put, RecordStore, Scan, Tested, Usage, rule, same, scan_pages, unlimited};
use crate::RecordReader as _;

pub(super) fn visibility<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let version = |seq| samples.mutable(b"seen", seq, Some(b"value"));
    let (first, second) = (version(1), version(2));
    let slot = first.slot();
    let reader = store.0.reader();
    let clone = reader.clone();
    let seen = || {
        let both = [&reader, &clone].map(|reader| reader.get(&slot).expect("get answered an error"));
        same(&both[0], &both[1], "readers of one store see the same");
        let scanned = scan_pages(&reader, Scan::all(9), |_| {});
        same(&scanned.first(), &both[0].as_ref(), "get and scan see the same");
        both[0].as_ref().map(|stored| stored.raw.seq())
    };
    store.flush();
    store.keep(&first);
    same(&seen(), &None, "a put is not seen before the flush");
    same(
        &store.put(&first),
        &Verdict::Unchanged,
        "a later put sees the earlier one before the flush",
    );
    store.flush();
    same(&seen(), &Some(1), "a reader from before the flush sees it");
    store.keep(&second);
    same(&seen(), &Some(1), "a new version is not seen before the flush");
    store.flush();
    same(&seen(), &Some(2), "a new version is seen after the flush");
    store.remove(&slot);
    same(&seen(), &Some(2), "a removal is not seen before the flush");
    store.flush();
    same(&seen(), &None, "a removal is seen after the flush");
    store.keep(&first);
    store.flush();
    same(&store.expire(END + samples.longest(), 9), &1, "a record ends");
    same(&seen(), &Some(1), "an end is not seen before the flush");
    store.flush();
    same(&seen(), &None, "an end is seen after the flush");
    // Readers work on other threads.
    store.keep(&first);
    store.flush();
    let elsewhere = std::thread::spawn(move || clone.get(&slot).map(|stored| stored.is_some()));
    let elsewhere = elsewhere.join().expect("a reader panicked on another thread");
    same(&elsewhere.ok(), &Some(true), "a reader works on another thread");
}

pub(super) fn usage<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    same(&store.usage(), &Usage::default(), "an empty store holds nothing");
    let small = samples.mutable(b"counted", 1, Some(&[0; 10]));
    let large = samples.mutable(b"counted", 2, Some(&[0; 1000]));
    let other = samples.provider(1, key(1), 0, Some(b"here"));
    let of = |records: &[&kad_core::Record]| Usage {
        records: records.len() as u64,
        bytes: records.iter().map(|record| record.as_bytes().len() as u64).sum(),
    };
    let mut check = |step: &dyn Fn(&mut Tested<S>), right: Usage| {
        step(&mut store);
        same(
            &store.usage(),
            &right,
            "usage counts what was written, before the flush",
        );
        store.flush();
        same(
            &store.usage(),
            &right,
            "usage counts what was written, after the flush",
        );
    };
    check(&|store| store.keep(&small), of(&[&small]));
    check(&|store| store.keep(&large), of(&[&large]));
    check(
        &|store| {
            rule(
                store.put(&small) != Verdict::Stored,
                "an old version is not stored",
            );
        },
        of(&[&large]),
    );
    check(
        &|store| rule(store.put(&large) != Verdict::Stored, "the same is not stored"),
        of(&[&large]),
    );
    check(&|store| store.keep(&other), of(&[&large, &other]));
    check(
        &|store| rule(store.remove(&large.slot()), "a record is removed"),
        of(&[&other]),
    );
    check(
        &|store| rule(!store.remove(&large.slot()), "nothing is removed"),
        of(&[&other]),
    );
    let end = other.expiry();
    check(&|store| same(&store.expire(end, 5), &1, "a record ends"), of(&[]));
}

pub(super) fn reopen<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let flushed = samples.mutable(b"reopen", 1, Some(b"flushed"));
    let due = at(7);
    store.put_with(Put {
        record: &flushed,
        expected: None,
        due,
        own: true,
        source: Source::UNKNOWN,
        sender: None,
    });
    store.flush();
    let before = store.get(&flushed.slot());
    let usage = store.usage();
    drop(store);
    let mut store = Tested(open(unlimited()));
    same(
        &store.get(&flushed.slot()),
        &before,
        "what was flushed is there after an unclean stop",
    );
    same(&store.usage(), &usage, "usage is the same after an unclean stop");
    store.keep(&samples.mutable(b"reopen", 2, Some(b"not flushed")));
    store.keep(&samples.numbered(1));
    drop(store);
    let mut store = Tested(open(unlimited()));
    same(
        &store.get(&flushed.slot()),
        &before,
        "a version that was not flushed is not there",
    );
    rule(
        store.get(&samples.numbered(1).slot()).is_none(),
        "a record that was not flushed is not there",
    );
    same(&store.usage(), &usage, "what was not flushed is not counted");
    rule(store.remove(&flushed.slot()), "a record is removed");
    drop(store);
    let mut store = Tested(open(unlimited()));
    same(
        &store.get(&flushed.slot()),
        &before,
        "a removal that was not flushed did not happen",
    );
    store.remove(&flushed.slot());
    store.flush();
    drop(store);
    let store = Tested(open(unlimited()));
    rule(
        store.get(&flushed.slot()).is_none(),
        "a removal that was flushed happened",
    );
    same(&store.usage(), &Usage::default(), "nothing is left to count");
}

pub(super) fn nothing_half<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut held = Vec::new();
    for round in 0..6u64 {
        let mut store = Tested(open(unlimited()));
        let found: Vec<_> = store
            .scan(Scan::all(100))
            .into_iter()
            .map(|record| record.slot)
            .collect();
        held.sort_unstable();
        same(
            &found,
            &held,
            "each flush is there whole, each batch without one not at all",
        );
        for i in 0..30 {
            let record = samples.numbered(100 * round + i);
            store.keep(&record);
            if round % 2 == 0 {
                held.push(record.slot());
            }
        }
        if round % 2 == 0 {
            store.flush();
        }
    }
}

pub(super) fn indexes<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    for i in 0..30u64 {
        let record = samples.immutable(&i.to_be_bytes(), at(1000 + i));
        store.put_with(Put {
            record: &record,
            expected: None,
            due: at(i),
            own: i % 2 == 0,
            source: Source::UNKNOWN,
            sender: None,
        });
    }
    store.flush();
    drop(store);
    let mut store = Tested(open(unlimited()));
    let due = store.scan(Scan::all(4).due_by(at(9)));
    same(&due.len(), &10, "the due index comes back");
    rule(
        due.iter()
            .all(|record| record.own == (record.due.as_secs() % 2 == at(0).as_secs() % 2)),
        "own comes back",
    );
    same(
        &store.expire(at(1004), 100),
        &5,
        "the index of expiries comes back",
    );
    store.flush();
    drop(store);
    let store = Tested(open(unlimited()));
    same(&store.scan(Scan::all(100)).len(), &25, "what expired stays away");
    same(
        &store.scan(Scan::all(100).due_by(at(9))).len(),
        &5,
        "what expired is not due",
    );
}
