//! A file that appears under its name when it is complete, or not at all.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use tokio::fs::File;

use super::GetFileError;

/// The longest name of a target in bytes that is repeated in the name of its partial file: file systems allow 255, and
/// a dot, six random letters and `.part` are added.
const MAX_NAME: usize = 200;

/// A partial file beside its target. Dropping it removes it.
#[derive(Debug)]
pub(super) struct PartFile {
    file: File,
    temporary: NamedTempFile,
    target: PathBuf,
}

impl PartFile {
    /// Makes an empty one, as `NAME.XXXXXX.part` in the directory of the target.
    pub(super) async fn create(target: &Path) -> Result<Self, GetFileError> {
        let target = target.to_owned();
        blocking(move || {
            if target.is_dir() {
                return Err(failed(&target, io::ErrorKind::IsADirectory.into()));
            }
            let Some(name) = target.file_name() else {
                return Err(failed(&target, io::ErrorKind::InvalidFilename.into()));
            };
            let mut prefix = match name.len() {
                0..=MAX_NAME => name.to_owned(),
                _ => OsString::from("file"),
            };
            prefix.push(".");
            let directory = directory(&target);
            let made = with_usual_permissions(tempfile::Builder::new().prefix(&prefix).suffix(".part"))
                .tempfile_in(directory)
                .and_then(|temporary| Ok((temporary.as_file().try_clone()?, temporary)));
            let (file, temporary) = made.map_err(|source| failed(directory, source))?;
            Ok(Self {
                file: File::from_std(file),
                temporary,
                target,
            })
        })
        .await
    }

    /// Where to write.
    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Brings it to the disk, then under its name; what was there before is replaced in one step.
    pub(super) async fn finish(self) -> Result<(), GetFileError> {
        let Self {
            file,
            temporary,
            target,
        } = self;
        // Waits for writes that are still under way.
        file.sync_all().await.map_err(GetFileError::Write)?;
        blocking(move || {
            temporary
                .persist(&target)
                .map_err(|error| failed(&target, error.error))?;
            sync_directory(directory(&target)).map_err(|source| failed(&target, source))
        })
        .await
    }
}

fn failed(path: &Path, source: io::Error) -> GetFileError {
    GetFileError::Target {
        path: path.to_owned(),
        source,
    }
}

fn directory(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, GetFileError> + Send + 'static,
) -> Result<T, GetFileError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => Err(GetFileError::Write(io::Error::other(stopped))),
    }
}

/// Those of any new file, the umask taken away; temporary files would be their owner's only.
#[cfg(unix)]
fn with_usual_permissions<'a, 'b, 'c>(
    builder: &'c mut tempfile::Builder<'a, 'b>,
) -> &'c mut tempfile::Builder<'a, 'b> {
    use std::os::unix::fs::PermissionsExt;
    builder.permissions(std::fs::Permissions::from_mode(0o666))
}

#[cfg(not(unix))]
fn with_usual_permissions<'a, 'b, 'c>(
    builder: &'c mut tempfile::Builder<'a, 'b>,
) -> &'c mut tempfile::Builder<'a, 'b> {
    builder
}

/// The new name is on the disk when its directory is.
#[cfg(unix)]
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

#[cfg(not(unix))]
pub(crate) fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::io::AsyncWriteExt;

    use super::*;

    fn names(directory: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_finished_file_replaces_what_was_there_and_leaves_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("film");
        fs::write(&target, "old").unwrap();
        let mut part = PartFile::create(&target).await.unwrap();
        part.file().write_all(b"new").await.unwrap();
        let while_writing = names(directory.path());
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(while_writing.len(), 2);
        let partial = while_writing[1].to_str().unwrap();
        assert!(
            partial.starts_with("film.") && partial.ends_with(".part"),
            "{partial}"
        );
        part.finish().await.unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["film"]);
    }

    #[tokio::test]
    async fn a_dropped_one_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut part = PartFile::create(&directory.path().join("film")).await.unwrap();
        part.file().write_all(b"half").await.unwrap();
        drop(part);
        assert!(names(directory.path()).is_empty());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_new_file_has_the_permissions_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("film");
        let part = PartFile::create(&target).await.unwrap();
        part.finish().await.unwrap();
        fs::write(directory.path().join("other"), "").unwrap();
        let mode = |name| {
            let path = directory.path().join(name);
            fs::metadata(path).unwrap().permissions().mode()
        };
        assert_eq!(mode("film"), mode("other"));
    }

    #[tokio::test]
    async fn targets_that_cannot_be_are_refused_by_name_before_anything_is_fetched() {
        let directory = tempfile::tempdir().unwrap();
        let refused = [
            directory.path().to_owned(),
            directory.path().join("missing/film"),
            PathBuf::from("/"),
            PathBuf::new(),
        ];
        for target in refused {
            let error = PartFile::create(&target).await.unwrap_err();
            assert!(matches!(error, GetFileError::Target { .. }), "{error}");
        }
        let long = directory.path().join("n".repeat(250));
        PartFile::create(&long).await.unwrap().finish().await.unwrap();
        assert_eq!(names(directory.path()), ["n".repeat(250).as_str()]);
    }
}
