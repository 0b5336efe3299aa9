//! A map of chunks with faults, in place of the network.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use kad_core::record::{Content, immutable_key};
use kad_core::{Effort, Key, QueryError, QueryId, UnixTime, Verdict};

use super::chunks::Chunks;
use crate::{NodeError, PutOptions, Stored, Value};

#[derive(Default)]
pub(super) struct Map {
    pub(super) values: Mutex<HashMap<Key, (Content, Bytes)>>,
    pub(super) books: Mutex<Books>,
    /// Puts of these keys fail so often.
    pub(super) refused: Mutex<HashMap<Key, u32>>,
    /// Gets of these keys find nothing so often.
    pub(super) hidden: Mutex<HashMap<Key, u32>>,
    /// Nobody answers gets of these so often.
    pub(super) unanswered: Mutex<HashMap<Key, u32>>,
    /// Too few hold these, until they are put again.
    pub(super) rare: Mutex<HashSet<Key>>,
    /// What this node keeps.
    pub(super) kept: Mutex<HashSet<Key>>,
    /// The own store does not take these so often.
    pub(super) unkept: Mutex<HashMap<Key, u32>>,
    /// The own store has room for so many, if that is limited.
    pub(super) room: Mutex<Option<usize>>,
    /// These are never answered.
    pub(super) stuck: HashSet<Key>,
}

#[derive(Default)]
pub(super) struct Books {
    pub(super) in_flight: usize,
    pub(super) most_in_flight: usize,
    pub(super) put_in_order: Vec<Key>,
    pub(super) gets: u64,
}

/// One operation under way, also if it is dropped half way.
struct Ticket<'a>(&'a Map);

impl<'a> Ticket<'a> {
    fn new(map: &'a Map) -> Self {
        let mut books = map.books.lock().unwrap();
        books.in_flight += 1;
        books.most_in_flight = books.most_in_flight.max(books.in_flight);
        Self(map)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.0.books.lock().unwrap().in_flight -= 1;
    }
}

/// Takes one from what is left of a fault.
fn strikes(faults: &Mutex<HashMap<Key, u32>>, key: Key) -> bool {
    let mut faults = faults.lock().unwrap();
    let left = faults.entry(key).or_default();
    let strikes = *left > 0;
    *left = left.saturating_sub(1);
    strikes
}

impl Map {
    /// Takes a while that differs from key to key, so that answers overtake each other.
    async fn wait(&self, key: Key) {
        if self.stuck.contains(&key) {
            std::future::pending::<()>().await;
        }
        for _ in 0..key.to_bytes()[0] % 7 {
            tokio::task::yield_now().await;
        }
    }

    fn keep_own(&self, key: Key) -> Result<(), NodeError> {
        if strikes(&self.unkept, key) {
            return Err(NodeError::NotKept);
        }
        let mut kept = self.kept.lock().unwrap();
        let is_full = self.room.lock().unwrap().is_some_and(|room| kept.len() >= room);
        if is_full && !kept.contains(&key) {
            return Err(NodeError::NoRoom);
        }
        kept.insert(key);
        Ok(())
    }

    pub(super) fn holds(&self, content: Content) -> usize {
        let values = self.values.lock().unwrap();
        values.values().filter(|value| value.0 == content).count()
    }

    pub(super) fn replace(&self, key: Key, content: Content, bytes: impl Into<Bytes>) {
        self.values.lock().unwrap().insert(key, (content, bytes.into()));
    }

    pub(super) fn most_in_flight(&self) -> usize {
        self.books.lock().unwrap().most_in_flight
    }
}

impl Chunks for Map {
    type Address = u32;

    async fn put(
        &self,
        content: Content,
        value: &Bytes,
        options: PutOptions,
    ) -> Result<Stored<u32>, NodeError> {
        let _ticket = Ticket::new(self);
        let key = immutable_key(content, value);
        self.wait(key).await;
        if strikes(&self.refused, key) {
            return Err(NodeError::QuorumNotMet {
                acknowledged: 1,
                wanted: options.quorum,
            });
        }
        self.replace(key, content, value.clone());
        self.rare.lock().unwrap().remove(&key);
        self.books.lock().unwrap().put_in_order.push(key);
        if options.keep {
            self.keep_own(key)?;
        }
        Ok(Stored {
            key,
            holders: Vec::new(),
            local: true,
            refused: 0,
            kept: options.keep.then_some(Verdict::Stored),
            seq: 0,
            expires: UnixTime::from_secs(1000),
            effort: Effort {
                requests: 2,
                ..Effort::default()
            },
            query: QueryId(0),
        })
    }

    async fn get(&self, key: Key) -> Result<Option<Value>, NodeError> {
        let _ticket = Ticket::new(self);
        self.books.lock().unwrap().gets += 1;
        self.wait(key).await;
        if strikes(&self.unanswered, key) {
            return Err(QueryError::Unanswered.into());
        }
        if strikes(&self.hidden, key) {
            return Ok(None);
        }
        let found = self.values.lock().unwrap().get(&key).cloned();
        Ok(found.map(|(content, bytes)| Value {
            bytes,
            content,
            expires: UnixTime::from_secs(1000),
            effort: Effort {
                requests: 1,
                ..Effort::default()
            },
        }))
    }

    async fn is_rare(&self, content: Content, value: &Bytes, _: usize) -> Result<bool, NodeError> {
        let _ticket = Ticket::new(self);
        let key = immutable_key(content, value);
        self.wait(key).await;
        let is_there = self.values.lock().unwrap().contains_key(&key);
        Ok(!is_there || self.rare.lock().unwrap().contains(&key))
    }

    async fn is_kept(&self, key: Key) -> bool {
        self.kept.lock().unwrap().contains(&key)
    }

    async fn keep(&self, content: Content, value: &Bytes, _: Duration, _: UnixTime) -> Result<(), NodeError> {
        let key = immutable_key(content, value);
        self.keep_own(key)
    }
}
