//! Following a mutable record: a stream of its newer versions.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use kad_core::{Key, Record};

use super::mutable::Newest;
use super::{Mutable, Node};
use crate::NodeError;

/// How to follow a mutable record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchOptions {
    /// Only versions greater than this are told. Default 0: what is there is told first.
    pub after: u64,
    /// How long to wait before the next read when there has just been a change. Default 1 s; at least 100 ms.
    pub soonest: Duration,
    /// The wait doubles with each read that brings nothing new, up to this. Default 60 s, which is one quorum read,
    /// some ten requests, a minute.
    pub latest: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            after: 0,
            soonest: Duration::from_secs(1),
            latest: Duration::from_secs(60),
        }
    }
}

impl WatchOptions {
    /// The same for versions greater than this.
    #[must_use]
    pub fn after(self, after: u64) -> Self {
        Self { after, ..self }
    }

    /// The same with other waits between reads.
    #[must_use]
    pub fn every(self, soonest: Duration, latest: Duration) -> Self {
        Self {
            soonest,
            latest,
            ..self
        }
    }
}

/// The shortest wait between two reads, whatever was asked for: holders are others' machines.
const SOONEST: Duration = Duration::from_millis(100);

/// What became of a record that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// There is a newer version.
    Written(Mutable),
    /// Its owner deleted it. A later version may follow.
    Deleted {
        /// The version of the deletion.
        seq: u64,
    },
}

impl Change {
    /// The version.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        match self {
            Self::Written(version) => version.seq,
            Self::Deleted { seq } => *seq,
        }
    }
}

/// The newer versions of a mutable record, in their order; see [`Node::watch`]. Reads only while somebody waits for the
/// next item, so it holds one version at most and nothing piles up: who is slow misses versions in between, never the
/// newest.
pub struct Watch(BoxStream<'static, Result<Change, NodeError>>);

impl Watch {
    /// The next change; `None` once the node has stopped. Cancel-safe: a change is told by the next call instead.
    ///
    /// # Errors
    /// What came of a read that failed. The watch goes on: ask again.
    pub async fn next(&mut self) -> Option<Result<Change, NodeError>> {
        self.0.next().await
    }
}

impl Stream for Watch {
    type Item = Result<Change, NodeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// Where a watch is.
struct Watching<A> {
    node: Node<A>,
    key: Key,
    options: WatchOptions,
    /// The last version that was told.
    told: Option<Record>,
    /// Before the next read.
    wait: Duration,
}

impl<A: kad_net::WireAddress> Node<A> {
    /// Follows the mutable record with this key ([`mutable_key`](kad_core::record::mutable_key) of an owner and a
    /// salt): tells what is there, then each version that is newer than the one before, deletions too. It never goes
    /// back, and a version that is only signed anew with another end is no change.
    ///
    /// It asks a quorum of the holders again and again, soon after a change and ever more seldom while there is none.
    /// Holders keep no list of who follows what, so nobody can fill one. The watch keeps the node alive until it is
    /// dropped; after a [`shutdown`](Self::shutdown) it ends.
    #[must_use]
    pub fn watch(&self, key: Key, options: WatchOptions) -> Watch {
        let watching = Watching {
            node: self.clone(),
            key,
            options,
            told: None,
            wait: Duration::ZERO,
        };
        let changes = stream::unfold(watching, |mut watching| async {
            let change = watching.next().await?;
            Some((change, watching))
        });
        Watch(changes.boxed())
    }
}

impl<A: kad_net::WireAddress> Watching<A> {
    async fn next(&mut self) -> Option<Result<Change, NodeError>> {
        loop {
            tokio::time::sleep(self.wait).await;
            let found = self.node.newest(self.key).await;
            let (soonest, latest) = (
                self.options.soonest.max(SOONEST),
                self.options.latest.max(SOONEST),
            );
            let later = (2 * self.wait).clamp(soonest.min(latest), latest);
            match found {
                Ok(newest) => match self.change(&newest) {
                    Some(change) => {
                        self.told = newest.record;
                        self.wait = soonest.min(latest);
                        return Some(Ok(change));
                    }
                    None => self.wait = later,
                },
                Err(NodeError::Stopped) => return None,
                Err(error) => {
                    self.wait = later;
                    return Some(Err(error));
                }
            }
        }
    }

    fn change(&self, newest: &Newest) -> Option<Change> {
        let record = newest.record.as_ref()?;
        let version = |record: &Record| (record.seq(), record.is_tombstone(), record.value());
        let is_news = match &self.told {
            Some(told) => version(record) > version(told),
            None => record.seq() > self.options.after,
        };
        if !is_news {
            return None;
        }
        if record.is_tombstone() {
            return Some(Change::Deleted { seq: record.seq() });
        }
        newest.version().map(Change::Written)
    }
}
