//! What this node does not want: what its application refuses, and what its operator has listed.
//!
//! Both are asked where records come in, on the task that has verified them: for each record of a STORE, of an answer
//! to FIND_VALUE and of one to FETCH, and for what the application puts itself. The core never sees what was refused
//! here. Peers are told [`RecordError::Denied`] and no more.
//!
//! ```text
//!   STORE ──► verified ─┐                  ┌─ no ──► the peer is told: denied
//!   answers ► verified ─┼► list, Validator ┼─ no ──► left out
//!   put ─────────────────┘                 └─ yes ─► the core ─► the store's thread: list, Validator::choose
//! ```

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use kad_core::record::precedence;
use kad_core::summary::short;
use kad_core::{
    Found, Key, NodeId, PublicKey, RawRecord, Record, RecordError, Request, Response, Rules, StoreReply,
    UnixTime,
};

use crate::DenyList;

/// Records that peers offer again and again, because they hold them and this node refused them; the one that was
/// refused first is forgotten, and fetched and refused once more.
const MAX_UNWANTED: usize = 4096;

/// What is refused for what it is stays refused.
const FOREVER: UnixTime = UnixTime::from_secs(u64::MAX);

/// The judgement of an application about records of others, registered with
/// [`Builder::validator`](crate::Builder::validator).
///
/// It is called from several tasks at once, and for every record that comes in, so it should take microseconds and must
/// not block. What it refuses, this node neither stores nor hands to the application; other nodes decide for
/// themselves. Records that were stored before it refused them stay until they expire.
///
/// # Panics
/// A validator that panics has refused the record that it was asked about, unless the program is built to abort. The
/// log tells of the first time only, the panic hook of each; the node goes on and asks it about the next record, so a
/// lock that the panic has poisoned refuses all of them.
///
/// ```
/// use kad_node::{MutableOptions, Node, Refusal, Validator};
/// use kad_core::Record;
///
/// /// Records under the salt `port` hold a port number, and nothing else.
/// struct Ports;
///
/// impl Validator for Ports {
///     fn admit(&self, record: &Record) -> Result<(), Refusal> {
///         match record.salt() {
///             b"port" if !record.is_tombstone() && record.value().len() != 2 => {
///                 Err(Refusal::new("a port has two bytes"))
///             }
///             _ => Ok(()),
///         }
///     }
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder().listen("127.0.0.1:0".parse()?).validator(Ports).spawn().await?;
/// let mut options = MutableOptions::default();
/// options.seq = Some(1);
/// let put = node.put_mutable(node.keypair(), b"port", "eighty", options).await;
/// assert!(put.is_err_and(|error| error.to_string().contains("two bytes")));
/// # node.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub trait Validator: Send + Sync + 'static {
    /// Whether this node wants a record: to store it for somebody, to hand it to the application, or to publish it.
    /// It has been verified. The default wants everything.
    ///
    /// # Errors
    /// Why it does not. Peers do not learn the reason; the application does, of what it puts itself.
    fn admit(&self, record: &Record) -> Result<(), Refusal> {
        let _ = record;
        Ok(())
    }

    /// Whether a version that wins by the rules of the network may take the place of the one that this node holds for
    /// others or has kept for the application. It is not asked about what the application itself puts. The default lets
    /// it.
    ///
    /// Saying no leaves the network's order of versions: nodes that judge differently keep different versions, readers
    /// see whichever they meet, and the older one comes back to whoever reads or repairs from here. What was refused is
    /// not fetched again while the one that is held lives. It is good for rules that all nodes of a network share, such
    /// as "a record that says final stays".
    fn choose(&self, held: &Record, new: &Record) -> bool {
        let _ = (held, new);
        true
    }
}

/// Why a [`Validator`] refused a record: one sentence for whoever wanted to put it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

impl Refusal {
    /// With this reason.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// A validator, if there is one.
#[derive(Clone, Default)]
pub(crate) struct Registered(pub(crate) Option<Arc<dyn Validator>>);

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some" } else { "None" })
    }
}

/// What a node asks about every record. Shared by its tasks and the store's thread.
pub(crate) struct Policy {
    rules: Rules,
    validator: Registered,
    denied: RwLock<Arc<DenyList>>,
    unwanted: Mutex<Unwanted>,
    /// Whether the log has told of it.
    has_panicked: AtomicBool,
}

impl Policy {
    pub(crate) fn new(rules: Rules, validator: Registered, denied: DenyList) -> Self {
        Self {
            rules,
            validator,
            denied: RwLock::new(Arc::new(denied)),
            unwanted: Mutex::default(),
            has_panicked: AtomicBool::new(false),
        }
    }

