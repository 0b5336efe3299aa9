//! A store in memory that does what the core asks of a store.

use std::collections::BTreeMap;

use kad_core::record::judge;
use kad_core::summary::short;
use kad_core::{
    Difference, DueRecord, FindValue, Fingerprint, Found, MAX_RECORDS, NodeId, Prefix, Record, Slot, Source,
    StoreOp, StoreReply, UnixTime, Verdict, Want,
};

/// Records by slot.
#[derive(Default)]
pub(crate) struct Shelf {
    /// Slots in which the application leaves what is held, whatever others write.
    pub(crate) settled: std::collections::BTreeSet<Slot>,
    records: BTreeMap<Slot, Held>,
    /// Whether the disk takes nothing any more.
    pub(crate) broken: bool,
    /// Whether there is no room for further records of others.
    pub(crate) full: bool,
}

/// One record.
pub(crate) struct Held {
    pub(crate) record: Record,
    pub(crate) due: UnixTime,
    pub(crate) own: bool,
    /// Who sent these bytes first.
    pub(crate) source: Source,
    pub(crate) sender: Option<NodeId>,
}

impl Shelf {
    /// All that is held.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Held> {
        self.records.values()
    }

    /// What lies in a slot.
    pub(crate) fn get(&self, slot: &Slot) -> Option<&Held> {
        self.records.get(slot)
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Carries out one operation.
    pub(crate) fn carry_out(&mut self, op: StoreOp, now: UnixTime) -> StoreReply {
        match op {
            StoreOp::Get { query } => self.find(&query, now),
            StoreOp::Put { .. } if self.broken => StoreReply::Failed,
            StoreOp::Put {
                entries,
                due,
                own,
                source,
                sender,
            } => {
                let put = |entry: kad_core::StoreEntry| match entry.record {
                    Ok(record) if !own && self.settled.contains(&record.slot()) => {
                        Verdict::Refused(kad_core::RecordError::Denied)
                    }
                    Ok(record) => self.put(record, entry.expected, (due, own), (source, sender)),
                    Err(error) => Verdict::Refused(error),
                };
                StoreReply::Put(entries.into_iter().map(put).collect())
            }
            StoreOp::Due(asked) => {
                let due = self.records.iter().filter(|(slot, held)| {
                    asked.within.contains(slot.key)
                        && asked.after.is_none_or(|after| **slot > after)
                        && (held.own || !asked.own)
                        && held.due <= asked.by
                        && held.record.expiry() > now
                });
                let due = due.take(asked.limit).map(|(_, held)| DueRecord {
                    record: held.record.clone(),
                    due: held.due,
                    own: held.own,
                });
                StoreReply::Due(due.collect())
            }
            StoreOp::Summarize { prefixes } => {
                StoreReply::Summaries(prefixes.into_iter().map(|prefix| self.sum(prefix)).collect())
            }
            StoreOp::Compare { parts } => StoreReply::Compared(
                parts
                    .into_iter()
                    .map(|(prefix, theirs)| self.compare(prefix, theirs))
                    .collect(),
            ),
            StoreOp::Missing { prefix, marks } => {
                let held = self.marks(prefix);
                StoreReply::Missing(marks.into_iter().filter(|mark| !held.contains(mark)).collect())
            }
            StoreOp::Fetch {
                prefix,
                marks,
                listed,
            } => {
                let wanted = |record: &&Record| marks.contains(&short(record.as_raw().mark())) == listed;
                let mut records: Vec<_> = self.part(prefix).filter(wanted).cloned().collect();
                let more = records.len() > MAX_RECORDS;
                records.truncate(MAX_RECORDS);
                StoreReply::Fetched { records, more }
            }
            StoreOp::Expire { now, limit } => {
                let over = self
                    .records
                    .iter()
                    .filter(|(_, held)| held.record.expiry() <= now);
                let over: Vec<_> = over.map(|(slot, _)| *slot).take(limit).collect();
                over.iter().for_each(|slot| drop(self.records.remove(slot)));
                StoreReply::Expired {
                    more: over.len() == limit,
                }
            }
        }
    }

    fn part(&self, prefix: Prefix) -> impl Iterator<Item = &Record> {
        let records = self.records.values().map(|held| &held.record);
        records.filter(move |record| prefix.contains(record.key()))
    }

    fn sum(&self, prefix: Prefix) -> Fingerprint {
        let mut sum = Fingerprint::default();
        self.part(prefix)
            .for_each(|record| sum.add(record.as_raw().mark()));
        sum
    }

    fn marks(&self, prefix: Prefix) -> Vec<u64> {
        let marks = self.part(prefix).map(|record| short(record.as_raw().mark()));
        let mut marks: Vec<_> = marks.collect();
        marks.sort_unstable();
        marks
    }

    /// Four records are many here, so that parts are cut in small networks, too.
    fn compare(&self, prefix: Prefix, theirs: Fingerprint) -> Difference {
        let own = self.sum(prefix);
        match prefix.parts() {
            _ if own == theirs => Difference::Same,
            Some(parts) if own.count > 4 => Difference::Parts(Box::new(parts.map(|part| self.sum(part)))),
            _ => Difference::Listed(self.marks(prefix)),
        }
    }

    fn put(
        &mut self,
        record: Record,
        expected: Option<u64>,
        (due, own): (UnixTime, bool),
        (source, sender): (Source, Option<NodeId>),
    ) -> Verdict {
        let held = self.records.get_mut(&record.slot());
        if self.full && held.is_none() && !own {
            return Verdict::Full;
        }
        let verdict = judge(held.as_ref().map(|held| held.record.as_raw()), &record, expected);
        // A put of others does not put off an own record.
        let due = match &held {
            Some(held) if held.own && !own => held.due.min(due),
            _ => due,
        };
        match (verdict, held) {
            (Verdict::Stored, held) => {
                let own = own || held.is_some_and(|held| held.own);
                let held = Held {
                    record,
                    due,
                    own,
                    source,
                    sender,
                };
                self.records.insert(held.record.slot(), held);
            }
            (Verdict::Unchanged, Some(held)) => {
                held.due = due;
                held.own |= own;
            }
            _ => {}
        }
        verdict
    }

    fn find(&self, query: &FindValue, now: UnixTime) -> StoreReply {
        let of_key = self.records.iter().filter(|(slot, held)| {
            slot.key == query.key
                && slot.kind == query.kind
                && held.record.seq() >= query.min_seq
                && held.record.expiry() > now
        });
        let mut page: Vec<_> = of_key.collect();
        page.sort_by_key(|(slot, _)| query.turn_of(slot.provider));
        let more = page.len() > MAX_RECORDS;
        page.truncate(MAX_RECORDS);
        let next: Option<NodeId> = page.last().filter(|_| more).map(|(slot, _)| slot.provider);
        let found = page.into_iter().map(|(_, held)| match query.want {
            Want::Record => Found::Record(held.record.clone()),
            Want::Digest => Found::Digest {
                seq: held.record.seq(),
                digest: held.record.digest(),
            },
        });
        StoreReply::Found {
            found: found.collect(),
            next,
        }
    }
}
