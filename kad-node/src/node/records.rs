//! Putting and getting.

use std::time::Duration;

use kad_core::record::{MAX_PROVIDER_PAYLOAD, mutable_key};
use kad_core::{
    Announcement, Command, Effort, Holder, Key, Keypair, Kind, MutableVersion, NodeId, Outcome, PublicKey,
    Read, Record, UnixTime, Verdict,
};
use kad_net::wire::announcement::{announce, announced, without_address};

use super::{DEFAULT_LIFETIME, Mutable, Node, Provider, Stored, Value};
use crate::NodeError;
use crate::driver::unix_now;

/// How to put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutOptions {
    /// How long the record lives. Default 24 h; at most the network's longest, 7 days by default.
    pub ttl: Duration,
    /// Whether this node keeps a copy as its own and publishes it anew before it ends. Default false.
    pub keep: bool,
    /// How many must acknowledge. Default 1: a small network has no more, and the answer says how many there were.
    pub quorum: usize,
    /// Whether to wait until all of the nearest were told. Default false: it is done when three quarters of them
    /// ([`Config::write_quorum`](kad_core::Config::write_quorum)), or the quorum if that is more, have acknowledged, and
    /// the node tells the others in the background.
    pub settle: bool,
}

impl Default for PutOptions {
    fn default() -> Self {
        Self {
            ttl: DEFAULT_LIFETIME,
            keep: false,
            quorum: 1,
            settle: false,
        }
    }
}

impl PutOptions {
    /// The same with another time to live.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// The same with another quorum.
    #[must_use]
    pub fn quorum(self, quorum: usize) -> Self {
        Self { quorum, ..self }
    }

    /// The same, waiting until all of the nearest were told or not.
    #[must_use]
    pub fn settle(self, settle: bool) -> Self {
        Self { settle, ..self }
    }

    /// The same, kept and published anew by this node or not.
    #[must_use]
    pub fn keep(self, keep: bool) -> Self {
        Self { keep, ..self }
    }
}

/// How to write a mutable record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MutableOptions {
    /// As for any record.
    pub put: PutOptions,
    /// The version to write; without it, one more than the newest that a quorum knows.
    pub seq: Option<u64>,
    /// Store only where this is the version held, 0 for none. Detects a rival, does not elect a winner.
    pub expected: Option<u64>,
}

impl<A: kad_net::WireAddress> Node<A> {
    /// Stores a value of at most 64 KiB at the nodes nearest to its hash.
    ///
    /// # Errors
    /// [`NodeError::Record`] if it is too large or its life too long, [`NodeError::QuorumNotMet`], [`NodeError::Query`].
    pub async fn put(&self, value: impl AsRef<[u8]>, options: PutOptions) -> Result<Stored<A>, NodeError> {
        let now = unix_now();
        let record = Record::immutable(value.as_ref(), now + options.ttl, &self.inner.rules, now)?;
        self.store(record, None, options).await
    }

    /// Stores a node of a file's tree; see [`crate::file`].
    pub(crate) async fn put_index(&self, node: &[u8], options: PutOptions) -> Result<Stored<A>, NodeError> {
        let now = unix_now();
        let record = Record::file_index(node, now + options.ttl, &self.inner.rules, now)?;
        self.store(record, None, options).await
    }

    /// The value with this hash, or `None` if nobody of the nearest holds it.
    ///
    /// # Errors
    /// [`NodeError::Query`] if nobody is known or nobody answered.
    pub async fn get(&self, key: Key) -> Result<Option<Value>, NodeError> {
        let (records, _, effort) = self.find(key, Kind::Immutable, Read::First).await?;
        Ok(records.into_iter().next().map(|record| Value {
            bytes: record.value(),
            content: record.content(),
            expires: record.expiry(),
            effort,
        }))
    }

