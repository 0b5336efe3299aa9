//! A complete Kademlia node.
#![forbid(unsafe_code)]

mod builder;
mod driver;
mod error;
pub mod file;
pub mod identity;
mod join;
mod node;
mod peer;
mod snapshot;
mod storage;

pub use self::builder::{Builder, DEFAULT_NETWORK};
pub use self::error::{JoinError, NodeError, SpawnError};
pub use self::join::JoinState;
pub use self::node::{
    Closest, DEFAULT_LIFETIME, Mutable, MutableOptions, Node, NodeStats, Pong, Provider, PutOptions,
    ShutdownReport, Stored, Value,
};
pub use self::peer::Peer;
pub use self::storage::StorageStats;
