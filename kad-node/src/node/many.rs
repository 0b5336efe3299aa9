//! Many keys in one call.
//!
//! Keys that begin alike have the same holders. So what is to be stored is gathered as far as memory allows, sorted by
//! key and sent region by region, as a sweep of the node's own records is: one lookup for a region, then batches of
//! STORE. How much that saves depends on how many of the keys fall into one region. Of 1,200 small values among 150
//! nodes each takes 0.7 requests, and 24 if they are put one by one.
//!
//! Reads are not gathered: a read ends at the first holder, after two to four requests, and finding a whole region
//! takes forty. They only run side by side. (In simulations of 150 and 1,000 nodes, reading in the order of the keys
//! took 3.3 and 2.3 requests each, in any order 3.6 and 2.2.)

mod bulks;

use futures::stream::{self, StreamExt as _};
use kad_core::record::{Content, immutable_key};
use kad_core::{Command, Effort, Key, Keypair, Kind, Outcome, Placement, QueryId, Read, Record, RecordError};
use kad_net::WireAddress;

use self::bulks::bulks;
use super::records::{Announcer, judged};
use super::{Node, PutOptions, Stored, Value};
use crate::NodeError;
use crate::driver::unix_now;

/// Records that a call holds at once, so that those of a region are stored together; further ones follow when these are
/// stored. With their keys and signatures small ones take some 8 MiB.
const MAX_HELD: usize = 16_384;

/// Bytes of records that a call holds at once: 500 of the largest values. Exceeded by at most one record.
const MAX_HELD_BYTES: usize = 32 << 20;

/// Regions that are stored to at once. Each has up to 2 k STOREs under way.
const PARALLEL_REGIONS: usize = 4;

/// Writes and reads of single keys that are under way at once: a sixteenth of the queries of an application.
const PARALLEL_KEYS: usize = 16;

/// Records made in one go, so that a thread of the runtime is not kept from others: signing them takes a millisecond.
const MADE_AT_ONCE: usize = 32;

/// What became of one of many keys.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OneOfMany<T> {
    /// Its place among those that were given, from 0.
    pub position: u64,
    /// The key.
    pub key: Key,
    /// What came of it, as when it is the only one.
    pub outcome: Result<T, NodeError>,
}

/// What became of many keys, all in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManyReport {
    /// Keys that were given.
    pub keys: u64,
    /// Those whose outcome was an error.
    pub failed: u64,
    /// Requests sent to other nodes, those of queries that failed not counted.
    pub requests: u64,
    /// Queries that these were: regions, or batches of them, and keys that were stored or read alone.
    pub queries: u64,
}

/// A record on its way, and its place among those that were given.
type Numbered = (u64, Record);

/// What a bulk came to: of each record, and which of them want lookups of their own.
struct Bulk<A> {
    told: Vec<OneOfMany<Stored<A>>>,
    alone: Vec<Numbered>,
    requests: u64,
}

impl<A: WireAddress> Node<A> {
    /// Stores many values of at most 64 KiB each, as [`put`](Self::put) does one. `told` is called for each of them, in
    /// no particular order, once all of its holders were asked; it must not block. One that fails does not stop the
    /// others.
    ///
    /// Values are taken from the iterator as there is room: at most 16,384 and 32 MiB are held at once.
    /// [`PutOptions::settle`] changes nothing: whoever stores many waits for all holders. The effort that is told of a
    /// value is that of all that were stored together with it.
    ///
    /// # Errors
    /// [`NodeError::Stopped`]; what was not told of until then may have been stored or not.
    ///
    /// # Cancel safety
    /// Dropping the future cancels what is in flight. What was told of stays as it was told; of the rest some may have
    /// been stored by some, and what was to be kept may be kept.
    pub async fn put_many<V: AsRef<[u8]>>(
        &self,
        values: impl IntoIterator<Item = V, IntoIter: Send> + Send,
        options: PutOptions,
        told: impl FnMut(OneOfMany<Stored<A>>) + Send,
    ) -> Result<ManyReport, NodeError> {
        let rules = *self.rules();
        let records = values.into_iter().map(move |value| {
            let (value, now) = (value.as_ref(), unix_now());
            let key = immutable_key(Content::Plain, value);
            (key, Record::immutable(value, now + options.ttl, &rules, now))
        });
        self.store_many(records, options, told).await
    }