    /// Writes a version of the record that `owner` has under `salt`.
    ///
    /// # Errors
    /// As for [`put`](Self::put), and [`NodeError::Conflict`] if holders have a newer version, or another one than
    /// expected.
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
        let seq = match options.seq {
            Some(seq) => seq,
            None => self
                .newest(&owner.public(), salt)
                .await?
                .0
                .map_or(0, |record| record.seq())
                .saturating_add(1),
        };
        let now = unix_now();
        let ttl = if value.is_some() {
            options.put.ttl
        } else {
            self.inner.rules.max_lifetime
        };
        let version = MutableVersion {
            salt,
            seq,
            issued: now,
            expiry: now + ttl,
            value,
        };
        let record = Record::mutable(owner, &version, &self.inner.rules, now)?;
        // A tombstone is kept, or an older version that was would be renewed and outlive it.
        let put = options.put.keep(options.put.keep || value.is_none());
        self.store(record, options.expected, put).await
    }

    /// The newest version of the record that `owner` has under `salt`, as far as a quorum of its holders knows; `None` if
    /// there is none or it was deleted. Holders of older versions are repaired on the way.
    ///
    /// # Errors
    /// [`NodeError::Query`] if nobody is known or nobody answered.
    pub async fn get_mutable(&self, owner: &PublicKey, salt: &[u8]) -> Result<Option<Mutable>, NodeError> {
        let (record, holders, effort) = self.newest(owner, salt).await?;
        let record = record.filter(|record| !record.is_tombstone());
        Ok(record.map(|record| Mutable {
            value: record.value(),
            seq: record.seq(),
            owner: *owner,
            expires: record.expiry(),
            holders,
            effort,
        }))
    }

    async fn newest(
        &self,
        owner: &PublicKey,
        salt: &[u8],
    ) -> Result<(Option<Record>, usize, Effort), NodeError> {
        let key = mutable_key(owner, salt);
        let read = Read::Quorum(self.inner.quorum);
        let (records, holders, effort) = self.find(key, Kind::Mutable, read).await?;
        Ok((records.into_iter().next(), holders.len(), effort))
    }

    /// Announces that `provider` has what `key` names, with a payload of at most 1 KiB.
    ///
    /// If `provider` is this node itself, and it serves others, the announcement also says where the node can be
    /// reached, which a few of its contacts are asked for; unless that is not known, or does not fit beside the
    /// payload. It is renewed as it is: announce again when the address changes.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub async fn provide(
        &self,
        provider: &Keypair,
        key: Key,
        payload: &[u8],
        options: PutOptions,
    ) -> Result<Stored<A>, NodeError> {
        let is_self = provider.public() == self.inner.keypair.public() && !self.inner.read_only;
        let address = if is_self { self.reachable_at().await } else { None };
        let with_address = address.and_then(|address| announce(&address, payload).ok());
        let announced = match with_address {
            Some(announced) if announced.len() <= MAX_PROVIDER_PAYLOAD => announced,
            _ => without_address(payload),
        };
        let now = unix_now();
        let announcement = Announcement {
            key,
            issued: now,
            expiry: now + options.ttl,
            payload: Some(&announced),
        };
        let record = Record::provider(provider, &announcement, &self.inner.rules, now)?;
        self.store(record, None, options).await
    }

    /// Withdraws an announcement.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub async fn stop_providing(&self, provider: &Keypair, key: Key) -> Result<Stored<A>, NodeError> {
        let now = unix_now();
        let expiry = now + self.inner.rules.max_lifetime;
        let announcement = Announcement {
            key,
            issued: now,
            expiry,
            payload: None,
        };
        let record = Record::provider(provider, &announcement, &self.inner.rules, now)?;
        // A copy that was kept as the node's own must go too, or it would be renewed and override this.
        self.store(record, None, PutOptions::default().keep(true)).await
    }

    /// Who has what a key names: at least `wanted` different providers if there are so many, and any of them as likely
    /// as the others.
    ///
    /// # Errors
    /// [`NodeError::Query`] if nobody is known or nobody answered.
    pub async fn providers(&self, key: Key, wanted: usize) -> Result<Vec<Provider<A>>, NodeError> {
        let (records, ..) = self.find(key, Kind::Provider, Read::Gather(wanted)).await?;
        let provider = |record: Record| {
            let public_key = record.author()?;
            let (address, payload) = announced(&record.value(), self.inner.scope);
            Some(Provider {
                id: NodeId::from_public_key(&public_key),
                address,
                public_key,
                payload,
                expires: record.expiry(),
            })
        };
        Ok(records.into_iter().filter_map(provider).collect())
    }

    /// Who of the nearest nodes holds something under a key, and which version: counts copies. All k nearest are asked.
    ///
    /// # Errors
    /// [`NodeError::Query`] if nobody is known or nobody answered.
    pub async fn census(&self, key: Key, kind: Kind) -> Result<Vec<Holder<A>>, NodeError> {
        Ok(self.find(key, kind, Read::Census).await?.1)
    }

    async fn find(
        &self,
        key: Key,
        kind: Kind,
        read: Read,
    ) -> Result<(Vec<Record>, Vec<Holder<A>>, Effort), NodeError> {
        match self
            .inner
            .asker
            .ask(Command::FindValue { key, kind, read })
            .await?
        {
            (Outcome::Found { records, holders }, effort) => Ok((records, holders, effort)),
            _ => Err(NodeError::Stopped),
        }
    }

    async fn store(
        &self,
        record: Record,
        expected: Option<u64>,
        options: PutOptions,
    ) -> Result<Stored<A>, NodeError> {
        let (key, seq, expires): (Key, u64, UnixTime) = (record.key(), record.seq(), record.expiry());
        let command = Command::Store {
            record,
            expected,
            keep: options.keep,
            // A condition is judged by all that there are: any of them may know of a rival.
            enough: match options.settle || expected.is_some() {
                true => usize::MAX,
                false => options.quorum.max(self.inner.write_quorum),
            },
        };
        let (
            query,
            Outcome::Stored {
                holders,
                local,
                refused,
            },
            effort,
        ) = self.inner.asker.query(command).await?
        else {
            return Err(NodeError::Stopped);
        };
        let stored = Stored {
            key,
            holders,
            local,
            refused: refused.len(),
            seq,
            expires,
            effort,
            query,
        };
        let rival = refused.iter().filter_map(|(_, verdict)| match verdict {
            Verdict::Stale { current } | Verdict::Conflict { current } => Some(*current),
            _ => None,
        });
        match rival.max() {
            Some(current) => Err(NodeError::Conflict { current }),
            None if stored.copies() < options.quorum => Err(NodeError::QuorumNotMet {
                acknowledged: stored.copies(),
                wanted: options.quorum,
            }),
            None => Ok(stored),
        }
    }
}
