//! Fetching a file and checking it while it is written.

use std::future::Future;
use std::path::Path;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::OptionFuture;
use futures::stream::FuturesOrdered;
use kad_core::Key;
use kad_core::record::Content;
use kad_net::WireAddress;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::chunks::{Chunks, get_patiently};
use super::part::PartFile;
use super::seal::Seal;
use super::stripe::{Books, Care, Fetcher, Whole};
use super::tree::{Format, IndexError, Place, Shape, Step, Walker};
use super::{FetchOptions, FetchedFile, GetFileError, Plan, Progress, Reference};
use crate::{Node, Value};

impl<A: WireAddress> Node<A> {
    /// Fetches the file with this key, or any immutable value, and writes it to `sink` in order. A sealed file is
    /// opened with the secret of its [`Reference`].
    ///
    /// Only checked bytes are written. A slow sink slows the fetching down. `progress` is called after each chunk and
    /// must not block. At the end the sink is flushed, not shut down.
    ///
    /// # Errors
    /// [`GetFileError`]; for a chunk it says which one. What was written until then is the right beginning of the file.
    ///
    /// # Cancel safety
    /// Dropping the future cancels what is in flight; the sink may have got a part of a chunk.
    pub async fn get_file(
        &self,
        file: impl Into<Reference> + Send,
        sink: impl AsyncWrite + Unpin + Send,
        options: FetchOptions,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<FetchedFile, GetFileError> {
        let plan = Plan::new(self.rules().max_value, options.parallel);
        fetch(self, plan, options, &file.into(), sink, progress).await
    }

    /// Fetches the file with this key or [`Reference`] into a file on disk, which appears under its name when it is
    /// complete and on the disk. What was there before is replaced then, in one step.
    ///
    /// # Errors
    /// As for [`get_file`](Self::get_file), and [`GetFileError::Target`], before anything is fetched if that can be. In
    /// any case nothing is left behind, and what was under the name is still there.
    ///
    /// # Cancel safety
    /// Dropping the future removes what was written, unless the file was complete and is being put in place.
    pub async fn get_file_to(
        &self,
        file: impl Into<Reference> + Send,
        path: impl AsRef<Path> + Send,
        options: FetchOptions,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<FetchedFile, GetFileError> {
        let plan = Plan::new(self.rules().max_value, options.parallel);
        fetch_to(self, plan, options, &file.into(), path.as_ref(), progress).await
    }
}

pub(super) async fn fetch_to<C: Chunks>(
    chunks: &C,
    plan: Plan,
    options: FetchOptions,
    file: &Reference,
    path: &Path,
    progress: impl FnMut(Progress) + Send,
) -> Result<FetchedFile, GetFileError> {
    let mut part = PartFile::create(path).await?;
    let fetched = fetch(chunks, plan, options, file, part.file(), progress).await?;
    part.finish().await?;
    Ok(fetched)
}

pub(super) async fn fetch<C: Chunks>(
    chunks: &C,
    plan: Plan,
    options: FetchOptions,
    file: &Reference,
    sink: impl AsyncWrite + Unpin + Send,
    progress: impl FnMut(Progress) + Send,
) -> Result<FetchedFile, GetFileError> {
    let key = file.key;
    let (root, walker) = root(chunks, plan, key).await?;
    let mut books = Books::new();
    books.count(&root);
    let format = walker
        .as_ref()
        .map_or_else(Format::default, |walker| walker.shape().format());
    let mut writer = Writer {
        seal: seal(format, file)?,
        limit: options.max_bytes,
        sink,
        progress,
        done: Progress::default(),
        last: 0,
        payload: 0,
        indexes: 0,
        books,
    };
    match walker {
        None => {
            writer.begin(root.bytes.len() as u64, None)?;
            writer.write(key, &root.bytes).await?;
            if let Some(shape) = plan.room.shape(format) {
                let fetcher = Fetcher::new(chunks, plan, shape, options.repair.map(Care::Repair));
                let repaired = &mut writer.books.repair;
                fetcher
                    .mend(repaired, root.content, &root.bytes, root.expires)
                    .await;
            }
        }
        Some(walker) => {
            let shape = walker.shape();
            writer.indexes = 1;
            writer.begin(walker.total(), Some(shape))?;
            let fetcher = Fetcher::new(chunks, plan, shape, options.repair.map(Care::Repair));
            let repaired = &mut writer.books.repair;
            fetcher
                .mend(repaired, root.content, &root.bytes, root.expires)
                .await;
            drop(root);
            walk(&fetcher, plan, walker, &mut writer).await?;
        }
    }
    writer.sink.flush().await.map_err(GetFileError::Write)?;
    Ok(writer.report())
}

/// What lies under the key of a file, and a walk below it if it is the root of a tree.
pub(super) async fn root<C: Chunks>(
    chunks: &C,
    plan: Plan,
    key: Key,
) -> Result<(Value, Option<Walker>), GetFileError> {
    let root = get_patiently(chunks, key, false, plan.first_pause)
        .await
        .map_err(|source| GetFileError::Lookup {
            offset: 0,
            key,
            source,
        })?
        .ok_or(GetFileError::NotFound { key })?;
    let walker = match root.content {
        Content::Plain => None,
        Content::FileIndex => {
            let walker = Walker::new(&root.bytes, plan.room);
            Some(walker.map_err(|source| match source {
                IndexError::NoRoom => GetFileError::TinyValues,
                source => GetFileError::BadIndex { key, source },
            })?)
        }
    };
    Ok((root, walker))
}

/// What opens the chunks of a file, if they are sealed. Whether a secret belongs to the file is known before anything
/// else is fetched.
fn seal(format: Format, file: &Reference) -> Result<Option<Seal>, GetFileError> {
    match (format.seal, &file.secret) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(GetFileError::NotSealed),
        (Some(_), None) => Err(GetFileError::Sealed),
        (Some(commitment), Some(secret)) if secret.commitment() == commitment => Ok(Some(Seal::new(secret))),
        (Some(_), Some(_)) => Err(GetFileError::WrongSecret),
    }
}

/// Takes what a walk finds, in the order of the file.
pub(super) trait Consumer: Send {
    /// An index node was found.
    fn index(&mut self, books: &Books);