    /// Announces that `provider` has what each of the keys names, as [`provide`](Self::provide) does for one.
    /// Where the node can be reached is found out once.
    ///
    /// # Errors
    /// As for [`put_many`](Self::put_many), and so is what happens if the future is dropped.
    pub async fn provide_many(
        &self,
        provider: &Keypair,
        keys: impl IntoIterator<Item = Key, IntoIter: Send> + Send,
        payload: &[u8],
        options: PutOptions,
        told: impl FnMut(OneOfMany<Stored<A>>) + Send,
    ) -> Result<ManyReport, NodeError> {
        let announcer = Announcer::new(self, provider, payload, options.ttl).await;
        let records = keys.into_iter().map(move |key| (key, announcer.record(key)));
        self.store_many(records, options, told).await
    }

    /// Withdraws many announcements, as [`stop_providing`](Self::stop_providing) does one.
    ///
    /// # Errors
    /// As for [`put_many`](Self::put_many), and so is what happens if the future is dropped.
    pub async fn stop_providing_many(
        &self,
        provider: &Keypair,
        keys: impl IntoIterator<Item = Key, IntoIter: Send> + Send,
        told: impl FnMut(OneOfMany<Stored<A>>) + Send,
    ) -> Result<ManyReport, NodeError> {
        let announcer = Announcer::withdrawing(self, provider);
        let records = keys.into_iter().map(move |key| (key, announcer.record(key)));
        // As for one: copies that were kept as the node's own must go too.
        self.store_many(records, PutOptions::default().keep(true), told)
            .await
    }

    /// Reads many values by their hashes, as [`get`](Self::get) does one, sixteen at a time. `told` is called for each,
    /// in the order in which they are found; it must not block. No more than sixteen values are held at once.
    ///
    /// # Errors
    /// [`NodeError::Stopped`].
    ///
    /// # Cancel safety
    /// Dropping the future cancels what is in flight.
    pub async fn get_many(
        &self,
        keys: impl IntoIterator<Item = Key, IntoIter: Send> + Send,
        mut told: impl FnMut(OneOfMany<Option<Value>>) + Send,
    ) -> Result<ManyReport, NodeError> {
        let reads = stream::iter((0..).zip(keys))
            .map(|(position, key)| async move {
                let found = self.find(key, Kind::Immutable, Read::First).await;
                (position, key, found)
            })
            .buffer_unordered(PARALLEL_KEYS);
        let mut reads = std::pin::pin!(reads);
        let mut report = ManyReport::default();
        while let Some((position, key, found)) = reads.next().await {
            let outcome = found.map(|(records, _, effort)| {
                report.requests += u64::from(effort.requests);
                records
                    .into_iter()
                    .next()
                    .map(|record| Value::of(&record, effort))
            });
            report.queries += 1;
            report.tell(
                OneOfMany {
                    position,
                    key,
                    outcome,
                },
                &mut told,
            )?;
        }
        Ok(report)
    }

    async fn store_many(
        &self,
        records: impl Iterator<Item = (Key, Result<Record, RecordError>)> + Send,
        options: PutOptions,
        mut told: impl FnMut(OneOfMany<Stored<A>>) + Send,
    ) -> Result<ManyReport, NodeError> {
        let mut records = (0..).zip(records);
        let mut report = ManyReport::default();
        loop {
            let mut held: Vec<Numbered> = Vec::new();
            let mut bytes = 0;
            while held.len() < MAX_HELD && bytes < MAX_HELD_BYTES {
                let Some((position, (key, record))) = records.next() else {
                    break;
                };
                let record = record.map_err(NodeError::from);
                match record.and_then(|record| Ok(self.inner.policy.admit(&record).map(|()| record)?)) {
                    Ok(record) => {
                        bytes += record.as_bytes().len();
                        held.push((position, record));
                    }
                    Err(error) => {
                        let outcome = Err(error);
                        report.tell(
                            OneOfMany {
                                position,
                                key,
                                outcome,
                            },
                            &mut told,
                        )?;
                    }
                }
                if held.len().is_multiple_of(MADE_AT_ONCE) {
                    tokio::task::yield_now().await;
                }
            }
            if held.is_empty() {
                return Ok(report);
            }
            let bits = self
                .look(|machine| machine.region_of(Key::default()).len())
                .await?;
            let alone = self
                .store_held(bulks(held, bits), options, &mut report, &mut told)
                .await?;
            self.store_alone(alone, options, &mut report, &mut told).await?;
        }
    }

