//! What a full store gives up, and what it costs to find it.

use std::cell::Cell;

use kad_core::{Announcement, Key, Keypair, Kind};

use super::*;

const ALICE: Source = Source::new(1);
const BOB: Source = Source::new(2);

/// What somebody provides: it lies where it is wanted.
fn lying_at(key: Key) -> Record {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("batch", &parameters), &parameters);
    let announcement = Announcement {
        key,
        issued: NOW,
        expiry: NOW + parameters.max_lifetime,
        payload: Some(b"here"),
    };
    Record::provider(&Keypair::from_secret(&[1; 32]), &announcement, &rules, NOW).unwrap()
}

/// One of the keys that are farthest from a node.
fn far_from(node: NodeId, nth: u64) -> Key {
    let [first, second, third, last] = node.to_key().to_limbs();
    Key::from_limbs([!first, !second, !third, !last ^ nth])
}

const fn from(record: &Record, source: Source) -> Put<'_> {
    Put {
        record,
        expected: None,
        due: NOW,
        own: false,
        source,
        sender: None,
    }
}

/// A store that holds these, flushed.
fn holding(records: &[(Record, Source)]) -> MemoryStore {
    let mut store = MemoryStore::new(Limits::default());
    for (record, source) in records {
        assert_eq!(store.put(from(record, *source)).unwrap(), Verdict::Stored);
    }
    store.flush().unwrap();
    store
}

/// A batch on top of these, as after opening with these limits.
fn opened(limits: Limits, records: &[(Record, Source)]) -> Batch {
    let mut ledger = Ledger::new(limits.around);
    for (record, source) in records {
        let stored = StoredRecord {
            slot: record.slot(),
            raw: record.as_raw().clone(),
            due: NOW,
            own: false,
            source: *source,
        };
        ledger.add(record.key(), &(&stored).into());
    }
    Batch::new(limits, ledger)
}

fn bytes<'a>(records: impl IntoIterator<Item = &'a (Record, Source)>) -> u64 {
    let lengths = records
        .into_iter()
        .map(|(record, _)| record.as_bytes().len() as u64);
    lengths.sum()
}

/// Listings without records.
struct Shelf(BTreeMap<Slot, Listing>);

impl Committed for Shelf {
    fn held(&self, slot: &Slot) -> Result<Option<Held>, StoreError> {
        Ok(self.0.get(slot).map(|&listing| Held {
            raw: None,
            due: NOW,
            listing,
        }))
    }

    fn records(
        &self,
        first: &Slot,
        last: &Slot,
        order: Order,
        each: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut range = self
            .0
            .range(first..=last)
            .map(|(slot, listing)| (*slot, *listing));
        let _ = match order {
            Order::Up => range.try_for_each(|(slot, listing)| each(slot, listing)),
            Order::Down => range.rev().try_for_each(|(slot, listing)| each(slot, listing)),
        };
        Ok(())
    }

    fn expired(
        &self,
        _: UnixTime,
        _: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        Ok(())
    }
}

#[test]
fn what_the_same_batch_gave_up_hides_nothing_that_may_go() {
    let node = NodeId::from_limbs([0, 0x5555 << 48, 0, 0]);
    // All in one part of the key space, as in a large network, where a node holds what is near to it.
    let slot = |nth: u64| {
        let [first, second, third, last] = node.to_key().to_limbs();
        Slot {
            key: Key::from_limbs([first, second ^ nth << 40, third, last]),
            kind: Kind::Immutable,
            provider: NodeId::default(),
        }
    };
    let listing = Listing {
        expiry: NOW,
        bytes: 100,
        own: false,
        source: ALICE,
        is_tombstone: false,
    };
    let mut shelf = Shelf((1..=3000).map(|nth| (slot(nth), listing)).collect());
    let opened = |shelf: &Shelf, max_records| {
        let mut ledger = Ledger::new(Some(node));
        shelf.0.keys().for_each(|slot| ledger.add(slot.key, &listing));
        let limits = Limits {
            max_records,
            around: Some(node),
            ..Limits::default()
        };
        Batch::new(limits, ledger)
    };
    let newcomer = lying_at(node.to_key());
    for gone in [10, 100, 2000] {
        let mut batch = opened(&shelf, 3000 - gone);
        for nth in 3001 - gone..=3000 {
            assert!(batch.remove(&shelf, &slot(nth)).unwrap());
        }
        match batch.put(&shelf, put(&newcomer)) {
            Err(StoreError::BatchFull) if gone == 2000 => {}
            verdict => {
                assert_eq!(verdict.unwrap(), Verdict::Stored, "after {gone}");
                let farthest = slot(3000 - gone);
                assert!(matches!(batch.changes[&farthest].change, Change::Removed));
            }
        }
    }
    // And what a flush has done away with is in nobody's way.
    shelf
        .0
        .retain(|held, _| node.distance(held.key) <= node.distance(slot(1000).key));
    let mut batch = opened(&shelf, 1000);
    assert_eq!(batch.put(&shelf, put(&newcomer)).unwrap(), Verdict::Stored);
}

