//! A walk over the whole network: who is there, how far away, and what their tables hold.
//!
//! It begins at the contacts of a node and asks everybody that it hears of for their contacts, bucket by bucket
//! (`interview.rs`), until nobody is left. `walk.rs` decides whom to ask, without sending anything; `tally.rs` counts
//! what tables hold; `report.rs` says what came of it.
//!
//! It refuses to do what a lookup may not: every question is a [`Command::Ask`](kad_core::Command::Ask), which is
//! dialled within the rations of hearsay. In global scope few unproven nodes of one host and one site are dialled at a
//! time, and none for a while after several there were found dead. So a crawl of many nodes at one host is slow, and of
//! a host full of dead ones it stops; the nodes that it could not ask are told as [`unknown`](Crawl::unknown). That is
//! wanted: or a few liars could aim crawlers at a victim.

mod interview;
mod report;
mod tally;
#[cfg(test)]
mod tests;
mod walk;

use std::time::Instant;

use futures::stream::{FuturesUnordered, StreamExt as _};
use kad_core::{Contact, Key, QueryError};

pub use self::report::{BucketCensus, Crawl, GroupSizes, Groups, Latency, MAX_GROUPS};
pub(crate) use self::walk::Walk;
use crate::{Node, NodeError, Told};

/// Nodes that one crawl follows unless told otherwise: more than any public network has, and some 200 MB.
pub const DEFAULT_MAX_NODES: usize = 1_000_000;

/// Questions under way at once unless told otherwise: a quarter of the connections that the QUIC transport keeps.
pub const DEFAULT_PARALLEL: usize = 32;

/// The most questions under way at once: half of the queries that a node allows its application.
pub const MAX_PARALLEL: usize = 128;

/// How to crawl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrawlOptions {
    /// Questions under way at once, 1 to [`MAX_PARALLEL`]; numbers beyond that are taken for the nearest. Default
    /// [`DEFAULT_PARALLEL`].
    pub parallel: usize,
    /// Nodes that are followed; further ones that are told of are counted in [`Crawl::left_out`] and not asked. Default
    /// [`DEFAULT_MAX_NODES`].
    pub max_nodes: usize,
}

impl Default for CrawlOptions {
    fn default() -> Self {
        Self {
            parallel: DEFAULT_PARALLEL,
            max_nodes: DEFAULT_MAX_NODES,
        }
    }
}

impl CrawlOptions {
    /// The same with another number of questions at once.
    #[must_use]
    pub fn parallel(self, parallel: usize) -> Self {
        Self { parallel, ..self }
    }

    /// The same with another bound on the nodes that are followed.
    #[must_use]
    pub fn max_nodes(self, max_nodes: usize) -> Self {
        Self { max_nodes, ..self }
    }
}

/// How far a crawl has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CrawlProgress {
    /// Nodes that were heard of.
    pub heard: usize,
    /// Of these, those of which it is known whether they are there.
    pub settled: usize,
    /// Questions that were sent.
    pub requests: u64,
}

impl<A: kad_net::WireAddress> Node<A> {
    /// Walks over the whole network, from the contacts of this node on.
    ///
    /// It asks each node about log2(members / k) + 2 questions. What it is told is hearsay; the table of this node
    /// changes only as it does with every answer. A node of whose address nobody answers twice is dead, one that
    /// refuses is not.
    ///
    /// # Errors
    /// [`NodeError::Query`] with [`QueryError::NoContacts`] if this node knows nobody, [`NodeError::Stopped`].
    ///
    /// # Cancel safety
    /// Dropping the future cancels the questions under way; nothing is left of the crawl.
    pub async fn crawl(&self, options: CrawlOptions) -> Result<Crawl, NodeError> {
        self.crawl_until(options, std::future::pending(), |_| {}).await
    }

    /// The same, which ends early when `stop` does and then tells what was found until then; `watch` is called after
    /// each question.
    ///
    /// # Errors
    /// As for [`crawl`](Self::crawl).
    ///
    /// # Cancel safety
    /// As for [`crawl`](Self::crawl).
    pub async fn crawl_until(
        &self,
        options: CrawlOptions,
        stop: impl Future<Output = ()> + Send,
        watch: impl FnMut(CrawlProgress) + Send,
    ) -> Result<Crawl, NodeError> {
        let started = Instant::now();
        let contacts = self.contacts().await?;
        if contacts.is_empty() {
            return Err(QueryError::NoContacts.into());
        }
        let contacts = contacts.into_iter().map(|(_, contact)| contact);
        let mut walk = Walk::new(self.id(), options.max_nodes, contacts);
        let ask = |contact, target| self.ask(contact, target);
        let stopped = tokio::select! {
            biased;
            () = stop => true,
            ended = follow(&mut walk, options.parallel, ask, watch) => {
                ended?;
                false
            }
        };
        Ok(walk.report(!self.is_read_only(), stopped, started.elapsed()))
    }
}

/// Asks until a walk is at its end, so many at once. Dropped, it leaves the walk with what was told.
pub(crate) async fn follow<A, Asking>(
    walk: &mut Walk<A>,
    parallel: usize,
    mut ask: impl FnMut(Contact<A>, Key) -> Asking,
    mut watch: impl FnMut(CrawlProgress),
) -> Result<(), NodeError>
where
    A: Clone + PartialEq,
    Asking: Future<Output = Result<Told<A>, NodeError>>,
{
    let parallel = parallel.clamp(1, MAX_PARALLEL);
    let mut ask = |question: walk::Question<A>| {
        let asking = ask(question.0.contact.clone(), question.0.target());
        async move { (question, asking.await) }
    };
    let mut asking = FuturesUnordered::new();
    loop {
        while asking.len() < parallel
            && let Some(question) = walk.next()
        {
            asking.push(ask(question));
        }
        let Some((question, ended)) = asking.next().await else {
            return Ok(());
        };
        match ended {
            Ok(told) => walk.on_told(question, told.contacts, told.took),
            Err(NodeError::Query(why)) => walk.on_failed(question, why),
            Err(stopped) => return Err(stopped),
        }
        watch(walk.progress());
    }
}
