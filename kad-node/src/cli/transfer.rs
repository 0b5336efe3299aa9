//! The bridge from FILE and `-` to files in the network, with progress for whoever watches.

use kad_net::quic::QuicAddress;
use kad_node::Node;
use kad_node::file::{
    FetchOptions, FetchedFile, FileOptions, GetFileError, PutFileError, Reference, StoredFile,
};

use super::progress::Progress;
use super::reply::Failure;
use super::streams::{Sink, Source};

/// Stores everything that a source gives.
pub(crate) async fn put(
    node: &Node,
    mut source: Source,
    options: FileOptions,
    progress: &Progress,
) -> Result<StoredFile<QuicAddress>, Failure> {
    let stored = node
        .put_file(source.reader(), options, |done| progress.reach(done.bytes, None))
        .await;
    stored.map_err(|error| match error {
        PutFileError::Read(error) => source.failed(&error),
        PutFileError::Chunk { ref source, .. }
        | PutFileError::Parity { ref source, .. }
        | PutFileError::Index { ref source, .. } => Failure::from(source.clone()).about(&error.to_string()),
        other => Failure::usage(other.to_string()),
    })
}

/// Writes what a key names into a sink; every byte is verified before it is written.
pub(crate) async fn get(
    node: &Node,
    file: &Reference,
    options: FetchOptions,
    sink: &mut Sink,
    progress: &Progress,
) -> Result<FetchedFile, Failure> {
    let fetched = node
        .get_file(file, sink.writer(), options, |done| {
            progress.reach(done.bytes, done.total);
        })
        .await;
    fetched.map_err(|error| match error {
        GetFileError::Write(error) => sink.failed(&error),
        other => unfetched(other),
    })
}

/// Why a file was not fetched: by whose fault, in one sentence.
pub(crate) fn unfetched(error: GetFileError) -> Failure {
    match error {
        GetFileError::TinyValues
        | GetFileError::Target { .. }
        | GetFileError::Write(_)
        | GetFileError::Sealed
        | GetFileError::WrongSecret
        | GetFileError::NotSealed => Failure::usage(error.to_string()),
        other => Failure::negative(other.to_string()),
    }
}
