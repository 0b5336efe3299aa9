use kad_core::{DueRecord, Duration, Keypair, MutableVersion, NetworkId, Parameters};

use super::*;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn rules() -> Rules {
    let parameters = Parameters::default();
    Rules::new(NetworkId::new("policies", &parameters), &parameters)
}

fn version(owner: u8, seq: u64, value: &[u8]) -> Record {
    let version = MutableVersion {
        salt: b"salt",
        seq,
        issued: NOW,
        expiry: NOW + Duration::from_secs(3600),
        value: Some(value),
    };
    Record::mutable(&Keypair::from_secret(&[owner; 32]), &version, &rules(), NOW).unwrap()
}

/// Values are short, and what says "final" is.
struct Short;

impl Validator for Short {
    fn admit(&self, record: &Record) -> Result<(), Refusal> {
        match record.value().len() {
            0..10 => Ok(()),
            _ => Err(Refusal::new("too long")),
        }
    }

    fn choose(&self, held: &Record, _: &Record) -> bool {
        held.value() != "final"
    }
}

fn policy(denied: &str) -> Policy {
    Policy::new(
        rules(),
        Registered(Some(Arc::new(Short))),
        denied.parse().unwrap(),
    )
}

#[test]
fn a_store_loses_the_records_that_are_not_wanted_and_no_others() {
    let policy = policy(&format!("key {}", version(3, 1, b"x").key()));
    let entries = [
        version(1, 1, b"fine"),
        version(2, 1, b"much too long"),
        version(3, 1, b"x"),
    ];
    let request = Request::Store {
        entries: entries.iter().cloned().map(Into::into).collect(),
    };
    let Request::Store { entries: judged } = policy.of_request(request) else {
        panic!("it is another request now")
    };
    assert_eq!(judged[0].record, Ok(entries[0].clone()));
    assert_eq!(judged[1].record, Err(RecordError::Denied));
    assert_eq!(judged[2].record, Err(RecordError::Denied));
}

#[test]
fn answers_lose_the_records_that_are_not_wanted() {
    let policy = policy(&format!("publisher {}", Keypair::from_secret(&[3; 32]).public()));
    let (fine, long, denied) = (
        version(1, 1, b"fine"),
        version(2, 1, b"much too long"),
        version(3, 1, b"x"),
    );
    let all = [&fine, &long, &denied];
    let values = Response::<u32>::Values {
        found: all.into_iter().cloned().map(Found::Record).collect(),
        next: None,
        closer: Vec::new(),
    };
    let Response::Values { found, .. } = policy.of_response(values) else {
        panic!("it is another answer now")
    };
    assert_eq!(found, [Found::Record(fine.clone())]);
    let fetched = Response::<u32>::Fetched {
        records: all.into_iter().cloned().collect(),
    };
    assert_eq!(
        policy.of_response(fetched),
        Response::Fetched {
            records: vec![fine.clone()]
        }
    );

    // They are not asked for again, until another list may let them in.
    let missing = || StoreReply::Missing(all.map(|record| short(record.as_raw().mark())).to_vec());
    let wanted = |reply| match reply {
        StoreReply::Missing(marks) => marks,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        wanted(policy.of_reply(missing(), NOW)),
        [short(fine.as_raw().mark())]
    );
    policy.deny(DenyList::default());
    assert_eq!(wanted(policy.of_reply(missing(), NOW)).len(), 3);
}

#[test]
fn what_is_denied_and_not_yet_removed_is_neither_told_nor_published() {
    let (fine, denied) = (version(1, 1, b"fine"), version(3, 1, b"x"));
    let policy = policy(&format!("key {}", denied.key()));
    let records = vec![fine.clone(), denied.clone()];
    let found = StoreReply::Found {
        found: records.iter().cloned().map(Found::Record).collect(),
        next: None,
    };
    let found = policy.of_reply(found, NOW);
    assert!(matches!(found, StoreReply::Found { found, .. } if found == [Found::Record(fine.clone())]));
    let due = |record: &Record| DueRecord {
        record: record.clone(),
        due: NOW,
        own: true,
    };
    let due = policy.of_reply(StoreReply::Due(records.iter().map(due).collect()), NOW);
    assert!(matches!(due, StoreReply::Due(due) if due.len() == 1 && due[0].record == fine));
    let fetched = policy.of_reply(StoreReply::Fetched { records, more: false }, NOW);
    assert!(matches!(fetched, StoreReply::Fetched { records, .. } if records == [fine]));
    assert!(policy.denies_key(denied.key()));
}

#[test]
fn a_validator_chooses_only_between_what_is_held_and_what_would_take_its_place() {
    let policy = policy("");
    let later = NOW + Duration::from_secs(3600);
    let may = |held: &Record, new: &Record| policy.may_replace(|| Some(held.as_raw().clone()), new, NOW);
    assert_eq!(may(&version(1, 1, b"draft"), &version(1, 2, b"final")), Ok(()));
    assert_eq!(may(&version(1, 2, b"final"), &version(1, 3, b"more")), Err(later));
    // The rules of the network decide about the rest: this one is stale.
    assert_eq!(may(&version(1, 2, b"final"), &version(1, 1, b"draft")), Ok(()));
    assert_eq!(policy.may_replace(|| None, &version(1, 1, b"x"), NOW), Ok(()));
    // What has ended stands in nobody's way.
    let ended = || Some(version(1, 2, b"final").as_raw().clone());
    assert_eq!(policy.may_replace(ended, &version(1, 3, b"x"), later), Ok(()));
}

/// It panics over everything but what says "fine".
struct Brittle;

impl Validator for Brittle {
    fn admit(&self, record: &Record) -> Result<(), Refusal> {
        assert_eq!(record.value(), "fine", "it cannot judge that");
        Ok(())
    }

    fn choose(&self, _: &Record, new: &Record) -> bool {
        new.value() == "fine" || panic!("it cannot choose")
    }
}

#[test]
fn a_validator_that_panics_has_refused() {
    let policy = Policy::new(rules(), Registered(Some(Arc::new(Brittle))), DenyList::default());
    let (fine, held, newer) = (version(1, 3, b"fine"), version(1, 1, b"x"), version(1, 2, b"y"));
    for _ in 0..2 {
        let refusal = policy.admit(&newer).unwrap_err();
        assert!(refusal.to_string().contains("panicked"), "{refusal}");
        assert_eq!(policy.admit(&fine), Ok(()));
        let may = |new: &Record| policy.may_replace(|| Some(held.as_raw().clone()), new, NOW);
        assert_eq!((may(&newer), may(&fine)), (Err(held.expiry()), Ok(())));
    }
}

#[test]
fn records_that_were_refused_are_remembered_up_to_a_bound() {
    let mut unwanted = Unwanted::default();
    for mark in (0..2 * MAX_UNWANTED as u64).flat_map(|mark| [mark, mark]) {
        unwanted.insert(mark, FOREVER);
    }
    assert_eq!(
        (unwanted.marks.len(), unwanted.order.len()),
        (MAX_UNWANTED, MAX_UNWANTED)
    );
    let last = 2 * MAX_UNWANTED as u64 - 1;
    assert!(!unwanted.has(0, NOW) && unwanted.has(last, NOW));
    // As long as was last said.
    unwanted.insert(last, NOW);
    assert!(!unwanted.has(last, NOW));
}
