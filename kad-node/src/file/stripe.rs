//! Fetching a stripe: its chunks, or what restores them.

use std::ops::Range;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kad_core::record::{Content, immutable_key};
use kad_core::{Key, UnixTime};
use tokio::sync::Semaphore;

use super::chunks::{Chunks, get_patiently, may_pass};
use super::code::shard;
use super::options::Repair;
use super::tree::{Place, Shape, Stripe};
use super::{Code, GetFileError, Plan, Repaired};
use crate::{NodeError, Value};

/// Fetches the parts of one file, with at most as many operations under way as planned.
pub(super) struct Fetcher<'a, C> {
    pub(super) chunks: &'a C,
    pub(super) plan: Plan,
    pub(super) shape: Shape,
    pub(super) care: Option<Care>,
    /// Never closed. It is fair, so what comes first in the file comes first.
    pub(super) gate: Semaphore,
}

/// What is done with what is found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Care {
    /// What too few nodes hold is stored again.
    Repair(Repair),
    /// The same, and all of it is kept as this node's own.
    Keep(Repair),
}

/// A stripe that has been fetched or restored.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) stripe: Stripe,
    /// Its data chunks, each checked against its key; none if nothing is to be done with them.
    pub(super) chunks: Vec<(Key, Bytes)>,
    pub(super) books: Books,
}

/// What fetching took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Books {
    pub(super) rpcs: u64,
    pub(super) expires: UnixTime,
    pub(super) restored: u64,
    pub(super) repair: Repaired,
}

impl Books {
    pub(super) fn new() -> Self {
        Self {
            rpcs: 0,
            expires: UnixTime::from_secs(u64::MAX),
            restored: 0,
            repair: Repaired::default(),
        }
    }

    pub(super) fn count(&mut self, value: &Value) {
        self.rpcs += u64::from(value.effort.requests);
        self.expires = self.expires.min(value.expires);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.rpcs += other.rpcs;
        self.expires = self.expires.min(other.expires);
        self.restored += other.restored;
        self.repair.checked += other.repair.checked;
        self.repair.stored += other.repair.stored;
        self.repair.kept += other.repair.kept;
        self.repair.failed += other.repair.failed;
        self.repair.no_room += other.repair.no_room;
    }
}

/// What has been found of a stripe.
struct Found<'s> {
    stripe: &'s Stripe,
    /// Data chunks, then parity chunks.
    pieces: Vec<Option<Bytes>>,
    /// A lookup that did not even tell that nobody has a chunk.
    unanswered: Option<(Key, NodeError)>,
    books: Books,
}

impl Found<'_> {
    /// How many more chunks are needed.
    fn needed(&self) -> usize {
        self.stripe.data.len().saturating_sub(self.count())
    }

    fn count(&self) -> usize {
        self.pieces.iter().flatten().count()
    }

    /// The places within a range that nothing was found for.
    fn missing(&self, range: Range<usize>) -> Vec<usize> {
        range.filter(|place| self.pieces[*place].is_none()).collect()
    }
}

/// What a lookup told of a chunk or parity chunk.
enum Piece {
    There(Value),
    Gone,
    Unanswered(Key, NodeError),
}

/// Whether one lookup decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    Once,
    Patient,
}

impl<'a, C: Chunks> Fetcher<'a, C> {
    pub(super) fn new(chunks: &'a C, plan: Plan, shape: Shape, care: Option<Care>) -> Self {
        Self {
            chunks,
            plan,
            shape,
            care,
            gate: Semaphore::new(plan.parallel),
        }
    }

    /// An index node, and mends it if that was asked for.
    pub(super) async fn index(&self, place: Place) -> Result<(Value, Books), GetFileError> {
        let Place {
            key, offset, level, ..
        } = place;
        let permit = self.gate.acquire().await;
        let found = get_patiently(self.chunks, key, true, self.plan.first_pause).await;
        drop(permit);
        let value = found
            .map_err(|source| GetFileError::Lookup { offset, key, source })?
            .ok_or(GetFileError::MissingIndex { level, offset, key })?;
        if value.content == Content::Plain {
            return Err(GetFileError::NoIndex { level, offset, key });
        }
        let mut books = Books::new();
        books.count(&value);
        let repaired = &mut books.repair;
        self.mend(repaired, Content::FileIndex, &value.bytes, value.expires)
            .await;
        Ok((value, books))
    }

    /// The chunks of a stripe, restored if need be, and mends it if that was asked for.
    pub(super) async fn stripe(&self, stripe: Stripe) -> Result<Whole, GetFileError> {
        if let Some(Care::Keep(_)) = self.care
            && self.is_kept(&stripe).await
        {
            let mut books = Books::new();
            books.repair.checked = (stripe.data.len() + stripe.parity.len()) as u64;
            let chunks = Vec::new();
            return Ok(Whole {
                stripe,
                chunks,
                books,
            });
        }
        let mut found = Found {
            stripe: &stripe,
            pieces: vec![None; stripe.data.len() + stripe.parity.len()],
            unanswered: None,
            books: Books::new(),
        };
        match self.shape.format().code {
            None => self.ask(&mut found, 0..1, Patience::Patient, usize::MAX).await?,
            Some(code) => self.ask_for_enough(&mut found, code).await?,
        }
        let Found {
            pieces, mut books, ..
        } = found;
        let data: Option<Vec<Bytes>> = pieces.into_iter().take(stripe.data.len()).collect();
        let Some(data) = data else {
            let Place { key, offset, .. } = stripe.data[0];
            let index = offset / self.shape.chunk();
            return Err(GetFileError::MissingChunk { index, offset, key });
        };
        if self.care.is_some() {
            self.mend_stripe(&mut books, &stripe, &data).await;
        }
        let keys = stripe.data.iter().map(|place| place.key);
        Ok(Whole {
            chunks: keys.zip(data).collect(),
            stripe,
            books,
        })
    }

