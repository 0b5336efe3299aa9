use kad_core::summary::short;
use kad_core::{
    Duration, Keypair, MutableVersion, NetworkId, Parameters, Record, RecordError, Rules, Verdict,
};
use kad_store::{Limits, MemoryReader, MemoryStore, RecordReader as _, StoreError};

use super::*;
use crate::driver::unix_now;
use crate::policy::Registered;
use crate::{DenyList, Validator};

fn rules() -> Rules {
    let parameters = Parameters::default();
    Rules::new(NetworkId::new("storage", &parameters), &parameters)
}

fn version(owner: u8, seq: u64, value: &[u8]) -> Record {
    let now = unix_now();
    let version = MutableVersion {
        salt: b"salt",
        seq,
        issued: now,
        expiry: now + Duration::from_secs(3600),
        value: Some(value),
    };
    Record::mutable(&Keypair::from_secret(&[owner; 32]), &version, &rules(), now).unwrap()
}

/// What says "final" stays.
struct Final;

impl Validator for Final {
    fn choose(&self, held: &Record, _: &Record) -> bool {
        held.value() != "final"
    }
}

fn storage(validator: Registered) -> (Storage, MemoryReader, Arc<Policy>) {
    let store = MemoryStore::new(Limits::default());
    let (reader, policy) = (
        store.reader(),
        Policy::new(rules(), validator, DenyList::default()),
    );
    let policy = Arc::new(policy);
    (
        Storage::start(store, Vec::new(), policy.clone()).unwrap(),
        reader,
        policy,
    )
}

/// The verdicts on records that come in one write.
fn put(storage: &Storage, records: &[Record], own: bool) -> Vec<Verdict> {
    let (done, told) = sync_channel(1);
    let entries = records.iter().cloned().map(StoreEntry::from).collect();
    assert!(
        storage.put(entries, unix_now(), own, (Source::UNKNOWN, None), move |reply| {
            done.send(reply).unwrap();
        })
    );
    match told.recv().unwrap() {
        StoreReply::Put(verdicts) => verdicts,
        other => panic!("{other:?}"),
    }
}

const DENIED: Verdict = Verdict::Refused(RecordError::Denied);

#[test]
fn a_validator_chooses_between_versions_of_one_write_as_between_those_of_two() {
    let (storage, ..) = storage(Registered(Some(Arc::new(Final))));
    let versions = [
        version(1, 1, b"draft"),
        version(1, 2, b"final"),
        version(1, 3, b"more"),
    ];
    assert_eq!(
        put(&storage, &versions, false),
        [Verdict::Stored, Verdict::Stored, DENIED]
    );
    assert_eq!(put(&storage, &[version(1, 4, b"more")], false), [DENIED]);
    assert_eq!(
        put(&storage, &versions[..2], false),
        [Verdict::Stale { current: 2 }, Verdict::Unchanged]
    );
    // What the application publishes itself is its own choice.
    assert_eq!(put(&storage, &[version(1, 5, b"own")], true), [Verdict::Stored]);
    storage.close();
}

#[test]
fn versions_of_one_write_share_one_flush_whoever_chooses_between_them() {
    let (storage, ..) = storage(Registered(Some(Arc::new(Final))));
    let mut versions: Vec<Record> = (1..=60).map(|seq| version(1, seq, b"draft")).collect();
    versions.push(version(1, 61, b"final"));
    versions.push(version(1, 62, b"more"));
    let verdicts = put(&storage, &versions, false);
    assert_eq!(
        (&verdicts[..61], verdicts[61]),
        (&[Verdict::Stored; 61][..], DENIED)
    );
    assert_eq!(storage.stats().flushes, 1);
    storage.close();
}

#[test]
fn what_was_removed_before_the_flush_stands_in_nobodys_way() {
    let (storage, ..) = storage(Registered(Some(Arc::new(Final))));
    let (held, newer) = (version(1, 1, b"final"), version(1, 2, b"more"));
    assert_eq!(
        put(&storage, std::slice::from_ref(&held), false),
        [Verdict::Stored]
    );
    // The store's thread waits where it answers, so what is sent meanwhile shares a flush.
    let (answering, is_answering) = sync_channel(0);
    let (open, opened) = sync_channel(0);
    let wait = move |_| {
        answering.send(()).unwrap();
        opened.recv().unwrap();
    };
    let entries = vec![version(2, 1, b"other").into()];
    assert!(storage.put(entries, unix_now(), false, (Source::UNKNOWN, None), wait));
    is_answering.recv().unwrap();
    let slots = vec![held.slot()];
    assert!(storage.send(Write::Answered(WriteKind::Forget { slots }, Box::new(|_| ()))));
    let (done, told) = sync_channel(1);
    let sent = storage.put(
        vec![newer.into()],
        unix_now(),
        false,
        (Source::UNKNOWN, None),
        move |reply| done.send(reply).unwrap(),
    );
    assert!(sent);
    open.send(()).unwrap();
    let reply = told.recv().unwrap();
    assert!(
        matches!(&reply, StoreReply::Put(verdicts) if verdicts[..] == [Verdict::Stored]),
        "{reply:?}"
    );
    assert_eq!(storage.stats().flushes, 3);
    storage.close();
}

