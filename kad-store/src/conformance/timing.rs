//! The two times of a record: when it ends, and when it is due.

use kad_core::Verdict;

use super::samples::{NOW, Samples, at};
use super::{Open, RecordStore, Scan, Tested, due_at, rule, same, unlimited};

pub(super) fn expiry<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    // Put in an order that is neither that of the expiries nor of the slots.
    let records: Vec<_> = (0..20u64)
        .map(|i| samples.immutable(&i.to_be_bytes(), at(1000 + (i * 7) % 20)))
        .collect();
    for record in &records {
        store.keep(record);
    }
    store.flush();
    same(&store.expire(at(999), 100), &0, "nothing ends before its time");
    same(&store.expire(at(1004), 0), &0, "a limit of none removes none");
    same(&store.expire(at(1000), 100), &1, "a record ends at its expiry");
    same(
        &store.expire(at(1019), 4),
        &4,
        "no more than the limit are removed",
    );
    store.flush();
    for record in &records {
        let held = store.get(&record.slot()).is_some();
        same(
            &held,
            &(record.expiry() > at(1004)),
            "records that ended first are removed first",
        );
    }
    same(&store.usage().records, &15, "what expired is not counted");
    // A longer life moves a record in the index; a removal takes it out.
    let renewed = &records[15]; // at(1005)
    let put = samples.immutable(&15u64.to_be_bytes(), at(5000));
    same(&store.put(&put), &Verdict::Stored, "a longer life is stored");
    rule(
        store.remove(&records[18].slot()),
        "a record can be removed before it ends",
    );
    same(
        &store.expire(at(4999), 100),
        &13,
        "what was renewed or removed does not expire",
    );
    store.flush();
    rule(store.get(&renewed.slot()).is_some(), "a renewed record lives on");
    same(
        &store.expire(at(5000), 100),
        &1,
        "a renewed record ends at its new expiry",
    );
    store.flush();
    same(&store.usage().records, &0, "in the end nothing is left");
    rule(store.scan(Scan::all(10)).is_empty(), "what expired is in no scan");
}

pub(super) fn expiry_of_the_batch<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let ends = |number: u8, secs| samples.immutable(&[number], at(secs));
    let (a, b, c, d) = (ends(1, 10), ends(2, 20), ends(3, 30), ends(4, 40));
    store.keep(&b);
    store.keep(&d);
    store.flush();
    store.keep(&a);
    store.keep(&c);
    same(
        &store.expire(at(100), 3),
        &3,
        "flushed and unflushed records end alike",
    );
    store.flush();
    for (record, held) in [(&a, false), (&b, false), (&c, false), (&d, true)] {
        same(
            &store.get(&record.slot()).is_some(),
            &held,
            "flushed and unflushed records end in one order",
        );
    }
    store.keep(&a);
    same(&store.expire(at(10), 9), &1, "what is put again ends again");
    same(&store.expire(at(10), 9), &0, "what has ended does not end twice");
}

pub(super) fn due<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let records: Vec<_> = (0..50).map(|i| samples.numbered(i)).collect();
    for (record, i) in records.iter().zip(0..) {
        store.put_with(due_at(record, at(i)));
    }
    store.flush();
    let scan = |store: &Tested<S>, secs| store.scan(Scan::all(7).due_by(at(secs)));
    rule(
        store.scan(Scan::all(7).due_by(NOW)).len() == 1,
        "a record is due at its due time",
    );
    let due = scan(&store, 19);
    same(&due.len(), &20, "all that is due is found, and nothing else");
    rule(
        due.iter().all(|record| record.due <= at(19)),
        "what is not due is not found",
    );
    let few = records
        .iter()
        .map(|record| record.slot())
        .min()
        .expect("there are fifty");
    let range = Scan {
        last: few,
        ..Scan::all(7)
    };
    same(
        &store.scan(range.due_by(at(99))).len(),
        &1,
        "a due scan keeps to its range",
    );
    for record in &records[..10] {
        same(
            &store.put_with(due_at(record, at(1000))),
            &Verdict::Unchanged,
            "the same record changes nothing",
        );
    }
    store.put_with(due_at(&records[49], at(1)));
    store.flush();
    let due = scan(&store, 19);
    same(
        &due.len(),
        &11,
        "a due time set anew takes the place of the old one, later or sooner",
    );
    same(
        &scan(&store, 1000).len(),
        &50,
        "a record that was put off is due later",
    );
    rule(
        due.iter()
            .all(|record| store.get(&record.slot).as_ref() == Some(record)),
        "get and scan agree",
    );
}
