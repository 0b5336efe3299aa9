//! Pages of providers, as a store answers them: round from any point on, and a fair sample of all.

use std::collections::BTreeMap;

use kad_core::{
    Announcement, FindValue, Found, Key, Keypair, Kind, NetworkId, NodeId, Parameters, Record, Rules, Slot,
    Source, StoreReply, UnixTime, Want,
};
use kad_store::answer::{self, Damage};
use kad_store::{
    Limits, MemoryReader, MemoryStore, Page, Put, RecordReader, RecordStore as _, Scan, StoreError,
    StoredRecord,
};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const KEY: Key = Key::from_limbs([7, 7, 7, 7]);

fn rules() -> Rules {
    let parameters = Parameters::default();
    Rules::new(NetworkId::new("pages", &parameters), &parameters)
}

/// A store with so many providers of the key, whose payloads have so many bytes.
fn filled(count: u64, payload: usize) -> MemoryStore {
    let mut store = MemoryStore::new(Limits {
        max_providers_per_key: u32::MAX,
        ..Limits::default()
    });
    for n in 0..count {
        let mut secret = [1; 32];
        secret[..8].copy_from_slice(&n.to_be_bytes());
        let announcement = Announcement {
            key: KEY,
            issued: NOW,
            expiry: NOW + rules().max_lifetime,
            payload: Some(&vec![0; payload]),
        };
        let record = Record::provider(&Keypair::from_secret(&secret), &announcement, &rules(), NOW).unwrap();
        let put = Put {
            record: &record,
            expected: None,
            due: NOW,
            own: false,
            source: Source::UNKNOWN,
            sender: None,
        };
        store.put(put).unwrap();
    }
    store.flush().unwrap();
    store
}

/// A page, as ids and where to go on.
fn page(store: &MemoryStore, after: Option<NodeId>) -> (Vec<NodeId>, Option<NodeId>) {
    page_of(&store.reader(), after, NOW)
}

/// A page of a reader at a time.
fn page_of(
    reader: &impl RecordReader,
    after: Option<NodeId>,
    now: UnixTime,
) -> (Vec<NodeId>, Option<NodeId>) {
    let ask = FindValue {
        key: KEY,
        kind: Kind::Provider,
        min_seq: 0,
        after,
        want: Want::Record,
    };
    let reply = answer::found(reader, &rules(), &ask, now, |_, damage| {
        assert_eq!(damage, Damage::Unreadable);
    });
    let StoreReply::Found { found, next } = reply.unwrap() else {
        panic!("another reply");
    };
    let id = |found| match found {
        Found::Record(record) => record.slot().provider,
        Found::Digest { .. } => panic!("records were wanted"),
    };
    (found.into_iter().map(id).collect(), next)
}

/// Numbers that look like chance.
fn dice() -> impl FnMut() -> u64 {
    let mut state = 1u64;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.rotate_left(31)
    }
}

#[test]
fn a_page_goes_round_from_wherever_it_begins_and_says_whether_there_are_more() {
    // Pages that end by their number, and by their bytes.
    for (count, payload, most) in [
        (0, 4, 64),
        (1, 4, 64),
        (63, 4, 64),
        (64, 4, 64),
        (65, 4, 64),
        (150, 4, 64),
        (150, 1024, 64),
    ] {
        let store = filled(count, payload);
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (ids, next) = page(&store, after);
            assert!(ids.len() <= most);
            all.extend(ids);
            match next {
                Some(next) if all.len() < count as usize => after = Some(next),
                _ => break,
            }
        }
        all.truncate(count as usize);
        assert!(all.is_sorted(), "from the smallest on");
        let starts = all
            .iter()
            .copied()
            .chain([NodeId::default(), NodeId::from_limbs([u64::MAX; 4])]);
        for start in starts.collect::<Vec<_>>() {
            let behind = all.partition_point(|id| *id <= start);
            let round = [&all[behind..], &all[..behind]].concat();
            let (ids, next) = page(&store, Some(start));
            assert_eq!(ids, round[..ids.len()]);
            let whole = ids.len() == count as usize;
            assert_eq!(next, ids.last().copied().filter(|_| !whole), "{count} providers");
        }
    }
}

/// A reader of a disk on which the providers up to one are damaged.
#[derive(Clone)]
struct Scratched {
    reader: MemoryReader,
    up_to: NodeId,
}

impl RecordReader for Scratched {
    fn get(&self, slot: &Slot) -> Result<Option<StoredRecord>, StoreError> {
        self.reader.get(slot)
    }

    fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        let mut page = self.reader.scan(scan)?;
        let slots = page.records.iter().map(|record| record.slot);
        page.damaged
            .extend(slots.filter(|slot| slot.provider <= self.up_to));
        page.records.retain(|record| record.slot.provider > self.up_to);
        Ok(page)
    }
}

#[test]
fn a_page_of_which_nothing_is_left_leads_on_to_the_next() {
    let store = filled(100, 4);
    let mut ids: Vec<_> = store
        .reader()
        .scan(&Scan::all(100))
        .unwrap()
        .records
        .iter()
        .map(|record| record.slot.provider)
        .collect();
    ids.sort_unstable();
    // All have ended.
    let end = NOW + rules().max_lifetime;
    assert_eq!(page_of(&store.reader(), None, end), (vec![], Some(ids[63])));
    assert_eq!(
        page_of(&store.reader(), Some(ids[63]), end),
        (vec![], Some(ids[27]))
    );
    // The first seventy are damaged.
    let scratched = Scratched {
        reader: store.reader(),
        up_to: ids[69],
    };
    assert_eq!(page_of(&scratched, None, NOW), (vec![], Some(ids[63])));
    let (found, next) = page_of(&scratched, Some(ids[63]), NOW);
    assert_eq!((found, next), (ids[70..].to_vec(), Some(ids[27])));
}

#[test]
fn of_a_thousand_providers_each_is_seen_about_as_often() {
    let store = filled(1000, 4);
    let mut dice = dice();
    let mut seen: BTreeMap<NodeId, usize> = BTreeMap::new();
    for _ in 0..1000 {
        let start = NodeId::from_limbs([dice(), dice(), 0, 0]);
        for id in page(&store, Some(start)).0 {
            *seen.entry(id).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), 1000);
    let (least, most) = (seen.values().min().unwrap(), seen.values().max().unwrap());
    // 64 times on average. Chance, and how far the 64 ids before it are spread, make the difference: a fifth as a rule.
    assert!(*least > 16 && *most < 140, "from {least} to {most} times");
}
