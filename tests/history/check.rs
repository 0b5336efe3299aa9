//! What was done and told, and what of it cannot be.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A version of the one record that a history is about. The order is that of the network: number, deletion, value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) seq: u64,
    pub(crate) deleted: bool,
    pub(crate) value: Vec<u8>,
}

impl Version {
    pub(crate) fn new(seq: u64, value: impl Into<Vec<u8>>) -> Self {
        Self {
            seq,
            deleted: false,
            value: value.into(),
        }
    }

    pub(crate) const fn deletion(seq: u64) -> Self {
        Self {
            seq,
            deleted: true,
            value: Vec::new(),
        }
    }
}

/// What a writer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was taken by as many as it takes.
    Acknowledged,
    /// There is somebody else. The version may be there all the same.
    Conflict,
    /// Anything else, such as too few acknowledgements. The version may be there all the same.
    Unknown,
}

/// What a client did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Did {
    Write {
        version: Version,
        /// Only if this was the version there.
        expected: Option<u64>,
        told: Told,
    },
    /// What it read, a deletion or nothing being `None`.
    Read { found: Option<Version> },
}

/// Something that a client did, from before it was asked until after it was told. A client does one thing at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) did: Did,
}

/// Everything that was done, told of by all clients at once.
#[derive(Debug, Default)]
pub(crate) struct History {
    clock: AtomicU64,
    operations: Mutex<Vec<Operation>>,
}

impl History {
    /// Now, in steps of one.
    pub(crate) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Something has ended that began then.
    pub(crate) fn ended(&self, client: usize, began: u64, did: Did) {
        let ended = self.now();
        let operation = Operation {
            client,
            began,
            ended,
            did,
        };
        self.operations.lock().unwrap().push(operation);
    }

    /// What was done, in the order in which it began.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        let mut operations = self.operations.lock().unwrap().clone();
        operations.sort_by_key(|operation| operation.began);
        operations
    }
}

/// What was promised for a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Nodes came and went, or were parted: what is promised always.
    Always,
    /// The region did not change: in addition a read meets every version that was acknowledged before it began, and of
    /// those who expected the same version one at most is told that it worked.
    Unchanged,
}

/// Something that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A read found what nobody had begun to write.
    Invented(Operation),
    /// A client read an older version than it had met before.
    WentBack { met: Version, then: Operation },
    /// A read did not find what was acknowledged before it began.
    Stale { acknowledged: Version, then: Operation },
    /// Two writers who expected the same version were both told that it worked.
    TwoWinners(Operation, Operation),
    /// A writer was told of a conflict, and there was nobody to have one with.
    FalseAlarm(Operation),
    /// After everything had come to rest clients read different versions.
    Diverged(Vec<Option<Version>>),
    /// After everything had come to rest an acknowledged version was neither there nor overwritten.
    Lost(Version),
}

/// Everything in a history that cannot be. Reads that began at `rest` or later are those of a network that had come to
/// rest.
pub(crate) fn check(operations: &[Operation], promise: Promise, rest: u64) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (place, operation) in operations.iter().enumerate() {
        match &operation.did {
            Did::Read { found } => {
                violations.extend(check_read(operations, operation, found.as_ref(), promise));
            }
            Did::Write {
                version,
                expected,
                told,
            } => {
                let rivals = operations[place + 1..]
                    .iter()
                    .filter(|other| wins_too(other, *expected));
                if promise == Promise::Unchanged && *told == Told::Acknowledged && expected.is_some() {
                    let two = |other: &Operation| Violation::TwoWinners(operation.clone(), other.clone());
                    violations.extend(rivals.map(two));
                }
                let alarmed = *told == Told::Conflict;
                if alarmed
                    && !operations
                        .iter()
                        .any(|other| is_rival(other, operation, version, *expected))
                {
                    violations.push(Violation::FalseAlarm(operation.clone()));
                }
            }
        }
    }
    violations.extend(check_rest(operations, rest));
    violations
}

