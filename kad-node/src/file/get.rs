//! Fetching a file and checking it while it is written.

use std::path::Path;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::OptionFuture;
use futures::stream::FuturesOrdered;
use kad_core::record::Content;
use kad_core::{Key, UnixTime};
use kad_net::WireAddress;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::chunks::{Chunks, get_patiently};
use super::part::PartFile;
use super::tree::{Place, Shape, Step, Walker};
use super::{FetchOptions, FetchedFile, GetFileError, Plan, Progress};
use crate::{Node, Value};

impl<A: WireAddress> Node<A> {
    /// Fetches the file with this key, or any immutable value, and writes it to `sink` in order.
    ///
    /// Only checked bytes are written. A slow sink slows the fetching down. `progress` is called after each chunk and must not
    /// block. At the end the sink is flushed, not shut down.
    ///
    /// # Errors
    /// [`GetFileError`]; for a chunk it says which one. What was written until then is the right beginning of the file.
    ///
    /// # Cancel safety
    /// Dropping the future cancels what is in flight; the sink may have got a part of a chunk.
    pub async fn get_file(
        &self,
        key: Key,
        sink: impl AsyncWrite + Unpin + Send,
        options: FetchOptions,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<FetchedFile, GetFileError> {
        let plan = Plan::new(self.rules().max_value, options.parallel);
        fetch(self, plan, options.max_bytes, key, sink, progress).await
    }

    /// Fetches the file with this key into a file on disk, which appears under its name when it is complete and on the disk.
    /// What was there before is replaced then, in one step.
    ///
    /// # Errors
    /// As for [`get_file`](Self::get_file), and [`GetFileError::Target`], before anything is fetched if that can be. In any
    /// case nothing is left behind, and what was under the name is still there.
    ///
    /// # Cancel safety
    /// Dropping the future removes what was written, unless the file was complete and is being put in place.
    pub async fn get_file_to(
        &self,
        key: Key,
        path: impl AsRef<Path> + Send,
        options: FetchOptions,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<FetchedFile, GetFileError> {
        let plan = Plan::new(self.rules().max_value, options.parallel);
        fetch_to(self, plan, options.max_bytes, key, path.as_ref(), progress).await
    }
}

pub(super) async fn fetch_to<C: Chunks>(
    chunks: &C,
    plan: Plan,
    max_bytes: u64,
    key: Key,
    path: &Path,
    progress: impl FnMut(Progress) + Send,
) -> Result<FetchedFile, GetFileError> {
    let mut part = PartFile::create(path).await?;
    let fetched = fetch(chunks, plan, max_bytes, key, part.file(), progress).await?;
    part.finish().await?;
    Ok(fetched)
}

pub(super) async fn fetch<C: Chunks>(
    chunks: &C,
    plan: Plan,
    max_bytes: u64,
    key: Key,
    sink: impl AsyncWrite + Unpin + Send,
    progress: impl FnMut(Progress) + Send,
) -> Result<FetchedFile, GetFileError> {
    let root = get_patiently(chunks, key, false, plan.first_pause)
        .await
        .map_err(|source| GetFileError::Lookup {
            offset: 0,
            key,
            source,
        })?
        .ok_or(GetFileError::NotFound { key })?;
    let mut writer = Writer {
        sink,
        progress,
        done: Progress::default(),
        indexes: 0,
        expires: root.expires,
    };
    writer.count(&root);
    match root.content {
        Content::Plain => {
            writer.begin(root.bytes.len() as u64, max_bytes)?;
            writer.write(&root.bytes).await?;
        }
        Content::FileIndex => {
            let shape = plan.shape.ok_or(GetFileError::TinyValues)?;
            let walker =
                Walker::new(&root.bytes, shape).map_err(|source| GetFileError::BadIndex { key, source })?;
            drop(root);
            writer.indexes = 1;
            writer.begin(walker.total(), max_bytes)?;
            walk(chunks, plan, shape, walker, &mut writer).await?;
        }
    }
    writer.sink.flush().await.map_err(GetFileError::Write)?;
    Ok(writer.report())
}

/// Fetches ahead of the writer, so far that with an index under way at most `plan.parallel` values are held or asked for.
async fn walk<C: Chunks>(
    chunks: &C,
    plan: Plan,
    shape: Shape,
    mut walker: Walker,
    writer: &mut Writer<impl AsyncWrite + Unpin + Send, impl FnMut(Progress) + Send>,
) -> Result<(), GetFileError> {
    let mut ahead = FuturesOrdered::new();
    let mut index = std::pin::pin!(OptionFuture::from(None));
    let mut opening: Option<Place> = None;
    let mut at_end = false;
    loop {
        while !at_end && opening.is_none() && ahead.len() < plan.parallel {
            match walker.step() {
                Step::Chunk(place) => ahead.push_back(get_chunk(chunks, plan, shape, place)),
                Step::Index(place) => {
                    index.set(Some(get_index(chunks, plan, place)).into());
                    opening = Some(place);
                }
                Step::Done => at_end = true,
            }
        }
        tokio::select! {
            Some(value) = index.as_mut(), if opening.is_some() => {
                let value = value?;
                writer.count(&value);
                writer.indexes += 1;
                if let Some(Place { key, .. }) = opening.take() {
                    let opened = walker.open(&value.bytes);
                    opened.map_err(|source| GetFileError::BadIndex { key, source })?;
                }
                index.set(None.into());
            }
            Some(value) = ahead.next(), if !ahead.is_empty() => {
                let value = value?;
                writer.count(&value);
                writer.write(&value.bytes).await?;
            }
            else => return Ok(()),
        }
    }
}

async fn get_chunk<C: Chunks>(
    chunks: &C,
    plan: Plan,
    shape: Shape,
    place: Place,
) -> Result<Value, GetFileError> {
    let Place {
        key, offset, length, ..
    } = place;
    let index = offset / shape.chunk();
    let found = get_patiently(chunks, key, true, plan.first_pause).await;
    let value = found
        .map_err(|source| GetFileError::Lookup { offset, key, source })?
        .ok_or(GetFileError::MissingChunk { index, offset, key })?;
    let wrong = match value.content {
        Content::Plain if value.bytes.len() as u64 == length => return Ok(value),
        Content::Plain => format!("{} bytes", value.bytes.len()),
        Content::FileIndex => "an index".to_owned(),
    };
    Err(GetFileError::WrongChunk {
        index,
        offset,
        key,
        expected: length,
        found: wrong,
    })
}

async fn get_index<C: Chunks>(chunks: &C, plan: Plan, place: Place) -> Result<Value, GetFileError> {
    let Place {
        key, offset, level, ..
    } = place;
    let found = get_patiently(chunks, key, true, plan.first_pause).await;
    let value = found
        .map_err(|source| GetFileError::Lookup { offset, key, source })?
        .ok_or(GetFileError::MissingIndex { level, offset, key })?;
    match value.content {
        Content::FileIndex => Ok(value),
        Content::Plain => Err(GetFileError::NoIndex { level, offset, key }),
    }
}

/// The end of the line, and its books.
struct Writer<W, P> {
    sink: W,
    progress: P,
    done: Progress,
    indexes: u64,
    expires: UnixTime,
}

impl<W: AsyncWrite + Unpin, P: FnMut(Progress)> Writer<W, P> {
    fn begin(&mut self, total: u64, limit: u64) -> Result<(), GetFileError> {
        if total > limit {
            return Err(GetFileError::TooLarge { bytes: total, limit });
        }
        self.done.total = Some(total);
        Ok(())
    }

    fn count(&mut self, value: &Value) {
        self.done.rpcs += u64::from(value.effort.requests);
        self.expires = self.expires.min(value.expires);
    }

    async fn write(&mut self, chunk: &Bytes) -> Result<(), GetFileError> {
        self.sink.write_all(chunk).await.map_err(GetFileError::Write)?;
        self.done.chunks += 1;
        self.done.bytes += chunk.len() as u64;
        (self.progress)(self.done);
        Ok(())
    }

    fn report(&self) -> FetchedFile {
        FetchedFile {
            bytes: self.done.bytes,
            chunks: self.done.chunks,
            indexes: self.indexes,
            expires: self.expires,
            rpcs: self.done.rpcs,
        }
    }
}
