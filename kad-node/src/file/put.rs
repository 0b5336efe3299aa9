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
use super::seal::Seal;
use super::tree::{BuildError, Format, Node as IndexNode, Root, Shape, TreeBuilder};
use super::{FileOptions, Plan, Progress, PutFileError, Secret, StoredFile};
use crate::{Node, PutOptions, Stored};

impl<A: WireAddress> Node<A> {
    /// Stores what `reader` gives until its end, as one file. The length need not be known: a pipe will do.
    ///
    /// Each chunk must be acknowledged by [`PutOptions::quorum`] holders, and is tried [`ATTEMPTS`](super::ATTEMPTS)
    /// times. The root is stored last, so a key that is returned is the key of a whole file. `progress` is called after
    /// each chunk and must not block.
    ///
    /// The same content gives the same key again, unless it is sealed: then each call draws a secret of its own.
    ///
    /// # Errors
    /// [`PutFileError`]; for a chunk it says which one. Chunks that were stored stay until they expire.
    ///
    /// # Cancel safety
    /// Dropping the future cancels what is in flight. Chunks that were stored stay, without a root. What was read is
    /// lost.
    pub async fn put_file(
        &self,
        reader: impl AsyncRead + Unpin + Send,
        options: FileOptions,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<StoredFile<A>, PutFileError> {
        let plan = Plan::new(self.rules().max_value, options.parallel);
        let secret = match options.encrypt {
            true => Some(Secret::generate().map_err(PutFileError::Entropy)?),
            false => None,
        };
        store(self, plan, options, secret, reader, progress).await
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
    /// A chunk that carries so many bytes of the content, from an offset.
    Chunk {
        index: u64,
        offset: u64,
        content: u64,
    },
    Parity {
        stripe: u64,
        index: u64,
    },
    Index {
        level: u8,
    },
}

/// What has been stored so far.
#[derive(Debug)]
struct Tally {
    done: Progress,
    parity: u64,
    indexes: u64,
    copies: u64,
    copies_min: usize,
    expires: Option<UnixTime>,
}

/// Cuts what is read, and knows what to store next.
#[derive(Debug)]
struct Cutter {
    shape: Shape,
    seal: Option<Seal>,
    builder: TreeBuilder,
    /// The chunk that is being read.
    buffer: BytesMut,
    /// Bytes of the content in chunks.
    offset: u64,
    chunks: u64,
    /// The chunks of the stripe that is being filled; it ends when the next chunk comes, or the end of the file.
    stripe: Vec<(Key, Bytes)>,
    stripes: u64,
    /// At most a chunk, the parity of a stripe and one index of each level.
    waiting: VecDeque<Job>,
}

pub(super) async fn store<C: Chunks>(
    chunks: &C,
    plan: Plan,
    options: FileOptions,
    secret: Option<Secret>,
    mut reader: impl AsyncRead + Unpin + Send,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<StoredFile<C::Address>, PutFileError> {
    let FileOptions {
        put: options, code, ..
    } = options;
    let seal = secret.as_ref().map(Secret::commitment);
    let shape = plan.room.shape(Format { code, seal });
    let shape = shape.ok_or(PutFileError::TinyValues { code })?;
    let mut cutter = Cutter::new(shape, secret.as_ref().map(Seal::new));
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
                tally.count(done, &stored);
                progress(tally.done);
                last = Some(stored);
            }
            read = reader.read_buf(&mut room), if may_read => {
                match read.map_err(PutFileError::Read)? {
                    0 => {
                        at_end = true;
                        cutter.end().await?;
                    }
                    _ if cutter.missing() == 0 => cutter.cut(false).await?,
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
        tally.count(done, &stored);
        progress(tally.done);
        last = Some(stored);
    }
    // Something was stored: an empty file has one empty chunk.
    let root = last.ok_or(PutFileError::TooLarge)?;
    Ok(tally.report(root, secret))
}

/// The bytes are free as soon as they are stored.
async fn store_one<C: Chunks>(
    chunks: &C,
    plan: Plan,
    options: PutOptions,
    job: Job,
) -> Result<(Part, Stored<C::Address>), PutFileError> {
    let content = match job.part {
        Part::Chunk { .. } | Part::Parity { .. } => Content::Plain,
        Part::Index { .. } => Content::FileIndex,
    };
    match put_patiently(chunks, content, &job.bytes, options, plan.first_pause).await {
        Ok(stored) => Ok((job.part, stored)),
        Err(source) => Err(match job.part {
            Part::Chunk { index, offset, .. } => PutFileError::Chunk {
                index,
                offset,
                key: job.key,
                source,
            },
            Part::Parity { stripe, index } => PutFileError::Parity {
                stripe,
                index,
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
    fn new(shape: Shape, seal: Option<Seal>) -> Self {
        Self {
            shape,
            seal,
            builder: TreeBuilder::new(shape),
            buffer: BytesMut::with_capacity(shape.chunk() as usize),
            offset: 0,
            chunks: 0,
            stripe: Vec::new(),
            stripes: 0,
            waiting: VecDeque::new(),
        }
    }

    /// How many bytes the chunk that is being read may still have.
    fn missing(&self) -> usize {
        self.shape.payload() as usize - self.buffer.len()
    }

    /// Ends the chunk that is being read, sealed as the last one or not.
    async fn cut(&mut self, last: bool) -> Result<(), PutFileError> {
        if self.stripe.len() as u64 == self.shape.data() {
            self.end_stripe().await?;
        }
        let empty = BytesMut::with_capacity(self.shape.chunk() as usize);
        let mut bytes = std::mem::replace(&mut self.buffer, empty);
        let content = bytes.len() as u64;
        if let Some(seal) = &self.seal {
            seal.seal(self.chunks, last, self.shape.payload() as usize, &mut bytes);
        }
        let bytes = bytes.freeze();
        let key = immutable_key(Content::Plain, &bytes);
        self.stripe.push((key, bytes.clone()));
        let part = Part::Chunk {
            index: self.chunks,
            offset: self.offset,
            content,
        };
        self.chunks += 1;
        self.offset += content;
        self.waiting.push_back(Job { part, key, bytes });
        Ok(())
    }

    /// Ends the stripe that is being filled: adds its parity, if it is to have some, and puts it into the tree.
    async fn end_stripe(&mut self) -> Result<(), PutFileError> {
        let stripe = std::mem::take(&mut self.stripe);
        let data: Vec<(Key, u64)> = stripe
            .iter()
            .map(|(key, bytes)| (*key, bytes.len() as u64))
            .collect();
        let mut parity = Vec::new();
        if let Some(code) = self.shape.format().code {
            let chunks: Vec<Bytes> = stripe.into_iter().map(|(_, bytes)| bytes).collect();
            // Some milliseconds of work, during which a thread of the runtime would answer nobody.
            let made = tokio::task::spawn_blocking(move || code.encode(&chunks)).await;
            for (bytes, index) in made
                .map_err(|stopped| PutFileError::Read(stopped.into()))?
                .into_iter()
                .zip(0..)
            {
                let key = immutable_key(Content::Plain, &bytes);
                let part = Part::Parity {
                    stripe: self.stripes,
                    index,
                };
                parity.push(key);
                self.waiting.push_back(Job { part, key, bytes });
            }
        }
        self.stripes += 1;
        self.enter(&data, &parity)
    }

    /// Puts a stripe into the tree.
    fn enter(&mut self, data: &[(Key, u64)], parity: &[Key]) -> Result<(), PutFileError> {
        match self.builder.push(data, parity) {
            Ok(complete) => {
                self.waiting.extend(complete.into_iter().map(Job::index));
                Ok(())
            }
            Err(BuildError::Full | BuildError::Length) => Err(PutFileError::TooLarge),
        }
    }

    /// Ends the file.
    async fn end(&mut self) -> Result<(), PutFileError> {
        // The last chunk of a sealed file is never full: it carries the mark of the end.
        let sealed = self.seal.is_some();
        if sealed || self.chunks == 0 || !self.buffer.is_empty() {
            self.cut(sealed).await?;
        }
        match self.stripe.as_slice() {
            // It is as safe as an index above it would be, which it does not need.
            [(key, bytes)] if self.chunks == 1 && !sealed => {
                let data = [(*key, bytes.len() as u64)];
                self.enter(&data, &[])
            }
            _ => self.end_stripe().await,
        }
    }
}

impl Tally {
    fn new() -> Self {
        Self {
            done: Progress::default(),
            parity: 0,
            indexes: 0,
            copies: 0,
            copies_min: usize::MAX,
            expires: None,
        }
    }

    fn count<A>(&mut self, done: Part, stored: &Stored<A>) {
        match done {
            Part::Chunk { content, .. } => {
                self.done.chunks += 1;
                self.done.bytes += content;
            }
            Part::Parity { .. } => self.parity += 1,
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

    fn report<A>(self, root: Stored<A>, secret: Option<Secret>) -> StoredFile<A> {
        let records = self.done.chunks + self.parity + self.indexes;
        StoredFile {
            key: root.key,
            bytes: self.done.bytes,
            secret,
            chunks: self.done.chunks,
            parity: self.parity,
            indexes: self.indexes,
            copies_min: self.copies_min,
            copies_mean: self.copies as f64 / records as f64,
            expires: self.expires.unwrap_or(root.expires),
            rpcs: self.done.rpcs,
            holders_of_root: root.holders,
        }
    }
}