    /// Stores bulks, some at a time; those that want lookups of their own are left.
    async fn store_held(
        &self,
        bulks: Vec<Vec<Numbered>>,
        options: PutOptions,
        report: &mut ManyReport,
        told: &mut (impl FnMut(OneOfMany<Stored<A>>) + Send),
    ) -> Result<Vec<Numbered>, NodeError> {
        let storing = stream::iter(bulks)
            .map(|bulk| self.store_bulk(bulk, options))
            .buffer_unordered(PARALLEL_REGIONS);
        let mut storing = std::pin::pin!(storing);
        let mut alone = Vec::new();
        while let Some(bulk) = storing.next().await {
            report.requests += bulk.requests;
            report.queries += 1;
            alone.extend(bulk.alone);
            for one in bulk.told {
                report.tell(one, told)?;
            }
        }
        Ok(alone)
    }

    async fn store_alone(
        &self,
        records: Vec<Numbered>,
        options: PutOptions,
        report: &mut ManyReport,
        told: &mut (impl FnMut(OneOfMany<Stored<A>>) + Send),
    ) -> Result<(), NodeError> {
        let storing = stream::iter(records)
            .map(|(position, record)| async move {
                let key = record.key();
                let outcome = self.store(record, options.settle(true)).await;
                OneOfMany {
                    position,
                    key,
                    outcome,
                }
            })
            .buffer_unordered(PARALLEL_KEYS);
        let mut storing = std::pin::pin!(storing);
        while let Some(one) = storing.next().await {
            if let Ok(stored) = &one.outcome {
                report.requests += u64::from(stored.effort.requests);
            }
            report.queries += 1;
            report.tell(one, told)?;
        }
        Ok(())
    }

    async fn store_bulk(&self, records: Vec<Numbered>, options: PutOptions) -> Bulk<A> {
        let command = Command::StoreMany {
            records: records.iter().map(|(_, record)| record.clone()).collect(),
            keep: options.keep,
        };
        let (query, placements, effort) = match self.inner.asker.query(command).await {
            Ok((query, Outcome::StoredMany { placements }, effort)) => (query, placements, effort),
            answer => {
                let error = answer.err().unwrap_or(NodeError::Stopped);
                let failed = |(position, record): Numbered| OneOfMany {
                    position,
                    key: record.key(),
                    outcome: Err(error.clone()),
                };
                return Bulk {
                    told: records.into_iter().map(failed).collect(),
                    alone: Vec::new(),
                    requests: 0,
                };
            }
        };
        let mut bulk = Bulk {
            told: Vec::with_capacity(records.len()),
            alone: Vec::new(),
            requests: u64::from(effort.requests),
        };
        for ((position, record), placement) in records.into_iter().zip(placements) {
            match placement.alone {
                true => bulk.alone.push((position, record)),
                false => bulk.told.push(OneOfMany {
                    position,
                    key: record.key(),
                    outcome: stored(&record, placement, (query, effort), options),
                }),
            }
        }
        bulk
    }
}

impl ManyReport {
    /// Counts what became of a key and tells it. That the node has stopped ends it all.
    fn tell<T>(&mut self, one: OneOfMany<T>, told: &mut impl FnMut(OneOfMany<T>)) -> Result<(), NodeError> {
        if let Err(NodeError::Stopped) = one.outcome {
            return Err(NodeError::Stopped);
        }
        self.keys += 1;
        self.failed += u64::from(one.outcome.is_err());
        told(one);
        Ok(())
    }
}

fn stored<A: WireAddress>(
    record: &Record,
    placement: Placement<A>,
    (query, effort): (QueryId, Effort),
    options: PutOptions,
) -> Result<Stored<A>, NodeError> {
    let Placement {
        holders,
        local,
        kept,
        refused,
        ..
    } = placement;
    let stored = Stored {
        key: record.key(),
        holders,
        local,
        refused: refused.len(),
        kept,
        seq: record.seq(),
        expires: record.expiry(),
        effort,
        query,
    };
    judged(stored, &refused, options)
}