    /// First the data chunks, once; then as many parity chunks as are missing; then everything again, with patience,
    /// until there is enough. Parity that is there is fetched sooner than a chunk is found that is gone.
    async fn ask_for_enough(&self, found: &mut Found<'_>, code: Code) -> Result<(), GetFileError> {
        let stripe = found.stripe;
        let data = stripe.data.len();
        let all = found.pieces.len();
        self.ask(found, 0..data, Patience::Once, usize::MAX).await?;
        let mut asked = data;
        while found.needed() > 0 && asked < all {
            let next = all.min(asked + found.needed());
            self.ask(found, asked..next, Patience::Once, usize::MAX).await?;
            asked = next;
        }
        if found.needed() > 0 {
            found.unanswered = None;
            self.ask(found, 0..all, Patience::Patient, data).await?;
        }
        if found.needed() > 0 {
            let offset = stripe.data[0].offset;
            return Err(match found.unanswered.take() {
                Some((key, source)) => GetFileError::Lookup { offset, key, source },
                None => GetFileError::LostStripe {
                    stripe: stripe.number,
                    offset,
                    found: found.count(),
                    needed: data,
                },
            });
        }
        match found.missing(0..data).is_empty() {
            true => Ok(()),
            false => self.restore(found, code).await,
        }
    }

    /// Asks for what is missing of a range, until so many pieces are there.
    async fn ask(
        &self,
        found: &mut Found<'_>,
        range: Range<usize>,
        patience: Patience,
        enough: usize,
    ) -> Result<(), GetFileError> {
        let stripe = found.stripe;
        let missing = found.missing(range).into_iter();
        let mut asking: FuturesUnordered<_> =
            missing.map(|place| self.piece(stripe, place, patience)).collect();
        while found.count() < enough
            && let Some(answer) = asking.next().await
        {
            match answer? {
                (place, Piece::There(value)) => {
                    found.books.count(&value);
                    found.pieces[place] = Some(value.bytes);
                }
                (_, Piece::Gone) => {}
                (_, Piece::Unanswered(key, error)) => found.unanswered = Some((key, error)),
            }
        }
        Ok(())
    }

    /// One chunk or parity chunk, if somebody has it.
    async fn piece(
        &self,
        stripe: &Stripe,
        place: usize,
        patience: Patience,
    ) -> Result<(usize, Piece), GetFileError> {
        let first = stripe.data[0];
        let (key, offset, length) = match stripe.data.get(place) {
            Some(chunk) => (chunk.key, chunk.offset, chunk.length),
            None => {
                let key = stripe.parity[place - stripe.data.len()];
                (key, first.offset, shard(first.length as usize) as u64)
            }
        };
        let permit = self.gate.acquire().await;
        let answer = match patience {
            Patience::Once => self.chunks.get(key).await,
            Patience::Patient => get_patiently(self.chunks, key, true, self.plan.first_pause).await,
        };
        drop(permit);
        let coded = !stripe.parity.is_empty();
        let value = match answer {
            Ok(Some(value)) => value,
            Ok(None) => return Ok((place, Piece::Gone)),
            // Others may be found.
            Err(error) if coded && may_pass(&error) => return Ok((place, Piece::Unanswered(key, error))),
            Err(source) => return Err(GetFileError::Lookup { offset, key, source }),
        };
        let wrong = match value.content {
            Content::Plain if value.bytes.len() as u64 == length => return Ok((place, Piece::There(value))),
            Content::Plain => format!("{} bytes", value.bytes.len()),
            Content::FileIndex => "an index".to_owned(),
        };
        Err(match place < stripe.data.len() {
            true => GetFileError::WrongChunk {
                index: offset / self.shape.chunk(),
                offset,
                key,
                expected: length,
                found: wrong,
            },
            false => bad_parity(stripe),
        })
    }

    /// Makes the data chunks that are missing of what is there.
    async fn restore(&self, found: &mut Found<'_>, code: Code) -> Result<(), GetFileError> {
        let stripe = found.stripe;
        let pieces = found.pieces.clone();
        let (count, length) = (stripe.data.len(), shard(stripe.data[0].length as usize));
        // Some milliseconds of work, during which a thread of the runtime would answer nobody.
        let restoring = tokio::task::spawn_blocking(move || {
            let (data, parity) = pieces.split_at(count);
            code.restore(data, parity, length)
        });
        let restored = restoring.await.ok().flatten().ok_or_else(|| bad_parity(stripe))?;
        for (place, mut bytes) in restored {
            let Place { key, length, .. } = stripe.data[place];
            bytes.truncate(length as usize);
            if immutable_key(Content::Plain, &bytes) != key {
                return Err(bad_parity(stripe));
            }
            found.pieces[place] = Some(bytes);
            found.books.restored += 1;
        }
        Ok(())
    }
}

fn bad_parity(stripe: &Stripe) -> GetFileError {
    GetFileError::BadParity {
        stripe: stripe.number,
        offset: stripe.data[0].offset,
    }
}
