//! Where a Kademlia node keeps the records that others entrust to it.
//!
//! A store maps a [`Slot`](kad_core::Slot) to one [`StoredRecord`]: the bytes of the record, when it ends, when it
//! should next be handed to its region, and whether it is the node's own. Which of two records of a slot stays is
//! decided by [`kad_core::record::judge`] and nothing else, inside the write, so all nodes agree whatever their
//! backend.
//!
//! ```text
//!   put ─┐                       ┌─────────► MemoryStore
//! remove ├─► Batch (judges,  ──flush──────►  RedbStore        ──► reader(): get, scan
//! expire ┘   counts, buffers)    └─────────► a store of yours      (sees the last flush)
//! ```
//!
//! - [`RecordStore`] is the writer: synchronous, one at a time, buffered until [`flush`](RecordStore::flush).
//! - [`RecordReader`] is a cheap clone that reads the last flush from any thread, beside the writer.
//! - [`batch`] holds the rules that every backend shares; a new backend only reads and writes what it is told.
//! - [`conformance`] proves a backend, unclean stops included.
//!
//! # What it refuses to do
//! It knows no network, no runtime and no clock: times are given, nothing runs in the background, and what has expired
//! stays and counts until [`expire`](RecordStore::expire) is called. It does not verify signatures: a put takes a
//! [`Record`](kad_core::Record), which is proof enough, and a read gives a [`RawRecord`](kad_core::RawRecord), which
//! the caller verifies again, because disks lie. It has no favourites but the node itself: what others send makes room
//! only for what is nearer to the node, and at a key for senders that have less there ([`RecordStore::put`]). What does
//! not fit is answered [`Verdict::Full`](kad_core::Verdict::Full).
//!
//! # Example
//! ```
//! use kad_core::{Duration, NetworkId, Parameters, Record, Rules, Source, UnixTime, Verdict};
//! use kad_store::{Limits, MemoryStore, Put, RecordReader, RecordStore, Scan};
//!
//! let now = UnixTime::from_secs(1_800_000_000);
//! let parameters = Parameters::default();
//! let rules = Rules::new(NetworkId::new("docs", &parameters), &parameters);
//! let record = Record::immutable(b"a value", now + Duration::from_secs(3600), &rules, now)?;
//!
//! let mut store = MemoryStore::new(Limits::default());
//! let reader = store.reader();
//! let source = Source::UNKNOWN;
//! let put = Put { record: &record, expected: None, due: now + Duration::from_secs(600), own: false, source, sender: None };
//! assert_eq!(store.put(put)?, Verdict::Stored);
//! assert!(reader.get(&record.slot())?.is_none(), "not flushed yet");
//!
//! store.flush()?;
//! let stored = reader.get(&record.slot())?.ok_or("it was flushed")?;
//! assert_eq!(Record::verify(stored.raw, &rules, now)?, record);
//!
//! let due = reader.scan(&Scan::all(100).due_by(now + Duration::from_secs(600)))?;
//! assert_eq!(due.records.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Bounds
//! | what | bound | when it is reached |
//! |---|---|---|
//! | records of others | [`Limits::max_records`], default 1,000,000 | what is farthest from [`Limits::around`] goes for what is nearer, else [`Verdict::Full`](kad_core::Verdict::Full) |
//! | bytes of these | [`Limits::max_bytes`], default 1 GiB | the same |
//! | records and bytes of one sender | [`Limits::max_records_per_source`], [`Limits::max_bytes_per_source`], default half of all | `Full` |
//! | providers of a key | [`Limits::max_providers_per_key`], default 256 | senders share the places evenly, else `Full` |
//! | own records and their bytes | [`Limits::max_own_records`], [`Limits::max_own_bytes`], as much again | `Full` |
//! | records that leave for one | [`MAX_EVICTED`](batch::MAX_EVICTED), 64 | `Full` |
//! | slots looked at for that | [`MAX_LOOKED`](batch::MAX_LOOKED), 1,024 | `Full` |
//! | one record | [`MAX_RECORD`](kad_core::MAX_RECORD), 65,724 bytes | a larger one cannot be built |
//! | slots changed since the last flush | [`MAX_BATCH_SLOTS`], 65,536 | [`StoreError::BatchFull`]: flush first |
//! | bytes put since the last flush | [`MAX_BATCH_BYTES`], 64 MiB | the same |
//! | records of a page | [`Scan::limit`], at most [`MAX_PAGE_RECORDS`], 1,024 | the page says where to go on |
//! | bytes of a page | [`MAX_PAGE_BYTES`], 4 MiB, exceeded by at most one record | the same |
//! | page cache of redb | `RedbConfig::cache_bytes`, default 16 MiB | pages are read again |
//!
//! # Features
//! `redb` (default): the embedded database backend, `RedbStore`.
#![forbid(unsafe_code)]

pub mod answer;
pub mod batch;
pub mod conformance;
mod error;
pub mod index;
pub mod memory;
#[cfg(feature = "redb")]
pub mod redb;
mod scan;
mod store;

pub use self::batch::{MAX_BATCH_BYTES, MAX_BATCH_SLOTS};
pub use self::error::StoreError;
pub use self::index::Index;
pub use self::memory::{MemoryReader, MemoryStore};
#[cfg(feature = "redb")]
pub use self::redb::{RedbConfig, RedbReader, RedbStore};
pub use self::scan::{Chosen, MAX_PAGE_BYTES, MAX_PAGE_RECORDS, Page, Scan};
pub use self::store::{Limits, Put, RecordReader, RecordStore, StoredRecord, Tally, Usage};