    /// A stripe was found or restored.
    fn stripe(&mut self, whole: Whole) -> impl Future<Output = Result<(), GetFileError>> + Send;
}

/// Fetches ahead of the consumer, so far that at most `plan.parallel` chunks are held or asked for, and what the
/// stripes have beyond that in which the first and the last of them lie.
pub(super) async fn walk<C: Chunks>(
    fetcher: &Fetcher<'_, C>,
    plan: Plan,
    mut walker: Walker,
    consumer: &mut impl Consumer,
) -> Result<(), GetFileError> {
    let stripe = walker.shape().data() as usize;
    let mut ahead = FuturesOrdered::new();
    let mut index = std::pin::pin!(OptionFuture::from(None));
    let mut opening: Option<Place> = None;
    let mut at_end = false;
    loop {
        while !at_end && opening.is_none() && (ahead.len() * stripe) < plan.parallel + stripe - 1 {
            match walker.step() {
                Step::Stripe(stripe) => ahead.push_back(fetcher.stripe(stripe)),
                Step::Index(place) => {
                    index.set(Some(fetcher.index(place)).into());
                    opening = Some(place);
                }
                Step::Done => at_end = true,
            }
        }
        tokio::select! {
            Some(found) = index.as_mut(), if opening.is_some() => {
                let (value, books) = found?;
                consumer.index(&books);
                if let Some(Place { key, .. }) = opening.take() {
                    let opened = walker.open(&value.bytes);
                    opened.map_err(|source| GetFileError::BadIndex { key, source })?;
                }
                index.set(None.into());
            }
            Some(whole) = ahead.next(), if !ahead.is_empty() => {
                consumer.stripe(whole?).await?;
            }
            else => return Ok(()),
        }
    }
}

/// The end of the line, and its books.
struct Writer<W, P> {
    seal: Option<Seal>,
    limit: u64,
    sink: W,
    progress: P,
    done: Progress,
    /// The number of the last chunk.
    last: u64,
    /// Bytes of the content in each chunk of a sealed file but the last.
    payload: u64,
    indexes: u64,
    books: Books,
}

impl<W: AsyncWrite + Unpin + Send, P: FnMut(Progress) + Send> Consumer for Writer<W, P> {
    fn index(&mut self, books: &Books) {
        self.books.add(books);
        self.indexes += 1;
    }

    async fn stripe(&mut self, whole: Whole) -> Result<(), GetFileError> {
        self.books.add(&whole.books);
        for (key, chunk) in &whole.chunks {
            self.write(*key, chunk).await?;
        }
        Ok(())
    }
}

impl<W: AsyncWrite + Unpin, P: FnMut(Progress)> Writer<W, P> {
    /// Looks at how long the file is before anything else is fetched.
    fn begin(&mut self, total: u64, shape: Option<Shape>) -> Result<(), GetFileError> {
        let sure = match (&self.seal, shape) {
            (Some(_), Some(shape)) => {
                self.last = (total / shape.chunk()).saturating_sub(1);
                self.payload = shape.payload();
                self.done.total = Some((self.last + 1) * self.payload - 1);
                self.last * self.payload
            }
            _ => {
                self.done.total = Some(total);
                total
            }
        };
        self.allow(sure)
    }

    fn allow(&self, bytes: u64) -> Result<(), GetFileError> {
        match bytes > self.limit {
            true => Err(GetFileError::TooLarge {
                bytes,
                limit: self.limit,
            }),
            false => Ok(()),
        }
    }

    async fn write(&mut self, key: Key, chunk: &Bytes) -> Result<(), GetFileError> {
        match &self.seal {
            None => self.write_content(chunk).await?,
            Some(seal) => {
                let index = self.done.chunks;
                let opened = seal.open(index, index == self.last, chunk);
                let content = opened.ok_or(GetFileError::Forged { index, key })?;
                if index == self.last {
                    let bytes = self.done.bytes + content.len() as u64;
                    self.allow(bytes)?;
                    self.done.total = Some(bytes);
                }
                self.write_content(&content).await?;
            }
        }
        self.done.chunks += 1;
        self.done.rpcs = self.books.rpcs;
        (self.progress)(self.done);
        Ok(())
    }

    async fn write_content(&mut self, content: &[u8]) -> Result<(), GetFileError> {
        self.sink.write_all(content).await.map_err(GetFileError::Write)?;
        self.done.bytes += content.len() as u64;
        Ok(())
    }

    fn report(&self) -> FetchedFile {
        FetchedFile {
            bytes: self.done.bytes,
            chunks: self.done.chunks,
            restored: self.books.restored,
            indexes: self.indexes,
            repair: self.books.repair,
            expires: self.books.expires,
            rpcs: self.books.rpcs,
        }
    }
}
