//! Kademlia as a state machine.
#![forbid(unsafe_code)]
#![no_std]
#![warn(missing_docs)]

extern crate alloc;

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
mod query;
pub mod record;
mod rng;
mod rpc;
mod shunned;
mod slab;
mod stats;
pub mod table;
mod time;
mod timers;

pub use self::config::{Config, Patience};
pub use self::contact::{Address, AddressGroups, Contact};
pub use self::crypto::{Keypair, PublicKey};
pub use self::id::{Distance, ID_BITS, ID_BYTES, Key, NodeId, ParseIdError};
pub use self::input::{
    Command, DueRecord, Input, MAX_SEEDS, QueryId, Read, ReplyId, RequestId, StoreId, StoreReply,
};
pub use self::kademlia::Kademlia;
pub use self::message::{
    Failure, FindValue, Found, MAX_CLOSER, MAX_RECORD_BYTES, MAX_RECORDS, Rejection, Request, Response,
    StoreEntry, Want,
};
pub use self::network::{NetworkId, Parameters};
pub use self::output::{Effort, Event, Holder, Outbox, Outcome, Output, QueryError, StoreOp};
pub use self::record::{
    Announcement, Content, Kind, MAX_RECORD, MAX_SALT, MAX_VALUE, MutableVersion, RawRecord, Record,
    RecordError, Rules, Slot, Verdict,
};
pub use self::stats::Stats;
pub use self::time::{Duration, Instant, Now, UnixTime};
