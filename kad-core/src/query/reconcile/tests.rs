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
