//! The store of a simulated node: `kad-store`'s memory backend, asked and written as the daemon does it.

use kad_core::{Rules, Slot, StoreOp, StoreReply, UnixTime, Verdict};
use kad_store::{Limits, MemoryStore, Put, RecordReader as _, RecordStore, answer};

/// A memory store and what the machine asks of it.
#[derive(Debug)]
pub(crate) struct Shelf(MemoryStore);

impl Default for Shelf {
    fn default() -> Self {
        Self(MemoryStore::new(Limits::default()))
    }
}

impl Shelf {
    /// Records held.
    pub(crate) fn len(&self) -> u64 {
        self.0.usage().records
    }

    /// Whether something lies in a slot.
    pub(crate) fn holds(&self, slot: &Slot) -> bool {
        self.0.reader().get(slot).is_ok_and(|held| held.is_some())
    }

    /// Carries out one operation.
    pub(crate) fn carry_out(&mut self, op: StoreOp, rules: &Rules, now: UnixTime) -> StoreReply {
        let reader = self.0.reader();
        match op {
            StoreOp::Get { query } => answer::found(&reader, rules, &query, now, |_, _| {}),
            StoreOp::Due(asked) => answer::due(&reader, rules, &asked, now, |_, _| {}),
            StoreOp::Summarize { prefixes } => answer::summaries(&reader, &prefixes),
            StoreOp::Compare { parts } => answer::compared(&reader, &parts),
            StoreOp::Missing { prefix, marks } => answer::missing(&reader, prefix, &marks),
            StoreOp::Fetch {
                prefix,
                marks,
                listed,
            } => {
                let part = (prefix, &marks[..], listed);
                answer::fetched(&reader, rules, part, now, |_, _| {})
            }
            StoreOp::Put {
                entries,
                due,
                own,
                source,
                sender,
            } => {
                let mut put = |entry: kad_core::StoreEntry| match &entry.record {
                    Ok(record) => {
                        let put = Put {
                            record,
                            expected: entry.expected,
                            due,
                            own,
                            source,
                            sender,
                        };
                        self.0.put(put).unwrap_or(Verdict::Failed)
                    }
                    Err(error) => Verdict::Refused(*error),
                };
                let verdicts = entries.into_iter().map(&mut put).collect();
                match self.0.flush() {
                    Ok(()) => Ok(StoreReply::Put(verdicts)),
                    Err(error) => Err(error),
                }
            }
            StoreOp::Expire { now, limit } => self.0.expire(now, limit).and_then(|removed| {
                self.0.flush()?;
                Ok(StoreReply::Expired {
                    more: removed == limit,
                })
            }),
        }
        // Memory does not fail.
        .unwrap_or(StoreReply::Failed)
    }
}
