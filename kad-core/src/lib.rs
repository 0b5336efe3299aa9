//! Kademlia as a state machine.
#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod contact;
pub mod crypto;
mod id;
mod message;
mod network;
pub mod record;
mod rng;
mod time;

pub use self::contact::{Address, AddressGroups, Contact};
pub use self::crypto::{Keypair, PublicKey};
pub use self::id::{Distance, ID_BITS, ID_BYTES, Key, NodeId, ParseIdError};
pub use self::message::{
    Failure, FindValue, Found, MAX_CLOSER, MAX_RECORD_BYTES, MAX_RECORDS, Rejection, Request, Response,
    StoreEntry, Want,
};
pub use self::network::{NetworkId, Parameters};
pub use self::record::{
    Announcement, Kind, MAX_RECORD, MAX_SALT, MAX_VALUE, MutableVersion, RawRecord, Record, RecordError,
    Rules, Slot, Verdict,
};
pub use self::time::{Duration, Instant, Now, UnixTime};
