//! The example keeps what it promises.

// Its `main` and its open function are used, but nothing else of an example is public to us.
#[path = "../examples/directory.rs"]
#[expect(unreachable_pub, reason = "an example is a program of its own")]
mod directory;

use kad_store::{Limits, StoreError};

#[test]
fn the_folder_of_files_passes_the_suite() {
    directory::main().unwrap();
}

#[test]
fn the_folder_of_files_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let first = directory::DirectoryStore::open(folder.path(), Limits::default()).unwrap();
    let second = directory::DirectoryStore::open(folder.path(), Limits::default());
    assert!(matches!(second, Err(StoreError::Locked { .. })));
    drop(first);
    directory::DirectoryStore::open(folder.path(), Limits::default()).unwrap();
}
