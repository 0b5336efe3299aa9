//! Which record stays in a slot, and what else the slot remembers.

use kad_core::{MAX_RECORD, MAX_SALT, MAX_VALUE, Record, RecordError, Source, Verdict};

use super::samples::{END, NOW, Samples, at, key};
use super::{Open, Put, RecordStore, Tested, rule, same, unlimited};

pub(super) fn immutable<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let (short, long) = (
        samples.immutable(b"value", at(100)),
        samples.immutable(b"value", at(200)),
    );
    store.keep(&short);
    same(
        &store.flushed(&short).raw,
        short.as_raw(),
        "an immutable record is kept with its expiry",
    );
    same(
        &store.put(&long),
        &Verdict::Stored,
        "an immutable record that lives longer is stored",
    );
    same(
        &store.flushed(&long).raw.expiry(),
        &at(200),
        "a longer life takes the place of a shorter one",
    );
    same(
        &store.put(&long),
        &Verdict::Unchanged,
        "the same record again changes nothing",
    );
    let put = Put {
        record: &short,
        expected: None,
        due: at(55),
        own: false,
        source: Source::UNKNOWN,
        sender: None,
    };
    same(
        &store.put_with(put),
        &Verdict::Unchanged,
        "an immutable record that ends sooner changes nothing",
    );
    let stored = store.flushed(&short);
    same(
        &stored.raw.expiry(),
        &at(200),
        "a shorter life does not take the place of a longer one",
    );
    same(
        &stored.due,
        &at(55),
        "a put that changes nothing still sets the due time",
    );
    same(
        &store.usage().records,
        &1,
        "the same value in another life is no second record",
    );
    same(
        &store.expire(at(199), 10),
        &0,
        "the shorter life is forgotten by the index of expiries",
    );
}

pub(super) fn mutable<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let version = |seq, value: &[u8]| samples.mutable(b"salt", seq, Some(value));
    let (old, new) = (version(5, b"old"), version(6, b"a"));
    store.keep(&old);
    same(
        &store.put(&new),
        &Verdict::Stored,
        "a greater sequence number is stored",
    );
    let stale = Verdict::Stale { current: 6 };
    let put = Put {
        record: &old,
        expected: None,
        due: at(1),
        own: true,
        source: Source::UNKNOWN,
        sender: None,
    };
    same(
        &store.put_with(put),
        &stale,
        "a smaller sequence number is stale before the flush",
    );
    let kept = store.flushed(&new);
    same(&kept.raw, new.as_raw(), "the greatest sequence number stays");
    rule(
        !kept.own && kept.due != at(1),
        "a stale record changes neither due time nor own",
    );
    same(
        &store.put(&old),
        &stale,
        "a smaller sequence number is stale after the flush",
    );
    same(
        &store.put(&new),
        &Verdict::Unchanged,
        "the same version changes nothing",
    );
    let rival = version(6, b"b");
    same(
        &store.put(&rival),
        &Verdict::Stored,
        "of equal sequence numbers the greater value is stored",
    );
    same(
        &store.put(&new),
        &stale,
        "of equal sequence numbers the smaller value is stale",
    );
    same(
        &store.flushed(&new).raw,
        rival.as_raw(),
        "of equal sequence numbers the greater value stays",
    );
    let other = samples.mutable(b"other salt", 1, Some(b"old"));
    store.keep(&other);
    same(
        &store.flushed(&other).raw,
        other.as_raw(),
        "another salt is another slot",
    );
}

pub(super) fn provider<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let says = |number, issued| samples.provider(number, key(9), issued, Some(b"here"));
    store.keep(&says(1, 10));
    store.keep(&says(2, 5));
    same(
        &store.put(&says(1, 9)),
        &Verdict::Stale {
            current: at(10).as_secs(),
        },
        "an older announcement is stale",
    );
    same(
        &store.put(&says(1, 11)),
        &Verdict::Stored,
        "a newer announcement is stored",
    );
    same(
        &store.flushed(&says(1, 0)).raw,
        says(1, 11).as_raw(),
        "the newest announcement stays",
    );
    same(
        &store.flushed(&says(2, 0)).raw,
        says(2, 5).as_raw(),
        "each provider has a slot of its own",
    );
}

pub(super) fn tombstones<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let version = |seq, value| samples.mutable(b"", seq, value);
    let deleted = version(4, None);
    store.keep(&version(3, Some(b"value")));
    same(
        &store.put(&deleted),
        &Verdict::Stored,
        "a tombstone takes the place of an older version",
    );
    same(
        &store.flushed(&deleted).raw,
        deleted.as_raw(),
        "a tombstone can be read",
    );
    let back = store.put(&version(3, Some(b"value")));
    same(
        &back,
        &Verdict::Stale { current: 4 },
        "what a tombstone deleted does not come back",
    );
    same(
        &store.put(&version(4, Some(b"value"))),
        &Verdict::Stale { current: 4 },
        "a tombstone wins a draw",
    );
    same(
        &store.put(&version(5, Some(b"value"))),
        &Verdict::Stored,
        "a newer version follows a tombstone",
    );
    let withdrawn = samples.provider(1, key(1), 8, None);
    store.keep(&withdrawn);
    same(
        &store.flushed(&withdrawn).raw,
        withdrawn.as_raw(),
        "a tombstone is stored where nothing was",
    );
    same(&store.usage().records, &2, "tombstones count");
}

