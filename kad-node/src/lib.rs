//! A complete Kademlia node: a library to embed, and the `kad-node` command.
//!
//! The decisions are `kad-core`'s, which has no clock, no socket and no disk. This crate has them, and one task that
//! keeps them together. A [`Node`] is the handle that an application holds; a [`Builder`] makes one, with QUIC and an
//! embedded database, or with a transport and a store of your own ([`Builder::spawn_with`]).
//!
//! ```
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::net::SocketAddr;
//! use kad_node::{MutableOptions, Node, Peer, PutOptions};
//!
//! let loopback: SocketAddr = "127.0.0.1:0".parse()?;
//! let first = Node::builder().listen(loopback).spawn().await?;
//! let peer: Peer = first.local().address.to_string().parse()?;
//! let second = Node::builder().listen(loopback).bootstrap(peer).spawn().await?;
//! second.joined().await?;
//!
//! // A value under its hash: whoever gets it can check it.
//! let stored = second.put("forty-two", PutOptions::default()).await?;
//! let value = first.get(stored.key).await?.ok_or("nobody has it")?;
//! assert_eq!(value.bytes, "forty-two");
//!
//! // A record under a public key: its owner writes new versions, the newest one wins.
//! let owner = second.keypair();
//! second.put_mutable(owner, b"status", "busy", MutableOptions::default()).await?;
//! second.put_mutable(owner, b"status", "idle", MutableOptions::default()).await?;
//! let newest = first.get_mutable(&owner.public(), b"status").await?.ok_or("nobody has it")?;
//! assert_eq!((newest.seq, newest.value.as_ref()), (2, b"idle".as_ref()));
//!
//! second.shutdown().await?;
//! first.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Inside
//! ```text
//!   Node ──commands──► driver ──► kad_core::Kademlia      one task; bounded turns, local work first
//!                        │  ▲
//!          a task for each  completions
//!               request  │  │
//!                        ▼  │
//!        kad_net::Transport   the store's thread: one flush for all that wait
//! ```
//! `builder` puts a node together and ends it in order. `driver` carries out what the state machine wants. `node` is
//! the handle. `storage` is the thread that writes; reads go past it. `join` finds the way in and back in, `snapshot`
//! saves contacts so that a restart needs no bootstrap node, [`identity`] reads and writes key files, `peer` names a
//! node as people do. `policy` asks the application's [`Validator`] and the operator's [`DenyList`] about every record.
//! `role` follows what the transport finds out about how this node is reached, `card` tells it to those who look for
//! it. [`mod@file`] makes values of files, and files of values. [`crawl`] walks over the whole network, and
//! `full_table` does so to know everybody. `docs/architecture.md` tells the whole story, `docs/bounds.md` every limit.
//!
//! # What it refuses to do
//! - Decide anything about the protocol: whom to ask, how long to wait, what to keep.
//! - Block: a slow disk or a silent peer delays its own request and no other.
//! - Grow: every channel and queue is bounded, and a full one has an answer.
//! - Say "stored" before it is on the disk of the one who says it.
//! - Encrypt values other than files, or renew what somebody else's key signed.
#![forbid(unsafe_code)]

mod builder;
mod card;
pub mod crawl;
mod deny;
#[cfg(feature = "mdns")]
mod discovery;
mod driver;
mod error;
pub mod file;
mod full_table;
pub mod holdings;
pub mod identity;
mod interfaces;
mod join;
pub mod kept;
#[cfg(feature = "port-mapping")]
mod mapping;
mod node;
mod peer;
mod policy;
mod role;
mod snapshot;
mod storage;
mod surroundings;

pub use self::builder::{Builder, DEFAULT_NETWORK};
pub use self::crawl::{Crawl, CrawlOptions};
pub use self::deny::{DenyFileError, DenyList, DenyListError, MAX_DENIED};
pub use self::error::{JoinError, NodeError, SpawnError};
pub use self::full_table::{FullTable, TableMode};
pub use self::join::JoinState;
pub use kad_net::quic::{Connection, Listener, PathKind, PathReport, Protocol, Stream};

pub use self::node::{
    Change, Closest, ConnectError, DEFAULT_LIFETIME, ManyReport, Mutable, MutableOptions, Node, NodeStats,
    OneOfMany, Pong, Provider, PutOptions, ShutdownReport, Stored, Told, Value, Watch, WatchOptions,
    Whereabouts,
};
pub use self::peer::Peer;
pub use self::policy::{Refusal, Validator};
pub use self::role::{Role, RoleChoice};
pub use self::storage::StorageStats;
pub use self::surroundings::Mdns;

/// The code of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
