//! Stores that refuse what is moved into them.

use alloc::vec;

use super::*;
use crate::{NetworkId, Parameters, Rules, UnixTime};

const LEFT: Contact<u32> = Contact::new(NodeId::from_limbs([1, 0, 0, 0]), 1);
const NEXT: Contact<u32> = Contact::new(NodeId::from_limbs([2, 0, 0, 0]), 2);

/// So many records, in the order of their keys.
fn records(count: u64) -> Vec<Record> {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("test", &parameters), &parameters);
    let (now, end) = (UnixTime::from_secs(100), UnixTime::from_secs(200));
    let record = |n: u64| Record::immutable(&n.to_be_bytes(), end, &rules, now).expect("a small value");
    let mut records: Vec<_> = (0..count).map(record).collect();
    records.sort_unstable_by_key(Record::key);
    records
}

fn marks(records: &[Record]) -> Vec<u64> {
    let mut marks: Vec<_> = records
        .iter()
        .map(|record| short(record.as_raw().mark()))
        .collect();
    marks.sort_unstable();
    marks
}

fn sum(records: &[Record]) -> Fingerprint {
    let mut sum = Fingerprint::default();
    records.iter().for_each(|record| sum.add(record.as_raw().mark()));
    sum
}

/// Draws from one peer and then from another who both have these; the own store has nothing and judges so. Tells how
/// many records each was asked for.
fn drawn(all: &[Record], judge: impl Fn(usize) -> Verdict) -> [usize; 2] {
    let visits = [LEFT, NEXT].map(|peer| (peer, vec![Prefix::ALL]));
    let mut task = Reconcile::new(Direction::Draw, vec![visits.to_vec()], true);
    let (mut fetched, mut put) = ([0, 0], 0);
    loop {
        match task.next() {
            Todo::Store(StoreOp::Summarize { .. }) => {
                task.on_store(StoreReply::Summaries(vec![Fingerprint::default()]));
            }
            Todo::Store(StoreOp::Missing { marks, .. }) => task.on_store(StoreReply::Missing(marks)),
            Todo::Ask(peer, Request::Compare { .. }) => {
                task.on_compared(peer.id, vec![Difference::Listed(marks(all))]);
            }
            Todo::Ask(peer, Request::Fetch { marks, .. }) => {
                fetched[peer.address as usize - 1] += marks.len();
                let given = all
                    .iter()
                    .filter(|record| marks.contains(&short(record.as_raw().mark())));
                put = marks.len();
                task.on_fetched(peer.id, given.cloned().collect());
            }
            Todo::Keep(..) => task.on_store(StoreReply::Put((0..put).map(&judge).collect())),
            Todo::Finish => return fetched,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_full_store_fetches_one_page_from_each_and_no_more() {
    let all = records(300);
    assert_eq!(drawn(&all, |_| Verdict::Full), [MAX_RECORDS; 2]);
    // One that has room for most, or has had it all, goes on.
    let mostly = |place| match place % 3 {
        0 => Verdict::Full,
        _ => Verdict::Stored,
    };
    assert_eq!(drawn(&all, mostly), [300; 2]);
    assert_eq!(drawn(&all, |_| Verdict::Unchanged), [300; 2]);
}

/// Hands these to a peer that judges them one by one and tells of what it has taken. Tells how often each record was
/// offered, and how many comparisons it took.
fn handed(all: &[Record], accepts: impl Fn(usize) -> bool) -> (Vec<usize>, usize) {
    let visits = vec![(LEFT, vec![Prefix::ALL])];
    let mut task = Reconcile::new(Direction::Hand, vec![visits], true);
    let (mut offered, mut taken, mut compared) = (vec![0; all.len()], Vec::new(), 0);
    loop {
        match task.next() {
            Todo::Store(StoreOp::Summarize { prefixes }) => {
                assert_eq!(prefixes, [Prefix::ALL]);
                task.on_store(StoreReply::Summaries(vec![sum(all)]));
            }
            Todo::Ask(peer, Request::Compare { .. }) => {
                compared += 1;
                let mut told = marks(&taken);
                told.truncate(MAX_LISTED);
                task.on_compared(peer.id, vec![Difference::Listed(told)]);
            }
            // As a store has it: of a part the first so many are looked at, and told of page by page.
            Todo::Store(StoreOp::Fetch { marks, listed, .. }) => {
                assert!(!listed && marks.is_sorted() && marks.len() < 2 * MAX_LISTED + MAX_RECORDS);
                let known = |record: &&Record| marks.binary_search(&short(record.as_raw().mark())).is_ok();
                let seen = all.iter().take(MAX_LISTED);
                let mut records: Vec<_> = seen.filter(|record| !known(record)).cloned().collect();
                let more = records.len() > MAX_RECORDS;
                records.truncate(MAX_RECORDS);
                task.on_store(StoreReply::Fetched { records, more });
            }
            Todo::Ask(peer, Request::Store { entries }) => {
                let mut verdicts = Vec::new();
                for entry in entries {
                    let record = entry.record.expect("a fair record");
                    let place = all
                        .iter()
                        .position(|other| *other == record)
                        .expect("one of them");
                    offered[place] += 1;
                    verdicts.push(match accepts(place) {
                        true => Verdict::Stored,
                        false => Verdict::Full,
                    });
                    taken.extend(accepts(place).then_some(record));
                }
                task.on_verdicts(peer.id, &verdicts);
            }
            Todo::Finish => {
                assert_eq!(task.moved(), taken.len() as u64);
                return (offered, compared);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn who_hands_over_offers_what_comes_after_a_page_of_refusals_and_nothing_twice() {
    let all = records(300);
    for first in [0, 1, 63, 64, 65, 200, 300] {
        let (offered, compared) = handed(&all, |place| place >= first);
        assert_eq!((offered, compared), (vec![1; 300], 1), "{first} are refused");
    }
    let (offered, _) = handed(&all, |place| place % 2 == 0);
    assert_eq!(offered, [1; 300]);
}

#[test]
fn a_part_of_more_records_than_are_told_is_compared_once_more_if_the_peer_took_some() {
    let all = records(MAX_LISTED as u64 + 50);
    let (offered, compared) = handed(&all, |_| true);
    assert_eq!(compared, 2);
    assert!(offered[..MAX_LISTED].iter().all(|&times| times == 1));
    assert_eq!(handed(&all, |_| false).1, 1);
}