fn check_read(
    operations: &[Operation],
    read: &Operation,
    found: Option<&Version>,
    promise: Promise,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let begun = |other: &&Operation| other.began < read.ended;
    let written = |wanted: &Version| {
        operations
            .iter()
            .filter(begun)
            .any(|other| writes(other) == Some(wanted))
    };
    if found.is_some_and(|found| !written(found)) {
        violations.push(Violation::Invented(read.clone()));
    }
    // What a read that found nothing has seen: nothing, or the newest deletion that may have been there.
    let gone = operations
        .iter()
        .filter(begun)
        .filter_map(writes)
        .filter(|version| version.deleted)
        .max();
    let seen = found.or(gone);
    let before = |other: &&Operation| other.ended < read.began;
    let met = operations
        .iter()
        .filter(before)
        .filter(|other| other.client == read.client);
    if let Some(met) = met.filter_map(meets).max().filter(|met| seen < Some(met)) {
        violations.push(Violation::WentBack {
            met: met.clone(),
            then: read.clone(),
        });
    }
    let acknowledged = operations.iter().filter(before).filter_map(acknowledges).max();
    if let Some(acknowledged) =
        acknowledged.filter(|version| promise == Promise::Unchanged && seen < Some(version))
    {
        violations.push(Violation::Stale {
            acknowledged: acknowledged.clone(),
            then: read.clone(),
        });
    }
    violations
}

fn check_rest(operations: &[Operation], rest: u64) -> Vec<Violation> {
    let last = operations.iter().filter(|operation| operation.began >= rest);
    let last: Vec<Option<Version>> = last
        .filter_map(|operation| match &operation.did {
            Did::Read { found } => Some(found.clone()),
            Did::Write { .. } => None,
        })
        .collect();
    let Some(one) = last.first() else {
        return Vec::new();
    };
    if last.iter().any(|other| other != one) {
        return vec![Violation::Diverged(last)];
    }
    let gone = operations
        .iter()
        .filter_map(writes)
        .filter(|version| version.deleted)
        .max();
    let there = one.as_ref().or(gone);
    let newest = operations.iter().filter_map(acknowledges).max();
    newest
        .filter(|newest| there < Some(newest))
        .cloned()
        .map(Violation::Lost)
        .into_iter()
        .collect()
}

fn writes(operation: &Operation) -> Option<&Version> {
    match &operation.did {
        Did::Write { version, .. } => Some(version),
        Did::Read { .. } => None,
    }
}

fn acknowledges(operation: &Operation) -> Option<&Version> {
    match &operation.did {
        Did::Write { version, told, .. } if *told == Told::Acknowledged => Some(version),
        _ => None,
    }
}

/// What a client knows of from then on.
fn meets(operation: &Operation) -> Option<&Version> {
    match &operation.did {
        Did::Read { found } => found.as_ref(),
        Did::Write { .. } => acknowledges(operation),
    }
}

fn wins_too(other: &Operation, wanted: Option<u64>) -> bool {
    matches!(&other.did, Did::Write { expected, told: Told::Acknowledged, .. } if *expected == wanted)
}

/// Whether `other` is why `version` met a conflict: another version of its number or a later one, or one that is not
/// the expected one, and begun before the conflict was told.
fn is_rival(other: &Operation, operation: &Operation, version: &Version, expected: Option<u64>) -> bool {
    let unexpected = |theirs: &Version| expected.is_some_and(|expected| theirs.seq > expected);
    other != operation
        && other.began < operation.ended
        && writes(other).is_some_and(|theirs| theirs.seq >= version.seq || unexpected(theirs))
}

