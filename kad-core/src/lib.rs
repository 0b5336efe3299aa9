//! Kademlia as a state machine: no clock, no socket, no thread, no disk, no entropy.
//!
//! [`Kademlia`] is one node. It is told what happened ([`Input`]) and says what should be done about it ([`Output`]);
//! who calls it, the *driver*, owns sockets, clocks and disks. So the same machine runs over QUIC, over a transport of
//! one's own, or a hundred thousand times in one process in virtual time, and the same inputs give the same outputs.
//!
//! What it refuses to do: to ask for the time (it is passed in), to draw randomness (one seed, for jitter only), to
//! wait (everything slow is an effect), to check signatures (a [`Record`] exists only verified), to know bytes on a
//! wire (messages are values), to believe hearsay (a contact enters the table when it has answered us, never because
//! somebody told of it), and to fail: [`Kademlia::handle`] has no error, a hostile peer costs a counter in [`Stats`].
//!
//! # The contract
//!
//! Feed, drain, arm, repeat:
//!
//! 1. Feed one input: [`Kademlia::handle`] with the time, which never goes back on its monotonic clock. The wall clock
//!    may jump.
//! 2. Drain the [`Outbox`] and carry out each output in order.
//! 3. Arm one timer at [`Kademlia::poll_timeout`], in the place of the one before. When it fires, feed
//!    [`Input::Timeout`]. After a timeout at t the next one is later than t.
//!
//! It is owed both ways, each exactly once:
//!
//! | who gave | is owed |
//! |---|---|
//! | [`Output::Request`] | one [`Input::Response`] or [`Input::Failure`], unless [`Output::Cancel`] came first |
//! | [`Output::Store`] | one [`Input::Store`] |
//! | [`Input::Request`] | one [`Output::Response`], at once or after an [`Input::Store`] |
//! | [`Input::Command`] | one [`Event::QueryFinished`], unless [`Input::Cancel`] came first |
//!
//! Answers that come late or twice change nothing. Request timeouts are the core's: a transport needs none. The driver
//! names queries and replies and never uses a name again. Three things the driver has to prove before it feeds them:
//! that [`from.id`](Contact::id) of a request is the sender's, that an answer comes from the node that was asked, and
//! that records are valid ([`Record::verify`]) and belong to the question.
//!
//! # A driver
//!
//! Two machines in one process, with a wire that takes a millisecond. `examples/udp.rs` does the same over real
//! sockets.
//!
//! ```
//! use std::collections::VecDeque;
//! use std::sync::Arc;
//!
//! use kad_core::*;
//!
//! let config = Arc::new(Config::default());
//! let mut now = Now { monotonic: Instant::ZERO, unix: UnixTime::from_secs(1_800_000_000) };
//! let ids = [1, 2].map(|secret| Keypair::from_secret(&[secret; 32]).node_id());
//! // The address of a node is its place in this array.
//! let mut nodes = ids.map(|id| Kademlia::<u32>::new(id, Arc::clone(&config), 7, now));
//! let contact = |place: u32| Contact::new(ids[place as usize], place);
//!
//! let (mut outbox, mut wire) = (Outbox::new(), VecDeque::new());
//! let command = Command::Bootstrap { contacts: vec![contact(1)] };
//! wire.push_back((0, Input::Command { query: QueryId(1), command }));
//! let mut asked = Vec::new(); // Who sent the request that a reply id names.
//! let outcome = 'run: loop {
//!     now.monotonic = now.monotonic + Duration::from_millis(1);
//!     let (place, input) = match wire.pop_front() {
//!         Some(arrived) => arrived,
//!         None => {
//!             // Nothing is on its way: go to the earliest timer.
//!             let (place, at) = (0..2)
//!                 .filter_map(|place| nodes[place as usize].poll_timeout().map(|at| (place, at)))
//!                 .min_by_key(|&(_, at)| at)
//!                 .expect("there is always maintenance to do");
//!             now.monotonic = now.monotonic.max(at);
//!             (place, Input::Timeout)
//!         }
//!     };
//!     nodes[place as usize].handle(now, input, &mut outbox);
//!     while let Some(output) = outbox.pop() {
//!         match output {
//!             Output::Request { id, to, request } => {
//!                 asked.push((place, id));
//!                 let reply_to = ReplyId(asked.len() as u64 - 1);
//!                 let from = contact(place); // Proven, since it comes from ourselves.
//!                 wire.push_back((to.address, Input::Request { from, read_only: false, reply_to, request }));
//!             }
//!             Output::Response { reply_to, response } => {
//!                 let (asker, id) = asked[reply_to.0 as usize];
//!                 wire.push_back((asker, Input::Response { id, response, rtt: None }));
//!             }
//!             Output::Store { id, .. } => wire.push_back((place, Input::Store { id, reply: StoreReply::Failed })),
//!             Output::Event(Event::QueryFinished { outcome, .. }) => break 'run outcome,
//!             Output::Event(_) | Output::Cancel { .. } => {}
//!         }
//!     }
//! };
//! assert_eq!(outcome, Outcome::Bootstrapped { contacts: 1 });
//! assert!(nodes[0].table().get(ids[1]).is_some());
//! ```
//!
//! # Bounds
//!
//! Everything that grows has one, and an answer for "full":
//!
//! | what | bound | when full |
//! |---|---|---|
//! | contacts of a bucket | [`TableConfig::bucket_size`](field@table::TableConfig::bucket_size), [`wide`](table::TableConfig::wide) | the newcomer waits, the oldest is probed |
//! | contacts of a bucket of neighbours only | [`TableConfig::neighbourhood`](table::TableConfig::neighbourhood), if that is more | the same |
//! | contacts of a table | 65,535 | the same |
//! | contacts that wait for a place | [`TableConfig::replacements`](table::TableConfig::replacements) a bucket | the one that waits for longest is forgotten |
//! | places of a far bucket taken by faster contacts or by those from elsewhere | [`TableConfig::proximity_share`](table::TableConfig::proximity_share) | only the slower of them make room |
//! | contacts of an address group | [`GroupLimits`](table::GroupLimits) | [`Refusal::Diversity`](table::Refusal) |
//! | queries of the application | [`Config::max_queries`] | [`QueryError::TooMany`] |
//! | queries with the repairs that follow from reads | twice [`Config::max_queries`] | nothing is repaired this time |
//! | life of a query | [`Config::query_timeout`] | it ends with what it has |
//! | requests of peers that wait for the store | [`Config::max_pending_requests`] | [`Rejection::Busy`] |
//! | probes at once | [`Config::max_probes`] | the stranger is not probed this time |
//! | regions of own records stored again at once | [`Config::max_replications`] | the rest waits in the store |
//! | parts compared in one request | [`summary::MAX_COMPARED`] | *malformed*; an own query goes on with the next |
//! | refreshes at once | 1 | the other buckets wait |
//! | samples of the size of the network | 32 | the oldest is forgotten |
//! | clocks of contacts that are compared with the own one | 32 | the oldest reading is forgotten |
//! | questions of a lookup in flight | [`Config::alpha`] a path, k in the region and when no answer brings progress | the rest waits |
//! | late requests whose query has ended | 128 | they are cancelled, and nobody is blamed |
//! | writes that go on in the background | with all queries twice [`Config::max_queries`] | they are broken off |
//! | candidates of a lookup | 5 k, at least [`MAX_SEEDS`] | the farthest that was not asked is forgotten |
//! | addresses tried for one candidate | 3 | more are ignored |
//! | paths of a lookup | [`MAX_PATHS`](lookup::MAX_PATHS) | more are ignored |
//! | contacts of a bootstrap | [`MAX_SEEDS`] | more are ignored |
//! | contacts in an answer | [`MAX_CLOSER`] | more are ignored |
//! | records in a STORE or an answer | [`MAX_RECORDS`], [`MAX_RECORD_BYTES`] | [`Rejection::Malformed`], or a misfit |
//! | versions of a record stored for others | [`Config::rewrite_burst`], [`Config::rewrite_every`] | [`Verdict::TooOften`] |
//! | records whose rate is remembered | 1,024 | the one that may be rewritten soonest is forgotten |
//! | holders that a read remembers | 128 | more are not counted |
//! | pages of providers that a read asks for | 16 | it ends with what it has |
//! | value, salt, record | [`MAX_VALUE`], [`MAX_SALT`], [`MAX_RECORD`] | [`RecordError::TooLarge`] |
//! | payload of a provider | [`MAX_PROVIDER_PAYLOAD`](record::MAX_PROVIDER_PAYLOAD) | [`RecordError::TooLarge`] |
//! | clock skew of a record | [`MAX_CLOCK_SKEW`](record::MAX_CLOCK_SKEW) | [`RecordError::FromTheFuture`] |
//! | timers settled by one [`Input::Timeout`] | 64 | the rest follows a microsecond later |
//!
//! # Modules
//!
//! | where | what |
//! |---|---|
//! | [`table`] | whom a node knows: [`RoutingTable`](table::RoutingTable) |
//! | [`lookup`] | one walk towards a point: [`Lookup`](lookup::Lookup) |
//! | [`record`] | what is stored, and how it proves itself: [`Record`], [`Rules`] |
//! | [`crypto`] | hashes with domains, keys and signatures |
//! | at the root | the machine, its inputs and outputs, ids, messages, time, [`Config`] |
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod clocks;
mod config;
mod contact;
pub mod crypto;
mod id;
mod input;
mod kademlia;
pub mod lookup;
mod maintenance;
mod message;
mod network;
mod output;
mod population;
mod query;
pub mod record;
mod rewrites;
mod rng;
mod rpc;
mod shunned;
mod silence;
mod slab;
mod source;
mod stats;
pub mod summary;
pub mod table;
mod time;
mod timers;