    /// The list that counts now. Nothing panics while it is locked, and if it did, the list would be whole.
    pub(crate) fn denied(&self) -> Arc<DenyList> {
        self.denied.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another list counts from now on. What it does not deny any more is welcome again.
    pub(crate) fn deny(&self, list: DenyList) {
        *self.denied.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
        *self.unwanted.lock().unwrap_or_else(PoisonError::into_inner) = Unwanted::default();
    }

    /// Whether this node wants a record, or why not.
    pub(crate) fn admit(&self, record: &Record) -> Result<(), Refusal> {
        if self.denied().has(record.key(), record.as_raw()) {
            return Err(Refusal::new(
                "the key or the publisher is on the deny-list of this node",
            ));
        }
        let Some(validator) = &self.validator.0 else {
            return Ok(());
        };
        self.survive(|| validator.admit(record)).unwrap_or_else(|| {
            Err(Refusal::new(
                "the validator has panicked over it; the log says where",
            ))
        })
    }

    /// What the validator says, or `None` if it panics: a record that somebody sends must end neither the task that
    /// verifies it nor the thread of the store.
    fn survive<T>(&self, ask: impl FnOnce() -> T) -> Option<T> {
        // The record is read only. What a validator changes of its own it has to keep whole itself.
        let answer = catch_unwind(AssertUnwindSafe(ask)).ok();
        if answer.is_none() && !self.has_panicked.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "the validator has panicked; what it panics over is refused, and this is not told again"
            );
        }
        answer
    }

    /// What of a request may reach the core.
    pub(crate) fn of_request(&self, mut request: Request) -> Request {
        match &mut request {
            Request::Store { entries } => {
                for entry in entries {
                    let record = entry.record.as_ref();
                    if record.is_ok_and(|record| self.admit(record).is_err()) {
                        entry.record = Err(RecordError::Denied);
                    }
                }
            }
            // No version is late enough, so neither the store nor the cache of popular values has it.
            Request::FindValue(ask) if self.denies_key(ask.key) => ask.min_seq = u64::MAX,
            _ => {}
        }
        request
    }

    /// What of an answer may reach the core.
    pub(crate) fn of_response<A>(&self, mut response: Response<A>) -> Response<A> {
        match &mut response {
            Response::Values { found, .. } => self.keep_wanted(found),
            Response::Nodes { card, .. } if card.as_ref().is_some_and(|card| self.admit(card).is_err()) => {
                *card = None;
            }
            Response::Fetched { records } => records.retain(|record| {
                let is_wanted = self.admit(record).is_ok();
                if !is_wanted {
                    self.note_unwanted(record, FOREVER);
                }
                is_wanted
            }),
            _ => {}
        }
        response
    }

    /// What the store has found and may be told. What is denied is removed from it, but not in the same moment.
    pub(crate) fn of_reply(&self, mut reply: StoreReply, now: UnixTime) -> StoreReply {
        let denied = self.denied();
        match &mut reply {
            StoreReply::Found { found, .. } => found.retain(|found| match found {
                Found::Record(record) => !denied.has(record.key(), record.as_raw()),
                Found::Digest { .. } => true,
            }),
            StoreReply::Fetched { records, .. } => {
                records.retain(|record| !denied.has(record.key(), record.as_raw()));
            }
            StoreReply::Due(due) => due.retain(|due| !denied.has(due.record.key(), due.raw())),
            // Nor is what was refused asked for again.
            StoreReply::Missing(marks) => {
                let unwanted = self.unwanted.lock().unwrap_or_else(PoisonError::into_inner);
                marks.retain(|mark| !unwanted.has(*mark, now));
            }
            _ => {}
        }
        reply
    }

    fn keep_wanted(&self, found: &mut Vec<Found>) {
        found.retain(|found| match found {
            Found::Record(record) => self.admit(record).is_ok(),
            Found::Digest { .. } => true,
        });
    }

    /// Repair does not ask for a record again before `until`.
    pub(crate) fn note_unwanted(&self, record: &Record, until: UnixTime) {
        let mut unwanted = self.unwanted.lock().unwrap_or_else(PoisonError::into_inner);
        unwanted.insert(short(record.as_raw().mark()), until);
    }

    /// Whether a record of somebody else may take the place of what is held, which is looked up only if anybody cares.
    ///
    /// # Errors
    /// If it may not: when the life of what is held ends.
    pub(crate) fn may_replace(
        &self,
        held: impl FnOnce() -> Option<RawRecord>,
        new: &Record,
        now: UnixTime,
    ) -> Result<(), UnixTime> {
        let Some(validator) = &self.validator.0 else {
            return Ok(());
        };
        let wins = |held: &RawRecord| precedence(new.as_raw(), held).is_gt();
        // What does not verify any more has nothing to say.
        let held = held()
            .filter(wins)
            .and_then(|held| Record::verify(held, &self.rules, now).ok());
        match held {
            Some(held) if self.survive(|| validator.choose(&held, new)) != Some(true) => Err(held.expiry()),
            _ => Ok(()),
        }
    }

    /// Whether anybody chooses between versions.
    pub(crate) const fn chooses(&self) -> bool {
        self.validator.0.is_some()
    }

    /// Whether a publisher's records must not be asked for.
    pub(crate) fn denies_publisher(&self, publisher: &PublicKey) -> bool {
        self.denied().has_publisher(NodeId::from_public_key(publisher))
    }

    /// Whether a key must not be asked for.
    pub(crate) fn denies_key(&self, key: Key) -> bool {
        self.denied().has_key(key)
    }
}

/// Marks of records that were refused, oldest first, and until when they are.
#[derive(Default)]
struct Unwanted {
    marks: HashMap<u64, UnixTime>,
    order: VecDeque<u64>,
}

impl Unwanted {
    fn has(&self, mark: u64, now: UnixTime) -> bool {
        self.marks.get(&mark).is_some_and(|until| now < *until)
    }

    fn insert(&mut self, mark: u64, until: UnixTime) {
        match self.marks.entry(mark) {
            Entry::Occupied(mut known) => *known.get_mut() = until,
            Entry::Vacant(place) => {
                place.insert(until);
                self.order.push_back(mark);
                if self.order.len() > MAX_UNWANTED
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.marks.remove(&oldest);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
