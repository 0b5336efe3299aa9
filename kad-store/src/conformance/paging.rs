//! Scans: ranges, pages, and pages beside a writer.

use std::collections::BTreeSet;

use kad_core::{Key, Kind, MAX_VALUE, NodeId, Slot};

use super::samples::{END, Samples, at, key};
use super::{Open, RecordStore, Scan, Tested, due_at, rule, same, scan_pages, unlimited};
use crate::RecordReader as _;
use crate::scan::MAX_PAGE_BYTES;

const LOWEST: Key = Key::from_limbs([0; 4]);
const HIGHEST: Key = Key::from_limbs([u64::MAX; 4]);

pub(super) fn ranges<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    rule(
        store.scan(Scan::all(10)).is_empty(),
        "an empty store has no records",
    );
    let keys = [LOWEST, key(1), key(2), key(3), HIGHEST];
    for key in keys {
        store.keep(&samples.provider(1, key, 0, Some(b"here")));
    }
    rule(
        store.scan(Scan::all(10)).is_empty(),
        "a scan sees nothing before the flush",
    );
    store.flush();
    let found = |first, last| -> Vec<Key> {
        store
            .scan(Scan::keys(first, last, 10))
            .iter()
            .map(|record| record.slot.key)
            .collect()
    };
    same(
        &found(LOWEST, HIGHEST),
        &keys.to_vec(),
        "the whole range holds everything, in order",
    );
    same(
        &found(key(1), key(3)),
        &keys[1..4].to_vec(),
        "both ends belong to a range",
    );
    same(&found(key(2), key(2)), &vec![key(2)], "a range can be one key");
    same(
        &found(LOWEST, LOWEST),
        &vec![LOWEST],
        "the lowest key can be scanned",
    );
    same(
        &found(HIGHEST, HIGHEST),
        &vec![HIGHEST],
        "the highest key can be scanned",
    );
    same(&found(key(4), key(9)), &vec![], "a range can be empty");
    same(
        &found(key(3), key(1)),
        &vec![],
        "a range whose ends cross is empty",
    );
    let last = Slot {
        key: HIGHEST,
        kind: Kind::Provider,
        provider: NodeId::from_limbs([u64::MAX; 4]),
    };
    rule(
        store.scan(Scan::all(10).after(last)).is_empty(),
        "nothing is behind the last slot",
    );
    let before = Slot {
        key: LOWEST,
        kind: Kind::Immutable,
        provider: NodeId::default(),
    };
    let range = Scan::keys(key(2), HIGHEST, 10).after(before);
    same(
        &store.scan(range).len(),
        &3,
        "a position before the range begins with the range",
    );
}

pub(super) fn slots_of<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    // The card of the owner lies at its id, so all three kinds of slot meet under one key.
    let card = samples.mutable(b"", 1, Some(b"card"));
    let meeting = card.key();
    let [a, b, c, d] = meeting.to_limbs();
    let neighbours = [
        Key::from_limbs([a, b, c, d.wrapping_sub(1)]),
        Key::from_limbs([a, b, c, d.wrapping_add(1)]),
    ];
    store.keep(&card);
    let mut providers = BTreeSet::new();
    for number in 1..=9 {
        let record = samples.provider(number, meeting, 0, Some(b"here"));
        store.keep(&record);
        providers.insert(record.slot().provider);
    }
    for key in neighbours {
        store.keep(&samples.provider(1, key, 0, Some(b"there")));
    }
    store.flush();
    let found = |kind, after, limit| {
        let page = store
            .0
            .reader()
            .scan(&Scan::slots_of(meeting, kind, after, limit));
        let page = page.expect("scan answered an error");
        rule(
            page.records
                .iter()
                .all(|r| r.slot.key == meeting && r.slot.kind == kind),
            "one key and kind only",
        );
        let ids: Vec<_> = page.records.iter().map(|record| record.slot.provider).collect();
        (ids, page.next.map(|slot| slot.provider))
    };
    let providers: Vec<_> = providers.into_iter().collect();
    same(
        &found(Kind::Provider, None, 20),
        &(providers.clone(), None),
        "all providers of a key, in order",
    );
    let (first, next) = found(Kind::Provider, None, 4);
    same(
        &(first.as_slice(), next),
        &(&providers[..4], Some(providers[3])),
        "the first providers of a key",
    );
    same(
        &found(Kind::Provider, next, 20),
        &(providers[4..].to_vec(), None),
        "the other providers of a key",
    );
    same(
        &found(Kind::Mutable, None, 20),
        &(vec![NodeId::default()], None),
        "the mutable record of a key",
    );
    same(
        &found(Kind::Immutable, None, 20),
        &(vec![], None),
        "a kind that the key has not",
    );
}