/// How often each thing was told to writers, for the message of a test.
pub(crate) fn tally(operations: &[Operation]) -> BTreeMap<&'static str, usize> {
    let mut tally = BTreeMap::new();
    for operation in operations {
        let what = match &operation.did {
            Did::Read { .. } => "read",
            Did::Write {
                told: Told::Acknowledged,
                ..
            } => "acknowledged",
            Did::Write {
                told: Told::Conflict, ..
            } => "conflict",
            Did::Write {
                told: Told::Unknown, ..
            } => "unknown",
        };
        *tally.entry(what).or_default() += 1;
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operations that follow each other: client, what was done.
    fn one_after_another(done: Vec<(usize, Did)>) -> Vec<Operation> {
        let history = History::default();
        for (client, did) in done {
            let began = history.now();
            history.ended(client, began, did);
        }
        history.operations()
    }

    fn wrote(seq: u64, value: &str, told: Told) -> Did {
        Did::Write {
            version: Version::new(seq, value),
            expected: None,
            told,
        }
    }

    fn deleted(seq: u64, told: Told) -> Did {
        Did::Write {
            version: Version::deletion(seq),
            expected: None,
            told,
        }
    }

    fn swapped(seq: u64, value: &str, told: Told) -> Did {
        Did::Write {
            version: Version::new(seq, value),
            expected: Some(seq - 1),
            told,
        }
    }

    fn read(seq: u64, value: &str) -> Did {
        Did::Read {
            found: (seq > 0).then(|| Version::new(seq, value)),
        }
    }

    #[test]
    fn a_history_without_fault_has_none() {
        let history = one_after_another(vec![
            (1, read(0, "")),
            (0, wrote(1, "a", Told::Acknowledged)),
            (1, read(1, "a")),
            (0, swapped(2, "b", Told::Acknowledged)),
            (2, swapped(2, "c", Told::Conflict)),
            (1, read(2, "c")),
            (0, deleted(3, Told::Acknowledged)),
            (1, read(0, "")),
            (0, wrote(4, "d", Told::Acknowledged)),
            (1, read(4, "d")),
            (2, read(4, "d")),
        ]);
        assert_eq!(check(&history, Promise::Unchanged, 18), []);
    }

    #[test]
    fn each_fault_is_called_by_its_name() {
        type Done = Vec<(usize, Did)>;
        let faults: [(&str, Done, u64); 10] = [
            (
                "Invented",
                vec![(0, read(1, "a")), (1, wrote(1, "a", Told::Acknowledged))],
                u64::MAX,
            ),
            (
                "WentBack",
                vec![
                    (0, wrote(1, "a", Told::Acknowledged)),
                    (0, wrote(2, "b", Told::Unknown)),
                    (1, read(2, "b")),
                    (1, read(1, "a")),
                ],
                u64::MAX,
            ),
            (
                "WentBack",
                vec![(0, wrote(1, "a", Told::Acknowledged)), (0, read(0, ""))],
                u64::MAX,
            ),
            (
                "Stale",
                vec![(0, wrote(1, "a", Told::Acknowledged)), (1, read(0, ""))],
                u64::MAX,
            ),
            (
                "Stale",
                vec![
                    (0, wrote(1, "a", Told::Acknowledged)),
                    (0, deleted(2, Told::Acknowledged)),
                    (1, read(1, "a")),
                ],
                u64::MAX,
            ),
            (
                "WentBack",
                vec![
                    (0, deleted(1, Told::Acknowledged)),
                    (0, wrote(2, "a", Told::Unknown)),
                    (1, read(2, "a")),
                    (1, read(0, "")),
                ],
                u64::MAX,
            ),
            (
                "TwoWinners",
                vec![
                    (0, swapped(1, "a", Told::Acknowledged)),
                    (1, swapped(1, "b", Told::Acknowledged)),
                ],
                u64::MAX,
            ),
            ("FalseAlarm", vec![(0, swapped(1, "a", Told::Conflict))], u64::MAX),
            (
                "Diverged",
                vec![
                    (0, wrote(1, "a", Told::Unknown)),
                    (1, wrote(1, "b", Told::Unknown)),
                    (2, read(1, "a")),
                    (3, read(1, "b")),
                ],
                4,
            ),
            (
                "Lost",
                vec![(0, wrote(1, "a", Told::Acknowledged)), (1, read(0, ""))],
                2,
            ),
        ];
        for (name, done, rest) in faults {
            let found = check(&one_after_another(done), Promise::Unchanged, rest);
            assert!(
                found
                    .iter()
                    .any(|violation| format!("{violation:?}").starts_with(name)),
                "{name}: {found:?}"
            );
        }
    }

    #[test]
    fn where_nodes_come_and_go_less_is_promised() {
        let history = one_after_another(vec![
            (0, swapped(1, "a", Told::Acknowledged)),
            (1, swapped(1, "b", Told::Acknowledged)),
            (2, read(0, "")),
        ]);
        assert_eq!(check(&history, Promise::Always, u64::MAX), []);
        assert_eq!(check(&history, Promise::Unchanged, u64::MAX).len(), 2);
    }
}
