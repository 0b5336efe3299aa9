//! What a read takes from holders, and how far it follows their pages.

use alloc::vec;

use super::*;
use crate::lookup::LookupConfig;
use crate::{Announcement, Key, Keypair, NetworkId, Parameters, Rules, UnixTime};

#[test]
fn a_census_takes_no_records() {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("test", &parameters), &parameters);
    let (now, end) = (UnixTime::from_secs(100), UnixTime::from_secs(200));
    let record = Record::immutable(b"value", end, &rules, now).unwrap();
    let ask = FindValue {
        key: record.key(),
        kind: Kind::Immutable,
        min_seq: 0,
        after: None,
        want: Want::Digest,
    };
    let mut task = FindValueTask::<u32>::new(ask, Read::Census, Region::new(ask.key, 20, None));
    let contact = Contact::new(NodeId::default(), 0);
    assert_eq!(
        task.on_values(Some(&contact), vec![Found::Record(record.clone())], None),
        Err(Misfit)
    );
    let other = FindValue {
        key: Key::default(),
        want: Want::Record,
        ..ask
    };
    let mut task = FindValueTask::<u32>::new(other, Read::First, Region::new(other.key, 20, None));
    assert_eq!(
        task.on_values(Some(&contact), vec![Found::Record(record)], None),
        Err(Misfit)
    );
}

/// Providers of one key, in the order of their ids.
fn providers(count: u8) -> (Key, Vec<Record>) {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("test", &parameters), &parameters);
    let (key, issued) = (Key::default(), UnixTime::from_secs(100));
    let provider = |number: u8| {
        let announcement = Announcement {
            key,
            issued,
            expiry: issued + parameters.max_lifetime,
            payload: Some(b"here"),
        };
        Record::provider(
            &Keypair::from_secret(&[number; 32]),
            &announcement,
            &rules,
            issued,
        )
        .unwrap()
    };
    let mut records: Vec<_> = (0..count).map(provider).collect();
    records.sort_by_key(|record| record.slot().provider);
    (key, records)
}

/// Reads all pages of one holder, which answers what `page` says. Gives the records and how many pages there were.
fn read(
    key: Key,
    after: NodeId,
    page: impl Fn(&FindValue) -> (Vec<Found>, Option<NodeId>),
) -> (Vec<Record>, usize) {
    let ask = FindValue {
        key,
        kind: Kind::Provider,
        min_seq: 0,
        after: Some(after),
        want: Want::Record,
    };
    let mut task = FindValueTask::<u32>::new(ask, Read::Gather(10_000), Region::new(key, 20, None));
    task.on_store(StoreReply::Failed);
    let holder = Contact::new(NodeId::from_limbs([9; 4]), 0);
    let (mut asked, mut pages) = (ask, 0);
    loop {
        pages += 1;
        let (found, next) = page(&asked);
        task.on_values(Some(&holder), found, next).unwrap();
        let Some((_, next)) = task.pages.last() else {
            return (task.records, pages);
        };
        asked.after = Some(*next);
        let mut lookup = Lookup::new(
            NodeId::default(),
            key,
            LookupConfig::new(20, 3, 1),
            core::iter::empty(),
        );
        assert!(
            matches!(task.next(&mut lookup, true), Todo::Ask(_, Request::FindValue(page)) if page == asked)
        );
    }
}

/// A page of an honest holder.
fn honest(records: &[Record], asked: &FindValue, limit: usize) -> (Vec<Found>, Option<NodeId>) {
    let mut page = records.to_vec();
    page.sort_by_key(|record| asked.turn_of(record.slot().provider));
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more).map(|record| record.slot().provider);
    (page.into_iter().map(Found::Record).collect(), next)
}

#[test]
fn a_reading_goes_round_once_wherever_it_begins() {
    let (key, records) = providers(50);
    let ids = records.iter().map(|record| record.slot().provider);
    let starts = ids.chain([
        NodeId::default(),
        NodeId::from_limbs([u64::MAX; 4]),
        NodeId::from_limbs([1 << 63; 4]),
    ]);
    for start in starts {
        for limit in [7, 10, 49, 50, 60] {
            let (found, pages) = read(key, start, |asked| honest(&records, asked, limit));
            let mut ids: Vec<_> = found.iter().map(|record| record.slot().provider).collect();
            ids.sort_unstable();
            assert!(
                ids.iter()
                    .copied()
                    .eq(records.iter().map(|record| record.slot().provider)),
                "{limit} a page"
            );
            assert!(pages <= 50usize.div_ceil(limit) + 1, "{pages} pages of {limit}");
            // Where the last page ends with the very one where the first began, nothing is asked twice.
            if ids.contains(&start) && 50usize.is_multiple_of(limit) {
                assert_eq!(pages, 50 / limit);
            }
        }
    }
}

#[test]
fn a_reading_goes_on_behind_pages_whose_records_have_all_ended() {
    let (key, records) = providers(50);
    let live = records[41].slot().provider;
    // Nothing but one record of the fifty is alive.
    let (found, pages) = read(key, NodeId::default(), |asked| {
        let (mut page, next) = honest(&records, asked, 10);
        page.retain(|found| matches!(found, Found::Record(record) if record.slot().provider == live));
        (page, next)
    });
    let found: Vec<_> = found.iter().map(|record| record.slot().provider).collect();
    assert_eq!(found, [live]);
    assert_eq!(pages, 6, "five, and the one that shows that it has gone round");
    // Nor does one that tells of nothing lead anybody round for ever.
    let next = |asked: &FindValue| {
        let at = asked.after.unwrap_or_default().to_key().to_limbs()[0];
        NodeId::from_limbs([at + 1, 0, 0, 0])
    };
    let (found, pages) = read(key, NodeId::default(), |asked| (Vec::new(), Some(next(asked))));
    assert_eq!((found.len(), pages), (0, MAX_PAGES + 1));
    let (_, pages) = read(key, NodeId::default(), |asked| (Vec::new(), asked.after));
    assert_eq!(pages, 1);
}

#[test]
fn a_holder_that_never_ends_is_left_when_it_has_gone_round() {
    let (key, records) = providers(50);
    let start = NodeId::from_limbs([1 << 63; 4]);
    // Always one record, and always the next one.
    let endless = |asked: &FindValue| {
        let (found, _) = honest(&records, asked, 1);
        let Some(Found::Record(record)) = found.first() else {
            unreachable!("there are fifty");
        };
        let next = record.slot().provider;
        (found, Some(next))
    };
    assert_eq!(read(key, start, endless).1, MAX_PAGES + 1);
    // Back and forth between two.
    let (found, pages) = read(key, start, |asked| {
        let first = asked.after == Some(start) || asked.after == Some(records[1].slot().provider);
        let record = records[usize::from(!first)].clone();
        let next = record.slot().provider;
        (vec![Found::Record(record)], Some(next))
    });
    assert!(found.len() <= 2 && pages <= 3, "{pages} pages");
}