pub use self::config::{Config, Patience};
pub use self::contact::{Address, AddressGroups, Contact, MAX_HOSTS};
pub use self::crypto::{Keypair, PublicKey};
pub use self::id::{Distance, ID_BITS, ID_BYTES, Key, NodeId, ParseIdError};
pub use self::input::{
    Command, DueRecord, Input, MAX_BULK, MAX_SEEDS, QueryId, Read, ReplyId, RequestId, StoreId, StoreReply,
};
pub use self::kademlia::Kademlia;
pub use self::message::{
    Failure, FindValue, Found, MAX_CARD_BYTES, MAX_CLOSER, MAX_RECORD_BYTES, MAX_RECORDS, Rejection, Request,
    Response, StoreEntry, Want,
};
pub use self::network::{NetworkId, Parameters};
pub use self::output::{Due, Effort, Event, Holder, Outbox, Outcome, Output, Placement, QueryError, StoreOp};
pub use self::population::Population;
pub use self::record::{
    Announcement, Content, Kind, MAX_RECORD, MAX_SALT, MAX_VALUE, MutableVersion, RawRecord, Record,
    RecordError, Rules, Slot, Verdict,
};
pub use self::source::Source;
pub use self::stats::{Refused, Stats};
pub use self::summary::{Difference, Fingerprint, Prefix};
pub use self::time::{Duration, Instant, Now, UnixTime};
