//! Mutable records: writing a version, reading the newest, and never going back.

use std::cmp::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

use kad_core::record::{mutable_key, precedence};
use kad_core::{Effort, Key, Keypair, Kind, MutableVersion, PublicKey, QueryError, Read, Record};

use super::records::{PutOptions, claims, taken};
use super::{Mutable, Node, Seen, Stored};
use crate::driver::unix_now;
use crate::{NodeError, Refusal};

/// How to write a mutable record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MutableOptions {
    /// As for any record. The version lives at least as long as the one that it replaces, because holders that have not
    /// heard of it would bring that one back; [`Node::delete_mutable`] ends both at once.
    pub put: PutOptions,
    /// The version to write; without it the expected one and one, or one more than the newest that a quorum knows.
    pub seq: Option<u64>,
    /// Store only where this is the version held, 0 for none. Detects a rival, does not elect a winner.
    pub expected: Option<u64>,
}

/// What a read brought.
pub(super) struct Newest {
    /// The newest version that a quorum or this node knows, a deletion included. It may have expired: then nothing is
    /// there, and nothing older is either.
    pub(super) record: Option<Record>,
    /// Holders that answered.
    pub(super) holders: usize,
    pub(super) effort: Effort,
}

impl<A: kad_net::WireAddress> Node<A> {
    /// Writes a version of the record that `owner` has under `salt`.
    ///
    /// With [`expected`](MutableOptions::expected) it has succeeded when three quarters of the nearest that answered
    /// have taken it and none of them tells of a rival afterwards. A failure then says that there was somebody else,
    /// and not who wins: read again.
    ///
    /// # Errors
    /// As for [`put`](Self::put); [`NodeError::Conflict`] if there is a newer version, or another one than expected, or
    /// another one with the same number; [`NodeError::TooOften`] if it is written faster than holders take.
    pub async fn put_mutable(
        &self,
        owner: &Keypair,
        salt: &[u8],
        value: impl AsRef<[u8]>,
        options: MutableOptions,
    ) -> Result<Stored<A>, NodeError> {
        self.write_mutable(owner, salt, Some(value.as_ref()), options)
            .await
    }

    /// Deletes the record that `owner` has under `salt`, by a signed tombstone that outlives every older version.
    ///
    /// # Errors
    /// As for [`put_mutable`](Self::put_mutable).
    pub async fn delete_mutable(
        &self,
        owner: &Keypair,
        salt: &[u8],
        options: MutableOptions,
    ) -> Result<Stored<A>, NodeError> {
        self.write_mutable(owner, salt, None, options).await
    }

    async fn write_mutable(
        &self,
        owner: &Keypair,
        salt: &[u8],
        value: Option<&[u8]>,
        options: MutableOptions,
    ) -> Result<Stored<A>, NodeError> {
        let key = mutable_key(&owner.public(), salt);
        let before = self.known(key, self.inner.quorum).await?;
        let current = before.as_ref().map_or(0, Record::seq);
        if options.expected.is_some_and(|expected| expected < current) {
            return Err(NodeError::Conflict { current });
        }
        let (rules, now) = (&self.inner.rules, unix_now());
        // What it replaces may be dated ahead of this clock. Nothing may end before what it replaces.
        let issued = before
            .as_ref()
            .and_then(Record::issued)
            .map_or(now, |issued| issued.max(now));
        let expiry = match (value, &before) {
            (None, _) => issued + rules.max_lifetime,
            (Some(_), Some(before)) => before.expiry().max(now + options.put.ttl),
            (Some(_), None) => now + options.put.ttl,
        };
        let next = options.expected.unwrap_or(current).saturating_add(1);
        let seq = options.seq.unwrap_or(next);
        let version = MutableVersion {
            salt,
            seq,
            issued,
            expiry,
            value,
        };
        let record = Record::mutable(owner, &version, rules, now)?;
        if before.is_some_and(|before| is_older(&record, &before)) {
            return Err(NodeError::Conflict { current });
        }
        // A tombstone is kept, or an older version that was would be renewed and outlive it.
        let put = options.put.keep(options.put.keep || value.is_none());
        let (stored, refused) = self.place(record.clone(), options.expected, put).await?;
        let claimed = claims(&refused).max();
        if options.expected.is_some() || claimed.is_some() {
            // What somebody claims is not proven, and a rival may be where this one did not ask.
            let after = self.known(key, usize::MAX).await?;
            if let Some(after) = after.filter(|after| is_older(&record, after)) {
                return Err(NodeError::Conflict { current: after.seq() });
            }
        }
        // Who says to be no holder counts no more than one that is not there.
        let holders = refused.iter().filter(|(_, verdict)| !verdict.is_no_holder());
        let wanted = match options.expected {
            Some(_) => put
                .quorum
                .max((3 * (stored.copies() + holders.count())).div_ceil(4)),
            None => put.quorum,
        };
        if let Some(current) = claimed.filter(|_| stored.copies() < wanted) {
            return Err(NodeError::Conflict { current });
        }
        let stored = taken(stored, &refused, wanted)?;
        self.remember(key, Some(record));
        Ok(stored)
    }

