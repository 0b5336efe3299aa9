//! A key that everybody wants: ten thousand announcements from a few sites do not push out those from many.

use kad_core::{
    Announcement, Key, Keypair, Kind, NetworkId, Parameters, Record, Rules, Slot, Source, UnixTime,
};
use kad_store::{Limits, MemoryStore, Put, RecordReader as _, RecordStore as _, Scan};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const KEY: Key = Key::from_limbs([7, 7, 7, 7]);

/// What the nth provider says of the key.
fn announcement(n: u64) -> Record {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("flood", &parameters), &parameters);
    let mut secret = [1; 32];
    secret[..8].copy_from_slice(&n.to_be_bytes());
    let announcement = Announcement {
        key: KEY,
        issued: NOW,
        expiry: NOW + parameters.max_lifetime,
        payload: Some(b"here"),
    };
    Record::provider(&Keypair::from_secret(&secret), &announcement, &rules, NOW).unwrap()
}

/// Puts all of them, flushing now and then.
fn filled(announcements: &[(Record, Source)]) -> Vec<Slot> {
    let mut store = MemoryStore::new(Limits::default());
    for (n, (record, source)) in announcements.iter().enumerate() {
        let put = Put {
            record,
            expected: None,
            due: NOW,
            own: false,
            source: *source,
            sender: None,
        };
        store.put(put).unwrap();
        if n % 100 == 99 {
            store.flush().unwrap();
        }
    }
    store.flush().unwrap();
    let page = store
        .reader()
        .scan(&Scan::slots_of(KEY, Kind::Provider, None, 1000));
    page.unwrap()
        .records
        .into_iter()
        .map(|record| record.slot)
        .collect()
}

#[test]
fn a_flood_from_a_few_sites_pushes_no_provider_of_fifty_others_out() {
    let records: Vec<_> = (0..10_200).map(announcement).collect();
    let (honest, flood) = records.split_at(200);
    let from_sites = |records: &[Record], first: u64, sites: u64| {
        let source = |n: usize| Source::new(first + n as u64 % sites);
        let sent = records
            .iter()
            .enumerate()
            .map(|(n, record)| (record.clone(), source(n)));
        sent.collect::<Vec<_>>()
    };
    let honest = from_sites(honest, 1, 50);
    let flood = from_sites(flood, 1000, 5);
    let mut all = [honest.clone(), flood].concat();
    // By the digest, which looks like chance. The orders, and the numbers of sites, are tried out in `batch/fair.rs`.
    all.sort_by_cached_key(|(record, _)| record.digest());
    let left = filled(&all);
    assert_eq!(left.len(), 256);
    let lost = honest.iter().filter(|(record, _)| !left.contains(&record.slot()));
    assert_eq!(lost.count(), 0);
}