#[test]
fn a_version_that_was_fetched_and_not_chosen_is_not_fetched_again_while_the_other_lives() {
    let (storage, _, policy) = storage(Registered(Some(Arc::new(Final))));
    let (held, newer, other) = (
        version(1, 1, b"final"),
        version(1, 2, b"more"),
        version(2, 1, b"x"),
    );
    assert_eq!(
        put(&storage, std::slice::from_ref(&held), false),
        [Verdict::Stored]
    );
    assert_eq!(put(&storage, std::slice::from_ref(&newer), false), [DENIED]);
    let wanted = |now| {
        let marks = [&newer, &other].map(|record| short(record.as_raw().mark()));
        match policy.of_reply(StoreReply::Missing(marks.to_vec()), now) {
            StoreReply::Missing(wanted) => marks.map(|mark| wanted.contains(&mark)),
            reply => panic!("{reply:?}"),
        }
    };
    assert_eq!(wanted(unix_now()), [false, true]);
    assert_eq!(wanted(held.expiry()), [true, true]);
    storage.close();
}

/// It cannot choose.
struct Brittle;

impl Validator for Brittle {
    fn choose(&self, _: &Record, _: &Record) -> bool {
        panic!("it cannot choose")
    }
}

#[test]
fn a_validator_that_panics_ends_one_record_and_not_the_thread() {
    let (storage, ..) = storage(Registered(Some(Arc::new(Brittle))));
    let versions = [
        version(1, 1, b"draft"),
        version(1, 2, b"final"),
        version(2, 1, b"x"),
    ];
    assert_eq!(
        put(&storage, &versions, false),
        [Verdict::Stored, DENIED, Verdict::Stored]
    );
    assert_eq!(put(&storage, &[version(3, 1, b"y")], false), [Verdict::Stored]);
    storage.close();
}

#[test]
fn without_a_validator_the_greatest_version_wins() {
    let (storage, ..) = storage(Registered::default());
    let versions = [version(1, 2, b"final"), version(1, 3, b"more")];
    assert_eq!(put(&storage, &versions, false), [Verdict::Stored; 2]);
    storage.close();
}

#[test]
fn what_a_new_list_denies_is_removed_and_stays_away_and_nothing_else() {
    let (storage, reader, policy) = storage(Registered::default());
    // More than a page.
    let records: Vec<Record> = (0..2_500u32)
        .map(|n| {
            Record::immutable(
                &n.to_be_bytes(),
                unix_now() + Duration::from_secs(60),
                &rules(),
                unix_now(),
            )
        })
        .map(Result::unwrap)
        .collect();
    for some in records.chunks(100) {
        assert!(put(&storage, some, true).iter().all(Verdict::is_acknowledgement));
    }
    let signed = [version(1, 1, b"one"), version(2, 1, b"two")];
    assert_eq!(put(&storage, &signed, false), [Verdict::Stored; 2]);
    assert_eq!(purge(&reader, &storage, &policy).unwrap(), 0);

    let mut list = DenyList::default();
    let denied: Vec<&Record> = records.iter().step_by(7).collect();
    denied.iter().for_each(|record| list.deny_key(record.key()));
    list.deny_publisher(Keypair::from_secret(&[2; 32]).node_id());
    policy.deny(list);
    assert_eq!(
        purge(&reader, &storage, &policy).unwrap(),
        denied.len() as u64 + 1
    );
    assert_eq!(
        storage.stats().records,
        (records.len() + 2 - denied.len() - 1) as u64
    );
    let is_held = |record: &Record| reader.get(&record.slot()).unwrap().is_some();
    assert!(
        records
            .iter()
            .enumerate()
            .all(|(n, record)| is_held(record) == (n % 7 != 0))
    );
    assert!(is_held(&signed[0]) && !is_held(&signed[1]));
    assert_eq!(
        put(&storage, &[denied[0].clone(), signed[1].clone()], true),
        [DENIED; 2]
    );
    storage.close();
    assert!(matches!(
        purge(&reader, &storage, &policy),
        Err(StoreError::Closed)
    ));
}
