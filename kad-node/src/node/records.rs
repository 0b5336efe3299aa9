//! Putting and getting.

mod announcer;

use std::time::Duration;

use kad_core::{
    Command, Contact, Effort, Holder, Key, Keypair, Kind, NodeId, Outcome, Read, Record, UnixTime, Verdict,
};
use kad_net::wire::announcement::announced;

pub(super) use self::announcer::Announcer;
use super::keeping::not_kept;
use super::{DEFAULT_LIFETIME, Node, Provider, Stored, Value};
use crate::driver::unix_now;
use crate::{NodeError, Refusal};

/// How to put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutOptions {
    /// How long the record lives. Default 24 h; at most the network's longest, 7 days by default.
    pub ttl: Duration,
    /// Whether this node keeps a copy as its own and publishes it anew before it ends. Default false. If
    /// it cannot, the put fails with [`NodeError::NoRoom`] or [`NodeError::NotKept`], whatever others have taken.
    pub keep: bool,
    /// How many must acknowledge. Default 1: a small network has no more, and the answer says how many there were.
    pub quorum: usize,
    /// Whether to wait until all of the nearest were told. Default false: it is done when three quarters of them
    /// ([`Config::write_quorum`](kad_core::Config::write_quorum)), or the quorum if that is more, have acknowledged,
    /// and the node tells the others in the background.
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

impl<A: kad_net::WireAddress> Node<A> {
    /// Stores a value of at most 64 KiB at the nodes nearest to its hash.
    ///
    /// # Errors
    /// [`NodeError::Record`] if it is too large or its life too long, [`NodeError::Denied`] if this node does not want
    /// it, [`NodeError::QuorumNotMet`], [`NodeError::Query`].
    pub async fn put(&self, value: impl AsRef<[u8]>, options: PutOptions) -> Result<Stored<A>, NodeError> {
        let now = unix_now();
        let record = Record::immutable(value.as_ref(), now + options.ttl, &self.inner.rules, now)?;
        self.store(record, options).await
    }

    /// Stores a node of a file's tree; see [`crate::file`].
    pub(crate) async fn put_index(&self, node: &[u8], options: PutOptions) -> Result<Stored<A>, NodeError> {
        let now = unix_now();
        let record = Record::file_index(node, now + options.ttl, &self.inner.rules, now)?;
        self.store(record, options).await
    }

    /// The value with this hash, or `None` if nobody of the nearest holds it.
    ///
    /// # Errors
    /// [`NodeError::Query`] if nobody is known or nobody answered, [`NodeError::Denied`] if the key is on this node's
    /// deny-list.
    pub async fn get(&self, key: Key) -> Result<Option<Value>, NodeError> {
        let (records, _, effort) = self.find(key, Kind::Immutable, Read::First).await?;
        Ok(records
            .into_iter()
            .next()
            .map(|record| Value::of(&record, effort)))
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
        let announcer = Announcer::new(self, provider, payload, options.ttl).await;
        self.store(announcer.record(key)?, options).await
    }

    /// Withdraws an announcement.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub async fn stop_providing(&self, provider: &Keypair, key: Key) -> Result<Stored<A>, NodeError> {
        let record = Announcer::withdrawing(self, provider).record(key)?;
        // A copy that was kept as the node's own must go too, or it would be renewed and override this.
        self.store(record, PutOptions::default().keep(true)).await
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

    pub(super) async fn find(
        &self,
        key: Key,
        kind: Kind,
        read: Read,
    ) -> Result<(Vec<Record>, Vec<Holder<A>>, Effort), NodeError> {
        if self.inner.policy.denies_key(key) {
            return Err(NodeError::Denied(Refusal::new(
                "the key is on the deny-list of this node",
            )));
        }
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

    pub(super) async fn store(&self, record: Record, options: PutOptions) -> Result<Stored<A>, NodeError> {
        let (stored, refused) = self.place(record, None, options).await?;
        judged(stored, &refused, options)
    }

    /// Stores, and gives back who refused and why.
    pub(super) async fn place(
        &self,
        record: Record,
        expected: Option<u64>,
        options: PutOptions,
    ) -> Result<(Stored<A>, Vec<(Contact<A>, Verdict)>), NodeError> {
        self.inner.policy.admit(&record)?;
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
                kept,
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
            kept,
            seq,
            expires,
            effort,
            query,
        };
        Ok((stored, refused))
    }
}

/// Whether what was stored is what was wanted.
pub(super) fn judged<A>(
    stored: Stored<A>,
    refused: &[(Contact<A>, Verdict)],
    options: PutOptions,
) -> Result<Stored<A>, NodeError> {
    match claims(refused).max() {
        // One that lies must not make it look as if nothing had been stored.
        Some(current) if claims(refused).count() > stored.copies() => Err(NodeError::Conflict { current }),
        _ => taken(stored, refused, options.quorum),
    }
}

/// What was stored, if enough have taken it, and this node has kept it if it was to.
pub(super) fn taken<A>(
    stored: Stored<A>,
    refused: &[(Contact<A>, Verdict)],
    quorum: usize,
) -> Result<Stored<A>, NodeError> {
    let too_often = refused
        .iter()
        .filter(|(_, verdict)| *verdict == Verdict::TooOften)
        .count();
    match stored.copies() {
        // Whoever reads it meets an older version more likely than this one.
        acknowledged if too_often > acknowledged => Err(NodeError::TooOften {
            acknowledged,
            refused: too_often,
        }),
        acknowledged if acknowledged < quorum => Err(NodeError::QuorumNotMet {
            acknowledged,
            wanted: quorum,
        }),
        _ => match not_kept(stored.kept) {
            Some(why) => Err(why),
            None => Ok(stored),
        },
    }
}

/// The versions that those who refused say to hold. They are not proven.
pub(super) fn claims<A>(refused: &[(Contact<A>, Verdict)]) -> impl Iterator<Item = u64> {
    refused.iter().filter_map(|(_, verdict)| match verdict {
        Verdict::Stale { current } | Verdict::Conflict { current } => Some(*current),
        _ => None,
    })
}