pub(super) fn pages<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let mut slots = BTreeSet::new();
    for i in 0..60 {
        let record = samples.numbered(i);
        let due = at(if i % 3 == 0 { 0 } else { 100 });
        store.put_with(due_at(&record, due));
        slots.insert(record.slot());
    }
    store.flush();
    let slots: Vec<_> = slots.into_iter().collect();
    for limit in [1, 2, 7, 59, 60, 61, 1000, usize::MAX] {
        let found: Vec<_> = store
            .scan(Scan::all(limit))
            .iter()
            .map(|record| record.slot)
            .collect();
        same(&found, &slots, "pages of any length join to the whole");
        let due = store.scan(Scan::all(limit).due_by(at(50)));
        same(
            &due.len(),
            &20,
            "pages of due records join to the whole, whatever their length",
        );
    }
    let none = store
        .0
        .reader()
        .scan(&Scan::all(0))
        .expect("scan answered an error");
    rule(none.records.len() <= 1, "a limit of none counts as one");
    let last = slots[slots.len() - 1];
    let end = store
        .0
        .reader()
        .scan(&Scan::all(5).after(last))
        .expect("scan answered an error");
    rule(
        end.records.is_empty() && end.next.is_none(),
        "behind the last record a scan is at its end",
    );
    for (i, slot) in slots.iter().enumerate().step_by(13) {
        same(
            &store.scan(Scan::all(9).after(*slot)).len(),
            &(59 - i),
            "a scan goes on behind its position",
        );
    }
}

pub(super) fn page_bytes<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(unlimited()));
    let count = MAX_PAGE_BYTES / MAX_VALUE + 8;
    for i in 0..count {
        let mut value = vec![0; MAX_VALUE];
        value[..8].copy_from_slice(&i.to_be_bytes());
        store.keep(&samples.immutable(&value, END));
        if i % 16 == 0 {
            store.flush();
        }
    }
    store.flush();
    let found = scan_pages(&store.0.reader(), Scan::all(1000), |page| {
        let bytes: usize = page
            .records
            .iter()
            .map(|record| record.raw.as_bytes().len())
            .sum();
        rule(
            bytes < MAX_PAGE_BYTES + 2 * MAX_VALUE,
            "a page of large records ends early",
        );
    });
    same(&found.len(), &count, "pages that end early join to the whole");
}

pub(super) fn while_writing<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    for due_by in [None, Some(at(100))] {
        let mut store = Tested(open(unlimited()));
        let there: Vec<_> = (0..40).map(|i| samples.numbered(i)).collect();
        for record in &there {
            store.put_with(due_at(record, at(50)));
        }
        store.flush();
        let scan = Scan {
            due_by,
            ..Scan::all(3)
        };
        let reader = store.0.reader();
        let mut turn = 0u64;
        let found = scan_pages(&reader, scan, |page| {
            // Others come, before and behind the position; one of them goes again; all change their due times, sooner
            // and later but never out of the scan.
            turn += 1;
            let new = [
                samples.numbered(1000 + 2 * turn),
                samples.numbered(1001 + 2 * turn),
            ];
            store.put_with(due_at(&new[0], at(turn % 100)));
            store.put_with(due_at(&new[1], at(turn % 100)));
            store.flush();
            store.remove(&new[1].slot());
            for (i, record) in there.iter().enumerate() {
                store.put_with(due_at(record, at((turn * 31 + i as u64) % 100)));
            }
            for record in &page.records {
                rule(record.due <= at(100), "what is not due is not found");
            }
            store.flush();
        });
        let slots: BTreeSet<_> = found.iter().map(|record| record.slot).collect();
        same(
            &slots.len(),
            &found.len(),
            "no record is found twice beside a writer",
        );
        rule(
            there.iter().all(|record| slots.contains(&record.slot())),
            "a record that stays is not skipped",
        );
        drop(reader);
        for record in store.scan(Scan::all(1000)) {
            store.remove(&record.slot);
        }
        store.flush();
    }
}
