//! What is told of a store, and what is only counted.

use kad_core::{Keypair, MutableVersion, NetworkId, Parameters, Source};
use kad_store::{Limits, MemoryReader, MemoryStore, Page, Put, RecordStore as _, StoredRecord};

use super::*;
use crate::file::Surveyed;

const NOW: UnixTime = UnixTime::from_secs(1000);
const END: UnixTime = UnixTime::from_secs(5000);

fn rules(network: &str) -> Rules {
    let parameters = Parameters::default();
    Rules::new(NetworkId::new(network, &parameters), &parameters)
}

fn put(store: &mut MemoryStore, record: &Record, own: bool) {
    let put = Put {
        record,
        expected: None,
        due: END,
        own,
        source: Source::UNKNOWN,
        sender: None,
    };
    assert!(store.put(put).unwrap().is_acknowledgement());
}

#[test]
fn of_more_holdings_than_are_listed_the_others_are_counted() {
    let mut store = MemoryStore::new(Limits::default());
    for number in 0..MAX_LISTED as u64 + 7 {
        let record = Record::immutable(&number.to_be_bytes(), END, &rules("test"), NOW).unwrap();
        put(&mut store, &record, true);
    }
    let of_others = Record::immutable(b"of others", END, &rules("test"), NOW).unwrap();
    put(&mut store, &of_others, false);
    store.flush().unwrap();
    let listing = listing(&store.reader(), &rules("test"), &[], NOW).unwrap();
    assert_eq!((listing.holdings.len(), listing.more), (MAX_LISTED, 7));
    assert!(listing.holdings.is_sorted_by_key(|holding| holding.key));
}

#[test]
fn what_is_no_record_of_this_network_is_counted_as_damaged() {
    let mut store = MemoryStore::new(Limits::default());
    let version = MutableVersion {
        salt: b"a",
        seq: 1,
        issued: NOW,
        expiry: END,
        value: Some(b"one"),
    };
    let record = Record::mutable(&Keypair::from_secret(&[1; 32]), &version, &rules("test"), NOW).unwrap();
    put(&mut store, &record, true);
    store.flush().unwrap();
    let damaged = |network: &str| {
        listing(&store.reader(), &rules(network), &[], NOW)
            .unwrap()
            .damaged
    };
    assert_eq!((damaged("test"), damaged("other")), (0, 1));
}

/// A store of which some records are damaged, as its pages tell.
#[derive(Clone)]
struct Torn(MemoryReader, Vec<Key>);

impl RecordReader for Torn {
    fn get(&self, slot: &Slot) -> Result<Option<StoredRecord>, StoreError> {
        self.0.get(slot)
    }

    fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        let mut page = self.0.scan(scan)?;
        let (torn, records) =
            (page.records.into_iter()).partition(|stored| self.1.contains(&stored.slot.key));
        let torn: Vec<StoredRecord> = torn;
        page.records = records;
        page.damaged.extend(torn.iter().map(|stored| stored.slot));
        Ok(page)
    }
}

#[test]
fn what_a_disk_cannot_give_back_is_counted_as_damaged() {
    let mut store = MemoryStore::new(Limits::default());
    let mut keys = Vec::new();
    for number in 0..2 * PAGE as u64 {
        let record = Record::immutable(&number.to_be_bytes(), END, &rules("test"), NOW).unwrap();
        put(&mut store, &record, true);
        keys.push(record.key());
    }
    store.flush().unwrap();
    let torn = Torn(store.reader(), keys.iter().copied().step_by(500).collect());
    let listing = listing(&torn, &rules("test"), &[], NOW).unwrap();
    assert_eq!((listing.damaged, listing.holdings.len()), (5, 2 * PAGE - 5));
}

#[test]
fn the_sample_of_a_large_file_is_small_spread_and_begins_with_its_root() {
    let root = Key::from_limbs([500, 0, 0, 0]);
    for count in [1_u64, 2, 31, 32, 33, 34, 64, 65, 1000, 100_000] {
        let keys: BTreeSet<Key> = (0..count).map(|n| Key::from_limbs([n * 7, 0, 0, 1])).collect();
        let tree = Tree {
            survey: Surveyed {
                chunks: count,
                parity: 0,
                indexes: 1,
                bytes: count,
                is_sealed: false,
                code: None,
            },
            keys: keys.into_iter().chain([root]).collect(),
            is_walked: true,
        };
        let holding = file(root, &tree, &BTreeMap::new());
        assert_eq!((holding.records, holding.missing), (count + 1, count + 1));
        assert_eq!(holding.sample[0], root);
        let (sample, most) = (holding.sample.len() as u64, MAX_SAMPLE + 1);
        assert!(
            sample <= most && sample >= (count + 1).min(most / 2),
            "{sample} of {count}"
        );
        assert!(holding.sample[1..].is_sorted());
    }
}