pub(super) fn expected<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let version = |seq| samples.mutable(b"swap", seq, Some(b"value"));
    let mut swap = |seq, expected| {
        let record = version(seq);
        store.put_with(Put {
            record: &record,
            expected: Some(expected),
            due: NOW,
            own: false,
            source: Source::UNKNOWN,
            sender: None,
        })
    };
    same(
        &swap(1, 7),
        &Verdict::Conflict { current: 0 },
        "an expected version that is not there is a conflict",
    );
    same(
        &swap(2, 0),
        &Verdict::Stored,
        "version 0 is expected where nothing is held",
    );
    same(
        &swap(3, 0),
        &Verdict::Conflict { current: 2 },
        "a held version is a conflict where none is expected",
    );
    same(
        &swap(3, 1),
        &Verdict::Conflict { current: 2 },
        "another expected version is a conflict",
    );
    same(&swap(3, 2), &Verdict::Stored, "the expected version is replaced");
    same(
        &store.flushed(&version(3)).raw,
        version(3).as_raw(),
        "a conflict changes nothing",
    );
}

pub(super) fn own<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let version = |seq| samples.mutable(b"own", seq, Some(b"value"));
    let (first, second) = (version(1), version(2));
    let put = |record, own| Put {
        record,
        expected: None,
        due: NOW,
        own,
        source: Source::UNKNOWN,
        sender: None,
    };
    store.put_with(put(&first, false));
    rule(!store.flushed(&first).own, "a record of others is not own");
    same(
        &store.put_with(put(&first, true)),
        &Verdict::Unchanged,
        "the same version changes nothing",
    );
    rule(
        store.flushed(&first).own,
        "a put of our own makes an unchanged record own",
    );
    store.put_with(put(&first, false));
    rule(store.flushed(&first).own, "a record once own stays own");
    let later = Put {
        due: at(5),
        ..put(&first, false)
    };
    store.put_with(later);
    rule(
        store.flushed(&first).due == NOW,
        "a put of others does not put off an own record",
    );
    store.put_with(Put { own: true, ..later });
    rule(
        store.flushed(&first).due == at(5),
        "a put of our own moves the due time of an own record",
    );
    store.put_with(put(&first, true));
    store.put_with(put(&second, false));
    rule(store.flushed(&second).own, "own goes over to the next version");
    store.remove(&second.slot());
    store.put_with(put(&second, false));
    rule(!store.flushed(&second).own, "own ends when the slot is removed");
}

pub(super) fn remove<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let record = samples.mutable(b"remove", 9, Some(b"value"));
    let slot = record.slot();
    rule(!store.remove(&slot), "nothing is removed where nothing is held");
    store.keep(&record);
    rule(store.remove(&slot), "a record is removed before it is flushed");
    rule(!store.remove(&slot), "what was removed is not there");
    store.flush();
    rule(
        store.get(&slot).is_none(),
        "what was removed before the flush is not read after it",
    );
    store.keep(&record);
    store.flush();
    rule(store.remove(&slot), "a record is removed after it was flushed");
    rule(!store.remove(&slot), "what was removed is not there");
    store.keep(&samples.mutable(b"remove", 1, Some(b"value")));
    rule(
        store.remove(&slot),
        "a record put after a removal is there to be removed",
    );
    store.flush();
    rule(
        store.get(&slot).is_none(),
        "what was removed is not read after the flush",
    );
    let all = super::Scan::all(10);
    rule(store.scan(all).is_empty(), "what was removed is in no scan");
    rule(
        store.scan(all.due_by(END)).is_empty(),
        "what was removed is not due",
    );
    same(
        &store.expire(END + samples.longest(), 10),
        &0,
        "what was removed does not expire",
    );
}

pub(super) fn bytes<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let mut records = Vec::new();
    for size in [0, 1, 3000, 4095, 4096, 4097, 61_440, MAX_VALUE - 1, MAX_VALUE] {
        let value = vec![0xa5; size];
        records.push(samples.immutable(&value, END));
        records.push(samples.mutable(&size.to_be_bytes(), 1, Some(&value)));
        records.push(samples.provider(1, key(size as u64), 0, Some(&value[..size.min(1024)])));
    }
    let largest = samples.mutable(&[1; MAX_SALT], 1, Some(&[2; MAX_VALUE]));
    same(
        &largest.as_bytes().len(),
        &MAX_RECORD,
        "the largest record is as large as kad-core says",
    );
    records.push(largest);
    let over = Record::immutable(&vec![0; MAX_VALUE + 1], END, samples.rules(), NOW);
    same(
        &over.err(),
        &Some(RecordError::TooLarge),
        "a larger record cannot be built",
    );
    for record in &records {
        store.keep(record);
    }
    store.flush();
    for record in &records {
        let stored = store.get(&record.slot());
        let raw = stored.map(|stored| stored.raw);
        rule(
            raw.as_ref() == Some(record.as_raw()),
            "what is read is what was put, at every size",
        );
        let verified = raw.map(|raw| Record::verify(raw, samples.rules(), NOW));
        rule(verified == Some(Ok(record.clone())), "what is read verifies");
    }
}

pub(super) fn discard<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let record = samples.numbered(1);
    let discard = |store: &mut Tested<S>| {
        let discarded = store.0.discard(&record.slot());
        discarded.expect("discard answered an error")
    };
    rule(!discard(&mut store), "what is not there is not discarded");
    store.keep(&record);
    rule(
        !discard(&mut store),
        "what is not flushed is not discarded, as it is whole",
    );
    store.flush();
    rule(!discard(&mut store), "what can be read is not discarded");
    same(
        &store.flushed(&record).raw,
        record.as_raw(),
        "what was not discarded is there",
    );
}