#[test]
fn small_records_at_the_edge_do_not_keep_out_what_is_large() {
    let newcomer = record(1000, 60_000);
    let node = newcomer.key().to_node_id();
    let large = (0..10).map(|number| (record(number, 60_000), ALICE));
    let small = (0..100).map(|nth| (lying_at(far_from(node, nth)), BOB));
    let records: Vec<_> = large.chain(small).collect();
    let base = holding(&records);
    let room = bytes(&records);
    let limits = Limits {
        max_bytes: room,
        around: Some(node),
        ..Limits::default()
    };
    let mut batch = opened(limits, &records);
    let base = base.flushed();
    assert_eq!(batch.put(&*base, put(&newcomer)).unwrap(), Verdict::Stored);
    assert_eq!(batch.usage().records, 110, "one large record has gone");
    // The place that one more record takes is left by a small one as well, and the bytes by the large.
    let limits = Limits {
        max_records: 110,
        ..limits
    };
    let mut batch = opened(limits, &records);
    assert_eq!(batch.put(&*base, put(&newcomer)).unwrap(), Verdict::Stored);
    assert_eq!(
        batch.usage().records,
        109,
        "the farthest and a large record have gone"
    );
}

#[test]
fn as_many_small_records_as_may_go_for_one_are_given_up_where_they_make_enough_room() {
    let small = record(0, 100);
    // The largest value that fits into their place.
    let header = small.as_bytes().len() - 100;
    let most = MAX_EVICTED * small.as_bytes().len() - header;
    for (size, verdict) in [(most, Verdict::Stored), (most + 1, Verdict::Full)] {
        let newcomer = record(1000, size);
        let records: Vec<_> = (0..80).map(|number| (record(number, 100), ALICE)).collect();
        let base = holding(&records);
        let limits = Limits {
            max_bytes: bytes(&records),
            around: Some(newcomer.key().to_node_id()),
            ..Limits::default()
        };
        let mut batch = opened(limits, &records);
        assert_eq!(batch.put(&*base.flushed(), put(&newcomer)).unwrap(), verdict);
        let left = if verdict == Verdict::Stored { 17 } else { 80 };
        assert_eq!(batch.usage().records, left);
    }
}

#[test]
fn a_store_above_lowered_limits_takes_what_is_nearer_and_does_not_grow() {
    let newcomer = record(1000, 400);
    let records: Vec<_> = (0..200).map(|number| (record(number, 100), ALICE)).collect();
    let base = holding(&records);
    let base = base.flushed();
    for (max_records, max_bytes) in [(10, u64::MAX), (u64::MAX, 1000), (10, 1000)] {
        let limits = Limits {
            max_records,
            max_bytes,
            around: Some(newcomer.key().to_node_id()),
            ..Limits::default()
        };
        let mut batch = opened(limits, &records);
        let before = batch.usage();
        let verdict = batch.put(&*base, put(&newcomer)).unwrap();
        assert_eq!(
            verdict,
            Verdict::Stored,
            "{max_records} records, {max_bytes} bytes"
        );
        let after = batch.usage();
        assert!(max_records > 200 || after.records <= before.records, "{after:?}");
        assert!(
            max_bytes > before.bytes || after.bytes <= before.bytes,
            "{after:?}"
        );
    }
}

/// Counts the slots that are looked at.
struct Counting<'a, C>(&'a C, Cell<usize>);

impl<C: Committed> Committed for Counting<'_, C> {
    fn held(&self, slot: &Slot) -> Result<Option<Held>, StoreError> {
        self.0.held(slot)
    }

    fn records(
        &self,
        first: &Slot,
        last: &Slot,
        order: Order,
        each: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.0.records(first, last, order, &mut |slot, listing| {
            self.1.set(self.1.get() + 1);
            each(slot, listing)
        })
    }

    fn expired(
        &self,
        now: UnixTime,
        each: &mut dyn FnMut(Slot, Listing) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.0.expired(now, each)
    }
}

#[test]
fn a_sender_beyond_its_share_makes_nobody_search_for_long() {
    let newcomer = record(1000, 8);
    let node = newcomer.key().to_node_id();
    let mut records: Vec<_> = (0..500).map(|number| (record(number, 8), BOB)).collect();
    records.sort_by_key(|(record, _)| std::cmp::Reverse(node.distance(record.key())));
    // What is farthest is not the sender's.
    for (_, source) in &mut records[..200] {
        *source = ALICE;
    }
    let base = holding(&records);
    let base = base.flushed();
    let limits = Limits {
        max_records: 500,
        around: Some(node),
        ..Limits::default()
    };
    let mut batch = opened(limits, &records);
    let counting = Counting(&*base, Cell::new(0));
    assert_eq!(batch.put(&counting, from(&newcomer, BOB)).unwrap(), Verdict::Full);
    // Each end of a range that is looked for after that may look at one more.
    let most = MAX_LOOKED_FOR_OWN_PLACE + 4;
    assert!(counting.1.get() <= most, "{} looks", counting.1.get());
    assert_eq!(
        batch.put(&*base, from(&newcomer, ALICE)).unwrap(),
        Verdict::Stored
    );
}
