//! Files that appear whole or not at all.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Tries whether a file could be written, and leaves nothing behind.
///
/// # Errors
/// Why it cannot.
pub(crate) fn probe(path: &Path) -> io::Result<()> {
    let path = real(path)?;
    beside(&path).map(drop)
}

/// Writes a file, or replaces it in one step: whoever reads it meanwhile sees the old one or the new one.
///
/// # Errors
/// The file is then as it was.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = real(path)?;
    let mut file = beside(&path)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}

/// The file itself rather than a link to it, if it is there; devices and folders are refused, which a rename would
/// destroy or fail at.
fn real(path: &Path) -> io::Result<PathBuf> {
    let Ok(found) = fs::metadata(path) else {
        return Ok(path.to_owned());
    };
    if !found.is_file() {
        return Err(io::Error::other("there is something that is no regular file"));
    }
    fs::canonicalize(path)
}

/// A file without a place in the same folder, which is gone when it is dropped.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    if path.file_name().is_none() {
        return Err(io::Error::other("it has no name"));
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // Readable as any new file is; the process's mask has the last word.
    let permissions = Permissions::from_mode(0o666);
    tempfile::Builder::new()
        .prefix(".kad-sim-")
        .permissions(permissions)
        .tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_leaves_nothing_behind_and_a_write_only_the_file() {
        let folder = tempfile::tempdir().expect("a folder for files");
        let file = folder.path().join("plot.svg");
        let names = || {
            let names = fs::read_dir(folder.path()).expect("it can be listed");
            names
                .map(|entry| entry.expect("an entry").file_name())
                .collect::<Vec<_>>()
        };
        probe(&file).expect("it can be written");
        assert!(names().is_empty());
        write(&file, b"one").expect("it can be written");
        write(&file, b"two").expect("it can be replaced");
        assert_eq!(fs::read(&file).expect("it is there"), b"two");
        assert_eq!(names(), ["plot.svg"]);
    }

    #[test]
    fn what_is_no_file_is_neither_written_nor_harmed() {
        let folder = tempfile::tempdir().expect("a folder for files");
        for path in [folder.path(), &folder.path().join("no/plot.svg"), Path::new("")] {
            assert!(probe(path).is_err(), "{}", path.display());
            assert!(write(path, b"x").is_err(), "{}", path.display());
        }
        assert!(probe(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn links_are_followed() {
        let folder = tempfile::tempdir().expect("a folder for files");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, b"old").expect("it can be written");
        std::os::unix::fs::symlink(&file, &link).expect("links can be made");
        write(&link, b"new").expect("it can be replaced");
        assert_eq!(fs::read(&file).expect("it is there"), b"new");
        assert!(link.is_symlink());
    }
}
