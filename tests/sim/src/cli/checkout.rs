//! Where the files of the project are that the command reads and writes.

use std::env;
use std::path::{Path, PathBuf};

/// A file of the project, by its path from the root: of the checkout that this command is run in, or else of the one
/// that it was built from.
pub(crate) fn file(path: &str) -> PathBuf {
    root().join(path)
}

fn root() -> PathBuf {
    let here = env::current_dir().unwrap_or_default();
    let is_root = |folder: &&Path| folder.join("tests/sim/Cargo.toml").is_file();
    let found = here.ancestors().find(is_root).map(Path::to_owned);
    found.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
}