    /// The newest version, as far as it is known. The first node of a network knows what it has met.
    async fn known(&self, key: Key, quorum: usize) -> Result<Option<Record>, NodeError> {
        match self.newest_of(key, quorum).await {
            Ok(newest) => Ok(newest.record),
            Err(NodeError::Query(QueryError::NoContacts)) => Ok(self.remember(key, None)),
            Err(error) => Err(error),
        }
    }

    /// The newest version of the record that `owner` has under `salt`, as far as a quorum of its holders knows; `None`
    /// if there is none or it was deleted. Holders of older versions are repaired on the way.
    ///
    /// Through one node nobody goes back: should the quorum know an older version than this node has met before, that
    /// one is the answer, and is stored again, once a minute at most. This holds for the 1,024 records (4 MiB) that
    /// were read or written last, until the node stops.
    ///
    /// # Errors
    /// [`NodeError::Query`] if nobody is known or nobody answered, [`NodeError::Denied`] if the key or the owner is on
    /// this node's deny-list.
    pub async fn get_mutable(&self, owner: &PublicKey, salt: &[u8]) -> Result<Option<Mutable>, NodeError> {
        if self.inner.policy.denies_publisher(owner) {
            let why = "the publisher is on the deny-list of this node";
            return Err(NodeError::Denied(Refusal::new(why)));
        }
        Ok(self.newest(mutable_key(owner, salt)).await?.version())
    }

    pub(super) async fn newest(&self, key: Key) -> Result<Newest, NodeError> {
        self.newest_of(key, self.inner.quorum).await
    }

    /// The newest version that so many holders, or all if there are fewer, or this node know.
    async fn newest_of(&self, key: Key, quorum: usize) -> Result<Newest, NodeError> {
        let (records, holders, effort) = self.find(key, Kind::Mutable, Read::Quorum(quorum)).await?;
        let found = records.into_iter().next();
        let record = self.remember(key, found.clone());
        // What was met before may be denied by now.
        let record = record.filter(|record| self.inner.policy.admit(record).is_ok());
        if let Some(newest) = record.as_ref().filter(|newest| newest.expiry() > unix_now())
            && found.is_none_or(|found| is_older(&found, newest))
            && self.seen().wants_repair(key, Instant::now())
        {
            // Those who should have it do not. The answer is known whatever becomes of this.
            let (node, newest) = (self.clone(), newest.clone());
            tokio::spawn(async move {
                let repair = node.place(newest, None, PutOptions::default()).await;
                tracing::debug!(%key, repaired = repair.is_ok(), "holders had an older version than was met before");
            });
        }
        Ok(Newest {
            record,
            holders: holders.len(),
            effort,
        })
    }

    /// The newest version that this node has met, now that it has met this one.
    fn remember(&self, key: Key, found: Option<Record>) -> Option<Record> {
        let life = self.inner.rules.max_lifetime;
        self.seen().newest(key, found, life, unix_now())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // A panic elsewhere leaves nothing half done that would matter here.
        self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Newest {
    /// The version, unless it is a deletion or has expired.
    pub(super) fn version(&self) -> Option<Mutable> {
        let record = self.record.as_ref()?;
        let live = !record.is_tombstone() && record.expiry() > unix_now();
        record.author().filter(|_| live).map(|owner| Mutable {
            value: record.value(),
            seq: record.seq(),
            owner,
            expires: record.expiry(),
            holders: self.holders,
            effort: self.effort,
        })
    }
}

fn is_older(one: &Record, other: &Record) -> bool {
    precedence(one.as_raw(), other.as_raw()) == Ordering::Less
}
