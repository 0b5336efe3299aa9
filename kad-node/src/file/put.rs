//! Storing a file while it is read.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kad_core::record::{Content, immutable_key};
use kad_core::{Key, UnixTime};
use kad_net::WireAddress;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::chunks::{Chunks, put_patiently};
use super::tree::{BuildError, Node as IndexNode, Root, Shape, TreeBuilder};
use super::{FileOptions, Plan, Progress, PutFileError, StoredFile};
use crate::{Node, PutOptions, Stored};

impl<A: WireAddress> Node<A> {
    /// Stores what `reader` gives until its end, as one file. The length need not be known: a pipe will do.
    ///
    /// Each chunk must be acknowledged by [`PutOptions::quorum`] holders, and is tried [`ATTEMPTS`](super::ATTEMPTS) times.
    /// The root is stored last, so a key that is returned is the key of a whole file. `progress` is called after each chunk
    /// and must not block.
    ///
    /// # Errors
    /// [`PutFileError`]; for a chunk it says which one. Chunks that were stored stay until they expire.
    ///
    /// # Cancel safety
    /// Dropping the future cancels what is in flight. Chunks that were stored stay, without a root. What was read is lost.
    pub async fn put_file(
        &self,
        reader: impl AsyncRead + Unpin + Send,
        options: FileOptions,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<StoredFile<A>, PutFileError> {
        let plan = Plan::new(self.rules().max_value, options.parallel);
        store(self, plan, options.put, reader, progress).await
    }
}

/// A chunk or an index node that is to be stored.
#[derive(Debug)]
struct Job {
    part: Part,
    key: Key,
    bytes: Bytes,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Chunk { index: u64, offset: u64 },
    Index { level: u8 },
}

/// What has been stored so far.
#[derive(Debug)]
struct Tally {
    done: Progress,
    indexes: u64,
    copies: u64,
    copies_min: usize,
    expires: Option<UnixTime>,
}

/// Cuts what is read, and knows what to store next.
#[derive(Debug)]
struct Cutter {
    shape: Shape,
    builder: TreeBuilder,
    /// The chunk that is being read.
    buffer: BytesMut,
    chunks: u64,
    /// At most a chunk and one index of each level.
    waiting: VecDeque<Job>,
}

pub(super) async fn store<C: Chunks>(
    chunks: &C,
    plan: Plan,
    options: PutOptions,
    mut reader: impl AsyncRead + Unpin + Send,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<StoredFile<C::Address>, PutFileError> {
    let mut cutter = Cutter::new(plan.shape.ok_or(PutFileError::TinyValues)?);
    let mut in_flight = FuturesUnordered::new();
    let mut tally = Tally::new();
    let mut last = None;
    let mut at_end = false;
    let root = loop {
        while in_flight.len() < plan.parallel
            && let Some(job) = cutter.waiting.pop_front()
        {
            in_flight.push(store_one(chunks, plan, options, job));
        }
        let may_read = !at_end && in_flight.len() < plan.parallel;
        if at_end && in_flight.is_empty() {
            break cutter.builder.finish();
        }
        let missing = cutter.missing();
        let mut room = (&mut cutter.buffer).limit(missing);
        tokio::select! {
            Some(stored) = in_flight.next(), if !in_flight.is_empty() => {
                let (done, stored) = stored?;
                tally.count(&done, &stored);
                progress(tally.done);
                last = Some(stored);
            }
            read = reader.read_buf(&mut room), if may_read => {
                match read.map_err(PutFileError::Read)? {
                    0 => {
                        at_end = true;
                        cutter.end()?;
                    }
                    _ if cutter.missing() == 0 => cutter.cut()?,
                    _ => {}
                }
            }
        }
    };
    // What is left are the last index nodes, one for each level; their children are all stored.
    let (rest, root) = root.ok_or(PutFileError::TooLarge)?;
    let root = match root {
        Root::Chunk(_) => None,
        Root::Index(root) => Some(root),
    };
    for node in rest.into_iter().chain(root) {
        let (done, stored) = store_one(chunks, plan, options, Job::index(node)).await?;
        tally.count(&done, &stored);
        progress(tally.done);
        last = Some(stored);
    }
    // Something was stored: an empty file has one empty chunk.
    let root = last.ok_or(PutFileError::TooLarge)?;
    Ok(tally.report(root))
}

/// The bytes are free as soon as they are stored.
async fn store_one<C: Chunks>(
    chunks: &C,
    plan: Plan,
    options: PutOptions,
    job: Job,
) -> Result<(Done, Stored<C::Address>), PutFileError> {
    let content = match job.part {
        Part::Chunk { .. } => Content::Plain,
        Part::Index { .. } => Content::FileIndex,
    };
    let done = Done {
        part: job.part,
        bytes: job.bytes.len() as u64,
    };
    match put_patiently(chunks, content, &job.bytes, options, plan.first_pause).await {
        Ok(stored) => Ok((done, stored)),
        Err(source) => Err(match job.part {
            Part::Chunk { index, offset } => PutFileError::Chunk {
                index,
                offset,
                key: job.key,
                source,
            },
            Part::Index { level } => PutFileError::Index {
                level,
                key: job.key,
                source,
            },
        }),
    }
}

/// A job that is done.
#[derive(Debug)]
struct Done {
    part: Part,
    bytes: u64,
}

impl Job {
    fn index(node: IndexNode) -> Self {
        Self {
            part: Part::Index { level: node.level },
            key: node.key,
            bytes: node.bytes,
        }
    }
}

impl Cutter {
    fn new(shape: Shape) -> Self {
        Self {
            shape,
            builder: TreeBuilder::new(shape),
            buffer: BytesMut::with_capacity(shape.chunk() as usize),
            chunks: 0,
            waiting: VecDeque::new(),
        }
    }

    /// How many bytes the chunk that is being read may still have.
    fn missing(&self) -> usize {
        self.shape.chunk() as usize - self.buffer.len()
    }

    /// Ends the chunk that is being read.
    fn cut(&mut self) -> Result<(), PutFileError> {
        let empty = BytesMut::with_capacity(self.shape.chunk() as usize);
        let bytes = std::mem::replace(&mut self.buffer, empty).freeze();
        let key = immutable_key(Content::Plain, &bytes);
        let complete = match self.builder.push(key, bytes.len() as u64) {
            Ok(complete) => complete,
            Err(BuildError::Full | BuildError::Length) => return Err(PutFileError::TooLarge),
        };
        let part = Part::Chunk {
            index: self.chunks,
            offset: self.chunks * self.shape.chunk(),
        };
        self.chunks += 1;
        self.waiting.push_back(Job { part, key, bytes });
        self.waiting.extend(complete.into_iter().map(Job::index));
        Ok(())
    }

    /// Ends the file.
    fn end(&mut self) -> Result<(), PutFileError> {
        match self.buffer.is_empty() && self.chunks > 0 {
            true => Ok(()),
            false => self.cut(),
        }
    }
}

impl Tally {
    fn new() -> Self {
        Self {
            done: Progress::default(),
            indexes: 0,
            copies: 0,
            copies_min: usize::MAX,
            expires: None,
        }
    }

    fn count<A>(&mut self, done: &Done, stored: &Stored<A>) {
        match done.part {
            Part::Chunk { .. } => {
                self.done.chunks += 1;
                self.done.bytes += done.bytes;
            }
            Part::Index { .. } => self.indexes += 1,
        }
        self.done.rpcs += u64::from(stored.effort.requests);
        self.copies += stored.copies() as u64;
        self.copies_min = self.copies_min.min(stored.copies());
        self.expires = Some(
            self.expires
                .map_or(stored.expires, |first| first.min(stored.expires)),
        );
    }

    fn report<A>(self, root: Stored<A>) -> StoredFile<A> {
        let records = self.done.chunks + self.indexes;
        StoredFile {
            key: root.key,
            bytes: self.done.bytes,
            chunks: self.done.chunks,
            indexes: self.indexes,
            copies_min: self.copies_min,
            copies_mean: self.copies as f64 / records as f64,
            expires: self.expires.unwrap_or(root.expires),
            rpcs: self.done.rpcs,
            holders_of_root: root.holders,
        }
    }
}
